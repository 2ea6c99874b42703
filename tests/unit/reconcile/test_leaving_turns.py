"""Whose turn it is where more deployments left than are looked into at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from reconciler.control.intents import Leaver
from reconciler.plan.model import DeploymentPlan, PlanStage, Scope
from reconciler.plan.steps import RevertChange
from reconciler.planner.planner import PlanRequest
from reconciler.reconcile.leaving import NO_MORE, PART, PLANNED_MAX, TURN, Ground, Leavers, Leaving
from reconciler.spec.environment import EnvironmentSpec


@dataclass
class Here:
    """Stands in for planner and assessor; `to_take_back` is there, and of all others nothing is."""

    to_take_back: frozenset[str] = frozenset()
    planned: list[str] = field(default_factory=list)

    async def left(self, _view: Any, _environment: str, deployment: str, _at: str) -> str:
        return deployment

    async def check_unclaimed(self, *_asked: Any, **_more: Any) -> tuple[()]:
        return ()

    async def check_elsewhere(self, *_asked: Any, **_more: Any) -> None:
        return None

    async def assess(self, _spec: Any, states: Sequence[str], *_asked: Any, **_more: Any) -> list[Any]:
        self.planned = list(states)
        return [Found(desired=name, plan=self._plan(name)) for name in states]

    def _plan(self, name: str) -> DeploymentPlan:
        steps = (cast("RevertChange", object()),) if name in self.to_take_back else ()
        stages = (PlanStage(name="migrations", steps=steps),)
        return DeploymentPlan(name=name, base="", digest="", stages=stages)


@dataclass
class Found:
    desired: str
    plan: DeploymentPlan


def leaver(name: str, why: str | None = None) -> Leaver:
    return Leaver(
        name=name,
        declared_commit="c",
        applied_commit="c",
        server=None,
        databases=(),
        why=why,
        leaves=False,
    )


def look(here: Here, leavers: Sequence[Leaver], *, stay: int = 1, scope: Scope = Scope.FULL) -> Leaving:
    places = [{"name": f"eu-{number}", "postgres": {"dsn": {"env": "EU"}}} for number in range(stay)]
    database = {"name": "db", "kind": "Database", "database": "app"}
    spec = EnvironmentSpec.model_validate(
        {
            "apiVersion": "reconciler/v1",
            "kind": "Environment",
            "metadata": {"name": "production"},
            "spec": {"deployments": places, "policy": {"prune": True}, "components": [database]},
        }
    )
    ground = Ground(view=cast("Any", None), spec=spec, held={}, request=PlanRequest(scope=scope))
    both = cast("Any", here)
    return asyncio.run(Leavers(planner=both, assessor=both).look(ground, leavers))


def test_those_with_nothing_there_keep_nobody_waiting() -> None:
    """However many databases somebody dropped by hand, one that leaves now has its turn and is not many."""
    here = Here(to_take_back=frozenset({"zz"}))
    gone = [leaver(f"gone-{number:04}", NO_MORE) for number in range(2 * PLANNED_MAX)]
    found = look(here, [*gone, leaver("zz")], stay=20)
    assert here.planned[0] == "zz"
    assert {row.detail for row in found.rows if row.name != "zz"} == {NO_MORE}
    assert [(plan.name, plan.refused) for plan in found.plans] == [("zz", ())]


def test_the_turn_comes_to_all() -> None:
    """Those that nothing could be done to make room for those that wait."""
    here = Here()
    leavers = [leaver(f"gone-{number:04}") for number in range(PLANNED_MAX + 7)]
    first = look(here, leavers)
    waiting = [row.name for row in first.rows if row.detail == TURN]
    assert len(waiting) == 7
    look(here, [leaver(row.name, row.detail) for row in first.rows])
    assert here.planned[:7] == waiting


def test_many_are_counted_before_their_turn() -> None:
    """What would go by and by counts like what goes at once: a large list is no excuse."""
    names = [f"us-{number:04}" for number in range(PLANNED_MAX + 20)]
    found = look(Here(to_take_back=frozenset(names)), [leaver(name) for name in names], stay=1100)
    assert {plan.refused for plan in found.plans} == {()}
    found = look(Here(to_take_back=frozenset(names)), [leaver(name) for name in names], stay=1000)
    assert {"hazard PRUNES_MANY: 120 of 1120 deployments" in plan.refused[0] for plan in found.plans} == {
        True
    }


def test_rollouts_of_resources_take_nothing_back() -> None:
    """Who may only provision takes nothing back of what left, and it says so."""
    here = Here(to_take_back=frozenset({"us"}))
    found = look(here, [leaver("us")], scope=Scope.PROVISION_ONLY)
    assert ([row.detail for row in found.rows], found.plans, here.planned) == ([PART], (), [])
    assert [plan.name for plan in look(here, [leaver("us")]).plans] == ["us"]
