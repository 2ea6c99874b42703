"""Laws of comparing a plan file that was edited at will with what is deployed of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from reconciler.diff import modules
from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import DivergencePolicy, DivergenceSort, ModuleDiff
from reconciler.plan import build
from reconciler.plan.steps import DeployChange
from reconciler.state.desired import DesiredChange
from reconciler.state.tracked import TrackedModule
from tests.plugins.states import (
    change,
    desired,
    live_database,
    module,
    sha,
    states,
    tracked_database,
    tracked_of,
)

WARN = {
    sort.value: "warn" for sort in DivergenceSort if sort not in (DivergenceSort.AHEAD, DivergenceSort.COPY)
}
CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")


@dataclass(frozen=True)
class Line:
    """A line of a plan: `key` stays the same whatever is edited."""

    key: int
    name: str
    meaning: str
    layout: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edited:
    """A plan as it was deployed and as it is now, with what was done to it."""

    before: tuple[Line, ...]
    after: tuple[Line, ...]
    meant: frozenset[int]
    renamed: frozenset[int]


def changes_of(lines: Sequence[Line]) -> list[DesiredChange]:
    """The lines as changes, whose ids follow from all that stands before them, as Sqitch's do."""
    last = {line.name: line.key for line in lines}
    parent, found = "", []
    for number, line in enumerate(lines):
        parent = sha(f"{parent} {line.name} {line.note}")
        instance = line.name if last[line.name] == line.key else f"{line.name}@t{number}"
        found.append(change(instance, change_id=parent, text=f"{line.layout}{line.meaning}", tags=line.tags))
    return found


def key_of(one: DesiredChange, lines: Sequence[Line]) -> int:
    return next(
        line.key
        for line, other in zip(lines, changes_of(lines), strict=True)
        if other.change_id == one.change_id
    )


@st.composite
def edited_plans(draw: st.DrawFn) -> Edited:
    """A deployed plan and up to six edits of it, each of another line."""
    count = draw(st.integers(1, 8))
    before = [Line(key=key, name=f"c{key}", meaning=f"select {key}") for key in range(count)]
    lines, meant, renamed = list(before), set(), set()
    for key in draw(st.lists(st.integers(0, count - 1), unique=True, max_size=6)):
        place = next(number for number, line in enumerate(lines) if line.key == key)
        line = lines[place]
        match draw(
            st.sampled_from(["note", "layout", "meaning", "name", "gone", "moved", "rework", "insert", "tag"])
        ):
            case "note":
                lines[place] = dataclasses.replace(line, note="another note")
            case "layout":
                lines[place] = dataclasses.replace(line, layout="  ")
            case "meaning":
                lines[place] = dataclasses.replace(line, meaning=f"{line.meaning}, 1")
                meant.add(key)
            case "name":
                lines[place] = dataclasses.replace(line, name=f"new{key}")
                renamed.add(key)
            case "gone":
                del lines[place]
            case "moved":
                del lines[place]
                lines.insert(draw(st.integers(0, len(lines))), line)
            case "rework":
                lines.append(dataclasses.replace(line, key=100 + key, meaning=f"select 100 + {key}"))
            case "insert":
                fresh = Line(key=200 + key, name=f"f{key}", meaning=f"select 200 + {key}")
                lines.insert(draw(st.integers(0, len(lines))), fresh)
            case _:
                lines[place] = dataclasses.replace(line, tags=(f"v{key}",))
    return Edited(tuple(before), tuple(lines), frozenset(meant), frozenset(renamed))


def diff_of(case: Edited) -> ModuleDiff:
    return modules.compare(
        module(*changes_of(case.after), divergence=WARN), tracked_of(*changes_of(case.before))
    )


def named(case: Edited, found: ModuleDiff, sort: DivergenceSort) -> set[int]:
    """The lines that are told to have diverged in one way."""
    names = {one.name: line.key for one, line in zip(changes_of(case.before), case.before, strict=True)}
    if sort is not DivergenceSort.MISSING:
        names = {one.name: line.key for one, line in zip(changes_of(case.after), case.after, strict=True)}
    return {names[row.identity.removeprefix("change ")] for row in found.diverged if row.sort is sort}


def longest_run(numbers: Sequence[int]) -> int:
    best: list[int] = []
    for place, number in enumerate(numbers):
        best.append(1 + max((best[other] for other in range(place) if numbers[other] < number), default=0))
    return max(best, default=0)


