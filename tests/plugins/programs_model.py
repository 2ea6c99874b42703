"""Small constructors of services, jobs and routes, and a model of what a plan leaves behind it.

The model is how execution should leave records and machine; plans are held against it, not against execution.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.programs import ProgramContext
from reconciler.diff.skipping import left_out, without_stopped
from reconciler.plan import build
from reconciler.plan.build import Consent
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.steps import (
    AnyStep,
    CreateDatabase,
    ForgetJob,
    ProvideAccess,
    RemoveRoute,
    RemoveService,
    RollService,
    RunJob,
    SetRoute,
)
from reconciler.spec.values import OutputReference
from reconciler.state.access import Whose
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveInstance, LiveRole, LiveRoute, LiveState
from reconciler.state.programs import (
    DesiredAccess,
    DesiredJob,
    DesiredPort,
    DesiredProgram,
    DesiredPrograms,
    DesiredRoute,
    DesiredServer,
    DesiredService,
    RuntimeName,
    Trigger,
    Value,
)
from reconciler.state.programs_json import kind_of, to_json
from reconciler.state.provisioning import narrowed
from reconciler.state.tracked import (
    TrackedComponent,
    TrackedDatabase,
    TrackedOutput,
    TrackedPrograms,
    TrackedState,
)
from tests.plugins.states import IDENTITY, base_line, database, desired, live_database

STAGES = ("servers", "databases", "jobs", "services", "routes")
CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")
World = tuple[TrackedState, LiveState]


def hashed(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()


def output(text: str) -> OutputReference:
    component, _, name = text.partition(".")
    return OutputReference(component=component, output=name)


def program(
    *,
    runtime: str = "process",
    env: Mapping[str, Value] | None = None,
    uses: Sequence[str] = (),
    ports: Sequence[int | None] = (None,),
    **more: object,
) -> DesiredProgram:
    """A program; `uses` are outputs as `component.name`, each in a variable of its own."""
    named: dict[str, Value] = {f"V{place}": output(name) for place, name in enumerate(uses)}
    values: dict[str, object] = {
        "runtime": RuntimeName(runtime),
        "argv": ("run",),
        "ports": tuple(
            DesiredPort(name="http" if place == 0 else f"port{place}", number=number)
            for place, number in enumerate(ports)
        ),
        "env": tuple(sorted({**named, **(env or {})}.items())),
    }
    return DesiredProgram(**{**values, **more})  # type: ignore[arg-type]


def service(
    name: str, own: DesiredProgram | None = None, *, version: str = "1", **more: object
) -> DesiredService:
    own = own or program()
    values: dict[str, object] = {
        "component": name,
        "stage": "services",
        "program": own,
        "definition_hash": hashed("service", name, version, own),
    }
    return DesiredService(**{**values, **more})  # type: ignore[arg-type]


def job(name: str, own: DesiredProgram | None = None, *, version: str = "1", **more: object) -> DesiredJob:
    own = own or program(ports=())
    values: dict[str, object] = {
        "component": name,
        "stage": "jobs",
        "program": own,
        "inputs_hash": hashed("job", name, version, own),
    }
    return DesiredJob(**{**values, **more})  # type: ignore[arg-type]


def route(
    name: str, to: str, *, host: str = "shop.example.com", path: str = "/", **more: object
) -> DesiredRoute:
    values: dict[str, object] = {
        "component": name,
        "stage": "routes",
        "host": host,
        "path": path,
        "service": to,
        "port": "http",
        "definition_hash": hashed("route", host, path, to),
    }
    return DesiredRoute(**{**values, **more})  # type: ignore[arg-type]


def accessible(
    name: str = "shop-db", *outputs: str, on: str | None = None, version: str = "1", **more: object
) -> DesiredDatabase:
    """A database with outputs that are asked for, on its own server or on a service."""
    access = DesiredAccess(
        owner=f"{name}_owner",
        reader=f"{name}_reader",
        outputs=outputs,
        inputs_hash=hashed("db", name, version),
    )
    return database(
        component=name,
        database=name,
        access=access if outputs else None,
        on=DesiredServer(service=on, port="http", user="postgres") if on is not None else None,
        **more,
    )


def environment(
    *parts: DesiredService | DesiredJob | DesiredRoute,
    databases: Sequence[DesiredDatabase] = (),
    stages: Sequence[str] = STAGES,
) -> DesiredState:
    own = DesiredPrograms(
        services=tuple(part for part in parts if isinstance(part, DesiredService)),
        jobs=tuple(part for part in parts if isinstance(part, DesiredJob)),
        routes=tuple(part for part in parts if isinstance(part, DesiredRoute)),
    )
    base = desired(stages=stages, databases=databases)
    return replace(base, databases=tuple(databases), programs=own)


def nothing() -> World:
    return TrackedState(databases={}), LiveState(server_major=18, databases={})


def planned(
    wanted: DesiredState,
    world: World,
    *,
    context: ProgramContext | None = None,
    scope: Scope = Scope.FULL,
    allowed: Iterable[str] = (),
) -> DeploymentPlan:
    """The plan that the planner makes of three states."""
    wanted = narrowed(wanted) if scope is Scope.PROVISION_ONLY else wanted
    contexts = {part.database: CONTEXT for part in wanted.databases}
    diff = compare(wanted, *world, contexts, context or ProgramContext())
    diff = left_out(without_stopped(diff, world[0].programs))
    return build.build(wanted, diff, world, scope=scope, consent=Consent(allowed=frozenset(allowed)))


def applied(wanted: DesiredState, plan: DeploymentPlan, world: World) -> World:
    """What there is once a plan was carried out."""
    for step in plan.steps:
        world = _after(step, wanted, world)
    tracked, live = world
    started = not tracked.programs.stopped
    return replace(tracked, programs=replace(tracked.programs, started=started)), live


def edited(world: World, **instances: LiveInstance | None) -> World:
    """The same with one instance of a service as somebody left it, or with none."""
    tracked, live = world
    there = dict(live.programs.instances)
    for name, one in instances.items():
        there[name] = (one,) if one is not None else ()
    return tracked, replace(live, programs=replace(live.programs, instances=there))


def instance_of(part: DesiredService, state: str = "healthy", **more: object) -> LiveInstance:
    endpoints = tuple(
        (port.name, "127.0.0.1", port.number or int(part.instance[:4], 16) + place)
        for place, port in enumerate(part.program.ports)
    )
    values: dict[str, object] = {
        "instance": part.instance,
        "state": state,
        "definition_hash": part.definition_hash,
        "endpoints": endpoints,
    }
    return LiveInstance(**{**values, **more})  # type: ignore[arg-type]


def stopped(world: World, *, stop: bool = True) -> World:
    tracked, live = world
    own = replace(tracked.programs, stopped=stop, started=False, ran=frozenset())
    return replace(tracked, programs=own), live


def _after(step: AnyStep, wanted: DesiredState, world: World) -> World:
    match step:
        case CreateDatabase():
            world = _created(step, wanted, world)
        case ProvideAccess():
            world = _provided(step, wanted, world)
        case RollService():
            world = _rolled(step, wanted, world)
        case RunJob():
            world = _ran(step, wanted, world)
        case SetRoute():
            world = _led(step.component, wanted, world)
        case RemoveRoute() | ForgetJob():
            world = _gone(step.component, world)
        case RemoveService():
            world = _ended(step, world)
        case _:
            pass
    return world


def _gone(component: str, world: World) -> World:
    tracked, live = world
    routes = {name: one for name, one in live.programs.routes.items() if name != component}
    return _forgotten(tracked, component), replace(live, programs=replace(live.programs, routes=routes))


def _ended(step: RemoveService, world: World) -> World:
    tracked, live = edited(world, **{step.component: None})
    if not step.keeps_record:
        return _forgotten(tracked, step.component), live
    one = replace(tracked.programs.components[step.component], instance=None, applying=None)
    return _recorded(tracked, one), live


def _created(step: CreateDatabase, wanted: DesiredState, world: World) -> World:
    tracked, live = world
    recorded = TrackedDatabase(installed=True, version=1, base_line=base_line())
    tracked = replace(tracked, databases={**tracked.databases, step.database: recorded})
    there = live_database(identity=replace(IDENTITY))
    return tracked, replace(live, databases={**live.databases, step.database: there})


def _provided(step: ProvideAccess, wanted: DesiredState, world: World) -> World:
    tracked, live = world
    whose = Whose(environment=wanted.environment, deployment=wanted.deployment, database=step.database)
    role = LiveRole(attributes={"login": True}, comment=whose.mark)
    made = {step.owner: role, step.reader: role}
    part = next(one for one in wanted.databases if one.component == step.component)
    if part.on is None:
        live = replace(live, roles={**live.roles, **made})
    else:
        server = live.servers.get(part.on.service) or LiveState(server_major=18, databases={})
        server = replace(server, roles={**server.roles, **made})
        live = replace(live, servers={**live.servers, part.on.service: server})
    return _kept(tracked, step.component, step.produces, step.inputs_hash), live


def _rolled(step: RollService, wanted: DesiredState, world: World) -> World:
    part = next(one for one in wanted.programs.services if one.component == step.component)
    tracked, live = edited(world, **{step.component: instance_of(part)})
    tracked = _recorded(tracked, _record(part, step.instance))
    tracked = _kept(tracked, step.component, step.produces, step.outputs_hash)
    if any(one.on is not None and one.on.service == step.component for one in wanted.databases):
        there = live.servers.get(step.component) or LiveState(server_major=18, databases={})
        live = replace(live, servers={**live.servers, step.component: there})
    world = tracked, live
    for name in step.routes:
        world = _led_on(name, world)
    return world


def _led_on(name: str, world: World) -> World:
    """A route as it was set, to where its service is now."""
    tracked, live = world
    definition = tracked.programs.components[name].definition
    (there,) = live.programs.instances[definition["service"]]
    host, number = next(
        (host, number) for port, host, number in there.endpoints if port == definition["port"]
    )
    routes = {**live.programs.routes, name: replace(live.programs.routes[name], to=f"{host}:{number}")}
    return tracked, replace(live, programs=replace(live.programs, routes=routes))


def _ran(step: RunJob, wanted: DesiredState, world: World) -> World:
    tracked, live = world
    part = next(one for one in wanted.programs.jobs if one.component == step.component)
    tracked = _recorded(tracked, _record(part, None))
    own = tracked.programs
    if step.trigger in (Trigger.START, Trigger.STOP):
        own = replace(own, ran=own.ran | {step.component})
    if step.trigger != Trigger.STOP:
        own = replace(own, jobs={**own.jobs, step.component: step.inputs_hash})
    tracked = replace(tracked, programs=own)
    return _kept(tracked, step.component, step.produces, step.inputs_hash), live


def _led(name: str, wanted: DesiredState, world: World) -> World:
    tracked, live = world
    part = next(one for one in wanted.programs.routes if one.component == name)
    (there,) = live.programs.instances[part.service]
    host, number = next((host, number) for port, host, number in there.endpoints if port == part.port)
    led = LiveRoute(host=part.host, path=part.path, to=f"{host}:{number}")
    routes = {**live.programs.routes, name: led}
    return _recorded(tracked, _record(part, None)), replace(
        live, programs=replace(live.programs, routes=routes)
    )


def _record(part: DesiredService | DesiredJob | DesiredRoute, instance: str | None) -> TrackedComponent:
    made_of = part.inputs_hash if isinstance(part, DesiredJob) else part.definition_hash
    return TrackedComponent(
        component=part.component,
        kind=kind_of(part),
        stage=part.stage,
        definition_hash=made_of,
        definition=to_json(part),
        instance=instance,
    )


def _recorded(tracked: TrackedState, one: TrackedComponent) -> TrackedState:
    components = {**tracked.programs.components, one.component: one}
    return replace(tracked, programs=replace(tracked.programs, components=components))


def _kept(tracked: TrackedState, component: str, produces: Sequence[str], made_of: str) -> TrackedState:
    """All outputs of a component in place of those it had."""
    if not produces:
        return tracked
    kept = {name: one for name, one in tracked.programs.outputs.items() if one.component != component}
    for identity in produces:
        name = identity.removeprefix(f"{component}.")
        kept[identity] = TrackedOutput(component=component, name=name, inputs_hash=made_of)
    return replace(tracked, programs=replace(tracked.programs, outputs=kept))


def _forgotten(tracked: TrackedState, component: str) -> TrackedState:
    own = tracked.programs
    return replace(
        tracked,
        programs=TrackedPrograms(
            components={name: one for name, one in own.components.items() if name != component},
            outputs={name: one for name, one in own.outputs.items() if one.component != component},
            jobs={name: one for name, one in own.jobs.items() if name != component},
            stopped=own.stopped,
            started=own.started,
            ran=own.ran,
        ),
    )


def ids(plan: DeploymentPlan) -> list[tuple[str, list[str]]]:
    """The stages with anything to do, each with the ids of its steps."""
    return [(stage.name, [step.id for step in stage.steps]) for stage in plan.stages if stage.steps]
