"""Deploys and reverts by hand, killed, interrupted and asked for at once: nothing twice, nothing lost."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.daemon import SPEC, ConfigRepository, until
from tests.plugins.git import git_environment
from tests.plugins.modules import tables
from tests.plugins.postgres import OwnServer, Server

KILLS = int(os.environ.get("RECONCILER_TEST_KILLS", "4"))
"""Kills of one deploy and of one revert; twenty are for whoever has the time."""
CHANGES = tuple(f"t{number}" for number in range(160))
ASKED = ("production", "shop-schema")


class Shop:
    """A module in a repository, a server and a control database; only commands work on them."""

    def __init__(self, folder: Path, server: Server, control_server: Server) -> None:
        self.folder = folder
        self.server = server
        self.control_server = control_server
        self.control = control_server.create_database()
        self.database = f"killed_{os.urandom(4).hex()}"
        self.repository = ConfigRepository(folder / "repository")
        self.repository.commit(
            {
                "environments/production.yaml": SPEC.format(
                    name="production", database=self.database, module="shop"
                ),
                **tables(*CHANGES),
            }
        )
        self.config = folder / "reconciler.yaml"
        self.config.write_text(
            f"state_dir: {json.dumps(str(folder / 'state'))}\nlisten: 127.0.0.1:1\n"
            "control: {dsn: {env: RECONCILER_CONTROL_DSN}}\n"
            "limits: {attempts: 60, retry_base: 0.2, retry_ceiling: 1}\n"
            f"sources: [{{name: shop, url: {json.dumps(str(self.repository.path))}, branch: main}}]\n"
        )

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "reconciler", *arguments, "--config", str(self.config)],
            env={
                **git_environment(),
                "SHOP_DSN": self.server.text(),
                "RECONCILER_CONTROL_DSN": self.control_server.text(self.control),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
        )

    def run(self, *arguments: str) -> None:
        ended(self.begin(*arguments))

    def deployed(self) -> list[str]:
        """What is recorded, which is what is there."""
        if not self.server.run(f"select 1 from pg_database where datname = '{self.database}'"):
            return []
        if self.server.run("select to_regclass('reconciler.changes')", database=self.database) == [(None,)]:
            return []
        (row,) = self.server.run(
            "select array(select name from reconciler.changes order by position),"
            " array(select relname::text from pg_class where relkind = 'r'"
            " and relnamespace = 'public'::regnamespace)",
            database=self.database,
        )
        assert sorted(row[0]) == sorted(row[1])
        return list(row[0])

    def close(self) -> None:
        self.control_server.drop_database(self.control)
        self.server.drop_database(self.database)


def ended(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said


@pytest.fixture
def shop(tmp_path: Path, postgres_server: Server) -> Iterator[Shop]:
    tmp_path.chmod(0o755)
    made = Shop(tmp_path, postgres_server, postgres_server)
    yield made
    made.close()


def killed_on_the_way(shop: Shop, arguments: tuple[str, ...], seed: int, *, down: bool) -> None:
    """Kill the command whenever it has come a seeded number of changes further."""
    chosen = random.Random(seed)
    for count in sorted(chosen.sample(range(1, len(CHANGES) - 20), KILLS)):
        process = shop.begin(*arguments)

        def far_enough(process: subprocess.Popen[str] = process, count: int = count) -> bool:
            left = len(shop.deployed())
            return process.poll() is not None or (len(CHANGES) - left if down else left) >= count

        until(far_enough, f"{count} changes")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        names = shop.deployed()
        assert names == list(CHANGES[: len(names)])


def test_killed_at_any_moment(shop: Shop) -> None:
    """What is recorded is what is there after every kill, and asking again reaches the end, both ways."""
    killed_on_the_way(shop, ("module", "deploy", *ASKED), 4, down=False)
    shop.run("module", "deploy", *ASKED)
    assert shop.deployed() == list(CHANGES)
    killed_on_the_way(shop, ("module", "revert", *ASKED, "--all", "--yes"), 5, down=True)
    shop.run("module", "revert", *ASKED, "--all", "--yes")
    assert shop.deployed() == []
    kinds = shop.server.run(
        "select kind::text, count(*) from reconciler.events group by 1 order by 1", database=shop.database
    )
    assert kinds == [("deploy", len(CHANGES)), ("revert", len(CHANGES))]


@pytest.mark.parametrize(("writers", "first"), [(2, None), (5, "t40"), (10, None)])
def test_many_deploys_at_once(shop: Shop, writers: int, first: str | None) -> None:
    """Exactly one deploys each change, from zero and from half-way, and all of them end well."""
    if first is not None:
        shop.run("module", "deploy", *ASKED, "--to", first)
    for process in [shop.begin("module", "deploy", *ASKED) for _ in range(writers)]:
        ended(process)
    assert shop.deployed() == list(CHANGES)
    events = shop.server.run("select count(*) from reconciler.events", database=shop.database)
    assert events == [(len(CHANGES),)]


def test_server_that_dies_in_the_middle_of_a_revert(
    tmp_path: Path, postgres_server: Server, private_postgres: OwnServer
) -> None:
    """The command goes on by itself once the server is back."""
    shop = Shop(tmp_path, private_postgres, postgres_server)
    shop.run("module", "deploy", *ASKED)
    process = shop.begin("module", "revert", *ASKED, "--to", "t0", "--yes")
    until(lambda: len(shop.deployed()) < len(CHANGES) - 10, "some to be reverted")
    private_postgres.restart()
    ended(process)
    assert shop.deployed() == ["t0"]
    shop.close()
