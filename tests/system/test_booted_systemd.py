"""The unit runs under a booted systemd: it starts, does its job, stops, and is restarted when it hangs."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.plugins.git import git_environment
from tests.system.conftest import PASSWORD, TOKEN, Machine, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

STATE = "/var/lib/private/reconciler"
CREDENTIAL_OF_CONTROL = "/run/credentials/reconciler.service/shop-dsn"
"""The managed server's maintenance database serves as a control database as well as any."""
DEADLINE_S = 60.0
SLEEPING = "select 1 from pg_stat_activity where query like '%SELECT pg_sleep%' and pid <> pg_backend_pid()"


@pytest.fixture
def running(machine: Machine) -> Iterator[Machine]:
    """A machine whose daemon runs; stopped afterwards."""
    machine.systemctl("start", "reconciler")
    machine.until_ready()
    yield machine
    machine.systemctl("stop", "reconciler")


def environment(machine: Machine) -> dict[str, Any]:
    status, found = machine.get("/v1/environments/production")
    return dict(found) if status == 200 else {}


def test_unit_file_is_valid_where_it_is_installed(machine: Machine) -> None:
    """With the program in its place systemd finds nothing to complain about."""
    done = machine.run("systemd-analyze", "verify", "reconciler.service")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ready_is_told_when_it_serves(running: Machine) -> None:
    """`systemctl start` returns once the API answers, and the status says where."""
    assert running.show("Type") == "notify"
    assert running.show("ActiveState") == "active"
    assert running.show("StatusText") == "serving on 127.0.0.1:8080"
    assert running.get("/livez")[0] == 200


def test_a_commit_lands_with_secrets_from_credentials(running: Machine) -> None:
    """Under the whole hardening a commit is applied through a connection string that is a credential."""
    source = running.tree / "srv/shop"
    git = ["git", "-c", f"safe.directory={source}", "-C", str(source)]
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"],
        env=git_environment(), capture_output=True, text=True, check=True, timeout=30,
    ).stdout.strip()  # fmt: skip
    until(
        lambda: environment(running).get("applied_commit") == head,
        lambda: (
            f"the commit to be applied\n{json.dumps(environment(running), indent=1)}\n{running.journal()}"
        ),
        deadline_s=DEADLINE_S,
    )
    assert running.run("ls", "/run/credentials/reconciler.service").stdout.split() == [
        "operator-token",
        "shop-dsn",
    ]
    everything = running.run("journalctl", "-u", "reconciler", "--no-pager", "-o", "cat").stdout
    assert PASSWORD not in everything
    assert TOKEN not in everything


def test_without_the_token_nothing_is_told(running: Machine) -> None:
    """The token that guards the API is the one in the credential."""
    done = running.run(
        "/usr/bin/python3",
        "-c",
        "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v1/environments', timeout=9)",
    )
    assert "401" in done.stderr


def test_it_runs_as_nobody_in_particular(running: Machine) -> None:
    """The daemon and its embedded PostgreSQL run as a user that systemd made up, and may nothing."""
    pid = running.show("MainPID")
    status = dict(
        line.split(":\t", 1)
        for line in running.run("cat", f"/proc/{pid}/status").stdout.splitlines()
        if ":\t" in line
    )
    assert int(status["Uid"].split()[0]) >= 61184  # the range of DynamicUser=
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    pids = running.processes()
    owners = running.run("stat", "-c", "%u", *(f"/proc/{each}" for each in pids)).stdout.split()
    assert len(pids) > 5, "the embedded PostgreSQL is one of its processes"
    assert set(owners) == {status["Uid"].split()[0]}


def until_applied(machine: Machine, commit: str) -> None:
    until(
        lambda: environment(machine).get("applied_commit") == commit,
        lambda: f"the commit\n{json.dumps(environment(machine), indent=1)}\n{machine.journal()}",
        deadline_s=DEADLINE_S,
    )


def deployed(machine: Machine) -> list[str]:
    """The changes that were made, as often as they were."""
    return machine.sql("select name from reconciler.events where kind = 'deploy' order by event_id")


