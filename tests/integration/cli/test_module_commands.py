"""`reconciler module status|check|verify|log` where no daemon answers, on real databases."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.planner import reads
from reconciler.postgres import connection
from reconciler.postgres.connection import Dsn
from tests.plugins.git import GitRepository
from tests.plugins.postgres import Server

HEAD = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: production}}
spec:
  deployments:
    - {{name: eu, postgres: {{dsn: {{env: SHOP_DSN}}}}}}
  components:
    - {{name: db, kind: Database, database: {database}}}
    - {{name: schema, kind: Module, database: {{from: db}}, path: modules/shop{more}}}
    - {{name: other, kind: Module, database: {{from: db}}, path: modules/other}}
"""
TABLE = "CREATE TABLE public.{name} (id int PRIMARY KEY);"
VERIFY = "SELECT id\n  FROM public.{name}\n WHERE false;"


class Modules:
    """A config repository with two modules, and databases for them; nobody runs a daemon."""

    def __init__(self, repository: GitRepository, server: Server, control: Dsn, folder: Path) -> None:
        self.repository = repository
        self.server = server
        self.database = f"shop_{os.urandom(4).hex()}"
        self.config = folder / "reconciler.yaml"
        self.config.write_text(
            f"control: {{dsn: {json.dumps(control.reveal())}}}\n"
            f"state_dir: {json.dumps(str(folder / 'state'))}\n"
            "listen: 127.0.0.1:1\n"
            f"sources: [{{name: shop, url: {json.dumps(str(repository.path))}, branch: main}}]\n"
        )
        self.environ = {"SHOP_DSN": server.text()}
        self.spec()
        self.plan("other", {"x": TABLE.format(name="x")})

    def spec(self, more: str = "") -> None:
        self.repository.write(
            {"environments/production.yaml": HEAD.format(database=self.database, more=more)}
        )

    def plan(
        self,
        project: str,
        scripts: Mapping[str, str],
        *,
        tags: Mapping[str, str] | None = None,
        note: str = "x",
    ) -> None:
        """Commit a module with these changes in this order, each with a verify script."""
        lines = []
        for name in scripts:
            lines.append(f"{name} 2026-01-05T09:00:00Z A <a@example.com> # {note}\n")
            if tags and name in tags:
                lines.append(f"@{tags[name]} 2026-01-05T09:00:00Z A <a@example.com>\n")
        files = {f"modules/{project}/sqitch.plan": f"%project={project}\n\n" + "".join(lines)}
        for name, text in scripts.items():
            files[f"modules/{project}/deploy/{name}.sql"] = text
            files[f"modules/{project}/verify/{name}.sql"] = VERIFY.format(name=name)
        self.repository.commit(files, "Change the module")

    def shop(self, *names: str, **more: Any) -> None:
        self.plan("shop", {name: TABLE.format(name=name) for name in names}, **more)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config)], env=self.environ)

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "--output", "json").stdout)
        return found

    def deploy(self) -> None:
        applied = self("apply", "production", "--wait")
        assert applied.exit_code == 0, applied.output

    def deployed(self) -> list[str]:
        rows = self.server.run(
            "SELECT name FROM reconciler.changes WHERE project = 'shop' ORDER BY \"position\"",
            database=self.database,
        )
        return [name for (name,) in rows]


@pytest.fixture
def modules(
    git_repository: GitRepository, postgres_server: Server, control_database: Dsn, tmp_path: Path
) -> Iterator[Modules]:
    found = Modules(git_repository, postgres_server, control_database, tmp_path)
    yield found
    found.server.drop_database(found.database)


