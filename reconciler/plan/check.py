"""Hold a finished plan against the rules every plan keeps, before its first step runs."""

from collections.abc import Sequence

from reconciler.plan.model import DeploymentPlan
from reconciler.plan.outputs import check_outputs
from reconciler.plan.steps import CreateDatabase, DeployChange


def check(plan: DeploymentPlan) -> Sequence[str]:
    """Say what is wrong with the plan; nothing, for a plan that `build` made.

    A plan comes back from the database before it is carried out, so it is looked at again.
    """
    problems = []
    ids = [step.id for step in plan.steps]
    if len(ids) != len(set(ids)):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        problems.append("steps stand in the plan twice: " + ", ".join(twice))
    names = [stage.name for stage in plan.stages]
    if len(names) != len(set(names)):
        problems.append("a stage stands in the plan twice")
    problems += [
        f"stage '{stage.name}' is skipped and has steps"
        for stage in plan.stages
        if stage.skipped is not None and stage.steps
    ]
    created: set[str] = set()
    written: set[str] = set()
    for step in plan.steps:
        if isinstance(step, CreateDatabase):
            if step.database in written:
                problems.append(f"database '{step.database}' is written to before it is created")
            created.add(step.database)
        written.add(step.database)
    modules: dict[str, str] = {}
    for step in plan.steps:
        if isinstance(step, DeployChange):
            other = modules.setdefault(f"{step.database}\0{step.project}", step.component)
            if other != step.component:
                problems.append(
                    f"project '{step.project}' is deployed to '{step.database}' by two components, "
                    f"'{other}' and '{step.component}'"
                )
    problems += check_outputs(plan)
    return problems
