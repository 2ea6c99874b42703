"""A program that is killed at each point of applying and removing a service, and looks at what is left.

`python -m tests.integration.runtimes.killed_anywhere FOLDER STEP`: every STEP-th point. A point is each time
that a file or folder of the runtime is about to be opened, made, moved or removed, or a program started.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from reconciler.runtimes.runtime import ServiceState
from tests.plugins.services import API, FOR_EVER, ProcessBench, shell

POINTS = {"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "subprocess.Popen"}
SPEC = shell(FOR_EVER, grace_s=1.0)


def forked(work: Callable[[], Coroutine[Any, Any, object]], root: Path, kill_at: int) -> int:
    """Do the work in a child that is killed at a point; returns how many points it came to."""
    said, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in POINTS and (event == "subprocess.Popen" or str(root) in str(arguments[0])):
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            asyncio.run(work())
            os.write(say, str(seen).encode())
        finally:
            os._exit(0)
    os.close(say)
    with os.fdopen(said, "rb") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return int(text or kill_at)


async def applied(bench: ProcessBench) -> list[str]:
    """What is wrong after applying it once more."""
    before = await bench.again().observe("production", "eu")
    found = await bench.again().apply(SPEC, "one")
    wrong = [] if found.state is ServiceState.HEALTHY else [repr(found)]
    if before and before[0].state is ServiceState.HEALTHY and before[0].handle != found.handle:
        wrong.append("what ran was started anew")
    return wrong + ([] if await bench.running() == 1 else [f"{await bench.running()} run"])


async def removed(bench: ProcessBench) -> list[str]:
    """What is wrong after removing it once more."""
    await bench.again().observe("production", "eu")
    await bench.again().remove(API, "one")
    wrong = [f"left: {bench.definitions()}"] if bench.definitions() else []
    return wrong + ([] if await bench.running() == 0 else [f"{await bench.running()} run"])


def main(folder: Path, step: int) -> dict[str, Any]:
    """Kill it at each point; returns how many points there were, and what was wrong after which."""
    bench = ProcessBench(folder)

    def apply() -> Coroutine[Any, Any, object]:
        return bench.again().apply(SPEC, "one")

    def remove() -> Coroutine[Any, Any, object]:
        return bench.again().remove(API, "one")

    points = {"apply": forked(apply, bench.root, 0)}
    asyncio.run(applied(bench))
    points["remove"] = forked(remove, bench.root, 0)
    wrong: dict[str, list[str]] = {}
    for at in range(1, max(points.values()) + 1, step):
        forked(apply, bench.root, at)
        found = asyncio.run(applied(bench))
        forked(remove, bench.root, at)
        found += asyncio.run(removed(bench))
        if found:
            wrong[str(at)] = found
    return {"points": points, "wrong": wrong}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
