"""A daemon is killed at every point of a revert, asked to end in one, and kept by a script without end."""

from typing import Any

from tests.plugins.activity import running
from tests.plugins.daemon import Daemon, World, until
from tests.plugins.modules import tables

NAMES = tuple(f"t{number}" for number in range(7))
CONSENT = ["REVERTS_CHANGE", "DELETES_DATA"]
SLEEPS = running("select pg_sleep") + " and datname = '{}'"


def started(world: World, files: dict[str, str], kill_at: str = "") -> Daemon:
    """A daemon that has deployed the module, and is killed at a point that is yet to come."""
    commit = world.repository.commit({**world.spec(), **files})
    daemon = world.daemon().start(RECONCILER_TEST_KILL_AT=kill_at)
    daemon.until_applied(commit)
    return daemon


def revert(daemon: Daemon, **asked: Any) -> None:
    """Ask for a revert; whoever is killed meanwhile may owe the answer."""
    body = {**asked, "allow_hazards": CONSENT}
    status, found = daemon.call("POST", "/v1/environments/production/modules/shop-schema/revert", body)
    assert status in {0, 201}, found


def ended(daemon: Daemon) -> str | None:
    """The state of the newest rollout once it has ended."""
    rollout = newest(daemon)
    return str(rollout["state"]) if rollout["finished_at"] else None


def newest(daemon: Daemon) -> dict[str, Any]:
    _status, found = daemon.get("/v1/environments/production/rollouts")
    return dict(found["rollouts"][0])


def left(world: World) -> list[str]:
    """What is recorded, which is what is there."""
    there = world.rows("select tablename from pg_tables where schemaname = 'public' order by 1")
    assert [str(row[0]) for row in there] == world.deployed()
    return world.deployed()


def test_killed_at_every_point_of_a_revert(world: World) -> None:
    """Inside and after a transaction, and before the base line: the next daemon does the rest."""
    point = "shop-schema/revert-change/shop:t{}"
    daemon = started(world, tables(*NAMES), f"inside {point.format(6)}")
    revert(daemon, to="t4")
    daemon.wait_killed()
    assert left(world) == list(NAMES)
    daemon.start(RECONCILER_TEST_KILL_AT=f"after {point.format(4)}")
    assert until(lambda: ended(daemon), "the revert to end") == "completed"
    assert left(world) == list(NAMES[:5])
    revert(daemon, to="t2")
    daemon.wait_killed()
    assert left(world) == list(NAMES[:4])
    daemon.start(RECONCILER_TEST_KILL_AT="settle")
    daemon.wait_killed()
    assert left(world) == list(NAMES[:3])
    daemon.start()
    assert until(lambda: ended(daemon), "the revert to end") == "completed"
    assert left(world) == list(NAMES[:3])
    events = world.rows("select count(*) from reconciler.events where kind = 'revert'")
    assert events == [(4,)]
    assert daemon.plan()["deployments"][0]["drift"] == []


def test_asked_to_end_in_a_revert_and_kept_by_one(world: World) -> None:
    """It hands back and the next one resumes; a script that never ends is ended by whoever cancels."""
    files = tables("t0", "t1", "t2")
    files["modules/shop/revert/t2.sql"] += "select pg_sleep(2);\n"
    files["modules/shop/revert/t0.sql"] = "select pg_sleep(3600);\n"
    daemon = started(world, files)
    revert(daemon, to="t0")
    until(lambda: world.rows(SLEEPS.format(world.database)), "the slow script to run")
    assert daemon.stop() == 0
    assert left(world)[0] == "t0"
    daemon.start()
    assert until(lambda: ended(daemon), "the revert to end") == "completed"
    assert left(world) == ["t0"]
    revert(daemon, all=True)
    until(lambda: world.rows(SLEEPS.format(world.database)), "the endless script to run")
    status, _found = daemon.call("POST", f"/v1/rollouts/{newest(daemon)['id']}/cancel", {})
    assert status in {200, 201, 202}
    assert until(lambda: ended(daemon), "the revert to be cancelled") == "cancelled"
    assert world.rows(SLEEPS.format(world.database)) == []
    assert left(world) == ["t0"]
