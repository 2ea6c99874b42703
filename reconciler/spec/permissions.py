"""What the specs of a source may use, as the settings allow it; a spec that uses more is broken."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.errors import Problem
from reconciler.settings import AllowSettings, OwnSecrets
from reconciler.spec.components import AnyComponent, DatabaseSpec, ObjectsSpec
from reconciler.spec.environment import DeploymentSpec, EnvironmentSpec
from reconciler.spec.parse import ParsedEnvironment
from reconciler.spec.services import JobSpec, RouteSpec, ServiceSpec
from reconciler.spec.values import SecretReference
from reconciler.spec.variables import for_deployment, substitute, values_for
from reconciler.spec.words import with_article

BUILT = "build"
"""What stands under `images` for all that are built from the source."""
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
    told: dict[str, str] = {}
    for path, message in (
        *_names(spec, allow),
        *_kinds(spec, allow),
        *_in_deployments(spec, allow, own),
    ):
        told.setdefault(path, message)
    problems = tuple(
        Problem(file=environment.file, path=path, message=message, hint=_HINT)
        for path, message in told.items()
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


def _in_deployments(
    spec: EnvironmentSpec, allow: AllowSettings, own: OwnSecrets
) -> Iterator[tuple[str, str]]:
    """What is used is judged as every deployment has it; where variables make no difference, once."""
    for position, place in enumerate(spec.deployments):
        yield from _connections(spec, place, f"spec.deployments[{position}].postgres", allow, own)
    varies = "${" in spec.spec.model_dump_json(by_alias=True, include={"components"})
    for place in spec.deployments if varies else spec.deployments[:1]:
        for number, part in enumerate(for_deployment(spec, place.name).components):
            path = f"spec.components[{number}]"
            for below, reference, what in references(part):
                if not _permitted(reference, allow, own):
                    yield f"{path}.{below}", f"this source may not refer to {what}"
            yield from _uses(part, path, allow)


def _connections(
    spec: EnvironmentSpec, place: DeploymentSpec, path: str, allow: AllowSettings, own: OwnSecrets
) -> Iterator[tuple[str, str]]:
    values = values_for(spec.name, place.name, spec.variables, place.variables)
    given = (("dsn", place.postgres.dsn), ("provisionDsn", place.postgres.provision_dsn))
    for key, reference in given:
        if reference is not None and not _permitted(_put_in(reference, values), allow, own):
            yield f"{path}.{key}", f"this source may not refer to the secret of deployment '{place.name}'"


def _put_in(reference: SecretReference, values: Mapping[str, str]) -> SecretReference:
    """A reference with the variables of a deployment in it."""
    if reference.env is not None:
        return SecretReference(env=substitute(reference.env, values))
    if reference.file is not None:
        return SecretReference(file=substitute(reference.file, values))
    return reference


def references(part: AnyComponent) -> Iterator[tuple[str, SecretReference, str]]:
    """The secrets that a component refers to: where below it, the reference, and what it is."""
    match part:
        case DatabaseSpec():
            for number, role in enumerate(part.roles):
                if role.password is not None:
                    yield f"roles[{number}].password", role.password, f"the password of role '{role.name}'"
            given = (("user", part.on.user), ("password", part.on.password)) if part.on is not None else ()
            for key, value in given:
                if isinstance(value, SecretReference):
                    yield f"on.{key}", value, f"the {key} for the server of database '{part.name}'"
        case ServiceSpec() | JobSpec():
            for name, value in part.env.items():
                if isinstance(value, SecretReference):
                    yield f"env.{name}", value, f"the secret in variable '{name}' of '{part.name}'"
        case _:
            return


def _uses(part: AnyComponent, path: str, allow: AllowSettings) -> Iterator[tuple[str, str]]:
    """What a component uses beside secrets: addresses, runtimes, images, hosts and proxies."""
    match part:
        case ObjectsSpec():
            for number, action in enumerate(part.deferred):
                if action.url is not None and not allow.permits(allow.addresses, action.url):
                    message = f"this source may not call the address of deferred action '{action.name}'"
                    yield f"{path}.deferred[{number}].url", message
        case ServiceSpec() | JobSpec():
            yield from _runtime(part, f"{path}.runtime", allow)
        case RouteSpec():
            if not allow.permits(allow.hosts, part.host):
                yield f"{path}.host", "this source may not have routes for this host"
            # One that is not named is the only one there is, whose name the settings know.
            if part.proxy is not None and not allow.permits(allow.proxies, part.proxy):
                yield f"{path}.proxy", f"this source may not use proxy '{part.proxy}'"
            elif part.proxy is None and "*" not in allow.proxies:
                yield path, "this source may not leave the proxy of a route open"
        case _:
            return


def _runtime(part: ServiceSpec | JobSpec, path: str, allow: AllowSettings) -> Iterator[tuple[str, str]]:
    name = part.runtime.name
    if not allow.permits(allow.runtimes, name):
        yield f"{path}.{name}", f"this source may not run programs as {name}"
    container = part.runtime.container
    if container is None:
        return
    if container.image is not None and not allow.permits(allow.images, container.image):
        yield f"{path}.container.image", "this source may not run this image"
    if container.build is not None and not allow.permits(allow.images, BUILT):
        yield f"{path}.container.build", "this source may not build images"


def _permitted(reference: SecretReference, allow: AllowSettings, own: OwnSecrets) -> bool:
    if reference.age is not None:
        return allow.encrypted
    if reference.env is not None:
        return reference.env not in own.variables and allow.permits(allow.secrets, reference.env)
    file = reference.file or ""
    return file not in own.files and allow.permits(allow.paths, file)
