"""Plans of services, jobs, routes and outputs: their steps, their order, and the account of their outputs."""

import random
from dataclasses import replace
from typing import Any

import pytest

from reconciler.diff.programs import ProgramContext
from reconciler.errors import Refused
from reconciler.plan import build, render
from reconciler.plan.check import check
from reconciler.plan.encode import deployment_from_json, deployment_to_json
from reconciler.plan.model import DeploymentPlan, PlanStage, Scope
from reconciler.plan.steps import AnyStep, ConsumeOutputs, ProvideAccess, RollService, StepKind
from reconciler.state.programs import DesiredBuild, DesiredData, DesiredOutput, DesiredPrograms, Trigger
from tests.plugins.programs_model import (
    accessible,
    applied,
    edited,
    environment,
    ids,
    job,
    nothing,
    planned,
    program,
    route,
    service,
    stopped,
)

TOKEN = (DesiredOutput(name="token"),)
WHOLE = environment(
    service("pg", program(ports=(5432,)), stage="servers", in_place=True),
    job("seed", program(ports=(), uses=("shop-db.url",)), outputs=TOKEN),
    service("api", program(uses=("shop-db.url", "seed.token"))),
    service("web", program(uses=("api.host", "api.port"))),
    route("edge", "web"),
    databases=[accessible("shop-db", "url", on="pg")],
)


def of_kind(plan: DeploymentPlan, kind: StepKind) -> list[AnyStep]:
    return [step for step in plan.steps if step.kind is kind]


def with_steps(plan: DeploymentPlan, *steps: AnyStep) -> DeploymentPlan:
    return replace(plan, stages=(PlanStage(name="one", steps=steps),))


def test_first_plan_prepares_each_stage_before_it_deploys_it() -> None:
    """Stage after stage, what others need first, names last; and every output is accounted for."""
    plan = planned(WHOLE, nothing())
    assert ids(plan) == [
        ("servers", ["pg/prepare-program", "pg/roll-service"]),
        ("databases", ["shop-db/create-database", "shop-db/provide-access"]),
        ("jobs", ["seed/prepare-program", "seed/run-job"]),
        (
            "services",
            ["api/prepare-program", "web/prepare-program", "api/roll-service", "web/roll-service"],
        ),
        ("routes", ["edge/set-route"]),
    ]
    assert check(plan) == []
    assert [step.prepares for step in plan.stages[3].steps] == [True, True, False, False]


