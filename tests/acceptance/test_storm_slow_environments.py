"""Environments that are slow or dead, beside those that are not: nobody waits for another."""

import socket
from collections.abc import Iterator

import pytest

from tests.plugins.activity import running
from tests.plugins.daemon import until
from tests.plugins.fleet import Fleet, gate, open_gate

GOOD = [f"good-{number:02d}" for number in range(12)]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        yield listener.getsockname()[1]


def test_slow_and_dead_environments_delay_nobody(fleet: Fleet, black_hole: int, closed_port: int) -> None:
    """Servers that are silent, that refuse, and a change that waits: all others get every commit."""
    fleet.extra["SILENT_DSN"] = f"host=127.0.0.1 port={black_hole} user=nobody dbname=postgres"
    fleet.extra["REFUSED_DSN"] = f"host=127.0.0.1 port={closed_port} user=nobody dbname=postgres"
    files: dict[str, str] = {}
    for name in GOOD:
        files |= fleet.spec(name)
    # Their names come first, last and in between, for whoever goes by the alphabet.
    for name in ("dead-1", "good-10-silent", "zzz"):
        files |= fleet.spec(name, dsn="SILENT_DSN")
    for name in ("dead-2", "refused"):
        files |= fleet.spec(name, dsn="REFUSED_DSN")
    files |= fleet.spec("slow", module="slow")
    files |= fleet.repository.module({"s": gate("slow")}, name="slow")
    fleet.member(workers=2).start()
    changes: dict[str, str] = {}
    for number in range(2):
        changes[f"c{number}"] = f"create table c{number} ();"
        commit = fleet.commit(changes, files)
        fleet.until_applied(commit, GOOD)
        assert not fleet.applied(commit, ["slow"])
    # Each commit has one; that of the first runs, and is to give way at a safe point.
    states = fleet.control("select state::text from reconciler_control.operations where environment = 'slow'")
    assert ("running",) in states
    open_gate(fleet.server, "slow")
    fleet.until_applied(commit, ["slow"])
    told = fleet.control(
        "select environment, unavailable from reconciler_control.environment_deployments "
        "where unavailable is not null order by 1"
    )
    assert [name for name, _why in told] == ["dead-1", "dead-2", "good-10-silent", "refused", "zzz"]


def test_silent_deployment_and_its_siblings(fleet: Fleet, black_hole: int) -> None:
    """Of deployments rolled out side by side, one that is silent does not keep the others waiting."""
    fleet.extra["SILENT_DSN"] = f"host=127.0.0.1 port={black_hole} user=nobody dbname=postgres"
    places = {"eu": "SHOP_DSN", "us": "SILENT_DSN", "ap": "SHOP_DSN"}
    spec = fleet.spec("mixed", deployments=list(places), dsn=places, more={"rollout": {"order": "parallel"}})
    fleet.commit({"a": "create table a ();"}, spec)
    fleet.member(limits={"connect_timeout": "2s"}).start()

    def done() -> bool:
        found = fleet.control(
            "select deployment from reconciler_control.operations where state = 'completed'"
        )
        return {name for (name,) in found} == {"eu", "ap"}

    until(done, "the others to be rolled out")
    (why,) = until(
        lambda: fleet.control(
            "select unavailable from reconciler_control.environment_deployments "
            "where name = 'us' and unavailable is not null"
        ),
        "the silent one to be reported",
    )[0]
    assert "no answer in time" in why


def test_one_environment_takes_not_all_workers(fleet: Fleet) -> None:
    """Many deployments of one environment that take their time leave room to work on the others."""
    places = [f"place-{number}" for number in range(6)]
    policy = {"rollout": {"order": "parallel", "maxParallel": len(places)}}
    files = fleet.spec("slow", module="slow", deployments=places, more=policy)
    files |= fleet.repository.module({"s": gate("slow")}, name="slow")
    slow = fleet.repository.commit(files)
    fleet.member(workers=4).start()
    waiting = running("do $$")
    until(lambda: len(fleet.server.run(waiting)) >= 4, "the slow ones to be under way")
    names = [f"shop-{number}" for number in range(3)]
    for name in names:
        files |= fleet.spec(name)
    commit = fleet.commit({"a": "create table a ();"}, files)
    fleet.until_applied(commit, names)
    assert not fleet.applied(slow, ["slow"])
    open_gate(fleet.server, "slow")
    fleet.until_applied(commit, ["slow"])
