"""Removing an environment: last stage first, what needs something before it, databases only by name."""

from dataclasses import replace

from reconciler.plan import build, render
from reconciler.plan.check import check
from reconciler.plan.encode import deployment_from_json, deployment_to_json
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.removal import build_removal
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveDatabase, LivePrograms, LiveState
from reconciler.state.programs import (
    DesiredJob,
    DesiredProgram,
    DesiredPrograms,
    DesiredRoute,
    DesiredServer,
    DesiredService,
    RuntimeName,
    Trigger,
)
from reconciler.state.removal import Removal
from reconciler.state.tracked import TrackedComponent, TrackedOutput, TrackedPrograms, TrackedState

PROGRAM = DesiredProgram(runtime=RuntimeName.PROCESS, argv=("run",))
USES = DesiredProgram(
    runtime=RuntimeName.PROCESS,
    argv=("run",),
    env=(("URL", OutputReference(component="api", output="host")),),
)
DESIRED = DesiredState(
    environment="shop",
    deployment="eu",
    commit="c" * 40,
    postgres=SecretReference(env="EU"),
    stages=("servers", "databases", "jobs", "services"),
    databases=(
        DesiredDatabase(
            component="db",
            stage="databases",
            database="shop",
            on=DesiredServer(service="pg", port="5432", user="postgres"),
        ),
    ),
    modules=(),
    programs=DesiredPrograms(
        services=(
            DesiredService(component="pg", stage="servers", program=PROGRAM, definition_hash="1"),
            DesiredService(component="api", stage="services", program=PROGRAM, definition_hash="2"),
            DesiredService(component="web", stage="services", program=USES, definition_hash="3"),
        ),
        jobs=(
            DesiredJob(
                component="export",
                stage="jobs",
                program=PROGRAM,
                inputs_hash="4",
                triggers=frozenset({Trigger.REMOVE}),
            ),
            DesiredJob(component="seed", stage="jobs", program=PROGRAM, inputs_hash="5"),
        ),
        routes=(
            DesiredRoute(
                component="edge",
                stage="services",
                host="shop.example.com",
                path="/",
                service="web",
                port="http",
                definition_hash="6",
            ),
        ),
    ),
)
KINDS = {"pg": "Service", "api": "Service", "web": "Service", "export": "Job", "seed": "Job", "edge": "Route"}
STAGES = {part.component: part.stage for part in DESIRED.components}


def tracked(*names: str) -> TrackedState:
    return TrackedState(
        databases={},
        programs=TrackedPrograms(
            components={
                name: TrackedComponent(
                    component=name, kind=KINDS[name], stage=STAGES[name], definition_hash="x", instance="one"
                )
                for name in names
            }
        ),
    )


LIVE = LiveState(server_major=18, databases={"shop": LiveDatabase(exists=True)})


def removal(
    *databases: str, desired: DesiredState = DESIRED, live: LiveState = LIVE, allowed: str = ""
) -> DeploymentPlan:
    return build_removal(desired, (tracked(*KINDS), live), Removal(databases=databases), frozenset({allowed}))


def rows(plan: DeploymentPlan) -> list[tuple[str, list[str]]]:
    return [(stage.name, [step.id for step in stage.steps]) for stage in plan.stages]


def test_last_stage_goes_first_and_what_is_needed_goes_last() -> None:
    """Routes before their services, consumers before producers, and jobs of the removal where they stand."""
    assert rows(removal()) == [
        ("services (1 of 3)", ["edge/remove-route"]),
        ("services (2 of 3)", ["web/remove-service"]),
        ("services (3 of 3)", ["api/remove-service"]),
        ("jobs", ["export/prepare-program", "export/run-job", "export/forget-job", "seed/forget-job"]),
        ("servers", ["pg/remove-service"]),
    ]


