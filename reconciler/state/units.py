"""Cut a program that cannot be one transaction into units, and say where to go on with one that was begun.

A unit is done or not done, and nothing between; of most, the database shows which.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from reconciler.catalog.sql_text import Statement
from reconciler.frozen import frozen
from reconciler.state.program import Program
from reconciler.state.tracked import Unfinished

_OPENS, _CLOSES = "BEGIN", frozenset({"COMMIT", "ROLLBACK", "PREPARE TRANSACTION"})
_ENDS_TRANSACTIONS = re.compile(r"\b(?:commit|rollback)\b", re.IGNORECASE)


class How(StrEnum):
    """How a unit is run: as a transaction of the script, in one of ours, or outside of any."""

    BLOCK = "block"
    WRAPPED = "wrapped"
    ALONE = "alone"


@frozen
class Unit:
    """Statements of a program, from `first` to `last`, that are done together; `hash` is of their text."""

    first: int
    last: int
    how: How
    hash: str
    words: str

    def recognisable(self, program: Program) -> bool:
        """Whether the database shows what became of it when nobody saw it end."""
        return self.how is not How.ALONE or program.statements[self.first].facts.target is not None


@frozen
class Resumption:
    """Where to go on: at unit `start`, which was under way if `running`; `doubt`: why a person decides."""

    start: int = 0
    running: bool = False
    doubt: str | None = None


def units(program: Program) -> tuple[Unit, ...]:
    """The units of a program, in order; together they are all of its statements."""
    found: list[Unit] = []
    first = 0
    statements = program.statements
    while first < len(statements):
        last, how = first, _how(statements[first])
        if statements[first].facts.transaction == _OPENS:
            how = How.BLOCK
            while last + 1 < len(statements) and not _closes(statements[last]):
                last += 1
        found.append(_unit(program, first, last, how))
        first = last + 1
    return tuple(found)


def left_of(unfinished: Mapping[str, Unfinished], change: tuple[str, str], project: str) -> Unfinished | None:
    """What is noted of a change: by its id, else by its name: the id moves with every line before."""
    change_id, name = change
    found = unfinished.get(change_id)
    if found is not None or not unfinished:
        return found
    return next((left for left in unfinished.values() if (left.project, left.name) == (project, name)), None)


def resumption(program: Program, parts: Sequence[Unit], left: Unfinished | None) -> Resumption:
    """Say where to go on with a change, by what is noted of it; None where nothing is."""
    if left is None:
        return Resumption()
    done = len(left.done)
    if tuple(part.hash for part in parts[:done]) != left.done:
        words = f"{done} statement{'' if done == 1 else 's'} of another version of the script ran"
        return Resumption(doubt=f"{words}, up to {left.words}")
    if left.running is None:
        return Resumption(start=done)
    if done >= len(parts) or parts[done].hash != left.running:
        return Resumption(start=done, doubt=f"another version of the script was interrupted in {left.words}")
    if parts[done].recognisable(program):
        return Resumption(start=done, running=True)
    return Resumption(start=done, doubt=f"{left.words} was interrupted, and may have done its work")


def settings(program: Program, before: int) -> tuple[int, ...]:
    """The statements before a unit that set something for the whole session, which went with it."""
    return tuple(
        index
        for index, statement in enumerate(program.statements[:before])
        if statement.facts.sets is not None and not statement.text.upper().startswith("SET LOCAL")
    )


def _how(statement: Statement) -> How:
    facts = statement.facts
    if facts.outside_transaction or facts.transaction or statement.node == "CallStmt":
        return How.ALONE
    if statement.node == "DoStmt" and _ENDS_TRANSACTIONS.search(statement.text):
        return How.ALONE
    return How.WRAPPED


def _closes(statement: Statement) -> bool:
    return statement.facts.transaction in _CLOSES and statement.facts.bare


def _unit(program: Program, first: int, last: int, how: How) -> Unit:
    digest = hashlib.sha256()
    for index in range(first, last + 1):
        digest.update(program.statements[index].text.encode("utf-8", "surrogatepass") + b"\0")
        data = program.data_of(index)
        if data is not None:
            for chunk in data.chunks():
                digest.update(chunk)
    place = program.place(first)
    kind = program.statements[first].facts.outside_transaction or program.statements[first].kind
    return Unit(
        first=first,
        last=last,
        how=how,
        hash=digest.hexdigest(),
        words=f"{kind} at {place.file}:{place.line}",
    )
