"""The steps of services, jobs, routes and outputs; what is to be done about each was decided before."""

from collections.abc import Iterable, Mapping, Sequence

from reconciler.diff.model import (
    DatabaseDiff,
    JobDiff,
    LeftComponent,
    ProgramDiff,
    RouteDiff,
    ServiceAction,
    ServiceDiff,
)
from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.steps import (
    AnyStep,
    ConsumeOutputs,
    ForgetJob,
    PrepareProgram,
    ProvideAccess,
    RemoveRoute,
    RemoveService,
    RollService,
    RunJob,
    SetRoute,
    StepKind,
)
from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredDatabase
from reconciler.state.order import topological
from reconciler.state.programs import DesiredProgram
from reconciler.state.tracked import TrackedComponent

NO_DATABASE = ""
"""What stands for the database of a step that writes to none."""
LEAVES_DATA = "its new instance does not get the data {}, which stays where it is"
HOLDS_DATA = "it holds data; the folders stay where they are, and nobody looks after them any more"


def access_step(part: DatabaseDiff) -> Iterable[ProvideAccess]:
    """The step that makes the roles others get into a database with; none where they are there."""
    access = part.desired.access
    if access is None or part.access is None:
        return
    component, database = part.desired.component, part.desired.database
    yield ProvideAccess(
        id=f"{component}/{StepKind.PROVIDE_ACCESS.value}",
        kind=StepKind.PROVIDE_ACCESS,
        component=component,
        identity=f"access to database {database}",
        database=database,
        owner=access.owner,
        reader=access.reader,
        inputs_hash=access.inputs_hash,
        produces=tuple(f"{component}.{name}" for name in access.outputs),
        consumes=server_consumes(part.desired),
    )


def server_consumes(database: DesiredDatabase) -> tuple[str, ...]:
    """The outputs that the daemon signs in with on the server of a database."""
    on = database.on
    values = (on.user, on.password) if on is not None else ()
    return tuple(str(value) for value in values if isinstance(value, OutputReference))


def program_steps(part: ProgramDiff) -> Iterable[AnyStep]:
    """The steps of one service, job or route, in order."""
    match part:
        case ServiceDiff():
            yield from _service_steps(part)
        case JobDiff():
            yield from _job_steps(part)
        case RouteDiff():
            yield from _route_steps(part)


def _service_steps(part: ServiceDiff) -> Iterable[AnyStep]:
    own = part.desired
    if part.action is None:
        return
    if part.action is not ServiceAction.SETTLE:
        yield _prepare(own.component, "service", own.program)
    yield RollService(
        id=f"{own.component}/{StepKind.ROLL_SERVICE.value}",
        kind=StepKind.ROLL_SERVICE,
        component=own.component,
        identity=f"service {own.component}",
        database=NO_DATABASE,
        runtime=own.program.runtime.value,
        instance=own.instance,
        definition_hash=own.definition_hash,
        action=part.action.value,
        beside=part.beside,
        replaces=part.replaces,
        routes=part.routes,
        consumes=part.consumes,
        produces=part.produces,
        outputs_hash=part.outputs_hash,
        hazards=tuple(_leaving(part)),
    )


def _leaving(part: ServiceDiff) -> Iterable[Hazard]:
    if part.leaves:
        names = ", ".join(f"'{name}'" for name in part.leaves)
        yield Hazard(code=HazardCode.REMOVES_SERVICE, message=LEAVES_DATA.format(names))


def _job_steps(part: JobDiff) -> Iterable[AnyStep]:
    own = part.desired
    if part.trigger is None:
        return
    yield _prepare(own.component, "job", own.program)
    yield RunJob(
        id=f"{own.component}/{StepKind.RUN_JOB.value}",
        kind=StepKind.RUN_JOB,
        component=own.component,
        identity=f"job {own.component}",
        database=NO_DATABASE,
        runtime=own.program.runtime.value,
        trigger=part.trigger.value,
        inputs_hash=own.inputs_hash,
        timeout_s=own.timeout_s,
        attempts=own.attempts,
        consumes=part.consumes,
        produces=part.produces,
    )


def _route_steps(part: RouteDiff) -> Iterable[AnyStep]:
    own = part.desired
    if part.action is None:
        return
    yield SetRoute(
        id=f"{own.component}/{StepKind.SET_ROUTE.value}",
        kind=StepKind.SET_ROUTE,
        component=own.component,
        identity=f"route {own.host}{own.path}",
        database=NO_DATABASE,
        proxy=own.proxy,
        host=own.host,
        path=own.path,
        service=own.service,
        port=own.port,
        definition_hash=own.definition_hash,
        heals=part.heals,
        consumes=part.consumes,
    )


