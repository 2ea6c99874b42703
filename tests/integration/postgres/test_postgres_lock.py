"""Session locks for short work: taken by trying, and never left behind by a process that stands still."""

import psycopg
import pytest

from reconciler.postgres import lock
from reconciler.postgres.connection import Dsn, connect

KEY = (7, 7)


async def test_a_lock_is_not_kept_by_who_stands_still(database_dsn: Dsn) -> None:
    """The server ends the session of one that is frozen with a lock, so that the next one gets it."""
    async with (
        await connect(database_dsn, role="frozen") as frozen,
        await connect(database_dsn, role="next") as following,
    ):
        await lock.acquire(frozen, KEY, deadline_s=1, doing="trying", idle_s=0.2)
        await lock.acquire(following, KEY, deadline_s=10, doing="trying")
        with pytest.raises(psycopg.OperationalError):
            await frozen.execute("select 1")


async def test_who_gave_it_back_may_stand_still(database_dsn: Dsn) -> None:
    """The limit goes with the lock."""
    async with await connect(database_dsn, role="test") as connection:
        await lock.acquire(connection, KEY, deadline_s=1, doing="trying", idle_s=0.2)
        await lock.unlock(connection, KEY)
        cursor = await connection.execute("select pg_catalog.current_setting('idle_session_timeout')")
        assert await cursor.fetchone() == ("0",)
