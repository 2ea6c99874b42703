"""Send changes row by row of them: a transaction each or one for all, as many in a message as are quick.

What is sent of a change, and what is said of one that fails, is its owner's to say. Between two calls nothing
is under way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

import psycopg

from reconciler.errors import ReconcilerError
from reconciler.execution.messages import Chapter, Exchange, Piece
from reconciler.execution.pace import Pace, fitting
from reconciler.execution.phrases import Phrases, number_of, sets_a_watch
from reconciler.execution.scripts import ScriptFault, roll_back
from reconciler.execution.session import DatabaseSession
from reconciler.frozen import frozen
from reconciler.state.program import Program

ChangeT = TypeVar("ChangeT")
IN_ONE_AT_ONCE = 200
"""Changes in one message where several share a transaction, in which there is no safe point."""
LOOK_TIMEOUT_S = 1.0
"""How long a look at what is done of a message may take: a script may lock what is looked at."""


@frozen
class Work(Generic[ChangeT]):
    """What is done with each change.

    `pieces` are what stands in its transaction (`apart`: each statement of its scripts in a message of its
    own; `quiet`: with nothing around them); `is_quiet` says that they surely leave the session as it is.
    `told` hears of a change that is written and not committed yet, which costs a round trip. `change_id` is
    what a change is recorded by; where it is `gone` once it is done, it is no longer recorded then. `begun`
    hears of one whose script runs while those that share its transaction are not done.
    """

    program: Callable[[ChangeT], Program]
    pieces: Callable[[ChangeT, bool, bool], Iterator[Piece]]
    explain: Callable[[ChangeT, ScriptFault | psycopg.Error], Awaitable[ReconcilerError]]
    done: Callable[[ChangeT], Awaitable[None]]
    change_id: Callable[[ChangeT], str]
    gone: bool = False
    is_quiet: Callable[[ChangeT], bool] = lambda _change: False
    told: Callable[[ChangeT], None] | None = None
    begun: Callable[[ChangeT], Awaitable[None]] | None = None


class Row(Generic[ChangeT]):
    """Changes that are carried out in their order, and how far that is."""

    def __init__(
        self,
        session: DatabaseSession,
        phrases: Phrases,
        changes: Sequence[ChangeT],
        work: Work[ChangeT],
    ) -> None:
        self._session = session
        self._phrases = phrases
        self._changes = changes
        self._work = work
        self._pace = Pace(alone=work.told is not None)
        self._position = 0
        self._telling = asyncio.Lock()
        self._under_way: tuple[int, Sequence[ChangeT]] = (0, ())
        """What is in the message that is under way, a transaction each, and the place of the first of it."""
        self._sharing: Sequence[ChangeT] = ()
        """What shares the transaction that is under way."""
        self._watched = True
        """Whether event triggers may be there; they may read what was sent, so that each statement is."""

    @property
    def begun(self) -> bool:
        """Whether any was carried out."""
        return self._position > 0

    @property
    def left(self) -> Sequence[ChangeT]:
        """Those that are left."""
        return self._changes[self._position :]

    async def some(self) -> None:
        """Carry out the next ones; those before one that fails stay so, and it is the next then."""
        group = self._together()
        if self._work.told is not None:
            return await self._one_told(group[0])
        exchange = Exchange(list(self._chapters(group)), self._phrases.watched)
        began = time.monotonic()
        if await self._carry(exchange, group, commits=True):
            self._watched = exchange.value != b"f"
            self._pace.took(time.monotonic() - began)
        return None

    async def look(self) -> None:
        """Tell what is done of the message under way, or runs; asked beside what takes its time.

        The answer comes when all of a message is done, but what is committed is to be seen before, and in one
        transaction the mark that stands before each script.
        """
        if len(self._sharing) > 1:
            return await self._look_inside()
        start, group = self._under_way
        if len(group) < 2:  # of one alone nothing is done before the answer comes
            return None
        gone, change_id = self._work.gone, self._work.change_id
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                recorded = await self._session.recorded([change_id(change) for change in group])
        except (TimeoutError, psycopg.Error):
            return None
        done = takewhile(lambda change: (change_id(change) in recorded) is not gone, group)
        await self._reached(start + sum(1 for _ in done))
        return None

    async def _look_inside(self) -> None:
        """Tell which of the changes of one transaction runs."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                number = number_of(await self._session.writer_name())
        except (TimeoutError, psycopg.Error):
            return
        async with self._telling:
            if number is not None and number < len(self._sharing) and self._work.begun is not None:
                await self._work.begun(self._sharing[number])

    def _chapters(self, group: Sequence[ChangeT]) -> Iterator[Chapter]:
        """A transaction of each; one that surely leaves the session as it is needs nothing around it."""
        phrases, before = self._phrases, self._phrases.fresh
        # What is alone may take long: then the server shows the statement it is at.
        apart = self._watched or len(group) == 1
        clean = not apart
        for change in group:
            clean = clean and self._work.is_quiet(change)
            pieces = (*before, phrases.begin, *self._pieces(change, apart, quiet=clean), phrases.commit)
            yield Chapter(change, pieces, () if clean else phrases.fresh)
            before = ()

    async def _one_told(self, change: ChangeT) -> None:
        """Carry out one change, and tell before it commits."""
        phrases, told = self._phrases, self._work.told
        assert told is not None
        pieces = (*phrases.fresh, phrases.begin, *self._pieces(change, True))
        await self._carry(Exchange([Chapter(change, pieces)]), [change], commits=False)
        try:
            told(change)
        except BaseException:
            await roll_back(self._session)
            raise
        await self._carry(Exchange([Chapter(change, (phrases.commit,))]), [change], commits=True)

    async def in_one(self, count: int) -> None:
        """Carry out the next ones in one transaction, message after message."""
        phrases, told = self._phrases, self._work.told
        changes, at_once = self.left[:count], 1 if told is not None else IN_ONE_AT_ONCE
        asked = Exchange([Chapter(changes[0], (*phrases.fresh, phrases.watched))])
        await self._carry(asked, changes, commits=False)
        self._watched = asked.value != b"f"
        try:
            start, self._sharing = 0, changes
            while start < len(changes):
                group = self._fitting(changes[start : start + at_once])
                await self._carry(Exchange(list(self._shared(group, start))), group, commits=False)
                start += len(group)
                self._watched = self._watched or sets_a_watch(self._work.program(group[-1]))
                if told is not None:
                    told(group[0])
            last = Exchange([Chapter(changes[-1], (phrases.commit,))])
            await self._carry(last, changes[-1:], commits=False)
        except BaseException:
            await roll_back(self._session)
            raise
        finally:
            self._sharing = ()
        await self._reached(self._position + len(changes))

    def _shared(self, group: Sequence[ChangeT], start: int) -> Iterator[Chapter]:
        """Changes of one transaction, of which so many were sent before."""
        phrases, clean = self._phrases, not self._watched
        before = phrases.again if start else (phrases.begin, *phrases.limited)
        for number, change in enumerate(group, start):
            clean = clean and self._work.is_quiet(change)
            pieces = phrases.marked(self._pieces(change, self._watched, quiet=clean), number)
            yield Chapter(change, (*before, *pieces))
            before = () if clean else phrases.again

    async def _carry(self, exchange: Exchange, group: Sequence[ChangeT], *, commits: bool) -> bool:
        """Send, and take back what failed; whether all of it came through.

        Where `commits`, what was done before stays, and is told as done. Nothing is told of what fails
        behind a change, and of a message that nobody understood: it is sent again, change by change.
        """
        lost: psycopg.Error | None = None
        whole, start = False, self._position
        self._under_way = (start, group) if commits else (start, ())
        try:
            await exchange.run(self._session.writer)
            whole = not exchange.failed
        except psycopg.Error as error:
            lost = error
        finally:
            self._under_way = (start, ())
            if not whole:
                await roll_back(self._session)
            if commits:
                await self._reached(start + exchange.finished)
        if whole:
            return True
        self._pace.failed()
        if commits and exchange.unread:
            return False
        found = exchange.fault()
        if found is None and lost is not None:
            finished = max(exchange.finished, self._position - start)
            found = group[min(finished, len(group) - 1)], lost
        if found is None:
            return False
        whose, cause = found
        raise await self._work.explain(whose, cause) from cause

    def _together(self) -> Sequence[ChangeT]:
        """The next changes that are sent at once; what runs outside of transactions is by itself."""
        program, first = self._work.program, self._changes[self._position]
        if self._watched or not program(first).transactional:
            return [first]
        following = self._changes[self._position : self._position + self._pace.at_once]
        return self._fitting(list(takewhile(lambda change: program(change).transactional, following)))

    def _fitting(self, group: Sequence[ChangeT]) -> Sequence[ChangeT]:
        """As many as go in one message; an event trigger is to find none of what follows it beside."""
        programs = [self._work.program(change) for change in group]
        watch = next((number for number, program in enumerate(programs, 1) if sets_a_watch(program)), None)
        return group[: fitting(programs[:watch])]

    def _pieces(self, change: ChangeT, apart: bool, *, quiet: bool = False) -> Iterator[Piece]:
        return self._work.pieces(change, apart, quiet)

    async def _reached(self, position: int) -> None:
        """Tell those before `position` as done that were not yet, one after the other."""
        async with self._telling:
            while self._position < position:
                self._position += 1
                await self._work.done(self._changes[self._position - 1])
