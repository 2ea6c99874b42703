"""An environment that left its source, from outside: shown, planned, and removed."""

import os
from pathlib import Path

from tests.plugins.daemon import World, until

SERVICES = """\
    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sh, -c, 'echo $$ > FOLDER/pid; exec sleep 1000']}}
      health: {interval: 100ms, steady: 100ms}
    - name: farewell
      kind: Job
      runtime: {process: {command: [/bin/touch, FOLDER/farewell]}}
      run: {on: [remove], schedule: "0 3 29 2 *"}
"""


def runs(pid: Path) -> bool:
    try:
        os.kill(int(pid.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_environment_that_left_is_removed_on_request(world: World) -> None:
    """Nothing goes before somebody agrees to the plan; its database stays."""
    (path, spec), pid = *world.spec().items(), world.folder / "pid"
    files = {path: spec + SERVICES.replace("FOLDER", str(world.folder))}
    module = world.repository.module({"a": "create table a (id int);"})
    commit = world.repository.commit({**files, **module})
    daemon = world.daemon().start()
    try:
        daemon.until_applied(commit)
        until(lambda: daemon.get("/v1/environments/production/jobs")[1]["jobs"], "the schedule to be known")
        assert "never ran" in daemon.run("jobs", "production").stdout
        (world.repository.path / path).unlink()
        world.repository.commit()
        until(lambda: daemon.condition("Ready").get("reason") == "Orphaned", "it to be orphaned")
        assert "reconciler env remove production" in daemon.run("status", "production", check=False).stdout
        shown = daemon.run("env", "remove", "production", check=False)
        assert shown.returncode == 3, shown.stderr
        assert "service api" in shown.stdout
        named = daemon.run("env", "remove", "production", "--database", "shop-db", check=False)
        assert "to remove it: reconciler env remove production --database shop-db --yes" in named.stderr
        assert runs(pid)
        daemon.run("env", "remove", "production", "--yes", "--wait")
        until(lambda: not runs(pid), "the service to end")
        assert (world.folder / "farewell").exists()
        assert daemon.get("/v1/environments/production")[0] == 404
        assert world.deployed() == ["a"]
        assert world.rows("select component from reconciler_control.job_schedules", world.control) == []
    finally:
        if pid.exists() and runs(pid):
            daemon.run("env", "stop", "production", check=False)
            until(lambda: not runs(pid), "the service to be stopped")
