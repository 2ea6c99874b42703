"""Claim operations, keep their leases, run their plans and record what became of them.

The worker does not know what a step does. It stops at safe points: when an operator or a newer commit asks,
when the daemon stops, and when its lease is gone.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from reconciler.control import claims, environments, transitions, workers
from reconciler.control.claims import Claim
from reconciler.control.install import control_id
from reconciler.errors import (
    InvalidInput,
    LeaseLost,
    NotFound,
    PermanentError,
    ReconcilerError,
    Refused,
    StepFailed,
    TemporaryError,
)
from reconciler.events import BaseLineRetaken, Event, OperationMoved, StepFinished, WorkerBeat
from reconciler.events import LeaseLost as LeaseLostEvent
from reconciler.execution.interference import Interference
from reconciler.execution.resources import Resources
from reconciler.execution.run import run
from reconciler.execution.session import Limits
from reconciler.plan.check import check
from reconciler.plan.encode import deployment_from_json, deployment_to_json
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.steps import AnyStep, StepKind
from reconciler.planner import Assessment, Planner, PlanRequest, steps_of
from reconciler.postgres.connection import Connection, Connections, Dsn, connect
from reconciler.rollout.retry import decide
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor

FLUSH_INTERVAL_S = 0.25
"""How often finished steps are written to the control database while an operation runs."""
CONTROL_RETRY_S = 1.0
"""Pause before the control database is tried again after it went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Limits of working, in seconds and counts."""

    operations_in_parallel: int = 4
    lease_s: float = 10.0
    heartbeat_s: float = 2.0
    poll_s: float = 5.0
    attempts: int = 5
    retry_base_s: float = 1.0
    retry_ceiling_s: float = 60.0
    stop_grace_s: float = 20.0
    writes: Limits = field(default_factory=Limits)


class Interrupted(Exception):
    """An operation stops at a safe point because of `why`: cancel, stop, superseded or shutdown."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Worker:
    """Works on operations of one control database until told to stop."""

    def __init__(
        self,
        *,
        name: str,
        control: Dsn,
        connections: Connections,
        planner: Planner,
        limits: WorkerLimits,
        emit: Callable[[Event], None],
        settled: Callable[[str, str], None],
        interference: Interference | None = None,
    ) -> None:
        """`settled(source, environment)` is called when an operation ended, to ask for the next pass."""
        self._name = name
        self._control = control
        self._connections = connections
        self._planner = planner
        self._limits = limits
        self._emit = emit
        self._settled = settled
        self._interference = interference or Interference()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: dict[str, _Running] = {}
        self._last_heartbeat = 0.0

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def stop(self) -> None:
        """Take nothing new, stop at the next safe points and hand everything back."""
        self._stopping.set()
        self._wake.set()
        for running in self._running.values():
            running.interrupt("shutdown")

    @property
    def busy(self) -> int:
        """Operations under way."""
        return len(self._running)

    async def run(self, *, only_rollout: str | None = None) -> None:
        """Work until `stop`; the control database may go away and come back meanwhile.

        With `only_rollout`, work on that rollout only and return when nothing of it can be claimed.
        """
        while not self._stopping.is_set():
            try:
                await self._run_registered(only_rollout)
            except TemporaryError as error:
                if only_rollout is not None:
                    raise
                self._emit(WorkerBeat(worker=self._name, ok=False, error=str(error)))
                await _wait(self._stopping, CONTROL_RETRY_S)
            else:
                return

    async def _run_registered(self, only_rollout: str | None) -> None:
        connection = await connect(self._control, role="worker")
        try:
            worker = await workers.register(connection, name=self._name)
            self._last_heartbeat = time.monotonic()
            beat = asyncio.create_task(self._heartbeats(connection, worker))
            try:
                await self._claim_until_stopped(worker, only_rollout, beat)
            finally:
                await self._drain()
                beat.cancel()
                with suppress(asyncio.CancelledError, ReconcilerError):
                    await beat
                with suppress(ReconcilerError):
                    await workers.deregister(connection, worker)
        finally:
            with suppress(Exception):
                await connection.close()

    async def _claim_until_stopped(
        self, worker: workers.Worker, only_rollout: str | None, beat: "asyncio.Task[None]"
    ) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            self._wake.clear()
            while len(tasks) < self._limits.operations_in_parallel and not self._stopping.is_set():
                claim = await self._claim(worker, only_rollout)
                if claim is None:
                    break
                running = _Running(claim=claim)
                self._running[claim.operation] = running
                tasks.add(asyncio.create_task(self._operate(running)))
            if only_rollout is not None and not tasks:
                return
            tasks = await self._next(tasks, beat)
        if tasks:
            await asyncio.wait(tasks, timeout=self._limits.stop_grace_s)

    async def _next(
        self, tasks: "set[asyncio.Task[None]]", beat: "asyncio.Task[None]"
    ) -> "set[asyncio.Task[None]]":
        """Wait for a wake, an end, or the poll interval; raise if the heartbeat ended."""
        wake = asyncio.create_task(self._wake.wait())
        try:
            done, _pending = await asyncio.wait(
                {wake, beat, *tasks}, timeout=self._limits.poll_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            wake.cancel()
        for task in done & tasks:
            task.result()
        if beat in done:
            beat.result()
        return tasks - done

    async def _claim(self, worker: workers.Worker, only_rollout: str | None) -> Claim | None:
        async with self._connections.borrow(self._control, role="control") as connection:
            return await claims.claim(
                connection, worker, lease_s=self._limits.lease_s, only_rollout=only_rollout
            )

    async def _heartbeats(self, connection: Connection, worker: workers.Worker) -> None:
        """Renew all leases with one statement, and look what is asked of the operations under way."""
        while True:
            await asyncio.sleep(self._limits.heartbeat_s)
            await asyncio.wait_for(
                workers.heartbeat(connection, worker, self._limits.lease_s), timeout=self._limits.lease_s
            )
            self._last_heartbeat = time.monotonic()
            self._emit(WorkerBeat(worker=self._name))
            for running in list(self._running.values()):
                try:
                    asked = await claims.interruption(connection, running.claim)
                except LeaseLost:
                    running.interrupt("lease")
                    self._emit(self._lease_lost(running.claim))
                else:
                    if asked is not None:
                        running.interrupt(asked)

    async def look(self) -> None:
        """See at once what operators ask of the operations under way; the heartbeat sees it anyway."""
        for running in list(self._running.values()):
            with suppress(ReconcilerError):
                async with self._connections.borrow(self._control, role="control") as connection:
                    asked = await claims.interruption(connection, running.claim)
                if asked is not None:
                    running.interrupt(asked)

    async def _drain(self) -> None:
        """After the heartbeat is gone nothing may go on: ask all to stop, and wait a bounded time."""
        for running in self._running.values():
            running.interrupt("shutdown" if self._stopping.is_set() else "lease")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.stop_grace_s):
                await asyncio.gather(*(running.ended.wait() for running in self._running.values()))

    async def _operate(self, running: "_Running") -> None:
        """Run one operation to its end; the boundary at which every error becomes a state."""
        claim = running.claim
        journal = _Journal(running, self._connections, self._control, self._emit)
        flush = asyncio.create_task(journal.flush_regularly())
        try:
            await self._attempt(running, journal)
            await journal.flush()
            await self._move(claim, OperationEvent.DONE, reason="all stages done")
        except LeaseLost:
            self._emit(self._lease_lost(claim))
        except Interrupted as asked:
            await self._interrupted(claim, journal, asked.why)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of an operation
            await self._failed(claim, journal, error)
        finally:
            flush.cancel()
            with suppress(asyncio.CancelledError):
                await flush
            self._running.pop(claim.operation, None)
            running.ended.set()
            self._settled(claim.source, claim.environment)
            self._wake.set()

    async def _attempt(self, running: "_Running", journal: "_Journal") -> None:
        claim = running.claim
        async with self._connections.borrow(self._control, role="control") as connection:
            asked = await claims.interruption(connection, claim)
        if asked is not None:
            running.interrupt(asked)
        running.checkpoint()
        assessment = await self._assess(claim)
        plan = await self._agree(claim, assessment)
        running.checkpoint()
        resources = await self._resources(claim, assessment)
        try:
            await self._reopen(claim, assessment, resources)
            await run(plan, resources, journal)
        except LeaseLost:
            await resources.abandon()
            raise
        except BaseException as error:
            if isinstance(error, Interrupted) and error.why == "lease":
                await resources.abandon()
                raise LeaseLost("the lease of the operation is gone") from error
            with suppress(ReconcilerError):
                await resources.finish()
            await resources.abandon()
            raise
        await resources.finish()

    async def _reopen(self, claim: Claim, assessment: Assessment, resources: Resources) -> None:
        """Settle what an interrupted attempt of this operation left moving, also where no step is left."""
        tracked = assessment.tracked
        if claim.first or tracked is None:
            return
        for name, database in tracked.databases.items():
            if database.installed and (database.base_line is None or database.base_line.moving):
                await resources.session(name)
                self._emit(
                    BaseLineRetaken(
                        environment=claim.environment,
                        deployment=claim.deployment,
                        database=name,
                        reason="an attempt of the operation was interrupted",
                    )
                )

    async def _assess(self, claim: Claim) -> Assessment:
        view = await self._planner.view(claim.source, claim.commit)
        spec, states = await self._planner.desired(view, claim.environment)
        desired = next((state for state in states if state.deployment == claim.deployment), None)
        if desired is None:
            raise NotFound(
                f"deployment '{claim.deployment}' of environment '{claim.environment}' is not declared "
                f"at commit {claim.commit[:12]}"
            )
        async with self._connections.borrow(self._control, role="control") as connection:
            intended = await environments.intended_databases(connection, claim.environment, claim.deployment)
        request = PlanRequest(
            scope=Scope(claim.scope),
            intended=intended,
            resuming=not claim.first,
            allow_hazards=frozenset(claim.allow_hazards),
        )
        assessment = await self._planner.assess(spec, desired, request)
        if assessment.plan.unavailable is not None:
            raise TemporaryError(assessment.plan.unavailable)
        return assessment

    async def _agree(self, claim: Claim, assessment: Assessment) -> DeploymentPlan:
        """The plan to carry out: the recorded one if it still holds, else the one made from what is there."""
        recorded, fresh = deployment_from_json(claim.plan), assessment.plan
        if fresh.refused:
            raise Refused(
                "the state moved since the plan was made, and it now needs consent: "
                + "; ".join(fresh.refused),
                hint="look at the diff again, then apply with --allow-hazard",
            )
        if not fresh.steps and fresh.blocked:
            raise Refused("; ".join(fresh.blocked), hint="look at the diff again")
        if claim.first:
            same = fresh.digest == recorded.digest
        else:
            left = [step.id for step in fresh.steps]
            known = [step.id for step in recorded.steps]
            same = not left or known[-len(left) :] == left
        problems = check(fresh)
        if problems:
            raise PermanentError("the plan contradicts itself: " + "; ".join(problems))
        if not same:
            async with self._connections.borrow(self._control, role="control") as connection:
                await transitions.replace_plan(
                    connection, claim, deployment_to_json(fresh), fresh.digest, steps_of(fresh)
                )
        return fresh

    async def _resources(self, claim: Claim, assessment: Assessment) -> Resources:
        dsn = self._planner.dsn(assessment.desired)
        async with self._connections.borrow(self._control, role="control") as connection:
            control = await control_id(connection)
        tracked = assessment.tracked
        prepared = (
            {name for name, database in tracked.databases.items() if database.installed}
            if tracked is not None
            else set()
        )
        upgrades = {step.database for step in assessment.plan.steps if step.kind.value == "install-tracking"}

        async def intend(database: str) -> None:
            async with self._connections.borrow(self._control, role="control") as connection:
                await environments.intend_database(
                    connection, claim.environment, claim.deployment, dsn.server, database
                )

        async def forget(database: str) -> None:
            async with self._connections.borrow(self._control, role="control") as connection:
                await environments.forget_intent(
                    connection, claim.environment, claim.deployment, dsn.server, database
                )

        return Resources(
            dsn=dsn,
            owner=FenceOwner(
                control_id=control,
                environment=claim.environment,
                deployment=claim.deployment,
                operation=claim.operation,
            ),
            actor=Actor(commit=claim.commit, operation=claim.operation, committer=self._name),
            limits=self._limits.writes,
            desired=assessment.desired,
            unprepared=frozenset(
                database.database
                for database in assessment.desired.databases
                if database.database not in prepared or database.database in upgrades
            ),
            intend=intend,
            forget=forget,
            interference=self._interference,
        )

    async def _interrupted(self, claim: Claim, journal: "_Journal", why: str) -> None:
        with suppress(ReconcilerError):
            await journal.flush()
        if why == "shutdown":
            with suppress(ReconcilerError):
                async with self._connections.borrow(self._control, role="control") as connection:
                    await claims.hand_back(connection, claim)
            return
        event, reason = {
            "cancel": (OperationEvent.CANCEL, "cancelled by an operator at a safe point"),
            "stop": (OperationEvent.STOP, "stopped by an operator at a safe point"),
            "superseded": (OperationEvent.SUPERSEDE, "a newer commit took its place at a safe point"),
        }[why]
        await self._move(claim, event, reason=reason)

    async def _failed(self, claim: Claim, journal: "_Journal", error: Exception) -> None:
        with suppress(ReconcilerError):
            await journal.flush()
        told = _describe(error, journal.current)
        decision = decide(
            transient=isinstance(error, TemporaryError),
            attempts=claim.attempts,
            budget=self._limits.attempts,
            jitter=random.random(),  # noqa: S311 - jitter, not a secret
            base_s=self._limits.retry_base_s,
            ceiling_s=self._limits.retry_ceiling_s,
        )
        if decision.retry:
            await self._move(
                claim, OperationEvent.RETRY, reason=told["why"], error=told, delay_s=decision.delay_s
            )
        else:
            if isinstance(error, TemporaryError):
                told = {**told, "next": f"{decision.reason}; {told['next']}"}
            await self._move(claim, OperationEvent.FAIL, reason=told["why"], error=told)

    async def _move(
        self,
        claim: Claim,
        event: OperationEvent,
        *,
        reason: str,
        error: dict[str, Any] | None = None,
        delay_s: float | None = None,
    ) -> None:
        """Record the outcome; the control database may be away for a while, the lease bounds how long."""
        deadline = time.monotonic() + self._limits.lease_s
        while True:
            try:
                async with self._connections.borrow(self._control, role="control") as connection:
                    state = await transitions.transition(
                        connection, claim, event, reason=reason, error=error, delay_s=delay_s
                    )
            except LeaseLost:
                self._emit(self._lease_lost(claim))
                return
            except TemporaryError:
                if time.monotonic() > deadline:
                    # Its lease runs out, and whoever claims it next finds what was done in the database.
                    return
                await asyncio.sleep(CONTROL_RETRY_S / 2)
            else:
                self._emit(
                    OperationMoved(
                        environment=claim.environment,
                        deployment=claim.deployment,
                        rollout=claim.rollout,
                        operation=claim.operation,
                        before=OperationState.RUNNING.value,
                        after=state.value,
                        worker=self._name,
                        attempts=claim.attempts,
                        reason=reason,
                    )
                )
                return

    def _lease_lost(self, claim: Claim) -> LeaseLostEvent:
        return LeaseLostEvent(
            environment=claim.environment,
            deployment=claim.deployment,
            operation=claim.operation,
            worker=self._name,
        )