def test_plan_of_what_is_there_is_empty() -> None:
    """Every stage says why it is skipped, and the digest is that of nothing else."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    plan = planned(WHOLE, world)
    assert (plan.steps, plan.pending, plan.blocked) == ((), (), ())
    assert {stage.skipped for stage in plan.stages} == {"nothing to do"}


def test_order_does_not_hang_on_the_order_of_the_spec() -> None:
    """One hundred shuffled specs give one order: stage, dependency, name."""
    first = ids(planned(WHOLE, nothing()))
    dice = random.Random(7)
    own = WHOLE.programs
    for _ in range(100):
        services, jobs = list(own.services), list(own.jobs)
        dice.shuffle(services)
        dice.shuffle(jobs)
        shuffled = DesiredPrograms(services=tuple(services), jobs=tuple(jobs), routes=own.routes)
        assert ids(planned(replace(WHOLE, programs=shuffled), nothing())) == first


def test_components_of_a_stage_stand_in_the_order_of_their_names() -> None:
    """Where `after` says nothing else."""
    wanted = environment(service("c"), service("a", after=("b",)), service("b"), service("d"))
    (stage,) = [stage for stage in planned(wanted, nothing()).stages if stage.steps]
    assert [step.component for step in stage.steps] == ["b", "a", "c", "d", "b", "a", "c", "d"]


def test_step_says_all_that_execution_needs() -> None:
    """What runs, from what it is made, what it replaces, and whether both stand side by side."""
    before = environment(service("api", program(ports=(8080,))), route("edge", "api"))
    build = DesiredBuild(context="api", dockerfile="Dockerfile", hash="b" * 64)
    own = program(runtime="container", ports=(8080,), build=build)
    wanted = environment(service("api", own), route("edge", "api"))
    plan = planned(wanted, applied(before, planned(before, nothing()), nothing()))
    prepare, roll = plan.steps
    assert (prepare.component, getattr(prepare, "build", None)) == ("api", "b" * 64)
    assert isinstance(roll, RollService)
    assert (roll.action, roll.beside, roll.routes) == ("change", True, ("edge",))
    assert roll.replaces == before.programs.services[0].instance
    assert roll.instance == wanted.programs.services[0].definition_hash[:16]


def test_plan_goes_to_json_and_back_without_loss() -> None:
    """Steps, accounts and mode."""
    for scope in Scope:
        plan = planned(WHOLE, nothing(), scope=scope)
        assert deployment_from_json(deployment_to_json(plan)) == plan


@pytest.mark.parametrize("other", [{"kind": "fly"}, {"weight": 3}], ids=["kind", "word"])
def test_step_of_another_version_is_refused_before_anything_runs(other: dict[str, Any]) -> None:
    """A kind or a word of a step that nobody here knows stops the whole plan, and says what to do."""
    value = deployment_to_json(planned(WHOLE, nothing()))
    value["plan"]["stages"][0]["steps"][0] |= other
    with pytest.raises(
        Refused, match=r"that this version of pg-reconciler does not know \(.*same one everywhere"
    ):
        deployment_from_json(value)


def test_base_follows_what_is_touched_and_nothing_else() -> None:
    """Another live instance of what is rolled makes another base; one of what is left alone does not."""
    before = environment(service("api"), service("web"))
    world = applied(before, planned(before, nothing()), nothing())
    wanted = environment(service("api", version="2"), service("web"))
    plan = planned(wanted, world)
    assert planned(wanted, edited(world, web=None)).base == plan.base
    assert planned(wanted, edited(world, api=None)).base != plan.base


# ---- the account of outputs


def test_producer_and_consumer_add_up() -> None:
    """Also where two consume one output."""
    wanted = environment(
        job("seed", outputs=TOKEN),
        service("api", program(uses=("seed.token",))),
        service("web", program(uses=("seed.token",))),
    )
    assert check(planned(wanted, nothing())) == []


def test_output_that_nobody_needs_is_refused_before_anything_runs() -> None:
    """With the sorted ids."""
    plan = planned(WHOLE, nothing())
    alone = [step for step in plan.steps if step.kind in (StepKind.PROVIDE_ACCESS, StepKind.RUN_JOB)]
    assert check(with_steps(plan, *alone)) == ["outputs are made that nobody needs: seed.token"]
    assert check(with_steps(plan, *alone[:1])) == ["outputs are made that nobody needs: shop-db.url"]


def test_output_that_nothing_makes_is_refused_before_anything_runs() -> None:
    """With the sorted ids; one that is made only later is none."""
    plan = planned(WHOLE, nothing())
    (api,) = [step for step in of_kind(plan, StepKind.ROLL_SERVICE) if step.component == "api"]
    told = "outputs are needed that nothing makes before: seed.token, shop-db.url"
    assert told in check(with_steps(plan, api))
    makers = [step for step in plan.steps if step.kind in (StepKind.PROVIDE_ACCESS, StepKind.RUN_JOB)]
    assert told in check(with_steps(plan, api, *makers))


def test_output_that_two_make_is_refused() -> None:
    """Nobody could say which of them counts."""
    plan = planned(WHOLE, nothing())
    (access,) = of_kind(plan, StepKind.PROVIDE_ACCESS)
    assert isinstance(access, ProvideAccess)
    twice = replace(access, id="other/provide-access", component="other")
    assert "output shop-db.url is made twice, by shop-db/provide-access and by other/provide-access" in check(
        with_steps(plan, *plan.steps, twice)
    )


def test_what_was_made_before_serves_again() -> None:
    """It is in the plan that it is taken as kept; without that it would be missing."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    own = WHOLE.programs
    changed = replace(own.services[1], definition_hash="9" * 64)
    wanted = replace(WHOLE, programs=replace(own, services=(own.services[0], changed, own.services[2])))
    plan = planned(wanted, world)
    assert plan.kept_outputs == ("seed.token", "shop-db.url")
    assert check(plan) == []
    assert "seed.token" in check(replace(plan, kept_outputs=()))[0]


