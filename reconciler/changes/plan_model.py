"""The value types of a plan file: changes, tags and the whole plan; no parsing and no rules."""

from enum import StrEnum

from reconciler.frozen import frozen


class Flavor(StrEnum):
    """Whose plan file it is, which says how strictly it is read."""

    SQITCH = "sqitch"
    PGPM = "pgpm"


@frozen
class Tag:
    """A tag of a plan; `name` is without the `@`, `id` is Sqitch's."""

    name: str
    id: str
    note: str
    planned_at: str
    planner: str
    line: int


@frozen
class Change:
    """One change of a plan.

    `name` may come again after a tag (a rework); `instance` is unique in the plan: the newest instance is
    `name`, an older one `name@tag` with the first tag at or after it. `id` is Sqitch's. `requires` and
    `conflicts` are as written, the latter without the `!`. `script_names` are the base names its scripts may
    have, best first. `reverts` marks a line with the operator `-`.
    """

    name: str
    instance: str
    id: str
    requires: tuple[str, ...]
    conflicts: tuple[str, ...]
    tags: tuple[Tag, ...]
    note: str
    planned_at: str
    planner: str
    line: int
    script_names: tuple[str, ...]
    reverts: bool = False


@frozen
class PlanFile:
    """A plan file as a value; `lines` are all its lines with their ends, so that nothing of it is lost."""

    file: str
    flavor: Flavor
    project: str
    uri: str | None
    changes: tuple[Change, ...]
    lines: tuple[str, ...]

    @property
    def tags(self) -> tuple[Tag, ...]:
        """All tags in plan order of their changes."""
        return tuple(tag for change in self.changes for tag in change.tags)
