"""Which steps of a stage run side by side."""

from dataclasses import replace

from reconciler.execution.lanes import edges, lanes
from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.steps import (
    AlterObjects,
    AnyStep,
    CreateExtension,
    CreateRole,
    DeployChange,
    StepKind,
    TakeBaseLine,
)
from reconciler.state.desired import DesiredRole, DesiredState
from tests.plugins.object_projects import desired as desired_objects
from tests.plugins.object_projects import project, sql_object
from tests.plugins.states import change, database, desired, module


def step(component: str, name: str, *, place: str = "shop", outside: bool = False) -> DeployChange:
    hazard = Hazard(code=HazardCode.NOT_TRANSACTIONAL, message="x")
    return DeployChange(
        id=f"{component}/{name}",
        kind=StepKind.DEPLOY_CHANGE,
        component=component,
        identity=f"change {name}",
        database=place,
        hazards=(hazard,) if outside else (),
        project=component,
        change_id=name,
        change=name,
        script="",
        script_hash="",
        transaction="change",
    )


def role(component: str, name: str, *, place: str) -> CreateRole:
    return CreateRole(
        id=f"{component}/{name}",
        kind=StepKind.CREATE_ROLE,
        component=component,
        identity=f"role {name}",
        database=place,
        role=name,
    )


def extension(component: str, name: str) -> CreateExtension:
    return CreateExtension(
        id=f"{component}/{name}",
        kind=StepKind.CREATE_EXTENSION,
        component=component,
        identity=name,
        database="shop",
        extension=name,
    )


BASE = TakeBaseLine(
    id="shop-db/x",
    kind=StepKind.TAKE_BASE_LINE,
    component="shop-db",
    identity="database shop",
    database="shop",
)


def objects(component: str, *, place: str = "shop") -> AlterObjects:
    return AlterObjects(
        id=f"{component}/x",
        kind=StepKind.ALTER_OBJECTS,
        component=component,
        identity="x",
        database=place,
        objects=(),
        hash="",
    )


def state() -> DesiredState:
    return desired(
        module(change("a"), component="a", project="a", requires_extensions=("citext",)),
        module(change("b", requires=["a:a"]), component="b", project="b"),
        module(change("c"), component="c", project="c", requires_extensions=("citext",)),
        module(change("d"), component="d", project="d", requires_modules=("c",), after=("a",)),
    )


def rows(*steps: AnyStep) -> list[list[str]]:
    return [[one.id for one in row] for row in lanes(steps, state())]


def test_objects_share_their_row_with_what_they_may_read() -> None:
    """Where SQL objects are at work in a database, nothing else is beside them; other databases are."""
    steps = (step("a", "1"), step("b", "1"), objects("x"), objects("y"), objects("z", place="other"))
    assert rows(*steps) == [["a/1", "b/1", "x/x", "y/x"], ["z/x"]]


def test_objects_wait_for_what_they_come_after() -> None:
    """An `after` holds between databases too, and what makes the database comes first."""
    behind = replace(
        desired_objects(project(sql_object("core.open")), component="z"), after=("a",), database="other"
    )
    wanted = replace(state(), objects=(behind,))
    assert edges([step("a", "1"), objects("z", place="other")], wanted)["z"] == ("a", "shop-db")


def test_modules_of_one_database_are_apart() -> None:
    """A row for each, and one before them for the database itself."""
    steps = (BASE, step("a", "1"), step("a", "2"), step("b", "1"), step("c", "1", place="other"))
    assert rows(*steps) == [["shop-db/x"], ["a/1", "a/2"], ["b/1"], ["c/1"]]


def test_what_cannot_be_apart_is_one_row() -> None:
    """A module alone, changes that take turns, and what runs outside of transactions."""
    assert rows(BASE, step("a", "1")) == [["shop-db/x", "a/1"]]
    taking_turns = (step("a", "1"), step("b", "1"), step("a", "2"))
    assert rows(*taking_turns) == [["a/1", "b/1", "a/2"]]
    assert rows(step("a", "1", outside=True), step("b", "1")) == [["a/1", "b/1"]]


def test_edges_lead_from_earlier_to_later() -> None:
    """Requirements of changes and of control files, extensions, `after`; never backwards."""
    steps: tuple[AnyStep, ...] = (BASE, extension("a", "citext"), *(step(name, "1") for name in "abcd"))
    assert edges(steps, state()) == {
        "shop-db": (),
        "a": ("shop-db",),
        "b": ("a", "shop-db"),
        "c": ("shop-db", "a"),
        "d": ("a", "c", "shop-db"),
    }
    assert edges((step("b", "1"), step("a", "1")), state()) == {"b": (), "a": ()}


def test_databases_have_edges_of_their_own() -> None:
    """`after` between databases stays as it is."""
    places = [database(component=name, database=name, after=("x",) if name == "y" else ()) for name in "xy"]
    assert edges((), desired(databases=places)) == {}


def test_who_needs_a_role_waits_for_who_makes_it() -> None:
    """A role is the server's: other databases, and modules of a database with nothing to do, wait for it."""
    reader = (DesiredRole(name="reader"),)
    wanted = desired(
        module(change("a"), component="a", project="a", database="two", database_component="db-two"),
        module(change("b"), component="b", project="b", database="three", database_component="db-three"),
        databases=[
            database(component="db-one", database="one", roles=reader),
            database(component="db-two", database="two", roles=reader),
            database(component="db-three", database="three"),
        ],
    )
    steps = [
        role("db-one", "reader", place="one"),
        step("db-two", "x", place="two"),
        step("a", "a", place="two"),
        step("b", "b", place="three"),
    ]
    assert edges(steps, wanted) == {
        "db-one": (),
        "db-two": ("db-one",),
        "a": ("db-two", "db-one"),
        "b": (),
    }
