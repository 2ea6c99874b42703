"""Says to which databases one session of the server is enough for a whole operation; it opens none."""

import re
from collections import Counter

from reconciler.plan.model import DeploymentPlan
from reconciler.plan.steps import DeployChange
from reconciler.state.desired import DesiredChange, DesiredState
from reconciler.state.program import Purpose, compile_script

_KEPT_BY_A_SESSION = re.compile(r"advisory|deallocate|discard", re.IGNORECASE)
"""Words of what could let go of the fence's lock, or of what was prepared."""


def enough_with_one(plan: DeploymentPlan, desired: DesiredState) -> frozenset[str]:
    """The databases in which one change is all there is to do, and its scripts leave what is ours alone.

    With several changes, what the first one leaves in the session would have to be taken from the next, and
    our lock with it; and nobody could look on between them.
    """
    steps = [step for stage in plan.stages for step in stage.steps]
    count = Counter(step.database for step in steps)
    known = {change.change_id: change for module in desired.modules for change in module.changes}
    return frozenset(
        step.database
        for step in steps
        if count[step.database] == 1
        and isinstance(step, DeployChange)
        and step.change_id in known
        and _leaves_ours_alone(known[step.change_id])
    )


def _leaves_ours_alone(change: DesiredChange) -> bool:
    """Whether scripts run in one transaction and name nothing that a session keeps beyond it."""
    if not change.transactional:
        return False
    scripts = [(change.deploy, Purpose.DEPLOY)]
    if change.verify is not None:
        scripts.append((change.verify, Purpose.VERIFY))
    programs = [compile_script(script, purpose=purpose) for script, purpose in scripts]
    return not any(
        _KEPT_BY_A_SESSION.search(statement.text) for program in programs for statement in program.statements
    )
