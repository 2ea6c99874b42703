"""Build the plan of one deployment from its diff: stages of steps, hazards, digests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reconciler.diff.model import (
    Action,
    DatabaseDiff,
    DatabaseNeed,
    Diff,
    JobDiff,
    ModuleDiff,
    PendingChange,
    ProgramDiff,
)
from reconciler.frozen import frozen
from reconciler.plan import digest
from reconciler.plan.encode import step_to_json
from reconciler.plan.hazards import NEEDS_CONSENT, Hazard, HazardCode
from reconciler.plan.model import DeploymentPlan, LeftDeployment, Plan, PlanStage, Scope
from reconciler.plan.objects import objects_steps
from reconciler.plan.outputs import accounts
from reconciler.plan.programs import access_step, program_steps
from reconciler.plan.stages import ENDINGS, lay
from reconciler.plan.steps import (
    AdoptDatabase,
    AnyStep,
    CheckGate,
    CreateDatabase,
    CreateExtension,
    CreateRole,
    DeployChange,
    InstallTracking,
    RecordTag,
    RenameChange,
    StepKind,
    TakeBaseLine,
)
from reconciler.plan.tasks import record_step, revert_steps
from reconciler.state.desired import (
    DesiredChange,
    DesiredGate,
    DesiredModule,
    DesiredRole,
    DesiredState,
)
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.program import Purpose, compile_script
from reconciler.state.roles import PRIVILEGED
from reconciler.state.task import ModuleTask
from reconciler.state.tracked import TrackedDatabase, TrackedState
from reconciler.state.units import left_of, resumption, units

HAZARD_MESSAGES: Mapping[str, str] = {
    HazardCode.DELETES_DATA: "its script drops or empties something that holds data",
    HazardCode.REWRITES_TABLE: "its script rewrites a whole table under an exclusive lock",
    HazardCode.NOT_TRANSACTIONAL: "its script cannot run in a transaction",
}

GATE_STAGE = "wave gate"
"""The last stage, behind those of the spec; none of these can have a blank in its name."""
TOLD_MAX = 3
_TOLD_TOGETHER = frozenset({StepKind.REVERT_CHANGE, StepKind.RECORD_CHANGE})

RECREATES = "it was managed before and is gone; an empty one would take its place"


@frozen
class Consent:
    """Which hazards may be taken: by the spec's policy, or by the person who asked for the rollout."""

    allowed: frozenset[str] = frozenset()


def build(
    desired: DesiredState,
    diff: Diff,
    states: tuple[TrackedState, LiveState],
    *,
    scope: Scope = Scope.FULL,
    consent: Consent | None = None,
    held: str | None = None,
    task: ModuleTask | None = None,
    gate_due: bool = False,
) -> DeploymentPlan:
    """Make the plan; the same inputs give the same plan, byte for byte.

    `task`: what the diff was narrowed to. `gate_due`: the gate is asked also where nothing else is to do.
    """
    consent = consent or Consent()
    steps_by_component = _steps(diff, states[0], log_only=task is not None and task.log_only)
    reverts = [(part, tuple(revert_steps(part))) for part in diff.reverts]
    laid = lay(desired, diff, steps_by_component, reverts)
    stages = laid.stages
    works = any(stage.steps for stage in stages)
    pending = diff.pending
    if desired.gate is not None and task is None and (works or gate_due):
        stages = (*stages, PlanStage(name=GATE_STAGE, steps=(_gate_step(desired.gate),)))
        pending = pending if works else (*pending, _gate_pending(desired.gate))
    base = digest.digest(_base(desired, diff, *states))
    kept, wanted = accounts(desired, states[0], [step for stage in stages for step in stage.steps])
    body: dict[str, Any] = {
        "environment": desired.environment,
        "deployment": desired.deployment,
        "commit": desired.commit,
        "scope": scope.value,
        "base": base,
        "stages": ({"name": stage.name, "steps": map(step_to_json, stage.steps)} for stage in stages),
    }
    if task is not None:
        body["task"] = asdict(task)
    if desired.prune_from is not None:
        body["prune_from"] = desired.prune_from
    if kept or wanted:
        body["outputs"] = [kept, wanted]
    return DeploymentPlan(
        name=desired.deployment,
        base=base,
        digest=digest.digest(body),
        stages=stages,
        pending=pending,
        drift=diff.drift,
        diverged=diff.diverged,
        blocked=(*diff.blocked, *laid.waiting),
        refused=tuple(_refused(laid.every_step, consent)),
        held=held,
        task=task,
        wave=desired.wave,
        prune_from=desired.prune_from,
        warnings=diff.warnings,
        skipped=desired.skipped,
        scope=scope,
        left_out=tuple(left.component for left in desired.left_out),
        kept_outputs=kept,
        wanted_outputs=wanted,
    )


