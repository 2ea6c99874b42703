"""Live state: what the snapshot of a deployment found."""

from collections.abc import Mapping
from dataclasses import field

from reconciler.catalog.model import Catalog, DatabaseIdentity
from reconciler.frozen import frozen
from reconciler.state.programs import DesiredServer


@frozen
class LiveDatabase:
    """What is really there for one declared database.

    `catalog` is None where it was not read, because the probe equals that of the base line.
    `available_extensions` are those the server could create; `empty` is true where no user object exists.
    """

    exists: bool = False
    empty: bool = True
    identity: DatabaseIdentity | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    available_extensions: frozenset[str] = frozenset()
    probe: str | None = None
    catalog: Catalog | None = None


@frozen
class LiveRole:
    """What a role of the server is: its attributes by their names in specs, and what it is a member of."""

    superuser: bool = False
    attributes: Mapping[str, bool] = field(default_factory=dict)
    member_of: frozenset[str] = frozenset()
    comment: str | None = None


@frozen
class LiveInstance:
    """One instance of a service as its runtime sees it; `state` is one of its words, such as healthy."""

    instance: str
    state: str
    definition_hash: str = ""
    endpoints: tuple[tuple[str, str, int], ...] = ()
    """(port, host, number)."""
    reason: str = ""
    handle: str = ""
    lasting: bool = False
    """Unhealthy for so long that it will not mend by itself."""


@frozen
class LiveRoute:
    """A route as its proxy has it; `edited`: it is not as we put it there. `to` is host:port."""

    host: str
    path: str
    to: str
    edited: bool = False


@frozen
class LivePrograms:
    """Instances by component, and routes by component.

    `unknown` says of components why nothing is known of them: a runtime or a proxy that does not answer, or
    another machine that they are on. That is not the same as that they are not there.
    """

    instances: Mapping[str, tuple[LiveInstance, ...]] = field(default_factory=dict)
    routes: Mapping[str, LiveRoute] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Runtimes that cannot run anything here, and why."""
    barred: Mapping[str, str] = field(default_factory=dict)
    """Routes that cannot be set, whatever is there, and why: the host and path is another's, say."""


@frozen
class LiveState:
    """Live state of one deployment, by database name.

    `lock_capacity` is how many locks the server's table surely holds; None where it was not read.
    `roles` are those of the server that anything here names.
    """

    server_major: int
    databases: Mapping[str, LiveDatabase]
    available_extensions: frozenset[str] = frozenset()
    lock_capacity: int | None = None
    roles: Mapping[str, LiveRole] = field(default_factory=dict)
    programs: LivePrograms = field(default_factory=LivePrograms)
    servers: Mapping[str, "LiveState | None"] = field(default_factory=dict)
    """Of services that databases live on; None for one that was applied and does not answer."""
    silent: Mapping[str, str] = field(default_factory=dict)
    """Of those that do not answer, why."""

    def server(self, on: DesiredServer | None) -> "LiveState | None":
        """The server that a database lives on; None where nothing is known of it."""
        return self if on is None else self.servers.get(on.service)
