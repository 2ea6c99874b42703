"""The runtime `container`: services as containers of an engine, by its API, found by their labels.

What has no label of ours is nobody's business here, whatever it is called; a name is only what keeps an
instance from being made twice.
"""

import asyncio
import io
import random
import ssl
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from typing_extensions import override

from reconciler.errors import Conflict, PermanentError, RuntimeUnavailable
from reconciler.runtimes import container_sight as sight
from reconciler.runtimes import container_texts as texts
from reconciler.runtimes import images
from reconciler.runtimes.belongings import Belongings
from reconciler.runtimes.definition import PORTS, PORTS_TRIED_MAX, candidates
from reconciler.runtimes.engine import Engine, EngineRefusal, is_too_old
from reconciler.runtimes.exchange import Address, NoAnswer, TooLarge
from reconciler.runtimes.runtime import (
    Identity,
    Observed,
    Runtime,
    ServiceSpec,
    check_names,
    without_hidden,
)

DEFAULT_HOST = "unix:///var/run/docker.sock"
_PREPARE_S = 900.0
_AGAIN_S = 0.05
_TRIES = 40
_LOG_LINES = 200
_LOG_READ_BYTES = 4 * 1024 * 1024
_LOG_END_BYTES = 8192
_TAR_BYTES = 16 * 1024
_PORT_TAKEN = ("port is already allocated", "address already in use")
_NO_NETWORK = "network"
_FOR_GOOD = (
    "unable to find user",
    "executable file not found",
    "no such file or directory",
    "permission denied",
)


