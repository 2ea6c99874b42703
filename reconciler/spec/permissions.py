"""What the specs of a source may use, as the settings allow it; a spec that uses more is broken."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from reconciler.errors import Problem
from reconciler.settings import AllowSettings, OwnSecrets
from reconciler.spec.components import DatabaseSpec, ObjectsSpec
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import ParsedEnvironment
from reconciler.spec.values import SecretReference
from reconciler.spec.variables import for_deployment
from reconciler.spec.words import with_article

_HINT = "see `allow` of the source in the settings of the daemon"


def restrict(
    parsed: Iterable[ParsedEnvironment], allow: AllowSettings, own: OwnSecrets
) -> tuple[ParsedEnvironment, ...]:
    """Add a problem to each environment for everything it uses and may not."""
    return tuple(_restricted(environment, allow, own) for environment in parsed)


def _restricted(environment: ParsedEnvironment, allow: AllowSettings, own: OwnSecrets) -> ParsedEnvironment:
    spec = environment.spec
    if spec is None:
        return environment
    problems = tuple(
        Problem(file=environment.file, path=path, message=message, hint=_HINT)
        for path, message in (
            *_names(spec, allow),
            *_kinds(spec, allow),
            *_addresses(spec, allow),
            *_secrets(spec, allow, own),
        )
    )
    return replace(environment, spec=None, problems=problems) if problems else environment


def _names(spec: EnvironmentSpec, allow: AllowSettings) -> Iterator[tuple[str, str]]:
    if not allow.permits(allow.environments, spec.name):
        yield "metadata.name", f"this source may not declare environment '{spec.name}'"


def _kinds(spec: EnvironmentSpec, allow: AllowSettings) -> Iterator[tuple[str, str]]:
    for position, part in enumerate(spec.components):
        if not allow.permits(allow.kinds, part.kind):
            yield (
                f"spec.components[{position}].kind",
                f"this source may not declare {with_article(part.kind)}",
            )


def _secrets(spec: EnvironmentSpec, allow: AllowSettings, own: OwnSecrets) -> Iterator[tuple[str, str]]:
    for position, place in enumerate(spec.deployments):
        reference = for_deployment(spec, place.name).deployments[0].postgres.dsn
        if not _permitted(reference, allow, own):
            message = f"this source may not refer to the secret of deployment '{place.name}'"
            yield f"spec.deployments[{position}].postgres.dsn", message
    yield from _passwords(spec, allow, own)


def _passwords(spec: EnvironmentSpec, allow: AllowSettings, own: OwnSecrets) -> Iterator[tuple[str, str]]:
    """Passwords of roles, in any deployment."""
    if not any(role.password is not None for part in spec.databases for role in part.roles):
        return
    told: set[str] = set()
    for place in spec.deployments:
        components = for_deployment(spec, place.name).components
        for position, part in enumerate(components):
            for number, role in enumerate(part.roles if isinstance(part, DatabaseSpec) else ()):
                path = f"spec.components[{position}].roles[{number}].password"
                if role.password is None or path in told or _permitted(role.password, allow, own):
                    continue
                told.add(path)
                yield path, f"this source may not refer to the password of role '{role.name}'"


def _addresses(spec: EnvironmentSpec, allow: AllowSettings) -> Iterator[tuple[str, str]]:
    """Addresses of deferred actions, in any deployment."""
    if not any(action.url is not None for part in spec.objects for action in part.deferred):
        return
    told: set[str] = set()
    for place in spec.deployments:
        for position, part in enumerate(for_deployment(spec, place.name).components):
            for number, action in enumerate(part.deferred if isinstance(part, ObjectsSpec) else ()):
                path = f"spec.components[{position}].deferred[{number}].url"
                if action.url is None or path in told or allow.permits(allow.addresses, action.url):
                    continue
                told.add(path)
                yield path, f"this source may not call the address of deferred action '{action.name}'"


def _permitted(reference: SecretReference, allow: AllowSettings, own: OwnSecrets) -> bool:
    if reference.age is not None:
        return allow.encrypted
    if reference.env is not None:
        return reference.env not in own.variables and allow.permits(allow.secrets, reference.env)
    file = reference.file or ""
    return file not in own.files and allow.permits(allow.paths, file)
