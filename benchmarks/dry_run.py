"""Dry runs over HTTP, of the head and of a branch: while twenty rollouts run on the same daemon, and without."""

import argparse
import asyncio
import http.client
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import bare
from benchmarks.content import Place, module, more_table, one_more, places, small_module, spec
from benchmarks.fleet import Daemon, Fleet, fleet, until
from benchmarks.meters import tell, tell_seconds

QUICK = ["--requests", "20"]
LIMIT_S = 0.3
ROLLOUTS = 20
CHANGES = 40
SLOW_S = 0.05
ASKED = 4
BRANCH = "proposal"
UNDER_WAY = "SELECT count(*) FROM reconciler_control.rollouts WHERE finished_at IS NULL"


def ask(daemon: Daemon, names: Sequence[str], ref: str | None, requests: int) -> list[float]:
    """Seconds of each of so many dry runs, one after the other over one connection."""
    address = urlsplit(daemon.url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    taken = []
    try:
        for number in range(requests):
            path = f"/v1/environments/{names[number % len(names)]}/diff" + (f"?ref={ref}" if ref else "")
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            taken.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {body}")
            if ref and not body["deployments"][0]["pending"]:
                raise RuntimeError(f"{path}: nothing is pending on the branch")
    finally:
        connection.close()
    return taken


def propose(made: Fleet, asked: Sequence[Place]) -> None:
    """A branch that adds a change to each environment that is asked about."""
    made.git("switch", "--quiet", "--create", BRANCH)
    for place in asked:
        plan = (made.repository / f"modules/{place.name}/sqitch.plan").read_text()
        made.write(one_more(place, 3, more_table(place, 3), plan))
    made.commit()
    made.git("switch", "--quiet", "main")


def begin_rollouts(made: Fleet, busy: Sequence[Place], first: int) -> str:
    """Commit slow changes for twenty environments, and wait until their rollouts are recorded."""
    for place in busy:
        for number in range(first, first + CHANGES):
            body = f"{more_table(place, number)} SELECT pg_sleep({SLOW_S});"
            plan = (made.repository / f"modules/{place.name}/sqitch.plan").read_text()
            made.write(one_more(place, number, body, plan))
    commit = made.commit()
    until(lambda: made.value(UNDER_WAY) >= ROLLOUTS // 2, "the rollouts to begin")
    return commit


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100)
    options = parser.parse_args(arguments)
    all_places = places(ROLLOUTS + ASKED)
    busy, asked = all_places[:ROLLOUTS], all_places[ROLLOUTS:]
    kinds = (
        ("head, of an environment at rest", [place.name for place in asked], None),
        ("branch, of an environment at rest", [place.name for place in asked], BRANCH),
        ("head, of one that is rolled out", [place.name for place in busy], None),
    )
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder)) as made:
            for place in all_places:
                made.write(spec(place) | module(place, small_module(place)))
            commit = made.commit()
            daemon = made.add_daemon()
            daemon.start()
            until(lambda: made.applied(commit) == len(all_places), "the first rollout", deadline_s=120)
            propose(made, asked)
            made.until_quiet()
            print(f"{options.requests} dry runs over HTTP, one after the other\n")
            still = {}
            for name, names, ref in kinds:
                ask(daemon, names, ref, 4)
                still[name] = ask(daemon, names, ref, options.requests)
                loops = [await bare.read_all(made.dsn, [asked[0].database]) for _ in range(options.requests)]
                tell_seconds(f"idle: {name}", still[name], limit=LIMIT_S, bare=loops)
            first = 3
            for name, names, ref in kinds:
                commit = begin_rollouts(made, busy, first)
                first += CHANGES
                taken = await asyncio.to_thread(ask, daemon, names, ref, options.requests)
                left = made.value(UNDER_WAY)
                tell_seconds(f"busy: {name}", taken, limit=LIMIT_S)
                tell(
                    "  beside the idle daemon",
                    f"{sorted(taken)[len(taken) // 2] / sorted(still[name])[len(taken) // 2]:.1f} times",
                    peer=f"{left} of {ROLLOUTS} rollouts still under way at the end",
                )
                until(
                    lambda commit=commit: made.applied(commit) == len(all_places),
                    "the rollouts to end",
                    deadline_s=300,
                )
    return 0


if __name__ == "__main__":
    asyncio.run(main())
