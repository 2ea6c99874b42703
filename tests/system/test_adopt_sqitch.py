"""Databases that the real Sqitch deployed are taken over, and gone on with by us."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.postgres.connection import Dsn
from tests.plugins.postgres import PASSWORD, Server
from tests.plugins.taken_over import TakenOver

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

ADOPT = ("module", "adopt", "production", "shop-schema", "--from", "sqitch")
RECORDED = "select change_id, script_hash, deployed_at from reconciler.changes order by position"
THEIRS = "select change_id, script_hash, committed_at from sqitch.changes order by committed_at"


class Sqitch:
    """Sqitch at work in the folder of the module, with nobody's settings but its own."""

    def __init__(self, shop: TakenOver) -> None:
        self._shop = shop
        self._environment = {
            "PATH": f"{shop.server.bin_dir}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "HOME": str(shop.module),
            "SQITCH_USER_CONFIG": "none",
            "SQITCH_SYSTEM_CONFIG": "none",
            "SQITCH_FULLNAME": "Ann Example",
            "SQITCH_EMAIL": "ann@example.com",
            "TZ": "Asia/Kolkata",
            "PGPASSWORD": PASSWORD,
        }

    def __call__(self, *arguments: str) -> None:
        done = subprocess.run(
            ["sqitch", *arguments], cwd=self._shop.module, env=self._environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def add(self, name: str, *more: str, verb: str = "add", sql: str | None = None) -> None:
        """A change, or a rework, that makes a table."""
        self(verb, name, *more, "--note", f"About {name}")
        made = sql if sql is not None else f"create table {name} (id bigint primary key);"
        (self._shop.module / f"deploy/{name}.sql").write_text(f"{made}\n")
        back = "select 1;" if sql is not None else f"drop table {name};"
        (self._shop.module / f"revert/{name}.sql").write_text(f"{back}\n")
        (self._shop.module / f"verify/{name}.sql").write_text("select 1;\n")

    def deploy(self, *more: str) -> None:
        server = self._shop.server
        target = f"db:pg://postgres@127.0.0.1:{server.port}/{self._shop.database}"
        self("deploy", target, *more)


@pytest.fixture
def shop(tmp_path: Path, postgres_server: Server, control_database: Dsn) -> Iterator[TakenOver]:
    made = TakenOver(tmp_path, postgres_server, control_database)
    yield made
    postgres_server.drop_database(made.database)


@pytest.fixture
def sqitch(shop: TakenOver) -> Sqitch:
    """A project of four changes, one of them reworked, with a tag that is not at its end."""
    made = Sqitch(shop)
    made("init", "shop", "--engine", "pg", "--uri", "https://example.com/shop")
    made.add("t1")
    made.add("f", "--requires", "t1", sql="create or replace function f() returns int return 1;")
    made("tag", "v1", "--note", "One")
    made.add("t3")
    made.add("f", verb="rework", sql="create or replace function f() returns int return 2;")
    return made


def test_every_change_is_taken_over_and_the_next_one_deploys(shop: TakenOver, sqitch: Sqitch) -> None:
    """Tagged or not, with Sqitch's ids, hashes and times; then nothing is left, and we go on."""
    sqitch.deploy()
    shop.commit()
    before = shop.rows(THEIRS)
    shown = shop(*ADOPT, "--dry-run")
    assert (shown.exit_code, shown.stdout.count("record-change")) == (0, 4), shown.output
    asked = shop(*ADOPT)
    assert asked.exit_code == 1
    assert "RECORDS_UNSEEN" in asked.output
    taken = shop(*ADOPT, "--yes")
    assert taken.exit_code == 0, taken.output
    assert shop.deployed() == ["t1", "f@v1", "t3", "f"]
    assert shop.rows(RECORDED) == before == shop.rows(THEIRS)
    assert shop.rows("select name from reconciler.tags") == [("v1",)]
    assert shop.rows("select dependency from reconciler.dependencies") == [("t1",), ("f@v1",)]
    again = shop(*ADOPT, "--yes")
    assert (again.exit_code, again.stdout) == (0, "production: nothing to do\n")
    assert shop("module", "deploy", "production").stdout == "production: nothing to do\n"
    compared = shop("diff", "production")
    assert (compared.exit_code, "in sync" in compared.stdout) == (0, True), compared.output
    sqitch.add("t5")
    shop.commit()
    applied = shop("apply", "production")
    assert applied.exit_code == 0, applied.output
    assert shop.deployed() == ["t1", "f@v1", "t3", "f", "t5"]
    assert shop.rows("select count(*) from t5") == [(0,)]


def test_what_is_half_deployed_goes_on(shop: TakenOver, sqitch: Sqitch) -> None:
    """Sqitch stopped in the middle, its registry in another schema; the rest is run by us."""
    sqitch.deploy("--to", "@v1")
    shop.rows("alter schema sqitch rename to theirs")
    shop.commit()
    assert shop(*ADOPT, "--yes", "--registry", "theirs").exit_code == 0
    assert shop.deployed() == ["t1", "f@v1"]
    assert shop("apply", "production").exit_code == 0
    assert shop.deployed() == ["t1", "f@v1", "t3", "f"]
    assert shop.rows("select f()") == [(2,)]


def test_a_script_that_was_edited_since_is_told(shop: TakenOver, sqitch: Sqitch) -> None:
    """What is recorded is what Sqitch ran, so that an edit is no secret; an edited note is no matter."""
    sqitch.deploy()
    (shop.module / "deploy/t3.sql").write_text("create table t3 (id int);\n")
    plan = shop.module / "sqitch.plan"
    plan.write_text(plan.read_text().replace("About t1", "About the first"))
    shop.commit()
    before = shop.rows(THEIRS)
    assert shop(*ADOPT, "--yes").exit_code == 0
    assert shop.rows(RECORDED) == before
    status = shop("diff", "production")
    assert "t3.sql differs from what was deployed" in status.output
    assert "t1.sql" not in status.output


def test_what_does_not_fit_is_refused_and_named(shop: TakenOver, sqitch: Sqitch) -> None:
    """No registry, another schema, another project, a lost change, types of somebody: nothing is recorded."""
    shop.commit()
    none = shop(*ADOPT, "--yes")
    assert none.exit_code == 1
    assert "there is no sqitch registry of database" in none.output
    sqitch.deploy()
    elsewhere = shop(*ADOPT, "--yes", "--registry", "nosuch")
    assert elsewhere.exit_code == 1
    assert "in schema 'nosuch'" in elsewhere.output
    plan = shop.module / "sqitch.plan"
    text = plan.read_text()
    plan.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("t3 ")))
    shop.commit()
    lost = shop(*ADOPT, "--yes")
    assert lost.exit_code == 1
    assert "change t3 (deployed, but not in the plan file" in lost.output
    plan.write_text(text.replace("%project=shop", "%project=other"))
    shop.commit()
    other = shop(*ADOPT, "--yes")
    assert other.exit_code == 1
    assert "has no project 'other'; it has: 'shop'" in other.output
    shop.rows("create type odd as enum (); alter table sqitch.tags add column odd odd")
    assert "there is no sqitch registry of database" in shop(*ADOPT, "--yes").output
    assert shop.rows("select to_regnamespace('reconciler')::text") == [(None,)]
