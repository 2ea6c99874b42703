"""A rollout of many services over stages by a daemon, then passes with nothing to do, then a few that change.

Each service is a program that listens on its port after a time of its own, drawn with a seed. Beside it, in the
same run: the same programs started stage by stage without any daemon, each stage until all its ports answer and
did so for as long as a service has to stay healthy. No stage may take longer than its slowest service plus a
tenth.
"""

import argparse
import asyncio
import json
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import psutil

from benchmarks.content import DSN_VARIABLE
from benchmarks.fleet import Daemon, Fleet, fleet, until
from benchmarks.meters import cpu_seconds, megabytes, p50, tell, verdict, watched
from reconciler.runtimes import instance
from reconciler.runtimes.process import ProcessRuntime

QUICK = ["--services", "40"]
STAGES = 4
STEADY_S = 1.0
READY_S = (1.0, 6.0)
SEED = 7
LIMIT = 1.1
NO_OPS = 5
PYTHON = "/usr/bin/python3"
PROGRAM = (
    "import os,socket,time;time.sleep(float(os.environ['READY_S']));"
    "s=socket.create_server(('127.0.0.1',int(os.environ['PORT_HTTP'])));\n"
    "while 1:s.accept()[0].close()"
)
"""What is started, with `-I -S -c`: a few milliseconds of processor time."""
ROLLOUT = """
SELECT extract(epoch FROM created_at)::float8, extract(epoch FROM finished_at)::float8
FROM reconciler_control.rollouts WHERE commit = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A service: its stage, and how long after its start it listens."""

    name: str
    stage: str
    ready_s: float


def members(count: int) -> tuple[Member, ...]:
    """So many services, as many in each stage; the same at each call."""
    drawn = random.Random(SEED)
    return tuple(
        Member(name=f"s{at:03d}", stage=f"stage{at * STAGES // count}", ready_s=drawn.uniform(*READY_S))
        for at in range(count)
    )


def slowest(of: Sequence[Member]) -> dict[str, float]:
    """By stage, how long its slowest service takes to listen and to stay healthy for a while."""
    found: dict[str, float] = {}
    for each in of:
        found[each.stage] = max(found.get(each.stage, 0.0), each.ready_s + STEADY_S)
    return found


def spec(of: Sequence[Member], *, version: int, changed: int = 0) -> dict[str, str]:
    """The file of an environment; the first `changed` services have another version."""
    components = [
        {
            "name": each.name,
            "kind": "Service",
            "stage": each.stage,
            "runtime": {
                "process": {"command": [PYTHON, "-I", "-S", "-c", PROGRAM], "ports": [{"name": "http"}]}
            },
            "env": {"READY_S": str(each.ready_s), "VERSION": str(version if at < changed else 0)},
            "health": {"tcp": {"port": "http"}, "steady": f"{STEADY_S:g}s"},
        }
        for at, each in enumerate(of)
    ]
    whole = {
        "apiVersion": "reconciler/v1",
        "kind": "Environment",
        "metadata": {"name": "shop"},
        "spec": {
            "stages": [{"name": name} for name in dict.fromkeys(each.stage for each in of)],
            "deployments": [{"name": "eu", "postgres": {"dsn": {"env": DSN_VARIABLE}}}],
            "components": components,
        },
    }
    # JSON is YAML.
    return {"environments/shop.yaml": json.dumps(whole)}


# ---- by us


def roll_out(made: Fleet, daemon: Daemon, files: Mapping[str, str], count: int) -> tuple[str, float]:
    """Commit, and wait for the end of its rollout; gives the commit and the time from it to the end."""
    made.write(files)
    began = time.time()
    commit = made.commit()

    def finished() -> bool:
        found = made.ask(ROLLOUT, commit)
        if not found or found[0][1] is None:
            return False
        if not made.applied(commit):
            raise RuntimeError("the rollout failed")
        return True

    try:
        until(finished, "the rollout", deadline_s=60 + count * 2, pause_s=0.1)
    except RuntimeError as error:
        told = [line for line in daemon.log.path.read_text().splitlines() if '"debug"' not in line]
        raise RuntimeError(f"{error}:\n" + "\n".join(told)[-3000:]) from None
    return commit, float(made.ask(ROLLOUT, commit)[0][1]) - began