def test_output_for_a_consumer_that_is_as_it_should_be_is_wanted() -> None:
    """It was lost and is made again, and nobody has to be started anew for it."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    tracked, live = world
    lost = {name: one for name, one in tracked.programs.outputs.items() if name != "seed.token"}
    tracked = replace(tracked, programs=replace(tracked.programs, outputs=lost))
    plan = planned(WHOLE, (tracked, live))
    assert [step.id for step in plan.steps] == ["seed/prepare-program", "seed/run-job"]
    assert plan.wanted_outputs == ("seed.token",)
    assert check(plan) == []


def test_output_that_is_to_be_kept_needs_no_consumer() -> None:
    """The spec says so."""
    wanted = environment(job("seed", outputs=(DesiredOutput(name="report", keep=True),)))
    assert check(planned(wanted, nothing())) == []


def test_sinks_stand_in_provision_only_plans_alone() -> None:
    """In a plan of everything they would hide an output that was forgotten."""
    plan = planned(WHOLE, nothing(), scope=Scope.PROVISION_ONLY)
    assert check(plan) == []
    assert "which only provision-only plans do" in check(replace(plan, scope=Scope.FULL))[0]
    (sink,) = of_kind(plan, StepKind.CONSUME_OUTPUTS)
    without = tuple(
        replace(stage, steps=tuple(step for step in stage.steps if step is not sink)) for stage in plan.stages
    )
    assert check(replace(plan, stages=without)) == ["outputs are made that nobody needs: seed.token"]


# ---- what goes


def test_what_left_the_spec_goes_last_stage_first_behind_everything_else() -> None:
    """Routes before services, and consumers before what they consume."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    smaller = environment(
        service("pg", program(ports=(5432,)), stage="servers", in_place=True),
        service("new"),
        databases=[accessible("shop-db", on="pg")],
    )
    plan = planned(smaller, world, context=ProgramContext(prune=True))
    assert ids(plan) == [
        ("services", ["new/prepare-program", "new/roll-service"]),
        ("removal: routes", ["edge/remove-route"]),
        ("removal: services (1 of 2)", ["web/remove-service"]),
        ("removal: services (2 of 2)", ["api/remove-service"]),
        ("removal: jobs", ["seed/forget-job"]),
    ]
    gone = applied(smaller, plan, world)
    assert planned(smaller, gone, context=ProgramContext(prune=True)).steps == ()


def test_removing_a_service_with_data_needs_consent() -> None:
    """The folders stay; whoever agrees to it knows."""
    before = environment(service("pg", program(data=(DesiredData(name="main"),))), service("api"))
    world = applied(before, planned(before, nothing()), nothing())
    prune = ProgramContext(prune=True)
    plan = planned(environment(service("api")), world, context=prune)
    (why,) = plan.refused
    assert why.startswith("pg: service pg: hazard REMOVES_SERVICE: it holds data; the folders stay")
    consented = planned(environment(service("api")), world, context=prune, allowed=("REMOVES_SERVICE",))
    assert consented.refused == ()


@pytest.mark.parametrize("change", ["name", "none", "runtime"])
def test_leaving_data_behind_needs_consent(change: str) -> None:
    """A new instance that does not get what the old one kept begins with nothing."""
    main = (DesiredData(name="main"),)
    wanted = {
        "name": program(data=(DesiredData(name="other"),)),
        "none": program(),
        "runtime": program(runtime="systemd", data=main),
    }[change]
    before = environment(service("pg", program(data=main), in_place=True))
    world = applied(before, planned(before, nothing()), nothing())
    after = environment(service("pg", wanted, in_place=True))
    why = "hazard REMOVES_SERVICE: its new instance does not get the data 'main', which stays where it is"
    assert planned(after, world).refused == (f"pg: service pg: {why}",)
    more = environment(service("pg", program(data=(*main, DesiredData(name="more"))), in_place=True))
    assert planned(more, world).refused == ()


