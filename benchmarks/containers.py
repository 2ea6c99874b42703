"""A rollout of containers by a daemon on a Docker Engine of its own, beside `docker run` of the same.

It needs root and what the tests of containers need (`tools/install-system-packages`). The client of Docker starts
as many at once as we do, and one after the other; rounds alternate. Nothing is pulled: the image is there.
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.content import DSN_VARIABLE
from benchmarks.fleet import Daemon, Fleet, fleet
from benchmarks.meters import cpu_seconds, p50, tell, tell_seconds, watched
from benchmarks.services import ROLLOUT, roll_out, stage_times, steps
from reconciler.execution.resources import STARTED_AT_ONCE_MAX
from tests.system.container_bench import BUSYBOX, IMAGE, running_engine
from tests.system.engine import DOCKER, Engine

QUICK = ["--containers", "5", "--rounds", "1"]
COMMAND = ("/bin/sleep", "100000")
LIMIT = 1.5
STEADY_S = 0.1
NEEDED = (DOCKER, "dockerd", "nsenter", "ip", str(BUSYBOX))


def spec(count: int, version: int) -> dict[str, str]:
    """The file of an environment with so many containers, each of this version."""
    components = [
        {
            "name": f"c{number:02d}",
            "kind": "Service",
            "runtime": {"container": {"image": IMAGE, "command": list(COMMAND)}},
            "env": {"VERSION": str(version)},
            "health": {"steady": f"{STEADY_S * 1000:.0f}ms"},
            "grace": "0s",
        }
        for number in range(count)
    ]
    whole = {
        "apiVersion": "reconciler/v1",
        "kind": "Environment",
        "metadata": {"name": "shop"},
        "spec": {
            "policy": {"prune": True},
            "deployments": [{"name": "eu", "postgres": {"dsn": {"env": DSN_VARIABLE}}}],
            "components": components,
        },
    }
    # JSON is YAML.
    return {"environments/shop.yaml": json.dumps(whole)}


def by_client(engine: Engine, count: int, at_once: int) -> float:
    """Start so many by the client, and end them; how long it took to start them."""
    names = [f"bare{number}" for number in range(count)]

    def run(name: str) -> None:
        engine.docker("run", "--detach", "--init", "--name", name, "--env", "VERSION=0", IMAGE, *COMMAND)

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, names))
    taken = time.perf_counter() - began
    engine.docker("rm", "--force", *names)
    return taken


def by_us(made: Fleet, daemon: Daemon, engine: Engine, count: int, version: int) -> tuple[float, float]:
    """Roll out so many, and take them away again; the time of the rollout, and of its stage."""
    daemon.log.skip()
    commit, _ = roll_out(made, daemon, spec(count, version), count)
    began, ended = made.ask(ROLLOUT, commit)[0]
    there = engine.docker("ps", "--quiet", "--filter", "label=reconciler.owner").stdout.split()
    if len(there) != count:
        raise RuntimeError(f"{len(there)} of {count} containers run")
    rows = steps(daemon, "roll-service")
    stage = stage_times(rows, {component: "services" for component, _, _ in rows})
    roll_out(made, daemon, spec(1, version), count)
    return ended - began, max(stage.values())


def measure(made: Fleet, engine: Engine, count: int, rounds: int) -> bool:
    """Rounds in which they take turns."""
    daemon = made.add_daemon(interval="1s")
    place = daemon.folder / "reconciler.yaml"
    settings = json.loads(place.read_text())
    place.write_text(json.dumps({**settings, "runtimes": {"container": {"host": engine.address}}}))
    made.write({"README": "\n"})
    made.commit()
    daemon.start()
    one, many, whole, stages = [], [], [], []
    spent = 0.0
    try:
        with watched([daemon.pid]) as usage:
            for version in range(rounds):
                many.append(by_client(engine, count, STARTED_AT_ONCE_MAX))
                before = cpu_seconds(daemon.pid)
                rollout, stage = by_us(made, daemon, engine, count, version)
                spent += cpu_seconds(daemon.pid) - before
                whole.append(rollout)
                stages.append(stage)
                one.append(by_client(engine, count, 1))
    finally:
        made.stop_daemons()
        there = engine.docker("ps", "--quiet", "--all").stdout.split()
        if there:
            engine.docker("rm", "--force", *there)
    tell_seconds("docker run, one after the other", one)
    tell_seconds(f"docker run, {STARTED_AT_ONCE_MAX} at once", many)
    tell_seconds("rollout, from its record to its end", whole, bare=many)
    tell_seconds("  its stage", stages, bare=many)
    ratio = p50(stages) / p50(many)
    tell(
        "  beside docker run",
        f"{ratio:.2f} times",
        limit=f"{'within' if ratio <= LIMIT else 'OVER'} {LIMIT:g}",
    )
    each = spent / count / rounds * 1000
    tell("daemon", f"{each:.0f} ms of processor time for each, its removal included")
    tell("  resident", f"peak {usage.peak / 1024 / 1024:.0f} MB")
    return ratio <= LIMIT


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or os.getuid() != 0:
        print(f"containers: left out, for this needs root and: {', '.join(NEEDED)}")
        return 0
    print(f"{options.containers} containers of one image on an engine of their own:\n")
    with (
        tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder,
        running_engine() as (engine, _),
    ):
        async with fleet(Path(folder), durable=False) as made:
            within = await asyncio.to_thread(measure, made, engine, options.containers, options.rounds)
    return 0 if within else 1


if __name__ == "__main__":
    asyncio.run(main())
