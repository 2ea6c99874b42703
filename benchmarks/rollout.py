"""One commit over many deployments of one environment, a database each, with one, two and four daemons.

The server does not wait for its disk here (fsync off), so that what is measured is work; its own processor
time is told beside that of the daemons.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.content import DSN_VARIABLE, Place, module, more_table, one_more, small_module
from benchmarks.fleet import CONTROL, Daemon, Fleet, fleet, until
from benchmarks.meters import cpu_seconds, megabytes, p50, tell, tell_seconds, watched
from reconciler.control.claims import PER_SERVER

QUICK = ["--deployments", "100", "--daemons", "1,2"]
WORKERS = 8
GOAL = 50.0
CORES = 2
TIMES = """
SELECT
    extract(epoch FROM r.created_at)::float8,
    array_agg(extract(epoch FROM o.started_at)::float8 ORDER BY o.started_at),
    array_agg(extract(epoch FROM o.finished_at)::float8 ORDER BY o.finished_at),
    array_agg(extract(epoch FROM o.finished_at - o.started_at)::float8),
    count(*) FILTER (WHERE o.state <> 'completed'),
    max(o.attempts)
FROM reconciler_control.rollouts AS r
INNER JOIN reconciler_control.operations AS o ON o.rollout = r.id
WHERE r.commit = %s
GROUP BY r.id
ORDER BY r.id
LIMIT 1
"""
OPEN = "SELECT count(*) FROM reconciler_control.rollouts WHERE finished_at IS NULL"
FIRST = "SELECT max(extract(epoch FROM finished_at - created_at))::float8 FROM reconciler_control.rollouts"
SHOP = Place(name="shop", database="")


def spec(deployments: int) -> dict[str, str]:
    """The file of an environment with many deployments, each with a database of its own."""
    head = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  rollout: {order: parallel, maxParallel: 100, onFailure: continue}
  components:
    - {name: data, kind: Database, database: "bench_${deployment}"}
    - {name: schema, kind: Module, database: {from: data}, path: modules/shop}
  deployments:
"""
    line = "    - {{name: t{number:04d}, postgres: {{dsn: {{env: {variable}}}}}}}\n"
    text = "".join(line.format(number=number, variable=DSN_VARIABLE) for number in range(deployments))
    return {"environments/shop.yaml": head + text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When the operations of a rollout were recorded, claimed and over, by the control database's clock."""

    recorded: float
    started: Sequence[float]
    finished: Sequence[float]
    taken: Sequence[float]

    @property
    def rate(self) -> float:
        """Operations a second, from the record of the rollout to the end of its last operation."""
        return len(self.finished) / (self.finished[-1] - self.recorded)

    def waits(self, places: int) -> list[float]:
        """For each claim but the first ones, how long a worker's place was free before it."""
        free = zip(self.started[places:], self.finished, strict=False)
        return [max(0.0, started - finished) for started, finished in free]


def times(made: Fleet, commit: str, deployments: int) -> Times:
    """Read them, and make sure that everything was done at the first attempt."""
    recorded, started, finished, taken, failed, attempts = made.ask(TIMES, commit)[0]
    if failed or attempts != 1 or len(finished) != deployments:
        raise RuntimeError(f"{failed} of {len(finished)} operations failed; attempts {attempts}")
    return Times(recorded=recorded, started=started, finished=finished, taken=taken)


def control_cpu(made: Fleet) -> float:
    """Processor time of the server's processes that serve the control database now; they live long."""
    total = 0.0
    for child in psutil.Process(made.server_pid).children():
        with suppress(psutil.Error):
            if f" {CONTROL} " in " ".join(child.cmdline()):
                total += sum(child.cpu_times()[:2])
    return total


def roll_out(made: Fleet, deployments: int, number: int) -> None:
    """Commit a small change, and tell how it went over all deployments."""
    plan = (made.repository / "modules/shop/sqitch.plan").read_text()
    made.write(one_more(SHOP, number, more_table(SHOP, number), plan))
    pids = [daemon.pid for daemon in made.daemons]
    server, daemons = cpu_seconds(made.server_pid), sum(map(cpu_seconds, pids))
    began = time.time()
    with watched(pids) as usage:
        commit = made.commit()
        until(lambda: made.ask(TIMES, commit), "the rollout to be recorded", deadline_s=600, pause_s=0.1)
        planned = sum(map(cpu_seconds, pids)), cpu_seconds(made.server_pid), control_cpu(made)
        until(
            lambda: made.value(OPEN) == 0,
            "the rollout to end", deadline_s=120 + deployments, pause_s=0.1,
        )  # fmt: skip
        done = sum(map(cpu_seconds, pids)), cpu_seconds(made.server_pid), control_cpu(made)
    found = times(made, commit, deployments)
    own, theirs, control = (after - before for after, before in zip(done, planned, strict=True))
    cost = (own + theirs) / deployments
    bound = CORES / cost
    verdict = "within" if max(found.rate, 0) >= GOAL else "UNDER"
    tell(
        f"{len(pids)} daemons: operations",
        f"{found.rate:.1f} a second",
        limit=f"{verdict} its goal of {GOAL:g}",
    )
    tell(
        "  processor time of an operation",
        f"{cost * 1000:.1f} ms",
        peer=f"daemons {own / deployments * 1000:.1f} ms, PostgreSQL {theirs / deployments * 1000:.1f} ms, "
        f"of that the control database {control / deployments * 1000:.1f} ms; "
        f"two cores for themselves would do {bound:.0f} a second",
    )
    tell_seconds("  commit to record, all planned", [found.recorded - began])
    tell(
        "    processor time of planning one",
        f"{(planned[1] - server) / deployments * 1000:.1f} ms of PostgreSQL, "
        f"{(planned[0] - daemons) / deployments * 1000:.1f} ms of the daemons",
    )
    tell_seconds("  an operation, claim to end", found.taken)
    # All databases are of one server.
    waits = found.waits(min(WORKERS * len(pids), PER_SERVER))
    if waits:
        tell_seconds("  a free place to its next claim", waits)
    tell(
        "  resident, all daemons",
        f"peak {megabytes(usage.peak)}, p50 of one {megabytes(int(p50([usage.peak])) // len(pids))}",
    )


def start(made: Fleet, count: int) -> list[Daemon]:
    """Have so many daemons run."""
    while len(made.daemons) < count:
        made.add_daemon(workers=WORKERS).start()
    return made.daemons


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--daemons", default="1,2,4", help="numbers of daemons, one after the other")
    parser.add_argument("--rounds", type=int, default=1, help="commits for each number of daemons")
    options = parser.parse_args(arguments)
    print(f"one commit over {options.deployments} deployments of an environment, a database each:\n")
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder), durable=False) as made:
            made.write(spec(options.deployments) | module(SHOP, small_module(SHOP)))
            made.commit()
            start(made, 1)
            until(
                lambda: made.value(FIRST) is not None,
                "the first rollout", deadline_s=300 + options.deployments * 2, pause_s=0.5,
            )  # fmt: skip
            tell("first rollout, which makes the databases", f"{made.value(FIRST):.1f} s")
            number = len(small_module(SHOP))
            for count in map(int, options.daemons.split(",")):
                start(made, count)
                for _ in range(options.rounds):
                    made.until_quiet(quiet_s=3.0, deadline_s=300 + options.deployments)
                    roll_out(made, options.deployments, number)
                    number += 1
    return 0


if __name__ == "__main__":
    asyncio.run(main())
