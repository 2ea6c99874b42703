"""Whether what runs is as it should, told without a look at databases."""

from typing import Any

import pytest

from reconciler.diff.model import RouteDiff
from reconciler.diff.programs import ProgramContext, compare_programs
from reconciler.planner.contexts import program_context, runs_otherwise
from reconciler.planner.planner import PlanRequest
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import parse_file
from reconciler.state.live import LiveInstance, LivePrograms, LiveState
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.state.tracked import TrackedComponent, TrackedPrograms, TrackedState
from tests.plugins.seen import desired, route, service

SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  policy: {drift: DRIFT}
  deployments: [{name: eu, postgres: {dsn: {env: DSN}}}]
  components: [{name: shop-db, kind: Database, database: shop}]
"""
HEALTHY = LiveInstance(instance="i1", state="healthy", definition_hash="d1")
API = TrackedComponent(
    component="api", kind="Service", stage="services", definition_hash="d1", instance="i1", place="one"
)


def spec(drift: str = "warn") -> EnvironmentSpec:
    (parsed,) = parse_file("production.yaml", SPEC.replace("DRIFT", drift).encode())
    assert parsed.spec is not None
    return parsed.spec


def otherwise(drift: str = "warn", *, tracked: Any = API, **live: Any) -> bool:
    """Of one service that was applied; `live` is what is seen of it."""
    seen = LivePrograms(**{"instances": {"api": (HEALTHY,)}, **live})
    components = {"api": tracked} if tracked is not None else {}
    return runs_otherwise(spec(drift), desired(service("api")), TrackedPrograms(components=components), seen)


def test_what_runs_as_it_was_applied_is_fine() -> None:
    """Nothing more is read of it."""
    assert not otherwise()


@pytest.mark.parametrize(
    "given",
    [
        {"instances": {}},
        {"tracked": None},
        {"unknown": {"api": "the engine is down"}},
        {"instances": {"api": (HEALTHY, LiveInstance(instance="i0", state="healthy"))}},
    ],
    ids=["ended", "never-applied", "unknown", "twice"],
)
def test_what_does_not_is_looked_at(given: dict[str, Any]) -> None:
    """Ended, never started, not to be seen, or there twice."""
    assert otherwise(**given)


def test_drift_that_nobody_asks_for_is_no_reason() -> None:
    """With `drift: ignore` what others ended stays as it is."""
    assert not otherwise("ignore", instances={})


def test_route_that_is_anothers_is_blocked_with_whose_it_is() -> None:
    """It is planned for nobody else, and the other one is named."""
    live = LivePrograms(barred={"edge": "'h/' is the route 'front' of environment 'other'"})
    parts, _left = compare_programs(
        desired(route("edge")),
        TrackedState(databases={}),
        LiveState(server_major=0, databases={}, programs=live),
        ProgramContext(),
    )
    (edge,) = parts
    assert isinstance(edge, RouteDiff)
    assert edge.works
    assert edge.blocked == ("'h/' is the route 'front' of environment 'other'",)


def test_jobs_for_a_stop_run_once_for_each_stop() -> None:
    """Those that ran since are not asked again; a task of modules has nothing to do with any."""
    stopped = TrackedPrograms(stopped=True, ran=frozenset({"goodbye"}))
    context = program_context(spec(), stopped, PlanRequest())
    assert context is not None
    assert context.ran == frozenset({"goodbye"})
    running = program_context(spec(), TrackedPrograms(ran=frozenset({"hello"})), PlanRequest())
    assert running is not None
    assert running.ran == frozenset()
    task = ModuleTask(verb=TaskVerb.DEPLOY, module="shop")
    assert program_context(spec(), stopped, PlanRequest(task=task)) is None
