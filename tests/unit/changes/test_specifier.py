"""Specifiers of changes: what they mean in a plan file and in what is deployed."""

import re

import pytest

from reconciler.changes import plan_file
from reconciler.changes.plan_file import Flavor
from reconciler.changes.specifier import Instance, Place, index, required_index, target_index
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
        ("@HEAD^", 2),
        ("@HEAD^2", 1),
        ("@HEAD^^", 1),
        ("HEAD^3", 0),
        ("@ROOT~", 1),
        ("ROOT~~", 2),
        ("b~", 2),
        ("@v1^", 0),
        ("a@v1~3", 3),
        ("p:@HEAD^1", 2),
        ("@v1^0", 1),
        (f"{PLAN.changes[2].id}^", 1),
        ("p:" + PLAN.changes[2].id, 2),
        (PLAN.changes[1].tags[0].id, 1),
    ],
)
def test_targets_are_found(to: str | None, index: int) -> None:
    """Each form of a target names one change of the plan."""
    assert target_index(PLAN, to) == index


@pytest.mark.parametrize(
    "to",
    [
        "nosuch",
        "@v9",
        "c@v1",
        "0" * 40,
        "",
        "a b",
        "@",
        "q:a",
        "b^ ^",
        "b^^^",
        "b^2~",
        "b^-1",
        "b^" + "9" * 10,
    ],
)
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
    assert required_index(PLAN, 1, "a") == 0
    assert [required_index(PLAN, 3, each) for each in PLAN.changes[3].requires] == [2, 1, 0, None]


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("@HEAD~", "0 changes stand after '@HEAD'"),
        ("@ROOT^", "0 changes stand before '@ROOT'"),
        ("b^2", "'b^2' lies outside of p/sqitch.plan: 1 change stands before 'b'"),
        ("@v1~9", "2 changes stand after '@v1'"),
    ],
)
def test_out_of_range_is_an_error(to: str, message: str) -> None:
    """An offset beyond either end never means the end, and the message says how far one may go."""
    with pytest.raises(NotFound, match=re.escape(message)):
        target_index(PLAN, to)


def test_an_ambiguous_name_stays_ambiguous_with_an_offset() -> None:
    """`a^` does not say before which `a`."""
    with pytest.raises(Conflict, match="say which: a@v2, a@v1"):
        target_index(PLAN, "a^")


DEPLOYED = tuple(
    Instance(id=letter * 40, name=name, tags=tags)
    for letter, name, tags in [("a", "a", ()), ("b", "b", ("v1",)), ("c", "a", ()), ("d", "a", ())]
)


@pytest.mark.parametrize(
    ("text", "position"), [("@HEAD", 3), ("@HEAD^2", 1), ("@v1", 1), ("a@v1", 0), ("b~", 2), ("c" * 40, 2)]
)
def test_what_is_deployed_is_searched_the_same_way(text: str, position: int) -> None:
    """The same forms mean the same in the order of deployment."""
    assert index(DEPLOYED, text, Place(project="p", where="database 'shop'")) == position


def test_candidates_can_be_used_as_they_are() -> None:
    """Each candidate of an ambiguous name means exactly one change, by its id where no tag tells it apart."""
    place = Place(project="p", where="database 'shop'")
    with pytest.raises(Conflict) as caught:
        index(DEPLOYED, "a", place)
    assert caught.value.hint == f"say which: a@HEAD, {'c' * 40}, a@v1"
    candidates = caught.value.hint.removeprefix("say which: ").split(", ")
    assert [index(DEPLOYED, each, place) for each in candidates] == [3, 2, 0]
