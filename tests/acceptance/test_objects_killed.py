"""The daemon is killed while SQL objects are built, filled, switched to and settled: it goes live once."""

from tests.plugins.daemon import World, until

POINTS = (
    "reports/stage-objects: inside reports.daily",
    "reports/ready-objects: filling reports.daily",
    "reports/promote-objects: inside switch",
    "reports/promote-objects: switched",
    "settle",
)
FILES = {
    "objects/reports/daily.sql": "CREATE MATERIALIZED VIEW daily AS SELECT id FROM public.orders;",
    "objects/reports/top.sql": "CREATE VIEW top AS SELECT max(id) AS id FROM reports.daily;",
}
COMPONENT = (
    "    - {name: reports, kind: Objects, database: {from: shop-db}, path: objects,"
    " externals: [public.orders]}\n"
)
LEFT = "SELECT nspname FROM pg_namespace WHERE nspname ~ '__'"


def test_killed_while_objects_are_made_live(world: World) -> None:
    """However often and wherever it dies, the next daemon goes on, and leaves nothing beside what is live."""
    ((name, text),) = world.spec().items()
    module = world.repository.module({"orders": "create table orders as select generate_series(1, 3) as id;"})
    commit = world.repository.commit({name: text + COMPONENT, **module, **FILES})
    daemon = world.daemon()
    for point in POINTS:
        daemon.start(wait=False, RECONCILER_TEST_KILL_AT=point)
        daemon.wait_killed()
    daemon.start()
    daemon.until_applied(commit)

    assert world.rows("SELECT id FROM reports.top") == [(3,)]
    assert world.rows(LEFT) == []
    assert world.rows("SELECT state::text FROM reconciler.generations") == [("live",)]
    plan = daemon.plan()
    assert plan["in_sync"]
    assert plan["deployments"][0]["drift"] == []
    until(lambda: daemon.condition("Ready").get("status"), "Ready")


REFRESHED = COMPONENT.replace(
    "}\n", ", retain: 0s, refresh: [{name: group, schedule: '0 0 1 1 *', views: [reports.daily]}]}\n"
)


def test_a_daemon_removes_what_is_left_and_refreshes_what_is_due(world: World) -> None:
    """Nobody asks for it: what a switch displaced goes, and a group whose time has come is refreshed."""
    ((name, text),) = world.spec().items()
    module = world.repository.module({"orders": "create table orders as select generate_series(1, 3) as id;"})
    daemon = world.daemon().start()
    daemon.until_applied(world.repository.commit({name: text + REFRESHED, **module, **FILES}))
    changed = {
        **FILES,
        "objects/reports/top.sql": "CREATE VIEW top AS SELECT min(id) AS id FROM reports.daily;",
    }
    daemon.until_applied(world.repository.commit(changed))
    until(lambda: not world.rows(LEFT), "what was displaced to go")
    world.rows("INSERT INTO orders VALUES (0)")
    until(lambda: daemon.environment()["refreshes"], "the group to be known")
    world.rows("UPDATE reconciler_control.refreshes SET due_at = now()", world.control)
    until(lambda: world.rows("SELECT id FROM reports.top") == [(0,)], "the group to be refreshed")
