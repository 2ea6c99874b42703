"""Claims alone, beside two job queues on PostgreSQL that fetch jobs of the same server in the same run.

`procrastinate` (MIT, since 2019) and `pgqueuer` (MIT, since 2024) are peers, not dependencies: they stand in
the group `bench` of pyproject.toml, which `make` does not install. Where they are missing, this runs itself
in an environment of its own by `uv run --group bench`. Rounds are interleaved; up to a hundred jobs are
taken, then ended, with nothing done between. Where the interface fetches many at once (pgqueuer, and ours),
ten at a time: as many as a worker has places. Ours keep the rollout's order, its cap and the server's, the
lease, the events and the state of the whole in the same transactions; a queue has none of these to keep.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import psycopg

from benchmarks.meters import p50, tell, tell_seconds
from benchmarks.setting import database, server
from reconciler.control import claims, install, rollouts, transitions, workers
from reconciler.control.rollouts import NewOperation, NewRollout, NewStep
from reconciler.postgres.connection import Dsn, connect
from reconciler.rollout.states import OperationEvent
from reconciler.rollout.summary import RolloutPolicy

QUICK = ["--jobs", "300", "--rounds", "3", "--workers", "1,4"]
BATCH = 10
IN_FLIGHT = 100
"""As many as the greatest `maxParallel`; more are never held at once."""
ROOT = Path(__file__).resolve().parent.parent


class Queue(Protocol):
    """What is measured: `fetch` takes some jobs for a worker, `finish` ends them."""

    async def add(self, jobs: int) -> None:
        """Have so many jobs more."""

    async def fetch(self, worker: int) -> list[Any]:
        """Take some; none where there are none."""

    async def finish(self, worker: int, taken: list[Any]) -> None:
        """End what was taken."""


class Ours:
    """Operations of one rollout."""

    def __init__(self, dsn: str, count: int, stack: AsyncExitStack) -> None:
        self._dsn, self._count, self._stack = Dsn(dsn), count, stack
        self._connections: list[Any] = []
        self._workers: list[workers.Worker] = []
        self._rounds = 0

    async def start(self) -> "Ours":
        """Install the schema and register workers."""
        for number in range(self._count):
            connection = await connect(self._dsn, role="bench")
            session = await connect(self._dsn, role="bench")
            self._stack.push_async_callback(connection.close)
            self._stack.push_async_callback(session.close)
            self._connections.append(connection)
            if not number:
                await install.install(connection)
            self._workers.append(
                await workers.register(
                    session, name=f"w{number}", sources=("bench",), passes=False, lease_s=600
                )
            )
        return self

    async def add(self, jobs: int) -> None:
        """Record a rollout that may run all of them side by side."""
        self._rounds += 1
        step = NewStep(
            id="s", ordinal=0, stage="migrations", kind="deploy-change", component="c", identity="i"
        )
        new = NewRollout(
            environment=f"env{self._rounds}",
            source="bench",
            commit="a" * 40,
            scope="full",
            policy=RolloutPolicy(order="parallel", max_parallel=IN_FLIGHT),
            reason="bench",
            requested_by="bench",
            operations=tuple(
                NewOperation(
                    deployment=f"d{number}",
                    ordinal=number,
                    plan={"name": f"d{number}"},
                    plan_digest="sha256:1",
                    steps=(step,),
                    server="localhost:5432",
                )
                for number in range(jobs)
            ),
        )
        await rollouts.record(self._connections[0], new)

    async def fetch(self, worker: int) -> list[Any]:
        """Claim operations."""
        return list(
            await claims.claim_many(
                self._connections[worker], self._workers[worker], room=BATCH, lease_s=600, per_server=10**6
            )
        )

    async def finish(self, worker: int, taken: list[Any]) -> None:
        """Complete each, as its worker does."""
        for claim in taken:
            await transitions.transition(self._connections[worker], claim, OperationEvent.DONE)


class Procrastinate:
    """Jobs of one queue; they are fetched one by one."""

    def __init__(self, dsn: str, count: int, stack: AsyncExitStack) -> None:
        self._dsn, self._count, self._stack = dsn, count, stack

    async def start(self) -> "Procrastinate":
        """Install the schema and register workers."""
        from procrastinate import App, PsycopgConnector
        from procrastinate.manager import JobManager

        connector = PsycopgConnector(conninfo=self._dsn, min_size=self._count, max_size=self._count)
        app = App(connector=connector)
        await self._stack.enter_async_context(app.open_async())
        await app.schema_manager.apply_schema_async()
        self._manager = JobManager(connector)
        self._workers = [await self._manager.register_worker() for _ in range(self._count)]
        return self

    async def add(self, jobs: int) -> None:
        """Defer jobs."""
        from procrastinate.jobs import Job

        job = Job(queue="bench", lock=None, queueing_lock=None, task_name="nothing")
        await self._manager.batch_defer_jobs_async([job] * jobs)

    async def fetch(self, worker: int) -> list[Any]:
        """Fetch a job."""
        job = await self._manager.fetch_job(["bench"], self._workers[worker])
        return [] if job is None else [job]

    async def finish(self, worker: int, taken: list[Any]) -> None:  # noqa: ARG002 - as the others take it
        """End it as succeeded."""
        from procrastinate.jobs import Status

        for job in taken:
            await self._manager.finish_job(job, Status.SUCCEEDED, delete_job=False)


class Pgqueuer:
    """Jobs of one entry point."""

    def __init__(self, dsn: str, count: int, stack: AsyncExitStack) -> None:
        self._dsn, self._count, self._stack = dsn, count, stack
        self._queries: list[Any] = []

    async def start(self) -> "Pgqueuer":
        """Install the schema and open connections."""
        from pgqueuer.ports.repository import EntrypointExecutionParameter
        from pgqueuer.queries import Queries

        for _ in range(self._count):
            connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
            self._stack.push_async_callback(connection.close)
            self._queries.append(Queries.from_psycopg_connection(connection))
        await self._queries[0].install()
        self._entrypoints = {"bench": EntrypointExecutionParameter(concurrency_limit=0)}
        self._ids = [uuid.uuid4() for _ in range(self._count)]
        return self

    async def add(self, jobs: int) -> None:
        """Enqueue jobs."""
        await self._queries[0].enqueue(["bench"] * jobs, [None] * jobs, [0] * jobs)

    async def fetch(self, worker: int) -> list[Any]:
        """Dequeue jobs."""
        return list(
            await self._queries[worker].dequeue(
                BATCH, self._entrypoints, self._ids[worker], None, timedelta(minutes=10)
            )
        )

    async def finish(self, worker: int, taken: list[Any]) -> None:
        """Log them as successful."""
        await self._queries[worker].log_jobs([(job, "successful", None) for job in taken])


@dataclass(slots=True)
class Taken:
    """What rounds of one queue took: jobs a second, and the seconds of each call that gave some."""

    fetched: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)


async def one_round(queue: Queue, jobs: int, count: int, taken: Taken) -> None:
    """Take and end all jobs, some at a time: all workers take side by side, then all end what they have."""
    await queue.add(jobs)
    held: list[list[list[Any]]] = [[] for _ in range(count)]
    fetching = finishing = 0.0
    done = 0

    async def fetch(worker: int) -> None:
        while sum(len(found) for found in held[worker]) < IN_FLIGHT // count:
            began = time.perf_counter()
            found = await queue.fetch(worker)
            if not found:
                return
            taken.calls.append(time.perf_counter() - began)
            held[worker].append(found)

    async def finish(worker: int) -> None:
        while held[worker]:
            await queue.finish(worker, held[worker].pop())

    while True:
        fetching += await _seconds(fetch, count)
        got = sum(len(found) for some in held for found in some)
        if not got:
            break
        done += got
        finishing += await _seconds(finish, count)
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were taken")
    taken.fetched.append(jobs / fetching)
    taken.finished.append(jobs / finishing)


async def _seconds(work: Callable[[int], Awaitable[None]], count: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(work(worker) for worker in range(count)))
    return time.perf_counter() - began


async def compare(dsn: Dsn, jobs: int, rounds: int, count: int) -> bool:
    """Interleaved rounds of all three; whether ours fetch as many a second as the better of the peers."""
    kinds: dict[str, Callable[[str, int, AsyncExitStack], Any]] = {
        "ours": Ours,
        "procrastinate": Procrastinate,
        "pgqueuer": Pgqueuer,
    }
    taken = {name: Taken() for name in kinds}
    async with AsyncExitStack() as stack:
        queues = {}
        for name, kind in kinds.items():
            text = await stack.enter_async_context(database(dsn, f"bench_{name}"))
            queues[name] = await kind(text, count, stack).start()
        for number in range(rounds + 1):
            for name, queue in queues.items():
                # The first round warms caches and plans, and is not counted.
                await one_round(queue, jobs, count, taken[name] if number else Taken())
    print(f"{count} worker{'s' if count > 1 else ''}, {jobs} jobs, medians of {rounds} interleaved rounds:")
    ours = p50(taken["ours"].fetched)
    for name, found in taken.items():
        spread = f"{min(found.fetched):.0f} to {max(found.fetched):.0f}"
        tell(
            f"{name}: fetched",
            f"{p50(found.fetched):.0f} a second ({spread})",
            peer="" if name == "ours" else f"ours are {ours / p50(found.fetched):.2f} times that",
        )
        tell(f"{name}: finished", f"{p50(found.finished):.0f} a second")
        tell_seconds(f"{name}: a call that fetches", found.calls)
    return ours >= max(p50(taken[name].fetched) for name in kinds if name != "ours")


def _in_its_own_environment(arguments: Sequence[str]) -> int:
    """Run this where the peers are installed, without touching the environment of the project."""
    environ = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(ROOT / ".tools" / "bench")}
    command = [
        str(Path(sys.executable).parent / "uv"), "run", "--quiet", "--frozen", "--all-extras",
        "--group", "bench", "python", "-m", "benchmarks.claims", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, env=environ, cwd=ROOT, check=False).returncode


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers, one after the other")
    options = parser.parse_args(arguments)
    if find_spec("procrastinate") is None or find_spec("pgqueuer") is None:
        return _in_its_own_environment(sys.argv[1:] if arguments is None else arguments)
    print("claims beside job queues on the same server:\n")
    behind = False
    async with server() as dsn:
        for count in map(int, options.workers.split(",")):
            behind |= not await compare(dsn, options.jobs, options.rounds, count)
    print("  ours fetch", "FEWER than a peer" if behind else "no fewer than any peer")
    return int(behind)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
