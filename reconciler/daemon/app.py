"""The daemon: start the parts, run the loops until asked to stop, stop them in order.

Triggers only wake: timers, file changes, notifications and the API set flags that the loops take.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from reconciler import __version__, logs
from reconciler.control.install import install
from reconciler.control.wake import OPERATIONS_CHANNEL, WAKE_CHANNEL, wake_from
from reconciler.control.workers import Peer
from reconciler.daemon.bursts import Bursts
from reconciler.daemon.control_server import control_dsn
from reconciler.daemon.edge import Edge, Server, edge, server
from reconciler.daemon.loops import EnvironmentLoop, SourceLoop
from reconciler.daemon.machine import owner_of
from reconciler.daemon.parts import Parts, build
from reconciler.daemon.readers import Hooks
from reconciler.daemon.secrets import Secrets
from reconciler.daemon.service_manager import ServiceManager
from reconciler.daemon.timers import Timers
from reconciler.daemon.upkeep import upkeep
from reconciler.daemon.workers import build_leftovers, build_worker
from reconciler.errors import DatabaseUnavailable, PermanentError, ReconcilerError, TemporaryError
from reconciler.events import ControlAwaited, DaemonStarted, DaemonStopped, Event, TaskFailed, WakeCause
from reconciler.execution.interference import asked_for
from reconciler.metrics import Metrics
from reconciler.postgres.connection import Dsn, connect
from reconciler.postgres.notify import listen
from reconciler.reconcile.passes import Passes
from reconciler.settings import Settings
from reconciler.source.watch import watch
from reconciler.web.app import create_app
from reconciler.worker import Worker
from reconciler.worker.leftovers import Leftovers
from reconciler.worker.loop import CANCEL_WAIT_S

CONTROL_WAIT_S = 60.0
"""How long a start waits for the control database before it gives up."""
THREADS_BESIDE_SOURCES = 8
"""Threads for parsing and watching; they are started as they are needed."""
COLLECT_AT = (700, 10, 10)
"""How often Python looks for circles among objects once we serve: what is usual, which a start is spared."""


class Daemon:
    """One process: passes, a worker, the API."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._secrets = Secrets(environ, logs.forbid, settings.secrets.age_keys)
        self._log = logs.EventLog()
        self._metrics: Metrics | None = None
        self._stopping = asyncio.Event()
        self._loops: dict[str, SourceLoop] = {}
        self._environments: EnvironmentLoop | None = None
        self._passes: Passes | None = None
        self._was_registered = False
        self._owner = ""
        self._bursts = Bursts(partial(self._ask_pass, cause=WakeCause.WEBHOOK))
        self._worker: Worker | None = None
        self._leftovers: Leftovers | None = None
        self._manager = ServiceManager(environ)

    def stop(self) -> None:
        """Ask everything to end; safe to call twice."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop` or a signal. Raises where starting is not possible."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.stop)
        # Each source may keep a thread waiting for its remote; parsing and watching are to have theirs.
        threads = THREADS_BESIDE_SOURCES + 2 * len(self._settings.sources)
        loop.set_default_executor(ThreadPoolExecutor(max_workers=threads, thread_name_prefix="daemon"))
        opened = edge(self._settings, self._secrets, self._emit)
        control = await control_dsn(self._settings, self._secrets, start=True)
        assert control is not None
        if not await self._installed(control):
            self._emit(DaemonStopped(reason="asked to stop"))
            return
        hooks = self._hooks()
        parts = build(
            self._settings,
            self._secrets,
            control,
            hooks,
            fetch_first=False,
            shared=True,
            owner=self._owner,
        )
        self._passes = parts.passes
        self._metrics = Metrics(
            control=control, connections=parts.control_connections, sources=tuple(parts.repositories)
        )
        self._worker = build_worker(
            self._settings, parts, control, self._name(), hooks, passes=True, on_peers=self._on_peers
        )
        self._leftovers = build_leftovers(self._settings, parts, control, hooks)
        try:
            await self._serve(parts, control, opened)
        finally:
            await parts.close()
            self._emit(DaemonStopped(reason="asked to stop"))

    def _hooks(self) -> Hooks:
        return Hooks(
            emit=self._emit,
            ask_pass=self._bursts.wake,
            ask_work=self._ask_work,
            interference=asked_for(self._environ),
        )

    def _emit(self, event: Event) -> None:
        """Tell log and metrics; a reader that fails never stops what it reads."""
        for reader in (self._log, self._metrics):
            if reader is not None:
                with suppress(Exception):
                    reader.observe(event)

    def _ask_pass(self, source: str, cause: WakeCause = WakeCause.OPERATION) -> None:
        if source in self._loops:
            self._loops[source].wake(cause)

    def _on_wake(self, payload: str) -> None:
        """Somebody asked for a pass, here or elsewhere; whose environment it is, the pass finds out."""
        asked = wake_from(payload)
        if asked.environment is not None:
            if self._environments is not None:
                self._environments.wake(asked.environment, full=not asked.moved)
            return
        if asked.source is not None and asked.pushed:
            self._bursts.wake(asked.source)
            return
        for source in self._loops:
            if asked.source in (None, source):
                self._ask_pass(source, WakeCause.OPERATOR)

    def _on_peers(self, me: str | None, peers: tuple[Peer, ...]) -> None:
        """Daemons came or went: settle anew whose environments are whose."""
        if self._passes is not None:
            self._passes.set_peers(me, peers)
        if self._leftovers is not None:
            self._leftovers.tell_worker(me)
        if me is None:
            return
        for source in self._loops:
            self._ask_pass(source, WakeCause.PEERS if self._was_registered else WakeCause.START)
        self._was_registered = True

    def _look_at_all(self) -> None:
        for source in self._loops:
            self._ask_pass(source, WakeCause.OPERATION)

    def _ask_work(self, _payload: str = "") -> None:
        """There may be something to claim, or something asked of what is under way."""
        if self._worker is not None:
            self._worker.wake()

    def _name(self) -> str:
        return f"{socket.gethostname()}/{os.getpid()}"

    async def _installed(self, control: Dsn) -> bool:
        """Install the control schema, unless we are asked to stop before that can be done."""
        work, stop = asyncio.create_task(self._install(control)), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
            return work.done()
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)

    async def _install(self, control: Dsn) -> None:
        """Install the control schema; the database may still be starting."""
        last: TemporaryError | None = None
        try:
            async with asyncio.timeout(CONTROL_WAIT_S):
                while True:
                    try:
                        connection = await connect(control, role="control")
                    except TemporaryError as error:
                        if str(last) != str(error):
                            self._emit(ControlAwaited(error=str(error), for_s=CONTROL_WAIT_S))
                        last = error
                        await asyncio.sleep(0.5)
                        continue
                    try:
                        await install(connection)
                        self._owner = await owner_of(connection)
                    finally:
                        await connection.close()
                    return
        except TimeoutError:
            why = f": {last}" if last is not None else ""
            raise DatabaseUnavailable(
                f"the control database did not answer within {CONTROL_WAIT_S:g} s of the start{why}"
            ) from None

    async def _serve(self, parts: Parts, control: Dsn, opened: Edge) -> None:
        passes = parts.passes
        self._loops = {
            name: SourceLoop(name, lambda source, full: passes.pass_source(source, full=full), self._emit)
            for name in parts.repositories
        }
        self._environments = EnvironmentLoop(passes.pass_environments, self._look_at_all, self._emit)
        server = self._web(parts, opened)
        assert self._worker is not None
        assert self._leftovers is not None
        async with AsyncExitStack() as stack:
            tasks = [
                asyncio.create_task(server.serve(), name="api"),
                asyncio.create_task(self._worker.run(), name="worker"),
                asyncio.create_task(self._watch(parts), name="watch"),
                *(
                    asyncio.create_task(listen(control, channel, react, self._stopping), name=channel)
                    for channel, react in (
                        (WAKE_CHANNEL, self._on_wake),
                        (OPERATIONS_CHANNEL, self._ask_work),
                    )
                ),
                *(
                    asyncio.create_task(loop.run(), name=f"source {loop.source}")
                    for loop in self._loops.values()
                ),
                asyncio.create_task(self._environments.run(), name="environments"),
                asyncio.create_task(Timers(self._settings.sources, self._ask_pass).run(), name="timers"),
                asyncio.create_task(parts.refreshing.run(), name="refreshes"),
                asyncio.create_task(parts.scheduling.run(), name="jobs"),
                asyncio.create_task(self._leftovers.run(), name="leftovers"),
                asyncio.create_task(upkeep(control, parts.control_connections, self._emit), name="upkeep"),
                asyncio.create_task(self._watchdog(), name="watchdog"),
            ]
            if opened.certificates is not None:
                tasks.append(
                    asyncio.create_task(opened.certificates.renew(self._stopping), name="certificates")
                )
            stack.push_async_callback(self._end, tasks, server)
            stack.callback(self._bursts.close)
            await self._until_listening(server, tasks[0])
            self._emit(
                DaemonStarted(
                    version=__version__,
                    listen=self._settings.listen,
                    sources=tuple(parts.repositories),
                    workers=self._settings.workers,
                )
            )
            self._manager.ready(f"serving on {self._settings.listen}")
            _look_for_circles()
            for source in self._loops:
                self._ask_pass(source, WakeCause.START)
            await self._until_stopped(tasks)

    def _web(self, parts: Parts, opened: Edge) -> Server:
        app = create_app(
            parts.reconciler,
            metrics_text=self._metrics_text,
            tokens=opened.tokens,
            webhooks=opened.webhooks,
            limits=opened.limits,
            listen_host=opened.host,
            observe=self._emit,
            stopping=self._stopping,
        )
        return server(app, opened)

    async def _metrics_text(self) -> bytes:
        assert self._metrics is not None
        return await self._metrics.text()

    async def _watch(self, parts: Parts) -> None:
        targets = {
            name: Path(repository.place.path)
            for name, repository in parts.repositories.items()
            if repository.place.path is not None
        }
        if targets:
            await watch(targets, partial(self._ask_pass, cause=WakeCause.FILE), self._stopping)
        else:
            await self._stopping.wait()

    async def _watchdog(self) -> None:
        """Pet the service manager's watchdog from the loop that everything runs in: if it hangs, we do."""
        interval = (self._manager.watchdog_s or 20.0) / 2
        while not self._stopping.is_set():
            self._manager.alive()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=interval)

    async def _until_listening(self, server: Server, task: "asyncio.Task[Any]") -> None:
        while not server.started:
            if task.done():
                task.result()
                raise PermanentError(f"the API cannot listen on {self._settings.listen}")
            await asyncio.sleep(0.01)

    async def _until_stopped(self, tasks: "list[asyncio.Task[Any]]") -> None:
        """Wait for the end; a task that ends before is a fault, told and taken for a reason to stop."""
        stopped = asyncio.create_task(self._stopping.wait())
        done, _pending = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in done - {stopped}:
            error = task.exception() if not task.cancelled() else None
            if error is not None:
                self._emit(TaskFailed(task=task.get_name(), error=str(error)))
                raise ReconcilerError(f"{task.get_name()} ended: {error}") from error

    async def _end(self, tasks: "list[asyncio.Task[Any]]", server: Server) -> None:
        """Stop taking work, hand claims back, close the API, end the rest."""
        self._stopping.set()
        self._manager.stopping()
        if self._worker is not None:
            self._worker.stop()
        if self._leftovers is not None:
            self._leftovers.stop()
        server.end()
        keep = [task for task in tasks if task.get_name() in {"worker", "api", "leftovers"}]
        await asyncio.wait(keep, timeout=self._settings.limits.stop_grace_s + 2 * CANCEL_WAIT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _look_for_circles() -> None:
    """From now on; modules and routes stay as long as we do, and are not looked through again each time."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)
