"""What the registry of another migration tool records as deployed, as values; it decides nothing."""

from enum import StrEnum

from reconciler.frozen import frozen


class RegistryKind(StrEnum):
    """Whose registry it is."""

    SQITCH = "sqitch"
    PGPM = "pgpm"


@frozen
class RegistryChange:
    """A change as it is recorded there, by its plain name; `deployed_at` is ISO 8601, tags lack the @."""

    project: str
    change_id: str
    name: str
    script_hash: str | None
    deployed_at: str
    tags: tuple[str, ...] = ()


@frozen
class Registry:
    """The registry of one database: its projects, and what is deployed, in the order of deployment."""

    kind: RegistryKind
    schema: str
    projects: tuple[str, ...]
    changes: tuple[RegistryChange, ...]
