"""Measures the snapshot against its limits, taken in the same run: bare queries, a bare hash, and pg_dump.

    python -m benchmarks.snapshot [--tables 5000] [--rounds 5] [--dsn CONNINFO]

Without `--dsn` an embedded server is started in a temporary folder. The database is made and dropped.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

from reconciler.postgres.embedded import EmbeddedServer, find_binaries
from reconciler.postgres.queries import split
from reconciler.snapshot.catalog import read_catalog
from reconciler.snapshot.database import read_database
from reconciler.snapshot.probe import probe

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Measured = Callable[[], Awaitable[object]]
QUICK = ["--tables", "500", "--rounds", "3"]
SQL = Path(__file__).with_name("sql")
DATABASE = "reconciler_benchmark_snapshot"
LIMITS = (
    # What is measured, what it is measured against, and the ratio it may have.
    ("read_catalog", "bare set-wise queries", 1.2),
    ("read_catalog", "pg_dump --schema-only", 1 / 3),
    ("read_catalog, two connections", "bare set-wise queries", 1.2),
    ("read_catalog, two connections", "pg_dump --schema-only", 1 / 3),
    ("probe", "bare hash query", 1.5),
)


def schema(tables: int) -> Iterator[str]:
    """DDL of a schema as it grows in practice: keys, checks, indexes, views, functions and triggers."""
    yield "CREATE SCHEMA app"
    for number in range(tables):
        table = f"app.t{number}"
        yield (
            f"CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL,"
            " name varchar(100) NOT NULL DEFAULT 'x', amount numeric(12, 2) NOT NULL DEFAULT 0,"
            " status text NOT NULL DEFAULT 'new', parent_id bigint, created_at timestamptz NOT NULL DEFAULT"
            f" now(), updated_at timestamptz, payload jsonb, CONSTRAINT t{number}_status CHECK (status IN"
            f" ('new', 'open', 'closed'))); CREATE INDEX t{number}_code ON {table} (code);"
            f" CREATE INDEX t{number}_created ON {table} (created_at DESC) WHERE status <> 'closed';"
            f" CREATE INDEX t{number}_lower ON {table} (lower(name), parent_id)"
        )
        if number % 3 == 1:
            yield f"ALTER TABLE {table} ADD FOREIGN KEY (parent_id) REFERENCES app.t{number - 1} (id)"
        if number % 5 == 0:
            yield (
                f"CREATE VIEW app.v{number} AS SELECT id, code, name, amount FROM {table} WHERE status IN"
                f" ('new', 'open'); CREATE VIEW app.w{number} AS SELECT code, count(*) AS n, sum(amount) AS"
                f" total FROM app.v{number} GROUP BY code"
            )
        if number % 25 == 0:
            yield (
                f"CREATE MATERIALIZED VIEW app.m{number} AS SELECT code, total FROM app.w{number}"
                f" WHERE n > 1; CREATE UNIQUE INDEX m{number}_code ON app.m{number} (code)"
            )
        if number % 20 == 0:
            yield (
                f"CREATE FUNCTION app.f{number}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " NEW.updated_at := now(); RETURN NEW; END $$;"
                f" CREATE TRIGGER touch BEFORE UPDATE ON {table} FOR EACH ROW"
                f" EXECUTE FUNCTION app.f{number}()"
            )


async def build(connection: Connection, tables: int) -> None:
    statements = list(schema(tables))
    for start in range(0, len(statements), 200):
        await connection.execute(sql.SQL("; ".join(statements[start : start + 200])), prepare=False)  # type: ignore[arg-type]
    await connection.execute("VACUUM ANALYZE")


async def bare_queries(connection: Connection) -> int:
    rows = 0
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await connection.execute("SELECT set_config('search_path', '', true), set_config('jit', 'off', true)")
    for _name, text in split((SQL / "snapshot_bare.sql").read_text()):
        cursor = await connection.execute(text.encode(), prepare=False)
        rows += len(await cursor.fetchall())
    await connection.execute("COMMIT")
    return rows


async def bare_hash(connection: Connection) -> object:
    ((_name, text),) = split((SQL / "snapshot_bare_hash.sql").read_text())
    return await (await connection.execute(text.encode(), prepare=False)).fetchone()


async def dump(program: Path, dsn: str) -> None:
    process = await asyncio.create_subprocess_exec(
        program, "--schema-only", "-d", dsn, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError("pg_dump failed")


async def measure(what: dict[str, Measured], rounds: int) -> dict[str, list[float]]:
    """Run each in turn, `rounds` times, after one round that does not count.

    Every other round goes backwards: what runs after pg_dump finds the processor's caches full of it.
    """
    taken: dict[str, list[float]] = {name: [] for name in what}
    for number in range(rounds + 1):
        order = list(what.items())
        for name, run in reversed(order) if number % 2 else order:
            started = time.perf_counter()
            await run()
            if number:
                taken[name].append(time.perf_counter() - started)
    return taken


def report(taken: dict[str, list[float]], tables: int) -> str:
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    lines = [
        f"snapshot of {tables} tables, medians of {len(next(iter(taken.values())))} interleaved runs",
        "",
    ]
    lines += [
        f"  {name:<32} {medians[name] * 1000:>9.1f} ms   (best {min(seconds) * 1000:.1f})"
        for name, seconds in taken.items()
    ]
    lines.append("")
    for name, against, limit in LIMITS:
        ratio = medians[name] / medians[against]
        verdict = "within" if ratio <= limit else "OVER"
        lines.append(f"  {name} / {against}: {ratio:.2f}, {verdict} its limit of {limit:.2f}")
    return "\n".join(lines)


async def run(dsn: str, bin_dir: Path, tables: int, rounds: int) -> str:
    maintenance = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await maintenance.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    await maintenance.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
    target = conninfo.make_conninfo(dsn, dbname=DATABASE)
    try:
        async with await psycopg.AsyncConnection.connect(target, autocommit=True) as connection:
            await build(connection, tables)
        async with (
            await psycopg.AsyncConnection.connect(target, autocommit=True) as connection,
            await psycopg.AsyncConnection.connect(target, autocommit=True) as beside,
        ):
            known = await probe(connection)
            await connection.execute("SET jit = off")
            taken = await measure(
                {
                    "read_catalog": lambda: read_catalog(connection),
                    "read_catalog, two connections": lambda: read_catalog(connection, beside=beside),
                    "bare set-wise queries": lambda: bare_queries(connection),
                    "pg_dump --schema-only": lambda: dump(bin_dir / "pg_dump", target),
                    "probe": lambda: probe(connection),
                    "bare hash query": lambda: bare_hash(connection),
                    "read_database, nothing moved": lambda: read_database(connection, known_probe=known),
                    "read_database, all of it": lambda: read_database(
                        connection, known_probe=None, beside=lambda: nullcontext(beside)
                    ),
                },
                rounds,
            )
    finally:
        await maintenance.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await maintenance.close()
    return report(taken, tables)


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dsn", default=os.environ.get("RECONCILER_BENCHMARK_DSN"))
    parser.add_argument("--bin-dir", type=Path, help="folder of PostgreSQL's programs, for pg_dump")
    options = parser.parse_args(arguments)
    bin_dir = find_binaries(options.bin_dir)
    if options.dsn:
        print(await run(options.dsn, bin_dir, options.tables, options.rounds))
        return 0
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        server = EmbeddedServer.at(Path(folder), bin_dir=bin_dir)
        dsn = await server.ensure_running()
        try:
            print(await run(dsn.reveal(), bin_dir, options.tables, options.rounds))
        finally:
            await server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
