"""Failover: the daemon that runs an operation is killed with SIGKILL; how soon another goes on with it.

Every change writes a row of its own, and each must stand there once at the end.
"""

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import bare
from benchmarks.content import Place, module, one_more, places, spec
from benchmarks.fleet import Daemon, Fleet, fleet, until
from benchmarks.meters import tell, tell_seconds

QUICK = ["--rounds", "5"]
LIMIT_S = 5.0
ENVIRONMENTS = 3
CHANGES = 12
SLOW_S = 0.3
LEAD_IN_S = 0.5
UNDER_WAY = """
SELECT o.id, w.name, o.lease_token, o.environment
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.workers AS w ON w.id = o.worker
INNER JOIN reconciler_control.rollouts AS r ON r.id = o.rollout
WHERE o.state = 'running' AND r.commit = %s
ORDER BY o.id
"""
RESUMED = "SELECT lease_token FROM reconciler_control.operations WHERE id = %s AND lease_token > %s"
FINISHED = "SELECT count(*) FROM reconciler_control.operations WHERE id = %s AND finished_at IS NOT NULL"
LATEST = "SELECT count(*) FROM public.written"
TWICE = "SELECT count(*), count(DISTINCT (place, number)) FROM public.written"


def first_module(place: Place) -> list[str]:
    """The module before its slow changes: a table for what they write."""
    return [
        f"CREATE TABLE public.written (place text, number int, at timestamptz DEFAULT clock_timestamp()); -- {place.name}"
    ]


def slow(place: Place, number: int) -> str:
    """One slow change."""
    return f"SELECT pg_sleep({SLOW_S}); INSERT INTO public.written VALUES ('{place.name}', {number});"


def add_slow_changes(made: Fleet, all_places: Sequence[Place], first: int) -> str:
    """Commit more slow changes for every environment."""
    for place in all_places:
        for number in range(first, first + CHANGES):
            plan = (made.repository / f"modules/{place.name}/sqitch.plan").read_text()
            made.write(one_more(place, number, slow(place, number), plan))
    return made.commit()


def kill_owner(made: Fleet, all_places: Sequence[Place], commit: str) -> tuple[Daemon, float, float]:
    """Kill the daemon of an operation under way; seconds until it was resumed, and until its next change."""
    until(lambda: made.ask(UNDER_WAY, commit), "an operation to run")
    time.sleep(LEAD_IN_S)
    operation, name, token, environment = made.ask(UNDER_WAY, commit)[0]
    daemon = next(daemon for daemon in made.daemons if name.endswith(f"/{daemon.pid}"))
    place = next(place for place in all_places if place.name == environment)
    with psycopg.connect(made.database(place.database), autocommit=True) as watching:
        daemon.stop(signal.SIGKILL)
        killed = time.perf_counter()
        written = _one(watching, LATEST)

        def resumed() -> bool:
            return bool(made.ask(RESUMED, operation, token)) or bool(made.value(FINISHED, operation))

        until(resumed, "the operation to be resumed", deadline_s=60, pause_s=0.005)
        after = time.perf_counter() - killed
        until(lambda: _one(watching, LATEST) > written, "its next change", deadline_s=60, pause_s=0.005)
        return daemon, after, time.perf_counter() - killed


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def count_changes(made: Fleet, all_places: Sequence[Place]) -> tuple[int, int]:
    """Rows that changes wrote, and different ones among them."""
    rows = different = 0
    for place in all_places:
        with psycopg.connect(made.database(place.database)) as connection:
            found = connection.execute(TWICE.encode()).fetchone()
            assert found is not None
            rows += found[0]
            different += found[1]
    return rows, different


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    all_places = places(ENVIRONMENTS)
    resumed, changed = [], []
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder)) as made:
            for place in all_places:
                made.write(spec(place) | module(place, first_module(place)))
            commit = made.commit()
            for _ in range(3):
                made.add_daemon().start()
            until(lambda: made.applied(commit) == ENVIRONMENTS, "the first rollout", deadline_s=120)
            for number in range(options.rounds):
                commit = add_slow_changes(made, all_places, 1 + number * CHANGES)
                daemon, after, next_change = kill_owner(made, all_places, commit)
                resumed.append(after)
                changed.append(next_change)
                until(
                    lambda commit=commit: made.applied(commit) == ENVIRONMENTS,
                    "the rollouts to end",
                    deadline_s=120,
                )
                daemon.start()
            rows, different = count_changes(made, all_places)
            loops = bare.takeovers(made.dsn, options.rounds)
    print(f"failover after kill -9 of the owner among three daemons, {options.rounds} rounds\n")
    tell_seconds("kill to resumed", resumed, limit=LIMIT_S, bare=loops)
    tell_seconds(f"kill to next change (of {SLOW_S:g} s) committed", changed, limit=LIMIT_S)
    wanted = options.rounds * CHANGES * ENVIRONMENTS
    tell(
        "each change once",
        f"{rows} rows, {different} different",
        limit="as wanted" if rows == different == wanted else f"WRONG, not {wanted}",
    )
    return 0


if __name__ == "__main__":
    asyncio.run(main())
