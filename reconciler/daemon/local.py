"""The reconciler without a daemon: what a command uses where none answers, under the same locks."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from reconciler.daemon.local_readers import open_readers
from reconciler.daemon.parts import Parts, build_around
from reconciler.daemon.readers import Hooks
from reconciler.errors import PermanentError, TemporaryError
from reconciler.postgres.connection import Dsn
from reconciler.reconcile.facade import Reconciler
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.status import OperationStatus, RolloutStatus
from reconciler.settings import Settings

LOOK_EVERY_S = 0.5
LEFTOVERS_S = 30.0
"""How long a command waits for what it is just removing of SQL objects."""
MOVES_BY_ITSELF = frozenset(
    {
        OperationState.PENDING,
        OperationState.RUNNING,
        OperationState.PROMOTING,
        OperationState.REVERTING,
        OperationState.RETRYING,
    }
)
"""States that some worker takes an operation out of, without anybody deciding anything."""


@dataclass(slots=True, kw_only=True)
class Local:
    """A reconciler of this process, and a worker on demand."""

    settings: Settings
    parts: Parts
    control: Dsn | None
    hooks: Hooks

    @property
    def reconciler(self) -> Reconciler:
        """The facade."""
        return self.parts.reconciler

    async def look(self) -> None:
        """Look at every source and record what was found; what cannot be read now is left as it was."""
        for source in self.parts.repositories:
            with suppress(TemporaryError):
                await self.parts.passes.pass_source(source)

    async def work(self, rollout: str) -> RolloutStatus:
        """Work on one rollout until its operations settle or wait for somebody, and say how it stands."""
        if self.control is None:
            raise PermanentError("there is no control database")
        from reconciler.daemon.workers import build_leftovers, build_worker

        name = f"{socket.gethostname()}/{os.getpid()}"
        leftovers = build_leftovers(self.settings, self.parts, self.control, self.hooks)
        worker = build_worker(
            self.settings,
            self.parts,
            self.control,
            name,
            self.hooks,
            passes=False,
            on_peers=lambda me, _peers: leftovers.tell_worker(me),
        )
        removing = asyncio.create_task(leftovers.run())
        try:
            return await self._work(lambda number: worker.run(only_rollout=number), rollout)
        finally:
            leftovers.stop()
            await asyncio.wait({removing}, timeout=LEFTOVERS_S)
            removing.cancel()
            await asyncio.wait({removing})

    async def _work(self, run: Callable[[str], Awaitable[None]], rollout: str) -> RolloutStatus:
        while True:
            await run(rollout)
            status = await self.reconciler.rollout(rollout, steps=False)
            # What another worker has under way, or is to end first, is waited for like our own.
            if not any(_moves_by_itself(one) for one in status.operations):
                return status
            if status.state is RolloutState.PAUSED:
                return status
            if (await self.reconciler.environment(status.environment)).suspended:
                return status
            for other in await self._to_be_ended(status):
                await run(other)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _to_be_ended(self, status: RolloutStatus) -> list[str]:
        """Rollouts whose place this one took, and that are not over: their worker may be gone for good.

        Where it lives nothing of them can be claimed, and it ends them itself.
        """
        if not any(one.state is OperationState.PENDING for one in status.operations):
            return []
        open_, left, seen = [], list(status.replaces), set[str]()
        while left:
            number = left.pop()
            if number not in seen:
                seen.add(number)
                found = await self.reconciler.rollout(number, steps=False)
                if found.finished_at is None:
                    open_.append(number)
                    left += found.replaces
        return sorted(open_, key=int)


def _moves_by_itself(operation: OperationStatus) -> bool:
    if operation.state is OperationState.WAITING_FOR_PROMOTION:
        return not operation.waits_for_person
    return operation.state in MOVES_BY_ITSELF


@asynccontextmanager
async def open_local(
    settings: Settings, environ: Mapping[str, str], *, needs_control: bool
) -> AsyncIterator[Local]:
    """Open the databases directly, as `open_readers` does, with all that a reconciler has."""
    async with open_readers(settings, environ, needs_control=needs_control) as opened:
        parts = build_around(opened.readers, settings, opened.control, opened.hooks, only_look=True)
        try:
            yield Local(settings=settings, parts=parts, control=opened.control, hooks=opened.hooks)
        finally:
            await parts.passes.close()
