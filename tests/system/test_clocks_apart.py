"""Daemons whose clocks are an hour apart, or jump, work together: what decides is the database's clock."""

import re
import signal
import time
from pathlib import Path

import pytest

from tests.plugins.daemon import until
from tests.plugins.fleet import Fleet, Member, gate, open_gate

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

LIBRARY = "/usr/$LIB/faketime/libfaketime.so.1"
"""The dynamic linker fills in the folder of the machine's kind."""
HOUR_S = 3600.0
NAMES = tuple(f"shop-{number}" for number in range(6))
NEVER = "1h"
"""An interval so long that nothing in a test happens because of it."""
WAITING = "select count(*) from pg_stat_activity where query like '%do $$%' and application_name like 'rec%'"
WORKERS = "select id from reconciler_control.workers where reconciler_control.is_alive(id) order by id"


def faked(offset: str) -> dict[str, str]:
    """The environment of a process, and of those it starts, whose clock is off; durations are not."""
    return {
        "LD_PRELOAD": LIBRARY,
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }


def metrics(member: Member) -> dict[str, float]:
    """The samples of a scrape by name and labels."""
    status, text = member.get("/metrics")
    assert status == 200
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


def is_off_by(member: Member) -> float:
    """By how much the clock of a daemon differs from ours, in seconds, as its own metrics tell."""
    beat = "reconciler_worker_last_heartbeat_timestamp_seconds"
    until(lambda: metrics(member)[beat] > 0, "a first heartbeat")
    return metrics(member)[beat] - time.time()


def specs(fleet: Fleet) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in NAMES:
        files |= fleet.spec(name)
    return files


def deployed(fleet: Fleet, name: str) -> list[tuple[str, int]]:
    """The changes of an environment's database, with how often each was made."""
    statement = "select name, count(*) from reconciler.events where kind = 'deploy' group by 1 order by 1"
    return fleet.server.run(statement, database=f"{name}_eu")


@pytest.fixture
def apart(fleet: Fleet) -> list[Member]:
    """Three daemons, not started yet: one is right, one is an hour ahead, one is an hour behind."""
    members = [fleet.member(interval=NEVER, limits={"lease": "6s", "heartbeat": "500ms"}) for _ in range(3)]
    for member, offset in zip(members, ("+0s", "+3600s", "-3600s"), strict=True):
        member.environ |= faked(offset)
    return members


def test_each_change_is_made_once(fleet: Fleet, apart: list[Member]) -> None:
    """Three commits land once everywhere, no lease is lost or taken, and no duration is out of this world."""
    changes = {"a": "create table a ();"}
    commits = [fleet.commit(changes, specs(fleet))]
    fleet.start()
    for member, expected in zip(apart, (0.0, HOUR_S, -HOUR_S), strict=True):
        assert abs(is_off_by(member) - expected) < 60
    fleet.until_applied(commits[-1], NAMES)
    until(lambda: len(fleet.control(WORKERS)) == 3, "all to be alive")
    workers = fleet.control(WORKERS)
    for change in ("b", "c"):
        changes[change] = f"create table {change} ();"
        commits.append(fleet.commit(changes))
        fleet.until_applied(commits[-1], NAMES)
    for name in NAMES:
        assert deployed(fleet, name) == [("a", 1), ("b", 1), ("c", 1)]
    assert fleet.rollouts_of_commits() == {(name, commit): 1 for name in NAMES for commit in commits}
    assert fleet.control(WORKERS) == workers
    for member in apart:
        samples = metrics(member)
        assert samples["reconciler_lease_losses_total"] == 0
        sums = {name: value for name, value in samples.items() if "_seconds_sum" in name}
        assert sums
        assert not {name: value for name, value in sums.items() if not 0 <= value < HOUR_S / 2}
        durations = [line["duration_s"] for line in member.logged() if "duration_s" in line]
        assert durations
        assert 0 <= min(durations) <= max(durations) < HOUR_S / 2
    assert fleet.stop() == [0, 0, 0]


@pytest.mark.parametrize("struck", [1, 2], ids=["ahead", "behind"])
def test_takeover_goes_by_the_clock_of_the_database(fleet: Fleet, apart: list[Member], struck: int) -> None:
    """One that freezes past its lease is taken over from, and one that is killed, whichever way it is off."""
    commit = fleet.commit(
        {"a": "create table a ();", "gate": "insert into a default values; " + gate("clock")}, specs(fleet)
    )
    first = apart[struck]
    fleet.start(first)
    until(lambda: fleet.server.run(WAITING) > [(0,)], "a change to run")
    others = [member for member in apart if member is not first]
    fleet.start(*others)
    first.send(signal.SIGSTOP)
    until(lambda: len(fleet.control(WORKERS)) == 2, "the frozen one to be given up")
    open_gate(fleet.server, "clock")
    fleet.until_applied(commit, NAMES)
    first.send(signal.SIGCONT)
    until(lambda: len(fleet.control(WORKERS)) == 3, "it to be back")
    first.kill()
    until(lambda: len(fleet.control(WORKERS)) == 2, "the killed one to be given up")
    later = fleet.commit({"a": "create table a ();", "gate": "insert into a default values; " + gate("clock"),
                          "b": "create table b ();"})  # fmt: skip
    fleet.until_applied(later, NAMES)
    for name in NAMES:
        assert deployed(fleet, name) == [("a", 1), ("b", 1), ("gate", 1)]
        assert fleet.server.run("select count(*) from a", database=f"{name}_eu") == [(1,)]


@pytest.mark.parametrize("jump", ["+3600s", "-3600s"], ids=["ahead", "back"])
def test_timers_survive_a_jump(fleet: Fleet, tmp_path: Path, jump: str) -> None:
    """A clock that is set by an hour while the daemon runs stops no timer: drift is soon seen."""
    name = NAMES[0]
    clock = tmp_path / "clock"
    clock.write_text("+0s\n")
    sources = [{"name": "shop", "url": str(fleet.repository.path), "interval": "1s", "drift_interval": "1s"}]
    member = fleet.member(sources=sources)
    member.environ |= faked("")
    del member.environ["FAKETIME"]
    member.environ["FAKETIME_TIMESTAMP_FILE"] = str(clock)
    commit = fleet.commit({"a": "create table a ();"}, fleet.spec(name))
    member.start()
    fleet.until_applied(commit, [name])
    clock.write_text(f"{jump}\n")
    until(lambda: abs(is_off_by(member)) > HOUR_S / 2, "its clock to jump")
    fleet.server.run("alter table a add column by_hand text", database=f"{name}_eu")
    drifted = "select sum(drift) from reconciler_control.environment_deployments"
    until(lambda: fleet.control(drifted)[0][0], "the drift to be seen")
    assert fleet.control(WORKERS), "it has kept its lease"
    assert metrics(member)["reconciler_lease_losses_total"] == 0
