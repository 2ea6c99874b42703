"""What of another tool's registry is to be recorded as deployed by us; it reads nothing itself."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

from reconciler.diff import modules
from reconciler.diff.matching import pair, plain_name
from reconciler.diff.model import (
    Adopted,
    DatabaseDiff,
    DatabaseNeed,
    DivergencePolicy,
    DivergenceSort,
    ModuleDiff,
)
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.state.registry import Registry, RegistryChange, RegistryKind
from reconciler.state.tracked import TrackedChange, TrackedModule

NAMED_MAX = 20
NOT_WRITABLE = "cannot be written to as it is"
"""What is said of a database from which nothing can be taken over, whatever a registry has."""
_WRITABLE = (
    None,
    DatabaseNeed.ADOPT,
    DatabaseNeed.ADOPT_COPY,
    DatabaseNeed.UPGRADE_TRACKING,
    DatabaseNeed.TAKE_BASE_LINE,
)
_NOT_THERE = (DivergenceSort.MISSING, DivergenceSort.AHEAD)


@frozen
class Sought:
    """What a person asked to take over: whose registry, in which schema where that was said.

    `one`: it was asked of one module, which then has to be there.
    """

    kind: RegistryKind
    schema: str | None
    one: bool


def adopt(
    part: ModuleDiff,
    owner: DatabaseDiff,
    recorded: TrackedModule | None,
    registry: Registry | None,
    sought: Sought,
) -> ModuleDiff:
    """The diff of a module that only records what the registry has deployed, or says why it may not."""
    desired = part.desired
    nothing = ModuleDiff(desired=desired)
    why = _why_not(desired, owner, registry, sought)
    if why is not None:
        return replace(nothing, blocked=(why,))
    if registry is None or desired.project not in registry.projects:
        return nothing
    ours = [change for change in registry.changes if change.project == desired.project]
    there = recorded.changes if recorded is not None else ()
    known_ids = {row.change_id for row in there}
    known_scripts = {(plain_name(row.name), row.script_hash) for row in there if row.script_hash}
    rows = [
        (row, change)
        for row, change in zip(_tracked(desired, ours, registry.kind), ours, strict=True)
        if row.change_id not in known_ids and (plain_name(row.name), row.script_hash) not in known_scripts
    ]
    together = (*there, *(row for row, _change in rows))
    if not rows:
        return nothing
    found = modules.compare(
        desired, TrackedModule(project=desired.project, component=desired.component, changes=together)
    )
    lost = [row for row in found.diverged if row.sort in _NOT_THERE and row.policy is DivergencePolicy.FAIL]
    if lost:
        named = ", ".join(f"{row.identity} ({row.detail})" for row in lost[:NAMED_MAX])
        more = f" and {len(lost) - NAMED_MAX} more" if len(lost) > NAMED_MAX else ""
        refused = f"schema '{registry.schema}' of database '{desired.database}' has more: {named}{more}"
        return replace(nothing, diverged=found.diverged, blocked=(refused,))
    times = {row.change_id: change.deployed_at for row, change in rows}
    taken = [
        (desired.changes[one.place], one.row, one.renamed)
        for one in pair(desired, together)
        if one.place is not None and one.row.change_id in times
    ]
    return replace(
        nothing,
        deploy=tuple(change for change, _row, _renamed in taken),
        adopted={
            change.change_id: Adopted(
                schema=registry.schema,
                recorded_id=row.change_id,
                recorded_name=row.name if renamed else change.name,
                script_hash=row.script_hash or change.script_hash,
                deployed_at=times[row.change_id],
            )
            for change, row, renamed in taken
        },
        diverged=found.diverged,
    )


def _why_not(
    desired: DesiredModule, owner: DatabaseDiff, registry: Registry | None, sought: Sought
) -> str | None:
    if owner.need not in _WRITABLE:
        return f"database '{desired.database}' {NOT_WRITABLE}: {owner.reason}"
    if owner.blocked:
        return owner.blocked[0]
    if registry is None:
        where = f"in schema '{sought.schema}' " if sought.schema is not None else ""
        return f"there is no {sought.kind.value} registry {where}of database '{desired.database}'"
    if sought.one and desired.project not in registry.projects:
        has = ", ".join(f"'{name}'" for name in registry.projects[:NAMED_MAX]) or "none"
        return (
            f"schema '{registry.schema}' of database '{desired.database}' has no project "
            f"'{desired.project}'; it has: {has}"
        )
    return None


def _tracked(
    desired: DesiredModule, changes: Sequence[RegistryChange], kind: RegistryKind
) -> Iterable[TrackedChange]:
    """The rows of a registry as we would have recorded them."""
    if kind is RegistryKind.SQITCH:
        names = _instances(changes)
        return [_from_sqitch(change, names[number], number) for number, change in enumerate(changes)]
    known = {plain_name(change.name): change for change in desired.changes}
    return [_from_pgpm(change, known.get(change.name), number) for number, change in enumerate(changes)]


def _instances(changes: Sequence[RegistryChange]) -> list[str]:
    """Names that tell instances of reworked changes apart: by the first tag at an older one or after it."""
    names, later, tag = [], set(), None
    for change in reversed(changes):
        tag = change.tags[0] if change.tags else tag
        names.append(f"{change.name}@{tag or change.change_id}" if change.name in later else change.name)
        later.add(change.name)
    return names[::-1]


def _from_sqitch(change: RegistryChange, name: str, position: int) -> TrackedChange:
    # Older versions knew no hash of the script and left the id of the change in its place.
    known = change.script_hash if change.script_hash != change.change_id else None
    return TrackedChange(
        change_id=change.change_id,
        name=name,
        script_hash=known,
        parse_hash=None,
        position=position,
        tags=change.tags,
    )


def _from_pgpm(change: RegistryChange, planned: DesiredChange | None, position: int) -> TrackedChange:
    """Its ids and hashes are of another kind: a script is the same where its hash is."""
    same = planned is not None and sha256(planned.deploy.text.encode()).hexdigest() == change.script_hash
    return TrackedChange(
        change_id=planned.change_id if planned is not None else change.change_id,
        name=change.name,
        script_hash=planned.script_hash if planned is not None and same else change.script_hash,
        parse_hash=None,
        position=position,
    )
