"""One rollout over many deployments while daemons are killed and frozen, and an operation that kills them.

`RECONCILER_TEST_LONGER` above one makes two hundred deployments of it, `RECONCILER_TEST_SEED` another storm.
"""

import os
import random
import re
import signal
import sys
import time

import pytest

from tests.plugins.daemon import until
from tests.plugins.fleet import LONGER, Fleet, Member

SEED = int(os.environ.get("RECONCILER_TEST_SEED") or 20260101)
COUNT = 24 if LONGER <= 1 else 200
NAMES = [f"t{number:03d}" for number in range(COUNT)]
BLOWS = 6 if LONGER <= 1 else 20
LIMITS = {
    "lease": "2s",
    "heartbeat": "400ms",
    "retry_base": "100ms",
    "retry_ceiling": "500ms",
    "stop_grace": "2s",
}
ROLLOUT = {"rollout": {"order": "parallel", "maxParallel": 60, "onFailure": "continue"}}
CHANGES = {
    "journal": "create table journal (change text);",
    "one": "insert into journal values ('one'); create table one ();",
    "two": "insert into journal values ('two'); select pg_sleep(0.05); create table two ();",
    "three": "insert into journal values ('three'); create table three ();",
}


def completed(fleet: Fleet) -> int:
    rows = fleet.control("select count(*) from reconciler_control.operations where state = 'completed'")
    return int(rows[0][0])


def at_work(fleet: Fleet) -> list[int]:
    """Process ids of the daemons that hold operations, the same one as often as it holds any."""
    rows = fleet.control(
        "select w.name from reconciler_control.operations o join reconciler_control.workers w "
        "on w.id = o.worker where o.state = 'running' order by o.id"
    )
    return [int(row[0].rpartition("/")[2]) for row in rows]


