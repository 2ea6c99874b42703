"""The order in which the steps of a stage run: `after` edges between databases, within a bound."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from reconciler.errors import LeaseLost, Refused, StepFailed, TemporaryError
from reconciler.execution import run as running
from reconciler.execution.course import Parked
from reconciler.plan.model import DeploymentPlan, PlanStage
from reconciler.plan.steps import (
    AnyStep,
    DeployChange,
    PrepareProgram,
    PromoteObjects,
    StepKind,
    TakeBaseLine,
)
from tests.plugins.states import change, database, desired, module


class Notes:
    """A journal that notes the steps; named ones fail."""

    def __init__(self, failing: Mapping[str, Exception]) -> None:
        self.seen: list[str] = []
        self.failing = failing

    async def started(self, step: AnyStep, *, instead_of: AnyStep | None = None) -> None:
        assert instead_of is None
        self.seen.append(step.component)
        await asyncio.sleep(0)
        if step.component in self.failing:
            raise self.failing[step.component]

    async def finished(self, step: AnyStep, duration_s: float) -> None: ...

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None: ...

    async def safe_point(self) -> None: ...

    async def progressed(self, step: AnyStep, text: str) -> None: ...

    async def staging(self, step: AnyStep, server: str) -> None: ...

    async def discarded(self, step: AnyStep) -> None: ...

    async def may_promote(self, step: PromoteObjects) -> None:
        self.seen.append(step.component)
        await asyncio.sleep(0)
        raise Parked(step)

    async def promoted(self, step: AnyStep, retained_until: datetime | None) -> None: ...


class Nothing:
    """Resources of steps that need none."""

    def __init__(self, after: Mapping[str, Sequence[str]]) -> None:
        self.desired = desired(
            databases=[
                database(component=name, database=name, after=tuple(more)) for name, more in after.items()
            ]
        )
        self.interference = running.Resources.__dataclass_fields__["interference"].default_factory()  # type: ignore[misc]

        self.promoting = asyncio.Lock()
        self.stages: dict[str, str] = {}
        self.left_runs: frozenset[str] = frozenset()

    async def session(self, _database: str) -> None: ...


def promotion(component: str, place: str) -> PromoteObjects:
    """A switch of one component."""
    return PromoteObjects(
        id=f"{component}/promote-objects",
        kind=StepKind.PROMOTE_OBJECTS,
        component=component,
        identity=component,
        database=place,
        generation="g",
        schemas=(),
        retain_s=0.0,
        dependents="refuse",
        hand_made="refuse",
        altered="refuse",
    )


def plan(places: Mapping[str, str]) -> DeploymentPlan:
    """One stage with a step for each component, which goes to its database."""
    steps = tuple(
        TakeBaseLine(
            id=f"{component}/x",
            kind=StepKind.TAKE_BASE_LINE,
            component=component,
            identity=component,
            database=place,
        )
        for component, place in places.items()
    )
    return DeploymentPlan(name="eu", base="", digest="", stages=(PlanStage(name="databases", steps=steps),))


async def carry_out(
    places: Mapping[str, str], after: Mapping[str, Sequence[str]], **failing: Exception
) -> list[str]:
    notes = Notes(failing)
    resources: Any = Nothing({name: after.get(name, ()) for name in places})
    async with asyncio.timeout(10):
        await running.run(plan(places), resources, notes)
    return notes.seen


async def test_waiting_takes_no_place_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one place, a database that waits for another one lets it run first."""
    monkeypatch.setattr(running, "PARALLEL_DATABASES_MAX", 1)
    seen = await carry_out({"a": "one", "z": "two", "b": "one"}, {"b": ["z"]})
    assert seen == ["a", "z", "b"]


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        (TemporaryError("t"), StepFailed("s"), StepFailed),
        (StepFailed("s"), LeaseLost("l"), LeaseLost),
        (RuntimeError("asked to stop"), TemporaryError("t"), TemporaryError),
    ],
)
async def test_of_several_errors_the_gravest_is_told(
    one: Exception, two: Exception, told: type[Exception]
) -> None:
    """What ends the operation for good is not hidden by what merely stops it."""
    with pytest.raises(told):
        await carry_out({"a": "one", "b": "two"}, {}, a=one, b=two)


async def test_what_waits_for_its_promotion_holds_back_only_what_comes_behind_it() -> None:
    """Other databases of the stage go on; what comes after the component waits, and so do later stages."""
    notes = Notes({})
    first = plan({"b": "two", "c": "three"}).stages[0]
    first = PlanStage(name="objects", steps=(promotion("a", "one"), *first.steps))
    both = DeploymentPlan(name="eu", base="", digest="", stages=(first, plan({"d": "four"}).stages[0]))
    resources: Any = Nothing({"a": (), "b": ["a"], "c": (), "d": ()})
    with pytest.raises(Parked) as waits:
        await running.run(both, resources, notes)
    assert waits.value.step.component == "a"
    assert sorted(notes.seen) == ["a", "c"]


