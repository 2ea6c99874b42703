"""Connections through a real PgBouncer: recognised where they have no session, used where they have one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from reconciler.errors import DatabaseUnavailable
from reconciler.postgres import lock
from reconciler.postgres.connection import Connections, Dsn, PooledConnection, connect
from tests.plugins.daemon import World, until
from tests.plugins.pgbouncer import Bouncer, bouncer
from tests.plugins.postgres import OwnServer

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

Start = Callable[..., Bouncer]
TAKES_OPTIONS = "extra_float_digits,options"
SHOP = {"orders": "create table orders (id int primary key);"}


@pytest.fixture
def start_bouncer(private_postgres: OwnServer) -> Iterator[Start]:
    """Starts poolers before the private server of the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(bouncer(private_postgres, **settings))


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("size", ["1", "5"])
@pytest.mark.parametrize("ignored", ["extra_float_digits", TAKES_OPTIONS])
async def test_without_a_session_it_is_refused(
    start_bouncer: Start, mode: str, size: str, ignored: str
) -> None:
    """Whatever the pool's size, and whether or not it takes our settings; the message says what to do."""
    pooler = start_bouncer(pool_mode=mode, default_pool_size=size, ignore_startup_parameters=ignored)
    with pytest.raises(PooledConnection) as caught:
        await connect(Dsn(pooler.text()), role="test")
    assert "transaction or statement mode" in str(caught.value)
    assert "pool_mode=session" in str(caught.value.hint)


async def test_busy_pool_is_seen_through(start_bouncer: Start, private_postgres: OwnServer) -> None:
    """Also where the pool deals its sessions out in turn, so that one is seldom had twice running."""
    pooler = start_bouncer(pool_mode="transaction", default_pool_size="5", server_round_robin="1")
    others = Dsn(private_postgres.text())
    async with await connect(others, role="test") as direct:
        await direct.execute("select 1")
    for _ in range(5):
        with pytest.raises(PooledConnection):
            await connect(Dsn(pooler.text()), role="test")


@pytest.mark.parametrize("ignored", ["extra_float_digits", TAKES_OPTIONS])
async def test_with_a_session_it_is_used(start_bouncer: Start, ignored: str) -> None:
    """Locks and settings of a session hold through a pool in session mode."""
    pooler = start_bouncer(pool_mode="session", ignore_startup_parameters=ignored)
    dsn = Dsn(pooler.text())
    async with await connect(dsn, role="one") as one, await connect(dsn, role="two") as two:
        assert await lock.try_lock(one, (7, 7))
        assert not await lock.try_lock(two, (7, 7))
    connections = Connections()
    async with connections.borrow(dsn) as borrowed:
        cursor = await borrowed.execute("select current_setting('search_path')")
        assert await cursor.fetchone() == ("",)
    await connections.close()


async def test_pool_of_one_session(start_bouncer: Start) -> None:
    """In session mode it gives no second one: that is told within the time a connection may take."""
    pooler = start_bouncer(pool_mode="session", default_pool_size="1")
    with pytest.raises(DatabaseUnavailable, match="gave no session") as caught:
        await connect(Dsn(pooler.text()), role="test")
    assert "raise the size of the pool" in str(caught.value.hint)


@pytest.fixture
def transaction_mode(world: World) -> Iterator[Bouncer]:
    """A pooler in transaction mode before the server of the world."""
    with bouncer(world.server, pool_mode="transaction", default_pool_size="5") as found:
        yield found


def test_control_database_behind_it(world: World, transaction_mode: Bouncer) -> None:
    """Neither the daemon nor a command that writes starts; they say why, and nothing was installed."""
    world.repository.commit({**world.spec(), **world.repository.module(SHOP)})
    world.extra["RECONCILER_CONTROL_DSN"] = transaction_mode.text(world.control)
    daemon = world.daemon()
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(timeout=60) == 1
    daemon.process = None
    assert "pool_mode=session" in daemon.tail()
    refused = daemon.run("apply", "production", check=False)
    assert refused.returncode == 1
    assert "a pooler stands before it" in refused.stderr
    assert world.rows("select 1 from pg_namespace where nspname ~ 'reconciler'", world.control) == []


def test_managed_server_behind_it(world: World, transaction_mode: Bouncer) -> None:
    """Its deployment is unavailable and says why, nothing is written; sent to the server, it goes on."""
    commit = world.repository.commit({**world.spec(), **world.repository.module(SHOP)})
    world.extra["SHOP_DSN"] = transaction_mode.text()
    daemon = world.daemon().start()
    until(lambda: daemon.condition("Ready").get("reason") == "Unavailable", "it to be told")
    assert "a pooler stands before it" in daemon.condition("Ready")["message"]
    assert world.server.run(f"select 1 from pg_database where datname = '{world.database}'") == []
    assert daemon.stop() == 0
    daemon.start(SHOP_DSN=world.server.text())
    daemon.until_applied(commit)
    assert world.deployed() == list(SHOP)


def test_all_through_session_mode(world: World) -> None:
    """With a session behind every connection all works: wakes, claims, fence and changes."""
    with ExitStack() as stack:
        pooler = stack.enter_context(bouncer(world.server, pool_mode="session", default_pool_size="40"))
        world.extra["SHOP_DSN"] = pooler.text()
        world.extra["RECONCILER_CONTROL_DSN"] = pooler.text(world.control)
        first = world.repository.commit({**world.spec(), **world.repository.module(SHOP)})
        daemon = world.daemon().start()
        daemon.until_applied(first)
        more = {**SHOP, "lines": "create table lines (id int primary key);"}
        daemon.until_applied(world.repository.commit(world.repository.module(more)))
        assert world.deployed() == list(more)
        assert daemon.stop() == 0
