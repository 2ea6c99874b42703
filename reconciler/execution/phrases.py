"""Our own statements before, between and after scripts, as text, made once for a session.

A script finds the session as it began, and our statements find nothing of what a script has set. Nothing is
sent here.
"""

import re
from collections.abc import Iterable, Iterator

import psycopg

from reconciler.execution.messages import Piece, of_script
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.queries import Queries
from reconciler.state.program import Program
from reconciler.tracking.record import (
    Actor,
    ChangeRecord,
    ModuleIdentity,
    deployed_parameters,
    reverted_parameters,
)
from reconciler.tracking.sql import QUERIES as RECORD

_QUERIES = Queries.load("reconciler.execution")
_SETTING_NOTHING = frozenset({"DropStmt", "CommentStmt", "RenameStmt", "GrantStmt", "AlterOwnerStmt"})
"""Statements that run no code of anybody's, so that after them the session is as it was before."""

_PREPARED = ("forget_prepared",)
_NUMBER = "00"
"""Stands in the mark for the number."""
_SETTING_A_WATCH = frozenset({"CreateEventTrigStmt", "AlterEventTrigStmt", "CreateExtensionStmt"})


def limits_of(session: DatabaseSession) -> dict[str, str]:
    """What `limit_change` and `fresh_session` take."""
    limits = session.limits
    return {
        "lock_timeout_ms": str(int(limits.lock_timeout_s * 1000)),
        "statement_timeout_ms": str(int(limits.statement_timeout_s * 1000)),
        "synchronous_commit": "off",
    }


def number_of(name: str | None) -> int | None:
    """Which change a session is at, from 0, by the name that its mark has given it."""
    marked = re.fullmatch(r"reconciler/writer (\d{1,9})", name or "")
    return int(marked[1]) - 1 if marked is not None else None


def sets_a_watch(program: Program) -> bool:
    """Whether an event trigger may be there after a script that was not there before."""
    return any(statement.node in _SETTING_A_WATCH for statement in program.statements)


def is_quiet(program: Program) -> bool:
    """Whether a script surely leaves the session as it is, where no event trigger runs beside it."""
    return all(statement.node in _SETTING_NOTHING for statement in program.statements)


class Phrases:
    """What is sent around scripts in one session.

    `fresh` stands between transactions and leaves the session as it began, but for our limits; `again` is for
    the next script of the same transaction: temporary tables stay there, which may have checks pending.
    `limited` is what a script finds set.
    """

    def __init__(self, session: DatabaseSession, actor: Actor) -> None:
        self._client = psycopg.AsyncClientCursor(session.writer)
        self._fence = session.fence
        self._actor = actor
        limits = limits_of(session)
        self.begin, self.commit = (self._piece(name) for name in ("begin_change", "commit_change"))
        # In a session that keeps the fence too, prepared statements and locks are ours.
        prepared, kept = ((), "fresh_session_of_one") if session.is_one else (_PREPARED, "fresh_session")
        forget = tuple(self._piece(name) for name in ("close_cursors", *prepared, "forget_sequences"))
        more = tuple(self._piece(name) for name in ("stop_listening", "drop_temporary", "reset_settings"))
        fresh = self._piece(kept, limits)
        self.fresh = (self.begin, *forget, *more, fresh, self.commit)
        named = (self._piece("name_writer"),) if session.is_one else ()
        self.limited = (self._piece("reset_settings"), *named, self._piece("limit_change", limits))
        self.again = (*forget, self._piece("reset_role"), *self.limited)
        self._verify = (
            self._piece("begin_verify"),
            self._piece("reset_role"),
            *self.limited,
        )
        self._read_only = self._piece("verify_read_only")
        self._verified = (self._piece("end_verify"), self._piece("release_verify"))
        self._ours = Piece(self._client.mogrify(RECORD["reset_session"]))
        self._mark = self._piece("mark_change").text
        self.watched = self._piece("has_event_triggers")

    def _piece(self, name: str, parameters: dict[str, str] | None = None) -> Piece:
        # What is behind the statement is for whoever checks its file.
        return Piece(self._client.mogrify(_QUERIES[name], parameters).partition(";")[0])

    def marked(self, pieces: Iterable[Piece], number: int) -> Iterator[Piece]:
        """Pieces with a mark before each script, which says to others the how manieth change it is of."""
        for piece in pieces:
            if piece.program is not None and piece.number == 0:
                yield Piece(self._mark.replace(_NUMBER, str(number + 1)))
            yield piece

    def verify(self, program: Program, *, apart: bool) -> Iterator[Piece]:
        """A verify script, with all it does taken back."""
        first, *others = self._verify
        yield first._replace(apart=apart)
        yield from others
        if not program.writes:
            yield self._read_only
        yield from of_script(program, apart=apart)
        first, *others = self._verified
        yield first._replace(apart=apart)
        yield from others

    def deployed(self, module: ModuleIdentity, change: ChangeRecord, *, apart: bool) -> Iterator[Piece]:
        """The record of a change, and then what its deferred triggers are to find."""
        parameters = deployed_parameters(self._fence, module, change, self._actor)
        yield self._ours._replace(apart=apart)
        yield Piece(self._client.mogrify(RECORD["record_change"], parameters))
        yield from self.limited

    def reverted(
        self, project: str, change: tuple[str, str], *, quiet: bool = False, apart: bool = False
    ) -> Iterator[Piece]:
        """The removal of the record of a change (id, name)."""
        parameters = reverted_parameters(self._fence, project, change, self._actor)
        removed = Piece(self._client.mogrify(RECORD["revert_change"], parameters))
        if quiet:
            yield removed
            return
        yield self._ours._replace(apart=apart)
        yield removed
        yield from self.limited