def test_removal_waits_for_a_stage_that_cannot_be_done() -> None:
    """What is to take its place is not there yet."""
    before = environment(service("old"))
    world = applied(before, planned(before, nothing()), nothing())
    tracked, live = world
    unfit = tracked, replace(live, programs=replace(live.programs, unfit={"container": "no engine"}))
    wanted = environment(service("new", program(runtime="container")))
    plan = planned(wanted, unfit, context=ProgramContext(prune=True))
    assert plan.steps == ()
    assert (
        "the removal of what left the spec waits: component 'new' of stage 'services' is blocked"
        in plan.blocked
    )


def test_stop_ends_everything_backwards_and_start_brings_it_back() -> None:
    """Jobs of the stop run while what they need is still there."""
    wanted = environment(
        service("api"),
        job(
            "export",
            program(ports=(), uses=("api.port",)),
            stage="services",
            triggers=frozenset({Trigger.STOP}),
        ),
        route("edge", "api"),
    )
    world = applied(wanted, planned(wanted, nothing()), nothing())
    off = stopped(world)
    plan = planned(wanted, off)
    assert ids(plan) == [
        ("stop: routes", ["edge/remove-route"]),
        ("stop: services (1 of 2)", ["export/prepare-program", "export/run-job"]),
        ("stop: services (2 of 2)", ["api/remove-service"]),
    ]
    assert check(plan) == []
    off = applied(wanted, plan, off)
    assert planned(wanted, off).steps == ()
    started = planned(wanted, stopped(off, stop=False))
    assert [step.id for step in started.steps] == [
        "api/prepare-program",
        "api/roll-service",
        "edge/set-route",
    ]


def test_stop_goes_by_the_stages_that_the_spec_has_now() -> None:
    """A stage that was renamed rolls nothing, and what runs in it is not ended before who needs it."""
    parts = service("back", stage="servers"), service("api", program(uses=("back.port",)))
    before = environment(*parts)
    world = stopped(applied(before, planned(before, nothing()), nothing()))
    renamed = environment(
        replace(parts[0], stage="ground"), parts[1], stages=("ground", "databases", "jobs", "services")
    )
    assert ids(planned(renamed, world)) == [
        ("stop: services", ["api/remove-service"]),
        ("stop: ground", ["back/remove-service"]),
    ]


def test_jobs_of_the_stop_take_outputs_as_they_are() -> None:
    """A commit that changes their producer starts nothing, and keeps nothing from being stopped."""
    own = program(ports=(), uses=("api.port",))
    export = job("export", own, stage="services", triggers=frozenset({Trigger.STOP}))
    before = environment(service("api"), export)
    world = stopped(applied(before, planned(before, nothing()), nothing()))
    plan = planned(environment(service("api", version="2"), export), world)
    assert (plan.blocked, check(plan)) == ((), [])
    assert [step.id for step in plan.steps] == [
        "export/prepare-program",
        "export/run-job",
        "api/remove-service",
    ]


