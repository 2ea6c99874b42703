"""Storms of kill -9, SIGSTOP and restarts over three daemons that roll out: each change is there once."""

import os
import random
import signal
import sys
import time
from bisect import insort
from dataclasses import dataclass

import pytest

from tests.plugins.daemon import until
from tests.plugins.fleet import LONGER, Fleet, Member

SEED = int(os.environ.get("RECONCILER_TEST_SEED") or 20260101)
ENVIRONMENTS = [f"shop-{number:02d}" for number in range(12)]
COMMITS = 3
CHANGES_A_COMMIT = 3
STORM_S = 15.0 * LONGER
LEASE_S = 3.0
LIMITS = {
    "lease": f"{LEASE_S:g}s",
    "heartbeat": "500ms",
    "retry_base": "200ms",
    "retry_ceiling": "1s",
    "stop_grace": "2s",
    # The storm kills whatever is under way, and nothing of it is to blame.
    "crashes": 100,
}
STOP_MOST_S = 45.0
AWAY = {"kill": (0.0, 2.0), "stop": (0.0, 1.0), "freeze": (0.2, 1.5), "freeze long": (4.0, 6.0)}
"""How long a daemon is away after each blow, at least and at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What happens to which daemon, when, and how long it is away."""

    at_s: float
    member: int
    kind: str
    away_s: float


def storm(seed: int, members: int, lasting_s: float) -> list[Blow]:
    """The blows of a seed; a daemon that is away is let alone until it had a moment to live."""
    chance = random.Random(seed)
    blows = []
    at = 0.0
    back = [0.0] * members
    while at < lasting_s:
        at += chance.uniform(0.3, 1.0)
        kind = chance.choices(list(AWAY), weights=[5, 2, 3, 2])[0]
        away = chance.uniform(*AWAY[kind])
        ready = [number for number in range(members) if back[number] <= at]
        if not ready:
            continue
        member = chance.choice(ready)
        back[member] = at + away + chance.uniform(0.2, 4.0)
        blows.append(Blow(at_s=at, member=member, kind=kind, away_s=away))
    return blows


def strike(member: Member, kind: str) -> None:
    if kind == "kill":
        member.send(signal.SIGKILL)
    elif kind == "stop":
        member.send(signal.SIGTERM)
    else:
        member.send(signal.SIGSTOP)


def come_back(member: Member, kind: str) -> None:
    """Start one that ended anew, let one that was frozen go on."""
    if kind.startswith("freeze"):
        member.send(signal.SIGCONT)
        return
    code = member.wait_ended()
    # A stop may come while the interpreter starts, before anybody is there to take it.
    assert code in ((-signal.SIGKILL,) if kind == "kill" else (0, -signal.SIGTERM)), member.tail()
    member.start(wait=False)


def changes(commits: int) -> dict[str, str]:
    """The plan after so many commits; each change leaves a row that shows how often it ran."""
    found = {"journal": "create table journal (change text);"}
    for commit in range(commits):
        for number in range(CHANGES_A_COMMIT):
            name = f"c{commit}_{number}"
            found[name] = (
                f"insert into journal values ('{name}'); select pg_sleep(0.4); create table {name} ();"
            )
    return found


class Weather:
    """Carries out the blows of a storm as their moments come."""

    def __init__(self, members: list[Member], blows: list[Blow]) -> None:
        self._members = members
        self._away: dict[int, Blow] = {}
        self._began = time.monotonic()
        todo = [(blow.at_s, False, blow) for blow in blows]
        todo += [(blow.at_s + blow.away_s, True, blow) for blow in blows]
        self._todo = sorted(todo, key=lambda item: item[:2])

    @property
    def is_calm(self) -> bool:
        return not self._todo

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self._began

    def blow(self) -> None:
        """Do what is due by now."""
        while self._todo and self._todo[0][0] <= self.passed_s:
            at, back, blow = self._todo.pop(0)
            member = self._members[blow.member]
            if not back:
                # A stop may take its time: one that is away still is let alone.
                if self._away.setdefault(blow.member, blow) is blow:
                    strike(member, blow.kind)
            elif self._away.get(blow.member) is blow:
                if blow.kind == "stop" and member.is_up:
                    assert self.passed_s < at + STOP_MOST_S, f"{blow}: no end\n{member.tail(20_000)}"
                    insort(self._todo, (self.passed_s + 0.1, True, blow), key=lambda item: item[:2])
                    continue
                del self._away[blow.member]
                come_back(member, blow.kind)


def assert_once(fleet: Fleet) -> None:
    """Every change is in every database once, and recorded once."""
    wanted = list(changes(COMMITS))
    for name in ENVIRONMENTS:
        database = f"{name}_eu"
        done = fleet.server.run("select change from journal order by change", database=database)
        assert done == [(each,) for each in wanted[1:]], name
        recorded = fleet.server.run(
            "select name from reconciler.changes order by position", database=database
        )
        assert recorded == [(each,) for each in wanted], name
        deployed = fleet.server.run(
            "select name from reconciler.events where kind = 'deploy' order by event_id", database=database
        )
        assert deployed == [(each,) for each in wanted], name


@pytest.mark.timeout(180 + 10 * STORM_S)
def test_storm_over_three_daemons(fleet: Fleet) -> None:
    """Sixty rollouts in a storm: then all is applied, once, and nothing is left behind."""
    blows = storm(SEED, 3, STORM_S)
    sys.stdout.write(f"RECONCILER_TEST_SEED={SEED}: " + "\n".join(map(str, blows)))
    files: dict[str, str] = {}
    for name in ENVIRONMENTS:
        files |= fleet.spec(name)
    members = [fleet.member(limits=LIMITS) for _ in range(3)]
    fleet.start()
    weather = Weather(members, blows)
    commits: list[str] = []

    def recorded() -> bool:
        """Whether every environment has a rollout of the newest commit; so each commit has its rollouts."""
        return sum(fleet.rollouts_of_commits().values()) >= len(ENVIRONMENTS) * len(commits)

    def all_pushed() -> bool:
        weather.blow()
        due = weather.passed_s >= STORM_S * len(commits) / COMMITS
        if due and len(commits) < COMMITS and recorded():
            commits.append(fleet.commit(changes(len(commits) + 1), files))
        return len(commits) == COMMITS and recorded() and weather.is_calm

    until(all_pushed, f"the storm to pass\n{fleet.told()}", deadline_s=60 + 3 * STORM_S)
    for member in members:
        until(member.ready, "a daemon to be ready in the calm")
    fleet.until_applied(commits[-1], ENVIRONMENTS, deadline_s=60)
    assert_once(fleet)
    counts = fleet.rollouts_of_commits()
    twice = sorted(name for (name, _commit), count in counts.items() if count != 1)
    assert not twice, "\n".join(fleet.history(name) for name in twice)
    assert set(counts) == {(name, commit) for name in ENVIRONMENTS for commit in commits}
    under_way = "select state::text from reconciler_control.operations where finished_at is null"
    until(lambda: fleet.control(under_way) == [], "every operation to have ended")
    unfinished = "select state::text from reconciler_control.rollouts where finished_at is null"
    assert fleet.control(unfinished) == []
    states = fleet.control("select distinct state::text from reconciler_control.operations")
    assert set(states) <= {("completed",), ("superseded",)}, fleet.told()
    assert fleet.stop() == [0, 0, 0]
    until(lambda: fleet.backends() == [], f"no backend to be left: {fleet.backends()}")
    assert fleet.leftovers() == []
    fences = "select 1 from pg_locks where locktype = 'advisory'"
    assert fleet.server.run(fences) == []
