"""Two daemons on one control database: who dies is succeeded, and who was frozen writes nothing more."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins.daemon import Daemon, World, until

FIRST = {"first": "create table gate (id int); create table counted (name text);"}
SLOW = (
    "do $$ begin while not exists (select from gate) loop perform pg_catalog.pg_sleep({pause}); end loop; "
    "end $$; insert into counted values ('slow');"
)
STEP = "shop-schema/deploy-change/slow"


def start(world: World, *, wait: bool = True, environ: dict[str, str] | None = None, **limits: str) -> Daemon:
    """A daemon with limits of its own."""
    daemon = world.daemon()
    daemon.config.write_text(f"{daemon.config.read_text()}limits: {json.dumps(limits)}\n")
    return daemon.start(wait=wait, **(environ or {}))


def pid(daemon: Daemon) -> int:
    assert daemon.process is not None
    return daemon.process.pid


def claimer(world: World) -> int:
    """Process id of the daemon that works on what is under way."""
    rows = world.rows(
        "select w.name from reconciler_control.operations o "
        "join reconciler_control.workers w on w.id = o.worker",
        world.control,
    )
    return int(str(rows[0][0]).rpartition("/")[2])


def at_work(world: World) -> list[int]:
    """Backends that run the slow change."""
    rows = world.rows(
        "select pid from pg_stat_activity where datname = current_database() "
        "and application_name = 'reconciler/writer' and wait_event = 'PgSleep'"
    )
    return [int(str(row[0])) for row in rows]


def workers_known(world: World, count: int) -> Callable[[], bool]:
    statement = "select count(*) from reconciler_control.living_workers"
    return lambda: world.rows(statement, world.control) == [(count,)]


def assert_once(world: World, *names: str) -> None:
    """Each change stands, was recorded once and had its effect once."""
    assert world.deployed() == list(names)
    deployed = world.rows("select name from reconciler.events where kind = 'deploy'")
    assert Counter(row[0] for row in deployed) == dict.fromkeys(names, 1)
    counted = world.rows("select name from counted")
    assert Counter(row[0] for row in counted) == dict.fromkeys(names[1:], 1)


def commit(world: World, **changes: str) -> str:
    return world.repository.commit(world.repository.module({**FIRST, **changes}))


def test_killed_in_a_long_statement(world: World) -> None:
    """The other daemon sees the released session, not the lease; it ends the statement and goes on."""
    first = world.repository.commit({**world.spec(), **world.repository.module(FIRST)})
    # No lease runs out within the time of this test.
    daemons = [start(world, lease="600s", heartbeat="500ms") for _ in range(2)]
    daemons[0].until_applied(first)
    until(workers_known(world, 2), "both workers to be registered")
    # The pause is longer than anybody waits: nobody comes to the commit by waiting for the statement.
    wanted = commit(world, slow=SLOW.format(pause=600))
    (backend,) = until(lambda: at_work(world), "the change to run")
    working = claimer(world)
    world.rows("insert into gate values (1)")
    (dying,) = [daemon for daemon in daemons if pid(daemon) == working]
    (staying,) = [daemon for daemon in daemons if pid(daemon) != working]
    dying.kill()
    staying.until_applied(wanted)
    assert_once(world, "first", "slow")
    assert world.rows(f"select 1 from pg_stat_activity where pid = {backend}") == []
    told = world.rows("select kind from reconciler_control.events order by id", world.control)
    assert Counter(told)[("operation.resumed",)] == 1
    assert staying.plan()["in_sync"]


@pytest.mark.parametrize("point", [f"before {STEP}", f"inside {STEP}", "settle", "in the statement"])
def test_frozen_past_its_lease_and_woken(world: World, point: str) -> None:
    """It writes nothing with what it had, notices, drops the operation, registers anew and works on."""
    first = world.repository.commit({**world.spec(), **world.repository.module(FIRST)})
    daemon = start(world, lease="2s", heartbeat="500ms")
    daemon.until_applied(first)
    daemon.stop()
    wanted = commit(world, slow=SLOW.format(pause=0.02))
    in_statement = point == "in the statement"
    if not in_statement:
        world.rows("insert into gate values (1)")
    frozen = daemon.start(wait=False, **({} if in_statement else {"RECONCILER_TEST_FREEZE_AT": point}))
    if in_statement:
        until(lambda: at_work(world), "the change to run")
        os.kill(pid(frozen), signal.SIGSTOP)
    until(lambda: is_frozen(pid(frozen)), f"it to freeze; log:\n{frozen.tail()}")
    other = start(world, lease="2s", heartbeat="500ms")
    until_resumed(world, frozen, other)
    if in_statement:
        world.rows("insert into gate values (1)")
    other.until_applied(wanted)
    assert_once(world, "first", "slow")
    os.kill(pid(frozen), signal.SIGCONT)
    until(workers_known(world, 2), f"the woken one to register anew; log:\n{frozen.tail()}")
    assert_once(world, "first", "slow")
    assert "lease.lost" in frozen.log.read_text() or "belongs to another worker" in frozen.log.read_text()
    # It is of use again: nobody else is left to do this.
    other.stop()
    latest = commit(world, slow=SLOW.format(pause=0.02), last="insert into counted values ('last');")
    frozen.until_applied(latest)
    assert_once(world, "first", "slow", "last")
    assert frozen.plan()["in_sync"]
    assert frozen.stop() == 0


def until_resumed(world: World, frozen: Daemon, other: Daemon) -> None:
    """Wait until what the frozen one held is another's; where it stays, say all there is to see."""
    resumed = "select 1 from reconciler_control.events where kind = 'operation.resumed'"
    try:
        until(lambda: world.rows(resumed, world.control), "the other to take over")
    except AssertionError as error:
        seen = [
            *world.rows("select w::text from reconciler_control.workers as w", world.control),
            *world.rows("select row(o.*)::text from reconciler_control.operations as o", world.control),
            *world.rows("select e.message from reconciler_control.events as e order by e.id", world.control),
        ]
        told = "\n".join(str(row[0])[:2000] for row in seen)
        logs = f"frozen:\n{frozen.tail()}\nother:\n{other.tail()}"
        raise AssertionError(f"{error}\n{told}\n{logs}") from None


def is_frozen(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
