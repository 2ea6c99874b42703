"""Install and upgrade a schema of ours from numbered SQL files, under a lock; a second run does nothing."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from reconciler.errors import Refused
from reconciler.postgres import lock
from reconciler.postgres.connection import Connection, translate
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.postgres")
_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
LOCK_CLASS = 0x7265636D
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and its text."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the text; a file that was applied is never edited."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def shipped(package: str) -> tuple[Migration, ...]:
    """The migrations a package ships, in order; raises ValueError where a number is missing."""
    found = []
    for entry in resources.files(package).joinpath("migrations").iterdir():
        match = _FILE.match(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations of '{package}' are not numbered without gaps")
    return tuple(found)


async def installed_version(connection: Connection, *, schema: str) -> int:
    """The number of the newest applied migration; 0 where the schema is absent. Creates nothing."""
    applied = await _applied(connection, schema)
    return max(applied, default=0)


async def install(connection: Connection, *, package: str, schema: str, lock_key: int) -> int:
    """Apply what is missing, each file in one transaction with its record; gives the version.

    Raises Refused where the schema is newer than this program, or an applied file was edited.
    """
    migrations = shipped(package)
    try:
        if _missing(migrations, await _applied(connection, schema), schema):
            key = (LOCK_CLASS, lock_key % 2**31)
            await lock.acquire(connection, key, deadline_s=DEADLINE_S, doing=f"installing schema '{schema}'")
            try:
                for migration in _missing(migrations, await _applied(connection, schema), schema):
                    await _apply(connection, schema, migration)
            finally:
                if not connection.closed:
                    await lock.unlock(connection, key)
    except psycopg.Error as error:
        raise translate(error, f"installing schema '{schema}'") from error
    return len(migrations)


async def _applied(connection: Connection, schema: str) -> dict[int, str]:
    name = sql.Identifier(schema, "migrations").as_string(connection)
    cursor = await connection.execute(_QUERIES["migrations_table"], {"table": name})
    row = await cursor.fetchone()
    if row is None or row[0] is None:
        return {}
    query = _QUERIES["applied_migrations"].format(schema=sql.Identifier(schema))
    cursor = await connection.execute(query)
    return {number: sha256 for number, _name, sha256 in await cursor.fetchall()}


def _missing(migrations: tuple[Migration, ...], applied: dict[int, str], schema: str) -> list[Migration]:
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise Refused(
            f"schema '{schema}' is at version {newest}, this program knows {len(migrations)}",
            hint="run a program at least as new as the one that installed it",
        )
    for migration in migrations:
        if migration.number in applied and applied[migration.number] != migration.sha256:
            raise Refused(
                f"schema '{schema}' was installed from another text of migration {migration.number}"
            )
    return [migration for migration in migrations if migration.number not in applied]


async def _apply(connection: Connection, schema: str, migration: Migration) -> None:
    name = sql.Identifier(schema)
    async with connection.transaction():
        if migration.number == 1:
            await connection.execute(_QUERIES["create_schema"].format(schema=name))
            await connection.execute(_QUERIES["create_migrations"].format(schema=name))
            await connection.execute(_QUERIES["comment_migrations"].format(schema=name))
        await connection.execute(sql.SQL(cast("LiteralString", migration.text)))
        await connection.execute(
            _QUERIES["record_migration"].format(schema=name),
            {"number": migration.number, "name": migration.name, "sha256": migration.sha256},
        )
