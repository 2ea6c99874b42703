"""What pending changes require and conflict with, over all modules of a deployment."""

import dataclasses
from collections.abc import Sequence

import pytest

from reconciler.diff import modules, requirements
from reconciler.diff.model import ModuleDiff
from reconciler.state.desired import DesiredModule
from reconciler.state.tracked import TrackedModule, TrackedState
from tests.plugins.states import change, module, tracked_database, tracked_of

STAGES = ("databases", "migrations", "later")
B1, B2, B3 = change("b1"), change("b2", tags=["v1"]), change("b3", tags=["v2"])
IDS = ("b" * 40, "c" * 40)


def base(*changes: object, **more: object) -> DesiredModule:
    return module(*(changes or (B1, B2, B3)), component="base", project="base", **more)  # type: ignore[arg-type]


def app(*needs: str, conflicts: Sequence[str] = (), **more: object) -> DesiredModule:
    return module(change("a1", requires=needs, conflicts=conflicts), component="app", project="app", **more)


def recorded(*changes: object, project: str = "base") -> TrackedModule:
    return dataclasses.replace(tracked_of(*changes), project=project, component=project)  # type: ignore[arg-type]


def checked(
    *wanted: DesiredModule, deployed: Sequence[TrackedModule] = (), blocked: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return why each component is blocked; `blocked` are so from the beginning."""
    tracked = TrackedState(databases={"shop": tracked_database(*deployed)})
    by_project = {one.project: one for one in deployed}
    parts: list[ModuleDiff] = []
    for one in wanted:
        here = by_project.get(one.project) if one.database == "shop" else None
        part = modules.compare(one, here)
        parts.append(dataclasses.replace(part, blocked=("before",) if one.component in blocked else ()))
    return {part.desired.component: part.blocked for part in requirements.check((), parts, tracked, STAGES)}


@pytest.mark.parametrize("need", ["base:b1", "base:@v1", "base:b1@v1", "base:b1@v2", "base:b3", B2.change_id])
def test_what_is_about_to_be_deployed_meets_a_requirement(need: str) -> None:
    """Each form of a requirement is met by the pending changes of another module of the stage."""
    assert checked(app(need), base())["app"] == ()


@pytest.mark.parametrize("need", ["base:b1", "base:@v1", "base:b2", "base:b1@v1", B1.change_id])
def test_what_is_deployed_meets_a_requirement(need: str) -> None:
    """Each form is met by what is recorded, also of a module that no component declares."""
    assert checked(app(need), deployed=[recorded(B1, B2)])["app"] == ()


def test_a_tag_says_how_far_the_other_module_must_be() -> None:
    """The requirement is met once the change of the tag is deployed, wherever the rest of that module is."""
    up_to_v1 = base(B1, B2, target="@v1", beyond_target=((B3.change_id, "b3"),))
    assert checked(app("base:@v1"), up_to_v1)["app"] == ()
    assert checked(app("base:@v1"), base(), deployed=[recorded(B1, B2)], blocked=["base"])["app"] == ()
    (why,) = checked(app("base:@v2", "base:b3"), up_to_v1)["app"]
    assert why.count("(component 'base' goes only up to its target '@v1')") == 2
    (why,) = checked(app("base:b3@v1"), base())["app"]
    assert why == "missing required changes: 'base:b3@v1' (component 'base' has no 'b3@v1')"


def test_an_older_instance_of_a_rework_is_not_the_newer_one() -> None:
    """`b1@v1` is met by the instance before the tag; the bare name by any."""
    older, newer = change("b1@v1", tags=["v1"], change_id=IDS[0]), change("b1", tags=["v2"], change_id=IDS[1])
    deployed = [recorded(older)]
    assert checked(app("base:b1@v1", "base:b1", IDS[0]), deployed=deployed)["app"] == ()
    assert "'base:b1@v2'" in checked(app("base:b1@v2"), deployed=deployed)["app"][0]
    assert checked(app("base:b1@v2"), base(older, newer), deployed=deployed)["app"] == ()


def test_everything_missing_is_listed_with_why() -> None:
    """Of every module, before anything runs: what is missing and what became of it."""
    elsewhere = base(B1, database="other")
    top = module(change("t1", requires=["app:a1", "gone:@v1", "d" * 40]), component="top", project="top")
    found = checked(top, app("base:b1", "base:@v1"), elsewhere)
    nowhere = "(component 'base' deploys its project to database 'other', not to 'shop')"
    assert found["app"] == (f"missing required changes: 'base:b1' {nowhere}, 'base:@v1' {nowhere}",)
    (why,) = found["top"]
    assert why == (
        "missing required changes: 'app:a1' (component 'app', which deploys it, is blocked), "
        "'gone:@v1' (no module here deploys project 'gone' to database 'shop'), "
        f"'{'d' * 40}' (no module here has a change of this id)"
    )
    assert found["base"] == ()


def test_a_requirement_on_a_later_stage_is_refused() -> None:
    """A module cannot wait for one that comes after it; once that is deployed, nothing is wrong."""
    later = base(stage="later")
    (why,) = checked(app("base:b2"), later)["app"]
    assert (
        why == "missing required changes: 'base:b2' (component 'base' deploys it in the later stage 'later')"
    )
    assert checked(app("base:b2"), later, deployed=[recorded(B1, B2)])["app"] == ()


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (base(), ()),
        (base(stage="later"), ("is deployed by component 'base' in the later stage 'later'",)),
        (
            base(database="other"),
            ("is not deployed to database 'shop'; component 'base' deploys it to 'other'",),
        ),
    ],
)
def test_a_module_of_a_control_file_must_come_before(other: DesiredModule, why: tuple[str, ...]) -> None:
    """A module that a control file requires is deployed in the same database, and not later."""
    wanted = app(requires_modules=("base",))
    expected = tuple(f"module 'base', required by its control file, {each}" for each in why)
    assert checked(wanted, other)["app"] == expected
    assert checked(wanted, other, deployed=[recorded(B1, B2, B3)])["app"] == ()


def test_a_module_without_anything_to_deploy_is_left_alone() -> None:
    """What is deployed already needs nothing any more."""
    wanted = app("base:b1", "gone:x", conflicts=["base:b2"])
    assert checked(wanted, deployed=[recorded(*wanted.changes, project="app")])["app"] == ()


@pytest.mark.parametrize(
    ("conflict", "why"),
    [
        ("base:b1", "'a1' conflicts with deployed 'base:b1'"),
        ("base:@v1", "'a1' conflicts with deployed 'base:@v1'"),
        (B1.change_id, f"'a1' conflicts with deployed '{B1.change_id}'"),
        ("base:b3", "'a1' conflicts with 'base:b3', which is to be deployed too"),
        ("base:nosuch", None),
        ("gone:b1", None),
    ],
)
def test_conflicts_refuse(conflict: str, why: str | None) -> None:
    """A change does not go beside what it conflicts with, deployed or about to be."""
    found = checked(app(conflicts=[conflict]), base(), deployed=[recorded(B1, B2)])
    assert found["app"] == (() if why is None else (why,))


def test_a_conflict_within_a_plan_is_with_what_stands_before() -> None:
    """As in Sqitch: an earlier change of the same run is in the way, a later one is not."""
    two = module(
        change("a1", conflicts=["a2"]), change("a2", conflicts=["a1"]), component="app", project="app"
    )
    assert checked(two)["app"] == ("'a2' conflicts with 'a1', which is to be deployed before it",)


def test_many_missing_ones_are_cut() -> None:
    """A message stays readable."""
    (why,) = checked(app(*(f"gone:x{number}" for number in range(80))))["app"]
    assert why.count("gone:x") == requirements.NAMED_MAX
    assert why.endswith("and 30 more")


def test_modules_that_wait_for_each_other_are_blocked_with_the_whole_circle() -> None:
    """Changes that are only interleaved cannot go module by module; what requires these is told as well."""
    one = module(change("a1", requires=["base:b1"]), change("a2"), component="app", project="app")
    two = base(B1, change("b2", requires=["app:a1"]))
    top = module(change("t1", requires=["app:a2"]), component="top", project="top")
    found = checked(top, one, two)
    assert found["app"][0] == found["base"][0]
    assert "these components wait for each other: app -> base -> app" in found["app"][0]
    assert found["top"] == (
        "missing required changes: 'app:a2' (component 'app', which deploys it, is blocked)",
    )


def test_an_interleaved_history_holds_nothing_up() -> None:
    """What is met by what is deployed waits for nothing, and so leaves an order for the rest."""
    one = module(change("a1", requires=["base:b1"]), component="app", project="app")
    two = base(B1, change("b2", requires=["app:a1"]))
    assert set(
        checked(one, two, deployed=[recorded(B1), recorded(*one.changes, project="app")]).values()
    ) == {()}
    assert set(checked(one, two, deployed=[recorded(B1)]).values()) == {()}


def test_an_id_waits_for_the_module_that_has_it() -> None:
    """A requirement by id alone orders modules like one by name, and what is missing is told before."""
    tracked = TrackedState(databases={"shop": tracked_database()})

    def awaits(need: str, deployed: Sequence[TrackedModule] = ()) -> tuple[str, ...]:
        found = TrackedState(databases={"shop": tracked_database(*deployed)}) if deployed else tracked
        by_project = {one.project: one for one in deployed}
        parts = [modules.compare(one, by_project.get(one.project)) for one in (app(need), base())]
        return requirements.check((), parts, found, STAGES)[0].awaits

    assert awaits(B2.change_id) == ("base",)
    assert awaits(f"base:{B2.change_id}") == ("base",)
    assert awaits(B1.change_id, [recorded(B1)]) == ()
    assert awaits("d" * 40) == ()
    up_to_v1 = base(B1, B2, target="@v1", beyond_target=((B3.change_id, "b3"),))
    for other, why in (
        (base(stage="later"), "(component 'base' deploys it in the later stage 'later')"),
        (up_to_v1, "(component 'base' goes only up to its target '@v1')"),
        (base(database="other"), "(no module here has a change of this id)"),
    ):
        (told,) = checked(app(B3.change_id), other)["app"]
        assert told == f"missing required changes: '{B3.change_id}' {why}"
    (told,) = checked(app(B3.change_id), base(), blocked=["base"])["app"]
    assert told.endswith("(component 'base', which deploys it, is blocked)")