@pytest.mark.parametrize("error", [StepFailed("s"), TemporaryError("t"), LeaseLost("l")], ids=repr)
async def test_an_operation_does_not_wait_with_a_failure_in_hand(error: Exception) -> None:
    """Where another database failed meanwhile, that is told, and the operation is not parked."""
    steps = (promotion("a", "one"), *plan({"b": "two"}).stages[0].steps)
    stage = PlanStage(name="objects", steps=steps)
    resources: Any = Nothing({"a": (), "b": ()})
    with pytest.raises(type(error)):
        await running.run(
            DeploymentPlan(name="eu", base="", digest="", stages=(stage,)), resources, Notes({"b": error})
        )


async def test_failure_stops_what_waits_for_it() -> None:
    """Nothing after a failed component starts, and the failure is what is told."""
    with pytest.raises(StepFailed):
        await carry_out({"a": "one", "b": "two"}, {"b": ["a"]}, a=StepFailed("s"))


@pytest.mark.parametrize("failing", [None, "a", "b"])
async def test_stage_waits_for_the_whole_stage_before(failing: str | None) -> None:
    """No step of a stage starts before every step of the one before is done; after a failure, none does."""
    first = plan({"a": "one", "b": "two"}).stages[0]
    second = PlanStage(name="later", steps=plan({"c": "three"}).stages[0].steps)
    both = DeploymentPlan(name="eu", base="", digest="", stages=(first, second))
    notes = Notes({failing: StepFailed("s")} if failing else {})
    resources: Any = Nothing(dict.fromkeys("abc", ()))
    if failing is None:
        await running.run(both, resources, notes)
        assert notes.seen[-1] == "c"
        assert sorted(notes.seen) == ["a", "b", "c"]
    else:
        with pytest.raises(StepFailed):
            await running.run(both, resources, notes)
        assert "c" not in notes.seen


def first_phase(component: str) -> PrepareProgram:
    """What prepares a component."""
    return PrepareProgram(
        id=f"{component}/prepare",
        kind=StepKind.PREPARE_PROGRAM,
        component=component,
        identity=component,
        database="",
        runtime="process",
    )


@pytest.mark.parametrize("failing", [None, "two"])
async def test_everything_is_prepared_before_anything_is_deployed(
    monkeypatch: pytest.MonkeyPatch, failing: str | None
) -> None:
    """It is prepared side by side, whatever comes after what; where that fails nothing is deployed."""
    prepared: list[str] = []
    both = asyncio.Event()

    async def prepare(step: PrepareProgram, _resources: Any, _journal: Any) -> None:
        prepared.append(step.component)
        if len(prepared) == 2:
            both.set()
        await both.wait()
        if step.component == failing:
            raise StepFailed("its program is not there")

    monkeypatch.setattr(running.program_steps, "carry_out", prepare)
    steps = (first_phase("one"), first_phase("two"), *plan({"one": "a", "two": "b"}).stages[0].steps)
    stage = PlanStage(name="all", steps=steps)
    resources: Any = Nothing({"one": (), "two": ["one"]})
    notes = Notes({})
    carried_out = running.run(
        DeploymentPlan(name="eu", base="", digest="", stages=(stage,)), resources, notes
    )
    async with asyncio.timeout(30):
        if failing is None:
            await carried_out
        else:
            with pytest.raises(StepFailed, match="not there"):
                await carried_out
    assert sorted(notes.seen[:2]) == ["one", "two"]
    assert notes.seen[2:] == ([] if failing else ["one", "two"])


async def test_of_equal_errors_the_first_is_told() -> None:
    """What failed first is what people look at; what failed behind it may come of that."""
    with pytest.raises(StepFailed, match="first"):
        await carry_out({"b": "two", "a": "one"}, {}, a=StepFailed("second"), b=StepFailed("first"))


async def test_other_bytes_than_those_of_the_plan_are_not_run() -> None:
    """A plan names the content of each script: what stands in its place in the commit is refused."""
    planned, found = change("a", text="select 1"), change("a", text="select 2")
    step = DeployChange(
        id="shop-schema/deploy-change/a",
        kind=StepKind.DEPLOY_CHANGE,
        component="shop-schema",
        identity="change a",
        database="shop",
        project="shop",
        change_id=planned.change_id,
        change="a",
        script=planned.deploy.path,
        script_hash=planned.script_hash,
        transaction="change",
    )
    resources: Any = Nothing({})
    resources.desired = desired(module(found))
    stages = (PlanStage(name="migrations", steps=(step,)),)
    with pytest.raises(Refused, match=r"another version of 'modules/shop/deploy/a\.sql' than the commit"):
        await running.run(DeploymentPlan(name="eu", base="", digest="", stages=stages), resources, Notes({}))