@given(edited_plans())
def test_every_edit_is_told_as_what_it_is(case: Edited) -> None:
    """What was edited, renamed, removed or moved is told as that, nothing else is; notes do not matter."""
    found = diff_of(case)
    keys, deployed = [line.key for line in case.after], {line.key for line in case.before}
    assert named(case, found, DivergenceSort.EDITED) == case.meant
    assert named(case, found, DivergenceSort.RENAMED) == case.renamed
    assert named(case, found, DivergenceSort.MISSING) == deployed - set(keys)
    moved = named(case, found, DivergenceSort.REORDERED)
    there = [key for key in keys if key in deployed]
    assert len(moved) == len(there) - longest_run(there)
    assert sorted(key for key in there if key not in moved) == [key for key in there if key not in moved]
    in_order = [number for number, key in enumerate(keys) if key in deployed and key not in moved]
    expected = {
        key for number, key in enumerate(keys) if key not in deployed and number < max(in_order, default=-1)
    }
    assert named(case, found, DivergenceSort.INSERTED) == expected
    assert {key_of(one, case.after) for one in found.deploy if one.change_id in found.late} == expected


@given(edited_plans())
def test_what_is_deployed_is_never_deployed_again(case: Edited) -> None:
    """Whatever is edited, exactly what is new in the plan is pending, each once and in plan order."""
    found = diff_of(case)
    deployed = {line.key for line in case.before}
    assert [key_of(one, case.after) for one in found.deploy] == [
        line.key for line in case.after if line.key not in deployed
    ]
    assert {tag for _change, tag in found.tags} == {
        tag for line in case.after if line.key in deployed for tag in line.tags
    }


@given(
    edited_plans(), st.dictionaries(st.sampled_from(sorted(WARN)), st.sampled_from(["fail", "warn", "allow"]))
)
def test_policy_blocks_the_module_alone(case: Edited, policy: dict[str, str]) -> None:
    """A module is blocked exactly where a divergence fails by its policy, and another module goes on."""
    own = module(*changes_of(case.after), divergence=policy)
    other = module(change("x"), component="other", project="other")
    tracked, live = states(tracked_database(tracked_of(*changes_of(case.before))), live_database())
    wanted = desired(own, other)
    diff = compare(wanted, tracked, live, {"shop": CONTEXT})
    mine, others = diff.modules
    fails = any(modules.policy_of(own)[row.sort] is DivergencePolicy.FAIL for row in mine.diverged)
    assert bool(mine.blocked) == fails
    assert not others.blocked
    plan = build.build(wanted, diff, (tracked, live))
    steps = [step for step in plan.steps if step.component == own.component]
    assert not (fails and steps)
    assert [step.identity for step in plan.steps if step.component == "other"] == ["change x"]
    late = {step.change_id for step in steps if isinstance(step, DeployChange) and step.late}
    assert fails or late == set(mine.late)
    told = {row.identity for row in plan.told_diverged if row.component == own.component}
    assert told == {row.identity for row in mine.diverged if row.policy is not DivergencePolicy.ALLOW}


@given(edited_plans())
def test_carrying_out_settles_names(case: Edited) -> None:
    """Once renames and pending changes are carried out, planning again finds nothing to do."""
    own = module(*changes_of(case.after), divergence=WARN)
    record = tracked_of(*changes_of(case.before))
    found = modules.compare(own, record)
    names = {one.change_id: one.change.name for one in found.renames}
    ids = {recorded: planned for planned, recorded in found.recorded_ids.items()}
    tags = {one.change_id: tuple(tag for _id, tag in one.tags) for one in own.changes}
    rows = [
        dataclasses.replace(
            row,
            name=names.get(row.change_id, row.name),
            tags=tags.get(ids.get(row.change_id, row.change_id), row.tags),
        )
        for row in record.changes
    ]
    after = (*rows, *tracked_of(*found.deploy).changes)
    again = modules.compare(own, TrackedModule(project="shop", component="shop-schema", changes=after))
    assert again.pending == ()
    assert all(row.sort is not DivergenceSort.RENAMED for row in again.diverged)


@given(st.lists(st.sampled_from("abcd"), max_size=6), st.lists(st.sampled_from("abcd"), max_size=6))
def test_equal_scripts_are_told_apart_by_place(deployed: list[str], planned: list[str]) -> None:
    """Also where all scripts are the same, each deployed change takes one line of the plan at the most."""
    before = [change(f"c{n}{name}", text="") for n, name in enumerate(dict.fromkeys(deployed))]
    after = [
        change(f"d{name}" if n % 2 else f"c{n}{name}", text="")
        for n, name in enumerate(dict.fromkeys(planned))
    ]
    found = modules.compare(module(*after, divergence=WARN), tracked_of(*before))
    assert len(found.deploy) == max(0, len(after) - len(before))
