"""Choose what is verified of a module: which deployed changes, by which scripts; it runs nothing."""

import re
from collections.abc import Sequence

from reconciler.changes.script import Script
from reconciler.diff.deployed import index_of
from reconciler.diff.matching import pair, plain_name
from reconciler.errors import NotFound
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredDatabase, DesiredModule
from reconciler.state.program import Program
from reconciler.state.tracked import TrackedChange, TrackedModule

_LOOKS_AT_NOTHING = frozenset({"SelectStmt", "VariableSetStmt", "VariableShowStmt"})
_LOOKS = re.compile(r"\b(?:from|table)\b|\(|::", re.IGNORECASE)


@frozen
class ToVerify:
    """A deployed change: its script in the commit, if it has one there.

    `stored`: the commit does not know the change, so that the script stored with it is the one.
    """

    change: str
    change_id: str
    script: Script | None
    stored: bool = False


def to_verify(
    module: DesiredModule, tracked: TrackedModule | None, *, first: str | None = None, last: str | None = None
) -> tuple[ToVerify, ...]:
    """Deployed changes in order, from `first` to `last`, both inclusive.

    Of a reworked change the newest deployed instance: it took the place of those before it. Raises NotFound
    where `first` or `last` is not deployed.
    """
    deployed = tracked.changes if tracked is not None else ()
    begin = _index(module, deployed, first, default=0)
    end = _index(module, deployed, last, default=len(deployed) - 1)
    newest = {plain_name(row.name): number for number, row in enumerate(deployed)}
    found = []
    for number, one in enumerate(pair(module, deployed)):
        if begin <= number <= end and newest[plain_name(one.row.name)] == number:
            change = module.changes[one.place] if one.place is not None else None
            found.append(
                ToVerify(
                    change=change.name if change is not None else one.row.name,
                    change_id=one.row.change_id,
                    script=change.verify if change is not None else None,
                    stored=change is None,
                )
            )
    return tuple(found)


def _index(
    module: DesiredModule, deployed: Sequence[TrackedChange], wanted: str | None, *, default: int
) -> int:
    if wanted is None:
        return default
    found = index_of(deployed, module.project, wanted)
    if found is None:
        raise NotFound(
            f"'{wanted}' is not deployed of module '{module.component}'",
            hint="`reconciler module status` shows what is",
        )
    return found


def stored_alone(tracked: TrackedModule) -> tuple[ToVerify, ...]:
    """The same of a module that the commit does not have: all by the scripts stored with them."""
    newest = {plain_name(row.name): row for row in tracked.changes}
    return tuple(
        ToVerify(change=row.name, change_id=row.change_id, script=None, stored=True)
        for row in tracked.changes
        if newest[plain_name(row.name)] is row
    )


def as_declared(tracked: TrackedModule, database: DesiredDatabase, stage: str) -> DesiredModule:
    """A module that the commit does not have as one with no changes: what is deployed of it is stored."""
    return DesiredModule(
        component=tracked.component,
        stage=stage,
        database_component=database.component,
        database=database.database,
        path="",
        project=tracked.project,
        uri=None,
        target=None,
        changes=(),
    )


def can_tell(program: Program) -> bool:
    """Whether a verify script could fail for want of what it looks for: `SELECT 1` never does.

    One that only selects, from nothing and calling nothing, looks at nothing.
    """
    return any(
        statement.node not in _LOOKS_AT_NOTHING
        or (statement.node == "SelectStmt" and _LOOKS.search(statement.text) is not None)
        for statement in program.statements
    )
