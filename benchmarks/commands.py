"""`diff` and `status` as whole commands over a small environment, beside a daemon and without one."""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.running import Running, running
from benchmarks.setting import table

QUICK = ["--rounds", "5"]
LIMIT_S = 0.7


def timed(made: Running, *arguments: str) -> float:
    """Seconds of one command, start-up and all."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", *arguments, "--config", str(made.config)],
        env=made.environ, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode not in {0, 3, 4}:
        raise RuntimeError(done.stderr.decode())
    return time.perf_counter() - began


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    commands = {
        "status, asking the daemon": ("status", "production"),
        "diff, asking the daemon": ("diff", "production"),
        "diff, without a daemon": ("diff", "production"),
        "status, without a daemon": ("status", "production"),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as made:
            text = made.config.read_text()
            lonely = Path(folder) / "lonely.yaml"
            lonely.write_text(text.replace(made.url.rpartition(":")[2], "1"))
            without = Running(
                url=made.url, config=lonely, repository=made.repository, log=made.log, environ=made.environ
            )
            for number in range(options.rounds + 1):
                for name, command in commands.items():
                    where = without if "without" in name else made
                    seconds = await asyncio.to_thread(timed, where, *command)
                    if number:
                        taken[name].append(seconds)
    print(table("whole commands", taken, []))
    for name, seconds in taken.items():
        middle = sorted(seconds)[len(seconds) // 2]
        print(f"  {name}: {middle / LIMIT_S:.2f} of its limit of {LIMIT_S * 1000:.0f} ms")
    return 0


if __name__ == "__main__":
    asyncio.run(main())
