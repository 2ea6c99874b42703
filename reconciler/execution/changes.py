"""Deploy changes of a module: script, verify script and record in one transaction each, where that can be."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import psycopg

from reconciler.errors import Refused
from reconciler.execution import outside
from reconciler.execution.messages import Chapter, Exchange, Piece
from reconciler.execution.pace import Pace, fitting
from reconciler.execution.phrases import Phrases
from reconciler.execution.scripts import explain, record_of, roll_back, with_lock_retries
from reconciler.execution.session import DatabaseSession
from reconciler.state.desired import DesiredChange, DesiredModule, TransactionMode
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.state.tracked import Unfinished
from reconciler.tracking.record import Actor, ModuleIdentity

_WAY_OUT = (
    "look at the database; then run it again with --allow-hazard REPEATS_STATEMENT, or, if all of the change"
    " is there, record it as deployed with `reconciler module deploy --log-only`"
)
LOCKS_PER_STATEMENT = 4
"""Locks one statement that makes an object takes at the most: table, index, sequence, toast."""
SCRIPTS_AT_ONCE = 200
"""Changes in one message where all of a module is one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who is told how far it is.

    `done` after each change; `safe_point` where nothing is under way and changes are left, raising to stop
    there; `recorded` where script and record are written and not committed yet, which costs a round trip;
    `repeats` says whether a person agreed that what may have run already of a change is run again.
    """

    done: Callable[[DesiredChange], Awaitable[None]]
    safe_point: Callable[[], Awaitable[None]]
    recorded: Callable[[DesiredChange], None] | None = None
    repeats: Callable[[DesiredChange], bool] | None = None


async def deploy(
    session: DatabaseSession,
    module: DesiredModule,
    changes: Sequence[DesiredChange],
    actor: Actor,
    progress: Progress,
) -> None:
    """Deploy `changes` in order; each is recorded if and only if it was applied.

    Raises StepFailed with file and line, LockNotAcquired after the last try, or what `progress` raises.
    """
    identity = ModuleIdentity(project=module.project, component=module.component, uri=module.uri)
    row = _Row(session, identity, changes, actor, progress)
    if module.transaction is TransactionMode.MODULE:
        await _forecast_locks(session, module, changes)
        await with_lock_retries(session, row.all_in_one, progress.safe_point)
        return
    while row.left:
        if row.begun:
            await progress.safe_point()
        await row.outside()
        await with_lock_retries(session, row.some, progress.safe_point)


class _Row:
    """Changes to deploy, as many sent at once as are quick: while we read what came of them, nobody waits.

    The fence is checked where a change is recorded, in the same transaction.
    """

    def __init__(
        self,
        session: DatabaseSession,
        identity: ModuleIdentity,
        changes: Sequence[DesiredChange],
        actor: Actor,
        progress: Progress,
    ) -> None:
        self._session = session
        self._identity = identity
        self._changes = changes
        self._actor = actor
        self._progress = progress
        self._phrases = Phrases(session, actor)
        self._pace = Pace(alone=progress.recorded is not None)
        self._position = 0
        self._watched = True
        """Whether event triggers may be there; they may read what was sent, so that each statement is."""

    @property
    def begun(self) -> bool:
        """Whether any was deployed."""
        return self._position > 0

    @property
    def left(self) -> bool:
        """Whether any is left."""
        return self._position < len(self._changes)

    async def outside(self) -> None:
        """Run the next script where it cannot be one transaction; it is verified and recorded behind that."""
        change, repeats = self._changes[self._position], self._progress.repeats
        if change.transactional:
            return
        subject = subject_of(self._session, self._identity, change, self._actor)
        run = outside.Run(self._session, subject, self._actor)
        again = repeats is not None and repeats(change)
        await run.carry_out(self._progress.safe_point, again=again)

    async def some(self) -> None:
        """Deploy the next ones; those before one that fails stay so, and it is the next then."""
        group, phrases = self._together(), self._phrases
        if self._progress.recorded is not None:
            return await self._one_told(group[0])
        chapters = [
            Chapter(change, (phrases.begin, *self._pieces(change), phrases.commit), phrases.fresh)
            for change in group
        ]
        chapters[0] = chapters[0]._replace(pieces=(*phrases.fresh, *chapters[0].pieces))
        exchange = Exchange(chapters, phrases.watched)
        began = time.monotonic()
        if await self._carry(exchange, group, commits=True):
            self._watched = exchange.value != b"f"
            self._pace.took(time.monotonic() - began)
        return None

    async def _one_told(self, change: DesiredChange) -> None:
        """Deploy one change, and tell before it commits."""
        phrases, told = self._phrases, self._progress.recorded
        assert told is not None
        pieces = (*phrases.fresh, phrases.begin, *self._pieces(change))
        await self._carry(Exchange([Chapter(change, pieces)]), [change], commits=False)
        try:
            told(change)
        except BaseException:
            await roll_back(self._session)
            raise
        await self._carry(Exchange([Chapter(change, (phrases.commit,))]), [change], commits=True)

    async def all_in_one(self) -> None:
        """Deploy all of them in one transaction, message after message."""
        phrases, told = self._phrases, self._progress.recorded
        changes, at_once = self._changes, 1 if told is not None else SCRIPTS_AT_ONCE
        asked = Exchange([Chapter(changes[0], (*phrases.fresh, phrases.watched))])
        await self._carry(asked, changes, commits=False)
        self._watched = asked.value != b"f"
        try:
            start = 0
            while start < len(changes):
                group = changes[start : start + at_once]
                group = group[: fitting([_program(change) for change in group])]
                before = phrases.again if start else (phrases.begin, *phrases.limited)
                chapters = [
                    Chapter(change, (*(phrases.again if number else before), *self._pieces(change)))
                    for number, change in enumerate(group)
                ]
                await self._carry(Exchange(chapters), group, commits=False)
                start += len(group)
                if told is not None:
                    told(group[0])
            last = Exchange([Chapter(changes[-1], (phrases.commit,))])
            await self._carry(last, changes[-1:], commits=False)
        except BaseException:
            await roll_back(self._session)
            raise
        await self._advance(len(changes))

    async def _carry(self, exchange: Exchange, group: Sequence[DesiredChange], *, commits: bool) -> bool:
        """Send, and take back what failed; whether all of it came through.

        Where `commits`, what was done before stays, and is told as done. Nothing is told of what fails
        behind a change, and of a message that nobody understood: it is sent again, change by change.
        """
        lost: psycopg.Error | None = None
        whole = False
        try:
            await exchange.run(self._session.writer)
            whole = not exchange.failed
        except psycopg.Error as error:
            lost = error
        finally:
            if not whole:
                await roll_back(self._session)
            if commits:
                await self._advance(exchange.finished)
        if whole:
            return True
        self._pace.failed()
        if commits and exchange.unread:
            return False
        found = exchange.fault()
        if found is None and lost is not None:
            found = group[min(exchange.finished, len(group) - 1)], lost
        if found is None:
            return False
        whose, cause = found
        raise await explain(self._session, self._identity, whose, cause, self._actor) from cause

    def _together(self) -> Sequence[DesiredChange]:
        """The next changes that are sent at once; what runs outside of transactions is by itself."""
        first = self._changes[self._position]
        if self._watched or not first.transactional:
            return [first]
        following = self._changes[self._position : self._position + self._pace.at_once]
        group = list(takewhile(lambda change: change.transactional, following))
        return group[: fitting([_program(change) for change in group])]

    def _pieces(self, change: DesiredChange) -> Iterator[Piece]:
        """Script, verify script and record of a change."""
        if change.transactional:
            yield from self._phrases.script(_program(change), apart=self._watched)
        if change.verify is not None:
            program = compile_script(change.verify, purpose=Purpose.VERIFY)
            yield from self._phrases.verify(program, apart=self._watched)
        yield from self._phrases.deployed(self._identity, record_of(change), apart=self._watched)

    async def _advance(self, count: int) -> None:
        for _ in range(count):
            self._position += 1
            await self._progress.done(self._changes[self._position - 1])


def _program(change: DesiredChange) -> Program:
    return compile_script(change.deploy, purpose=Purpose.DEPLOY)


def subject_of(
    session: DatabaseSession, identity: ModuleIdentity, change: DesiredChange, actor: Actor
) -> outside.Subject:
    """The deploy script of a change, to be run outside of transactions."""
    return outside.Subject(
        program=_program(change),
        noted=Unfinished(
            change_id=change.change_id,
            project=identity.project,
            name=change.name,
            script_hash=change.script_hash,
        ),
        whose=change,
        doing=f"deploying change '{change.name}' of module '{identity.project}' to database "
        f"'{session.database}'",
        way_out=_WAY_OUT,
        explain=lambda error: explain(session, identity, change, error, actor),
    )


async def _forecast_locks(
    session: DatabaseSession, module: DesiredModule, changes: Sequence[DesiredChange]
) -> None:
    """Refuse a whole-module transaction that would not fit into the server's lock table."""
    statements = sum(len(_program(change).statements) for change in changes)
    capacity = await session.lock_capacity()
    if statements * LOCKS_PER_STATEMENT > capacity:
        raise Refused(
            f"deploying module '{module.project}' in one transaction may take "
            f"{statements * LOCKS_PER_STATEMENT} locks, and the server at {session.server} "
            f"surely has room for {capacity}",
            hint="use transaction: change, or raise max_locks_per_transaction",
        )
