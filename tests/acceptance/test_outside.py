"""A daemon is killed, disconnected or asked to cancel in the middle of what no transaction holds together."""

import psycopg

from tests.plugins.daemon import Daemon, World, until

CHANGES = {
    "t": "create table t (a int); insert into t select generate_series(1, 100);",
    "i": "create index concurrently t_a on t (a);\nvacuum t;\ninsert into t values (0);",
    "after": "create table after();",
}
INVALID = "select 1 from pg_index where indexrelid = to_regclass('public.t_a') and not indisvalid"


BUILDING = (
    "from pg_stat_activity where (query ilike 'create index concurrently%' or query ilike 'drop index%')"
    " and datname = '{}'"
)


def settled(world: World, daemon: Daemon, commit: str) -> None:
    """Everything is there once, and planning again is empty."""
    daemon.until_applied(commit)
    assert world.deployed() == list(CHANGES)
    assert world.rows("select indisvalid from pg_index where indrelid = 't'::regclass") == [(True,)]
    assert world.rows("select count(*) from t where a = 0") == [(1,)]
    assert world.rows("select count(*) from reconciler.unfinished") == [(0,)]
    plan = daemon.plan()
    assert plan["in_sync"]
    assert plan["deployments"][0]["drift"] == []


def test_disconnected_and_killed_while_it_builds_an_index(world: World) -> None:
    """What is left of it is dropped and it is built again, by the same daemon and by the next one.

    The plan told that it may be so.
    """
    commit = world.repository.commit({**world.spec(), **world.repository.module({"t": CHANGES["t"]})})
    daemon = world.daemon().start()
    daemon.until_applied(commit)
    building = BUILDING.format(world.database)
    with psycopg.connect(world.server.text(world.database)) as other:
        other.execute("lock table t in row exclusive mode")
        commit = world.repository.commit(world.repository.module(CHANGES))
        until(lambda: world.rows(INVALID), "the index to be begun")
        stages = daemon.plan()["deployments"][0]["plan"]["stages"]
        steps = {step["identity"]: step for stage in stages for step in stage["steps"]}
        assert [steps[name]["transactional"] for name in ("change i", "change after")] == [False, True]
        ((first,),) = world.rows(f"select pid {building}")
        assert world.rows(f"select pg_terminate_backend({first})") == [(True,)]
        again = f"select 1 {building} and pid <> {first}"
        until(lambda: world.rows(again), "the same daemon to go on with it")
        daemon.kill()
    daemon.start()
    settled(world, daemon, commit)


def test_cancelled_while_a_script_never_ends(world: World) -> None:
    """Cancelling does not wait for it; the next commit without it goes through."""
    first = world.repository.commit(
        {**world.spec(), **world.repository.module({"t": CHANGES["t"], "endless": "select pg_sleep(3600);"})}
    )
    daemon = world.daemon().start()
    sleeping = (
        "select 1 from pg_stat_activity where query like '%select pg_sleep(3600)%' and state = 'active'"
        " and pid <> pg_backend_pid()"
    )
    until(lambda: world.server.run(sleeping), "the endless script to run")
    rollout = daemon.get("/v1/environments/production/rollouts")[1]["rollouts"][0]["id"]
    assert daemon.call("POST", f"/v1/rollouts/{rollout}/cancel", {})[0] in (200, 202)
    until(lambda: not world.server.run(sleeping), "the script to be broken off")
    until(lambda: daemon.get(f"/v1/rollouts/{rollout}")[1]["state"] == "cancelled", "the rollout to end")
    assert world.deployed() == ["t"]
    second = world.repository.commit(world.repository.module({"t": CHANGES["t"], "u": "create table u();"}))
    daemon.until_applied(second)
    assert first != second
    assert world.deployed() == ["t", "u"]


WORKS = """
create table done (what text);
create procedure work(what text) language plpgsql as $$
begin
    insert into done values (what || ' begun'); commit;
    perform pg_advisory_xact_lock(4712);
    insert into done values (what || ' ended');
end $$;
"""
TOLD = "CALL at modules/shop/{}/c.sql:2 was interrupted, and may have done its work"


def killed_at_work(world: World, daemon: Daemon, other: psycopg.Connection[tuple[object, ...]]) -> None:
    """Kill it in the middle of a procedure of which nothing shows how far it came; then start it again."""
    waiting = (
        "select pid from pg_locks where locktype = 'advisory' and objid = 4712 and not granted"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    ((pid,),) = until(lambda: world.rows(waiting), "the procedure to be in its middle")
    daemon.kill()
    world.rows(f"select pg_terminate_backend({pid}, 30000)")
    other.rollback()
    daemon.start()


def test_killed_where_nothing_shows_what_was_done(world: World) -> None:
    """Deploy or revert: it is held and says so, runs again only with consent, and is done then."""
    files = world.repository.module({"t": WORKS, "c": "-- transaction: none\ncall work('deploy')"})
    first = world.repository.commit({**world.spec(), **world.repository.module({"t": WORKS})})
    daemon = world.daemon().start()
    daemon.until_applied(first)

    def done() -> list[object]:
        return [row[0] for row in world.rows("select what from done")]

    def why_held() -> str:
        return str(daemon.environment()["deployments"][0]["held"] or "")

    with psycopg.connect(world.server.text(world.database)) as other:
        other.execute("select pg_advisory_xact_lock(4712)")
        commit = world.repository.commit(
            {**files, "modules/shop/revert/c.sql": "-- transaction: none\ncall work('revert')"}
        )
        killed_at_work(world, daemon, other)
        until(lambda: TOLD.format("deploy") in why_held(), "the deploy to be held")
        assert (world.deployed(), done()) == (["t"], ["deploy begun"])
        daemon.run("apply", "production", "--allow-hazard", "REPEATS_STATEMENT", "--timeout", "50")
        daemon.until_applied(commit)
        assert done() == ["deploy begun", "deploy begun", "deploy ended"]

        other.execute("select pg_advisory_xact_lock(4712)")
        revert = ("module", "revert", "production", "shop-schema", "--yes")
        daemon.run(*revert)
        killed_at_work(world, daemon, other)
    rollout = daemon.get("/v1/environments/production/rollouts")[1]["rollouts"][0]["id"]
    until(lambda: daemon.get(f"/v1/rollouts/{rollout}")[1]["state"] == "failed", "the revert to be held")
    assert world.deployed() == ["t", "c"]
    again = daemon.run(*revert, check=False)
    assert again.returncode != 0
    assert f"REPEATS_STATEMENT: {TOLD.format('revert')}" in again.stdout + again.stderr
    daemon.run(*revert, "--allow-hazard", "REPEATS_STATEMENT", "--timeout", "50")
    assert world.deployed() == ["t"]
    assert done()[3:] == ["revert begun", "revert begun", "revert ended"]
    assert world.rows("select count(*) from reconciler.unfinished") == [(0,)]