def _prepare(component: str, word: str, program: DesiredProgram) -> PrepareProgram:
    return PrepareProgram(
        id=f"{component}/{StepKind.PREPARE_PROGRAM.value}",
        kind=StepKind.PREPARE_PROGRAM,
        component=component,
        identity=f"{word} {component}",
        database=NO_DATABASE,
        runtime=program.runtime.value,
        image=program.image,
        build=program.build.hash if program.build is not None else None,
    )


def left_step(part: LeftComponent) -> RemoveRoute | RemoveService | ForgetJob:
    """The step that removes what left the spec, or ends what is to be off."""
    own = part.tracked
    if own.kind == "Route":
        return remove_route(own)
    if own.kind == "Service":
        return remove_service(own, keeps_record=part.stops)
    return forget_job(own.component)


def remove_route(part: TrackedComponent) -> RemoveRoute:
    """Take a route out of its proxy."""
    host, path = str(part.definition.get("host", "")), str(part.definition.get("path", "/"))
    return RemoveRoute(
        id=f"{part.component}/{StepKind.REMOVE_ROUTE.value}",
        kind=StepKind.REMOVE_ROUTE,
        component=part.component,
        identity=f"route {host}{path}",
        database=NO_DATABASE,
        host=host,
        path=path,
    )


def remove_service(part: TrackedComponent, *, keeps_record: bool = False) -> RemoveService:
    """End a service; what it held as data stays, and that is a hazard unless it is to run again."""
    program = part.definition.get("program", {})
    data = tuple(str(each.get("name", "")) for each in program.get("data", ()))
    doubt = bool(data) and not keeps_record
    return RemoveService(
        id=f"{part.component}/{StepKind.REMOVE_SERVICE.value}",
        kind=StepKind.REMOVE_SERVICE,
        component=part.component,
        identity=f"service {part.component}",
        database=NO_DATABASE,
        runtime=str(program.get("runtime", "")),
        keeps_record=keeps_record,
        data=data,
        hazards=(Hazard(code=HazardCode.REMOVES_SERVICE, message=HOLDS_DATA),) if doubt else (),
    )


def forget_job(component: str) -> ForgetJob:
    """Forget a job that left the spec."""
    return ForgetJob(
        id=f"{component}/{StepKind.FORGET_JOB.value}",
        kind=StepKind.FORGET_JOB,
        component=component,
        identity=f"job {component}",
        database=NO_DATABASE,
    )


def needs_of(definition: Mapping[str, object]) -> frozenset[str]:
    """The components that one needs by its recorded definition: producers, a route's service, edges."""
    found: set[object] = set()
    after = definition.get("after")
    found.update(after if isinstance(after, Sequence) else ())
    found.add(definition.get("service"))
    program = definition.get("program")
    env = program.get("env") if isinstance(program, Mapping) else None
    for _name, value in env or ():
        if isinstance(value, Mapping) and "output" in value:
            found.add(value["from"])
    return frozenset(name for name in found if isinstance(name, str))


def reverse_levels(names: Sequence[str], needs: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """The components in rows, each sorted: nobody is in an earlier row than those of these who need it."""
    ordered = topological(sorted(names), {name: sorted(needs.get(name, ())) for name in names})
    known = set(names)
    level = dict.fromkeys(ordered, 0)
    for name in reversed(ordered):
        for need in needs.get(name, ()):
            if need in known:
                level[need] = max(level[need], level[name] + 1)
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for name in sorted(ordered):
        rows[level[name]].append(name)
    return rows


def sink_step(sink: Sequence[OutputReference], steps: Sequence[AnyStep]) -> ConsumeOutputs | None:
    """The step that takes note of what is made here for consumers that were left out; None for nothing.

    Its outputs are in the order in which they are made.
    """
    wanted = {str(reference) for reference in sink}
    made = [(step.component, output) for step in steps for output in produced(step) if output in wanted]
    if not made:
        return None
    component = made[0][0]
    return ConsumeOutputs(
        id=f"{component}/{StepKind.CONSUME_OUTPUTS.value}",
        kind=StepKind.CONSUME_OUTPUTS,
        component=component,
        identity="outputs for what is left out",
        database=NO_DATABASE,
        consumes=tuple(output for _component, output in made),
    )


def produced(step: AnyStep) -> tuple[str, ...]:
    """The outputs a step makes, as `component.name`."""
    return step.produces if isinstance(step, ProvideAccess | RollService | RunJob) else ()


def consumed(step: AnyStep) -> tuple[str, ...]:
    """The outputs a step needs, as `component.name`."""
    kinds = ProvideAccess | RollService | RunJob | SetRoute | ConsumeOutputs
    return step.consumes if isinstance(step, kinds) else ()
