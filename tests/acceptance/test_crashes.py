"""The daemon is killed before, inside and after each step, and started again: nothing twice, nothing lost."""

import pytest

from tests.plugins.activity import running
from tests.plugins.daemon import World, until

CHANGES = {
    "schema": "create schema shop;",
    "customers": "create table shop.customers (id int primary key);",
    "orders": "create table shop.orders (id int primary key); insert into shop.orders values (1);",
}
STEPS = [
    "shop-db/create-database",
    "shop-db/create-extension/citext",
    "shop-schema/deploy-change/schema",
    "shop-schema/deploy-change/customers",
    "shop-schema/deploy-change/orders",
]
POINTS = [
    *(f"{when} {step}" for step in STEPS for when in ("before", "after")),
    *(f"inside {step}" for step in STEPS if "extension" not in step),
    "settle",
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(world: World, point: str) -> None:
    """After a restart every change is applied and recorded once, and planning again is empty."""
    commit = world.repository.commit({**world.spec(), **world.repository.module(CHANGES)})
    daemon = world.daemon().start(wait=False, RECONCILER_TEST_KILL_AT=point)
    daemon.wait_killed()
    daemon.start()
    daemon.until_applied(commit)
    assert world.deployed() == list(CHANGES)
    assert world.rows("select count(*) from shop.orders") == [(1,)]
    assert world.rows("select count(*) from reconciler.events where kind = 'deploy'") == [(3,)]
    assert world.rows("select extname from pg_extension where extname = 'citext'") == [("citext",)]
    plan = daemon.plan()
    assert plan["in_sync"]
    assert plan["deployments"][0]["drift"] == []
    until(lambda: daemon.condition("Ready").get("status"), "Ready")


def test_killed_during_the_second_rollout(world: World) -> None:
    """A delta that was interrupted is finished, and what was there before stays."""
    first = world.repository.commit(
        {**world.spec(), **world.repository.module({"schema": CHANGES["schema"]})}
    )
    daemon = world.daemon().start()
    daemon.until_applied(first)
    daemon.kill()
    second = world.repository.commit(world.repository.module(CHANGES))
    daemon.start(wait=False, RECONCILER_TEST_KILL_AT="inside shop-schema/deploy-change/orders")
    daemon.wait_killed()
    daemon.start()
    daemon.until_applied(second)
    assert world.deployed() == list(CHANGES)
    assert daemon.plan()["in_sync"]


def test_stopped_daemon_hands_back(world: World) -> None:
    """A stop during a rollout ends with code 0 soon, and the next daemon goes on."""
    changes = {"slow": "select pg_sleep(2); create table slow();", "after": "create table after();"}
    commit = world.repository.commit({**world.spec(), **world.repository.module(changes)})
    daemon = world.daemon().start()
    until(
        lambda: world.server.run(running("select pg_sleep") + f" and datname = '{world.database}'"),
        "the slow change to run",
    )
    assert daemon.stop() == 0
    daemon.start()
    daemon.until_applied(commit)
    assert world.deployed() == ["slow", "after"]
