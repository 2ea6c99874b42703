"""Asks the server for one hash over its catalogs, so that a full read is made only when something moved."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import psycopg
from psycopg import sql

from reconciler.catalog.fingerprint import ALGORITHM
from reconciler.postgres.queries import trusted
from reconciler.snapshot.marked import parts_of, pieces
from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly, reading

__all__ = ["ALGORITHM", "Probe", "Probing", "probe", "whole_query"]

_PARTS = (
    *(
        "columns",
        "relations",
        "indexes",
        "constraints",
        "routines",
        "types",
        "labels",
        "defaults",
        "triggers",
    ),
    *("rules", "policies", "sequences", "inherits", "comments", "schemas", "extensions", "members"),
    *("default privileges", "event triggers", "publications", "published tables", "published schemas"),
    *("foreign tables", "foreign servers", "aggregates", "ranges", "collations", "operators"),
    *("operator classes", "text search", "languages", "access methods", "tablespaces", "roles", "settings"),
    "database",
)
"""All parts, in the order they are hashed in."""
_BETWEEN = "\nUNION ALL\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found.

    `text` always changes with DDL on what a snapshot shows, and work with data leaves it. It may also change
    where no definition did (REINDEX, say); a full read then follows for nothing. `present` are the parts that
    have rows: what reading in the same transaction need look for at all. `asked` are those that were looked
    for since there might have been some.
    """

    text: str
    present: frozenset[str]
    asked: frozenset[str] = frozenset()


class Probing:
    """Probes in a transaction and a pipeline of the caller, which others may share.

    Parts that most databases have none of are asked for where there may be some: opening a catalog with its
    indexes costs a new session of the server more than all that is found there. Errors come as the driver's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._first: psycopg.AsyncCursor[tuple[Any, ...]] | None = None
        self._more: psycopg.AsyncCursor[tuple[Any, ...]] | None = None
        self._hashes: dict[str, str | None] = {}
        self._also: frozenset[str] = frozenset()

    async def send_first(self) -> None:
        """Ask for what every database has."""
        # Who goes on to write asks it again on the same connection: planning it is most of its cost.
        self._first = await self._connection.execute(QUERIES["probe"], prepare=True)

    async def send_second(self) -> None:
        """Ask for what there may be beside."""
        assert self._first is not None
        rows = await self._first.fetchall()
        self._hashes = {name: hashed for name, hashed, _also in rows}
        self._also = frozenset(name for row in rows for name in (row[2] or "").split(",") if name)
        if self._asked:
            self._more = await self._connection.execute(_asking_for(self._asked), prepare=True)

    async def finish(self) -> Probe:
        """What was found, once everything was sent."""
        if self._more is not None:
            self._hashes |= dict(await self._more.fetchall())
        found = frozenset(name for name, hashed in self._hashes.items() if hashed is not None)
        # Composites are no part, but something to read.
        present = found | (self._also - frozenset(_PARTS))
        return Probe(text=_text(self._hashes), present=present, asked=self._asked)

    @property
    def _asked(self) -> frozenset[str]:
        return self._also & parts_of("probe_more")


async def probe(connection: Connection) -> str:
    """The text of a probe made now, whatever the settings of the session, which must be in no transaction."""

    async def once() -> str:
        probing = Probing(connection)
        async with reading(connection):
            await probing.send_first()
            await probing.send_second()
            found = await probing.finish()
        return found.text

    return await read_repeatedly(once, f"probing the catalog of database '{connection.info.dbname}'")


def _text(hashes: dict[str, str | None]) -> str:
    """One hash over all parts, with the algorithm's number before it: two ways of hashing never match."""
    assert hashes.keys() <= set(_PARTS)
    listed = ",".join(f"{name}={hashes.get(name) or ''}" for name in _PARTS)
    return f"{ALGORITHM}:{sha256(listed.encode()).hexdigest()}"


def whole_query() -> sql.SQL:
    """What asks for every part that a database may have none of."""
    return _asking_for(parts_of("probe_more"))


@cache
def _asking_for(parts: frozenset[str]) -> sql.SQL:
    (_all, head), *marked = pieces("probe_more")
    queries = (text.strip().removesuffix(_BETWEEN.strip()).rstrip() for part, text in marked if part in parts)
    return trusted(head + _BETWEEN.join(queries))
