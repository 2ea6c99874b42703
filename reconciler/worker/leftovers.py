"""Removes what generations of SQL objects left: what was staged in vain, displaced for good, or taken back.

One at a time, under the fence of its database, object by object, and never anything that is not ours. What
cannot be removed now is kept, told, and tried again. It decides nothing about when something may go.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from reconciler.catalog.standing import Standing, standing
from reconciler.control import generations as noted
from reconciler.control import intents, windows
from reconciler.control.generations import Chore, Remains
from reconciler.errors import (
    Conflict,
    FenceTaken,
    LeaseLost,
    NotFound,
    ReconcilerError,
    TemporaryError,
)
from reconciler.events import BaseLineRetaken, Event, GenerationKept, GenerationRemoved, TaskFailed
from reconciler.execution.interference import Interference
from reconciler.execution.objects.cancelling import cancel
from reconciler.execution.objects.dropping import Dropped, is_nothing_left
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import retire
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.planner.left import sound_spec
from reconciler.planner.planner import Planner
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.postgres.failure import DatabaseMissing
from reconciler.snapshot.database import read_database
from reconciler.state.left import left_state
from reconciler.tracking import generations
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.generations import GenerationState
from reconciler.tracking.read import read_base_line_objects, read_under_fence
from reconciler.worker.lease import ControlAccess

EVERY_S = 5.0
"""Between two looks for something to remove, give or take a fifth."""
LEASE_S = 30.0
"""How long whoever takes one has it; the fence of the database keeps others out for as long as it takes."""
RETRY_FIRST_S = 15.0
RETRY_MOST_S = 3600.0
"""How long what could not be removed waits for another try; it doubles."""
LOCK_TIMEOUT_S = 0.2
"""Nobody who reads what is to go waits behind us for longer."""
ATTEMPTS = 3
"""Tries of each drop in one go."""
ERROR_MAX = 2_000
"""Characters of a reason that are recorded."""


class Leftovers:
    """Works through the generations that are to be removed, while this process has a worker."""

    def __init__(
        self,
        *,
        control: ControlAccess,
        planner: Planner,
        limits: Limits,
        emit: Callable[[Event], None],
        interference: Interference | None = None,
    ) -> None:
        self._worker: str | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._control = control
        self._planner = planner
        self._limits = replace(limits, lock_timeout_s=LOCK_TIMEOUT_S, patience_s=0.0)
        self._emit = emit
        self._interference = interference or Interference()

    def tell_worker(self, worker: str | None) -> None:
        """Say as which worker this process is registered; None while it is not."""
        self._worker = worker
        if worker is not None:
            self._wake.set()

    def stop(self) -> None:
        """End behind what is being removed just now, so that its base line is settled."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Remove until stopped; a control database that is away is asked the next time."""
        while not self._stopping:
            try:
                await self._end_windows()
                while await self.remove_one():
                    pass
            except TemporaryError:
                pass
            except Exception as error:  # noqa: BLE001 - a loop of the daemon goes on
                self._emit(TaskFailed(task="leftovers", error=f"{error!r}"))
            with suppress(TimeoutError):
                pause_s = EVERY_S * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
                await asyncio.wait_for(self._wake.wait(), timeout=pause_s)
            self._wake.clear()

    async def _end_windows(self) -> None:
        """End revert windows whose time is over: what is kept for them may go from then on."""
        if self._worker is not None:
            async with self._control.connection() as connection:
                await windows.expire_windows(connection)

    async def remove_one(self) -> bool:
        """Remove what is left of one generation, if that is due; false where nothing is."""
        if self._worker is None or self._stopping:
            return False
        async with self._control.connection() as connection:
            chore = await noted.take_due(connection, self._worker, lease_s=LEASE_S)
        if chore is None:
            return False
        try:
            dropped = await self._remove(chore)
        except (LeaseLost, FenceTaken):
            # Somebody works there: it is due again when our time with it is over.
            return True
        except ReconcilerError as error:
            await self._keep(chore, error)
            return True
        async with self._control.connection() as connection:
            if await noted.settle_chore(connection, chore):
                self._emit(
                    GenerationRemoved(
                        environment=chore.environment,
                        deployment=chore.deployment,
                        component=chore.component,
                        generation=chore.generation,
                        state=chore.state.value,
                        objects=len(dropped.objects),
                        schemas=len(dropped.schemas),
                    )
                )
        return True

    async def _keep(self, chore: Chore, error: ReconcilerError) -> None:
        why = str(error)[:ERROR_MAX]
        retry_s = min(RETRY_FIRST_S * 2 ** min(chore.failures, 20), RETRY_MOST_S)
        async with self._control.connection() as connection:
            if not await noted.postpone_chore(connection, chore, why, retry_s):
                return
        self._emit(
            GenerationKept(
                environment=chore.environment,
                deployment=chore.deployment,
                component=chore.component,
                generation=chore.generation,
                state=chore.state.value,
                error=why,
                retry_s=retry_s,
                is_news=why != chore.error,
            )
        )

    async def _remove(self, chore: Chore) -> Dropped:
        dsn = await self._dsn(chore)
        # A place of its own in the fence: no operation ends our session, as it would that of one before it,
        # and we end none of theirs.
        owner = FenceOwner(
            control_id=f"{await self._control.control_id()}/upkeep",
            environment=chore.environment,
            deployment=chore.deployment,
            operation=chore.operation,
        )
        stands: dict[str, Standing] = {}

        async def confirm(holder: Connection, _fence: Fence) -> None:
            async with self._control.connection() as connection:
                if not await noted.is_due(connection, chore):
                    raise LeaseLost(f"generation {chore.generation} is worked on, or another's by now")
            stands.update(await self._standing(chore, holder))

        try:
            holder = await connect(
                dsn,
                database=chore.database,
                role="fence",
                connect_timeout_s=self._limits.connect_timeout_s,
            )
        except DatabaseMissing:
            return Dropped()
        displaced = chore.state is Remains.PROMOTED
        try:
            is_nothing = await is_nothing_left(holder, chore.generation, displaced=displaced)
        except BaseException:
            await holder.close()
            raise
        if is_nothing:
            await holder.close()
            return Dropped()
        session = await open_session(
            dsn,
            chore.database,
            owner,
            limits=self._limits,
            install_tracking=True,
            confirm=confirm,
            holder=holder,
        )
        session.standing = stands
        return await self._drop(chore, session)

    async def _drop(self, chore: Chore, session: DatabaseSession) -> Dropped:
        """Drop, and settle the base line in any case: what is gone was ours."""
        try:
            dropped = await self._drop_in(chore, session)
        except LeaseLost:
            await session.abandon()
            raise
        except ReconcilerError as error:
            try:
                await session.finish()
            except ReconcilerError as second:
                error.add_note(f"settling the base line: {second}")
            raise
        except BaseException:
            await session.abandon()
            raise
        await session.finish()
        return dropped

    async def _drop_in(self, chore: Chore, session: DatabaseSession) -> Dropped:
        manner = Manner(lock_timeout_s=LOCK_TIMEOUT_S, attempts=ATTEMPTS, interference=self._interference)
        if await is_nothing_left(session.writer, chore.generation, displaced=chore.state is Remains.PROMOTED):
            return Dropped()
        found = await generations.find(session.writer, key=chore.generation)
        if chore.state is Remains.REVERTED and found.state is not GenerationState.REVERTED:
            raise Conflict(
                f"removing what was taken back of generation {chore.generation}: it is {found.state.value}",
                hint="see `reconciler history` for what happened to it",
            )
        if found.promoted_at is None:
            return await cancel(session, chore.generation, manner=manner)
        # One that is live though nobody noted that: what it displaced is kept for as long as was said.
        was_noted = chore.state is not Remains.STAGED
        return await retire(session, chore.generation, now=was_noted, manner=manner)

    async def _standing(self, chore: Chore, holder: Connection) -> dict[str, Standing]:
        """Drift that stands before we write, so that it stays drift."""
        base_line = (await read_under_fence(holder)).base_line
        if base_line is None:
            return {}
        if base_line.moving:
            self._emit(
                BaseLineRetaken(
                    environment=chore.environment,
                    deployment=chore.deployment,
                    database=chore.database,
                    reason="an operation was interrupted, or what a generation left was being removed",
                )
            )
            return {}
        live = await read_database(holder, known_probe=base_line.probe)
        if live.catalog is None:
            return {}
        return standing(await read_base_line_objects(holder), live.catalog.objects)

    async def _dsn(self, chore: Chore) -> Dsn:
        """Where it stands, by the commit that is followed, or the one that made it."""
        async with self._control.connection() as connection:
            head = await intents.followed(connection, chore.environment)
        elsewhere: list[str] = []
        for commit in dict.fromkeys(one for one in (head, chore.commit) if one is not None):
            view = await self._planner.view(chore.source, commit)
            try:
                spec = sound_spec(view, chore.environment)
                state = left_state(spec, chore.deployment, commit=commit, declared_at=commit)
                server, dsn = await self._planner.place_of(state, chore.database)
            except TemporaryError:
                # It is known where, and just now not how to get there.
                raise
            except ReconcilerError as error:
                elsewhere.append(f"at commit {commit[:12]}: {error.message}")
                continue
            if server == chore.server:
                return dsn
            elsewhere.append(f"at commit {commit[:12]} it is on {server}")
        raise NotFound(
            f"connecting to {chore.server} for what is left of generation {chore.generation} on"
            f" '{chore.deployment}': {'; '.join(elsewhere)}",
            hint="declare the deployment there again, or drop the schemas by hand",
        )
