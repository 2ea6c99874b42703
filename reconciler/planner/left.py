"""Deployments that left the spec: whether a commit has their databases under another name; it reads none."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from reconciler.errors import NotFound, ReconcilerError, Refused, SpecError
from reconciler.frozen import frozen
from reconciler.planner.view import SourceView
from reconciler.postgres.connection import Dsn
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.values import SecretReference
from reconciler.spec.variables import BadVariable, for_deployment, substitute, values_for
from reconciler.state.desired import DesiredState


def sound_spec(view: SourceView, environment: str) -> EnvironmentSpec:
    """The spec of an environment; NotFound where the commit has none, SpecError with all that is wrong."""
    parsed = view.environments.get(environment)
    if parsed is None:
        raise NotFound(f"environment '{environment}' is not declared at commit {view.commit[:12]}")
    if parsed.spec is None or parsed.problems:
        raise SpecError(parsed.problems)
    return parsed.spec


@frozen
class Namesake:
    """A deployment of a commit that has a database of the same name as one that left.

    `dsn` is None where its connection string cannot be had.
    """

    environment: str
    deployment: str
    database: str
    dsn: Dsn | None

    @property
    def claim(self) -> str:
        """What it means where that is the very database."""
        return (
            f"database '{self.database}' is that of deployment '{self.deployment}' of environment "
            f"'{self.environment}' now"
        )


def namesakes(
    at: tuple[SourceView, SourceView | None],
    own: EnvironmentSpec,
    left: DesiredState,
    secret: Callable[[SecretReference], str],
) -> tuple[Namesake, ...]:
    """The deployments of all environments of a commit with a database of the same name, wherever that is.

    `at` is the commit and, where another is followed, that one: what other environments' connections are at
    the first is not resolved unless the second has it too. `own` is the spec that the deployment left, which
    need not be the commit's. Raises Refused where a spec cannot be read: nobody knows whether it has one.
    """
    view, head = at
    # What is on a service of an environment is nobody else's.
    names = {part.database for part in left.databases if part.on is None}
    found: list[Namesake] = []
    for unnamed in view.nameless:
        raise Refused(f"nobody knows what '{unnamed.file}' declares: it is broken")
    for parsed in view.environments.values():
        spec = own if parsed.name == own.name else parsed.spec
        if spec is None:
            raise Refused(f"nobody knows whether environment '{parsed.name}' has its databases: it is broken")
        for deployment, reference, database in _with(spec, names):
            mine = head is None or spec is own
            dsn: Dsn | None = None
            # Without a reference too, nobody knows that it is not the one.
            with suppress(ReconcilerError):
                if reference is not None and (mine or _stands(head, spec.name, deployment, reference)):
                    dsn = Dsn(secret(reference))
            found.append(Namesake(environment=spec.name, deployment=deployment, database=database, dsn=dsn))
    return tuple(found)


def _stands(head: SourceView | None, environment: str, deployment: str, reference: SecretReference) -> bool:
    """Whether a commit connects a deployment by this reference."""
    parsed = head.environments.get(environment) if head is not None else None
    if parsed is None or parsed.spec is None:
        return False
    with suppress(BadVariable, SpecError, NotFound):
        return for_deployment(parsed.spec, deployment).deployments[0].postgres.dsn == reference
    return False


def claiming(found: Iterable[Namesake], server: str) -> Namesake | None:
    """The one that has the very database of a deployment on a server of that name.

    A deployment that was renamed, or went to another environment, leaves nothing behind. One whose connection
    string cannot be had counts: nobody knows that it is not the one.
    """
    return next((each for each in found if each.dsn is None or each.dsn.server == server), None)


def _with(spec: EnvironmentSpec, names: set[str]) -> Iterator[tuple[str, SecretReference | None, str]]:
    """The deployments of a spec that have a database of one of these names, with where they are.

    None where that cannot be told; Refused where it cannot be told how a database is called.
    """
    for place in spec.deployments:
        values = values_for(spec.name, place.name, spec.variables, place.variables)
        for part in spec.databases:
            # Only what has such a name is made in full: there may be thousands.
            try:
                database = substitute(part.database, values)
            except BadVariable as error:
                raise Refused(
                    f"nobody knows whether environment '{spec.name}' has its databases: it is broken"
                ) from error
            if part.on is None and database in names:
                reference: SecretReference | None = None
                with suppress(BadVariable, SpecError):
                    reference = for_deployment(spec, place.name).deployments[0].postgres.dsn
                yield place.name, reference, database
