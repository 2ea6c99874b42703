"""Images for a container engine: there by digest once this is done, pulled or built from files of a commit.

It starts nothing.
"""

import base64
import binascii
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.errors import PermanentError, RuntimeUnavailable
from reconciler.frozen import frozen
from reconciler.runtimes import container_texts as texts
from reconciler.runtimes.engine import Engine, EngineRefusal
from reconciler.runtimes.exchange import NoAnswer
from reconciler.runtimes.runtime import Build, ServiceSpec

_NOT_THERE = ("not found", "manifest unknown", "does not exist", "no such image", "name unknown")
_NOT_ALLOWED = ("unauthorized", "denied", "no basic auth credentials", "authentication required")
_FULL = "no space left on device"
_PROGRAMS = (b"#!", b"\x7fELF")
_CONFIG_BYTES_MAX = 1024 * 1024
_HUB = "https://index.docker.io/v1/"
_LAST_LINES = 8


@frozen
class Image:
    """An image that is there: `reference` is what cannot move, a digest where its registry gave one."""

    reference: str
    identifier: str


def is_disk_full(said: str) -> bool:
    """Whether that is what the engine complains about."""
    return _FULL in said.lower()


def name_of_build(build: Build) -> str:
    """What an image that is built is called: by all that goes into it."""
    return f"reconciler-build:{build.tag_hash}"


async def here(engine: Engine, spec: ServiceSpec) -> Image | None:
    """The image of a service, where it is there."""
    if spec.build is not None:
        found = await _inspected(engine, name_of_build(spec.build))
        labels = ((found or {}).get("Config") or {}).get("Labels") or {}
        if found is None or labels.get(texts.BUILD) != spec.build.tag_hash:
            return None
        return Image(reference=str(found["Id"]), identifier=str(found["Id"]))
    assert spec.image is not None
    found = await _inspected(engine, spec.image)
    if found is None:
        return None
    name, digest = _parts(spec.image)[0], _parts(spec.image)[2]
    for each in [] if digest else found.get("RepoDigests") or []:
        repository, _, value = str(each).partition("@")
        if name == repository or name.endswith(f"/{repository}"):
            return Image(reference=f"{name}@{value}", identifier=str(found["Id"]))
    reference = spec.image if digest else str(found["Id"])
    return Image(reference=reference, identifier=str(found["Id"]))


async def provide(engine: Engine, spec: ServiceSpec, *, credentials: Path | None, within_s: float) -> None:
    """See to it that the image of a service is there, as new as its registry has it under that tag."""
    if spec.build is not None:
        if await here(engine, spec) is None:
            await _build(engine, spec, spec.build, credentials, within_s)
        return
    assert spec.image is not None
    name, tag, digest = _parts(spec.image)
    found = await here(engine, spec)
    if digest and found is not None:
        return
    registry = _registry(name)
    known = _known(credentials)
    headers = {"x-registry-auth": _encoded(known[registry])} if registry in known else {}
    try:
        await engine.progress(
            "/images/create", headers=headers, within_s=within_s, fromImage=name, tag=digest or tag
        )
    except EngineRefusal as refusal:
        # What is there under this tag is good enough where nobody can say that there is a newer one.
        if found is None or is_disk_full(refusal.said):
            raise _why_not_pulled(spec, refusal.said) from refusal


async def _inspected(engine: Engine, name: str) -> dict[str, Any] | None:
    try:
        found = await engine.get(f"/images/{name}/json")
    except EngineRefusal as refusal:
        if refusal.status == 404:
            return None
        raise
    return found if isinstance(found, dict) and "Id" in found else None


def _parts(image: str) -> tuple[str, str, str]:
    """The name, tag and digest that it says; without a tag it is `latest`."""
    plain, _, digest = image.partition("@")
    head, slash, last = plain.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag or "latest", digest


def _registry(name: str) -> str:
    first, slash, _ = name.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else _HUB


def _known(config: Path | None) -> dict[str, dict[str, str]]:
    """What a `config.json` of Docker knows of registries; helpers that it names are not asked."""
    if config is None:
        return {}
    try:
        with config.open("rb") as file:
            said = json.loads(file.read(_CONFIG_BYTES_MAX))
        found = {}
        for registry, entry in (said.get("auths") or {}).items():
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            found[str(registry)] = {"username": user, "password": password, "serveraddress": str(registry)}
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise PermanentError(f"reading credentials of registries in '{config}': {why}") from error
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise PermanentError(
            f"reading credentials of registries in '{config}': it is no config.json of Docker",
            hint='{"auths": {"registry.example.com": {"auth": "base64 of user:password"}}}',
        ) from None
    return found


def _encoded(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _why_not_pulled(spec: ServiceSpec, said: str) -> PermanentError | RuntimeUnavailable:
    doing = f"pulling the image '{spec.image}' of service '{spec.identity}'"
    lower = said.lower()
    if is_disk_full(said):
        return RuntimeUnavailable(f"{doing}: the disk of the container engine is full")
    if any(each in lower for each in _NOT_ALLOWED):
        return PermanentError(
            f"{doing}: its registry does not give it to us: {said}",
            hint="see its name, and the credentials that the settings give for that registry",
        )
    if any(each in lower for each in _NOT_THERE):
        return PermanentError(f"{doing}: there is no such image: {said}", hint="see its name and its tag")
    return RuntimeUnavailable(f"{doing}: {said}")


def context_of(build: Build) -> bytes:
    """The files of a build as an archive, the same bytes each time; programs can be run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(build.files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o755 if content.startswith(_PROGRAMS) else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


async def _build(
    engine: Engine, spec: ServiceSpec, build: Build, credentials: Path | None, within_s: float
) -> None:
    doing = f"building the image of service '{spec.identity}' by '{build.dockerfile}'"
    if build.dockerfile not in build.files:
        hint = "see the context of its build in the spec; what was built before is there no more"
        raise PermanentError(f"{doing}: there is no such file among those that it is built of", hint=hint)
    known = _known(credentials)
    headers = {"content-type": "application/x-tar"}
    headers |= {"x-registry-config": _encoded(known)} if known else {}
    try:
        await engine.progress(
            "/build", context_of(build), headers=headers, within_s=within_s,
            t=name_of_build(build), dockerfile=build.dockerfile, labels={texts.BUILD: build.tag_hash},
            rm=1, forcerm=1, version=1,
        )  # fmt: skip
    except EngineRefusal as refusal:
        if is_disk_full(refusal.said):
            raise RuntimeUnavailable(f"{doing}: the disk of the container engine is full") from refusal
        last = "\n".join(getattr(refusal, "__notes__", [])[-_LAST_LINES:])
        raise PermanentError(f"{doing}: {refusal.said}" + (f"\n{last}" if last else "")) from refusal
    if await here(engine, spec) is None:
        raise NoAnswer(f"{doing}: its engine says that it is done, and it is not there")
