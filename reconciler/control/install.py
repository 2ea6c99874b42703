"""Installs and upgrades the control schema; a second run writes nothing."""

from reconciler.control.sql import one, telling
from reconciler.postgres import migrations
from reconciler.postgres.connection import Connection

SCHEMA = "reconciler_control"
CONTROL_VERSION = 9
"""The number of the newest migration: what `install` brings a control database to."""
_LOCK_KEY = 1380206160


async def install(connection: Connection) -> int:
    """Bring the control schema to this version, and return that; safe to call from many at once."""
    return await migrations.install(
        connection, package="reconciler.control", schema=SCHEMA, lock_key=_LOCK_KEY
    )


async def control_id(connection: Connection) -> str:
    """The identity of this control database, made when it was installed."""
    with telling("reading the identity of the control database"):
        row = await one(connection, "control_id")
    assert row is not None
    return str(row["control_id"])
