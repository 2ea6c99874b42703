"""Drift made by hand, through rollouts that succeed and that fail."""

from tests.plugins.daemon import World, until

FIRST = {"a": "create table a (id int);", "b": "create table b (id int);"}


def drift_of(world: World, daemon: object) -> list[str]:
    plan = daemon.plan()  # type: ignore[attr-defined]
    return [row["identity"] for row in plan["deployments"][0]["drift"]]


def test_drift_outlives_rollouts_that_do_not_touch_it(world: World) -> None:
    """What a person changed stays drift after our next rollout, whether that succeeds or fails."""
    commit = world.repository.commit({**world.spec(), **world.repository.module(FIRST)})
    daemon = world.daemon().start()
    daemon.until_applied(commit)
    world.rows("alter table a add column note text")
    world.rows("create index by_hand on b (id)")
    assert drift_of(world, daemon) == ["index public.by_hand", "table public.a"]
    more = {**FIRST, "c": "create table c (id int);"}
    commit = world.repository.commit(world.repository.module(more))
    daemon.until_applied(commit)
    assert drift_of(world, daemon) == ["index public.by_hand", "table public.a"]
    failing = {**more, "d": "select 1 / 0;"}
    world.repository.commit(world.repository.module(failing))
    until(lambda: daemon.condition("Stalled").get("status"), "Stalled")
    assert drift_of(world, daemon) == ["index public.by_hand", "table public.a"]
    mended = {**more, "d": "alter table a add column ours int; drop index by_hand;"}
    commit = world.repository.commit(world.repository.module(mended))
    daemon.until_applied(commit)
    assert drift_of(world, daemon) == []
