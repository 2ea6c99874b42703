"""Forecast how many locks statements take when they share one transaction; it asks no server.

Locks of a transaction stay until its end, in a table of the server that all share and that has a fixed size.
"""

import re
from collections.abc import Iterable

from reconciler.catalog.sql_text import Statement

LOCKS_OF: dict[str, int] = {
    "CreateStmt": 5,
    "CreateForeignTableStmt": 5,
    "CreateTableAsStmt": 9,
    "RefreshMatViewStmt": 18,
    "SelectStmt": 1,
    "InsertStmt": 2,
    "UpdateStmt": 2,
    "DeleteStmt": 2,
    "IndexStmt": 3,
    "ViewStmt": 4,
    "AlterTableStmt": 2,
    "CommentStmt": 2,
    "GrantStmt": 2,
    "CreateFunctionStmt": 2,
    "CompositeTypeStmt": 4,
    "CreateRoleStmt": 4,
    "CreateExtensionStmt": 128,
    "ReindexStmt": 12,
    "ClusterStmt": 24,
    "TruncateStmt": 12,
    "DropOwnedStmt": 64,
    "DoStmt": 8,
    "CallStmt": 8,
    "VariableSetStmt": 0,
}
"""Locks by the parser's name of a statement, as PostgreSQL 18 takes them, which takes more than those before.

Those of a table are its own, its type's, and its TOAST table's with what that is tied by.
"""
LOCKS_OF_OTHERS = 3
_DROPPED = {"DROP TABLE": 13, "DROP FOREIGN TABLE": 13, "DROP MATERIALIZED VIEW": 9, "DROP SCHEMA": 32}
"""Locks for each thing that is dropped; of a table, with a few that are tied to it."""
_DROPPED_OTHERS = 5
_BY_CASCADE = 14
_REWRITTEN = 24
"""The table that takes the place of one that is rewritten, with its indexes."""
_ADDS = (
    (re.compile(r"\b(?:primary\s+key|unique|exclude)\b", re.IGNORECASE), 3),
    (re.compile(r"\b(?:references|(?:small|big)?serial[248]?|identity)\b", re.IGNORECASE), 4),
    (re.compile(r"\b(?:like|partition\s+of)\b", re.IGNORECASE), 12),
    (re.compile(r"\binherits\b", re.IGNORECASE), 4),
    (re.compile(r"\bdrop\s+(?:constraint|column|identity)\b", re.IGNORECASE), 8),
    (re.compile(r"\b(?:attach|detach)\s+partition\b", re.IGNORECASE), 12),
)
_MATERIALIZED = re.compile(r"\bmaterialized\b", re.IGNORECASE)
_CASCADE = re.compile(r"\bcascade\b", re.IGNORECASE)
_NESTED_TABLE = re.compile(r"\bcreate\s+(?:unlogged\s+)?table\b", re.IGNORECASE)
_MAKES_RELATIONS = frozenset({"CreateStmt", "AlterTableStmt", "CreateSchemaStmt"})


def forecast(statements: Iterable[Statement]) -> int:
    """Say how many locks the statements take together, rather too many than too few.

    What a text does not tell counts with what is usual: the partitions of a table, what hangs on it and what
    functions do.
    """
    return sum(_of(statement) for statement in statements)


def _of(statement: Statement) -> int:
    node, text = statement.node, statement.text
    if node == "DropStmt":
        each = _DROPPED.get(statement.kind, _DROPPED_OTHERS)
        return (each + (_BY_CASCADE if _CASCADE.search(text) else 0)) * (1 + text.count(","))
    locks = LOCKS_OF.get(node, LOCKS_OF_OTHERS)
    if node in _MAKES_RELATIONS:
        locks += sum(count * len(words.findall(text)) for words, count in _ADDS)
    if node == "CreateSchemaStmt":
        locks += LOCKS_OF["CreateStmt"] * len(_NESTED_TABLE.findall(text))
    if node == "CreateTableAsStmt" and _MATERIALIZED.search(text):
        locks += LOCKS_OF["CreateTableAsStmt"]
    if statement.facts.rewrites and node == "AlterTableStmt":
        locks += _REWRITTEN
    return locks
