"""Commands where no daemon answers: they work on real databases themselves and are their own worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.daemon import age
from reconciler.postgres.connection import Dsn
from tests.plugins.git import GitRepository
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
    - {name: schema, kind: Module, database: {from: db}, path: modules/shop}
"""
PLAN = "%syntax-version=1.0.0\n%project=shop\n\n"
LINE = "{name} 2026-01-05T09:00:00Z A <a@example.com> # x\n"


class Shop:
    """A config repository, a target server and a control database; nobody runs a daemon."""

    def __init__(self, repository: GitRepository, server: Server, control: Dsn, folder: Path) -> None:
        self.repository = repository
        self.server = server
        self.database = f"shop_{os.urandom(4).hex()}"
        self.config = folder / "reconciler.yaml"
        self.config.write_text(
            f"control: {{dsn: {json.dumps(control.reveal())}}}\n"
            f"state_dir: {json.dumps(str(folder / 'state'))}\n"
            # Port 1 answers nobody, so no daemon of whoever runs the tests is asked by accident.
            "listen: 127.0.0.1:1\n"
            f"sources: [{{name: shop, url: {json.dumps(str(repository.path))}, branch: main}}]\n"
        )
        self.environ = {"SHOP_DSN": server.text()}
        self.changes: list[str] = []
        self.repository.write({"environments/production.yaml": SPEC.replace("DATABASE", self.database)})

    def add(self, name: str, deploy: str) -> str:
        self.changes.append(name)
        plan = PLAN + "".join(LINE.format(name=change) for change in self.changes)
        return self.repository.commit(
            {"modules/shop/sqitch.plan": plan, f"modules/shop/deploy/{name}.sql": deploy}, f"Add {name}"
        )

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config)], env=self.environ)

    def json(self, *arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self(*arguments, "--output", "json").stdout)
        return found


@pytest.fixture
def shop(
    git_repository: GitRepository, postgres_server: Server, control_database: Dsn, tmp_path: Path
) -> Iterator[Shop]:
    found = Shop(git_repository, postgres_server, control_database, tmp_path)
    yield found
    found.server.drop_database(found.database)


def test_the_whole_way_without_a_daemon(shop: Shop) -> None:
    """Dry run, apply, status, history, drift: each says the truth, and its exit code says it too."""
    commit = shop.add("orders", "CREATE TABLE public.orders (id bigint PRIMARY KEY);")
    before = shop("diff", "production", "--exit-code")
    assert before.exit_code == 3, before.output
    assert "change orders" in before.stdout
    applied = shop("apply", "production", "--reason", "first")
    assert applied.exit_code == 0, applied.output
    assert "eu: completed" in applied.stdout
    assert shop("diff", "production", "--exit-code").exit_code == 0
    assert shop("apply", "production").stdout == "production: nothing to do\n"
    history = shop.json("history", "production")["rollouts"]
    assert isinstance(history, list)
    assert [(row["commit"], row["state"], row["reason"]) for row in history] == [
        (commit, "completed", "first")
    ]
    shop.server.run("ALTER TABLE public.orders ADD COLUMN note text", database=shop.database)
    drifted = shop("diff", "production", "--exit-code")
    assert drifted.exit_code == 4, drifted.output
    assert "orders" in drifted.stdout
    assert shop("module", "status", "production").exit_code == 0
    assert "deploy" in shop("module", "log", "production").stdout
    assert "rollout.completed" in shop("events", "production").stdout


def test_dry_run_equals_what_apply_does(shop: Shop) -> None:
    """The steps that the dry run listed are the steps of the rollout, one for one."""
    shop.add("one", "CREATE TABLE public.one (id int);")
    shop.add("two", "CREATE TABLE public.two (id int);")
    deployments = shop.json("diff", "production")["deployments"]
    assert isinstance(deployments, list)
    planned = [step["id"] for stage in deployments[0]["plan"]["stages"] for step in stage["steps"]]
    rollout = shop.json("apply", "production", "--wait")
    assert rollout["state"] == "completed"
    operations = rollout["operations"]
    assert isinstance(operations, list)
    assert [step["id"] for step in operations[0]["steps"]] == planned


