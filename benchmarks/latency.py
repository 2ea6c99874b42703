"""From a commit in a local repository to its being applied everywhere, and of that until it is noticed."""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.running import Running, running

QUICK = ["--commits", "6"]
APPLIED_LIMIT_S = 1.0
NOTICED_LIMIT_S = 0.1


def change(number: int, plan: str) -> dict[str, str]:
    """One more one-table change."""
    line = f"more{number} 2026-03-01T00:00:{number % 60:02d}Z Bench <bench@example.org> # {number}\n"
    return {
        "modules/shop/sqitch.plan": plan + line,
        f"modules/shop/deploy/more{number}.sql": f"BEGIN;\nCREATE TABLE shop.more{number} (id int);\nCOMMIT;\n",
    }


def noticed_after(made: Running, since: float) -> float:
    """Seconds from a time until the first file wake after it, by the daemon's log."""
    for line in made.log.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("event") == "wake.received" and row.get("cause") == "file":
            at = datetime.fromisoformat(row["timestamp"]).timestamp()
            if at >= since:
                return at - since
    raise RuntimeError("no wake by a file was logged")


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=20)
    options = parser.parse_args(arguments)
    applied, noticed = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as made:
            for number in range(options.commits + 1):
                plan = (made.repository / "modules/shop/sqitch.plan").read_text()
                commit = await asyncio.to_thread(made.commit, change(number, plan))
                began, wall = time.perf_counter(), time.time()
                await asyncio.to_thread(made.until_applied, commit)
                if number:
                    applied.append(time.perf_counter() - began)
                    # The wake may come while `git commit` is still running; that counts as at once.
                    noticed.append(max(0.0, noticed_after(made, wall - 0.05) - 0.05))
                await asyncio.sleep(0.2)
    for name, seconds, limit in (
        ("commit to applied on two deployments", applied, APPLIED_LIMIT_S),
        ("commit to noticed", noticed, NOTICED_LIMIT_S),
    ):
        middle = statistics.median(seconds)
        verdict = "within" if middle <= limit else "OVER"
        print(
            f"{name}: p50 {middle * 1000:.0f} ms, worst of {len(seconds)} {max(seconds) * 1000:.0f} ms; "
            f"{middle / limit:.2f} of its limit of {limit * 1000:.0f} ms, {verdict}"
        )
    return 0


if __name__ == "__main__":
    asyncio.run(main())
