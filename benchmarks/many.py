"""Many environments on one server: first rollout, passes with nothing to do, a commit that touches ten, idleness.

Each environment has a module of three changes, and a database of its own or, with `--shared`, all have one.
The server does not wait for its disk here (fsync off): making a thousand databases is not what is measured.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from benchmarks import bare, idle
from benchmarks.content import Place, module, more_table, one_more, places, small_module, spec
from benchmarks.fleet import Daemon, Fleet, fleet, until
from benchmarks.meters import MEGABYTE, cpu_seconds, megabytes, tell, tell_seconds, verdict, watched

QUICK = ["--environments", "100", "--passes", "2", "--commits", "3", "--idle-seconds", "10"]
PASS_LIMIT_S = 30.0
MEMORY_LIMIT = 250 * MEGABYTE
TOUCHED = 10
DRIFT_INTERVAL_MIN_S = 15.0
DRIFT_INTERVAL_EACH_S = 0.1
BARE = Place(name="public", database="")
APPLIED_LIMIT_S = 5.0
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'reconciler/%'"


def first_commit(made: Fleet, all_places: Sequence[Place]) -> str:
    """Commit the specs and modules of all environments, packed as a repository is after a while."""
    files: dict[str, str] = {}
    for place in all_places:
        files |= spec(place) | module(place, small_module(place))
    made.write(files)
    commit = made.commit()
    made.git("repack", "-a", "-d", "--quiet")
    return commit


def deadline(count: int) -> float:
    """How long anything over so many environments may take before the benchmark gives up."""
    return 120 + count * 1.5


def roll_out(made: Fleet, daemon: Daemon, commit: str, count: int) -> None:
    """Start the daemon, wait until all environments carry the commit and it has come to rest."""
    began, server_cpu = time.perf_counter(), cpu_seconds(made.server_pid)
    daemon.start()
    with watched([daemon.pid]) as usage:
        until(
            lambda: made.applied(commit) == count, "the first rollout",
            deadline_s=deadline(count), pause_s=0.2,
        )  # fmt: skip
        taken = time.perf_counter() - began
        made.until_quiet(deadline_s=deadline(count))
    rested = time.perf_counter() - began
    tell("first rollout of all", f"{taken:.1f} s", peer=f"{count / taken:.1f} environments a second")
    tell("  and at rest after", f"{rested:.1f} s")
    server_cpu = cpu_seconds(made.server_pid) - server_cpu
    tell("  processor time", f"{usage.cpu_s:.1f} s", peer=f"PostgreSQL {server_cpu:.1f} s")
    tell_memory("  resident, first rollout", usage.peak, usage.steady, usage.peak_children)


def tell_memory(what: str, peak: int, steady: int, children: int) -> None:
    """Print memory against its limit."""
    tell(
        what,
        f"peak {megabytes(peak)}, then {megabytes(steady)}",
        limit=f"peak is {verdict(peak, MEMORY_LIMIT, megabytes(MEMORY_LIMIT))}",
        peer=f"Git beside it {megabytes(children)}",
    )


def restart(made: Fleet, count: int) -> Daemon:
    """A daemon anew, that looks at all databases at its start and then at short intervals; tells its first look."""
    interval = max(DRIFT_INTERVAL_MIN_S, count * DRIFT_INTERVAL_EACH_S)
    made.stop_daemons()
    daemon = made.add_daemon(drift_interval=f"{interval:g}s")
    began = time.time()
    daemon.start()
    with watched([daemon.pid]) as usage:
        _, ended = pass_over_all(daemon, count, "start")
    tell(f"restart: pass over all {count}", f"{ended - began:.1f} s after the start of the process")
    tell_memory("  resident", usage.peak, usage.steady, usage.peak_children)
    return daemon


def pass_over_all(
    daemon: Daemon, count: int, cause: str, tell_woken: Callable[[], None] = lambda: None
) -> tuple[float, float]:
    """Wait for a wake by this cause, and until every environment was passed over; gives both times.

    `tell_woken` is called when the wake is seen.
    """
    seen: set[str] = set()
    woken: list[float] = []
    ended: list[float] = []

    def all_seen() -> bool:
        for line in daemon.log.lines():
            at = datetime.fromisoformat(line["timestamp"]).timestamp()
            if line.get("event") == "wake.received" and line["cause"] == cause:
                woken.append(at)
                tell_woken()
            elif line.get("event") == "pass.finished" and woken and len(seen) < count:
                if line["result"] != "in_sync":
                    raise RuntimeError(f"a pass with nothing to do was not: {line}")
                seen.add(line["environment"])
                ended.append(at)
        return len(seen) == count

    until(all_seen, "a pass over all", deadline_s=deadline(count), pause_s=0.05)
    return woken[0], ended[-1]


async def passes(made: Fleet, all_places: Sequence[Place], rounds: int) -> None:
    """Passes with nothing to do, each followed by the bare reads of the same databases."""
    count = len(all_places)
    daemon = restart(made, count)
    ours, loops = [], []
    cpu = server_cpu = bare_cpu = 0.0
    with watched([daemon.pid]) as usage:
        for _ in range(rounds):
            made.until_quiet(quiet_s=1.0)
            before: list[float] = []

            def note(before: list[float] = before) -> None:
                before[:] = cpu_seconds(daemon.pid), cpu_seconds(made.server_pid)

            began, ended = pass_over_all(daemon, count, "drift", note)
            ours.append(ended - began)
            cpu += cpu_seconds(daemon.pid) - before[0]
            middle = cpu_seconds(made.server_pid)
            server_cpu += middle - before[1]
            loops.append(await bare.read_all(made.dsn, [place.database for place in all_places]))
            bare_cpu += cpu_seconds(made.server_pid) - middle
    limit = PASS_LIMIT_S * count / 1000
    tell_seconds(f"no-op pass over {count}", ours, limit=limit, bare=loops, at="worst")
    tell(
        "  processor time of a pass",
        f"{cpu / rounds:.2f} s",
        peer=f"PostgreSQL {server_cpu / rounds:.2f} s, for the bare loop {bare_cpu / rounds:.2f} s",
    )
    tell_memory("  resident, no-op passes", usage.peak, usage.steady, usage.peak_children)


async def touched(made: Fleet, daemon: Daemon, all_places: Sequence[Place], commits: int) -> None:
    """Commits that add a change to ten environments each, from before `git commit` until all ten are applied."""
    chance = random.Random(7)
    ours, loops, everywhere = [], [], []
    known = {place.name: 3 for place in all_places}
    with watched([daemon.pid]) as usage:
        for _ in range(commits):
            chosen = chance.sample(list(all_places), min(TOUCHED, len(all_places)))
            bodies = []
            for place in chosen:
                number = known[place.name]
                known[place.name] += 1
                body = more_table(place, number)
                plan = (made.repository / f"modules/{place.name}/sqitch.plan").read_text()
                made.write(one_more(place, number, body, plan))
                bodies.append(more_table(BARE, number))
            names = [place.name for place in chosen]
            began = time.perf_counter()
            commit = made.commit()
            until(
                lambda commit=commit, names=names: made.applied(commit, names) == len(names),
                "a commit to be applied", deadline_s=deadline(len(all_places)), pause_s=0.01,
            )  # fmt: skip
            ours.append(time.perf_counter() - began)
            until(
                lambda commit=commit: made.applied(commit) == len(all_places),
                "a commit to be observed everywhere", deadline_s=deadline(len(all_places)), pause_s=0.05,
            )  # fmt: skip
            everywhere.append(time.perf_counter() - began)
            made.until_quiet(quiet_s=1.0)
            loops.append(await bare.write_all(made.dsn, bodies))
    tell_seconds(
        f"commit that touches {TOUCHED}: applied", ours, limit=APPLIED_LIMIT_S, bare=loops, at="worst"
    )
    tell_seconds("  and the commit noted for all others", everywhere)
    tell("  processor time of a commit", f"{usage.cpu_s / commits:.2f} s")
    tell_memory("  resident, commits", usage.peak, usage.steady, usage.peak_children)


async def variant(options: argparse.Namespace, *, shared: bool) -> None:
    """Everything over one kind of fleet."""
    count = options.environments
    print(f"{count} environments of three changes, {'one database' if shared else 'a database each'}:\n")
    all_places = places(count, shared=shared)
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder), durable=False) as made:
            commit = first_commit(made, all_places)
            daemon = made.add_daemon()
            roll_out(made, daemon, commit, count)
            await touched(made, daemon, all_places, options.commits)
            if options.idle_seconds:
                idle.between_timers(made, daemon, options.idle_seconds)
            await passes(made, all_places, options.passes)
            tell("connections of the daemon at the end", str(made.value(CONNECTIONS)))
    print(flush=True)


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environments", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--commits", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--only", choices=["own", "shared"], help="a database each, or one for all")
    options = parser.parse_args(arguments)
    for shared in (False, True):
        if options.only in {None, "shared" if shared else "own"}:
            await variant(options, shared=shared)
    return 0


if __name__ == "__main__":
    asyncio.run(main())
