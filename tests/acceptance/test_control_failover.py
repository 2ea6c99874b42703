"""The control database is restarted, crashes, or fails over, while daemons work: nothing twice."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.plugins.activity import running
from tests.plugins.daemon import until
from tests.plugins.fleet import CONTROL, Fleet, Member, gate, open_gate
from tests.plugins.postgres import OwnServer, Server
from tests.plugins.standby import Pair

NAMES = tuple(f"shop-{number}" for number in range(4))
LIMITS = {"lease": "6s", "heartbeat": "500ms"}
WAITING = running("do $$", "count(*)")
ALIVE = "select count(*) from reconciler_control.living_workers"
LISTENING = "select count(*) from pg_stat_activity where application_name = 'reconciler/listen'"


class Site(Fleet):
    """Daemons whose control database is on a pair of servers, apart from the server they manage."""

    def __init__(self, folder: Path, server: OwnServer, pair: Pair) -> None:
        super().__init__(folder, server)
        self.pair = pair
        self.writable: Server = pair.primary
        pair.primary.create_database(CONTROL)

    @override
    def control(self, statement: str) -> list[tuple[Any, ...]]:
        return self.writable.run(statement, database=CONTROL)

    def members_on_pair(self, count: int = 2) -> list[Member]:
        """Daemons that look at their repository when it changes, and otherwise only when they are told."""
        made = [self.member(interval="1h", limits=LIMITS) for _ in range(count)]
        for member in made:
            member.environ["RECONCILER_CONTROL_DSN"] = self.pair.text(CONTROL)
        return made

    def specs(self) -> dict[str, str]:
        files: dict[str, str] = {}
        for name in NAMES:
            files |= self.spec(name)
        return files

    def deployed(self, name: str) -> list[tuple[Any, ...]]:
        """The changes of an environment's database in order, with how often each was made."""
        return self.server.run(
            "select name, count(*) from reconciler.events where kind = 'deploy'"
            " group by 1 order by min(event_id)",
            database=f"{name}_eu",
        )

    def until_settled(self, commit: str) -> None:
        """Wait until a commit is applied everywhere and nothing is under way."""
        self.until_applied(commit, NAMES)
        unsettled = (
            "select count(*) from reconciler_control.operations"
            " where state not in ('completed', 'superseded', 'failed', 'cancelled', 'reverted')"
        )
        try:
            until(lambda: self.control(unsettled) == [(0,)], "all to be settled")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def until_back(self) -> None:
        """Wait until all daemons are registered and listening where control is written now."""
        until(lambda: self.control(ALIVE) == [(len(self.members),)], "all to be registered")
        until(lambda: self.control(LISTENING) == [(2 * len(self.members),)], "all to listen")

    def assert_each_once(self, *changes: str) -> None:
        for name in NAMES:
            assert self.deployed(name) == [(change, 1) for change in changes], name

    @override
    def close(self) -> None:
        super().close()
        self.pair.remove()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A pair of servers for control, a server to manage, and a repository."""
    tmp_path.chmod(0o755)
    server, pair = OwnServer(), Pair()
    try:
        server.start()
        pair.start()
        made = Site(tmp_path, server, pair)
        try:
            yield made
        finally:
            made.close()
    finally:
        pair.remove()
        server.remove()


def gated(name: str) -> str:
    """A change that can be told from its second making, and waits before it is done."""
    return f"insert into a default values; {gate(name)}"


FIRST = {"a": "create table a ();"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
def test_restarted_under_load(site: Site, how: signal.Signals) -> None:
    """Restarted twice while every daemon works, control is found again by all, and all lands once."""
    site.members_on_pair()
    changes = {**FIRST, "gate": gated("restart"), **{f"t{n}": f"create table t{n} ();" for n in range(8)}}
    commit = site.commit(changes, site.specs())
    site.start()
    until(lambda: site.server.run(WAITING) == [(len(NAMES),)], "all to work")
    site.pair.primary.stop(how)
    site.pair.primary.start()
    open_gate(site.server, "restart")
    until(lambda: any(len(site.deployed(name)) > 4 for name in NAMES), "some to have gone on")
    site.pair.primary.stop(how)
    site.pair.primary.start()
    site.until_settled(commit)
    site.assert_each_once(*changes)
    assert set(site.rollouts_of_commits().values()) == {1}
    site.until_back()
    assert site.stop() == [0, 0]


def test_failed_over_in_the_middle_of_a_rollout(site: Site) -> None:
    """The primary dies, its standby is promoted: what was under way goes on there, and is done once."""
    site.members_on_pair()
    changes = {**FIRST, "gate": gated("failover"), "b": "create table b ();"}
    commit = site.commit(changes, site.specs())
    site.start()
    until(lambda: site.server.run(WAITING) == [(len(NAMES),)], "all to work")
    until(site.pair.caught_up, "the standby to have it all")
    site.writable = site.pair.fail_over()
    open_gate(site.server, "failover")
    site.until_settled(commit)
    site.assert_each_once(*changes)
    assert set(site.rollouts_of_commits().values()) == {1}
    site.until_back()
    later = site.commit({**changes, "c": "create table c ();"})
    site.until_settled(later)
    site.assert_each_once(*changes, "c")


def test_old_primary_is_left_alone(site: Site) -> None:
    """The one that failed comes back as what it has to be, read-only: nobody works there, nothing is said."""
    site.members_on_pair()
    first = site.commit(FIRST, site.specs())
    site.start()
    site.until_settled(first)
    until(site.pair.caught_up, "the standby to have it all")
    site.writable = site.pair.fail_over()
    site.until_back()
    old = site.pair.primary
    old.settings["default_transaction_read_only"] = "on"
    old.start()
    changes = {**FIRST, "b": "create table b ();"}
    later = site.commit(changes)
    site.until_settled(later)
    # A daemon that starts now has both to choose from as well.
    site.members[0].kill()
    site.members[0].start()
    last = site.commit({**changes, "c": "create table c ();"})
    site.until_settled(last)
    site.assert_each_once("a", "b", "c")
    site.until_back()
    assert old.run("select applied_commit from reconciler_control.environments", database=CONTROL) == [
        (first,)
    ] * len(NAMES)
    assert old.run("select count(*) from pg_stat_activity where application_name like 'rec%'") == [(0,)]


def test_lost_records_are_made_up_for(site: Site) -> None:
    """What had not reached the standby is lost; the databases know, so nothing is done again, all is told."""
    site.members_on_pair()
    first = site.commit(FIRST, site.specs())
    site.start()
    site.until_settled(first)
    until(site.pair.caught_up, "the standby to have it all")
    standby = site.pair.servers()[1]
    standby.stop()
    changes = {**FIRST, "b": "insert into a default values; create table b ();"}
    second = site.commit(changes)
    site.until_settled(second)
    site.pair.primary.stop(signal.SIGQUIT)
    standby.start()
    applied = "select distinct applied_commit from reconciler_control.environments"
    assert standby.run(applied, database=CONTROL) == [(first,)]
    site.writable = site.pair.fail_over()
    site.until_settled(second)
    site.assert_each_once("a", "b")
    for name in NAMES:
        assert site.server.run("select count(*) from a", database=f"{name}_eu") == [(1,)]
    site.until_back()
    third = site.commit({**changes, "c": "create table c ();"})
    site.until_settled(third)
    site.assert_each_once("a", "b", "c")


def test_a_lost_rollout_goes_on(site: Site) -> None:
    """A rollout under way whose very record is lost is recorded anew, and goes on where it was."""
    site.members_on_pair()
    first = site.commit(FIRST, site.specs())
    site.start()
    site.until_settled(first)
    until(site.pair.caught_up, "the standby to have it all")
    standby = site.pair.servers()[1]
    standby.stop()
    changes = {**FIRST, "b": "create table b ();", "gate": gated("lost"), "c": "create table c ();"}
    second = site.commit(changes)
    until(lambda: site.server.run(WAITING) == [(len(NAMES),)], "all to work")
    site.pair.primary.stop(signal.SIGQUIT)
    standby.start()
    site.writable = site.pair.fail_over()
    open_gate(site.server, "lost")
    site.until_settled(second)
    site.assert_each_once(*changes)
    for name in NAMES:
        assert site.server.run("select count(*) from a", database=f"{name}_eu") == [(1,)]
    site.until_back()


def test_two_primaries_do_nothing_twice(site: Site) -> None:
    """Should the old primary be written to as well, its daemons and the others take turns at databases."""
    inside, outside = site.members_on_pair()
    first = site.commit(FIRST, site.specs())
    site.start()
    site.until_settled(first)
    until(site.pair.caught_up, "the standby to have it all")
    outside.kill()
    old, new = site.pair.primary, site.pair.fail_over()
    old.start()
    outside.environ["RECONCILER_CONTROL_DSN"] = old.text(CONTROL)
    inside.kill()
    inside.environ["RECONCILER_CONTROL_DSN"] = new.text(CONTROL)
    site.start()
    changes = {**FIRST, "gate": gated("torn"), "b": "create table b ();"}
    commit = site.commit(changes)
    for server in (old, new):
        site.writable = server
        recorded = f"select count(*) from reconciler_control.rollouts where commit = '{commit}'"
        until(lambda: site.control(recorded) == [(len(NAMES),)], "both to have their rollouts")  # noqa: B023
    until(lambda: site.server.run(WAITING) == [(len(NAMES),)], "one of them to work on each")
    open_gate(site.server, "torn")
    for server in (old, new):
        site.writable = server
        site.until_applied(commit, NAMES)
    site.assert_each_once(*changes)
    for name in NAMES:
        assert site.server.run("select count(*) from a", database=f"{name}_eu") == [(1,)]
