"""Connections to throw-away databases for the tests of the snapshot."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
EVERYTHING = Path(__file__).with_name("everything.sql")


@pytest.fixture
async def connect(postgres_server: Any) -> AsyncIterator[Callable[..., Coroutine[Any, Any, Connection]]]:
    """Open autocommit connections to databases by name; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_connection(database: str, **parameters: str) -> Connection:
            text = postgres_server.text(database)
            connection = await psycopg.AsyncConnection.connect(text, autocommit=True, **parameters)
            stack.push_async_callback(connection.close)
            return connection

        yield open_connection


@pytest.fixture
async def live(connect: Any, fresh_database: str) -> Connection:
    """A connection to an empty database."""
    return await connect(fresh_database)


@pytest.fixture
def everything() -> bytes:
    """DDL that makes an object of every kind; its roles stay, as roles are the cluster's."""
    return EVERYTHING.read_bytes()


@pytest.fixture
async def furnished(live: Connection, everything: bytes) -> Connection:
    """A connection to a database with an object of every kind."""
    await live.execute(everything)
    return live