class Storm:
    """Strikes whoever is at work whenever the rollout got so far, and brings back whom it struck before."""

    def __init__(self, fleet: Fleet, members: list[Member]) -> None:
        self._fleet = fleet
        self._members = members
        self._chance = random.Random(SEED)
        self._away: list[tuple[Member, str]] = []
        self._marks = [COUNT * number // (BLOWS + 1) for number in range(BLOWS)]
        self._began = time.monotonic()
        self.struck: list[str] = []

    def passed(self) -> bool:
        if self._marks and completed(self._fleet) >= self._marks[0] and self._strike():
            self._marks.pop(0)
        return not self._marks

    def _strike(self) -> bool:
        holding = set(at_work(self._fleet))
        ready = [member for member in self._members if member.is_up and member.pid in holding]
        ready = [member for member in ready if all(member is not other for other, _ in self._away)]
        if not ready:
            # Nobody left to strike holds anything: those struck before come back first.
            self.calm()
            return completed(self._fleet) == COUNT
        if len(self._away) > 1:
            self._bring_back(*self._away.pop(0))
        member, kind = self._chance.choice(ready), self._chance.choice(["kill", "kill", "freeze"])
        member.send(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        self._away.append((member, kind))
        at_s = time.monotonic() - self._began
        self.struck.append(f"{kind} {member.folder.name} at {completed(self._fleet)} after {at_s:.1f} s")
        return True

    def calm(self) -> None:
        while self._away:
            self._bring_back(*self._away.pop(0))

    def _bring_back(self, member: Member, kind: str) -> None:
        if kind == "freeze":
            member.send(signal.SIGCONT)
            return
        assert member.wait_ended() == -signal.SIGKILL
        member.start(wait=False)


@pytest.mark.timeout(240 + 8 * COUNT)
def test_one_rollout_through_a_storm(fleet: Fleet) -> None:
    """Four daemons, killed and frozen past their lease as the rollout goes on: each change is there once."""
    members = [fleet.member(limits={**LIMITS, "crashes": 100}) for _ in range(4)]
    fleet.start()
    storm = Storm(fleet, members)
    commit = fleet.commit(CHANGES, fleet.spec("shop", deployments=NAMES, more=ROLLOUT))
    try:
        until(storm.passed, "the storm to pass", deadline_s=60 + 4 * COUNT)
        storm.calm()
        fleet.until_applied(commit, ["shop"], deadline_s=60 + 4 * COUNT)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{fleet.told()}") from None
    finally:
        sys.stdout.write(f"RECONCILER_TEST_SEED={SEED}: {storm.struck}\n")
    for name in NAMES:
        database = f"shop_{name}"
        done = fleet.server.run("select change from journal order by change", database=database)
        assert done == [("one",), ("three",), ("two",)], name
        recorded = fleet.server.run(
            "select name from reconciler.events where kind = 'deploy' order by event_id", database=database
        )
        assert recorded == [(change,) for change in CHANGES], name
    assert fleet.control("select state::text, finished_at is null from reconciler_control.rollouts") == [
        ("completed", False)
    ]
    attempts = fleet.control("select max(attempts) from reconciler_control.operations where attempts > 1")
    retried = "select count(*) from reconciler_control.events where kind = 'operation.retrying'"
    # Being taken over costs no attempt: there are as many as something was tried again.
    assert attempts == [(None,)] or fleet.control(retried) != [(0,)]
    ended = "select count(*) from reconciler_control.events where kind = 'rollout.completed'"
    assert fleet.control(ended) == [(1,)]
    repaired = "select message from reconciler_control.events where kind like '%.repaired'"
    assert fleet.control(repaired) == []
    for member in members:
        until(member.ready, "a daemon to be ready in the calm")
    assert fleet.stop() == [0, 0, 0, 0]
    assert fleet.leftovers() == []


FATAL = (
    "do $$ begin while not exists (select from mended) loop perform pg_catalog.pg_sleep(0.02); end loop; "
    "end $$;"
)


@pytest.mark.timeout(400)
def test_an_operation_that_kills_its_daemons(fleet: Fleet) -> None:
    """It fails with its step named once daemons died of it often enough; the others go on meanwhile."""
    members = [fleet.member(limits={**LIMITS, "crashes": 3}) for _ in range(2)]
    fleet.start()
    quiet = [f"quiet-{number}" for number in range(3)]
    files = fleet.spec("poison", module="fatal")
    for name in quiet:
        files |= fleet.spec(name)
    fatal = {"mended": "create table mended (id int);", "fatal": FATAL}
    plan = fleet.repository.module(fatal, name="fatal")
    commit = fleet.commit(CHANGES, {**files, **plan})
    deaths: set[int] = set()

    def failed() -> bool:
        rows = fleet.control(
            "select o.state::text, w.name from reconciler_control.operations o "
            "left join reconciler_control.workers w on w.id = o.worker where o.environment = 'poison'"
        )
        if rows and rows[0][0] == "failed":
            return True
        inside = fleet.control(
            "select pid from pg_stat_activity where datname = 'poison_eu' and wait_event = 'PgSleep' "
            "and application_name = 'reconciler/writer'"
        )
        # The backend of one that died may go on for a moment; its successor is not to blame for that.
        fresh = {row[0] for row in inside} - deaths
        if rows and rows[0][1] is not None and fresh:
            holder = int(rows[0][1].rpartition("/")[2])
            for member in members:
                if member.is_up and member.pid == holder:
                    deaths.update(fresh)
                    member.send(signal.SIGKILL)
                    member.wait_ended()
                    member.start(wait=False)
        return False

    until(failed, "the operation to fail", deadline_s=120)
    (reason,) = fleet.control(
        "select reason from reconciler_control.operations where environment = 'poison'"
    )[0]
    # Where each of the first three had others in hand too, one more death says which of them it is.
    told = re.search(r"the worker died ([34]) times in a row while it was at schema: change fatal", reason)
    assert told, reason
    # What the first one did and could not note any more is progress, which its successor notes.
    assert len(deaths) - int(told[1]) in (0, 1)
    fleet.until_applied(commit, quiet)
    for member in members:
        until(member.ready, "a daemon to be ready")
    until(lambda: members[0].condition("Stalled", "poison").get("status"), "it to be stalled")
    assert " times in a row while it was at" in members[0].condition("Stalled", "poison")["message"]
    counts = fleet.rollouts_of_commits()
    assert set(counts.values()) == {1}
    # Mended, and asked for again: it goes on where it was.
    fleet.server.run("insert into mended values (1)", database="poison_eu")
    rollout = fleet.control("select id from reconciler_control.rollouts where environment = 'poison'")[0][0]
    assert members[0].run("retry", str(rollout)).returncode == 0
    fleet.until_applied(commit, ["poison", *quiet])
    assert fleet.stop() == [0, 0]
