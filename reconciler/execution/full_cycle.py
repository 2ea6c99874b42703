"""Try modules in scratch databases: deploy, verify, revert, compare, deploy again, compare again.

It writes to no other database, and records nothing outside of them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import psycopg

from reconciler.catalog.model import Catalog
from reconciler.diff import catalog
from reconciler.diff.model import Drift
from reconciler.diff.reverts import Ground, plan_task
from reconciler.diff.verifiable import to_verify
from reconciler.diff.workspace import Group
from reconciler.errors import ReconcilerError, Refused, StepFailed, TemporaryError
from reconciler.execution import changes, reverts
from reconciler.execution.changes import Progress
from reconciler.execution.provision import create_extension
from reconciler.execution.reverts import Steps
from reconciler.execution.roles import missing_role_hint
from reconciler.execution.scratch import scratch_database
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.execution.verify import VerifyLimits, prepare, verify
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection, Dsn, connect, translate
from reconciler.snapshot.database import read_database
from reconciler.state.desired import DesiredChange, DesiredState
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_revertible, read_tracked
from reconciler.tracking.record import Actor

_WHO = "module test"
_OWNER = FenceOwner(control_id=_WHO, environment="scratch", deployment="scratch", operation="1")
_ACTOR = Actor(commit="0" * 40, operation="1", committer=_WHO)


class Step(StrEnum):
    """What is done with a module, in this order."""

    PREPARE = "prepare"
    DEPLOY = "deploy"
    VERIFY = "verify"
    REVERT = "revert"
    COMPARE = "compare"
    DEPLOY_AGAIN = "deploy again"
    COMPARE_AGAIN = "compare again"


@frozen
class Trouble:
    """What went wrong in a step, and where. `unknown`: it says nothing of the module, and may pass."""

    step: Step
    message: str
    file: str | None = None
    line: int | None = None
    hint: str | None = None
    unknown: bool = False


@dataclass(slots=True, kw_only=True)
class Tried:
    """What came of trying a module with what it requires.

    `left_behind` is how the database differs from before after all was taken back, `differs` how the second
    deploy differs from the first.
    """

    path: str
    project: str
    modules: tuple[str, ...]
    troubles: list[Trouble] = field(default_factory=list)
    left_behind: tuple[Drift, ...] = ()
    differs: tuple[Drift, ...] = ()
    duration_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether all went right."""
        return not (self.troubles or self.left_behind or self.differs)


async def try_modules(
    dsn: Dsn, groups: Sequence[Group], *, full: bool, jobs: int, timeout_s: float
) -> tuple[Tried, ...]:
    """Try modules side by side, at most `jobs` at once, each within a time; without `full`, deploy only."""
    slots = asyncio.Semaphore(jobs)

    async def one(group: Group) -> Tried:
        async with slots:
            return await _Trial(dsn, group).run(full=full, timeout_s=timeout_s)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(group)) for group in groups]
    return tuple(task.result() for task in running)