def test_stop_is_clean_and_keeps_the_state(machine: Machine) -> None:
    """`systemctl stop` ends the daemon and then its PostgreSQL in order; the next start finds all of it."""
    machine.systemctl("start", "reconciler")
    machine.until_ready()
    until(lambda: environment(machine).get("applied_commit"), machine.journal, deadline_s=DEADLINE_S)
    rollouts = machine.get("/v1/environments/production/rollouts")[1]
    processes = machine.processes()
    machine.systemctl("stop", "reconciler")
    assert machine.show("ActiveState") == "inactive"
    assert machine.show("Result") == "success"
    assert machine.show("ExecMainStatus") == "0"
    assert len(processes) > 5
    assert not [each for each in processes if machine.run("test", "-e", f"/proc/{each}").returncode == 0]
    said = machine.journal()
    assert "SIGKILL" not in said
    assert "the embedded PostgreSQL is stopped" in said
    assert machine.run("test", "-e", f"{STATE}/control/server/data/postmaster.pid").returncode == 1
    assert machine.run("test", "-d", f"{STATE}/sources/shop/mirror.git").returncode == 0

    machine.systemctl("start", "reconciler")
    machine.until_ready()
    assert machine.get("/v1/environments/production/rollouts")[1] == rollouts
    machine.systemctl("stop", "reconciler")


def test_stop_says_so_and_hands_back(running: Machine) -> None:
    """A stop in the middle of a rollout is told to systemd, and ends well; the next start goes on, once."""
    commit = running.commit("orders", "slow", "after")
    until(
        lambda: running.sql(SLEEPING, "postgres"),
        lambda: f"the slow change to run\n{running.journal()}",
        deadline_s=DEADLINE_S,
    )
    running.systemctl("stop", "--no-block", "reconciler")
    until(
        lambda: (running.show("SubState"), running.show("StatusText")) == ("stop-sigterm", "stopping"),
        lambda: f"it to say that it stops\n{running.journal()}",
        deadline_s=DEADLINE_S,
    )
    until(
        lambda: running.show("ActiveState") == "inactive",
        lambda: f"the end\n{running.journal()}",
        deadline_s=DEADLINE_S,
    )
    assert running.show("Result") == "success"
    running.systemctl("start", "reconciler")
    until_applied(running, commit)
    assert deployed(running) == ["orders", "slow", "after"]


def test_a_hung_daemon_is_restarted(machine: Machine) -> None:
    """The watchdog ends a daemon that does not answer it, and the next one takes over by itself."""
    with machine.drop_in("WatchdogSec=4"):
        machine.systemctl("start", "reconciler")
        machine.until_ready()
        until(lambda: environment(machine).get("applied_commit"), machine.journal, deadline_s=DEADLINE_S)
        hung = machine.show("MainPID")
        machine.run("kill", "-STOP", hung)
        before = deployed(machine)
        commit = machine.commit("orders", "slow", "after", "while_it_hung")
        until(
            lambda: machine.show("NRestarts") == "1" and machine.show("ActiveState") == "active",
            lambda: f"a restart\n{machine.journal()}",
            deadline_s=DEADLINE_S,
        )
        assert machine.show("MainPID") != hung
        assert "Watchdog timeout" in machine.journal()
        assert "Failed with result 'watchdog'" in machine.journal()
        until_applied(machine, commit)
        assert deployed(machine) == list(dict.fromkeys([*before, "orders", "slow", "after", "while_it_hung"]))


def test_a_killed_daemon_is_restarted(machine: Machine) -> None:
    """A daemon that is killed in the middle of a rollout comes back, and what it was at is done once."""
    with machine.drop_in("RestartSec=200ms"):
        machine.systemctl("start", "reconciler")
        machine.until_ready()
        until(lambda: environment(machine).get("applied_commit"), machine.journal, deadline_s=DEADLINE_S)
        killed = machine.show("MainPID")
        before = deployed(machine)
        commit = machine.commit("orders", "slow", "after", "while_it_hung", "slow_again")
        until(
            lambda: machine.sql(SLEEPING, "postgres"),
            lambda: f"the slow change to run\n{machine.journal()}",
            deadline_s=DEADLINE_S,
        )
        machine.run("kill", "-KILL", killed)
        until_applied(machine, commit)
        assert machine.show("NRestarts") == "1"
        assert deployed(machine)[-1] == "slow_again"
        assert len(set(deployed(machine))) == len(deployed(machine)) > len(before)


def test_a_control_database_that_is_away_is_waited_for(machine: Machine) -> None:
    """A unit that starts before its control database becomes active once that is there."""
    settings = machine.tree / "etc/reconciler/reconciler.yaml"
    embedded = settings.read_text()
    with machine.drop_in("RestartSec=200ms"):
        try:
            settings.write_text(f"control: {{dsn: {{file: {CREDENTIAL_OF_CONTROL}}}}}\n{embedded}")
            machine.systemctl("stop", "shop-postgres")
            machine.systemctl("start", "--no-block", "reconciler")
            until(lambda: machine.show("MainPID") != "0", machine.journal, deadline_s=DEADLINE_S)
            assert machine.show("ActiveState") == "activating"
            machine.systemctl("start", "shop-postgres")
            machine.until_ready()
            assert machine.show("NRestarts") == "0"
        finally:
            settings.write_text(embedded)
            machine.systemctl("start", "shop-postgres")