def _gate_step(gate: DesiredGate) -> CheckGate:
    return CheckGate(
        id=f"{gate.component}/{StepKind.CHECK_GATE.value}/{gate.wave}",
        kind=StepKind.CHECK_GATE,
        component=gate.component,
        identity=f"gate of wave {gate.wave}",
        database=gate.database,
        wave=gate.wave,
        sql=gate.sql,
        timeout_s=gate.timeout_s,
    )


def _gate_pending(gate: DesiredGate) -> PendingChange:
    return PendingChange(
        component=gate.component,
        identity=f"gate of wave {gate.wave}",
        action=Action.CHANGE,
        reason="not passed when it was asked last",
    )


def _refused(steps: Sequence[AnyStep], consent: Consent) -> Iterable[str]:
    """What nobody consented to; a long row of the same is told once, with how many there are."""
    rows: dict[tuple[str, StepKind, Hazard], list[str]] = {}
    for step in steps:
        for hazard in step.hazards:
            if hazard.code in NEEDS_CONSENT and hazard.code.value not in consent.allowed:
                rows.setdefault((step.component, step.kind, hazard), []).append(step.identity)
    for (component, kind, hazard), identities in rows.items():
        what = f"hazard {hazard.code.value}: {hazard.message}"
        if kind in _TOLD_TOGETHER and len(identities) > TOLD_MAX:
            more = f"{', '.join(identities[:TOLD_MAX])} and {len(identities) - TOLD_MAX} more"
            yield f"{component}: {more}: {what}"
            continue
        yield from (f"{component}: {identity}: {what}" for identity in identities)


def unavailable(desired: DesiredState, why: str) -> DeploymentPlan:
    """The plan of a deployment that could not be read: nothing is known, so nothing is done."""
    stages = tuple(
        PlanStage(name=name, steps=(), skipped="the deployment could not be read") for name in desired.stages
    )
    return DeploymentPlan(
        name=desired.deployment,
        base="",
        digest=digest.digest([desired.environment, desired.deployment, desired.commit, "unavailable"]),
        stages=stages,
        unavailable=why,
        wave=desired.wave,
        prune_from=desired.prune_from,
    )


def whole(
    environment: str,
    commit: str,
    scope: Scope,
    deployments: Sequence[DeploymentPlan],
    left: Sequence[LeftDeployment] = (),
) -> Plan:
    """Put the plans of an environment's deployments together; what is told of left ones is in no digest."""
    parts = [environment, commit, scope.value, [(part.name, part.digest) for part in deployments]]
    return Plan(
        environment=environment,
        commit=commit,
        scope=scope,
        digest=digest.digest(parts),
        deployments=tuple(deployments),
        left=tuple(left),
    )


def _steps(diff: Diff, tracked: TrackedState, *, log_only: bool = False) -> dict[str, tuple[AnyStep, ...]]:
    steps: dict[str, tuple[AnyStep, ...]] = {}
    for database in diff.databases:
        if not database.blocked:
            steps[database.desired.component] = tuple(_database_steps(database))
    for module in diff.modules:
        if not module.blocked:
            steps[module.desired.component] = tuple(
                _module_steps(module, tracked.databases.get(module.desired.database), log_only=log_only)
            )
    for objects in diff.objects:
        if not objects.blocked:
            steps[objects.desired.component] = tuple(objects_steps(objects))
    for program in diff.programs:
        if not program.blocked and not _ends(program):
            steps[program.desired.component] = tuple(program_steps(program))
    return steps


def _ends(part: ProgramDiff) -> bool:
    """Whether it runs for the end of its environment, which has stages of its own."""
    return isinstance(part, JobDiff) and part.trigger in ENDINGS