class _Trial:
    """One module with what it requires, in a database of its own."""

    def __init__(self, dsn: Dsn, group: Group) -> None:
        self._dsn = dsn
        self._group = group
        self._step = Step.PREPARE
        self._desired = group.desired
        self._database = ""
        self._found = Tried(
            path=group.module.path,
            project=group.module.project,
            modules=tuple(module.project for module in group.desired.modules),
        )

    async def run(self, *, full: bool, timeout_s: float) -> Tried:
        """Do all steps; a failure ends them, but for what only tells of the module."""
        found, began = self._found, time.monotonic()
        if self._group.blocked:
            found.troubles += [Trouble(step=self._step, message=why) for why in self._group.blocked]
            return found
        try:
            async with scratch_database(self._dsn) as database:
                self._database, self._desired = database, self._group.within(database)
                await self._steps(full=full, timeout_s=timeout_s)
        except ReconcilerError as error:
            self._tell(error)
        found.duration_s = time.monotonic() - began
        return found

    async def _steps(self, *, full: bool, timeout_s: float) -> None:
        """A failure is told here, so that what dropping the database meets does not take its place."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._cycle(full=full)
        except TimeoutError:
            why = f"not done within {timeout_s:g} s"
            self._found.troubles.append(Trouble(step=self._step, message=why, hint="raise --timeout"))
        except ReconcilerError as error:
            self._tell(error)
        except psycopg.Error as error:
            self._tell(translate(error, f"testing modules in database '{self._database}'"))

    def _tell(self, error: ReconcilerError) -> None:
        place = (error.file, error.line) if isinstance(error, StepFailed) else (None, None)
        self._found.troubles.append(
            Trouble(
                step=self._step,
                message=error.message,
                file=place[0],
                line=place[1],
                hint=missing_role_hint(error) if isinstance(error, StepFailed) else error.hint,
                unknown=isinstance(error, TemporaryError),
            )
        )

    async def _cycle(self, *, full: bool) -> None:
        before = await self._prepare()
        self._step = Step.DEPLOY
        await self._deploy()
        first = await self._catalog()
        self._step = Step.VERIFY
        await self._verify()
        if not full:
            return
        self._step = Step.REVERT
        await self._revert()
        self._step = Step.COMPARE
        after = await self._catalog()
        self._found.left_behind = catalog.compare(before.objects, after.objects, self._found.project)
        self._step = Step.DEPLOY_AGAIN
        await self._deploy()
        self._step = Step.COMPARE_AGAIN
        second = await self._catalog()
        self._found.differs = catalog.compare(first.objects, second.objects, self._found.project)

    async def _prepare(self) -> Catalog:
        """Install the tracking schema and what control files require; gives what is there then."""
        names = (name for module in self._desired.modules for name in module.requires_extensions)
        async with self._writing() as session:
            for name in dict.fromkeys(names):
                await create_extension(session, name)
        return await self._catalog()

    async def _deploy(self) -> None:
        progress = Progress(done=_change_done, safe_point=_nothing)
        async with self._writing() as session:
            for module in self._desired.modules:
                if module.changes:
                    await changes.deploy(session, module, module.changes, _ACTOR, progress)

    async def _verify(self) -> None:
        async with self._connected("verify") as connection:
            tracked = await read_tracked(connection)
            for module in self._desired.modules:
                ready = prepare(to_verify(module, tracked.modules.get(module.project)), {})
                found = await verify(connection, ready.wanted, VerifyLimits())
                for row in (*ready.broken, *found.failed):
                    message = f"change '{row.change}' of module '{module.project}': {row.message}"
                    self._found.troubles.append(
                        Trouble(step=self._step, message=message, file=row.file, line=row.line)
                    )
                for left in found.unverified:
                    message = f"change '{left.change}' of module '{module.project}': {left.reason}"
                    self._found.troubles.append(Trouble(step=self._step, message=message, unknown=True))

    async def _revert(self) -> None:
        """Take all back, the modules that others require last."""
        task = ModuleTask(verb=TaskVerb.REVERT, everything=True, with_dependents=True)
        async with self._writing() as session:
            for module in reversed(self._desired.modules):
                ground = await _ground(session.holder, self._desired)
                if module.project not in ground.tracked.modules:
                    continue
                planned = plan_task(ground, module.project, task)
                if planned.blocked:
                    raise Refused(f"reverting module '{module.project}': {'; '.join(planned.blocked)}")
                steps = Steps(done=_nothing, safe_point=_nothing)
                await reverts.revert(session, planned.changes, _ACTOR, steps)

    async def _catalog(self) -> Catalog:
        async with self._connected("compare") as connection:
            live = await read_database(connection, known_probe=None)
        if live.catalog is None:
            raise ReconcilerError(f"reading database '{self._database}' gave no catalog")
        return live.catalog

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[DatabaseSession]:
        session = await open_session(
            self._dsn, self._database, _OWNER, limits=Limits(), install_tracking=True
        )
        try:
            yield session
        except BaseException:
            await session.abandon()
            raise
        await session.finish()

    @asynccontextmanager
    async def _connected(self, role: str) -> AsyncIterator[Connection]:
        connection = await connect(self._dsn, database=self._database, role=role)
        try:
            yield connection
        finally:
            await connection.close()


async def _ground(connection: Connection, desired: DesiredState) -> Ground:
    return Ground(
        desired=desired,
        database=desired.databases[0],
        tracked=await read_tracked(connection),
        stored=await read_revertible(connection),
    )


async def _change_done(_change: DesiredChange) -> None:
    """Nobody is told of each change."""


async def _nothing() -> None:
    """Nobody asks to stop."""
