"""Installing a schema of ours from numbered files: once, whoever and however many ask."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from reconciler.errors import LockNotAcquired, PermanentError, Refused
from reconciler.postgres import lock, migrations
from reconciler.postgres.connection import Connection, Dsn, connect
from tests.plugins.postgres import Server

SCHEMA = 'our "schema"'
ONE = 'CREATE TABLE "our ""schema""".things (id integer PRIMARY KEY);\nSELECT 1;\n'
TWO = 'ALTER TABLE "our ""schema""".things ADD COLUMN name text;\n'

MakePackage = Callable[[Mapping[str, str]], str]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Make importable packages with migrations."""
    made: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files: Mapping[str, str]) -> str:
        name = f"package_of_migrations_{len(made)}"
        folder = tmp_path / name / "migrations"
        folder.mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
        for file, text in files.items():
            (folder / file).write_text(text)
        made.append(name)
        return name

    yield make
    for name in made:
        sys.modules.pop(name, None)
    migrations.shipped.cache_clear()


async def install(dsn: Dsn, package: str) -> int:
    async with await connect(dsn, role="install") as connection:
        return await migrations.install(connection, package=package, schema=SCHEMA, lock_key=7)


async def recorded(connection: Connection) -> list[tuple[object, ...]]:
    cursor = await connection.execute('SELECT number, name FROM "our ""schema""".migrations ORDER BY number')
    return await cursor.fetchall()


async def test_ten_first_installs_at_once(database_dsn: Dsn, make_package: MakePackage) -> None:
    """Ten that install at the same moment all succeed, and each file is applied once."""
    package = make_package({"0001_things.sql": ONE, "0002_names.sql": TWO})
    assert await asyncio.gather(*(install(database_dsn, package) for _ in range(10))) == [2] * 10
    async with await connect(database_dsn, role="test") as connection:
        assert await recorded(connection) == [(1, "things"), (2, "names")]
        assert await migrations.installed_version(connection, schema=SCHEMA) == 2


async def test_second_run_writes_nothing(database_dsn: Dsn, make_package: MakePackage) -> None:
    """Installing again writes nothing, and so also works where nothing can be written."""
    package = make_package({"0001_things.sql": ONE})
    await install(database_dsn, package)
    async with await connect(database_dsn, role="test") as connection:
        await connection.execute("SET default_transaction_read_only = on")
        assert await migrations.install(connection, package=package, schema=SCHEMA, lock_key=7) == 1


async def test_upgrade_applies_only_what_is_new(database_dsn: Dsn, make_package: MakePackage) -> None:
    """A newer program adds its files to what an older one installed."""
    assert await install(database_dsn, make_package({"0001_things.sql": ONE})) == 1
    assert await install(database_dsn, make_package({"0001_things.sql": ONE, "0002_names.sql": TWO})) == 2


async def test_version_of_nothing_is_zero(
    postgres_server: Server, fresh_database: str, database_dsn: Dsn
) -> None:
    """Reading the version creates nothing."""
    async with await connect(database_dsn, role="test") as connection:
        assert await migrations.installed_version(connection, schema=SCHEMA) == 0
    assert postgres_server.run(
        "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'our%'", database=fresh_database
    ) == [(0,)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0001_things.sql": ONE + "-- edited\n"}, "another text of migration 1"),
        ({"0001_others.sql": ONE}, "another text of migration 1"),
        ({}, "is at version 1, this program knows 0"),
    ],
)
async def test_foreign_history_is_refused(
    database_dsn: Dsn, make_package: MakePackage, files: Mapping[str, str], message: str
) -> None:
    """An edited file, a renamed file and a newer schema are refused, and nothing is written."""
    await install(database_dsn, make_package({"0001_things.sql": ONE}))
    with pytest.raises(Refused, match=message):
        await install(database_dsn, make_package(files))


async def test_schema_of_somebody_else_is_refused(
    postgres_server: Server, fresh_database: str, database_dsn: Dsn, make_package: MakePackage
) -> None:
    """A schema that holds something and has no record of ours is left alone."""
    postgres_server.run(
        'CREATE SCHEMA "our ""schema"""; CREATE TABLE "our ""schema""".theirs ()', database=fresh_database
    )
    with pytest.raises(Refused, match="was not made by this program"):
        await install(database_dsn, make_package({"0001_things.sql": ONE}))


async def test_prepared_empty_schema_is_used(
    postgres_server: Server, fresh_database: str, database_dsn: Dsn, make_package: MakePackage
) -> None:
    """An empty schema that an administrator made for us is ours to fill."""
    postgres_server.run('CREATE SCHEMA "our ""schema"""', database=fresh_database)
    assert await install(database_dsn, make_package({"0001_things.sql": ONE})) == 1


async def test_failed_migration_leaves_nothing(database_dsn: Dsn, make_package: MakePackage) -> None:
    """A file that fails is taken back with its schema and its record, and the lock is free again."""
    with pytest.raises(PermanentError, match=r"installing schema .*division by zero"):
        await install(database_dsn, make_package({"0001_things.sql": ONE + "SELECT 1/0;"}))
    async with await connect(database_dsn, role="test") as connection:
        assert await migrations.installed_version(connection, schema=SCHEMA) == 0
    assert await install(database_dsn, make_package({"0001_things.sql": ONE})) == 1


async def test_lock_is_polled_and_its_holder_named(
    database_dsn: Dsn, make_package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for another installation waits for a bounded time, and learns who is at it."""
    monkeypatch.setattr(migrations, "DEADLINE_S", 0.2)
    async with await connect(database_dsn, role="the other") as holder:
        assert await lock.try_lock(holder, (migrations.LOCK_CLASS, 7))
        with pytest.raises(LockNotAcquired, match=rf"pid {holder.info.backend_pid} \(reconciler/the other"):
            await install(database_dsn, make_package({"0001_things.sql": ONE}))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0001_a.sql": "", "0003_c.sql": ""}, "numbered without gaps"),
        ({"1_a.sql": ""}, "not named NNNN_words.sql"),
    ],
)
def test_package_with_wrong_names(make_package: MakePackage, files: Mapping[str, str], message: str) -> None:
    """A file that would be left out in silence is an error of the package."""
    with pytest.raises(ValueError, match=message):
        migrations.shipped(make_package(files))


async def test_lock_keys_of_the_upper_half(database_dsn: Dsn) -> None:
    """Negative halves of a key are locks like others, and their holder is found."""
    key = (-5, -2_000_000_000)
    async with (
        await connect(database_dsn, role="a") as one,
        await connect(database_dsn, role="b") as other,
    ):
        assert await lock.try_lock(one, key)
        assert not await lock.try_lock(other, key)
        assert f"pid {one.info.backend_pid} (reconciler/a" in await lock.holder(other, key)
        await lock.unlock(one, key)
        await lock.acquire(other, key, deadline_s=1, doing="trying")
        assert await lock.holder(one, (1, 1)) == "nobody any more"