def _database_steps(part: DatabaseDiff) -> Iterable[AnyStep]:
    component, database = part.desired.component, part.desired.database
    identity = f"database {database}"
    match part.need:
        case DatabaseNeed.CREATE | DatabaseNeed.RECREATE:
            again = part.need is DatabaseNeed.RECREATE
            yield CreateDatabase(
                id=f"{component}/{StepKind.CREATE_DATABASE.value}",
                kind=StepKind.CREATE_DATABASE,
                component=component,
                identity=identity,
                database=database,
                hazards=(Hazard(code=HazardCode.RECREATES_DATABASE, message=RECREATES),) if again else (),
            )
        case DatabaseNeed.ADOPT | DatabaseNeed.ADOPT_COPY:
            copy = part.need is DatabaseNeed.ADOPT_COPY
            hazard = Hazard(code=HazardCode.ADOPTS_DATABASE_COPY, message=part.reason)
            yield AdoptDatabase(
                id=f"{component}/{StepKind.ADOPT_DATABASE.value}",
                kind=StepKind.ADOPT_DATABASE,
                component=component,
                identity=identity,
                database=database,
                copy=copy,
                hazards=(hazard,) if copy else (),
            )
        case DatabaseNeed.UPGRADE_TRACKING:
            yield InstallTracking(
                id=f"{component}/{StepKind.INSTALL_TRACKING.value}",
                kind=StepKind.INSTALL_TRACKING,
                component=component,
                identity=identity,
                database=database,
            )
        case DatabaseNeed.TAKE_BASE_LINE:
            yield TakeBaseLine(
                id=f"{component}/{StepKind.TAKE_BASE_LINE.value}",
                kind=StepKind.TAKE_BASE_LINE,
                component=component,
                identity=identity,
                database=database,
            )
        case None:
            pass
    for role in part.roles:
        yield _role_step(component, database, role)
    for extension, _why in part.extensions:
        yield _extension_step(component, database, extension)
    yield from access_step(part)


def _role_step(component: str, database: str, role: DesiredRole) -> CreateRole:
    attributes = tuple(name for name, wanted in role.attributes if wanted)
    gets = [name for name in attributes if name in PRIVILEGED]
    gets += [f"membership of '{group}'" for group in role.outside]
    hazard = Hazard(
        code=HazardCode.PRIVILEGED_ROLE,
        message=f"it gets what reaches beyond its database: {', '.join(gets)}",
    )
    return CreateRole(
        id=f"{component}/{StepKind.CREATE_ROLE.value}/{role.name}",
        kind=StepKind.CREATE_ROLE,
        component=component,
        identity=f"role {role.name}",
        database=database,
        role=role.name,
        attributes=attributes,
        member_of=role.member_of,
        with_password=role.password is not None,
        hazards=(hazard,) if gets else (),
    )


def _extension_step(component: str, database: str, extension: str) -> CreateExtension:
    return CreateExtension(
        id=f"{component}/{StepKind.CREATE_EXTENSION.value}/{extension}",
        kind=StepKind.CREATE_EXTENSION,
        component=component,
        identity=f"extension {extension}",
        database=database,
        extension=extension,
    )


def _deploy_hazards(
    module: DesiredModule, change: DesiredChange, there: TrackedDatabase | None
) -> Iterable[Hazard]:
    """What its script does, and what running it once more may do where it was interrupted."""
    yield from (Hazard(code=HazardCode(code), message=HAZARD_MESSAGES[code]) for code in change.hazards)
    left = (
        left_of(there.unfinished, (change.change_id, change.name), module.project)
        if there is not None
        else None
    )
    if left is not None:
        program = compile_script(change.deploy, purpose=Purpose.DEPLOY)
        doubt = resumption(program, units(program), left).doubt
        if doubt is not None:
            yield Hazard(code=HazardCode.REPEATS_STATEMENT, message=doubt)


