"""Cuts queries at the marks in them, to leave out what need not be asked; it knows nothing of what they ask.

A line `-- part: <name>` begins what is only for databases that have something of that part, and
`-- part: all` ends it.
"""

import re
from collections.abc import Container
from functools import cache

from psycopg import sql

from reconciler.postgres.queries import trusted
from reconciler.snapshot.transaction import QUERIES

_MARK = re.compile(r"^[ ]*-- part: (.+)\n", re.MULTILINE)
_ALL = "all"


@cache
def pieces(name: str) -> tuple[tuple[str, str], ...]:
    """A query in pieces, each with the part that it is for; the first is for all."""
    head, *marked = _MARK.split(QUERIES[name].as_string(None))
    return ((_ALL, head), *zip(marked[::2], marked[1::2], strict=True))


@cache
def parts_of(name: str) -> frozenset[str]:
    """The parts that a query has pieces for."""
    return frozenset(part for part, _text in pieces(name)) - {_ALL}


def without(name: str, present: Container[str]) -> sql.SQL:
    """A query without what is for parts that are not present."""
    return _of_parts(name, frozenset(part for part in parts_of(name) if part in present))


@cache
def _of_parts(name: str, parts: frozenset[str]) -> sql.SQL:
    return trusted("".join(text for part, text in pieces(name) if part == _ALL or part in parts))