def test_it_is_never_given_up(machine: Machine) -> None:
    """A daemon that cannot start, however often it was tried, starts once what it lacks is there."""
    lacking = machine.tree / "etc/reconciler/lacking"
    program = machine.show("ExecStart").split("argv[]=")[1].split(" ;")[0]
    with machine.drop_in(
        f"RestartSec=50ms\nExecStopPost=\nExecStart=\n"
        f"ExecStart=/bin/sh -c 'test -e /etc/reconciler/lacking && exec {program}'"
    ):
        machine.systemctl("start", "--no-block", "reconciler")
        until(lambda: int(machine.show("NRestarts")) > 12, machine.journal, deadline_s=DEADLINE_S)
        assert machine.show("ActiveState") == "activating"
        lacking.touch()
        machine.until_ready()
        assert machine.show("Result") == "success"


def test_an_answering_daemon_is_left_alone(machine: Machine) -> None:
    """The daemon pets the watchdog: it lives through several of its periods."""
    with machine.drop_in("WatchdogSec=4"):
        machine.systemctl("start", "reconciler")
        machine.until_ready()
        first = machine.show("WatchdogTimestampMonotonic")
        pid = machine.show("MainPID")
        until(
            lambda: int(machine.show("WatchdogTimestampMonotonic")) > int(first) + 9_000_000,
            machine.journal,
            deadline_s=DEADLINE_S,
        )
        assert (machine.show("MainPID"), machine.show("NRestarts")) == (pid, "0")


SERVICES = """
import asyncio, sys
from pathlib import Path
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Hidden, Identity, ServiceSpec

runtime = ProcessRuntime(Path(sys.argv[2]))
api = Identity(environment="production", deployment="eu", component="api")
spec = ServiceSpec(
    identity=api, definition_hash="1", argv=("sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001"),
    env=(("PASSWORD", Hidden("hunter2")),), grace_s=0.2,
)

async def main(what):
    if what == "apply":
        print(await runtime.why_not())
        await runtime.apply(spec, "one")
    if what == "remove":
        await runtime.remove(api, "one")
    if what == "ask":
        print(await runtime.why_not())
    for found in await runtime.observe("production", "eu"):
        print(found.state, found.starts, found.reason)

asyncio.run(main(sys.argv[1]))
"""


def services(machine: Machine, what: str, *properties: str) -> list[str]:
    """What a daemon of its own unit says of its services; it is over when this returns."""
    done = machine.run(
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=one-daemon.service", *properties,
        "/opt/pg-reconciler/bin/python", "-c", SERVICES, what, "/var/lib/services",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_services_have_units_of_their_own(machine: Machine) -> None:
    """A service outlives the unit of the daemon that started it, and goes whole if its supervisor dies."""
    assert services(machine, "apply") == ["None", "healthy 1 "]
    (unit,) = machine.systemctl("list-units", "--plain", "--no-legend", "reconciler-service-*").split()[:1]
    until(lambda: len(machine.processes(unit)) == 4, lambda: machine.journal(unit), deadline_s=DEADLINE_S)
    assert "hunter2" not in machine.systemctl("show", unit)
    assert services(machine, "apply") == ["None", "healthy 1 "]
    machine.run("kill", "-KILL", machine.show("MainPID", unit))
    until(
        lambda: services(machine, "look") == ["exited 1 its supervisor was killed, and it ended"],
        lambda: machine.journal(unit),
        deadline_s=DEADLINE_S,
    )
    assert services(machine, "apply") == ["None", "healthy 2 "]
    assert services(machine, "remove") == []
    assert machine.systemctl("list-units", "--plain", "--no-legend", "reconciler-service-*") == ""
    assert machine.run("pgrep", "-x", "sleep").stdout == ""


def test_services_without_the_right_to_start_units(machine: Machine) -> None:
    """A daemon that may not start units says so before anything is planned."""
    (why,) = services(machine, "ask", "--property=DynamicUser=yes", "--property=StateDirectory=services")
    assert why.startswith("it runs in the unit 'one-daemon.service', whose end would end every service, and ")
    assert "systemd does not let it start another" in why
