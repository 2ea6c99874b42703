"""A workspace of modules, found by globs, with roles they expect: pushed, deployed in order, and grown."""

import json

from tests.plugins.daemon import World
from tests.plugins.modules import tables

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: production}}
spec:
  deployments:
    - {{name: eu, postgres: {{dsn: {{env: SHOP_DSN}}}}}}
  components:
    - name: db
      kind: Database
      database: {database}
      roles:
        - {role}_all
        - {{name: {role}_admin, login: true, memberOf: [{role}_all], password: {{env: ADMIN}}}}
    - name: workspace
      kind: Module
      database: {{from: db}}
      modules: ["modules/*", "extensions/*"]
"""
WORKSPACE = {
    "auth": "base:users",
    "base": "",
    "cart": "auth:sessions items:items",
    "items": "base:users",
    "report": "cart:carts",
}
TABLES = {"auth": "sessions", "base": "users", "cart": "carts", "items": "items", "report": "reports"}


def test_a_workspace_is_deployed_in_order_and_grows(world: World) -> None:
    """Five modules that require each other, two of them below `extensions`; a sixth comes with a commit."""
    role = world.database
    files = {"environments/production.yaml": SPEC.format(database=world.database, role=role)}
    for project, needs in WORKSPACE.items():
        table = TABLES[project]
        own = tables(table, project=project, requires={table: needs} if needs else None)
        own[f"modules/{project}/deploy/{table}.sql"] += f"grant select on {table} to {role}_all;\n"
        folder = "extensions" if project in ("base", "items") else "modules"
        files |= {name.replace("modules/", f"{folder}/"): text for name, text in own.items()}
    world.extra["ADMIN"] = "never shown to anybody"
    try:
        first = world.repository.commit(files)
        daemon = world.daemon().start()
        daemon.until_applied(first)
        order = world.deployed()
        place = {TABLES[project]: order.index(TABLES[project]) for project in WORKSPACE}
        for project, needs in WORKSPACE.items():
            for need in needs.split():
                assert place[need.partition(":")[2]] < place[TABLES[project]]
        rows = world.rows(
            f"select rolname::text, rolcanlogin from pg_roles where rolname like '{role}%' order by 1"
        )
        assert rows == [(f"{role}_admin", True), (f"{role}_all", False)]
        second = world.repository.commit(
            tables("wishes", project="wishes", requires={"wishes": "cart:carts"})
        )
        daemon.until_applied(second)
        assert world.deployed()[-1] == "wishes"
        found = json.loads(daemon.run("module", "status", "production", "--all", "--output", "json").stdout)
        rows_of = found["deployments"][0]["modules"]
        assert [row["component"] for row in rows_of] == [
            *("base", "items", "auth", "cart", "report", "wishes"),
        ]
        assert {row["state"] for row in rows_of} == {"in sync"}
        assert daemon.run("module", "verify", "production", "--all").returncode == 0
        again = json.loads(daemon.run("diff", "production", "--output", "json").stdout)
        assert again["in_sync"]
        assert "never shown" not in daemon.tail(1_000_000)
    finally:
        world.server.drop_database(world.database)
        for name in ("admin", "all"):
            world.server.run(f"drop role if exists {role}_{name}")
