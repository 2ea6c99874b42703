"""Account for the outputs of a plan: what a step needs is there by then, and what one makes is wanted."""

from collections.abc import Iterable, Sequence

from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.programs import consumed, produced
from reconciler.plan.steps import AnyStep, ConsumeOutputs, RunJob
from reconciler.state import outputs
from reconciler.state.desired import DesiredState
from reconciler.state.programs import ENDINGS
from reconciler.state.tracked import TrackedState


def accounts(
    desired: DesiredState, tracked: TrackedState, steps: Sequence[AnyStep]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Outputs that steps need and that are kept already, and those that steps make for who has no step."""
    made = {output for step in steps for output in produced(step)}
    needed = {output for step in steps for output in consumed(step)}
    if not made and not needed:
        return (), ()
    wanted = {
        f"{component}.{name}" for component, names in outputs.consumed(desired).items() for name in names
    }
    versions = outputs.versions(desired)
    kept = {
        name
        for name, one in tracked.programs.outputs.items()
        if versions.get(one.component) == one.inputs_hash
    }
    # What ends takes them as they are, for nothing makes them any more.
    last = {output for step in steps if _ends(step) for output in consumed(step)}
    kept |= last & tracked.programs.outputs.keys()
    return tuple(sorted((needed - made) & kept)), tuple(sorted((made - needed) & wanted))


def _ends(step: AnyStep) -> bool:
    return isinstance(step, RunJob) and step.trigger in ENDINGS


def check_outputs(plan: DeploymentPlan) -> Iterable[str]:
    """Say what does not add up in a plan; this is asked before its first step."""
    made: dict[str, str] = {}
    needed: set[str] = set()
    missing: set[str] = set()
    kept = set(plan.kept_outputs)
    for stage in plan.stages:
        for step in stage.steps:
            if isinstance(step, ConsumeOutputs) and plan.scope is not Scope.PROVISION_ONLY:
                yield f"step {step.id} takes outputs of others, which only provision-only plans do"
            for output in consumed(step):
                needed.add(output)
                if output not in made and output not in kept:
                    missing.add(output)
            for output in produced(step):
                if output in made:
                    yield f"output {output} is made twice, by {made[output]} and by {step.id}"
                made.setdefault(output, step.id)
    if missing:
        yield f"outputs are needed that nothing makes before: {', '.join(sorted(missing))}"
    unused = set(made) - needed - set(plan.wanted_outputs)
    if unused:
        yield f"outputs are made that nobody needs: {', '.join(sorted(unused))}"
