"""First deploy of a module of one-table changes, against one psql session fed the same scripts."""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from benchmarks.setting import database, module, script, server, table
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.session import Limits, open_session
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import find_binaries
from reconciler.state.desired import DesiredChange
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor

QUICK = ["--changes", "300", "--rounds", "3"]
NAME = "reconciler_benchmark_deploy"
LIMITS = (("deploy, with session and base line", "psql, a transaction each", 1.5),)


async def by_psql(program: Path, target: str, file: Path) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file), "-d", target,
        env={**os.environ, "PGOPTIONS": ""},
    )  # fmt: skip
    if await process.wait():
        raise RuntimeError("psql failed")
    return time.perf_counter() - began


async def by_us(dsn: Dsn, count: int) -> float:
    wanted = module(count, NAME)

    async def done(_change: DesiredChange) -> None:
        return

    async def go_on() -> None:
        return

    owner = FenceOwner(control_id="benchmark", environment="benchmark", deployment="one", operation="1")
    actor = Actor(commit="0" * 40, operation="1", committer="benchmark")
    began = time.perf_counter()
    session = await open_session(dsn, NAME, owner, limits=Limits(), install_tracking=True)
    await changes.deploy(session, wanted, wanted.changes, actor, Progress(done=done, safe_point=go_on))
    await session.finish()
    return time.perf_counter() - began


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    program = find_binaries() / "psql"
    taken: dict[str, list[float]] = {LIMITS[0][0]: [], LIMITS[0][1]: []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.sql"
        file.write_text("".join(script(number) for number in range(options.changes)))
        async with server() as dsn:
            for _round in range(options.rounds):
                async with database(dsn, NAME) as target:
                    taken[LIMITS[0][1]].append(await by_psql(program, target, file))
                async with database(dsn, NAME):
                    taken[LIMITS[0][0]].append(await by_us(dsn, options.changes))
    print(table(f"first deploy of {options.changes} one-table changes", taken, LIMITS))
    return 0


if __name__ == "__main__":
    asyncio.run(main())
