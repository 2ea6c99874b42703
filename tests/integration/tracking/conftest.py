"""Connections to a fresh database, and the fence of one that has the tracking schema."""

from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest

from reconciler.postgres.connection import Connection, connect
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.install import install
from reconciler.tracking.record import Actor, ModuleIdentity

Open = Callable[[], Awaitable[Connection]]


@pytest.fixture
async def open_connection(postgres_server, fresh_database) -> AsyncIterator[Open]:
    opened: list[Connection] = []

    async def open_one() -> Connection:
        connection = await connect(postgres_server.dsn, database=fresh_database, role="test")
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        await connection.close()


@pytest.fixture
async def connection(open_connection: Open) -> Connection:
    return await open_connection()


@pytest.fixture
async def installed(connection: Connection) -> Connection:
    await install(connection)
    return connection


@pytest.fixture
def owner() -> FenceOwner:
    return FenceOwner(control_id="control-1", environment="production", deployment="eu", operation="op-1")


@pytest.fixture
async def fence(installed: Connection, owner: FenceOwner) -> Fence:
    return await Fence.acquire(installed, owner, deadline_s=60)


@pytest.fixture
def module() -> ModuleIdentity:
    return ModuleIdentity(project="shop", component="shop-schema", uri="https://example.com/shop")


@pytest.fixture
def actor() -> Actor:
    return Actor(commit="a" * 40, operation="op-1", committer="reconciler")


@pytest.fixture
def superuser(postgres_server, fresh_database):
    """A plain connection, for looking on from outside and for what people do by hand."""
    with psycopg.connect(postgres_server.text(fresh_database), autocommit=True) as connection:
        yield connection
