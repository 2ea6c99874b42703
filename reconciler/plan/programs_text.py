"""What people are shown of the steps of services, jobs, routes and outputs, a line each."""

from collections.abc import Iterable, Sequence

from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.programs import consumed, produced
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
)

NAMED_MAX = 20
"""Names of one list that are shown."""
HASH_CHARACTERS = 12

REMOVES = (RemoveRoute, RemoveService, ForgetJob)


def program_details(step: AnyStep, plan: DeploymentPlan) -> Sequence[str]:
    """Say what a step does, and which outputs it takes and makes; nothing for steps of other kinds."""
    return (*_does(step), *_outputs(step, plan))


def rest_command(environment: str) -> str:
    """The command that rolls out what a provision-only plan leaves out."""
    return f"reconciler apply {environment} --full"


def left_out(plan: DeploymentPlan) -> str | None:
    """What a provision-only plan leaves to another; None where it leaves nothing."""
    return _names(plan.left_out) if plan.scope is Scope.PROVISION_ONLY and plan.left_out else None


def puts_back(plan: DeploymentPlan, component: str) -> bool:
    """Whether a plan puts back what drifted of a service or a route."""
    kinds = RollService | SetRoute
    return any(isinstance(step, kinds) and step.component == component for step in plan.steps)


def _does(step: AnyStep) -> Iterable[str]:
    match step:
        case PrepareProgram():
            yield _prepares(step)
        case RollService():
            yield _rolls(step)
            if step.routes:
                yield f"switch what leads to it: {_names(step.routes)}"
        case RunJob():
            many = f"{step.attempts} attempts" if step.attempts > 1 else "one attempt"
            yield f"for its trigger '{step.trigger}', {many} of {step.timeout_s:g} s at most"
        case SetRoute():
            word = "put it back, to lead" if step.heals else "lead"
            yield f"{word} requests to port '{step.port}' of service '{step.service}'"
        case RemoveService():
            yield from _removes(step)
        case ProvideAccess():
            yield f"roles {step.owner} and {step.reader}, with passwords of their own"
        case _:
            pass


def _prepares(step: PrepareProgram) -> str:
    if step.build is not None:
        return f"build its image from the source ({step.build[:HASH_CHARACTERS]})"
    if step.image is not None:
        return f"pull image {step.image}"
    return f"look whether the runtime '{step.runtime}' can run it"


def _rolls(step: RollService) -> str:
    new, old = step.instance, step.replaces
    if step.action == "settle":
        return f"leave instance {new} as it is, end others of it, and keep its outputs"
    if step.action == "heal":
        return f"put instance {new} back"
    if old is None:
        return f"start instance {new} with the runtime '{step.runtime}'"
    if step.beside:
        return f"start instance {new} beside {old}, and end that once {new} stays healthy"
    return f"end instance {old}, and start {new} in its place"


def _removes(step: RemoveService) -> Iterable[str]:
    if step.keeps_record:
        yield "it is started again with its environment"
    if step.data:
        yield f"its data stays: {_names(step.data)}"


def _outputs(step: AnyStep, plan: DeploymentPlan) -> Iterable[str]:
    taken = consumed(step)
    if taken:
        kept = set(plan.kept_outputs)
        named = [f"{output} (kept from before)" if output in kept else output for output in taken]
        why = ", for what is left out" if isinstance(step, ConsumeOutputs) else ""
        yield f"takes {_names(named)}{why}"
    made = produced(step)
    if made:
        yield f"makes {_names(made)}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{', '.join(names[:NAMED_MAX])}{more}"
