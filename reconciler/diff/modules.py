"""Compare a module's plan with what is recorded as deployed of it."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence

from reconciler.changes.psql_meaning import PREFIX
from reconciler.diff.matching import Pair, pair, plain_name
from reconciler.diff.model import Divergence, DivergencePolicy, DivergenceSort, ModuleDiff, Rename
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.state.tracked import TrackedChange, TrackedModule

DIVERGES = "deployed history and plan file diverge"
"""What is said first of a module that a divergence holds back."""

DEFAULT_POLICY: Mapping[DivergenceSort, DivergencePolicy] = {
    DivergenceSort.EDITED: DivergencePolicy.WARN,
    DivergenceSort.MISSING: DivergencePolicy.FAIL,
    DivergenceSort.INSERTED: DivergencePolicy.FAIL,
    DivergenceSort.REORDERED: DivergencePolicy.FAIL,
    DivergenceSort.RENAMED: DivergencePolicy.WARN,
    DivergenceSort.AHEAD: DivergencePolicy.FAIL,
    DivergenceSort.COPY: DivergencePolicy.FAIL,
}
"""Where a spec says nothing else."""


def policy_of(desired: DesiredModule) -> Mapping[DivergenceSort, DivergencePolicy]:
    """What the spec says of each sort of divergence of a module, and what holds where it says nothing."""
    own = {DivergenceSort(sort): DivergencePolicy(policy) for sort, policy in desired.divergence.items()}
    return {**DEFAULT_POLICY, **own}


def compare(
    desired: DesiredModule,
    tracked: TrackedModule | None,
    *,
    extensions: Iterable[str] = (),
    policy: Mapping[DivergenceSort, DivergencePolicy] | None = None,
) -> ModuleDiff:
    """Match plan and record, and say what is left and what disagrees.

    `extensions` are those the module requires and the database lacks; `policy` is the module's own where
    none is given.
    """
    deployed = tracked.changes if tracked is not None else ()
    if _identical(desired, deployed):
        tags = _new_tags(zip(desired.changes, deployed, strict=True))
        return ModuleDiff(desired=desired, tags=tags, extensions=tuple(extensions))
    pairs = pair(desired, deployed)
    found = _Comparison(desired, pairs, tracked.late if tracked is not None else frozenset())
    policy = policy if policy is not None else policy_of(desired)
    diverged = tuple(found.divergences(policy))
    fatal = [row for row in diverged if row.policy is DivergencePolicy.FAIL]
    return ModuleDiff(
        desired=desired,
        deploy=tuple(desired.changes[place] for place in found.pending),
        late={desired.changes[place].change_id: before for place, before in found.inserted.items()},
        renames=tuple(
            Rename(change=desired.changes[one.place], change_id=one.row.change_id, name=one.row.name)
            for one in pairs
            if one.renamed and one.place is not None
        ),
        tags=_new_tags((desired.changes[one.place], one.row) for one in pairs if one.place is not None),
        recorded_ids={
            desired.changes[one.place].change_id: one.row.change_id
            for one in pairs
            if one.place is not None and desired.changes[one.place].change_id != one.row.change_id
        },
        extensions=tuple(extensions),
        diverged=diverged,
        blocked=(_because(fatal),) if fatal else (),
    )


def _identical(desired: DesiredModule, deployed: Sequence[TrackedChange]) -> bool:
    """The common case, kept cheap: everything deployed, in order, nothing edited."""
    return len(desired.changes) == len(deployed) and all(
        row.change_id == change.change_id
        and row.script_hash == change.script_hash
        and not _edited_elsewhere(row, change)
        for row, change in zip(deployed, desired.changes, strict=True)
    )


def _new_tags(
    matched: Iterable[tuple[DesiredChange, TrackedChange]],
) -> tuple[tuple[DesiredChange, str], ...]:
    """Tags that the record does not have on the change that has them in the plan."""
    return tuple(
        (change, tag) for change, row in matched for _tag_id, tag in change.tags if tag not in row.tags
    )


class _Comparison:
    """What follows from the pairs: what is pending, out of order, inserted."""

    def __init__(self, desired: DesiredModule, pairs: Sequence[Pair], late: Collection[str]) -> None:
        self._desired = desired
        self._pairs = pairs
        # What was deployed late by policy has no order of its own.
        ordered = [one for one in pairs if one.row.change_id not in late]
        paired = [(one, one.place) for one in ordered if one.place is not None]
        disordered = set(_out_of_order([place for _one, place in paired]))
        self.reordered = frozenset(
            one.row.change_id for number, (one, _place) in enumerate(paired) if number in disordered
        )
        present = {one.place for one in pairs}
        self.pending = tuple(place for place in range(len(desired.changes)) if place not in present)
        in_order = [place for number, (_one, place) in enumerate(paired) if number not in disordered]
        self.inserted = self._inserted(in_order)

    def _inserted(self, in_order: Sequence[int]) -> Mapping[int, str]:
        """Pending changes that stand before deployed ones, each with the next of these."""
        found = {}
        for place in self.pending:
            following = bisect_left(in_order, place)
            if following < len(in_order):
                found[place] = self._desired.changes[in_order[following]].name
        return found

    def divergences(self, policy: Mapping[DivergenceSort, DivergencePolicy]) -> Iterable[Divergence]:
        """All of them: first what is deployed, in that order, then what was inserted."""

        def row(name: str, sort: DivergenceSort, detail: str) -> Divergence:
            return Divergence(
                component=self._desired.component,
                identity=f"change {name}",
                sort=sort,
                policy=policy[sort],
                detail=detail,
            )

        beyond_ids = {change_id for change_id, _name in self._desired.beyond_target}
        beyond_names = {name for _id, name in self._desired.beyond_target}
        for one in self._pairs:
            if one.place is not None:
                for sort, detail in self._of_pair(one, self._desired.changes[one.place]):
                    yield row(self._desired.changes[one.place].name, sort, detail)
            elif one.row.change_id in beyond_ids or one.row.name in beyond_names:
                yield row(
                    one.row.name,
                    DivergenceSort.AHEAD,
                    f"deployed, but the target {self._desired.target or ''} lies before it",
                )
            else:
                yield row(
                    one.row.name,
                    DivergenceSort.MISSING,
                    f"deployed, but not in the plan file of {self._desired.path}",
                )
        for place, before in self.inserted.items():
            yield row(
                self._desired.changes[place].name,
                DivergenceSort.INSERTED,
                f"not deployed, but stands before the deployed change '{before}'",
            )

    def _of_pair(self, one: Pair, change: DesiredChange) -> Iterable[tuple[DivergenceSort, str]]:
        if one.renamed:
            yield (
                DivergenceSort.RENAMED,
                f"deployed as '{plain_name(one.row.name)}', with the same script; it is not run again",
            )
        elif _edited(one.row, change):
            yield DivergenceSort.EDITED, f"{change.deploy.path} differs from what was deployed"
        if one.row.change_id in self.reordered:
            yield DivergenceSort.REORDERED, "deployed in another order than the plan file's"


def _edited(deployed: TrackedChange, change: DesiredChange) -> bool:
    """Meaning changed: another script, and not only another layout."""
    if deployed.script_hash is None or deployed.script_hash == change.script_hash:
        return _edited_elsewhere(deployed, change)
    return deployed.parse_hash is None or deployed.parse_hash != change.parse_hash


def _edited_elsewhere(deployed: TrackedChange, change: DesiredChange) -> bool:
    """The script is the same, and a file that it includes is not; a hash of SQL knows of no other files."""
    return (
        change.parse_hash.startswith(PREFIX)
        and deployed.parse_hash is not None
        and deployed.parse_hash.startswith(PREFIX)
        and deployed.parse_hash != change.parse_hash
    )


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
    return f"{DIVERGES}: {named}{more}"
