"""Which steps of a stage run side by side."""

from dataclasses import replace
from typing import Any

from reconciler.execution.lanes import edges, lanes, phases
from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.steps import (
    AlterObjects,
    AnyStep,
    ConsumeOutputs,
    CreateExtension,
    CreateRole,
    DeployChange,
    ForgetJob,
    PrepareProgram,
    RemoveService,
    RollService,
    Step,
    StepKind,
    TakeBaseLine,
)
from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredRole, DesiredState
from reconciler.state.programs import DesiredPrograms, DesiredServer
from tests.plugins.object_projects import desired as desired_objects
from tests.plugins.object_projects import project, sql_object
from tests.plugins.rolling import route, service
from tests.plugins.services import FOR_EVER
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


def program(kind: type[Step], word: StepKind, component: str, **more: Any) -> AnyStep:
    made = kind(
        id=f"{component}/{word.value}",
        kind=word,
        component=component,
        identity=component,
        database="",
        **more,
    )
    assert isinstance(made, AnyStep)
    return made


def prepare(component: str) -> AnyStep:
    return program(PrepareProgram, StepKind.PREPARE_PROGRAM, component, runtime="process")


def removal(component: str) -> AnyStep:
    return program(RemoveService, StepKind.REMOVE_SERVICE, component, runtime="process")


def forget(component: str) -> AnyStep:
    return program(ForgetJob, StepKind.FORGET_JOB, component)


def test_what_prepares_comes_first_and_what_takes_note_last() -> None:
    """The order inside of each phase is that of the plan."""
    sink = program(ConsumeOutputs, StepKind.CONSUME_OUTPUTS, "a", consumes=("a.x",))
    steps = (step("a", "1"), sink, prepare("x"), step("b", "1"), prepare("y"))
    found = [[one.id for one in phase] for phase in phases(steps, {})]
    assert found == [["x/prepare-program", "y/prepare-program"], ["a/1", "b/1"], ["a/consume-outputs"]]


def test_what_is_removed_goes_stage_after_stage() -> None:
    """Services of one stage end side by side, and those of another before or behind them."""
    stages = {"api": "late", "web": "late", "pg": "early", "seed": "early"}
    steps = (removal("api"), removal("web"), removal("pg"), forget("seed"))
    found = [[one.component for one in phase] for phase in phases(steps, stages)]
    assert found == [["api", "web"], ["pg"], ["seed"]]


def test_programs_have_a_row_each_and_wait_for_who_makes_what_they_are_given() -> None:
    """A service waits for the outputs that it takes, a route for its service, a database for its server."""
    pg = service(FOR_EVER, "pg")
    api = service(FOR_EVER, "api", program={"env": (("URL", OutputReference(component="db", output="url")),)})
    shop = route("api", "shop")
    on = DesiredServer(service="pg", port="pg", user="postgres")
    wanted = replace(
        desired(databases=[database(component="db", on=on)]),
        programs=DesiredPrograms(services=(pg, api), routes=(shop,)),
    )
    rolls = [
        program(
            RollService, StepKind.ROLL_SERVICE, one.component, runtime="process", instance=one.instance,
            definition_hash=one.definition_hash, action="add", beside=True,
        )
        for one in (pg, api)
    ]  # fmt: skip
    base = replace(BASE, component="db")
    steps = (rolls[0], base, rolls[1])
    assert edges(steps, wanted) == {"pg": (), "db": ("pg",), "api": ("db",)}
    assert [[one.id for one in row] for row in lanes(steps, wanted)] == [
        ["pg/roll-service"],
        [base.id],
        ["api/roll-service"],
    ]
