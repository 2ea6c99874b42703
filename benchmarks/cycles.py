"""Readers through cycles of SQL objects: build, make ready, switch, retire, over and over, and not one error.

`pgbench` reads a view, a materialized view, what stands on both, and a function that is bound to them as it was
made, in simple and in prepared mode. Beside these a function whose body is text, which looks its names up as
it runs: its errors are told apart, and do not fail the benchmark.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg

from benchmarks.objects import ACTOR, NAME, OWNER
from benchmarks.setting import database, server
from reconciler.execution.objects.readiness import make_ready
from reconciler.execution.objects.staging import stage
from reconciler.execution.objects.switching import promote, retire
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.objects.model import ObjectName, ObjectSort
from reconciler.objects.staging_text import SchemaTexts, StagedTexts
from reconciler.objects.work import ObjectToStage, SchemaToStage, Work
from reconciler.postgres.embedded import find_binaries

QUICK = ["--cycles", "30", "--readers", "4"]
RELATIONS = "SELECT n FROM app.plain;\nSELECT n FROM app.stored;\nSELECT sum(n) FROM api.over_all;\nSELECT app.bound();\n"
TEXT_BODY = "SELECT app.by_name();\n"
_ERROR = re.compile(r"error|aborted", re.IGNORECASE)
_PROGRESS = re.compile(r"progress: [\d.]+ s, ([\d.]+) tps, lat ([\d.]+) ms")
_EVERY_S = 1.0


@dataclass(frozen=True)
class Draft:
    """An object of every cycle; `{app}` and `{api}` are where these schemas stand meanwhile."""

    schema: str
    name: str
    sort: ObjectSort
    text: str
    is_told: bool = False


DRAFTS = (
    Draft(
        "app",
        "plain",
        ObjectSort.VIEW,
        "CREATE VIEW {app}.plain AS SELECT id + {number} AS n FROM public.base",
    ),
    Draft(
        "app",
        "stored",
        ObjectSort.MATERIALIZED_VIEW,
        "CREATE MATERIALIZED VIEW {app}.stored AS SELECT n FROM {app}.plain WITH NO DATA",
    ),
    Draft(
        "app",
        "bound",
        ObjectSort.FUNCTION,
        "CREATE FUNCTION {app}.bound() RETURNS bigint RETURN (SELECT sum(n) FROM {app}.stored)",
    ),
    Draft(
        "app",
        "by_name",
        ObjectSort.FUNCTION,
        "CREATE OR REPLACE FUNCTION {app}.by_name() RETURNS bigint LANGUAGE plpgsql AS"
        " $$BEGIN RETURN (SELECT sum(n) FROM {app}.stored); END$$",
        is_told=True,
    ),
    Draft(
        "api",
        "over_all",
        ObjectSort.VIEW,
        "CREATE VIEW {api}.over_all AS SELECT n FROM {app}.stored UNION ALL SELECT n FROM {app}.plain",
    ),
)


def work(number: int) -> Work:
    """What one cycle builds."""
    key = f"c{number}"
    beside = {name: f"{name}__{key}" for name in ("app", "api")}
    return Work(
        key=key,
        component="benchmark",
        schemas=tuple(
            SchemaToStage(
                name=name,
                sort="swapped",
                staging=beside[name],
                old_name=f"{name}__old_{key}",
                texts=SchemaTexts(creates=(f"CREATE SCHEMA {beside[name]}",)),
            )
            for name in beside
        ),
        waves=tuple((_object(draft, number, beside),) for draft in DRAFTS),
    )


def _object(draft: Draft, number: int, beside: dict[str, str]) -> ObjectToStage:
    full = ObjectName(draft.schema, draft.name)
    text = draft.text.format(**beside, number=number)
    fills = draft.sort is ObjectSort.MATERIALIZED_VIEW
    texts = StagedTexts(
        name=full,
        sort=draft.sort,
        schema=beside[draft.schema],
        creates=(text,),
        fill=f"REFRESH MATERIALIZED VIEW {beside[draft.schema]}.{draft.name}" if fills else None,
    )
    told = (draft.text.format(app="app", api="api", number=number),) if draft.is_told else ()
    return ObjectToStage(name=full, sort=draft.sort, hash=text, metadata_hash="", texts=texts, in_switch=told)


@dataclass
class Readers:
    """One `pgbench`, and what it said."""

    title: str
    process: asyncio.subprocess.Process
    errors: list[str] = field(default_factory=list)
    transactions: float = 0.0
    latencies: list[float] = field(default_factory=list)
    listening: "asyncio.Task[None] | None" = None

    async def listen(self) -> None:
        """Take its lines as they come."""
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            line = raw.decode(errors="replace").strip()
            if found := _PROGRESS.match(line):
                self.transactions += float(found[1]) * _EVERY_S
                self.latencies.append(float(found[2]))
            elif _ERROR.search(line):
                self.errors.append(line)

    async def end(self) -> None:
        """Stop it."""
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()
        assert self.listening is not None
        await self.listening

    def told(self) -> str:
        """A line about what it did."""
        latency = statistics.median(self.latencies) if self.latencies else 0.0
        return (
            f"  {self.title:<32} {self.transactions:>10.0f} transactions, {latency:>6.2f} ms each,"
            f" {len(self.errors)} errors"
        )


async def readers(
    target: str, folder: Path, title: str, text: str, mode: str, options: argparse.Namespace
) -> Readers:
    """Start clients that read until they are told to end."""
    script = folder / f"{title.replace(' ', '_')}.sql"
    script.write_text(text)
    rate = ["--rate", str(options.rate)] if options.rate else []
    process = await asyncio.create_subprocess_exec(
        find_binaries() / "pgbench",
        *("--no-vacuum", "--client", str(options.readers), "--jobs", "1", "--protocol", mode),
        *("--time", "86400", "--progress", f"{_EVERY_S:g}", "--file", str(script), *rate, target),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    made = Readers(title=title, process=process)
    made.listening = asyncio.create_task(made.listen())
    return made


async def cycle(session: DatabaseSession, number: int) -> tuple[float, float]:
    """Build, fill, switch and drop what that displaced; seconds of all of it and of the switch."""
    began = time.perf_counter()
    wanted = work(number)
    await stage(session, wanted, ACTOR)
    await make_ready(session, wanted, deadline_s=600)
    ready = time.perf_counter()
    await promote(session, wanted.key, retain=timedelta(0))
    switched = time.perf_counter()
    await retire(session, wanted.key, now=True)
    return time.perf_counter() - began, switched - ready


async def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--readers", type=int, default=16, help="in each mode")
    parser.add_argument(
        "--rate", type=int, default=300, help="transactions a second in each mode; 0: no limit"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        async with server() as dsn, database(dsn, NAME) as target:
            async with await psycopg.AsyncConnection.connect(target, autocommit=True) as connection:
                await connection.execute(
                    "CREATE TABLE public.base AS SELECT g AS id FROM generate_series(1, 100) AS g"
                )
            session = await open_session(dsn, NAME, OWNER, limits=Limits(), install_tracking=True)
            await cycle(session, 0)
            started = [
                await readers(target, Path(name), title, text, mode, options)
                for title, text, mode in (
                    ("relations, simple", RELATIONS, "simple"),
                    ("relations, prepared", RELATIONS, "prepared"),
                    ("body as text, simple", TEXT_BODY, "simple"),
                    ("body as text, prepared", TEXT_BODY, "prepared"),
                )
            ]
            try:
                taken = [await cycle(session, number) for number in range(1, options.cycles + 1)]
            finally:
                for one in started:
                    await one.end()
            await session.abandon()
    return _report(started, taken, options)


def _report(
    started: Sequence[Readers], taken: Sequence[tuple[float, float]], options: argparse.Namespace
) -> int:
    whole, switch = (sorted(each) for each in zip(*taken, strict=True))
    print(f"{len(taken)} cycles of build, ready, switch and retire under 4 x {options.readers} readers\n")
    for title, values in (("whole cycle", whole), ("switch", switch)):
        middle, most = statistics.median(values) * 1e3, values[-1] * 1e3
        print(f"  {title:<32} median {middle:.0f} ms, longest {most:.0f} ms")
    print()
    for one in started:
        print(one.told())
        for line in one.errors[:3]:
            print(f"    {line}")
    failed = [one for one in started if one.title.startswith("relations") and one.errors]
    print("\n  readers of relations: " + ("ERRORS" if failed else "no error"))
    return int(bool(failed))


if __name__ == "__main__":
    asyncio.run(main())