def test_status_before_and_after(modules: Modules) -> None:
    """Nothing deployed, pending, up to date, diverged: each has its code, and looking makes nothing."""
    modules.shop("t1", "t2", tags={"t2": "v1"})
    before = modules("module", "status", "production")
    assert before.exit_code == 3, before.output
    assert "schema: nothing is deployed" in before.stdout
    for command in ("status", "check", "verify", "log"):
        modules("module", command, "production")
    assert modules.server.run(f"SELECT FROM pg_database WHERE datname = '{modules.database}'") == []
    modules.deploy()
    found = modules.json("module", "status", "production", "schema")["deployments"][0]["modules"][0]
    assert (found["state"], found["deployed"], found["last"], found["tag"]) == ("in sync", 2, "t2", "v1")
    assert modules("module", "status", "production").exit_code == 0
    modules.plan("shop", {"t1": TABLE.format(name="t1"), "t2": "SELECT 1;"}, tags={"t2": "v1"})
    edited = modules("module", "status", "production")
    assert edited.exit_code == 4, edited.output
    assert "change t2 edited (warn)" in edited.stdout
    assert modules("module", "status", "nosuch").exit_code == 1
    assert "no module 'shcema'" in modules("module", "status", "production", "shcema").stderr


def test_what_left_the_spec_is_told(modules: Modules) -> None:
    """A module that left, or whose project was renamed, is told by status, check, log and verify."""
    modules.shop("t1")
    modules.deploy()
    files = {"modules/shop/sqitch.plan": "%project=store\n\nt1 2026-01-05T09:00:00Z A <a@example.com>\n"}
    modules.repository.commit(files, "Rename the project")
    place = modules.json("module", "status", "production", "shop")["deployments"][0]
    (found,) = place["modules"]
    assert (found["project"], found["state"], found["deployed"], found["last"]) == (
        "shop",
        "orphaned",
        1,
        "t1",
    )
    (row,) = found["diverged"]
    assert row["sort"] == "orphaned"
    assert "module 'store' has the same scripts" in row["detail"]
    assert "%project=shop" in row["detail"]
    assert modules("module", "status", "production", "shop").exit_code == 4
    states = {
        module["project"]: (module["state"], len(module["diverged"]))
        for module in modules.json("module", "status", "production")["deployments"][0]["modules"]
    }
    assert states == {"store": ("pending", 0), "other": ("in sync", 0), "shop": ("orphaned", 1)}
    checked = modules("module", "check", "production")
    assert checked.exit_code == 4, checked.output
    assert "module shop orphaned (warn)" in checked.stdout
    assert "t1" in modules("module", "log", "production", "shop").stdout
    (verified,) = modules.json("module", "verify", "production", "shop")["deployments"][0]["modules"]
    assert (verified["project"], verified["deployed"], verified["passed"]) == ("shop", 1, 1)
    for verb in ("log", "verify"):
        unknown = modules("module", verb, "production", "shopp")
        assert (unknown.exit_code, "no module 'shopp'" in unknown.stderr) == (1, True)


def test_a_database_that_was_dropped_is_not_told_as_empty(modules: Modules) -> None:
    """Where a managed database is gone, nobody knows what is deployed: no look says that all is well."""
    modules.shop("t1")
    modules.deploy()
    modules.server.drop_database(modules.database)
    for command, code in (("status", 5), ("check", 1), ("verify", 1)):
        result = modules("module", command, "production")
        assert (command, result.exit_code) == (command, code), result.output
        assert f"database '{modules.database}' does not exist any more" in result.stdout


def test_status_of_what_is_blocked_or_cannot_be_read(modules: Modules) -> None:
    """What misses a requirement, and what nobody can read, has a code of its own, and says why."""
    modules.shop("t1")
    plan = "%project=shop\n\nt1 [gone:x] 2026-01-05T09:00:00Z A <a@example.com>\n"
    modules.repository.commit({"modules/shop/sqitch.plan": plan}, "Require what is not there")
    blocked = modules("module", "status", "production")
    assert blocked.exit_code == 5, blocked.output
    assert "missing required changes: 'gone:x'" in blocked.output
    modules.environ["SHOP_DSN"] = "host=127.0.0.1 port=1 user=nobody"
    for command, code in (("status", 5), ("check", 1), ("verify", 1)):
        unread = modules("module", command, "production")
        assert (command, unread.exit_code) == (command, code), unread.output