def steps(daemon: Daemon, kind: str) -> list[tuple[str, float, float]]:
    """Components of steps of a kind that the log tells of since the last time, with begin and end."""
    found = []
    for line in daemon.log.lines():
        if line.get("event") == "step.finished" and line["kind"] == kind and line["ok"]:
            ended = datetime.fromisoformat(line["timestamp"]).timestamp()
            found.append((line["component"], ended - line["duration_s"], ended))
    return found


def stage_times(rows: Sequence[tuple[str, float, float]], stages: Mapping[str, str]) -> dict[str, float]:
    """By stage, from the first beginning of a step of it to the last end of one."""
    times: dict[str, list[tuple[float, float]]] = {}
    for component, began, ended in rows:
        times.setdefault(stages[component], []).append((began, ended))
    return {
        stage: max(ended for _, ended in of) - min(began for began, _ in of)
        for stage, of in sorted(times.items())
    }


def supervisors(folder: Path) -> list[psutil.Process]:
    """The supervisors of the services of a daemon."""
    held = (instance.holder(each.parent) for each in folder.glob("*/*/*/*/lock"))
    return [psutil.Process(pid) for pid in held if pid is not None and pid > 0]


def tell_supervisors(folder: Path, count: int) -> None:
    """What stands above the services, and what it takes."""
    there = supervisors(folder)
    times = [each.cpu_times() for each in there]
    own = sum(each.memory_full_info().uss for each in there)
    tell(
        "supervisors",
        f"{len(there)} of {count}; {sum(each.user + each.system for each in times) / len(there) * 1000:.0f} ms of"
        f" processor time each since their start, {own / len(there) / 1024 / 1024:.1f} MB of their own each",
    )


def no_op(made: Fleet, daemon: Daemon, files: Mapping[str, str], rounds: int) -> None:
    """Commits that change nothing, from the commit to where it is applied; processor time of a pass."""
    taken, spent, of_server = [], [], []
    for number in range(rounds):
        made.until_quiet(quiet_s=1.0)
        made.write({**files, "README": f"{number}\n"})
        cpu, server, began = cpu_seconds(daemon.pid), cpu_seconds(made.server_pid), time.perf_counter()
        commit = made.commit()
        until(partial(made.applied, commit), "a pass with nothing to do", pause_s=0.005)
        taken.append(time.perf_counter() - began)
        spent.append(cpu_seconds(daemon.pid) - cpu)
        of_server.append(cpu_seconds(made.server_pid) - server)
    tell("a commit that changes nothing", f"{p50(taken) * 1000:.0f} ms to where it is applied")
    tell(
        "  processor time",
        f"daemon {p50(spent) * 1000:.0f} ms, PostgreSQL {p50(of_server) * 1000:.0f} ms",
    )


def dry_run(daemon: Daemon, rounds: int) -> None:
    """What there is to do, asked over HTTP: everything is looked at for it."""
    taken, spent = [], []
    for _ in range(rounds):
        cpu, began = cpu_seconds(daemon.pid), time.perf_counter()
        if daemon.get("/v1/environments/shop/diff") is None:
            raise RuntimeError(f"no dry run, see {daemon.log.path}")
        taken.append(time.perf_counter() - began)
        spent.append(cpu_seconds(daemon.pid) - cpu)
    tell(
        "a dry run", f"{p50(taken) * 1000:.0f} ms, {p50(spent) * 1000:.0f} ms of the daemon's processor time"
    )


# ---- without us