def test_databases_on_services_of_a_stopped_environment_are_left_alone() -> None:
    """Nothing is made in place of what cannot be reached, nor when the environment is started again."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    off = stopped(world)
    off = applied(WHOLE, planned(WHOLE, off), off)
    tracked, live = off
    off = tracked, replace(live, servers={"pg": None}, silent={"pg": "it was stopped"}, databases={})
    plan = planned(WHOLE, off)
    assert (plan.steps, plan.blocked) == ((), ())
    started = planned(WHOLE, stopped(off, stop=False))
    assert [step.id for step in started.steps] == ["pg/prepare-program", "pg/roll-service"]
    assert "it was stopped" in started.blocked[0]


# ---- provision-only


def provisioned() -> DeploymentPlan:
    return planned(WHOLE, nothing(), scope=Scope.PROVISION_ONLY)


def test_provision_only_keeps_what_resources_need_and_drops_what_uses_them() -> None:
    """The server of the database stays, in its order; services, routes and their preparation do not."""
    plan = provisioned()
    assert ids(plan) == [
        ("servers", ["pg/prepare-program", "pg/roll-service"]),
        ("databases", ["shop-db/create-database", "shop-db/provide-access"]),
        ("jobs", ["seed/prepare-program", "seed/run-job"]),
        ("outputs kept", ["shop-db/consume-outputs"]),
    ]
    assert plan.left_out == ("api", "web", "edge")
    assert [stage.skipped for stage in plan.stages][3:5] == ["left out: only resources are provisioned"] * 2


def test_sink_takes_what_lost_its_consumers_in_the_order_it_is_made() -> None:
    """One step, behind all others."""
    (sink,) = of_kind(provisioned(), StepKind.CONSUME_OUTPUTS)
    assert isinstance(sink, ConsumeOutputs)
    assert sink.consumes == ("shop-db.url", "seed.token")
    assert provisioned().steps[-1] == sink


def test_provision_only_of_what_is_provisioned_is_empty() -> None:
    """No sink either: nothing is made."""
    world = applied(WHOLE, provisioned(), nothing())
    assert planned(WHOLE, world, scope=Scope.PROVISION_ONLY).steps == ()


def test_full_plan_behind_it_provisions_nothing_again() -> None:
    """It rolls what was left out, with the outputs that are kept."""
    world = applied(WHOLE, provisioned(), nothing())
    plan = planned(WHOLE, world)
    assert {step.kind for step in plan.steps} == {
        StepKind.PREPARE_PROGRAM,
        StepKind.ROLL_SERVICE,
        StepKind.SET_ROUTE,
    }
    assert {step.component for step in plan.steps} == {"api", "web", "edge"}
    assert plan.kept_outputs == ("seed.token", "shop-db.url")
    assert check(plan) == []


def test_provision_only_without_resources_is_empty_and_fine() -> None:
    """There is nothing to provision for servers alone."""
    plan = planned(environment(service("api"), route("edge", "api")), nothing(), scope=Scope.PROVISION_ONLY)
    assert (plan.steps, plan.blocked, check(plan)) == ((), (), [])


def test_database_of_ones_own_server_needs_no_service() -> None:
    """Its roles are made all the same."""
    wanted = environment(
        service("api", program(uses=("shop-db.url",))), databases=[accessible("shop-db", "url")]
    )
    plan = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert [step.id for step in plan.steps] == [
        "shop-db/create-database",
        "shop-db/provide-access",
        "shop-db/consume-outputs",
    ]


def test_service_that_two_databases_live_on_is_kept_once() -> None:
    """One roll, and both databases behind it."""
    wanted = environment(
        service("pg", program(ports=(5432,)), stage="servers", in_place=True),
        databases=[accessible("a-db", on="pg"), accessible("b-db", on="pg")],
    )
    plan = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert len(of_kind(plan, StepKind.ROLL_SERVICE)) == 1


def test_service_is_kept_that_a_kept_service_needs() -> None:
    """Vault, then server, then database."""
    wanted = environment(
        service("vault", stage="servers"),
        service("pg", program(ports=(5432,), uses=("vault.port",)), stage="servers", in_place=True),
        databases=[accessible("shop-db", on="pg")],
    )
    plan = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert [step.id for step in plan.steps] == [
        "vault/prepare-program",
        "pg/prepare-program",
        "vault/roll-service",
        "pg/roll-service",
        "shop-db/create-database",
    ]


def test_service_that_only_another_service_needs_is_left_out() -> None:
    """Needed at run time is not needed to provision."""
    wanted = environment(
        service("auth"), service("api", program(uses=("auth.port",))), databases=[accessible("shop-db")]
    )
    plan = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert [step.id for step in plan.steps] == ["shop-db/create-database"]


def test_job_that_needs_a_service_is_left_out_unless_a_resource_needs_the_job() -> None:
    """A job is a resource; one that only talks to a service is none."""
    talks = job("warm", program(ports=(), uses=("api.port",)), stage="routes")
    wanted = environment(service("api"), talks, job("seed"))
    assert {step.component for step in planned(wanted, nothing(), scope=Scope.PROVISION_ONLY).steps} == {
        "seed"
    }
    makes = job("secret", program(ports=(), uses=("vault.port",)), stage="servers", outputs=TOKEN)
    server = program(ports=(5432,), uses=("secret.token",))
    needed = environment(
        service("vault", stage="servers"),
        makes,
        service("pg", server, stage="servers", in_place=True),
        databases=[accessible("shop-db", on="pg")],
    )
    kept = planned(needed, nothing(), scope=Scope.PROVISION_ONLY)
    assert {step.component for step in kept.steps} == {"vault", "secret", "pg", "shop-db"}
    assert check(kept) == []


def test_edge_to_what_is_left_out_holds_nobody_up() -> None:
    """There is nothing to wait for."""
    wanted = environment(service("api", stage="jobs"), job("seed", after=("api",)))
    plan = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert ([step.component for step in plan.steps], plan.blocked) == (["seed", "seed"], ())


def test_nothing_is_removed_by_a_provision_only_plan() -> None:
    """What it leaves out did not leave the spec."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    plan = planned(WHOLE, world, scope=Scope.PROVISION_ONLY, context=ProgramContext(prune=True))
    assert (plan.steps, plan.diverged) == ((), ())


