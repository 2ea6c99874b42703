"""The steps of what a person asks of change modules: reverts, and records of what was not run."""

from collections.abc import Iterable
from functools import lru_cache

from reconciler.diff.model import ModuleDiff, Reverts, ToRevert
from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.steps import RecordChange, RevertChange, StepKind, VerifyRemaining
from reconciler.state.desired import DesiredChange

REVERTS = "what it made is taken back"
DELETES = "its revert script drops or empties something that holds data"
REWRITES = "its revert script rewrites a whole table under an exclusive lock"
UNSEEN = "it is recorded as deployed, and nobody looks whether it is"
_MESSAGES = {HazardCode.DELETES_DATA: DELETES, HazardCode.REWRITES_TABLE: REWRITES}


def revert_steps(part: Reverts) -> Iterable[RevertChange | VerifyRemaining]:
    """A step for each change to take back, newest first; behind them one that verifies what remains."""
    for one in part.changes:
        if one.script is None:
            continue
        change = one.change
        yield RevertChange(
            id=f"{one.component}/{StepKind.REVERT_CHANGE.value}/{one.project}:{change.name}",
            kind=StepKind.REVERT_CHANGE,
            component=one.component,
            identity=f"change {change.name}",
            database=part.database,
            project=one.project,
            change_id=change.change_id,
            change=change.name,
            script=one.script.path,
            stored=one.stored,
            hazards=_hazards(tuple(hazards_of_revert(one))),
        )
    if part.verify:
        yield VerifyRemaining(
            id=f"{part.component}/{StepKind.VERIFY_REMAINING.value}/{part.project}",
            kind=StepKind.VERIFY_REMAINING,
            component=part.component,
            identity=f"what remains in database {part.database}",
            database=part.database,
            project=part.project,
        )


@lru_cache(maxsize=256)
def _hazards(found: tuple[tuple[HazardCode, str], ...]) -> tuple[Hazard, ...]:
    """One value for equal ones: thousands of changes may have the same."""
    return tuple(Hazard(code=code, message=message) for code, message in found)


def hazards_of_revert(one: ToRevert) -> Iterable[tuple[HazardCode, str]]:
    """Taking a change back is one by itself, whatever its script holds."""
    yield HazardCode.REVERTS_CHANGE, REVERTS
    for code, message in _MESSAGES.items():
        if code.value in one.hazards:
            yield code, message
    if one.doubt is not None:
        yield HazardCode.REPEATS_STATEMENT, one.doubt


def record_step(part: ModuleDiff, change: DesiredChange) -> RecordChange:
    """A step that records a change and runs nothing."""
    module = part.desired
    adopted = part.adopted.get(change.change_id)
    return RecordChange(
        id=f"{module.component}/{StepKind.RECORD_CHANGE.value}/{change.name}",
        kind=StepKind.RECORD_CHANGE,
        component=module.component,
        identity=f"change {change.name}",
        database=module.database,
        project=module.project,
        change_id=change.change_id,
        change=change.name,
        script=change.deploy.path,
        script_hash=change.script_hash,
        late=change.change_id in part.late,
        recorded_id=adopted.recorded_id if adopted is not None else None,
        recorded_name=adopted.recorded_name if adopted is not None else None,
        recorded_hash=adopted.script_hash if adopted is not None else None,
        deployed_at=adopted.deployed_at if adopted is not None else None,
        hazards=(Hazard(code=HazardCode.RECORDS_UNSEEN, message=UNSEEN),),
    )
