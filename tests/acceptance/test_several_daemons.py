"""Several daemons on one control database: who does what, who takes over, and nothing is done twice."""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from tests.plugins.activity import running
from tests.plugins.daemon import ConfigRepository, until
from tests.plugins.fleet import Fleet, Member, gate, open_gate, source_with_webhook
from tests.plugins.git_hosts import GitHost

LOOK_ONLY = {"policy": {"mode": "observe"}}
LOOKS = 32
"""Environments to be shared: that one of three daemons has none of them happens once in 100,000 runs."""
LONG_LEASE = {"limits": {"lease": "10m"}}
"""A takeover within the deadline of a test is due to the released session lock, not to the lease."""


@pytest.fixture
def serve(fleet: Fleet) -> Iterator[Callable[[], GitHost]]:
    """Make the config repository a remote."""
    servers: list[GitHost] = []

    def made() -> GitHost:
        servers.append(GitHost(fleet.folder))
        return servers[-1]

    yield made
    for server in servers:
        server.close()


def observed(fleet: Fleet, count: int = LOOKS) -> dict[str, str]:
    """Environments that are passed over and need no server of their own: enough that each has a share."""
    fleet.server.create_database("shared")
    files: dict[str, str] = {}
    for number in range(count):
        files |= fleet.spec(f"look-{number:02d}", module=None, database="shared", more=LOOK_ONLY)
    return files


def shares(fleet: Fleet, *members: Member) -> list[set[str]]:
    return [fleet.share(member) for member in members]


def until_shared(fleet: Fleet, count: int, *members: Member) -> None:
    """Wait until these daemons own all environments between them, and each has some."""

    def shared() -> bool:
        found = shares(fleet, *members)
        return all(found) and sum(map(len, found)) == count

    try:
        until(shared, "the environments to be shared")
    except AssertionError as error:
        raise AssertionError(f"{error}: {shares(fleet, *members)}\n{fleet.told()}") from None


def assert_one_place_at_a_time(fleet: Fleet) -> None:
    """No two daemons were at a pass of the same environment at the same time."""
    of_environment = defaultdict(list)
    for each in fleet.passes():
        of_environment[each.environment].append(each)
    for passes in of_environment.values():
        for before, after in pairwise(sorted(passes, key=lambda one: one.begin)):
            assert before.member == after.member or before.end <= after.begin, (before, after)


def test_passes_and_operations_spread(fleet: Fleet) -> None:
    """Each environment has one daemon, all have their share of passes and work, each commit one rollout."""
    names = [f"shop-{number:02d}" for number in range(12)]
    files = observed(fleet)
    for name in names:
        files |= fleet.spec(name, deployments=("eu", "us"), more={"rollout": {"order": "parallel"}})
    first = fleet.commit({"gate": gate("first"), "a": "create table a ();"}, files)
    members = [fleet.member(workers=2) for _ in range(3)]
    fleet.start()
    until_shared(fleet, LOOKS + 12, *members)
    until(lambda: len(fleet.claimers()) == 3, "every daemon to have work")
    at_work = "select worker, count(*) from reconciler_control.operations where worker is not null group by 1"
    until(lambda: sorted(row[1] for row in fleet.control(at_work)) == [2, 2, 2], "all to be busy")
    open_gate(fleet.server, "first")
    fleet.until_applied(first, names)
    second = fleet.commit({"gate": gate("first"), "a": "create table a ();", "b": "create table b ();"})
    fleet.until_applied(second, names)
    owners = {member.folder.name: fleet.share(member) for member in members}
    counts = fleet.rollouts_of_commits()
    assert counts == {(name, commit): 1 for name in names for commit in (first, second)}
    assert_one_place_at_a_time(fleet)
    # Since nobody came or went, every pass for the second commit was its owner's.
    for each in fleet.passes():
        if each.commit == second:
            assert each.environment in owners[each.member], each
    assert fleet.stop() == [0, 0, 0]
    assert fleet.backends() == []
    assert fleet.leftovers() == []


def test_daemons_join_and_leave(fleet: Fleet) -> None:
    """Who joins gets a share; what one leaves, stopped or killed, others take without waiting for a lease."""
    fleet.repository.commit(observed(fleet))
    one, two, three = (fleet.member(**LONG_LEASE) for _ in range(3))
    fleet.start(one, two)
    until_shared(fleet, LOOKS, one, two)
    fleet.start(three)
    until_shared(fleet, LOOKS, one, two, three)
    assert two.stop() == 0
    until_shared(fleet, LOOKS, one, three)
    one.kill()
    until_shared(fleet, LOOKS, three)
    began = datetime.now(UTC)
    commit = fleet.repository.commit({"README": "one more"})
    seen = "select count(*) from reconciler_control.environments where observed_commit = "
    until(lambda: fleet.control(f"{seen} '{commit}'") == [(LOOKS,)], "the last one to see all of them")
    assert {each.member for each in fleet.passes(since=began)} <= {three.folder.name}
    assert_one_place_at_a_time(fleet)