def test_job_that_runs_for_the_removal_alone_runs_once() -> None:
    """It left no record before; none of what was never deployed, and not again behind a worker that died."""
    fresh = tracked(*(name for name in KINDS if name != "export"))

    def plan(state: TrackedState, *ran: str) -> DeploymentPlan:
        return build_removal(DESIRED, (state, LIVE), Removal(), frozenset(), ran=frozenset(ran))

    assert rows(plan(fresh)) == rows(removal())
    without = ["edge", "web", "api", "seed", "pg"]
    assert [step.component for step in plan(fresh, "export").steps] == without
    assert [step.component for step in plan(tracked(*KINDS), "export").steps] == [
        *without[:3], "export", *without[3:]
    ]  # fmt: skip
    assert plan(tracked()).steps == ()
    taking = replace(DESIRED.programs.jobs[0], program=USES)
    wanted = replace(DESIRED, programs=replace(DESIRED.programs, jobs=(taking,)))
    lacking = build_removal(wanted, (fresh, LIVE), Removal(), frozenset())
    assert (check(lacking), [step.component for step in lacking.steps]) == ([], without)


def test_databases_stay_unless_they_are_named() -> None:
    """One that is named is dropped before the service that it lives on goes, and needs consent."""
    plan = removal("db")
    assert rows(plan)[-2:] == [("databases", ["db/drop-database"]), ("servers", ["pg/remove-service"])]
    assert plan.refused == (
        "db: database shop: hazard DELETES_DATA: the database is dropped with all that is in it",
    )
    assert removal("db", allowed="DELETES_DATA").refused == ()
    assert rows(removal("shop")) == rows(plan)
    shown = render.to_text(build.whole("production", "c" * 40, Scope.FULL, [plan]))
    assert "- drop-database    db  database shop  ! DELETES_DATA" in shown


def test_database_that_is_gone_is_not_dropped() -> None:
    """Nothing is planned for what is not there."""
    gone = replace(LIVE, databases={})
    assert all(name != "databases" for name, _ in rows(removal("db", live=gone)))


def test_nothing_goes_while_something_cannot_be_seen() -> None:
    """A runtime that does not answer is not one with nothing in it."""
    unknown = replace(LIVE, programs=LivePrograms(unknown={"api": "the engine does not answer"}))
    plan = removal(live=unknown)
    assert (plan.stages, plan.blocked) == ((), ("api: the engine does not answer",))


def test_what_the_spec_does_not_know_goes_too() -> None:
    """What an older commit had and nobody pruned is removed before everything else."""
    smaller = replace(
        DESIRED, programs=replace(DESIRED.programs, services=DESIRED.programs.services[:2], routes=())
    )
    state = tracked(*KINDS)
    components = {
        name: replace(part, stage="gone" if name in ("web", "edge") else part.stage)
        for name, part in state.programs.components.items()
    }
    state = replace(state, programs=replace(state.programs, components=components))
    plan = build_removal(smaller, (state, LIVE), Removal(), frozenset())
    assert rows(plan)[:2] == [
        ("behind the stages of the spec (1 of 2)", ["edge/remove-route"]),
        ("behind the stages of the spec (2 of 2)", ["web/remove-service"]),
    ]


def test_stages_are_those_of_the_spec_also_where_they_were_renamed_since() -> None:
    """What runs in a stage that has another name by now is not rolled for that, and keeps its place."""
    state = tracked(*KINDS)
    components = {
        name: replace(part, stage=f"old-{part.stage}") for name, part in state.programs.components.items()
    }
    renamed = replace(state, programs=replace(state.programs, components=components))
    plan = build_removal(DESIRED, (renamed, LIVE), Removal(), frozenset())
    assert rows(plan) == rows(removal())


def test_plan_is_recorded_without_loss() -> None:
    """Whoever carries it out knows what it was asked for."""
    plan = removal("db")
    assert deployment_from_json(deployment_to_json(plan)) == plan


def test_same_inputs_give_the_same_digest() -> None:
    """And other databases another one."""
    assert removal().digest == removal().digest != removal("db").digest


def test_jobs_of_the_removal_take_outputs_that_are_kept() -> None:
    """As they are: the account of the plan holds, for nothing makes them any more."""
    dumps = DesiredJob(
        component="export", stage="jobs", program=USES, inputs_hash="4", triggers=frozenset({Trigger.REMOVE})
    )
    wanted = replace(DESIRED, programs=replace(DESIRED.programs, jobs=(dumps,)))
    state = tracked(*KINDS)
    kept = {"api.host": TrackedOutput(component="api", name="host", inputs_hash="of before")}
    state = replace(state, programs=replace(state.programs, outputs=kept))
    plan = build_removal(wanted, (state, LIVE), Removal(), frozenset())
    assert plan.kept_outputs == ("api.host",)
    assert check(plan) == []
