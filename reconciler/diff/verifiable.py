"""Choose what is verified of a module: which deployed changes, by which scripts; it runs nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.changes.script import Script
from reconciler.diff.deployed import index_of
from reconciler.diff.matching import pair, plain_name
from reconciler.errors import NotFound
from reconciler.state.desired import DesiredModule
from reconciler.state.tracked import TrackedChange, TrackedModule


@dataclass(frozen=True, slots=True, kw_only=True)
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
