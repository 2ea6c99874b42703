"""Run one job because its schedule says so, beside operations: with a lease and a register of its own.

It runs what its deployment carries, and decides nothing about when.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial

from reconciler.control import job_schedules, programs
from reconciler.control.job_schedules import DueJob
from reconciler.control.programs import Definition, StoredOutput
from reconciler.diff.model import JobDiff
from reconciler.errors import DatabaseUnavailable, NotFound, Refused
from reconciler.execution import jobs, services
from reconciler.execution.interference import Interference
from reconciler.execution.register import Applying, KeptOutput, Made
from reconciler.execution.resources import Resources
from reconciler.execution.session import Limits
from reconciler.plan.programs import program_steps
from reconciler.plan.steps import PrepareProgram, RunJob
from reconciler.planner.planner import Planner
from reconciler.runtimes.machine import Machine
from reconciler.spec.values import OutputReference
from reconciler.state import outputs
from reconciler.state.desired import DesiredState
from reconciler.state.programs import DesiredBuild, Trigger
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor
from reconciler.worker.lease import ControlAccess
from reconciler.worker.register import Sealer, opened


class ScheduledJobs:
    """Runs jobs that were taken because they are due."""

    def __init__(
        self,
        *,
        name: str,
        control: ControlAccess,
        planner: Planner,
        machine: Machine,
        sealer: Sealer,
        interference: Interference,
    ) -> None:
        self._name = name
        self._control = control
        self._planner = planner
        self._machine = machine
        self._sealer = sealer
        self._interference = interference

    async def run(self, due: DueJob) -> bool:
        """Run one to its end, or wait for the run that another began; false where it has nothing to run.

        Raises what it failed with, LeaseLost and TemporaryError where that says nothing of the job.
        """
        desired = await self._desired(due)
        job = next((each for each in desired.programs.jobs if each.component == due.key.component), None)
        if job is None or job.schedule is None or job.skip:
            return False
        resources = await self._resources(due, desired)
        made = outputs.consumed(desired).get(job.component, ())
        produces = tuple(f"{job.component}.{name}" for name in made)
        for step in program_steps(JobDiff(desired=job, trigger=Trigger.SCHEDULE, produces=produces)):
            if isinstance(step, PrepareProgram):
                await services.prepare(step, resources)
            elif isinstance(step, RunJob):
                await jobs.run_job(step, resources, _Attempts(due, self._control))
        return True

    async def _desired(self, due: DueJob) -> DesiredState:
        view = await self._planner.view(due.source, due.commit)
        _, states = await self._planner.desired(view, due.key.environment)
        found = next((each for each in states if each.deployment == due.key.deployment), None)
        if found is None:
            raise NotFound(f"commit {due.commit[:12]} has no deployment '{due.key.deployment}'")
        return found

    async def _resources(self, due: DueJob, desired: DesiredState) -> Resources:
        key = due.key
        async with self._control.connection() as connection:
            tracked = await programs.read_tracked(connection, key.environment, key.deployment)
        return Resources(
            dsn=self._planner.dsn(desired),
            owner=FenceOwner(
                control_id=await self._control.control_id(),
                environment=key.environment,
                deployment=key.deployment,
                operation=due.name,
            ),
            actor=Actor(commit=due.commit, operation=due.name, committer=self._name),
            limits=Limits(),
            desired=desired,
            unprepared=frozenset(),
            standing={},
            planned_from={},
            intend=_no_database,
            forget=_no_database,
            secret=self._planner.secret,
            interference=self._interference,
            machine=self._machine,
            register=ScheduledRegister(due, self._control, self._sealer),
            programs=tracked,
            build_files=partial(self._build_files, due),
        )

    async def _build_files(self, due: DueJob, build: DesiredBuild) -> Mapping[str, bytes]:
        context = "" if build.context == "." else f"{build.context}/"
        files = await self._planner.files(due.source, due.commit, [path for path, _ in build.files])
        return {path.removeprefix(context): content for path, content in files.items()}


class ScheduledRegister:
    """The record of one run, written while the job is its taker's: of the one component that it is of."""

    def __init__(self, due: DueJob, control: ControlAccess, sealer: Sealer) -> None:
        self._due = due
        self._control = control
        self._sealer = sealer
        self._what: Applying | None = None

    async def applying(self, what: Applying) -> None:
        """It is noted with the run."""
        self._what = what

    async def applied(self, what: Applying, *, healed: bool = False) -> None:  # noqa: ARG002
        """Note that it was done; what rollouts noted of it stays."""
        async with self._control.connection() as connection:
            await job_schedules.applied(connection, self._due)

    async def rolled_back(self, component: str) -> None:  # noqa: ARG002
        """Note that nothing of the run is there any more."""
        async with self._control.connection() as connection:
            await job_schedules.rolled_back(connection, self._due)

    async def output(self, reference: OutputReference) -> KeptOutput:
        """The value of an output; raises NotFound where it is not kept."""
        key = self._due.key
        async with self._control.connection() as connection:
            found = await programs.read_kept_output(
                connection, key.environment, key.deployment, reference.component, reference.output
            )
        if found is None:
            raise NotFound(f"the output '{reference}' is not there", hint="roll its component out first")
        if found.sealed is None:
            return KeptOutput(value=found.value, sensitive=False, inputs_hash=found.inputs_hash)
        value = json.loads(opened(self._sealer, found.sealed, f"output '{reference}'"))
        if isinstance(value, str):
            self._sealer.forbid(value)
        return KeptOutput(value=value, sensitive=True, inputs_hash=found.inputs_hash)

    async def keep(self, component: str, inputs_hash: str, outputs: Sequence[Made]) -> None:  # noqa: ARG002
        """Keep all outputs of the job, in place of those it had."""
        stored = [self._stored(made) for made in outputs]
        async with self._control.connection() as connection:
            await job_schedules.keep_outputs(connection, self._due, inputs_hash, stored)

    async def job_began(self, component: str, trigger: str, inputs_hash: str, instance: str) -> int:
        """Note that a run begins, and return the number of this attempt for this time."""
        if self._what is None:
            raise Refused(f"job '{component}' begins before it is said what it is")
        what = Definition(
            component=component,
            kind=self._what.kind,
            stage=self._what.stage,
            definition_hash=inputs_hash,
            definition=self._what.definition,
            place=self._what.place,
            instance=instance,
        )
        async with self._control.connection() as connection:
            return await job_schedules.began(connection, self._due, what, trigger=trigger)

    async def job_ended(
        self,
        component: str,  # noqa: ARG002
        instance: str,
        *,
        exit_status: int | None,
        error: str | None,
    ) -> None:
        """Note how an attempt ended; LeaseLost where a rollout ended it."""
        async with self._control.connection() as connection:
            await job_schedules.ended(connection, self._due, instance, exit_status=exit_status, error=error)

    async def removed(self, component: str) -> None:
        """Only rollouts remove anything."""
        raise Refused(f"'{component}' is removed by a rollout only")

    async def stopped(self, component: str) -> None:
        """Only rollouts stop anything."""
        raise Refused(f"'{component}' is stopped by a rollout only")

    async def password(self, component: str, role: str) -> str:
        """Only rollouts make roles."""
        raise Refused(f"role '{role}' of '{component}' is made by a rollout only")

    async def claim_route(self, component: str, proxy: str, host: str, path: str) -> None:
        """Only rollouts set routes."""
        raise Refused(f"route '{component}' ('{host}{path}' of '{proxy}') is set by a rollout only")

    def _stored(self, made: Made) -> StoredOutput:
        if not made.sensitive:
            return StoredOutput(name=made.name, type=made.type.value, value=made.value)
        if isinstance(made.value, str):
            self._sealer.forbid(made.value)
        sealed = self._sealer.seal(json.dumps(made.value, ensure_ascii=False))
        return StoredOutput(name=made.name, type=made.type.value, sealed=sealed)


class _Attempts:
    """Between attempts, a rollout goes first."""

    def __init__(self, due: DueJob, control: ControlAccess) -> None:
        self._due = due
        self._control = control

    async def safe_point(self) -> None:
        """Raise LeaseLost where the job is another's, and make way for an operation that is at work."""
        async with self._control.connection() as connection:
            await job_schedules.hold(connection, self._due)
            operation = await job_schedules.operation_at_work(connection, self._due)
        if operation is not None:
            raise DatabaseUnavailable(f"operation {operation} is at work on the deployment: it goes first")


async def _no_database(database: str) -> None:
    """A job makes none."""
    raise Refused(f"a job was to make database '{database}'")
