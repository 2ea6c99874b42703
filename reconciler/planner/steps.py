"""Turns the steps of a plan into rows to record; it records nothing."""

from reconciler.control.rollouts import NewStep
from reconciler.plan.model import DeploymentPlan


def steps_of(plan: DeploymentPlan) -> tuple[NewStep, ...]:
    """The steps of a plan as rows to record."""
    rows = [(stage.name, step) for stage in plan.stages for step in stage.steps]
    return tuple(
        NewStep(
            id=step.id,
            ordinal=ordinal,
            stage=stage,
            kind=step.kind.value,
            component=step.component,
            identity=step.identity,
        )
        for ordinal, (stage, step) in enumerate(rows)
    )