def test_frozen_daemon_is_taken_over_and_comes_back(fleet: Fleet) -> None:
    """One that is frozen past its lease loses its share, records nothing when it wakes, then gets a share."""
    fleet.repository.commit(observed(fleet))
    limits = {"lease": "2s", "heartbeat": "500ms"}
    one, two = fleet.member(limits=limits), fleet.member(limits=limits)
    fleet.start()
    until_shared(fleet, LOOKS, one, two)
    one.send(signal.SIGSTOP)
    until_shared(fleet, LOOKS, two)
    commit = fleet.repository.commit({"README": "while it was away"})
    seen = "select count(*) from reconciler_control.environments where observed_commit = "
    until(lambda: fleet.control(f"{seen} '{commit}'") == [(LOOKS,)], "the other to see the commit")
    one.send(signal.SIGCONT)
    until_shared(fleet, LOOKS, one, two)
    last = fleet.repository.commit({"README": "both again"})
    until(lambda: fleet.control(f"{seen} '{last}'") == [(LOOKS,)], "both to see the next commit")


def test_killed_worker_is_taken_over_from(fleet: Fleet) -> None:
    """What a killed daemon was at goes on elsewhere, without waiting for a lease, and is done once."""
    names = [f"shop-{number}" for number in range(4)]
    files: dict[str, str] = {}
    for name in names:
        files |= fleet.spec(name)
    commit = fleet.commit(
        {"a": "create table a ();", "gate": "insert into a default values; " + gate("killed")}, files
    )
    one, two = fleet.member(**LONG_LEASE), fleet.member(**LONG_LEASE)
    one.start()
    waiting = running("do $$")
    until(lambda: len(fleet.server.run(waiting)) == len(names), "all changes to run")
    fleet.start(two)
    one.kill()
    taken = (
        "select o.environment from reconciler_control.operations o "
        "join reconciler_control.workers w on w.id = o.worker "
        f"where w.name like '%/{two.pid}'"
    )
    until(lambda: len(fleet.control(taken)) == len(names), "all to be taken over")
    open_gate(fleet.server, "killed")
    fleet.until_applied(commit, names)
    for name in names:
        assert fleet.server.run("select count(*) from a", database=f"{name}_eu") == [(1,)]
        deployed = "select name, count(*) from reconciler.events where kind = 'deploy' group by 1 order by 1"
        assert fleet.server.run(deployed, database=f"{name}_eu") == [("a", 1), ("gate", 1)]
    assert set(fleet.rollouts_of_commits().values()) == {1}


def test_stopped_daemon_hands_over(fleet: Fleet) -> None:
    """What a daemon that stops cannot finish in its grace, another finishes."""
    commit = fleet.commit(
        {"a": "create table a ();", "gate": gate("stopped"), "b": "create table b ();"}, fleet.spec("shop")
    )
    settings = {"limits": {"lease": "10m", "stop_grace": "1s"}}
    one, two = fleet.member(**settings), fleet.member(**settings)
    one.start()
    waiting = running("do $$")
    until(lambda: fleet.server.run(waiting), "the change to run")
    fleet.start(two)
    assert one.stop() == 0
    open_gate(fleet.server, "stopped")
    fleet.until_applied(commit, ["shop"])
    deployed = "select name from reconciler.events where kind = 'deploy' order by event_id"
    assert fleet.server.run(deployed, database="shop_eu") == [("a",), ("gate",), ("b",)]


def test_push_that_only_one_hears_of(fleet: Fleet, serve: Callable[[], GitHost]) -> None:
    """Daemons fetch once an hour, one gets a webhook: all environments get the commit, each once."""
    names = [f"shop-{number:02d}" for number in range(12)]
    files = observed(fleet)
    for name in names:
        files |= fleet.spec(name)
    first = fleet.commit({"a": "create table a ();"}, files)
    remote = serve().url(fleet.repository)
    members = [fleet.member(sources=[source_with_webhook(remote)]) for _ in range(3)]
    fleet.start()
    until_shared(fleet, LOOKS + 12, *members)
    fleet.until_applied(first, names)
    second = fleet.commit({"a": "create table a ();", "b": "create table b ();"})
    members[1].deliver("1")
    fleet.until_applied(second, names)
    seen = "select count(*) from reconciler_control.environments where observed_commit = "
    until(lambda: fleet.control(f"{seen} '{second}'") == [(LOOKS + 12,)], "all to see it")
    assert all(count == 1 for count in fleet.rollouts_of_commits().values())


