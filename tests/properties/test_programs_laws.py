"""Laws of plans of services, jobs, routes and outputs: they converge, keep every edge, and add up."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.diff.programs import ProgramContext
from reconciler.plan.check import check
from reconciler.plan.encode import deployment_from_json, deployment_to_json
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.programs import consumed, produced
from reconciler.plan.steps import (
    ProvideAccess,
    RemoveRoute,
    RemoveService,
    RollService,
    RunJob,
    SetRoute,
    Step,
)
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveInstance
from reconciler.state.programs import DesiredJob, DesiredOutput, DesiredRoute, DesiredService, Trigger
from tests.plugins.programs_model import (
    STAGES,
    World,
    accessible,
    applied,
    edited,
    environment,
    job,
    nothing,
    planned,
    program,
    route,
    service,
    stopped,
)

SERVICES = ("auth", "basket", "web")
JOBS = ("seed", "warm")
FEW = settings(max_examples=40)
"""Each plans several times over."""
VERSIONS = st.sampled_from(["1", "2"])


@st.composite
def specs(draw: st.DrawFn, *, servers: bool = True) -> DesiredState:
    """An environment that says: databases, services, jobs and routes, each using what may stand before it."""
    pg = servers and draw(st.booleans())
    known: list[str] = []
    parts: list[DesiredService | DesiredJob | DesiredRoute] = []
    if pg:
        own = program(ports=(5432,))
        parts.append(service("pg", own, stage="servers", in_place=True, version=draw(VERSIONS)))
        known.append("pg.port")
    databases: list[DesiredDatabase] = []
    for name in draw(st.lists(st.sampled_from(["a-db", "b-db"]), unique=True)):
        databases.append(
            accessible(name, "url", on="pg" if pg and draw(st.booleans()) else None, stage="databases")
        )
        known.append(f"{name}.url")
    for name in draw(st.lists(st.sampled_from(JOBS), unique=True)):
        own = program(ports=(), uses=draw(_some(known)))
        triggers = draw(st.sampled_from([{Trigger.CHANGE}, {Trigger.START}, {Trigger.CHANGE, Trigger.STOP}]))
        parts.append(
            job(
                name,
                own,
                version=draw(VERSIONS),
                triggers=frozenset(triggers),
                outputs=(DesiredOutput(name="token"),),
                stage=draw(st.sampled_from(["jobs", "services"])),
            )
        )
        if parts[-1].stage == "jobs":
            known.append(f"{name}.token")
    there: list[str] = []
    for name in draw(st.lists(st.sampled_from(SERVICES), unique=True)):
        own = program(uses=draw(_some(known)), ports=(draw(st.sampled_from([None, 8080])),))
        after = tuple(draw(_some(there)))
        parts.append(service(name, own, version=draw(VERSIONS), after=after))
        known.append(f"{name}.port")
        there.append(name)
    for number, name in enumerate(there):
        if draw(st.booleans()):
            parts.append(route(f"route{number}", name, host=f"{name}.example.com"))
    return environment(*parts, databases=_asked(databases, parts))


def _some(names: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=3) if names else st.just([])


def _asked(
    databases: list[DesiredDatabase], parts: list[DesiredService | DesiredJob | DesiredRoute]
) -> list[DesiredDatabase]:
    """Databases of whose outputs nobody takes any have no roles for others."""
    taken = {
        reference.component
        for part in parts
        if not isinstance(part, DesiredRoute)
        for reference in part.program.consumes
    }
    return [
        one if one.component in taken else accessible(one.component, on=one.on.service if one.on else None)
        for one in databases
    ]


@FEW
@given(specs())
def test_same_states_same_bytes(wanted: DesiredState) -> None:
    """A plan is a function of its inputs, and its JSON is all of it."""
    first, second = (planned(wanted, nothing()) for _ in range(2))
    assert json.dumps(deployment_to_json(first)) == json.dumps(deployment_to_json(second))
    assert deployment_from_json(json.loads(json.dumps(deployment_to_json(first)))) == first


@FEW
@given(specs(), specs())
def test_what_was_applied_is_not_planned_again(before: DesiredState, wanted: DesiredState) -> None:
    """From nothing, and from any other spec; and every plan on the way adds up."""
    prune = ProgramContext(prune=True)
    world = nothing()
    for spec in (before, wanted):
        plan = planned(spec, world, context=prune)
        assert check(plan) == []
        if plan.blocked:
            return
        world = applied(spec, plan, world)
        again = planned(spec, world, context=prune)
        assert (again.steps, again.pending, again.drift) == ((), (), ())


@FEW
@given(specs())
def test_provisioned_first_or_not_all_is_made_once(wanted: DesiredState) -> None:
    """Resources alone, then everything: no role is made again, and no job runs again."""
    only = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert check(only) == []
    world = applied(wanted, only, nothing())
    assert planned(wanted, world, scope=Scope.PROVISION_ONLY).steps == ()
    rest = planned(wanted, world)
    assert check(rest) == []
    assert not any(isinstance(step, ProvideAccess) for step in rest.steps)
    done = {step.component for step in only.steps}
    assert done.isdisjoint({step.component for step in rest.steps})
    at_once = planned(wanted, nothing())
    assert done | {step.component for step in rest.steps} == {step.component for step in at_once.steps}
    assert planned(wanted, applied(wanted, rest, world)).steps == ()


@FEW
@given(specs())
def test_provision_only_touches_nothing_that_merely_uses(wanted: DesiredState) -> None:
    """No step for what is left out, no route at all, and every output has who takes it."""
    plan = planned(wanted, nothing(), scope=Scope.PROVISION_ONLY)
    assert {step.component for step in plan.steps}.isdisjoint(plan.left_out)
    assert not any(isinstance(step, SetRoute) for step in plan.steps)
    needed = {output for step in plan.steps for output in consumed(step)}
    made = {output for step in plan.steps for output in produced(step)}
    assert made <= needed | set(plan.wanted_outputs)


@FEW
@given(specs())
def test_order_keeps_every_edge(wanted: DesiredState) -> None:
    """Stages, `after`, outputs, routes and servers; what prepares stands before all that deploys."""
    plan = planned(wanted, nothing())
    places = {step.component: place for place, step in enumerate(plan.steps) if not step.prepares}
    for part in wanted.components:
        for need in (*part.after, *_needs(part)):
            if part.component in places and need in places:
                assert places[need] < places[part.component]
    for stage in plan.stages:
        assert sorted(step.prepares for step in stage.steps)[::-1] == [step.prepares for step in stage.steps]


def _needs(part: object) -> tuple[str, ...]:
    if isinstance(part, DesiredRoute):
        return (part.service,)
    if isinstance(part, DesiredService | DesiredJob):
        return tuple(reference.component for reference in part.program.consumes)
    if isinstance(part, DesiredDatabase) and part.on is not None:
        return (part.on.service,)
    return ()


@FEW
@given(specs(servers=False))
def test_removal_is_the_reverse_of_deploying(wanted: DesiredState) -> None:
    """Whoever was started after another goes before it."""
    plan = planned(wanted, nothing())
    world = applied(wanted, plan, nothing())
    empty = environment(service("only"), databases=wanted.databases)
    gone = planned(empty, world, context=ProgramContext(prune=True))
    deployed = _components(plan, RollService, RunJob, SetRoute)
    removed = {name: place for place, name in enumerate(_components(gone, Step)) if name in deployed}
    assert removed.keys() == set(deployed)
    needs = {part.component: {*part.after, *_needs(part)} for part in wanted.components}
    stages = {part.component: STAGES.index(part.stage) for part in wanted.components}
    for name, place in removed.items():
        for other, later in removed.items():
            if stages[name] > stages[other] or other in needs[name]:
                assert place < later


@FEW
@given(specs(servers=False))
def test_stop_and_start_come_back_to_where_it_was(wanted: DesiredState) -> None:
    """Everything that runs is off in between; and nothing of a commit starts then."""
    world = applied(wanted, planned(wanted, nothing()), nothing())
    off = stopped(world)
    plan = planned(wanted, off)
    assert check(plan) == []
    assert not any(isinstance(step, RollService | SetRoute) for step in plan.steps)
    off = applied(wanted, plan, off)
    assert not any(off[1].programs.instances.values())
    assert not off[1].programs.routes
    assert planned(wanted, off).steps == ()
    on = stopped(off, stop=False)
    started = planned(wanted, on)
    assert not any(isinstance(step, RemoveService | RemoveRoute) for step in started.steps)
    on = applied(wanted, started, on)
    assert planned(wanted, on).steps == ()
    assert on[1].programs.instances == world[1].programs.instances


@FEW
@given(specs(), st.sampled_from(SERVICES), st.sampled_from(["", "exited", "unhealthy", "edited"]))
def test_drift_is_told_and_healing_ends_it(wanted: DesiredState, name: str, state: str) -> None:
    """By default nothing is planned for it; with `heal` what is planned puts it back, and no more."""
    world = applied(wanted, planned(wanted, nothing()), nothing())
    own = next((part for part in wanted.programs.services if part.component == name), None)
    if own is None:
        return
    drifted = _drifted(world, own, state)
    told = planned(wanted, drifted)
    assert (told.steps, len(told.drift) >= 1) == ((), True)
    heal = ProgramContext(drift="heal")
    plan = planned(wanted, drifted, context=heal)
    assert any(isinstance(step, RollService) and step.action == "heal" for step in plan.steps)
    healed = planned(wanted, applied(wanted, plan, drifted), context=heal)
    assert (healed.steps, healed.drift) == ((), ())


def _drifted(world: World, own: DesiredService, state: str) -> World:
    if not state:
        return edited(world, **{own.component: None})
    (there,) = world[1].programs.instances[own.component]
    found = LiveInstance(
        instance=there.instance,
        state="healthy" if state == "edited" else state,
        definition_hash="by hand" if state == "edited" else there.definition_hash,
        endpoints=there.endpoints,
        lasting=True,
    )
    return edited(world, **{own.component: found})


def _components(plan: DeploymentPlan, *kinds: type[Step]) -> list[str]:
    return [step.component for step in plan.steps if isinstance(step, kinds)]
