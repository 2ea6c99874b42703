"""Run the steps of a person's deploys and reverts of modules: in order, a safe point between transactions."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from reconciler.diff.model import ToRevert
from reconciler.errors import Refused
from reconciler.execution import reverts
from reconciler.execution.course import Course, Journal
from reconciler.execution.resources import Resources
from reconciler.execution.reverts import Steps
from reconciler.execution.scripts import fault_of, record_of
from reconciler.plan.steps import RecordChange, RevertChange
from reconciler.state.desired import DesiredChange, DesiredModule, TransactionMode
from reconciler.state.program import Purpose
from reconciler.tracking.record import ChangeRecord

AnyTaskStep = RecordChange | RevertChange


class Stopped(Exception):
    """Something that runs beside failed, and nothing more is begun; that one's error is told."""


class _Row:
    """Steps that are carried out one after the other, and how far that is."""

    def __init__(
        self,
        steps: Sequence[AnyTaskStep],
        resources: Resources,
        journal: Journal,
        go_on: Callable[[], None],
    ) -> None:
        self._steps = steps
        self._resources = resources
        self._journal = journal
        self._go_on = go_on
        self._course = Course(steps, journal, resources.interference)
        self.begin = self._course.begin
        self.runs = self._course.runs

    async def done(self) -> None:
        """The step at hand is done, and the next one begins."""
        step = self._steps[self._course.position]
        self._resources.interference.at(f"after {step.id}")
        self._tell(step)
        await self._course.done()

    async def failed(self, error: Exception) -> None:
        """A step failed: the one whose script did, else the one at hand, if there is one."""
        number = self._course.position
        if number < len(self._steps):
            number = self._broken(error, number)
            self._tell(self._steps[number], error)
            await self._course.failed(number, error)

    def _broken(self, error: Exception, position: int) -> int:
        fault = fault_of(error)
        if fault is None or not isinstance(fault.change, ToRevert):
            return position
        change_id = fault.change.change.change_id
        places = range(position, len(self._steps))
        return next((place for place in places if self._steps[place].change_id == change_id), position)

    def _tell(self, step: AnyTaskStep, error: Exception | None = None) -> None:
        if isinstance(step, RevertChange):
            script = self._resources.reverts[step.change_id].script
            self._resources.tell(step, (script, Purpose.REVERT), error=error)

    async def safe_point(self) -> None:
        """Nothing is under way."""
        await self._journal.safe_point()
        self._go_on()

    def written(self) -> None:
        """Script and record are written and not committed yet."""
        self._resources.interference.at(f"inside {self._steps[self._course.position].id}")


async def run_reverts(
    steps: Sequence[RevertChange], resources: Resources, journal: Journal, go_on: Callable[[], None]
) -> None:
    """Take changes of one database back, of whichever modules, in the order of the steps."""
    missing = [step.change for step in steps if step.change_id not in resources.reverts]
    if missing:
        raise Refused(f"nothing says any more how to revert {', '.join(missing[:20])}; plan again")
    session = await resources.session(steps[0].database)
    changes = [resources.reverts[step.change_id] for step in steps]

    together = frozenset(
        module.project
        for module in resources.desired.modules
        if module.database == steps[0].database and module.transaction is TransactionMode.MODULE
    )

    async def carry_out(told: Steps) -> None:
        await reverts.revert(
            session, changes, resources.actor, told, again=resources.repeats, together=together
        )

    await _carry_out(_Row(steps, resources, journal, go_on), carry_out, resources)


async def run_records(
    steps: Sequence[RecordChange],
    module: DesiredModule,
    resources: Resources,
    journal: Journal,
    go_on: Callable[[], None],
) -> None:
    """Record changes of one module as deployed."""
    known = {change.change_id: change for change in module.changes}
    for step in steps:
        if step.change_id not in known or known[step.change_id].script_hash != step.script_hash:
            raise Refused(f"the plan records another version of '{step.script}' than the commit holds")
    session = await resources.session(steps[0].database)
    changes = [_record(known[step.change_id], step) for step in steps]
    # What is taken over is taken over as a whole: half of it would be deployed once more.
    at_once = len(changes) if any(step.deployed_at for step in steps) else reverts.RECORDS_AT_ONCE

    async def carry_out(told: Steps) -> None:
        await reverts.record_only(session, module, changes, resources.actor, told, at_once=at_once)

    await _carry_out(_Row(steps, resources, journal, go_on), carry_out, resources)


def _record(change: DesiredChange, step: RecordChange) -> ChangeRecord:
    """What is recorded: as the commit has the change, or as another tool's registry has it."""
    found = replace(record_of(change), late=step.late)
    if step.deployed_at is None:
        return found
    return replace(
        found,
        change_id=step.recorded_id or found.change_id,
        name=step.recorded_name or found.name,
        script_hash=step.recorded_hash,
        # Of a script that is not this one, nobody knows what it meant.
        parse_hash=found.parse_hash if step.recorded_hash == step.script_hash else None,
        deployed_at=step.deployed_at,
    )


async def _carry_out(row: _Row, action: Callable[[Steps], Awaitable[None]], resources: Resources) -> None:
    told = Steps(
        done=row.done,
        safe_point=row.safe_point,
        begun=None if resources.interference.active else row.runs,
        written=row.written if resources.interference.active else None,
    )
    await row.safe_point()
    await row.begin()
    try:
        await action(told)
    except Stopped:
        raise
    except Exception as error:
        await row.failed(error)
        raise
