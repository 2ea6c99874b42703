"""The dry run of 2,000 SQL objects of which nothing changed: as a whole command without a daemon, and over HTTP.

A command reads, parses and compiles all of them anew; a daemon that has looked at the commit before has them.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.content import DSN_VARIABLE
from benchmarks.dry_run import ask
from benchmarks.fleet import Daemon, Fleet, fleet, until
from benchmarks.meters import cpu_seconds, tell, tell_seconds

QUICK = ["--objects", "400", "--rounds", "3"]
COLD_S = 1.0
WARM_S = 0.1
IN_A_SCHEMA = 100
NAME = "objects"
SPEC = f"""\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: {NAME}}}
spec:
  deployments:
    - {{name: one, postgres: {{dsn: {{env: {DSN_VARIABLE}}}}}}}
  components:
    - {{name: data, kind: Database, database: bench_objects}}
    - {{name: reports, kind: Objects, database: {{from: data}}, path: objects, retain: 0s}}
"""


def files(objects: int) -> dict[str, str]:
    """An environment with so many views, each schema's over the first of the schema before."""
    found = {"environments/objects.yaml": SPEC}
    for number in range(objects):
        schema, place = divmod(number, IN_A_SCHEMA)
        source = f"s{schema}.v0" if place else f"s{schema - 1}.v0" if schema else "pg_class"
        columns = "oid AS id, relname AS name" if source == "pg_class" else "id, name"
        text = f"CREATE VIEW v{place} AS\nSELECT {columns}\nFROM {source}\nWHERE length(name) > {place};\n"
        if source == "pg_class":
            text = text.replace("length(name)", "length(relname)")
        found[f"objects/s{schema}/v{place}.sql"] = (
            f"-- number {number}\n{text}COMMENT ON VIEW v{place} IS 'one';\n"
        )
    return found


def command(made: Fleet, folder: Path) -> tuple[float, float]:
    """Seconds, and those of a processor, of one whole `diff` that asks no daemon."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "diff", NAME, "--output", "json", "--config", str(folder / "reconciler.yaml")],
        env=dict(made.environ), capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0 or not json.loads(done.stdout)["in_sync"]:
        raise RuntimeError(done.stderr.decode() or "something is pending")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def without(made: Fleet, daemon: Daemon) -> Path:
    """Settings of the same source that lead to no daemon, and to a mirror of their own."""
    folder = made.folder / "lonely"
    folder.mkdir()
    settings = json.loads((daemon.folder / "reconciler.yaml").read_text())
    settings |= {"state_dir": str(folder / "state"), "listen": "127.0.0.1:1"}
    (folder / "reconciler.yaml").write_text(json.dumps(settings))
    return folder


async def main(arguments: Sequence[str] | None = None) -> int:
    """Roll objects out once, and ask again and again what there is to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        async with fleet(Path(folder)) as made:
            made.write(files(options.objects))
            commit = made.commit()
            daemon = made.add_daemon()
            daemon.start()
            began = time.perf_counter()
            until(lambda: made.applied(commit) == 1, "the first rollout", deadline_s=300)
            tell(f"{options.objects} objects, first rollout", f"{time.perf_counter() - began:.1f} s")
            made.until_quiet()
            lonely = without(made, daemon)
            await asyncio.to_thread(command, made, lonely)  # brings the mirror
            cold = [await asyncio.to_thread(command, made, lonely) for _ in range(options.rounds)]
            await asyncio.to_thread(ask, daemon, [NAME], None, 2)
            used = cpu_seconds(daemon.pid)
            warm = await asyncio.to_thread(ask, daemon, [NAME], None, options.rounds)
            used = cpu_seconds(daemon.pid) - used
            tell_seconds("diff, a whole command without a daemon", [each for each, _ in cold], limit=COLD_S)
            tell("  of that a processor", f"{sorted(each for _, each in cold)[len(cold) // 2] * 1000:.0f} ms")
            tell_seconds("diff over HTTP, again", warm, limit=WARM_S)
            tell("  of that a processor, of the daemon", f"{used / options.rounds * 1000:.0f} ms")
    return 0


if __name__ == "__main__":
    asyncio.run(main())