def test_failure_is_told_with_its_place(shop: Shop) -> None:
    """A failing script ends with 5, and `show` says what, where, why and what to do next."""
    shop.add("broken", "BEGIN;\nSELECT *\n  FROM nowhere;\nCOMMIT;\n")
    failed = shop("apply", "production", "--wait")
    assert failed.exit_code == 5, failed.output
    history = shop.json("history", "production")["rollouts"]
    assert isinstance(history, list)
    shown = shop("show", str(history[0]["id"])).stdout
    for text in ("modules/shop/deploy/broken.sql:3", 'relation "nowhere" does not exist', "42P01", "next:"):
        assert text in shown
    shop.server.run("CREATE TABLE public.nowhere (id int)", database=shop.database)
    again = shop("retry", str(history[0]["id"]))
    assert again.exit_code == 0, again.output


def test_secret_of_a_malformed_connection_string_stays_inside(shop: Shop) -> None:
    """What a driver cannot parse, and would quote, comes out of no command."""
    shop.add("orders", "CREATE TABLE public.orders (id int);")
    for dsn in ("postgresql://u:hunter2@@[::bad/x", "host=127.0.0.1 password='hunter2", "hunter2 hunter2"):
        shop.environ["SHOP_DSN"] = dsn
        for arguments in (
            ["diff", "production"],
            ["apply", "production"],
            ["module", "status", "production"],
        ):
            result = shop(*arguments)
            assert "hunter2" not in result.output, arguments


def test_encrypted_values_connect(shop: Shop, tmp_path: Path) -> None:
    """Connection strings of a spec and of the settings may be encrypted; the wrong key is told."""
    key = age.new_key()
    text = shop.config.read_text()
    dsn = json.loads(text.split("dsn: ")[1].split("}")[0])
    (tmp_path / "age.txt").write_text(key.secret)
    keys = f"secrets: {{age_keys: [{{file: {tmp_path / 'age.txt'}}}]}}\n"
    shop.config.write_text(
        keys + text.replace(json.dumps(dsn), f"{{age: {age.encrypted(dsn, [key.recipient])}}}")
    )
    value = age.encrypted(shop.server.text(), [key.recipient])
    spec = SPEC.replace("DATABASE", shop.database).replace("env: SHOP_DSN", f'age: "{value}"')
    shop.repository.write({"environments/production.yaml": spec})
    shop.environ = {}
    shop.add("orders", "CREATE TABLE public.orders (id bigint PRIMARY KEY);")
    assert shop("apply", "production").exit_code == 0
    assert shop("diff", "production", "--exit-code").exit_code == 0
    (tmp_path / "age.txt").write_text(age.new_key().secret)
    shop.config.write_text(keys + text)
    failed = shop("diff", "production")
    assert "for none of the keys" in failed.output
    assert value[40:80] not in failed.output


def test_ctrl_c_leaves_a_rollout_that_goes_on(shop: Shop) -> None:
    """Interrupting a command that works by itself stops at a safe point; the next one goes on from there."""
    shop.add("slow", "SELECT pg_catalog.pg_sleep(3); CREATE TABLE public.slow (id int);")
    command = [sys.executable, "-m", "reconciler", "apply", "production", "--config", str(shop.config)]
    process = subprocess.Popen(
        command,
        env={**os.environ, **shop.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3)%' AND datname = '{}'"
    while shop.server.run(sleeping.format(shop.database)) == [(0,)]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert process.returncode == 6, out + err
    assert "run the command again" in out + err
    assert "still running" not in out + err
    assert shop("apply", "production").exit_code == 0
    assert shop.server.run("SELECT count(*) FROM public.slow", database=shop.database) == [(0,)]
    assert shop("diff", "production", "--exit-code").exit_code == 0
