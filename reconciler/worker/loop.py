"""Claims operations, keeps their leases with one heartbeat, and ends them in order when it has to stop.

Operations stop at safe points: when an operator or a newer commit asks, when the worker stops, and when its
lease is gone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field, replace

from reconciler.control import claims, workers
from reconciler.control.claims import Claim
from reconciler.control.workers import Peer
from reconciler.control.workers import Worker as Registration
from reconciler.errors import DatabaseUnavailable, LeaseLost, TemporaryError
from reconciler.events import Event, TaskFailed, WorkerBeat
from reconciler.execution.interference import Interference
from reconciler.frozen import frozen
from reconciler.planner.planner import Planner
from reconciler.postgres.connection import Connection, Connections, Dsn, connect
from reconciler.runtimes.machine import Machine
from reconciler.worker.attempt import Attempt
from reconciler.worker.lease import ControlAccess, Lease, Running, answering
from reconciler.worker.limits import WorkerLimits
from reconciler.worker.register import Sealer
from reconciler.worker.tools import Tools

CONTROL_RETRY_S = 1.0
"""Pause before the control database is tried again after it went away."""
CANCEL_WAIT_S = 15.0
"""How long cancelled operations may take to take their transactions back."""
SHUN_FIRST_S = 2.0
SHUN_MOST_S = 60.0
"""How long nothing of a source is claimed after a commit of it could not be read here; it doubles."""


@frozen
class WorkerHooks:
    """What a worker tells, and what it has from its process.

    `on_peers(id, peers)` once when the worker registered and whenever others came or went, and with
    `(None, ())` when its registration ended.
    """

    emit: Callable[[Event], None]
    on_peers: Callable[[str | None, tuple[Peer, ...]], None] | None = None
    interference: Interference = field(default_factory=Interference)
    machine: Machine | None = None
    """What services of this process are run on."""
    sealer: Sealer | None = None


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
        sources: frozenset[str],
        passes: bool,
        hooks: WorkerHooks,
    ) -> None:
        """Work on operations of `sources`; with `passes`, the process runs passes and takes its share."""
        self._name = name
        self._control = control
        self._limits = limits
        self._sources = sources
        self._passes = passes
        self._hooks = hooks
        self._emit = hooks.emit
        self._access = ControlAccess(control, connections, timeout_s=limits.lease_s)
        self._tools = Tools(
            name=name,
            control=self._access,
            planner=planner,
            limits=limits,
            emit=hooks.emit,
            interference=hooks.interference,
            leave_to_others=self._shun,
            machine=hooks.machine,
            sealer=hooks.sealer,
        )
        self._only_rollout: str | None = None
        self._shunned: dict[str, tuple[float, float]] = {}
        self._peers: tuple[Peer, ...] = ()
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: set[Running] = set()
        self._strays = False
        self._former: Registration | None = None

    def wake(self) -> None:
        """Look now for work, and for what is asked of the operations under way."""
        self._wake.set()
        self._look.set()

    def stop(self) -> None:
        """Take nothing new, stop at the next safe points and hand everything back."""
        self._stopping.set()
        self._wake.set()
        for running in self._running:
            running.interrupt("shutdown")

    @property
    def busy(self) -> int:
        """Operations under way."""
        return len(self._running)

    async def run(self, *, only_rollout: str | None = None) -> None:
        """Work until `stop`; the control database may go away and come back meanwhile.

        With `only_rollout`, work on that rollout only and return when nothing of it can be claimed; then a
        control database that goes away is an error.
        """
        self._only_rollout = only_rollout
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
            lease = Lease(self._limits.lease_s)
            worker = await self._register(connection)
            beat = asyncio.create_task(self._heartbeats(connection, worker, lease))
            try:
                await self._claim_until_stopped((worker, lease), only_rollout, beat)
            finally:
                self._tell_peers(None, ())
                await self._end_operations(lease, beat)
                beat.cancel()
                await asyncio.gather(beat, return_exceptions=True)
                self._former = worker
                with suppress(TemporaryError):
                    async with answering(self._limits.lease_s):
                        await workers.deregister(connection, worker)
                        self._former = None
        finally:
            with suppress(Exception):
                await connection.close()

    async def _register(self, connection: Connection) -> Registration:
        limits = self._limits
        async with answering(limits.lease_s):
            worker = await workers.register(
                connection,
                name=self._name,
                sources=self._sources,
                passes=self._passes,
                lease_s=limits.lease_s,
            )
            if self._former is not None:
                # Not taken for dead: what it had is taken up without being counted as a crash.
                await workers.release_former(connection, self._former)
                self._former = None
            beat = await workers.heartbeat(connection, worker, limits.lease_s)
        self._access.registered()
        self._tell_peers(worker.id, beat.peers)
        return worker

    def _tell_peers(self, worker: str | None, peers: tuple[Peer, ...]) -> None:
        """Say who lives, if that changed; what one who died worked on is there to be claimed now."""
        if peers == self._peers:
            return
        self._peers = peers
        if self._hooks.on_peers is not None:
            self._hooks.on_peers(worker, peers)
        self._wake.set()

    async def _claim_until_stopped(
        self, registration: tuple[Registration, Lease], only_rollout: str | None, beat: "asyncio.Task[None]"
    ) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause = self._limits.poll_s
            try:
                await self._fill(registration, only_rollout)
            except LeaseLost:
                raise
            except TemporaryError as error:
                if only_rollout is not None and not self._running:
                    raise
                # One claim went wrong; whether the lease is in danger, the heartbeat knows.
                self._strays = True
                self._emit(WorkerBeat(worker=self._name, ok=False, error=str(error)))
                pause = min(pause, CONTROL_RETRY_S)
            if only_rollout is not None and not self._running and not self._strays:
                return
            await self._next(beat, pause)

    async def _fill(self, registration: tuple[Registration, Lease], only_rollout: str | None) -> None:
        """Claim and start operations until there are enough, or no more."""
        worker, lease = registration
        while (room := self._room()) > 0 and not self._stopping.is_set():
            if not lease.good:
                return
            found = await self._claim(worker, room, only_rollout)
            for claim in found:
                running = Running(claim=claim, lease=lease)
                self._running.add(running)
                running.task = asyncio.create_task(self._operate(running))
            if not found:
                return

    async def _claim(self, worker: Registration, room: int, only_rollout: str | None) -> list[Claim]:
        async with self._access.connection() as connection:
            if self._strays:
                # A claim whose answer was lost, or an outcome that could not be recorded: nobody here works
                # on it, and our lease would keep it for ever.
                # One that ends so meanwhile is the next claim's.
                self._strays = False
                kept = [running.claim.operation for running in self._running]
                try:
                    await workers.release_strays(connection, worker, kept)
                except BaseException:
                    self._strays = True
                    raise
            readable = replace(worker, sources=worker.sources - self._shunned_now())
            return await claims.claim_many(
                connection,
                readable,
                room=room,
                lease_s=self._limits.lease_s,
                only_rollout=only_rollout,
                crowded=self._crowded() if only_rollout is None else (),
                per_server=self._limits.operations_per_server,
            )

    def _room(self) -> int:
        """How many more may be started; what takes long leaves its place to another, within a bound."""
        limits = self._limits
        slow = sum(1 for running in self._running if running.since < time.monotonic() - limits.slow_s)
        return limits.operations_in_parallel + min(slow, limits.slow_in_parallel) - len(self._running)

    def _crowded(self) -> set[str]:
        """Environments with as many operations here as there are places: the next place is another's."""
        counts = Counter(running.claim.environment for running in self._running)
        return {name for name, count in counts.items() if count >= self._limits.operations_in_parallel}

    def _shun(self, source: str) -> bool:
        """Claim nothing of a source for a while; false where nobody else is there to do it."""
        if self._only_rollout is not None:
            return False
        now = time.monotonic()
        until, pause_s = self._shunned.get(source, (0.0, SHUN_FIRST_S / 2))
        if until <= now:
            # Of several operations that met the same silence, the first counts.
            pause_s = min(pause_s * 2, SHUN_MOST_S) if now < until + 2 * SHUN_MOST_S else SHUN_FIRST_S
            self._shunned[source] = (now + pause_s, pause_s)
        return True

    def _shunned_now(self) -> set[str]:
        now = time.monotonic()
        return {source for source, (until, _pause_s) in self._shunned.items() if until > now}

    async def _operate(self, running: Running) -> None:
        """Make one attempt, and never raise: one operation does not end the others."""
        recorded = False
        try:
            recorded = await Attempt(running, self._tools).run()
        except Exception as error:  # noqa: BLE001 - the boundary of an operation
            self._emit(TaskFailed(task=f"operation {running.claim.operation}", error=repr(error)))
        finally:
            self._strays = self._strays or not recorded
            self._running.discard(running)
            self._wake.set()

    async def _next(self, beat: "asyncio.Task[None]", pause_s: float) -> None:
        """Wait for a wake (an operation that ends wakes too) or a while; raise if the heartbeat ended."""
        wake = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({wake, beat}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
        if beat.done():
            beat.result()
            raise DatabaseUnavailable("the heartbeat of the worker ended")

    async def _heartbeats(self, connection: Connection, worker: Registration, lease: Lease) -> None:
        """Renew all leases with one statement, and look what is asked of the operations under way."""
        due = time.monotonic() + self._limits.heartbeat_s
        while True:
            await _wait(self._look, max(0.0, due - time.monotonic()))
            self._look.clear()
            sent = time.monotonic()
            async with answering(self._limits.lease_s):
                if sent >= due:
                    beat = await workers.heartbeat(connection, worker, self._limits.lease_s)
                    lease.renew(sent)
                    due = sent + self._limits.heartbeat_s
                    self._emit(WorkerBeat(worker=self._name))
                    self._tell_peers(worker.id, beat.peers)
                    if beat.work:
                        # The net below the notifications, and below those who died with work in hand.
                        self._wake.set()
                await self._see_requests(connection)

    async def _see_requests(self, connection: Connection) -> None:
        held = list(self._running)
        if not held:
            return
        found = await claims.interruptions(connection, [running.claim for running in held])
        for running in held:
            if running.claim.operation not in found:
                running.lose()
            elif (asked := found[running.claim.operation]) is not None:
                running.interrupt(asked)

    async def _end_operations(self, lease: Lease, beat: "asyncio.Task[None]") -> None:
        """Ask everything to stop, wait a bounded time, then cancel what has not reached a safe point."""
        if beat.done():
            lease.end()
        for running in list(self._running):
            running.interrupt("shutdown")
        tasks = {running.task for running in self._running if running.task is not None}
        if tasks:
            _done, tasks = await asyncio.wait(tasks, timeout=self._limits.stop_grace_s)
        lease.end()
        for task in tasks:
            task.cancel()
        if tasks:
            # Whoever claims these next ends their backends before it writes anything.
            await asyncio.wait(tasks, timeout=CANCEL_WAIT_S)
        self._running.clear()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout=timeout_s)