def bare(of: Sequence[Member]) -> dict[str, float]:
    """The same programs without a daemon: how long each stage takes."""
    running: list[subprocess.Popen[bytes]] = []
    found: dict[str, float] = {}
    try:
        for stage in dict.fromkeys(each.stage for each in of):
            began = time.perf_counter()
            waiting: dict[int, float | None] = {}
            for each in of:
                if each.stage != stage:
                    continue
                port = _free_port()
                waiting[port] = None
                running.append(
                    subprocess.Popen(
                        [PYTHON, "-I", "-S", "-c", PROGRAM],
                        env={"READY_S": str(each.ready_s), "PORT_HTTP": str(port)},
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )  # fmt: skip
            until(partial(_all_answer, waiting), f"the ports of {stage}", pause_s=0.02)
            found[stage] = time.perf_counter() - began
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _all_answer(waiting: dict[int, float | None]) -> bool:
    """Whether all ports answer and have done so for a while; notes since when each does."""
    for port, since in waiting.items():
        if since is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                waiting[port] = time.perf_counter()
    now = time.perf_counter()
    return all(since is not None and now - since >= STEADY_S for since in waiting.values())


# ---- all of it


def tell_stages(ours: Mapping[str, float], theirs: Mapping[str, float], least: Mapping[str, float]) -> bool:
    """Each stage beside its slowest service and beside the same without us; whether all are within the limit."""
    within = True
    for stage, taken in ours.items():
        within &= taken <= least[stage] * LIMIT
        tell(
            f"  {stage}",
            f"{taken:.2f} s, {taken / least[stage]:.2f} times its slowest service's {least[stage]:.2f} s",
            limit=verdict(taken, least[stage] * LIMIT, f"{LIMIT:g} times"),
            peer=f"{taken / theirs[stage]:.2f} times the bare {theirs[stage]:.2f} s",
        )
    return within


def measure(made: Fleet, count: int) -> bool:
    """Roll out, do nothing, change some, and end all of it."""
    of = members(count)
    theirs = bare(of)
    daemon = made.add_daemon(interval="1s")
    place = daemon.folder / "state" / "services"
    files = spec(of, version=0)
    made.write({"README": "\n"})
    made.commit()
    daemon.start()
    made.until_quiet(quiet_s=1.0)
    try:
        server = cpu_seconds(made.server_pid)
        with watched([daemon.pid]) as usage:
            _, taken = roll_out(made, daemon, files, count)
        server = cpu_seconds(made.server_pid) - server
        least, stages = slowest(of), {each.name: each.stage for each in of}
        whole = sum(theirs.values())
        tell(
            "commit to all applied",
            f"{taken:.1f} s",
            peer=f"{taken / whole:.2f} times the bare {whole:.1f} s",
        )
        within = tell_stages(stage_times(steps(daemon, "roll-service"), stages), theirs, least)
        tell(
            "  processor time",
            f"daemon {usage.cpu_s:.1f} s, PostgreSQL {server:.1f} s",
            peer=f"{(usage.cpu_s + server) / count * 1000:.0f} ms for each service",
        )
        tell("  resident, daemon", f"peak {megabytes(usage.peak)}, then {megabytes(usage.steady)}")
        tell_supervisors(place, count)
        no_op(made, daemon, files, NO_OPS)
        dry_run(daemon, NO_OPS)
        tenth = max(1, count // 10)
        _, taken = roll_out(made, daemon, spec(of, version=1, changed=tenth), count)
        least = slowest(of[:tenth])
        tell(f"another version of {tenth}", f"{taken:.1f} s")
        found = stage_times(steps(daemon, "roll-service"), stages)
        for stage, seconds in found.items():
            tell(f"  {stage}", f"{seconds:.2f} s, {seconds / least[stage]:.2f} times its slowest service's")
    finally:
        made.stop_daemons()
        asyncio.run(_end(place))
    return within


async def _end(place: Path) -> None:
    """End what runs; the daemon does not."""
    runtime = ProcessRuntime(place)
    found = await runtime.observe("shop", "eu")
    await asyncio.gather(*(runtime.remove(each.identity, each.instance) for each in found))


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=200)
    options = parser.parse_args(arguments)
    print(
        f"{options.services} services in {STAGES} stages, {READY_S[0]:g} to {READY_S[1]:g} s until they listen:\n"
    )
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder), durable=False) as made:
            within = await asyncio.to_thread(measure, made, options.services)
    return 0 if within else 1


if __name__ == "__main__":
    asyncio.run(main())
