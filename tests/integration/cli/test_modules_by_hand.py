"""`reconciler module deploy` and `module revert`, with a daemon and without one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.postgres.connection import Dsn
from reconciler.state.registry import RegistryKind
from reconciler.state.task import ModuleTask, TaskVerb
from tests.plugins.daemon import until
from tests.plugins.git import GitRepository
from tests.plugins.memory_service import MemoryService, rollout, serving
from tests.plugins.modules import tables
from tests.plugins.postgres import Server

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: SHOP_DSN}}}
  components:
    - {name: db, kind: Database, database: DATABASE}
    - {name: shop-schema, kind: Module, database: {from: db}, path: modules/shop}
"""


class Shop:
    """A config repository, a server and a control database; nobody runs a daemon."""

    def __init__(self, folder: Path, server: Server, control: Dsn) -> None:
        self.repository = GitRepository(folder / "repository")
        self.server = server
        self.database = f"by_hand_{os.urandom(4).hex()}"
        self.config = folder / "reconciler.yaml"
        self.config.write_text(
            f"control: {{dsn: {json.dumps(control.reveal())}}}\n"
            f"state_dir: {json.dumps(str(folder / 'state'))}\n"
            "listen: 127.0.0.1:1\n"
            f"sources: [{{name: shop, url: {json.dumps(str(self.repository.path))}, branch: main}}]\n"
        )
        self.repository.commit(
            {
                "environments/production.yaml": SPEC.replace("DATABASE", self.database),
                **tables("t1", "t2", "t3", "t4", tags={"t2": "v1"}),
            },
            "Add the shop",
        )

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            app,
            [*arguments, "--config", str(self.config)],
            env={"SHOP_DSN": self.server.text()},
        )

    def deployed(self) -> list[str]:
        rows = self.server.run(
            "select name from reconciler.changes order by position", database=self.database
        )
        return [str(row[0]) for row in rows]


@pytest.fixture
def shop(tmp_path: Path, postgres_server: Server, control_database: Dsn) -> Iterator[Shop]:
    made = Shop(tmp_path, postgres_server, control_database)
    yield made
    postgres_server.drop_database(made.database)


def test_deploy_and_revert_without_a_daemon(shop: Shop) -> None:
    """To a tag, again, behind it, all back: exit codes and what is there after each."""
    adopted = shop("module", "adopt", "production", "--from", "sqitch", "--yes")
    assert adopted.exit_code == 1
    assert "does not exist" in adopted.stderr
    assert "--registry" not in adopted.stderr
    without = shop("module", "deploy", "production", "--all")
    assert without.exit_code == 1
    assert "--createdb" in without.stderr
    first = shop("module", "deploy", "production", "shop-schema", "--to", "@v1", "--createdb")
    assert first.exit_code == 0, first.output
    assert shop.deployed() == ["t1", "t2"]
    again = shop("module", "deploy", "production", "shop-schema", "--to", "@v1")
    assert (again.exit_code, again.stdout) == (0, "production: nothing to do\n")
    behind = shop("module", "deploy", "production", "shop", "--to", "t1")
    assert (behind.exit_code, shop.deployed()) == (1, ["t1", "t2"])
    assert "reconciler module revert production shop --to t1" in behind.stderr
    for verb in ("deploy", "revert"):
        unknown = shop("module", verb, "production", "shop-schema", "--to", "nosuch")
        assert (unknown.exit_code, shop.deployed()) == (1, ["t1", "t2"])
    bare = shop("module", "revert", "production", "shop-schema")
    assert (bare.exit_code, "--yes" in bare.stderr, "--allow-hazard" in bare.stderr) == (1, True, True)
    shown = shop("module", "revert", "production", "shop-schema", "--dry-run")
    assert (shown.exit_code, shop.deployed()) == (0, ["t1", "t2"])
    assert "- revert-change" in shown.stdout
    assert "change t2" in shown.stdout
    back = shop("module", "revert", "production", "shop-schema", "--yes")
    assert (back.exit_code, shop.deployed()) == (0, ["t1"])
    everything = shop("module", "revert", "production", "shop-schema", "--all", "--yes")
    assert (everything.exit_code, shop.deployed()) == (0, [])
    nothing = shop("module", "revert", "production", "shop-schema", "--all", "--yes")
    assert (nothing.exit_code, nothing.stdout) == (0, "production: nothing to do\n")


def test_a_blocked_module_is_not_told_as_done(shop: Shop) -> None:
    """Where only the database could be made, the command says what is left out and why, and ends with 5."""
    shop.repository.commit(tables("t1", "t2", requires={"t2": "other:nothing"}))
    result = shop("module", "deploy", "production", "shop-schema", "--createdb")
    assert result.exit_code == 5, result.output
    assert "eu: completed: as far as may be; blocked: " in result.output
    assert "other:nothing" in result.output


