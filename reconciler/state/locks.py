"""Forecast how many locks statements take when they share one transaction; it asks no server.

Locks of a transaction stay until its end, in a table of the server that all share and that has a fixed size.
"""

import re
from collections.abc import Iterable

from reconciler.catalog.sql_text import Statement

LOCKS_OF: dict[str, int] = {
    "CreateStmt": 6,
    "CreateForeignTableStmt": 4,
    "CreateTableAsStmt": 8,
    "SelectStmt": 1,
    "InsertStmt": 2,
    "UpdateStmt": 2,
    "DeleteStmt": 2,
    "IndexStmt": 2,
    "ViewStmt": 3,
    "AlterTableStmt": 2,
    "DropStmt": 8,
    "DropOwnedStmt": 64,
    "DoStmt": 8,
    "CallStmt": 8,
    "VariableSetStmt": 0,
}
"""Locks by the parser's name of a statement; those of a table are its own, its row type's and its TOAST's."""
LOCKS_OF_OTHERS = 2
LOCKS_OF_LIKE = 8
_ADDS = re.compile(
    r"\b(?:primary\s+key|unique|exclude|references|serial|bigserial|identity)\b", re.IGNORECASE
)
_LIKE = re.compile(r"\blike\b", re.IGNORECASE)
_MAKES_RELATIONS = frozenset({"CreateStmt", "AlterTableStmt"})


def forecast(statements: Iterable[Statement]) -> int:
    """Say how many locks the statements take together, rather too many than too few."""
    return sum(_of(statement) for statement in statements)


def _of(statement: Statement) -> int:
    locks = LOCKS_OF.get(statement.node, LOCKS_OF_OTHERS)
    if statement.node in _MAKES_RELATIONS:
        locks += 2 * len(_ADDS.findall(statement.text))
    if statement.node == "CreateStmt" and _LIKE.search(statement.text):
        locks += LOCKS_OF_LIKE
    if statement.node == "DropStmt":
        locks += 8 * statement.text.count(",")
    return locks
