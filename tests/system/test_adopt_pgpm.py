"""Databases that the real engine of pgpm deployed are taken over, and gone on with by us."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import pgpm
from reconciler.postgres.connection import Dsn
from tests.plugins.modules import tables
from tests.plugins.postgres import PASSWORD, Server
from tests.plugins.taken_over import TakenOver

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

ADOPT = ("module", "adopt", "production", "--from", "pgpm", "--yes")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine, as npm installs it."""
    return pgpm.install(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def shop(tmp_path: Path, postgres_server: Server, control_database: Dsn) -> Iterator[TakenOver]:
    made = TakenOver(tmp_path, postgres_server, control_database)
    write(made, "t1", "t2", "t3", "t4")
    yield made
    postgres_server.drop_database(made.database)


def write(shop: TakenOver, *names: str) -> None:
    """The module as pgpm has it: a plan of its own, and a control file."""
    for path, text in tables(*names, tags={"t2": "v1"}, requires={"t2": "t1"}).items():
        file = shop.module / path.removeprefix("modules/shop/").replace("sqitch.plan", "pgpm.plan")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    (shop.module / "shop.control").write_text("default_version = '0.0.1'\n")
    (shop.module / "package.json").write_text('{"name": "shop", "version": "0.0.1"}')


def drive(shop: TakenOver, engine: Path, verb: str, *change: str) -> tuple[bool, str]:
    """Have pgpm do something; gives whether it says that it did, and what it says."""
    login = {"PGPORT": str(shop.server.port), "PGPASSWORD": PASSWORD, "PGDATABASE": shop.database}
    done = subprocess.run(
        pgpm.command(engine, shop.module, verb, *change),
        cwd=shop.module,
        env={"PATH": os.environ["PATH"], "HOME": str(shop.module), **login},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode == 0, done.stdout + done.stderr


def deploy(shop: TakenOver, engine: Path, *change: str) -> None:
    done, said = drive(shop, engine, "deploy", *change)
    assert done, said


def test_what_pgpm_deployed_is_taken_over_and_gone_on_with(shop: TakenOver, engine: Path) -> None:
    """Every change with its time, though hashes and ids are of another kind; then the next one deploys."""
    deploy(shop, engine)
    shop.commit()
    times = shop.rows("select deployed_at from pgpm_migrate.changes order by deployed_at")
    taken = shop(*ADOPT)
    assert taken.exit_code == 0, taken.output
    assert shop.deployed() == ["t1", "t2", "t3", "t4"]
    assert shop.rows("select deployed_at from reconciler.changes order by position") == times
    assert shop.rows("select name from reconciler.tags") == [("v1",)]
    compared = shop("diff", "production")
    assert (compared.exit_code, "in sync" in compared.stdout) == (0, True), compared.output
    assert shop(*ADOPT).stdout == "production: nothing to do\n"
    write(shop, "t1", "t2", "t3", "t4", "t5")
    shop.commit()
    assert shop("apply", "production").exit_code == 0
    assert shop.deployed() == ["t1", "t2", "t3", "t4", "t5"]


def test_what_pgpm_half_deployed_goes_on(shop: TakenOver, engine: Path) -> None:
    """An older one stopped in the middle, and a script was edited since: that is told, the rest is run."""
    deploy(shop, engine, "t2")
    shop.rows("alter schema pgpm_migrate rename to launchql_migrate")
    (shop.module / "deploy/t1.sql").write_text("create table t1 (id int);\n")
    shop.commit()
    assert shop(*ADOPT).exit_code == 0
    assert shop.deployed() == ["t1", "t2"]
    assert "t1.sql differs from what was deployed" in shop("diff", "production").output
    assert shop("apply", "production").exit_code == 0
    assert shop.deployed() == ["t1", "t2", "t3", "t4"]
    assert shop.rows("select count(*) from t4") == [(0,)]


def test_pgpm_beside_us_knows_what_it_deployed(shop: TakenOver, engine: Path) -> None:
    """It verifies and takes back its own changes and leaves ours; what it took back we tell as gone."""
    names = ["t1", "t2", "t3", "t4", "t5"]
    (shop.module / "verify").mkdir()
    for name in names:
        (shop.module / f"verify/{name}.sql").write_text(f"select id from {name} where false;\n")
    deploy(shop, engine)
    write(shop, *names)
    shop.commit()
    known = "select change_name from pgpm_migrate.changes order by change_name"
    assert shop(*ADOPT).exit_code == 0
    assert shop("apply", "production").exit_code == 0
    assert (shop.deployed(), shop.rows(known)) == (names, [("t1",), ("t2",), ("t3",), ("t4",)])

    done, said = drive(shop, engine, "verify")
    assert (done, "verified: t4" in said, "t5" in said) == (True, True, False), said
    done, said = drive(shop, engine, "deploy")
    assert (done, 'relation "t5" already exists' in said) == (False, True), said

    done, said = drive(shop, engine, "revert", "t3")
    assert (done, "not deployed change: t5" in said) == (True, True), said
    assert "table public.t4 removed" in shop("diff", "production").stdout
    verified = shop("module", "verify", "production")
    assert (verified.exit_code, "shop-schema: t4 failed" in verified.stdout) == (4, True), verified.output
    deploy(shop, engine, "t4")
    assert shop("module", "verify", "production").exit_code == 0
    assert shop.deployed() == names
