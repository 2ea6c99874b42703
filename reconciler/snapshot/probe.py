"""Asks the server for one hash over its catalogs, so that a full read is made only when something moved."""

from reconciler.catalog.fingerprint import ALGORITHM
from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly

__all__ = ["ALGORITHM", "parts_present", "probe", "probe_text"]


async def probe(connection: Connection) -> str:
    """Return a text that DDL on what a snapshot shows always changes, and work with data does not.

    It may also change where no definition did (REINDEX, say); a full read then follows for nothing.
    """

    async def once() -> str:
        cursor = await connection.execute(QUERIES["probe"], prepare=True)
        row = await cursor.fetchone()
        assert row is not None
        return probe_text(row[0])

    return await read_repeatedly(once, f"probing the catalog of database '{connection.info.dbname}'")


def probe_text(digest: str) -> str:
    """Put the algorithm's number before the server's digest: two ways of hashing never match."""
    return f"{ALGORITHM}:{digest}"


def parts_present(listed: str | None) -> frozenset[str]:
    """The parts of the probe that have rows: what reading in the same transaction need look for at all."""
    return frozenset((listed or "").split(","))
