"""References to changes: what they mean in a plan."""

import pytest

from reconciler.changes import plan_file, reference
from reconciler.changes.plan_file import Flavor, target_index
from reconciler.errors import Conflict, NotFound

WHO = "2026-01-31T12:00:00Z Ann Example <ann@example.com>"
PLAN = plan_file.parse(
    f"%project=p\n\na {WHO}\nb [a] {WHO}\n@v1 {WHO}\na [b] {WHO}\n@v2 {WHO}\nc [a @v1 a@v1 q:x] {WHO}\n",
    "p/sqitch.plan",
    flavor=Flavor.SQITCH,
)
EMPTY = plan_file.parse("%project=p\n\n", "p/sqitch.plan", flavor=Flavor.SQITCH)


@pytest.mark.parametrize(
    ("to", "index"),
    [
        (None, 3),
        ("b", 1),
        ("c", 3),
        ("@v1", 1),
        ("@v2", 2),
        ("a@v1", 0),
        ("a@v2", 2),
        ("a@HEAD", 2),
        ("b@v2", 1),
        ("@HEAD", 3),
        ("HEAD", 3),
        ("@ROOT", 0),
        ("p:b", 1),
        ("p:@v1", 1),
        (PLAN.changes[2].id, 2),
        (PLAN.changes[1].tags[0].id, 1),
    ],
)
def test_targets_are_found(to: str | None, index: int) -> None:
    """Each form of a target names one change of the plan."""
    assert target_index(PLAN, to) == index


@pytest.mark.parametrize("to", ["nosuch", "@v9", "c@v1", "0" * 40, "", "a b", "@", "q:a", "b^"])
def test_unknown_targets_are_errors(to: str) -> None:
    """What is not in the plan never means something else."""
    with pytest.raises(NotFound):
        target_index(PLAN, to)


def test_a_likely_target_is_suggested() -> None:
    """A slip of the finger gets the name that was meant."""
    with pytest.raises(NotFound, match="did you mean '@v1'"):
        target_index(PLAN, "@v11")


def test_a_name_of_several_changes_is_refused_with_the_candidates() -> None:
    """A bare name of a reworked change does not say which instance."""
    with pytest.raises(Conflict, match="say which: a@v2, a@v1"):
        target_index(PLAN, "a")


def test_an_empty_plan_has_no_target() -> None:
    """The end of an empty plan is before its first change; a name in it is unknown."""
    assert target_index(EMPTY, None) == target_index(EMPTY, "@HEAD") == -1
    with pytest.raises(NotFound):
        target_index(EMPTY, "a")


def test_dependencies_mean_the_newest_instance_before() -> None:
    """A bare requirement is on what stands before the change, not on a later rework."""
    assert reference.required_index(PLAN, 1, "a") == 0
    assert [reference.required_index(PLAN, 3, each) for each in PLAN.changes[3].requires] == [2, 1, 0, None]


@pytest.mark.parametrize("text", ["a:b:c", ":a", "a@", "a@b@c", "-a", "@v1@v2"])
def test_malformed_references_are_none(text: str) -> None:
    """What is not well-formed is not guessed at."""
    assert reference.parse(text) is None
