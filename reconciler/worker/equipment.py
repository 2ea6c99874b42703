"""Gather what the steps of one attempt may use, from what was read when it was planned; it opens nothing."""

from collections.abc import Callable, Mapping
from functools import partial

from reconciler.control import claims, environments
from reconciler.control.claims import Claim
from reconciler.execution.resources import Resources
from reconciler.plan.hazards import HazardCode
from reconciler.plan.steps import AnyStep, InstallTracking
from reconciler.planner.planner import Assessment
from reconciler.postgres.connection import Connection
from reconciler.state.programs import DesiredBuild
from reconciler.state.tracked import TrackedPrograms
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor
from reconciler.worker.lease import Running
from reconciler.worker.register import ControlRegister
from reconciler.worker.tools import Tools


async def equip(
    assessment: Assessment, running: Running, tools: Tools, say: Callable[[AnyStep, str], None]
) -> Resources:
    """The resources of one attempt; `say` is told what scripts said."""
    claim, planner = running.claim, tools.planner
    desired, diff, tracked = assessment.desired, assessment.diff, assessment.tracked
    databases = tracked.databases if tracked is not None else {}
    upgrades = {step.database for step in assessment.plan.steps if isinstance(step, InstallTracking)}
    prepared = {name for name, database in databases.items() if database.installed} - upgrades
    notes = _Notes(claim, tools)
    resources = Resources(
        dsn=planner.dsn(desired),
        owner=FenceOwner(
            control_id=await tools.control.control_id(),
            environment=claim.environment,
            deployment=claim.deployment,
            operation=claim.operation,
        ),
        actor=Actor(commit=claim.commit, operation=claim.operation, committer=tools.name),
        limits=tools.limits.writes,
        desired=desired,
        unprepared=frozenset(part.database for part in desired.databases) - prepared,
        standing={part.desired.database: part.standing for part in (diff.databases if diff else ())},
        planned_from=databases,
        reverts={
            one.change.change_id: one for part in (diff.reverts if diff else ()) for one in part.changes
        },
        objects={part.desired.component: part for part in (diff.objects if diff else ())},
        keep_failed=assessment.plan.asked.keep_failed,
        repeats=HazardCode.REPEATS_STATEMENT.value in assessment.allowed,
        intend=notes.intend,
        forget=notes.forget,
        confirm=notes.confirm,
        urgent=running.urgent,
        spare=notes.spare,
        locate=partial(planner.dsn_of, desired),
        secret=planner.secret,
        say=say,
        interference=tools.interference,
        machine=tools.machine,
        register=ControlRegister(claim, tools.control, tools.sealer) if tools.sealer is not None else None,
        programs=tracked.programs if tracked is not None else TrackedPrograms(),
        left_runs=_left_runs(assessment),
        build_files=notes.build_files,
    )
    notes.resources = resources
    return resources


def _left_runs(assessment: Assessment) -> frozenset[str]:
    there = assessment.running.instances if assessment.running is not None else {}
    return frozenset(job.component for job in assessment.desired.programs.jobs if there.get(job.component))


class _Notes:
    """What resources ask of the control database and of the source."""

    resources: Resources

    def __init__(self, claim: Claim, tools: Tools) -> None:
        self._claim = claim
        self._control = tools.control
        self._planner = tools.planner

    async def confirm(self) -> None:
        """Raise LeaseLost unless the operation is still ours."""
        async with self._control.connection() as connection:
            await claims.interruption(connection, self._claim)

    async def intend(self, database: str) -> None:
        """Note that a database is being made."""
        async with self._control.connection() as connection:
            await claims.interruption(connection, self._claim)
            await environments.intend_database(connection, *self._place(database), database)

    async def forget(self, database: str) -> None:
        """Note that it is made."""
        async with self._control.connection() as connection:
            await environments.forget_intent(connection, *self._place(database), database)

    async def spare(self, database: str) -> Connection | None:
        """A connection that served to read the database, where one is idle."""
        return await self._planner.spare(await self.resources.dsn_of(database), database)

    async def build_files(self, build: DesiredBuild) -> Mapping[str, bytes]:
        """The files that an image is built from, by their paths below its context."""
        claim = self._claim
        context = "" if build.context == "." else f"{build.context}/"
        paths = [path for path, _ in build.files]
        files = await self._planner.files(claim.source, claim.commit, paths)
        return {path.removeprefix(context): content for path, content in files.items()}

    def _place(self, database: str) -> tuple[str, str, str]:
        return self._claim.environment, self._claim.deployment, self.resources.server_of(database)
