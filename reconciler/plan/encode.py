"""Plans to JSON values and back, without loss: what the API answers and what an operation records."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache, lru_cache
from typing import Any

from reconciler.diff.model import Action, Divergence, DivergencePolicy, DivergenceSort, Drift, PendingChange
from reconciler.errors import Refused
from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.model import DeploymentPlan, LeftDeployment, ObjectsAsked, Plan, PlanStage, Scope
from reconciler.plan.steps import (
    AdoptDatabase,
    AlterObjects,
    AnyStep,
    CheckGate,
    ConsumeOutputs,
    CreateDatabase,
    CreateExtension,
    CreateRole,
    DeployChange,
    DiscardObjects,
    DropDatabase,
    ForgetJob,
    InstallTracking,
    PrepareProgram,
    PromoteObjects,
    ProvideAccess,
    ReadyObjects,
    RecordChange,
    RecordTag,
    RemoveRoute,
    RemoveService,
    RenameChange,
    RevertChange,
    RollService,
    RunDeferred,
    RunJob,
    SetRoute,
    StageObjects,
    Step,
    StepKind,
    TakeBaseLine,
    VerifyRemaining,
)
from reconciler.state.registry import RegistryKind
from reconciler.state.removal import Removal
from reconciler.state.task import ModuleTask, TaskVerb

_STEP_CLASSES: Mapping[StepKind, type[Step]] = {
    StepKind.CREATE_DATABASE: CreateDatabase,
    StepKind.ADOPT_DATABASE: AdoptDatabase,
    StepKind.INSTALL_TRACKING: InstallTracking,
    StepKind.TAKE_BASE_LINE: TakeBaseLine,
    StepKind.CREATE_ROLE: CreateRole,
    StepKind.CREATE_EXTENSION: CreateExtension,
    StepKind.DEPLOY_CHANGE: DeployChange,
    StepKind.RECORD_TAG: RecordTag,
    StepKind.RENAME_CHANGE: RenameChange,
    StepKind.RECORD_CHANGE: RecordChange,
    StepKind.REVERT_CHANGE: RevertChange,
    StepKind.VERIFY_REMAINING: VerifyRemaining,
    StepKind.DISCARD_OBJECTS: DiscardObjects,
    StepKind.STAGE_OBJECTS: StageObjects,
    StepKind.READY_OBJECTS: ReadyObjects,
    StepKind.PROMOTE_OBJECTS: PromoteObjects,
    StepKind.ALTER_OBJECTS: AlterObjects,
    StepKind.RUN_DEFERRED: RunDeferred,
    StepKind.CHECK_GATE: CheckGate,
    StepKind.PROVIDE_ACCESS: ProvideAccess,
    StepKind.PREPARE_PROGRAM: PrepareProgram,
    StepKind.ROLL_SERVICE: RollService,
    StepKind.RUN_JOB: RunJob,
    StepKind.SET_ROUTE: SetRoute,
    StepKind.REMOVE_ROUTE: RemoveRoute,
    StepKind.REMOVE_SERVICE: RemoveService,
    StepKind.FORGET_JOB: ForgetJob,
    StepKind.DROP_DATABASE: DropDatabase,
    StepKind.CONSUME_OUTPUTS: ConsumeOutputs,
}


def step_to_json(step: AnyStep) -> dict[str, Any]:
    """One step as a JSON value."""
    value = _fields(step)
    value["kind"] = step.kind.value
    value["hazards"] = [_hazard_to_json(hazard) for hazard in step.hazards]
    return value


@lru_cache(maxsize=256)
def _hazard_to_json(hazard: Hazard) -> dict[str, str]:
    """One value for equal hazards: thousands of steps may have the same."""
    return {"code": hazard.code.value, "message": hazard.message}


@lru_cache(maxsize=256)
def _hazard(code: str, message: str) -> Hazard:
    return Hazard(code=HazardCode(code), message=message)


def step_from_json(value: Mapping[str, Any]) -> AnyStep:
    """The step of which `step_to_json` made `value`. Raises Refused where another version made it."""
    try:
        kind = StepKind(value["kind"])
        hazards = tuple(_hazard(hazard["code"], hazard["message"]) for hazard in value["hazards"])
        plain: dict[str, Any] = {key: _tuples(each) for key, each in value.items()}
        step: AnyStep = _STEP_CLASSES[kind](**(plain | {"kind": kind, "hazards": hazards}))  # type: ignore[assignment]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"the plan has a step '{value.get('kind')}' that this version of pg-reconciler does not know",
            hint="another version made the plan: run the same one everywhere, and try again",
        ) from error
    return step


def _tuples(value: Any) -> Any:
    """JSON knows no tuples, and steps have no lists."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def task_from_json(value: Mapping[str, Any] | None) -> ModuleTask | None:
    """What a plan was asked for; None is everything."""
    if value is None:
        return None
    kind = value.get("adopt_from")
    words = {"verb": TaskVerb(value["verb"]), "adopt_from": RegistryKind(kind) if kind is not None else None}
    return ModuleTask(**{**value, **words})