@dataclass(slots=True, kw_only=True)
class _Running:
    """An operation under way, and what is asked of it."""

    claim: Claim
    asked: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def interrupt(self, why: str) -> None:
        """Ask it to stop at the next safe point; a lost lease outranks everything."""
        if self.asked is None or why == "lease":
            self.asked = why

    def checkpoint(self) -> None:
        """Raise if it was asked to stop."""
        if self.asked is not None:
            raise Interrupted(self.asked)


class _Journal:
    """Writes the progress of steps to the control database, in batches: truth is in the tracking schema."""

    def __init__(
        self, running: _Running, connections: Connections, control: Dsn, emit: Callable[[Event], None]
    ) -> None:
        self._running = running
        self._connections = connections
        self._control = control
        self._emit = emit
        self._finished: list[str] = []
        self._started: str | None = None
        self.current: AnyStep | None = None

    async def started(self, step: AnyStep) -> None:
        self.current = step
        self._started = step.id

    async def finished(self, step: AnyStep, duration_s: float) -> None:
        self._finished.append(step.id)
        self._emit(self._event(step, duration_s, None))
        if step.kind is StepKind.TAKE_BASE_LINE:
            claim = self._running.claim
            self._emit(
                BaseLineRetaken(
                    environment=claim.environment,
                    deployment=claim.deployment,
                    database=step.database,
                    reason="planned",
                )
            )

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None:
        if not isinstance(error, Exception) or isinstance(error, Interrupted):
            return
        self._emit(self._event(step, duration_s, error))
        with suppress(ReconcilerError):
            await self.flush()
            async with self._connections.borrow(self._control, role="control") as connection:
                await transitions.step_finished(
                    connection, self._running.claim, step.id, "failed", reason=str(error)
                )

    def _event(self, step: AnyStep, duration_s: float, error: Exception | None) -> StepFinished:
        claim = self._running.claim
        return StepFinished(
            environment=claim.environment,
            deployment=claim.deployment,
            operation=claim.operation,
            step=step.id,
            kind=step.kind.value,
            component=step.component,
            identity=step.identity,
            ok=error is None,
            duration_s=duration_s,
            sqlstate=getattr(error, "sqlstate", None),
            error=str(error) if error is not None else None,
        )

    async def safe_point(self) -> None:
        self._running.checkpoint()

    async def flush(self) -> None:
        """Write what finished since the last time, as one statement."""
        finished, self._finished = self._finished, []
        started, self._started = self._started, None
        if not finished and started is None:
            return
        try:
            async with self._connections.borrow(self._control, role="control") as connection:
                if finished:
                    await transitions.finish_many(connection, self._running.claim, finished)
                if started is not None and started not in finished:
                    await transitions.step_started(connection, self._running.claim, started)
        except ReconcilerError:
            self._finished = finished + self._finished
            raise

    async def flush_regularly(self) -> None:
        """Flush until cancelled; a control database that is away costs nothing but progress shown late."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            with suppress(ReconcilerError):
                await self.flush()


def _describe(error: Exception, step: AnyStep | None) -> dict[str, Any]:
    """What, where, why and what next, for people at three in the morning."""
    where = step.id if step is not None else None
    if isinstance(error, StepFailed) and error.file is not None:
        where = f"{error.file}:{error.line}" if error.line is not None else error.file
    if isinstance(error, InvalidInput):
        where = error.problems[0].file if error.problems else where
    known = isinstance(error, ReconcilerError)
    default = (
        "it is tried again by itself" if isinstance(error, TemporaryError) else "push a new commit, or retry"
    )
    return {
        "what": f"{step.kind.value} {step.identity}" if step is not None else "planning the operation",
        "where": where,
        "why": error.message if isinstance(error, ReconcilerError) else f"internal error: {error!r}",
        "next": (error.hint if isinstance(error, ReconcilerError) else None)
        or (default if known else "this is a fault of the program: report it, then retry"),
        "sqlstate": getattr(error, "sqlstate", None),
    }


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout=timeout_s)
