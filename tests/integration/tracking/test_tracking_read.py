"""Reading the tracking schema, also where there is none."""

import pytest

from reconciler.errors import Refused
from reconciler.postgres.connection import Connection
from reconciler.state.tracked import TrackedDatabase
from reconciler.tracking.install import TRACKING_VERSION
from reconciler.tracking.read import read_base_line_objects, read_log, read_tracked

UNTOUCHED = "SELECT (SELECT count(*) FROM pg_class), (SELECT max(oid::bigint) FROM pg_namespace)"


async def test_a_database_without_tracking_schema(connection: Connection, superuser) -> None:
    """Where nothing is installed, nothing is tracked; reading makes no error, writes and makes nothing."""
    before = superuser.execute(UNTOUCHED).fetchone()
    await connection.execute("SET default_transaction_read_only = on")

    async with connection.transaction():
        assert await read_tracked(connection) == TrackedDatabase(installed=False)
        assert await read_base_line_objects(connection) == {}
        assert await read_log(connection) == ()
        cursor = await connection.execute("SELECT pg_current_xact_id_if_assigned()")
        assert await cursor.fetchone() == (None,)

    assert superuser.execute(UNTOUCHED).fetchone() == before


async def test_an_installed_schema_without_changes(installed: Connection) -> None:
    """Right after installing: the version, no modules, no base line."""
    assert await read_tracked(installed) == TrackedDatabase(installed=True, version=TRACKING_VERSION)


async def test_a_schema_that_lost_a_table_is_named(installed: Connection, superuser) -> None:
    """A damaged tracking schema is an error that says so, not an empty state."""
    superuser.execute("DROP TABLE reconciler.base_line")
    with pytest.raises(Refused, match="missing or incomplete"):
        await read_tracked(installed)


async def test_the_log_is_bounded(installed: Connection) -> None:
    """A limit of nothing, or of less, reads nothing."""
    assert await read_log(installed, limit=0) == ()
    assert await read_log(installed, limit=-5) == ()