def test_a_look_opens_one_connection_to_each_database(
    modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One to the control database, one to the server and one to each of its databases, which is read once."""
    modules.shop("t1")
    modules.deploy()
    opened: list[str] = []
    read: list[str] = []
    opening, glancing = connection._open, reads._glance

    async def counted(settings: dict[str, Any]) -> connection.Connection:
        opened.append(str(settings.get("dbname")))
        return await opening(settings)

    async def seen(over: connection.Connection) -> Any:
        read.append(over.info.dbname)
        return await glancing(over)

    monkeypatch.setattr(connection, "_open", counted)
    monkeypatch.setattr(reads, "_glance", seen)
    for command in ("module status", "module verify", "diff", "module deploy"):
        opened.clear()
        read.clear()
        done = modules(*command.split(), "production")
        assert done.exit_code == 0, done.output
        assert (len(opened), len(set(opened)), read) == (3, 3, [modules.database]), command


def test_check_lists_all_that_differs(modules: Modules) -> None:
    """Every divergence of every module is told, allowed ones too, and what is only formatted is none."""
    modules.shop("t1", "t2", "t3", "t4")
    modules.deploy()
    assert modules("module", "check", "production").exit_code == 0
    scripts = {name: TABLE.format(name=name) for name in ("t1", "t9", "t4", "t3")}
    scripts["t1"] = "CREATE TABLE public.t1 (id text);"
    scripts["t3"] = f"-- laid out anew\n{scripts['t3']}\n"
    modules.plan("shop", scripts, note="another note")
    checked = modules("module", "check", "production")
    assert checked.exit_code == 4, checked.output
    told = [line.split(": ", 2)[2] for line in checked.stdout.splitlines()]
    assert [line.partition(" (")[0] for line in told] == [
        "change t1 edited",
        "change t2 missing",
        "change t3 reordered",
        "change t9 inserted",
    ]
    modules.spec(", divergence: {edited: allow, missing: allow, inserted: allow, reordered: allow}")
    modules.repository.commit({}, "Allow it")
    answer = modules.json("module", "check", "production")
    rows = answer["deployments"][0]["modules"][0]["diverged"]
    assert (answer["clean"], {row["policy"] for row in rows}) == (True, {"allow"})
    assert modules("module", "check", "production").exit_code == 0


def test_divergence_stops_its_module_alone(modules: Modules) -> None:
    """A module that lost a deployed change deploys nothing; the other one goes on."""
    modules.shop("t1", "t2")
    modules.deploy()
    modules.shop("t2", "t3")
    modules.plan("other", {"x": TABLE.format(name="x"), "y": TABLE.format(name="y")})
    alone = modules("module", "deploy", "production", "shop")
    assert alone.exit_code == 1
    assert "`reconciler module check production`" in alone.stderr
    shown = modules("module", "deploy", "production", "shop", "--dry-run")
    assert shown.exit_code == 5
    assert "blocked: " in shown.stdout
    assert "nothing to do" not in shown.stdout
    applied = modules("apply", "production", "--wait")
    assert applied.exit_code == 5, applied.output
    assert "eu: migrations: deploy-change other: change y: done" in applied.stdout
    assert modules.deployed() == ["t1", "t2"]
    assert modules.server.run("SELECT to_regclass('public.y')::text", database=modules.database) == [("y",)]
    assert modules("module", "status", "production").exit_code == 4
    modules.spec(", divergence: {missing: warn}")
    modules.repository.commit({}, "Go on without it")
    modules.deploy()
    assert modules.deployed() == ["t1", "t2", "t3"]


def test_late_renamed_and_noted_changes(modules: Modules) -> None:
    """A rename renames the record, an edited note does nothing, an inserted change is deployed late."""
    modules.shop("t1", "t2", "t3")
    modules.deploy()
    scripts = {
        "t1": TABLE.format(name="t1"),
        "t0": TABLE.format(name="t0"),
        "better": TABLE.format(name="t2"),
        "t3": TABLE.format(name="t3"),
    }
    modules.spec(", divergence: {inserted: warn}")
    modules.plan("shop", scripts, note="another note", tags={"t3": "v1"})
    shown = modules("diff", "production")
    assert "deploy-change    schema  change t0 (late)" in shown.stdout
    assert "rename-change    schema  change better" in shown.stdout
    modules.deploy()
    assert modules.deployed() == ["t1", "better", "t3", "t0"]
    log = modules.json("module", "log", "production", "schema", "--kind", "rename")["databases"]
    assert [(row["name"], row["note"]) for row in log[0]["events"]] == [("better", "was: t2")]
    found = modules.json("module", "status", "production", "schema")["deployments"][0]["modules"][0]
    assert (found["pending"], found["diverged"], found["tag"]) == ([], [], "v1")


def test_tag_that_is_added_or_moved_later_is_recorded(modules: Modules) -> None:
    """A tag is recorded by the next rollout where nothing else is pending, and moves when it moves."""
    modules.shop("t1", "t2")
    modules.deploy()
    where = "SELECT c.name FROM reconciler.tags t JOIN reconciler.changes c USING (change_id)"
    for change in ("t1", "t2"):
        modules.shop("t1", "t2", tags={change: "v1"})
        assert "record-tag" in modules("diff", "production").stdout
        modules.deploy()
        assert modules.server.run(where, database=modules.database) == [(change,)]
    assert modules("diff", "production", "--exit-code").exit_code == 0


def test_verify_tells_every_failure(modules: Modules) -> None:
    """A dropped table is named with the server's words and the place; what is out of range is not run."""
    modules.shop("t1", "t2", "t3", "t4")
    modules.deploy()
    verified = modules("module", "verify", "production")
    assert verified.exit_code == 0, verified.output
    assert "schema: 4 changes verified, 0 failures" in verified.stdout
    modules.server.run("DROP TABLE public.t2; DROP TABLE public.t3", database=modules.database)
    failed = modules("module", "verify", "production", "schema")
    assert failed.exit_code == 4, failed.output
    for name in ("t2", "t3"):
        place = f"{name} failed at modules/shop/verify/{name}.sql:2"
        assert f'{place}: relation "public.{name}" does not exist [42P01]' in failed.stdout
    assert modules("module", "verify", "production", "schema", "--to", "t1").exit_code == 0
    assert modules("module", "verify", "production", "schema", "--to", "t2").exit_code == 4
    assert modules("module", "verify", "production", "schema", "--from", "t4").exit_code == 0
    assert (
        "'nosuch' is not deployed"
        in modules("module", "verify", "production", "schema", "--to", "nosuch").stderr
    )
    assert "name the module" in modules("module", "verify", "production", "--to", "t1").stderr


def test_verify_of_a_change_that_left_the_plan(modules: Modules) -> None:
    """Its stored script is run; a change without one is told of, and fails nothing."""
    modules.shop("t1", "t2")
    modules.deploy()
    modules.shop("t2", "t3")
    modules.server.run("DROP TABLE public.t1", database=modules.database)
    answer = modules.json("module", "verify", "production", "schema")
    found = answer["deployments"][0]["modules"][0]
    assert (answer["ok"], found["passed"]) == (False, 1)
    assert [(row["change"], row["sqlstate"]) for row in found["failed"]] == [("t1", "42P01")]


def test_verify_says_which_changes_say_nothing_of_themselves(modules: Modules) -> None:
    """No script and one without a statement are told alike, in the commit and stored, and fail nothing."""

    def without() -> list[str]:
        answer = modules.json("module", "verify", "production", "schema")
        found = answer["deployments"][0]["modules"][0]
        assert (answer["ok"], found["passed"]) == (True, 1)
        return list(found["without_script"])

    modules.shop("t1", "t2", "t3")
    modules.repository.commit(
        {"modules/shop/verify/t1.sql": None, "modules/shop/verify/t2.sql": "BEGIN;\n-- later\nROLLBACK;\n"},
        "Leave verify scripts out",
    )
    modules.deploy()
    told = modules("module", "verify", "production", "schema")
    assert told.exit_code == 0, told.output
    for name in ("t1", "t2"):
        assert f"schema: {name} has no verify script" in told.stderr
    assert without() == ["t1", "t2"]
    modules.shop("t4")
    assert without() == ["t1", "t2"]


def test_log_of_one_change(modules: Modules) -> None:
    """The log is told by change and by kind."""
    modules.shop("t1", "t2")
    modules.deploy()
    rows = modules.json("module", "log", "production", "--change", "t2")["databases"][0]["events"]
    assert [(row["kind"], row["name"]) for row in rows] == [("deploy", "t2")]
    assert "nothing of that kind" in modules("module", "log", "production", "--kind", "revert").stdout
