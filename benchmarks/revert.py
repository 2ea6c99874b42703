"""Revert of a module of one-table changes, against one psql session that drops each table in its transaction."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.deploy import by_psql
from benchmarks.setting import database, module, script, server, table
from reconciler.changes.script import Script
from reconciler.diff.model import ToRevert
from reconciler.execution import changes, reverts
from reconciler.execution.changes import Progress
from reconciler.execution.reverts import Steps
from reconciler.execution.session import Limits, open_session
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import find_binaries
from reconciler.state.desired import DesiredChange
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_tracked
from reconciler.tracking.record import Actor

QUICK = ["--changes", "300", "--rounds", "3"]
NAME = "reconciler_benchmark_revert"
LIMITS = (("revert, with session and base line", "psql, a transaction each", 1.2),)
OWNER = FenceOwner(control_id="benchmark", environment="benchmark", deployment="one", operation="1")
ACTOR = Actor(commit="0" * 40, operation="1", committer="benchmark")


def revert_script(number: int) -> str:
    """What takes one change back, in Sqitch's form."""
    return f"-- Revert bench:t{number} from pg\n\nBEGIN;\n\nDROP TABLE t{number};\n\nCOMMIT;\n"


async def _change_done(_change: DesiredChange) -> None:
    return


async def _done() -> None:
    return


async def deploy(dsn: Dsn, count: int) -> None:
    wanted = module(count, NAME)
    session = await open_session(dsn, NAME, OWNER, limits=Limits(), install_tracking=True)
    await changes.deploy(
        session, wanted, wanted.changes, ACTOR, Progress(done=_change_done, safe_point=_done)
    )
    await session.finish()


async def by_us(dsn: Dsn) -> float:
    began = time.perf_counter()
    session = await open_session(dsn, NAME, OWNER, limits=Limits(), install_tracking=False)
    deployed = (await read_tracked(session.holder)).modules["bench"].changes
    wanted = [
        ToRevert(
            component="bench-schema",
            project="bench",
            change=row,
            script=Script(f"modules/bench/revert/{row.name}.sql", revert_script(int(row.name[1:]))),
            stored=False,
        )
        for row in reversed(deployed)
    ]
    await reverts.revert(session, wanted, ACTOR, Steps(done=_done, safe_point=_done))
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
        makes, drops = Path(folder) / "deploy.sql", Path(folder) / "revert.sql"
        makes.write_text("".join(script(number) for number in range(options.changes)))
        drops.write_text("".join(revert_script(number) for number in reversed(range(options.changes))))
        async with server() as dsn:
            for _round in range(options.rounds):
                async with database(dsn, NAME) as target:
                    await by_psql(program, target, makes)
                    taken[LIMITS[0][1]].append(await by_psql(program, target, drops))
                async with database(dsn, NAME):
                    await deploy(dsn, options.changes)
                    taken[LIMITS[0][0]].append(await by_us(dsn))
    print(table(f"revert of {options.changes} one-table changes", taken, LIMITS))
    return 0


if __name__ == "__main__":
    asyncio.run(main())