def test_the_next_command_ends_what_a_killed_one_left(shop: Shop, tmp_path: Path) -> None:
    """No daemon runs: the next command waits for the lease of the dead one, ends its rollout and goes on."""
    with shop.config.open("a") as config:
        config.write("limits: {lease: 2s, heartbeat: 500ms}\n")
    shop.repository.commit(
        {"modules/shop/deploy/t3.sql": "DO $$ BEGIN PERFORM pg_sleep(600); END $$;"}, "Never end"
    )
    deploy = ["module", "deploy", "production", "shop-schema", "--createdb"]
    told = tmp_path / "output"
    with told.open("w") as output:
        killed = subprocess.Popen(
            [sys.executable, "-m", "reconciler", *deploy, "--config", str(shop.config)],
            env={**os.environ, "SHOP_DSN": shop.server.text()},
            stdout=output,
            stderr=output,
        )
        try:
            until(lambda: "change t1: done" in told.read_text(), "a change to be done")
        finally:
            killed.kill()
            killed.wait()
    shop.repository.commit({"modules/shop/deploy/t3.sql": "CREATE TABLE public.t3 ();"}, "End")
    result = shop(*deploy, "--timeout", "60")
    assert result.exit_code == 0, result.output
    assert shop.deployed() == ["t1", "t2", "t3", "t4"]


def test_what_failed_by_hand_is_not_advised_to_be_retried(shop: Shop) -> None:
    """A retry of it is refused, so that neither the command nor `show` nor `status` proposes one."""
    shop.repository.commit({"modules/shop/deploy/t1.sql": "SELECT 1 / 0;"}, "Break it")
    result = shop("module", "deploy", "production", "shop-schema", "--to", "t1", "--createdb")
    assert result.exit_code == 5, result.output
    number = result.stdout.split()[1]
    for told in (result, shop("show", number), shop("status", "production")):
        assert "reconciler module …" in told.output
        assert f"reconciler retry {number}" not in told.output
    assert "is asked for anew" in shop("retry", number).output


def test_what_contradicts_itself_is_a_usage_error(shop: Shop) -> None:
    """`--all` beside `--to`, and a target without a module."""
    both = shop("module", "revert", "production", "shop-schema", "--all", "--to", "t1")
    assert both.exit_code == 2
    assert shop("module", "deploy", "production", "--to", "t1").exit_code == 2
    for verb in ("deploy", "verify", "status", "check"):
        assert shop("module", verb, "production", "shop-schema", "--all").exit_code == 2


def test_a_daemon_is_asked_the_same() -> None:
    """What the command line takes arrives as the task that it means."""
    service = MemoryService()
    service.next_apply = rollout()
    with serving(service) as url:
        asked = ["--deployment", "eu", "--reason", "why", "--server", url]
        revert = [
            "module",
            "revert",
            "production",
            "shop-schema",
            "--to",
            "@v1",
            "--with-dependents",
            "--yes",
        ]
        assert CliRunner().invoke(app, [*revert, *asked]).exit_code == 0
        deploy = [
            "module",
            "deploy",
            "production",
            "--log-only",
            "--yes",
            "--all",
            "--createdb",
            "--server",
            url,
        ]
        assert CliRunner().invoke(app, deploy).exit_code == 0
        adopt = ["module", "adopt", "production", "--from", "pgpm", "--yes", "--server", url]
        assert CliRunner().invoke(app, adopt).exit_code == 0
        shown = CliRunner().invoke(app, [*revert, "--dry-run", "-o", "json", "--server", url])
        assert shown.exit_code == 0
        assert json.loads(shown.stdout)["environment"] == "production"
    runs = [values for name, values in service.calls if name == "run_module"]
    assert runs[0]["task"] == ModuleTask(
        verb=TaskVerb.REVERT, module="shop-schema", to="@v1", with_dependents=True
    )
    assert runs[0]["allow_hazards"] == {"REVERTS_CHANGE", "DELETES_DATA", "REWRITES_TABLE"}
    assert (runs[0]["deployment"], runs[0]["reason"]) == ("eu", "why")
    assert runs[1]["task"] == ModuleTask(verb=TaskVerb.DEPLOY, log_only=True, createdb=True)
    assert runs[1]["allow_hazards"] == {"RECORDS_UNSEEN"}
    assert runs[2]["task"] == ModuleTask(verb=TaskVerb.ADOPT, adopt_from=RegistryKind.PGPM)
    assert runs[2]["allow_hazards"] == {"RECORDS_UNSEEN"}
