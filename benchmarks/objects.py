"""Generations of SQL objects: the switch against bare renames in one transaction, and staging against psql.

The switch looks at everything again before it renames, so both its whole transaction and the part from the
first rename to the commit are told; the latter is what a session that uses the schemas could notice.
"""

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from typing_extensions import override

from benchmarks.setting import database, server, table
from reconciler.execution.interference import Interference
from reconciler.execution.objects.readiness import make_ready
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.staging import stage
from reconciler.execution.objects.switching import promote
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.objects.model import ObjectName, ObjectSort
from reconciler.objects.staging_text import SchemaTexts, StagedTexts
from reconciler.objects.work import ObjectToStage, SchemaToStage, Work
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import find_binaries
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor

QUICK = ["--schemas", "1", "10", "50", "--rounds", "3"]
NAME = "reconciler_benchmark_objects"
OWNER = FenceOwner(control_id="benchmark", environment="benchmark", deployment="one", operation="1")
ACTOR = Actor(commit="0" * 40, operation="1", committer="benchmark")
SWITCH, INSIDE, BARE = "switch, whole transaction", "switch, from first rename to commit", "bare renames"
SWITCH_LIMITS = ((SWITCH, BARE, 1.5), (INSIDE, BARE, 1.5))
STAGE_LIMITS = (("stage, with records", "psql, the same statements", 1.3),)


class Watch(Interference):
    """Notes when the renames begin and when they are committed."""

    began = ended = 0.0

    @override
    def at(self, point: str) -> None:
        if point == "before switch":
            self.began = time.perf_counter()
        elif point == "switched":
            self.ended = time.perf_counter()


def schema(name: str, key: str) -> SchemaToStage:
    """A schema with a staging one beside it."""
    staging = f"{name}__{key}"
    return SchemaToStage(
        name=name,
        sort="swapped",
        staging=staging,
        old_name=f"{name}__old_{key}",
        texts=SchemaTexts(creates=(f"CREATE SCHEMA {staging}",)),
    )


def view(name: str, key: str, number: int) -> ObjectToStage:
    """A view that needs none of ours."""
    full = ObjectName(name, f"v{number}")
    text = f"CREATE VIEW {name}__{key}.v{number} AS SELECT id, name, id + {number} AS n FROM public.base"
    texts = StagedTexts(name=full, sort=ObjectSort.VIEW, schema=f"{name}__{key}", creates=(text,))
    return ObjectToStage(name=full, sort=ObjectSort.VIEW, hash=text, metadata_hash="", texts=texts)


def work(key: str, schemas: int, views: int) -> Work:
    """Schemas of as many views each."""
    names = [f"s{number}" for number in range(schemas)]
    return Work(
        key=key,
        component="benchmark",
        schemas=tuple(schema(name, key) for name in names),
        waves=(tuple(view(name, key, number) for name in names for number in range(views)),),
    )


class Bare:
    """As many schemas twice, and one message that renames them all in one transaction."""

    def __init__(self, connection: psycopg.AsyncConnection, schemas: int) -> None:
        self._connection = connection
        self._schemas = range(schemas)

    async def prepare(self) -> None:
        """Make the schemas."""
        for number in self._schemas:
            for name in (f"bare{number}", f"bare{number}__new"):
                create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name))
                await self._connection.execute(create)

    async def renames(self) -> float:
        """Seconds that it takes; it is taken back behind that."""
        there = [
            f"ALTER SCHEMA bare{number} RENAME TO bare{number}__old;"
            f"ALTER SCHEMA bare{number}__new RENAME TO bare{number};"
            for number in self._schemas
        ]
        message = f"BEGIN;{''.join(there)}COMMIT".encode()
        began = time.perf_counter()
        await self._connection.execute(message)
        taken = time.perf_counter() - began
        back = [
            f"ALTER SCHEMA bare{number} RENAME TO bare{number}__new;"
            f"ALTER SCHEMA bare{number}__old RENAME TO bare{number};"
            for number in self._schemas
        ]
        await self._connection.execute("".join(back).encode())
        return taken


async def switches(
    session: DatabaseSession, bare: Bare, sizes: tuple[int, int], rounds: int
) -> dict[str, list[float]]:
    """Seconds of switches, whole and from the first rename, and of bare renames in turn with them."""
    taken: dict[str, list[float]] = {SWITCH: [], INSIDE: [], BARE: []}
    for number in range(rounds + 1):
        wanted = work(f"k{sizes[0]}x{number}", *sizes)
        await stage(session, wanted, ACTOR)
        await make_ready(session, wanted, deadline_s=600)
        watch = Watch()
        began = time.perf_counter()
        await promote(session, wanted.key, manner=Manner(interference=watch), retain=timedelta(hours=1))
        if number:
            taken[SWITCH].append(watch.ended - began)
            taken[INSIDE].append(watch.ended - watch.began)
            taken[BARE].append(await bare.renames())
    return taken


async def staging(dsn: Dsn, target: str, views: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of staging views that need none of each other, and of psql running the same statements."""
    program = find_binaries() / "psql"
    taken: dict[str, list[float]] = {STAGE_LIMITS[0][0]: [], STAGE_LIMITS[0][1]: []}
    session = await open_session(dsn, NAME, OWNER, limits=Limits(), install_tracking=True)
    beside = [await session.with_writer(dsn)]
    for number in range(rounds):
        script = folder / "views.sql"
        wanted = work(f"p{number}", 1, views)
        creates = [text for one in wanted.waves[0] if one.texts for text in one.texts.creates]
        script.write_text(f"CREATE SCHEMA s0__p{number};\n" + ";\n".join(creates) + ";\n")
        began = time.perf_counter()
        subprocess.run([program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, target], check=True)
        taken[STAGE_LIMITS[0][1]].append(time.perf_counter() - began)
        wanted = work(f"w{number}", 1, views)
        began = time.perf_counter()
        await stage(session, wanted, ACTOR, beside=beside)
        taken[STAGE_LIMITS[0][0]].append(time.perf_counter() - began)
    await session.abandon()
    return taken


async def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=int, nargs="+", default=[1, 10, 50, 200])
    parser.add_argument("--views", type=int, default=3, help="in each schema")
    parser.add_argument("--staged", type=int, default=200, help="views that are staged at once")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        async with server() as dsn:
            for schemas in options.schemas:
                async with database(dsn, NAME) as target:
                    await _base(target)
                    session = await open_session(dsn, NAME, OWNER, limits=Limits(), install_tracking=True)
                    async with await psycopg.AsyncConnection.connect(target, autocommit=True) as other:
                        bare = Bare(other, schemas)
                        await bare.prepare()
                        taken = await switches(session, bare, (schemas, options.views), options.rounds)
                    await session.abandon()
                title = f"switch of {schemas} schemas of {options.views} views"
                print(table(title, taken, SWITCH_LIMITS), flush=True)
                each = (statistics.median(taken[SWITCH]) - statistics.median(taken[BARE])) / schemas
                print(f"  beyond bare renames: {each * 1e3:.3f} ms for each schema\n", flush=True)
            async with database(dsn, NAME) as target:
                await _base(target)
                taken = await staging(dsn, target, options.staged, options.rounds, Path(folder))
            print(table(f"staging of {options.staged} views", taken, STAGE_LIMITS), flush=True)
    return 0


async def _base(target: str) -> None:
    async with await psycopg.AsyncConnection.connect(target, autocommit=True) as connection:
        await connection.execute("CREATE TABLE public.base (id int, name text)")


if __name__ == "__main__":
    asyncio.run(main())
