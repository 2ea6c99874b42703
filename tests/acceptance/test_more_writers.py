"""Several writers at once: two control databases on one managed database, a command beside a daemon."""

import subprocess
import sys

from tests.plugins.activity import running
from tests.plugins.daemon import Daemon, World, until


def test_command_waits_for_what_a_daemon_carries_out(world: World) -> None:
    """`apply` that reaches no daemon, but finds its rollout under way elsewhere, ends when it has settled."""
    first = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    daemon = world.daemon().start()
    daemon.until_applied(first)
    waits = "do $$ begin while not exists (select from gate) loop perform pg_sleep(0.02); end loop; end $$;"
    world.rows("create table gate(id int)")
    world.repository.commit(
        world.repository.module({"a": "create table a();", "b": f"{waits} create table b();"})
    )
    until(lambda: world.rows(running("do $$")), "the change to run")
    alone = world.daemon()
    command = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "production", "--config", str(alone.config)],
        env=alone.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    with command:
        workers = "select count(*) from reconciler_control.workers"
        until(lambda: world.rows(workers, world.control) == [(2,)], "the command to look for work")
        world.rows("insert into gate values (1)")
        assert "completed" in command.communicate(timeout=60)[0]
    assert command.returncode == 0
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


def test_two_control_databases_meet_at_the_fence(world: World) -> None:
    """The one that comes second is told whose environment, operation and control database is at work."""
    changes = {"first": "create table gate (id int);"}
    commit = world.repository.commit({**world.spec(), **world.repository.module(changes)})
    one = world.daemon().start()
    one.until_applied(commit)
    one_id = world.rows("select control_id from reconciler_control.installation", world.control)[0][0]
    own = world.control
    world.control = world.server.create_database()
    try:
        other = world.daemon().start()
        other.until_applied(commit)
        waits = (
            "do $$ begin while not exists (select from gate) loop perform pg_sleep(0.02); end loop; end $$;"
        )
        changes["second"] = f"{waits} create table second();"
        commit = world.repository.commit(world.repository.module(changes))
        told = until(
            lambda: next((text for each in (one, other) if (text := failed_attempt(each))), None),
            "one of them to be told",
        )
        other_id = world.rows("select control_id from reconciler_control.installation", world.control)[0][0]
        assert "environment 'production', deployment 'eu', operation" in told
        assert "at work there" in told
        assert str(one_id) in told or str(other_id) in told
        assert world.deployed() == ["first"]
        world.rows("insert into gate values (1)")
        one.until_applied(commit)
        other.until_applied(commit)
        assert world.deployed() == list(changes)
        assert world.rows("select count(*) from reconciler.events where kind = 'deploy'") == [(2,)]
    finally:
        world.server.drop_database(world.control)
        world.control = own


def failed_attempt(daemon: Daemon) -> str:
    """What the environment's status says of an attempt that failed and is made again."""
    found = daemon.condition("Reconciling").get("message", "")
    return str(found) if "the last attempt failed" in found else ""