def test_mode_is_part_of_the_digest() -> None:
    """Also where both modes do the same."""
    wanted = environment(databases=[accessible("shop-db")])
    full = planned(wanted, nothing())
    only = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert [step.id for step in full.steps] == [step.id for step in only.steps]
    assert full.digest != only.digest


@pytest.mark.parametrize("name", ["api", "web", "edge"])
def test_a_component_left_out_is_in_no_step(name: str) -> None:
    """Nothing is built, pulled, checked, started or led there for it."""
    assert all(step.component != name for step in provisioned().steps)


# ---- what people are shown


def shown(plan: DeploymentPlan, scope: Scope = Scope.FULL) -> str:
    return render.to_text(build.whole("production", "c" * 40, scope, [plan]))


def test_plan_says_how_a_service_is_replaced_and_what_it_takes() -> None:
    """From which instance, beside or in place, with which routes, and which outputs are there already."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    own = WHOLE.programs
    old = own.services[2]
    changed = replace(old, definition_hash="9" * 64)
    wanted = replace(WHOLE, programs=replace(own, services=(*own.services[:2], changed)))
    text = shown(planned(wanted, world))
    assert (
        f"start instance {'9' * 16} beside {old.instance}, and end that once {'9' * 16} stays healthy" in text
    )
    assert "switch what leads to it: edge" in text
    assert "takes api.host (kept from before), api.port (kept from before)" in text
    in_place = replace(changed, in_place=True)
    wanted = replace(WHOLE, programs=replace(own, services=(*own.services[:2], in_place)))
    assert f"end instance {old.instance}, and start {'9' * 16} in its place" in shown(planned(wanted, world))


def test_drift_says_whether_it_is_put_back() -> None:
    """By default it is only told."""
    world = applied(WHOLE, planned(WHOLE, nothing()), nothing())
    drifted = edited(world, api=None)
    assert "drift (changed by hand; not touched)" in shown(planned(WHOLE, drifted))
    healed = shown(planned(WHOLE, drifted, context=ProgramContext(drift="heal")))
    assert "is not there any more; put back" in healed
    assert f"put instance {WHOLE.programs.services[1].instance} back" in healed


def test_provision_only_plan_says_what_it_leaves_out_and_how_the_rest_is_rolled_out() -> None:
    """At its head, in it and at its end; in Markdown too."""
    plan = build.whole("production", "c" * 40, Scope.PROVISION_ONLY, [provisioned()])
    rest = "roll out the rest with: `reconciler apply production --full`"
    for text in (render.to_text(plan), render.to_markdown(plan)):
        assert "(provision-only): 7 steps to run" in text
        assert "api, web, edge: this plan provisions resources alone" in text
        assert rest in text
    assert rest not in shown(planned(WHOLE, nothing()))


def test_removals_are_marked_as_such() -> None:
    """And what stays is said."""
    before = environment(service("pg", program(data=(DesiredData(name="main"),))), service("api"))
    world = applied(before, planned(before, nothing()), nothing())
    text = shown(planned(environment(service("api")), world, context=ProgramContext(prune=True)))
    assert "- remove-service   pg  service pg  ! REMOVES_SERVICE" in text
    assert "its data stays: main" in text
