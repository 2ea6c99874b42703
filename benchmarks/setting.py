"""What benchmarks share: a server, desired modules, tables of results."""

import hashlib
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

from reconciler.changes.script import Script
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import EmbeddedServer
from reconciler.state.desired import DesiredChange, DesiredModule


@asynccontextmanager
async def server() -> AsyncIterator[Dsn]:
    """A server of its own with default settings, durable as in use."""
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        embedded = EmbeddedServer.at(Path(folder))
        try:
            yield await embedded.ensure_running()
        finally:
            await embedded.remove()


@asynccontextmanager
async def database(dsn: Dsn, name: str) -> AsyncIterator[str]:
    """An empty database; gives its connection string."""
    async with await psycopg.AsyncConnection.connect(dsn.reveal(), autocommit=True) as connection:
        identifier = sql.Identifier(name)
        await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        await connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
        try:
            yield conninfo.make_conninfo(dsn.reveal(), dbname=name)
        finally:
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def script(number: int) -> str:
    """One change in Sqitch's form: one table."""
    return (
        f"-- Deploy bench:t{number} to pg\n\nBEGIN;\n\n"
        f"CREATE TABLE t{number} (id bigint PRIMARY KEY, name text NOT NULL, at timestamptz);\n\n"
        "COMMIT;\n"
    )


def module(changes: int, database_name: str) -> DesiredModule:
    """A module of one-table changes."""
    return DesiredModule(
        component="bench-schema",
        stage="migrations",
        database_component="bench-db",
        database=database_name,
        path="modules/bench",
        project="bench",
        uri=None,
        target=None,
        changes=tuple(_change(number) for number in range(changes)),
    )


def _change(number: int) -> DesiredChange:
    text = script(number)
    return DesiredChange(
        change_id=hashlib.sha1(f"id {number}".encode()).hexdigest(),
        name=f"t{number}",
        requires=(),
        conflicts=(),
        tags=(),
        note="",
        planned_at="2026-01-01T00:00:00Z",
        planner="Bench <bench@example.org>",
        deploy=Script(f"modules/bench/deploy/t{number}.sql", text),
        revert=None,
        verify=None,
        script_hash=hashlib.sha1(text.encode()).hexdigest(),
        parse_hash=hashlib.sha256(text.encode()).hexdigest(),
    )


def table(title: str, taken: Mapping[str, Sequence[float]], ratios: Sequence[tuple[str, str, float]]) -> str:
    """Medians in milliseconds, then each ratio against its limit."""
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    runs = len(next(iter(taken.values())))
    lines = [f"{title}: medians of {runs} interleaved runs", ""]
    lines += [
        f"  {name:<40} {medians[name] * 1000:>10.1f} ms   (best {min(seconds) * 1000:.1f})"
        for name, seconds in taken.items()
    ]
    lines += [""] if ratios else []
    for name, against, limit in ratios:
        ratio = medians[name] / medians[against]
        verdict = "within" if ratio <= limit else "OVER"
        lines.append(f"  {name} / {against}: {ratio:.2f}, {verdict} its limit of {limit:.2f}")
    return "\n".join(lines)
