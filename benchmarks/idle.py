"""An idle daemon: statements a second by kind, and processor time; between timers, and over a whole interval."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.content import module, places, small_module, spec
from benchmarks.fleet import Daemon, Fleet, fleet, until
from benchmarks.meters import cpu_seconds, tell, verdict, watched
from benchmarks.statements import Statements, counted

QUICK = ["--seconds", "10", "--interval-seconds", "20"]
STATEMENTS_LIMIT = 1.0
CORE_LIMIT = 0.01
KINDS_SHOWN = 4


def between_timers(made: Fleet, daemon: Daemon, seconds: float) -> None:
    """Look at a daemon that has nothing to do and no timer due."""
    made.until_quiet(quiet_s=4.0)
    found, share, server_share = _look(made, daemon, seconds)
    tell(
        f"idle for {found.seconds:.0f} s: statements beside heartbeats",
        f"{found.a_second:.2f} a second",
        limit=verdict(found.a_second, STATEMENTS_LIMIT, "1 a second"),
        peer=f"heartbeats {found.heartbeats / found.seconds:.2f} a second",
    )
    _tell_kinds(found)
    tell(
        "  share of a core",
        f"{share * 100:.2f} %",
        limit=verdict(share, CORE_LIMIT, "1 %"),
        peer=f"PostgreSQL {server_share * 100:.2f} %",
    )


def whole_interval(made: Fleet, daemon: Daemon, seconds: float) -> None:
    """Look at a daemon over one interval of its timer, passes and all; no limit is set to that."""
    found, share, server_share = _look(made, daemon, seconds)
    tell(
        f"an interval of {found.seconds:.0f} s, with its passes",
        f"{found.a_second:.2f} a second",
        peer=f"{share * 100:.2f} % of a core, PostgreSQL {server_share * 100:.2f} %",
    )
    _tell_kinds(found)


def _look(made: Fleet, daemon: Daemon, seconds: float) -> tuple[Statements, float, float]:
    with counted(made) as found:
        server = cpu_seconds(made.server_pid)
        with watched([daemon.pid]) as usage:
            time.sleep(seconds)
        server = cpu_seconds(made.server_pid) - server
    return found, usage.cores, server / usage.elapsed_s


def _tell_kinds(found: Statements) -> None:
    for name, counter in (("control", found.control), ("managed", found.managed)):
        for text, count in counter.most_common(KINDS_SHOWN):
            print(f"      {count / found.seconds:6.2f} a second, {name}: {text}")


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--interval-seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    print(f"an idle daemon with {options.environments} environments:\n")
    all_places = places(options.environments)
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder), durable=False) as made:
            for place in all_places:
                made.write(spec(place) | module(place, small_module(place)))
            commit = made.commit()
            quiet = made.add_daemon()
            quiet.start()
            until(lambda: made.applied(commit) == len(all_places), "the first rollout", deadline_s=300)
            between_timers(made, quiet, options.seconds)
            made.stop_daemons()
            ticking = made.add_daemon(interval=f"{options.interval_seconds:g}s", drift_interval="300s")
            ticking.start()
            made.until_quiet()
            whole_interval(made, ticking, options.interval_seconds)
    return 0


if __name__ == "__main__":
    asyncio.run(main())
