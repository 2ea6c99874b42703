"""Several writers at once: two control databases on one managed database, a command beside a daemon."""

from tests.plugins.daemon import World, until


def test_command_waits_for_what_a_daemon_carries_out(world: World) -> None:
    """`apply` that reaches no daemon, but finds its rollout under way elsewhere, ends when it has settled."""
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    slow = {"a": "create table a();", "b": "select pg_sleep(2); create table b();"}
    world.repository.commit(world.repository.module(slow))
    until(
        lambda: world.server.run("select 1 from pg_stat_activity where query like 'select pg_sleep%'"),
        "the slow change to run",
    )
    alone = world.daemon()
    result = alone.run("apply", "production", "--wait")
    assert "completed" in result.stdout
    assert world.deployed() == ["a", "b"]


def test_two_control_databases_share_a_managed_one(world: World) -> None:
    """Who plans while another writes plans anew once it may write: nothing runs twice, nothing fails."""
    changes = {"first": "create table first();"}
    commit = world.repository.commit({**world.spec(), **world.repository.module(changes)})
    one = world.daemon().start()
    one.until_applied(commit)
    own = world.control
    world.control = world.server.create_database()
    try:
        other = world.daemon().start()
        other.until_applied(commit)
        for number in range(4):
            changes[f"next{number}"] = f"select pg_sleep(0.3); create table next{number}();"
            commit = world.repository.commit(world.repository.module(changes))
            one.until_applied(commit)
            other.until_applied(commit)
        assert world.deployed() == list(changes)
        for daemon in (one, other):
            _status, found = daemon.get("/v1/environments/production/rollouts")
            assert {row["state"] for row in found["rollouts"]} == {"completed"}
            assert daemon.stop() == 0
    finally:
        world.server.drop_database(world.control)
        world.control = own
