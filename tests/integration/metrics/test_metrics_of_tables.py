"""Gauges are read from a real control database at each scrape, and a scrape outlives it."""

from reconciler.control.environments import suspend
from reconciler.control.install import install
from reconciler.metrics import Metrics
from reconciler.postgres.connection import Connections, Dsn, connect
from tests.plugins.postgres import OwnServer


async def test_scrape_shows_the_tables_as_they_are(control_database: Dsn) -> None:
    """A fresh process shows what the tables hold, before any event."""
    connection = await connect(control_database, role="test")
    connections = Connections()
    try:
        await install(connection)
        metrics = Metrics(control=control_database, connections=connections)
        text = (await metrics.text()).decode()
        assert "reconciler_control_database_up 1.0" in text
        assert 'reconciler_operations{state="pending"} 0.0' in text
        await connection.execute(
            "INSERT INTO reconciler_control.environments (name, source) VALUES ('production', 'platform')"
        )
        await suspend(connection, "production", reason="x", actor="x")
        text = (await metrics.text()).decode()
        assert 'reconciler_environment_suspended{environment="production"} 1.0' in text
    finally:
        await connections.close()
        await connection.close()


async def test_scrape_outlives_the_control_database(private_postgres: OwnServer) -> None:
    """While the control database is away a scrape is answered and says so; after, it is whole again."""
    control = Dsn(private_postgres.text())
    connection = await connect(control, role="test")
    connections = Connections()
    try:
        # What was committed has to be there after the crash; the test server does not wait for its disk.
        await connection.execute("SET synchronous_commit TO on")
        await install(connection)
        await connection.close()
        metrics = Metrics(control=control, connections=connections)
        assert b"reconciler_control_database_up 1.0" in await metrics.text()
        private_postgres.stop_immediate()
        assert b"reconciler_control_database_up 0.0" in await metrics.text()
        private_postgres.start()
        assert b"reconciler_control_database_up 1.0" in await metrics.text()
    finally:
        await connections.close()
