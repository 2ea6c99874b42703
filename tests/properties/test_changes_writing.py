"""Laws of edited plan files: what was there stays, byte for byte, and what is new is read as it was given."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from reconciler.changes import plan_file, plan_writer
from reconciler.changes.plan_file import Flavor, PlanFile
from reconciler.changes.plan_lines import trim_note
from reconciler.changes.plan_writer import NewChange, Planned
from reconciler.errors import Conflict, NotFound, PlanFileError
from tests.properties.test_changes_plan import plans

FLAVORS = st.sampled_from(list(Flavor))
NAMES = st.one_of(st.sampled_from(["a", "b", "users/add", "new", "été"]), st.text(max_size=6))
NOTES = st.one_of(st.text(max_size=20), st.sampled_from(["a\nb", "\\n", "# x", "\r"]))
PLANNED = st.builds(
    Planned,
    planner=st.one_of(st.sampled_from(["Ann <a@x>", "Zoë  Q <z@x>"]), st.text(max_size=12)),
    planned_at=st.sampled_from(["2026-01-31T12:00:00Z", "1999-12-31T23:59:59Z"]),
    note=NOTES,
)
DEPENDENCIES = st.one_of(st.sampled_from(["a", "b", "@v1", "a@v1", "q:a", "0" * 40]), st.text(max_size=6))
CHANGES = st.builds(
    NewChange,
    name=NAMES,
    planned=PLANNED,
    requires=st.lists(DEPENDENCIES, max_size=2).map(tuple),
    conflicts=st.lists(DEPENDENCIES, max_size=1).map(tuple),
)


def unchanged(before: PlanFile, after: PlanFile) -> bool:
    """Say whether all lines of a plan stand in another, but for an end that the last one lacked."""
    found = iter(after.lines)
    kept = all(any(line in (other, other.rstrip("\r\n")) for other in found) for line in before.lines)
    return kept and [change.id for change in before.changes] == [
        change.id for change in after.changes[: len(before.changes)]
    ]


def edited(plan: PlanFile, change: NewChange, *, again: bool) -> PlanFile:
    return plan_writer.rework(plan, change).plan if again else plan_writer.add_change(plan, change)


@given(text=plans(), flavor=FLAVORS, change=CHANGES, again=st.booleans())
def test_an_appended_change_is_read_as_it_was_given(
    text: str, flavor: Flavor, change: NewChange, *, again: bool
) -> None:
    """Any change is appended with all it says and nothing else moved, or refused."""
    with suppress(PlanFileError, Conflict, NotFound):
        before = plan_file.parse(text, "p", flavor=flavor)
        after = edited(before, change, again=again)
        made = after.changes[-1]
        assert unchanged(before, after)
        assert len(after.changes) == len(before.changes) + 1
        assert (made.name, made.conflicts) == (change.name, tuple(change.conflicts))
        assert set(change.requires) <= set(made.requires)
        assert made.note == trim_note(change.planned.note)
        assert plan_file.parse(plan_file.render(after), "p", flavor=flavor) == after


@given(
    text=plans(), flavor=FLAVORS, name=NAMES, planned=PLANNED, change=st.sampled_from([None, "a", "@ROOT"])
)
def test_a_tag_moves_nothing(
    text: str, flavor: Flavor, name: str, planned: Planned, change: str | None
) -> None:
    """Any tag is put on the change that was meant, and no id of a change moves; or it is refused."""
    with suppress(PlanFileError, Conflict, NotFound):
        before = plan_file.parse(text, "p", flavor=flavor)
        after = plan_writer.add_tag(before, name, planned, change=change)
        assert unchanged(before, after)
        assert len(after.tags) == len(before.tags) + 1
        assert [len(one.tags) for one in after.changes] >= [len(one.tags) for one in before.changes]
