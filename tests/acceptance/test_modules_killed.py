"""Deploys and reverts by hand, killed, interrupted and asked for at once: nothing twice, nothing lost."""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.plugins.commands import Command
from tests.plugins.daemon import SPEC, ConfigRepository
from tests.plugins.git import git_environment
from tests.plugins.modules import tables
from tests.plugins.postgres import OwnServer, Server

SEED = int(os.environ.get("RECONCILER_TEST_SEED") or 4)
CHANGES = tuple(f"t{number}" for number in range(500))
FEW = CHANGES[:80]
UP, DOWN = 25, 125
"""Every so many changes a deploy, and every so many a revert, comes to a barrier."""
BARRIER = "do $$ begin perform pg_advisory_xact_lock_shared({sort}, {number}); end $$;\n"
"""Nothing goes past it before the test has done its worst, however slow the test is."""
DEPLOY = ("module", "deploy", "production", "shop-schema", "--createdb")
REVERT = ("module", "revert", "production", "shop-schema", "--yes")
FEW_LOCKS = {"max_locks_per_transaction": "10", "max_connections": "40"}
"""Room for 400 locks and little more; a table with its key takes several until its transaction ends."""


class Shop:
    """A module in a repository, a server and a control database; only commands work on them."""

    def __init__(self, folder: Path, repository: ConfigRepository, server: Server, control: Server) -> None:
        self.folder = folder
        folder.mkdir(mode=0o755, exist_ok=True)
        self.server = server
        self._control_server = control
        self._control = control.create_database()
        self.database = f"killed_{os.urandom(4).hex()}"
        self._begun: list[Command] = []
        self._connection: psycopg.Connection | None = None
        spec = SPEC.format(name="production", database=self.database, module="shop")
        repository.commit({"environments/production.yaml": spec})
        self._config = folder / "reconciler.yaml"
        self._config.write_text(
            f"state_dir: {json.dumps(str(folder / 'state'))}\nlisten: 127.0.0.1:1\n"
            "control: {dsn: {env: RECONCILER_CONTROL_DSN}}\n"
            "limits: {attempts: 60, retry_base: 0.1, retry_ceiling: 0.2}\n"
            f"sources: [{{name: shop, url: {json.dumps(str(repository.path))}, branch: main}}]\n"
        )

    def begin(self, *arguments: str) -> Command:
        environ = {
            **git_environment(),
            "SHOP_DSN": self.server.text(),
            "RECONCILER_CONTROL_DSN": self._control_server.text(self._control),
        }
        command = Command((*arguments, "--config", str(self._config)), environ, self.folder)
        self._begun.append(command)
        return command

    def run(self, *arguments: str) -> str:
        return self.begin(*arguments).succeed()

    def count(self) -> int:
        """How many changes are recorded."""
        with suppress(psycopg.Error):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.server.text(self.database), autocommit=True)
            ((found,),) = self._connection.execute("select count(*) from reconciler.changes").fetchall()
            return int(found)
        return 0

    def backends(self) -> set[int]:
        """Of the commands, in the database."""
        query = "select pid from pg_stat_activity where application_name like 'reconciler/%'"
        rows = self.server.run(f"{query} and datname = '{self.database}'")
        return {pid for (pid,) in rows}

    def deployed(self) -> list[str]:
        """What is recorded, which is what is there."""
        (row,) = self.server.run(
            "select array(select name from reconciler.changes order by position),"
            " array(select relname::text from pg_class where relkind = 'r'"
            " and relnamespace = 'public'::regnamespace)",
            database=self.database,
        )
        assert sorted(row[0]) == sorted(row[1])
        assert row[0] == list(CHANGES[: len(row[0])])
        return list(row[0])

    def told(self) -> dict[str, int]:
        """How many events of each kind there are."""
        rows = self.server.run(
            "select kind::text, count(*) from reconciler.events group by 1", database=self.database
        )
        return dict(rows)

    @contextmanager
    def barriers(self, sort: int, first: int = 0) -> Iterator[Callable[[int], None]]:
        """Keep the barriers of one sort closed, from one on; gives what opens one."""
        held = psycopg.connect(self.server.text(self.database), autocommit=True)
        try:
            query = "select pg_advisory_lock(%s, n) from generate_series(%s::int, %s::int) as n"
            held.execute(query, [sort, first, len(CHANGES) // sort])
            yield lambda number: held.execute("select pg_advisory_unlock(%s, %s)", [sort, number]).close()
        finally:
            held.close()

    def close(self) -> None:
        for command in self._begun:
            if command.running:
                command.kill()
        if self._connection is not None:
            self._connection.close()
        self._control_server.drop_database(self._control)
        self.server.drop_database(self.database)


def committed(folder: Path, names: Sequence[str]) -> ConfigRepository:
    """A module of these changes, with barriers on the way up and down."""
    made = ConfigRepository(folder / "git")
    files = tables(*names)
    for number, name in enumerate(names):
        files[f"modules/shop/verify/{name}.sql"] = f"select id from {name} where false;\n"
        if (number + 1) % UP == 0:
            files[f"modules/shop/deploy/{name}.sql"] += BARRIER.format(sort=UP, number=number // UP)
        if number % DOWN == 0:
            files[f"modules/shop/revert/{name}.sql"] += BARRIER.format(sort=DOWN, number=number // DOWN)
    made.commit(files)
    return made


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ConfigRepository:
    """One module of five hundred changes for all tests that need time to strike."""
    return committed(tmp_path_factory.mktemp("repository"), CHANGES)


@pytest.fixture
def shop(tmp_path: Path, repository: ConfigRepository, postgres_server: Server) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", repository, postgres_server, postgres_server)
    yield made
    made.close()


@pytest.fixture
def small(tmp_path: Path, postgres_server: Server) -> Iterator[Shop]:
    """The same with fewer changes, for many who read them at once."""
    made = Shop(tmp_path / "shop", committed(tmp_path, FEW), postgres_server, postgres_server)
    yield made
    made.close()


@pytest.fixture
def lonely(tmp_path: Path, repository: ConfigRepository, postgres_server: Server) -> Iterator[Shop]:
    """The same on a server of its own, which has room for few locks."""
    server = OwnServer(**FEW_LOCKS)
    try:
        server.start()
        made = Shop(tmp_path / "shop", repository, server, postgres_server)
        yield made
        made.close()
    finally:
        server.remove()


def moments(size: int) -> list[int]:
    """A seeded moment before each barrier, as a number of changes that are done."""
    chosen = random.Random(f"{SEED} {size}")
    found = [start + chosen.randrange(1, size) for start in range(0, len(CHANGES), size)]
    sys.stdout.write(f"RECONCILER_TEST_SEED={SEED}: {found}\n")
    return found


def soon(condition: Callable[[], bool], command: Command) -> None:
    """Wait for a condition while a command runs, looking often: it goes on meanwhile."""
    deadline = time.monotonic() + 60
    while not condition():
        assert command.running, f"it ended by itself:\n{command.output}"
        assert time.monotonic() < deadline, "waited for 60 s"
        time.sleep(0.003)


@pytest.mark.timeout(400)
def test_killed_at_twenty_moments_up_and_four_down(shop: Shop) -> None:
    """After every kill what is recorded is what is there; asked again, it reaches the end, each once."""
    shop.server.create_database(shop.database)
    with shop.barriers(UP) as opened:
        for part, moment in enumerate(moments(UP)):
            left = shop.backends()
            command = shop.begin(*DEPLOY)
            # What the server still does for the one before goes no further than the barrier.
            soon(lambda ghosts=left: not ghosts & shop.backends(), command)  # type: ignore[misc]
            opened(part - 1)
            soon(lambda least=moment: shop.count() >= least, command)  # type: ignore[misc]
            command.kill()
            assert moment <= len(shop.deployed()) < UP * (part + 1)
    shop.run(*DEPLOY)
    assert shop.deployed() == list(CHANGES)
    assert shop.told() == {"deploy": len(CHANGES)}
    with shop.barriers(DOWN) as opened:
        for part, moment in enumerate(moments(DOWN)):
            ghosts, most = shop.backends(), len(CHANGES) - moment
            command = shop.begin(*REVERT, "--all")
            soon(lambda ghosts=ghosts: not ghosts & shop.backends(), command)  # type: ignore[misc]
            opened(4 - part)
            soon(lambda most=most: shop.count() <= most, command)  # type: ignore[misc]
            command.kill()
            assert DOWN * (3 - part) < len(shop.deployed()) <= most
    shop.run(*REVERT, "--all")
    assert shop.deployed() == []
    assert shop.told() == {"deploy": len(CHANGES), "revert": len(CHANGES)}


@pytest.mark.parametrize("writers", [2, 5, 10])
def test_many_deploys_at_once(small: Shop, writers: int) -> None:
    """Exactly one deploys each change, from zero and from half-way, and all of them end well."""
    for more, last in ((("--to", "t39"), 40), ((), len(FEW))):
        for command in [small.begin(*DEPLOY, *more) for _ in range(writers)]:
            command.succeed()
        assert len(small.deployed()) == last
    assert small.told() == {"deploy": len(FEW)}


def test_terms_crashes_and_few_locks(lonely: Shop) -> None:
    """Asked to end, it hands over; a server that crashes is waited for; no lock table is too small."""
    server = lonely.server
    assert isinstance(server, OwnServer)
    with pytest.raises(psycopg.errors.OutOfMemory):
        server.run("; ".join(f"create table {name} (a int primary key)" for name in CHANGES))
    server.create_database(lonely.database)
    up, down = moments(UP), moments(DOWN)
    with lonely.barriers(UP, 5):
        command = lonely.begin(*DEPLOY)
        soon(lambda: lonely.count() >= up[5], command)
        command.terminate()
        assert command.wait() != 0
        assert up[5] <= len(lonely.deployed()) < 6 * UP
    with lonely.barriers(UP, 10):
        command = lonely.begin(*DEPLOY)
        soon(lambda: lonely.count() >= up[10], command)
        server.restart()
    command.succeed()
    assert lonely.deployed() == list(CHANGES)
    assert "500 changes verified, 0 failures" in lonely.run("module", "verify", "production")
    with lonely.barriers(DOWN):
        command = lonely.begin(*REVERT, "--to", "t0")
        soon(lambda: lonely.count() <= len(CHANGES) - down[0], command)
        server.restart()
    command.succeed()
    assert lonely.deployed() == ["t0"]
    assert lonely.told() == {"deploy": 500, "revert": 499}