def test_sources_of_their_own(fleet: Fleet) -> None:
    """A daemon does nothing for a source that it does not have, also where nobody else is there to do it."""
    other = ConfigRepository(fleet.folder / "other")
    first = fleet.commit({"a": "create table a ();"}, fleet.spec("shop"))
    second = other.commit(
        {
            **fleet.spec("blog", module="blog"),
            **other.module({"gate": gate("blog"), "b": "create table b ();"}, name="blog"),
        }
    )
    sources = {"shop": fleet.repository.path, "blog": other.path}
    one, two = (
        fleet.member(sources=[{"name": name, "url": str(path), "interval": "1s"}])
        for name, path in sources.items()
    )
    fleet.start()
    fleet.until_applied(first, ["shop"])
    waiting = running("do $$")
    until(lambda: fleet.server.run(waiting), "the other source's change to run")
    assert fleet.share(one) == {"shop"}
    assert fleet.share(two) == {"blog"}
    two.kill()
    open_gate(fleet.server, "blog")
    # The one that is left works on: passes of its own and a commit, but nothing of the other's.
    later = fleet.commit({"a": "create table a ();", "b": "create table b ();"})
    fleet.until_applied(later, ["shop"])
    assert fleet.share(one) == {"shop"}
    state = "select o.state::text from reconciler_control.operations o where o.environment = 'blog'"
    assert fleet.control(state) == [("running",)]
    two.start()
    fleet.until_applied(second, ["blog"])
    assert all(count == 1 for count in fleet.rollouts_of_commits().values())


def test_daemon_that_cannot_read_the_source_takes_no_share(fleet: Fleet) -> None:
    """One that never had a commit of a source leaves it to the others, and does its share once it has one."""
    names = [f"shop-{number}" for number in range(6)]
    files: dict[str, str] = {}
    for name in names:
        files |= fleet.spec(name)
    commit = fleet.commit({"a": "create table a ();"}, files)
    elsewhere = fleet.folder / "elsewhere"
    able, unable = fleet.member(interval="1s"), fleet.member(interval="1s", url=str(elsewhere))
    fleet.start()
    fleet.until_applied(commit, names)
    assert fleet.share(able) == set(names)
    assert fleet.share(unable) == set()
    assert fleet.control("select 1 from reconciler_control.environments where error is not null") == []
    elsewhere.symlink_to(fleet.repository.path, target_is_directory=True)
    until(lambda: fleet.share(unable), "the other to take its share")
    assert fleet.share(able) | fleet.share(unable) == set(names)


def test_daemon_that_is_behind_brings_nothing_back(fleet: Fleet, serve: Callable[[], GitHost]) -> None:
    """One whose remote hangs knows an older commit only; an environment that it takes over stays as it is."""
    # So many that hardly ever one of the two has none of them.
    names = [f"shop-{number}" for number in range(14)]
    files: dict[str, str] = {}
    for name in names:
        files |= fleet.spec(name)
    first = fleet.commit({"a": "create table a ();"}, files)
    server = serve()
    limits = {"fetch_timeout": "1s"}
    behind = fleet.member(
        sources=[{"name": "shop", "url": server.url(fleet.repository), "interval": "1s", **limits}]
    )
    behind.start()
    fleet.until_applied(first, names)
    server.fault = "hang"
    ahead = fleet.member()
    ahead.start()
    until_shared(fleet, len(names), behind, ahead)
    second = fleet.commit({"a": "create table a ();", "b": "create table b ();"})
    its = sorted(fleet.share(ahead))
    fleet.until_applied(second, its)
    ahead.kill()
    until_shared(fleet, len(names), behind)
    since = datetime.now(UTC)

    def passed() -> bool:
        found = [each.environment for each in fleet.passes(since=since)]
        return all(found.count(name) >= 2 for name in its)

    until(passed, "the one that is behind to pass over what it took")
    for name in its:
        (found,) = fleet.control(
            "select applied_commit, observed_commit, head_commit from reconciler_control.environments "
            f"where name = '{name}'"
        )
        assert found[0] == second
        commits = fleet.control(
            f"select commit from reconciler_control.rollouts where environment = '{name}' order by id"
        )
        assert commits == [(first,), (second,)]
        (counts,) = fleet.control(
            "select sum(pending), sum(diverged), sum(drift) from reconciler_control.environment_deployments "
            f"where environment = '{name}'"
        )
        assert counts == (0, 0, 0)
        assert found == (second, second, second)
    server.fault = None
    server.released.set()
    third = fleet.commit({"a": "create table a ();", "b": "create table b ();", "c": "create table c ();"})
    fleet.until_applied(third, names)
