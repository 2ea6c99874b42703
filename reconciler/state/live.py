"""Live state: what the snapshot of a deployment found."""

from collections.abc import Mapping
from dataclasses import field

from reconciler.catalog.model import Catalog, DatabaseIdentity
from reconciler.frozen import frozen


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