def _module_steps(part: ModuleDiff, there: TrackedDatabase | None, *, log_only: bool) -> Iterable[AnyStep]:
    module = part.desired
    for extension in part.extensions:
        yield _extension_step(module.component, module.database, extension)
    for rename in part.renames:
        yield RenameChange(
            id=f"{module.component}/{StepKind.RENAME_CHANGE.value}/{rename.change.name}",
            kind=StepKind.RENAME_CHANGE,
            component=module.component,
            identity=f"change {rename.change.name}",
            database=module.database,
            project=module.project,
            change_id=rename.change_id,
            change=rename.change.name,
        )
    # Before what is new: a rework names the older instance for the tag that stands between.
    for change, tag in part.tags:
        yield RecordTag(
            id=f"{module.component}/{StepKind.RECORD_TAG.value}/@{tag}",
            kind=StepKind.RECORD_TAG,
            component=module.component,
            identity=f"tag @{tag}",
            database=module.database,
            project=module.project,
            change_id=change.change_id,
            change=change.name,
            tag=tag,
            recorded_id=part.recorded_ids.get(change.change_id),
        )
    for change in part.deploy:
        if log_only or change.change_id in part.adopted:
            yield record_step(part, change)
            continue
        yield DeployChange(
            id=f"{module.component}/{StepKind.DEPLOY_CHANGE.value}/{change.name}",
            kind=StepKind.DEPLOY_CHANGE,
            component=module.component,
            identity=f"change {change.name}",
            database=module.database,
            project=module.project,
            change_id=change.change_id,
            change=change.name,
            script=change.deploy.path,
            script_hash=change.script_hash,
            transaction=module.transaction.value,
            late=change.change_id in part.late,
            transactional=change.transactional,
            hazards=tuple(_deploy_hazards(module, change, there)),
        )


def _base(desired: DesiredState, diff: Diff, tracked: TrackedState, live: LiveState) -> dict[str, Any]:
    """What the steps read or touch of tracked and live state, and nothing else.

    So a plan is not made stale by what happens elsewhere on the server.
    """
    touched = {part.desired.database for part in diff.databases if part.works}
    touched |= {part.desired.database for part in diff.modules if part.works}
    touched |= {part.desired.database for part in diff.objects if part.works}
    reverting = {part.database for part in diff.reverts if part.works}
    touched |= reverting
    base: dict[str, Any] = {}
    for name in sorted(touched):
        there = live.databases.get(name, LiveDatabase())
        recorded = tracked.databases.get(name, TrackedDatabase())
        wanted = {
            need for part in diff.databases if part.desired.database == name for need, _ in part.extensions
        }
        wanted.update(
            need for part in diff.modules if part.desired.database == name for need in part.extensions
        )
        roles = [role.name for part in diff.databases if part.desired.database == name for role in part.roles]
        identity = there.identity
        base[name] = {
            "exists": there.exists,
            "identity": [identity.system_identifier, identity.database_oid, identity.server_major]
            if identity
            else None,
            "tracking": recorded.version if recorded.installed else None,
            "extensions": sorted(wanted),
            "modules": {
                part.desired.project: [
                    change.change_id for change in _recorded(recorded, part.desired.project)
                ]
                for part in diff.modules
                if part.desired.database == name and part.works
            },
        }
        if roles:
            base[name]["roles"] = sorted(roles)
        # What is live of objects is in the keys of their generations.
        objects = {
            part.desired.component: [part.generation.key, [one.key for one in part.discard]]
            for part in diff.objects
            if part.desired.database == name and part.works
        }
        if objects:
            base[name]["objects"] = objects
        if name in reverting:
            base[name]["modules"] = {
                project: [change.change_id for change in module.changes]
                for project, module in sorted(recorded.modules.items())
            }
    programs = _base_of_programs(diff, tracked, live)
    whole: dict[str, Any] = {"deployment": desired.deployment, "databases": base}
    return {**whole, "programs": programs} if programs else whole


def _base_of_programs(diff: Diff, tracked: TrackedState, live: LiveState) -> dict[str, Any]:
    """What is recorded and what is there of the services, jobs and routes that are touched."""
    own, there = tracked.programs, live.programs
    touched = [part.desired.component for part in diff.programs if part.works]
    touched += [part.tracked.component for part in diff.left if part.removes]
    found: dict[str, Any] = {}
    for name in sorted(touched):
        one = own.components.get(name)
        route = there.routes.get(name)
        found[name] = [
            [one.definition_hash, one.instance, one.applying] if one is not None else None,
            own.jobs.get(name),
            sorted(instance.instance for instance in there.instances.get(name, ())),
            [route.to, route.edited] if route is not None else None,
        ]
    return found


def _recorded(recorded: TrackedDatabase, project: str) -> Sequence[Any]:
    module = recorded.modules.get(project)
    return module.changes if module is not None else ()
