"""Change modules against psql, pgpm's engine and Sqitch: deploy, no-op, status, verify, revert, memory, both cores.

All tools get the same tables in the same run, on one server, each its own empty database; they take turns in
rounds. Whole commands are timed, start-up and all; ours run without a daemon.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import pgpm, side_by_side
from benchmarks.chain import Chain
from benchmarks.contestants import (
    DATABASE,
    Contestant,
    Taken,
    by_pgpm,
    by_sqitch,
    commit_modules,
    floor,
    ours,
    run,
)
from benchmarks.figures import INSIDE, Book, as_json, as_text
from benchmarks.fleet import Fleet, fleet
from benchmarks.meters import cpu_seconds, others_beside

QUICK = [
    "--changes",
    "50",
    "--rounds",
    "1",
    "--side-by-side",
    "2",
    "--side-changes",
    "100",
    "--side-rounds",
    "1",
]
PEERS = ("sqitch", "pgpm")
ENGINE_FOLDER = Path(__file__).resolve().parents[1] / ".tools" / "pgpm-engine"
SQITCH_CHANGES_MAX = 500
"""Beyond that Sqitch takes minutes for each verb, and is measured only when asked for."""
SQITCH_ROUNDS_CHANGES_MAX = 50
"""Beyond that Sqitch takes part in the first round only."""
TABLES = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'chain%'"


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks modules", description=__doc__)
    parser.add_argument("--changes", type=_sizes, default=(50, 500, 2000), metavar="N,N…")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--without", type=_peers, default=frozenset(), metavar="NAME,NAME", help="sqitch, pgpm"
    )
    parser.add_argument(
        "--full", action="store_true", help="Sqitch also beyond 500 changes, and in every round"
    )
    parser.add_argument(
        "--side-by-side", type=_sizes, default=(2, 4), metavar="N,N…", help="modules at once; 0: none"
    )
    parser.add_argument("--side-changes", type=int, default=250, help="changes of each of those modules")
    parser.add_argument("--side-rounds", type=int, default=3)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    return parser.parse_args(arguments)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(part) for part in text.split(",")}))


def _peers(text: str) -> frozenset[str]:
    given = frozenset(part for part in text.split(",") if part)
    if given - set(PEERS):
        raise argparse.ArgumentTypeError(f"one of {', '.join(PEERS)}")
    return given


def takes_part(who: str, changes: int, number: int, *, full: bool) -> bool:
    """Whether somebody is measured in this round: Sqitch is spared what takes it many minutes."""
    if who != "sqitch" or full:
        return True
    return changes <= SQITCH_CHANGES_MAX and (number == 0 or changes <= SQITCH_ROUNDS_CHANGES_MAX)


def empty_database(made: Fleet) -> None:
    """The database anew, with nothing left for the server to write out."""
    with psycopg.connect(made.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0".encode())
        connection.execute("CHECKPOINT")


def check_tables(made: Fleet, expected: int, who: str, taken: Taken) -> None:
    """Nobody is measured for work that was not done."""
    with psycopg.connect(made.database(DATABASE), autocommit=True) as connection:
        row = connection.execute(TABLES.encode()).fetchone()
    if row is None or row[0] != expected:
        raise RuntimeError(f"{who}: {row} tables where {expected} were expected\n{taken.said}")


def series(made: Fleet, contestant: Contestant, changes: int, book: Book) -> None:
    """One contestant does all it can, from an empty database to an empty one."""
    empty_database(made)
    if refused := contestant.prepare():
        for task in contestant.tasks:
            book.fail(changes, contestant.name, task.verb, refused)
        return
    for task in contestant.tasks:
        before = cpu_seconds(made.server_pid)
        taken = run(task)
        cpu_s = taken.cpu_s + cpu_seconds(made.server_pid) - before
        if taken.failed:
            if contestant.name.startswith(("us", "psql")):
                raise RuntimeError(f"{contestant.name}, {task.verb}: {taken.failed}")
            book.fail(changes, contestant.name, task.verb, taken.failed)
            continue
        book.add(changes, contestant.name, task.verb, taken.seconds, cpu_s=cpu_s, peak=taken.peak)
        print(
            f"  {task.verb} {taken.seconds:.2f} s, {cpu_s:.2f} s of processor time",
            file=sys.stderr,
            flush=True,
        )
        if task.verb in {"deploy", "revert"}:
            check_tables(made, changes if task.verb == "deploy" else 0, contestant.name, taken)
            inside = contestant.inside()
            if inside is not None:
                book.add(changes, contestant.name + INSIDE, task.verb, inside)


def contestants(made: Fleet, chain: Chain, engine: Path | None, *, sqitch: bool) -> list[Contestant]:
    """Everybody, with the files of a module of this size."""
    folder = made.folder / chain.project

    def place(name: str) -> Path:
        path = folder / name
        path.mkdir(parents=True)
        return path

    psql = place("psql")
    commit_modules(made, [chain])
    found = [
        ours(made, [chain.project], transaction="change"),
        floor(made, psql, chain, together=False),
        floor(made, psql, chain, together=False, verified=True),
        ours(made, [chain.project], transaction="module"),
        floor(made, psql, chain, together=True),
    ]
    if engine is not None:
        found += [
            by_pgpm(made, place("pgpm"), chain, engine, fast=False),
            by_pgpm(made, place("pgpm-fast"), chain, engine, fast=True),
        ]
    if sqitch:
        found.append(by_sqitch(made, place("sqitch"), chain))
    return found


def about(made: Fleet) -> dict[str, Any]:
    """The server's settings that are not its defaults, and the machine."""
    names = (
        "('shared_buffers', 'max_connections', 'max_locks_per_transaction', 'fsync', 'synchronous_commit')"
    )
    rows = made.ask(
        "SELECT name, current_setting(name) FROM pg_settings"
        f" WHERE source = 'configuration file' AND vartype <> 'string' OR name IN {names} ORDER BY name"
    )
    return {
        "server": made.value("SHOW server_version"),
        "settings": {str(name): str(value) for name, value in rows},
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def measure(made: Fleet, options: argparse.Namespace, book: Book) -> None:
    """All sizes, all rounds, after one that is not counted: it makes the control schema, and reads programs."""
    engine = None if "pgpm" in options.without else pgpm.install(ENGINE_FOLDER)
    warm_up = Chain(project="chain2", changes=2)
    everybody = contestants(made, warm_up, engine, sqitch="sqitch" not in options.without)
    first = [replace(one, tasks=one.tasks[:1]) for one in everybody]
    take_turns(made, first, warm_up.changes, 0, Book())
    for changes in options.changes:
        chain = Chain(project=f"chain{changes}", changes=changes)
        everybody = contestants(made, chain, engine, sqitch="sqitch" not in options.without)
        for number in range(options.rounds):
            here = [one for one in everybody if takes_part(one.name, changes, number, full=options.full)]
            take_turns(made, here, changes, number, book)
        shutil.rmtree(made.folder / chain.project)


def measure_side_by_side(made: Fleet, options: argparse.Namespace, book: Book) -> None:
    """Several modules at once and in a row."""
    for modules in filter(None, options.side_by_side):
        chains = side_by_side.chains(modules, options.side_changes)
        everybody = side_by_side.contestants(made, chains)
        for number in range(options.side_rounds):
            take_turns(made, everybody, modules * options.side_changes, number, book)


def take_turns(made: Fleet, everybody: Sequence[Contestant], changes: int, number: int, book: Book) -> None:
    """One round; who goes first changes from round to round."""
    first = number % len(everybody)
    for contestant in (*everybody[first:], *everybody[:first]):
        print(f"{changes} changes, round {number + 1}: {contestant.name}", file=sys.stderr, flush=True)
        series(made, contestant, changes, book)


def _missing(options: argparse.Namespace) -> list[str]:
    needed = {"sqitch": ("sqitch",), "pgpm": ("node", "npm")}
    wanted = [program for peer in PEERS if peer not in options.without for program in needed[peer]]
    return [program for program in wanted if shutil.which(program) is None]


@contextlib.contextmanager
def _only_result(output: str) -> Iterator[Callable[[str], None]]:
    """Keep standard output for the result where a program reads it; gives what writes there."""
    out = sys.stdout

    def tell(text: str) -> None:
        print(text, file=out, flush=True)

    with contextlib.redirect_stdout(sys.stderr) if output == "json" else contextlib.nullcontext():
        yield tell


async def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    if missing := _missing(options):
        print(
            f"modules: not installed: {', '.join(missing)}; see tools/install-system-packages, or --without"
        )
        return 1
    book, side = Book(), Book()
    with (
        tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder,
        _only_result(options.output) as tell,
    ):
        async with fleet(Path(folder)) as made:
            known = about(made)
            with others_beside(made.server_pid) as beside:
                measure(made, options, book)
                measure_side_by_side(made, options, side)
            known["other_programs_cores"] = round(beside.cores, 2)
            # Before the end of the server and the files: what was measured is not to be lost with them.
            tell(result(options.output, known, book, side))
    return 0


def result(output: str, known: dict[str, Any], book: Book, side: Book) -> str:
    """All that was measured, as people or as programs read it."""
    if output == "json":
        at_once = as_json(side.figures, side_by_side.GOALS)
        return json.dumps({**known, **as_json(book.figures), "side_by_side": at_once}, indent=2)
    said = ", ".join(f"{name} {value}" for name, value in known.items())
    return "\n\n".join((said, as_text(book.figures), as_text(side.figures, side_by_side.GOALS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
