"""Compare a module's plan with what is recorded as deployed of it."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from reconciler.diff.model import Divergence, DivergencePolicy, DivergenceSort, ModuleDiff
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.state.tracked import TrackedChange, TrackedModule

DEFAULT_POLICY: Mapping[DivergenceSort, DivergencePolicy] = {
    DivergenceSort.EDITED: DivergencePolicy.WARN,
    DivergenceSort.MISSING: DivergencePolicy.FAIL,
    DivergenceSort.INSERTED: DivergencePolicy.FAIL,
    DivergenceSort.REORDERED: DivergencePolicy.FAIL,
    DivergenceSort.AHEAD: DivergencePolicy.FAIL,
    DivergenceSort.COPY: DivergencePolicy.FAIL,
}


def compare(
    desired: DesiredModule,
    tracked: TrackedModule | None,
    *,
    extensions: Iterable[str] = (),
    policy: Mapping[DivergenceSort, DivergencePolicy] = DEFAULT_POLICY,
) -> ModuleDiff:
    """Match plan and record by change id, then by name, and say what is left and what disagrees.

    `extensions` are those the module requires and the database lacks.
    """
    deployed = tracked.changes if tracked is not None else ()
    if _identical(desired, deployed):
        return ModuleDiff(desired=desired, tags=_new_tags(desired, deployed), extensions=tuple(extensions))
    pairs = _match(desired, deployed)
    diverged = tuple(_divergences(desired, deployed, pairs, policy))
    fatal = [row for row in diverged if row.policy is DivergencePolicy.FAIL]
    matched = {id(change) for change in pairs.values() if change is not None}
    return ModuleDiff(
        desired=desired,
        deploy=tuple(change for change in desired.changes if id(change) not in matched),
        tags=tuple(
            (change, tag)
            for row in deployed
            if (change := pairs[row.change_id]) is not None
            for _tag_id, tag in change.tags
            if tag not in row.tags
        ),
        extensions=tuple(extensions),
        diverged=diverged,
        blocked=(_because(fatal),) if fatal else (),
    )


def _identical(desired: DesiredModule, deployed: Sequence[TrackedChange]) -> bool:
    """The common case, kept cheap: everything deployed, in order, nothing edited."""
    return len(desired.changes) == len(deployed) and all(
        row.change_id == change.change_id and row.script_hash == change.script_hash
        for row, change in zip(deployed, desired.changes, strict=True)
    )


def _new_tags(
    desired: DesiredModule, deployed: Sequence[TrackedChange]
) -> tuple[tuple[DesiredChange, str], ...]:
    return tuple(
        (change, tag)
        for change, row in zip(desired.changes, deployed, strict=True)
        for _tag_id, tag in change.tags
        if tag not in row.tags
    )


def _match(desired: DesiredModule, deployed: Sequence[TrackedChange]) -> dict[str, DesiredChange | None]:
    """Pair every deployed change with its line of the plan: by id, else by name.

    A name is enough where the id moved, as it does when a note or an earlier line is edited.
    """
    by_id = {change.change_id: change for change in desired.changes}
    taken = {row.change_id for row in deployed if row.change_id in by_id}
    by_name = {change.name: change for change in desired.changes if change.change_id not in taken}
    return {row.change_id: by_id.get(row.change_id) or by_name.pop(row.name, None) for row in deployed}


def _divergences(
    desired: DesiredModule,
    deployed: Sequence[TrackedChange],
    pairs: Mapping[str, DesiredChange | None],
    policy: Mapping[DivergenceSort, DivergencePolicy],
) -> Iterable[Divergence]:
    def row(name: str, sort: DivergenceSort, detail: str) -> Divergence:
        return Divergence(
            component=desired.component,
            identity=f"change {name}",
            sort=sort,
            policy=policy[sort],
            detail=detail,
        )

    beyond_ids = {change_id for change_id, _name in desired.beyond_target}
    beyond_names = {name for _id, name in desired.beyond_target}
    place = {id(change): position for position, change in enumerate(desired.changes)}
    places: list[int] = []
    in_plan: list[TrackedChange] = []
    for deployed_change in deployed:
        change = pairs[deployed_change.change_id]
        if change is not None:
            places.append(place[id(change)])
            in_plan.append(deployed_change)
            if _edited(deployed_change, change):
                yield row(
                    change.name,
                    DivergenceSort.EDITED,
                    f"{change.deploy.path} differs from what was deployed",
                )
        elif deployed_change.change_id in beyond_ids or deployed_change.name in beyond_names:
            yield row(
                deployed_change.name,
                DivergenceSort.AHEAD,
                f"deployed, but the target {desired.target or ''} lies before it",
            )
        else:
            yield row(
                deployed_change.name,
                DivergenceSort.MISSING,
                f"deployed, but not in the plan file of {desired.path}",
            )
    for position in _out_of_order(places):
        yield row(
            in_plan[position].name, DivergenceSort.REORDERED, "deployed in another order than the plan file's"
        )
    last = max(places, default=-1)
    present = set(places)
    for position, change in enumerate(desired.changes[: last + 1]):
        if position not in present:
            yield row(
                change.name,
                DivergenceSort.INSERTED,
                f"not deployed, but stands before the deployed change '{desired.changes[last].name}'",
            )


def _edited(deployed: TrackedChange, change: DesiredChange) -> bool:
    """Meaning changed: another script, and not only another layout."""
    if deployed.script_hash is None or deployed.script_hash == change.script_hash:
        return False
    return deployed.parse_hash is None or deployed.parse_hash != change.parse_hash


def _out_of_order(places: Sequence[int]) -> tuple[int, ...]:
    """Positions outside one longest increasing run: the fewest changes that explain the disorder."""
    tails: list[int] = []
    tail_positions: list[int] = []
    before: list[int] = []
    for position, place in enumerate(places):
        slot = bisect_left(tails, place)
        before.append(tail_positions[slot - 1] if slot else -1)
        if slot == len(tails):
            tails.append(place)
            tail_positions.append(position)
        else:
            tails[slot] = place
            tail_positions[slot] = position
    keep = set()
    position = tail_positions[-1] if tail_positions else -1
    while position >= 0:
        keep.add(position)
        position = before[position]
    return tuple(position for position in range(len(places)) if position not in keep)


def _because(fatal: Sequence[Divergence]) -> str:
    named = ", ".join(f"'{row.identity.removeprefix('change ')}' {row.sort.value}" for row in fatal[:5])
    more = f" and {len(fatal) - 5} more" if len(fatal) > 5 else ""
    return f"deployed history and plan file diverge: {named}{more}"
