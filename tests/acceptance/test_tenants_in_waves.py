"""Tenants from a list, in waves with a gate between them, through the installed program."""

import csv
import io
import json
from typing import Any

from tests.plugins.daemon import ConfigRepository, Daemon, World, until

TENANTS = 9
A_WAVE = 3
SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: production}}
spec:
  deploymentsFrom:
    file: tenants.csv
    postgres: {{dsn: {{env: "${{server}}_DSN"}}}}
  rollout:
    order: parallel
    maxParallel: 8
    onFailure: halt
    waves:
      gate: {{database: db, sql: "SELECT good FROM state"}}
  components:
    - {{name: db, kind: Database, database: "{prefix}_${{deployment}}"}}
    - {{name: shop, kind: Module, database: {{from: db}}, path: modules/shop}}
"""
BREAKS = "CREATE TABLE state AS SELECT current_database() NOT LIKE '%t04' AS good;"
MENDS = "UPDATE state SET good = true;"


PRUNE = "  policy: {{prune: true, allowHazards: [REVERTS_CHANGE, DELETES_DATA]}}\n  rollout:\n"


def listed(count: int = TENANTS) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["name", "server", "wave"])
    rows.writerows([f"t{number:02}", "SHOP", number // A_WAVE] for number in range(count))
    return text.getvalue()


def newest(daemon: Daemon) -> dict[str, Any]:
    """The newest rollout; nothing where there is none yet."""
    _, found = daemon.get("/v1/environments/production/rollouts")
    rollouts = found.get("rollouts", []) if isinstance(found, dict) else []
    return dict(rollouts[0]) if rollouts else {}


def test_tenants_go_in_waves_and_a_gate_holds_the_last(world: World) -> None:
    """A gate that one tenant of the second wave does not pass holds the third, until a commit mends it."""
    repository = world.repository
    assert isinstance(repository, ConfigRepository)
    files = {
        "environments/production.yaml": SPEC.format(prefix=world.database),
        "tenants.csv": listed(),
    }
    reverts = {"modules/shop/revert/one.sql": "DROP TABLE state;", "modules/shop/revert/two.sql": "SELECT 1;"}
    repository.commit({**files, **repository.module({"one": BREAKS}), **reverts})
    daemon = world.daemon().start()
    try:
        until(lambda: newest(daemon).get("finished_at"), "the rollout to end")
        rollout = json.loads(daemon.run("show", str(newest(daemon)["id"]), "--output", "json").stdout)
        states = {one["deployment"]: one["state"] for one in rollout["operations"]}
        assert rollout["state"] == "failed"
        last = {f"t{number:02}" for number in range(2 * A_WAVE, TENANTS)}
        assert [states[f"t{number:02}"] for number in range(A_WAVE)] == ["completed"] * A_WAVE
        assert states["t04"] == "failed"
        assert {states[name] for name in last} == {"cancelled"}
        assert databases(world) & last == set()

        mended = repository.commit(repository.module({"one": BREAKS, "two": MENDS}))
        daemon.until_applied(mended)
        assert len(databases(world)) == TENANTS
        times = world.server.run(
            "select wave, min(started_at), max(finished_at) from reconciler_control.operations "
            "where rollout = (select max(id) from reconciler_control.rollouts) group by wave order by wave",
            database=world.control,
        )
        assert [row[0] for row in times] == [0, 1, 2]
        assert times[0][2] <= times[1][1]
        assert times[1][2] <= times[2][1]
        assert daemon.plan()["in_sync"]
        prune_the_last(world, repository, daemon)
    finally:
        daemon.kill()
        for name in databases(world):
            world.server.drop_database(f"{world.database}_{name}")


def prune_the_last(world: World, repository: ConfigRepository, daemon: Daemon) -> None:
    """The daemon takes back what the tenant that left had deployed, and its database stays."""
    last = f"{world.database}_t{TENANTS - 1:02}"
    spec = SPEC.replace("  rollout:\n", PRUNE).format(prefix=world.database)
    repository.commit({"environments/production.yaml": spec, "tenants.csv": listed(TENANTS - 1)})
    until(lambda: not deployed(world, last), "the tenant that left to be taken back")
    until(lambda: daemon.environment()["left"] == [], "nobody to be left")
    assert len(databases(world)) == TENANTS
    assert deployed(world, f"{world.database}_t00") == ["one", "two"]


def deployed(world: World, database: str) -> list[str]:
    rows = world.server.run("select name from reconciler.changes order by position", database=database)
    return [str(row[0]) for row in rows]


def databases(world: World) -> set[str]:
    rows = world.server.run(
        f"select datname from pg_database where datname like '{world.database}#_%' escape '#'"
    )
    return {str(name).rpartition("_")[2] for (name,) in rows}