class ContainerRuntime(Runtime):
    """Services of one daemon as containers; `owner` marks them, and is that of its control database.

    `tls`: a folder with ca.pem, cert.pem and key.pem, for an engine over TCP. `publish_at`: the address of
    the engine's machine at which ports are published, and reached. `credentials`: a config.json of Docker.
    """

    def __init__(
        self,
        *,
        host: str = DEFAULT_HOST,
        owner: str,
        tls: Path | None = None,
        publish_at: str = "127.0.0.1",
        credentials: Path | None = None,
        prepare_s: float = _PREPARE_S,
    ) -> None:
        self._host = host
        self._owner = owner
        self._tls = tls
        self._publish_at = publish_at
        self._credentials = credentials
        self._prepare_s = prepare_s
        self._made: Engine | None = None
        self._moved: set[tuple[Identity, str]] = set()
        """Instances whose usual ports somebody else has."""

    @property
    @override
    def name(self) -> str:
        return "container"

    @override
    def may_stand_beside(self, spec: ServiceSpec) -> bool:
        return not spec.data and not (texts.is_on_host(spec) and spec.ports)

    @override
    async def why_not(self) -> str | None:
        why = await self._why_not()
        return None if why is None else f"services as containers need an engine, and {why}"

    @override
    async def observe(
        self, environment: str, deployment: str, component: str | None = None
    ) -> tuple[Observed, ...]:
        identity = Identity(environment=environment, deployment=deployment, component=component or "")
        async with self._translated(f"looking at services of '{environment}/{deployment}'"):
            found: dict[tuple[str, str], dict[str, Any]] = {}
            for each in await self._ours().all(identity):
                labels = each["Config"]["Labels"]
                key = (labels.get(texts.COMPONENT, ""), labels.get(texts.INSTANCE, ""))
                # Labels can be copied, names cannot: the one that has both is ours.
                if key not in found or not sight.is_renamed(each):
                    found[key] = each
        return tuple(sight.observed(found[key], self._publish_at) for key in sorted(found))

    @override
    async def prepare(self, spec: ServiceSpec) -> None:
        doing = f"preparing service '{spec.identity}'"
        async with self._translated(doing):
            found = texts.faults_as_container(spec) or await self._ours().faults_there(spec)
            if found:
                raise PermanentError(f"{doing}: {'; '.join(found)}")
            await images.provide(
                self._engine(), spec, credentials=self._credentials, within_s=self._prepare_s
            )

    @override
    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        doing = f"starting service '{spec.identity}'"
        check_names(spec.identity, instance)
        if found := texts.faults_as_container(spec):
            raise PermanentError(f"{doing}: {'; '.join(found)}")
        async with self._translated(doing, spec):
            for _ in range(_TRIES):
                observed = await self._applied(spec, instance)
                if observed is not None:
                    return observed
                await asyncio.sleep(_AGAIN_S)
        raise RuntimeUnavailable(f"{doing}: it is removed, or made anew, whenever it was made")

    @override
    async def remove(self, identity: Identity, instance: str) -> None:
        check_names(identity, instance)
        async with self._translated(f"removing service '{identity}'"):
            for each in await self._ours().all(identity, instance):
                await self._ours().end(each)
            await self._ours().forget_network(identity)

    @override
    async def log_end(self, spec: ServiceSpec, instance: str) -> str:
        async with self._translated(f"reading what service '{spec.identity}' said"):
            found = await self._ours().find(spec.identity, instance)
            if found is None:
                return ""
            try:
                said = await self._engine().read(
                    f"/containers/{found['Id']}/logs",
                    stdout=1, stderr=1, tail=_LOG_LINES, bytes_max=_LOG_READ_BYTES,
                )  # fmt: skip
            except EngineRefusal as refusal:
                if refusal.status == 404:
                    return ""
                raise
        # Hidden before it is cut: half of a secret is not found any more.
        text = without_hidden(spec, _frames(said).decode("utf-8", "replace"))
        return text[-_LOG_END_BYTES:].strip()

    @override
    async def output(self, spec: ServiceSpec, instance: str) -> bytes | None:
        bytes_max = spec.output_bytes_max or 0
        doing = f"reading the output of job '{spec.identity}'"
        async with self._translated(doing):
            found = await self._ours().find(spec.identity, instance)
            if found is None:
                return None
            try:
                archive = await self._engine().read(
                    f"/containers/{found['Id']}/archive",
                    path=texts.JOB_OUTPUT, bytes_max=bytes_max + _TAR_BYTES,
                )  # fmt: skip
            except EngineRefusal as refusal:
                if refusal.status == 404:
                    return None
                raise
            except TooLarge:
                raise PermanentError(
                    f"{doing}: it wrote more than the {bytes_max} bytes that it may"
                ) from None
        content = _only_file(archive)
        if content is None:
            raise PermanentError(f"{doing}: '{texts.JOB_OUTPUT}' is no file")
        if len(content) > bytes_max:
            raise PermanentError(f"{doing}: it wrote more than the {bytes_max} bytes that it may")
        return content

    # ---- below: the engine, as it is

    async def _why_not(self) -> str | None:
        fault = Address(text=self._host).fault()
        if fault is not None:
            return fault
        try:
            version = await self._engine().version()
        except NoAnswer as error:
            hint = "start Docker, or say where it serves in 'runtimes.container.host'"
            if "permission denied" in str(error):
                hint = "give that socket's group to the daemon's user; it has all rights of the engine then"
            return f"none answers at {error}: {hint}"
        except (OSError, ssl.SSLError) as error:
            return f"the keys in '{self._tls}' are of no use: {error}"
        if is_too_old(version):
            return f"that at {self._host} is older than Docker 20.10: {version.get('Version')}"
        if str(version.get("Os", "linux")) != "linux":
            return f"that at {self._host} is for another system than Linux"
        return None

    def _ours(self) -> Belongings:
        return Belongings(self._engine(), self._owner)

    def _engine(self) -> Engine:
        if self._made is None:
            tls = None
            if self._tls is not None:
                tls = ssl.create_default_context(cafile=str(self._tls / "ca.pem"))
                tls.load_cert_chain(str(self._tls / "cert.pem"), str(self._tls / "key.pem"))
            self._made = Engine(Address(text=self._host, tls=tls))
        return self._made

    async def _applied(self, spec: ServiceSpec, instance: str) -> Observed | None:
        """One go at it; None where another look has to be taken."""
        found = await self._ours().find(spec.identity, instance)
        if found is None:
            await self._create(spec, instance)
            return None
        labels, state = found["Config"]["Labels"], found["State"]
        if labels.get(texts.DEFINITION) != spec.definition_hash:
            raise Conflict(
                f"starting service '{spec.identity}': its instance '{instance}' has another definition",
                hint="name another instance, or remove this one first",
            )
        status = state.get("Status")
        if status in {"removing", "dead"}:
            return None
        is_job_again = spec.output_bytes_max is not None and status == "exited"
        if sight.edited(found) or is_job_again:
            # A job starts afresh, without what it wrote when it ran before.
            await self._ours().end(found)
            return None
        if status == "paused":
            await self._engine().post(f"/containers/{found['Id']}/unpause")
        elif status in {"created", "exited"} and not await self._start(spec, found):
            return None
        again = await self._ours().inspected(found["Id"])
        return None if again is None else sight.observed(again, self._publish_at)

    async def _create(self, spec: ServiceSpec, instance: str) -> None:
        image = await images.here(self._engine(), spec)
        if image is None:
            await self.prepare(spec)
            image = await images.here(self._engine(), spec)
        if image is None:
            raise NoAnswer("its image is gone again")
        network = "" if texts.is_on_host(spec) else await self._ours().network(spec.identity)
        for data in spec.data:
            await self._ours().volume(spec.identity, data.name)
        asked = texts.Asked(
            owner=self._owner,
            instance=instance,
            image=image.reference,
            image_id=image.identifier,
            network_id=network,
            publish_at=self._publish_at,
            published=_published(spec, instance, again=(spec.identity, instance) in self._moved),
        )
        name = texts.container_name(self._owner, spec.identity, instance)
        try:
            await self._engine().post("/containers/create", texts.container_of(spec, asked), name=name)
        except EngineRefusal as refusal:
            if refusal.status != 409:
                raise
            await self._ours().check_name(spec.identity, name)

    async def _start(self, spec: ServiceSpec, found: Mapping[str, Any]) -> bool:
        """Start a container that does not run; False where it has to be made anew."""
        engine, identifier = self._engine(), found["Id"]
        try:
            if found["State"].get("Status") == "created":
                await self._finish(spec, identifier)
            await engine.post(f"/containers/{identifier}/start")
        except EngineRefusal as refusal:
            said = refusal.said.lower()
            is_gone = refusal.status in {404, 409} and "no such container" in said
            if is_gone or "marked for removal" in said:
                return False
            if "is ambiguous" in said:
                await self._ours().only_network(spec.identity)
                return False
            # Nothing stays of what never ran.
            if found["State"].get("Status") == "created":
                await self._ours().delete(identifier)
            if any(each in said for each in _PORT_TAKEN) and not texts.is_on_host(spec):
                self._moved.add((spec.identity, found["Config"]["Labels"].get(texts.INSTANCE, "")))
                await self._ours().delete(identifier)
                return False
            if _NO_NETWORK in said and "not found" in said:
                await self._ours().delete(identifier)
                return False
            raise
        return True

    async def _finish(self, spec: ServiceSpec, identifier: str) -> None:
        """What cannot be said when a container is made, and is the same when it is done twice."""
        place = {"Aliases": [spec.identity.component]}
        for name in [] if texts.is_on_host(spec) else spec.networks:
            try:
                await self._engine().post(
                    f"/networks/{name}/connect", {"Container": identifier, "EndpointConfig": place}
                )
            except EngineRefusal as refusal:
                if "already exists" not in refusal.said:
                    raise
        if spec.output_bytes_max is not None:
            await self._engine().put(f"/containers/{identifier}/archive", _job_folder(), path="/")

    @asynccontextmanager
    async def _translated(self, doing: str, spec: ServiceSpec | None = None) -> AsyncIterator[None]:
        try:
            yield
        except (NoAnswer, TooLarge) as error:
            raise RuntimeUnavailable(f"{doing}: the container engine at {error}") from error
        except EngineRefusal as refusal:
            said = refusal.said if spec is None else without_hidden(spec, refusal.said)
            if images.is_disk_full(said):
                raise RuntimeUnavailable(f"{doing}: the disk of the container engine is full") from refusal
            if refusal.status == 400 or any(each in said.lower() for each in _FOR_GOOD):
                raise PermanentError(f"{doing}: its container engine refuses: {said}") from refusal
            hint = "set 'default-address-pools' of the engine" if "address pool" in said else None
            raise RuntimeUnavailable(f"{doing}: its container engine says: {said}", hint=hint) from refusal
        except (OSError, ssl.SSLError) as error:
            raise RuntimeUnavailable(f"{doing}: reading the keys in '{self._tls}': {error}") from error


def _published(spec: ServiceSpec, instance: str, *, again: bool) -> dict[str, int]:
    """Where each of its ports is published: where it was before, or anywhere where that is taken."""
    numbers: dict[str, int] = {}
    for name in texts.inside_ports(spec):
        tried = candidates(spec, instance, name) if not again else random.sample(PORTS, PORTS_TRIED_MAX)
        numbers[name] = next(number for number in tried if number not in numbers.values())
    return numbers


def _frames(said: bytes) -> bytes:
    """The text of a log, of whose frames each has a head of eight bytes."""
    found = bytearray()
    at = 0
    while at + 8 <= len(said):
        size = int.from_bytes(said[at + 4 : at + 8])
        found += said[at + 8 : at + 8 + size]
        at += 8 + size
    return bytes(found)


def _job_folder() -> bytes:
    """An archive with the folder that a job may write its output to, whoever it runs as."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(texts.JOB_FOLDER)
        entry.type = tarfile.DIRTYPE
        entry.mode = 0o777
        tar.addfile(entry)
    return archive.getvalue()


def _only_file(archive: bytes) -> bytes | None:
    with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entry = tar.next()
        content = tar.extractfile(entry) if entry is not None and entry.isreg() else None
        return None if content is None else content.read()
    return None
