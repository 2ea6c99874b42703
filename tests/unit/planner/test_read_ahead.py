"""A reading ahead, and the reading that it is for: whoever comes first, a database is read once."""

import asyncio
import time
from collections.abc import Callable

import pytest

from reconciler.planner.reads import StateReader
from reconciler.planner.servers import Servers
from reconciler.postgres.connection import Connections, Dsn
from reconciler.snapshot.database import ServerFacts
from reconciler.state.live import LiveDatabase
from reconciler.state.tracked import TrackedDatabase
from tests.plugins.states import desired

DSN = Dsn("host=localhost")
DATABASE = "shop"


class Counted(StateReader):
    """Says what it would have read, and when the server answered."""

    def __init__(self, answered: Callable[[], None]) -> None:
        super().__init__(Connections(), databases_in_parallel=4, full_read_interval_s=3600)
        self.read_databases: list[str] = []
        self._answered = answered

    async def _server(self, dsn: Dsn) -> ServerFacts:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(self._answered)
        return ServerFacts(server_major=18, databases={DATABASE: 1})

    async def _database(
        self, dsn: Dsn, database: str, *, due_too: bool = True
    ) -> tuple[TrackedDatabase, LiveDatabase]:
        self.read_databases.append(database)
        await asyncio.sleep(0)
        return TrackedDatabase(), LiveDatabase()


@pytest.mark.parametrize("overtakes", [True, False])
async def test_whoever_comes_first_reads(overtakes: bool) -> None:
    """A reading that begins just as the server answers overtakes the other, which begins none of its own."""
    comes = asyncio.Event()
    reader = Counted(comes.set if overtakes else lambda: None)
    began = time.monotonic()
    ahead = asyncio.create_task(reader.read_ahead(DSN, [DATABASE]))
    if overtakes:
        await comes.wait()
    await reader.read(Servers(own=DSN), desired(), not_before=began)
    await ahead
    assert reader.read_databases == [DATABASE]
