"""Wake to start: from what asks for a pass to the first claim of its rollout, one rollout after the other."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from benchmarks import bare
from benchmarks.content import Place, module, more_table, one_more, places, small_module, spec
from benchmarks.fleet import Fleet, fleet, until
from benchmarks.meters import tell_seconds

QUICK = ["--rollouts", "15"]
LIMIT_S = 0.2
ENVIRONMENTS = 10
PAUSE_S = 0.25
TIMES = """
SELECT
    extract(epoch FROM r.created_at)::float8,
    extract(epoch FROM o.started_at)::float8,
    (SELECT extract(epoch FROM min(s.started_at))::float8 FROM reconciler_control.steps AS s WHERE s.operation = o.id)
FROM reconciler_control.rollouts AS r
INNER JOIN reconciler_control.operations AS o ON o.rollout = r.id
WHERE r.commit = %s
"""


def first_wake(made: Fleet, since: float) -> float:
    """When the first daemon noticed a commit, by their logs; they run on this machine's clock, as the server."""
    found = []
    for daemon in made.daemons:
        for line in daemon.log.lines():
            if line.get("event") == "wake.received" and line.get("cause") == "file":
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                if at >= since:
                    found.append(at)
    if not found:
        raise RuntimeError("no daemon said that it noticed the commit")
    return min(found)


def one_rollout(made: Fleet, place: Place, number: int) -> tuple[float, float, float, float]:
    """A commit for one environment: when it was noticed, recorded, claimed, and its first step begun."""
    plan = (made.repository / f"modules/{place.name}/sqitch.plan").read_text()
    made.write(one_more(place, number, more_table(place, number), plan))
    for daemon in made.daemons:
        daemon.log.skip()
    since = time.time()
    commit = made.commit()
    until(lambda: made.applied(commit, [place.name]), "the commit to be applied")
    recorded, claimed, stepped = made.ask(TIMES, commit)[0]
    return first_wake(made, since), recorded, claimed, stepped


async def measure(made: Fleet, daemons: int, all_places: Sequence[Place], rollouts: int, number: int) -> None:
    """Rollouts one after the other with so many daemons."""
    while len(made.daemons) < daemons:
        made.add_daemon().start()
    made.until_quiet()
    taken = []
    for turn in range(rollouts):
        place = all_places[turn % len(all_places)]
        taken.append(one_rollout(made, place, number + turn // len(all_places)))
        time.sleep(PAUSE_S)
    loops = await bare.claims(made.dsn, rollouts)
    print(f"{rollouts} rollouts one after the other, daemons: {daemons}\n")
    tell_seconds(
        "wake to start (claimed)", [claimed - woken for woken, _, claimed, _ in taken], limit=LIMIT_S
    )
    tell_seconds("  wake to recorded", [recorded - woken for woken, recorded, _, _ in taken])
    tell_seconds(
        "  recorded to claimed", [claimed - recorded for _, recorded, claimed, _ in taken],
        limit=LIMIT_S, bare=loops,
    )  # fmt: skip
    tell_seconds("  recorded to first step", [stepped - recorded for _, recorded, _, stepped in taken])
    print(flush=True)


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=100)
    options = parser.parse_args(arguments)
    all_places = places(ENVIRONMENTS)
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder)) as made:
            for place in all_places:
                made.write(spec(place) | module(place, small_module(place)))
            commit = made.commit()
            made.add_daemon().start()
            until(lambda: made.applied(commit) == ENVIRONMENTS, "the first rollout", deadline_s=120)
            each = -(-options.rollouts // ENVIRONMENTS)
            for turn, daemons in enumerate((1, 3)):
                await measure(made, daemons, all_places, options.rollouts, 3 + turn * each)
    return 0


if __name__ == "__main__":
    asyncio.run(main())
