"""A commit a second for some minutes: what the daemons take of the machine and of the servers stays flat."""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pytest

from tests.plugins.daemon import until
from tests.plugins.fleet import LONGER, Fleet, Member, source_with_webhook

SOAK_S = 30.0 * LONGER
ENVIRONMENTS = [f"shop-{number}" for number in range(6)]
MIB = 1024 * 1024
ROOM = {"processes": 6.0, "descriptors": 12.0, "threads": 4.0, "connections": 12.0, "resident": 5.0 * MIB}
"""How much more the last third may take than the middle one: connections come and go with the load, and are
kept for a minute. What grew with every second commit would be over it."""
CONNECTIONS_MAX = 40
PACKS_MAX = 60


class Series:
    """Samples of one number, by what it is of."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)

    def take(self, fleet: Fleet, members: Sequence[Member]) -> None:
        """Look once at everything that could grow."""
        for member in members:
            for name, value in asdict(member.footprint()).items():
                self._samples[f"{name} of {member.folder.name}"].append(value)
        self._samples["connections"].append(sum(row[2] for row in fleet.backends()))

    def thirds(self) -> dict[str, tuple[float, float, float]]:
        """The median of each third of each series."""
        return {
            name: (
                median(values[: len(values) // 3]),
                median(values[len(values) // 3 : 2 * len(values) // 3]),
                median(values[2 * len(values) // 3 :]),
            )
            for name, values in self._samples.items()
        }

    @property
    def most_connections(self) -> float:
        return max(self._samples["connections"])


def module(number: int, changes: int) -> tuple[str, dict[str, str]]:
    """The module of an environment with so many changes."""
    name = f"shop-{number}"
    return name, {f"c{each}": f"create table {name.replace('-', '_')}_c{each} ();" for each in range(changes)}


def sizes(fleet: Fleet) -> dict[str, int]:
    """Bytes of the tables of the control database."""
    found = fleet.control(
        "select c.relname, pg_total_relation_size(c.oid) from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = 'reconciler_control' and c.relkind = 'r'"
    )
    return {str(name): int(size) for name, size in found}


def packs(member: Member) -> list[Path]:
    return list((member.folder / "state" / "sources").rglob("*.pack"))


def mirror_bytes(member: Member) -> int:
    files = (path for path in (member.folder / "state" / "sources").rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def report(fleet: Fleet, series: Series, commits: int, grown: dict[str, int]) -> None:
    """Say what was measured; shown where a test fails, or with -s."""
    for name, thirds in sorted(series.thirds().items()):
        shown = [value / MIB for value in thirds] if name.startswith("resident") else list(thirds)
        sys.stdout.write(f"{name}: " + " / ".join(f"{value:.1f}" for value in shown) + "\n")
    for name, size in sorted(grown.items(), key=lambda item: -item[1]):
        if size:
            sys.stdout.write(f"table {name}: {size / commits:.0f} bytes a commit\n")
    for member in fleet.members:
        sys.stdout.write(f"{member.folder.name}: {len(packs(member))} packs, {mirror_bytes(member)} bytes\n")


@pytest.mark.timeout(120 + 2 * SOAK_S)
@pytest.mark.parametrize("daemons", [2] if LONGER <= 1 else [1, 2])
def test_soak(fleet: Fleet, daemons: int) -> None:
    """Commits, webhooks and dry runs all the while: processes, descriptors, connections, memory stay flat."""
    counts = dict.fromkeys(range(len(ENVIRONMENTS)), 1)
    files: dict[str, str] = {}
    for number, name in enumerate(ENVIRONMENTS):
        files |= fleet.spec(name, module=name)
        of_module, changes = module(number, 1)
        files |= fleet.repository.module(changes, name=of_module)
    first = fleet.repository.commit(files)
    source = source_with_webhook(str(fleet.repository.path), interval="5s")
    members = [fleet.member(sources=[source]) for _ in range(daemons)]
    fleet.start()
    fleet.until_applied(first, ENVIRONMENTS)
    series = Series()
    before = sizes(fleet)
    began = time.monotonic()
    commits = 0
    commit = first

    def soaked() -> bool:
        """Once a second: a commit, a webhook, a dry run, and a look at what all of it takes."""
        nonlocal commits, commit
        if time.monotonic() - began < commits:
            return False
        number = commits % len(ENVIRONMENTS)
        counts[number] += 1
        of_module, changes = module(number, counts[number])
        commit = fleet.commit(changes, module=of_module)
        commits += 1
        member = members[commits % daemons]
        member.deliver(str(commits))
        member.plan(ENVIRONMENTS[number])
        series.take(fleet, members)
        return time.monotonic() - began > SOAK_S

    until(soaked, "the soak to end", deadline_s=60 + 1.5 * SOAK_S)
    fleet.until_applied(commit, ENVIRONMENTS)
    after = sizes(fleet)
    report(fleet, series, commits, {name: after[name] - before.get(name, 0) for name in after})
    for name, (_first, middle, last) in series.thirds().items():
        assert last <= middle * 1.02 + ROOM[name.split(" ")[0]], (name, series.thirds())
    assert series.most_connections <= CONNECTIONS_MAX * daemons
    for member in members:
        assert len(packs(member)) <= PACKS_MAX
        until(lambda member=member: member.footprint().processes == 0, "no Git process to be left")
    for number, name in enumerate(ENVIRONMENTS):
        recorded = fleet.server.run(
            "select name from reconciler.events where kind = 'deploy' order by event_id",
            database=f"{name}_eu",
        )
        assert recorded == [(each,) for each in module(number, counts[number])[1]]
    assert max(fleet.rollouts_of_commits().values()) == 1
    assert fleet.stop() == [0] * daemons
    assert fleet.backends() == []
    assert fleet.leftovers() == []