def deployment_to_json(plan: DeploymentPlan) -> dict[str, Any]:
    """The plan of one deployment as a JSON value."""
    return {
        "name": plan.name,
        "digest": plan.digest,
        "base": plan.base,
        "held": plan.held,
        "unavailable": plan.unavailable,
        "task": asdict(plan.task) if plan.task is not None else None,
        **({"gate": True} if plan.gated else {}),
        **({"wave": plan.wave} if plan.wave else {}),
        "prune_from": plan.prune_from,
        **({"redeploy_schemas": sorted(plan.asked.redeploy)} if plan.asked.redeploy else {}),
        **({"keep_failed": True} if plan.asked.keep_failed else {}),
        **({"scope": plan.scope.value} if plan.scope is not Scope.FULL else {}),
        **({"removal": {"databases": list(plan.removal.databases)}} if plan.removal is not None else {}),
        "warnings": list(plan.warnings),
        "skipped": list(plan.skipped),
        "left_out": list(plan.left_out),
        "kept_outputs": list(plan.kept_outputs),
        "wanted_outputs": list(plan.wanted_outputs),
        "blocked": list(plan.blocked),
        "refused": list(plan.refused),
        "diverged": [_plain(row) for row in plan.diverged],
        "pending": [_plain(row) for row in plan.pending],
        "drift": [_plain(row) for row in plan.drift],
        "plan": {
            "stages": [
                {
                    "name": stage.name,
                    "skipped": stage.skipped,
                    "steps": [step_to_json(step) for step in stage.steps],
                }
                for stage in plan.stages
            ]
        },
    }


def deployment_from_json(value: Mapping[str, Any]) -> DeploymentPlan:
    """The plan of which `deployment_to_json` made `value`."""
    return DeploymentPlan(
        name=value["name"],
        digest=value["digest"],
        base=value["base"],
        held=value["held"],
        unavailable=value["unavailable"],
        task=task_from_json(value.get("task")),
        wave=value.get("wave", 0),
        prune_from=value.get("prune_from"),
        warnings=tuple(value.get("warnings", ())),
        skipped=tuple(value.get("skipped", ())),
        asked=ObjectsAsked(
            redeploy=frozenset(value.get("redeploy_schemas", ())), keep_failed=value.get("keep_failed", False)
        ),
        scope=Scope(value.get("scope", Scope.FULL.value)),
        left_out=tuple(value.get("left_out", ())),
        kept_outputs=tuple(value.get("kept_outputs", ())),
        wanted_outputs=tuple(value.get("wanted_outputs", ())),
        removal=Removal(databases=tuple(value["removal"]["databases"])) if "removal" in value else None,
        blocked=tuple(value["blocked"]),
        refused=tuple(value["refused"]),
        diverged=tuple(
            Divergence(
                component=row["component"],
                identity=row["identity"],
                sort=DivergenceSort(row["sort"]),
                policy=DivergencePolicy(row["policy"]),
                detail=row["detail"],
            )
            for row in value["diverged"]
        ),
        pending=tuple(PendingChange(**{**row, "action": Action(row["action"])}) for row in value["pending"]),
        drift=tuple(Drift(**{**row, "action": Action(row["action"])}) for row in value["drift"]),
        stages=tuple(
            PlanStage(
                name=stage["name"],
                skipped=stage["skipped"],
                steps=tuple(step_from_json(step) for step in stage["steps"]),
            )
            for stage in value["plan"]["stages"]
        ),
    )


def to_json(plan: Plan) -> dict[str, Any]:
    """The whole plan as a JSON value: what `GET …/diff` and `diff --output json` give."""
    return {
        "environment": plan.environment,
        "commit": plan.commit,
        "scope": plan.scope.value,
        "in_sync": plan.in_sync,
        "digest": plan.digest,
        "deployments": [deployment_to_json(deployment) for deployment in plan.deployments],
        "left": [{**asdict(row), "databases": list(row.databases)} for row in plan.left],
    }


def left_from_json(value: Mapping[str, Any]) -> LeftDeployment:
    """The deployment that left of which `to_json` made `value`."""
    return LeftDeployment(**{**value, "databases": tuple(value["databases"])})


def _plain(row: PendingChange | Drift | Divergence) -> dict[str, str]:
    return {name: _word(value) for name, value in _fields(row).items()}


def _word(value: Any) -> str:
    return value if type(value) is str else str(getattr(value, "value", value))


def _fields(value: object) -> dict[str, Any]:
    """The fields of a dataclass with their values, which need no copies: a plan has thousands of a kind."""
    kind: Any = type(value)
    return {name: getattr(value, name) for name in _names(kind)}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
