"""Services as units of a booted systemd: the whole suite, what people and crashes do to them, and who may."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.package import ROOT
from tests.system.conftest import Machine, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

CHECKOUT = "srv/checkout"
RULES = "etc/polkit-1/rules.d/49-reconciler.rules"
DEADLINE_S = 60.0

DAEMON = """
import asyncio, sys
from pathlib import Path
from reconciler.runtimes.runtime import Hidden, Identity, Limits, Port, ServiceSpec
from reconciler.runtimes.systemd import SystemdRuntime

what, root = sys.argv[1:]
runtime = SystemdRuntime(Path(root))
api = Identity(environment="shop", deployment="eu", component="api")
spec = ServiceSpec(
    identity=api, definition_hash="1",
    argv=("sh", "-c", "printf '%s\\\\n' \\"$PASSWORD\\" \\"$ODD\\"; exec sleep 1000"),
    env=(("PASSWORD", Hidden("hunter2")), ("ODD", "a \\"b\\" $HOME `c` %n \\\\ 'd' é\\n2")), grace_s=0.2,
    ports=(Port(name="web"),), limits=Limits(memory_bytes=64 << 20, cpus=0.5, processes=10, open_files=99),
)

async def main():
    if what in ("why", "apply"):
        print(await runtime.why_not())
    if what == "apply":
        await runtime.prepare(spec)
        await runtime.apply(spec, "one")
    if what == "remove":
        await runtime.remove(api, "one")
    if what == "log":
        print(await runtime.log_end(spec, "one"))
    for found in await runtime.observe("shop", "eu"):
        print(found.state, found.starts, found.definition_hash or "edited", found.reason)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def inside(machine: Machine) -> Iterator[Machine]:
    """The machine with this checkout in it, and an account for a daemon that is not root."""
    assert (machine.tree / str(Path(sys.executable).absolute()).lstrip("/")).exists(), (
        "one file system for all"
    )
    place = machine.tree / CHECKOUT
    for name in ("reconciler", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    (machine.tree / "srv/daemon.py").write_text(DAEMON)
    machine.run("useradd", "--system", "reconciler")
    yield machine
    # A user of the unit's name would be taken for the one that its own unit makes up.
    machine.run("userdel", "reconciler")


def suite(machine: Machine, path: str, *prefix: str, only: str = "") -> None:
    """Run a suite inside, all of whose tests have to pass."""
    done = machine.run(
        *prefix, "env", "--chdir", f"/{CHECKOUT}", "PYTHONPATH=.", "PYTHONDONTWRITEBYTECODE=1",
        sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--noconftest",
        "-k", only, path,
        timeout_s=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


WALLS = (
    "User=reconciler", "SupplementaryGroups=systemd-journal", "StateDirectory=shop-daemon",
    "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateUsers=yes",
    "ProtectProc=invisible", "ProcSubset=pid", "NoNewPrivileges=yes", "CapabilityBoundingSet=",
    "MemoryDenyWriteExecute=yes", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=yes", "UMask=0077", "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources", "SystemCallErrorNumber=EPERM",
)  # fmt: skip
"""What the unit of a daemon that is not root has around it."""


def daemon(machine: Machine, what: str, user: str = "root") -> list[str]:
    """What a daemon of this account says of its services; it is over when this returns."""
    prefix, place = [], "/srv/services"
    if user != "root":
        place = "/var/lib/shop-daemon/services"
        walls = [f"--property={each}" for each in WALLS]
        prefix = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *walls]
    done = machine.run(*prefix, "/opt/pg-reconciler/bin/python", "/srv/daemon.py", what, place)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def unit(machine: Machine) -> str:
    (found,) = machine.systemctl(
        "list-units", "--all", "--plain", "--no-legend", "reconciler-shop-*"
    ).split()[:1]
    return found


def test_units_do_what_every_runtime_does(inside: Machine) -> None:
    """The whole suite of runtimes passes on units of a real manager."""
    suite(inside, "tests/system/systemd_conformance.py")


def test_units_of_a_user(inside: Machine) -> None:
    """In the manager of a user they run, end, keep data and write outputs as well."""
    inside.systemctl("start", "user@0.service")
    suite(
        inside, "tests/system/systemd_conformance.py", "env", "XDG_RUNTIME_DIR=/run/user/0", "HOME=/root",
        only="output or data or killed or limit",
    )  # fmt: skip


def test_processes_in_transient_units_do_what_every_runtime_does(inside: Machine) -> None:
    """Under a daemon in a unit, each in a transient unit of its own, processes start, end and stay alone."""
    suite(
        inside, "tests/integration/runtimes/test_process_conformance.py",
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=suite.service",
        only="applied or found_by or names or deaf or killed or kept or status",
    )  # fmt: skip


def test_unit_is_what_was_asked_for(inside: Machine) -> None:
    """A unit holds its limits, starts at boot, shows no secret, and hands on every letter of a value."""
    assert daemon(inside, "apply") == ["None", "healthy 1 1 "]
    name = unit(inside)
    try:
        shown = {each: inside.show(each, name) for each in ("MemoryMax", "TasksMax", "LimitNOFILE", "User")}
        assert shown.pop("User").startswith("reconciler-")
        assert shown == {"MemoryMax": str(64 << 20), "TasksMax": "10", "LimitNOFILE": "99"}
        assert inside.systemctl("is-enabled", name).strip() == "enabled"
        assert "hunter2" not in inside.systemctl("show", name) + inside.systemctl("cat", name)
        place = next((inside.tree / "srv/services").rglob("environment"))
        assert place.stat().st_mode & 0o077 == 0
        until(
            lambda: daemon(inside, "log")[:3] == ["<hidden>", "a \"b\" $HOME `c` %n \\ 'd' é", "2"],
            lambda: f"its words\n{inside.journal(name)}",
            deadline_s=DEADLINE_S,
        )
        exposure = inside.run("systemd-analyze", "security", "--no-pager", "--threshold=40", name)
        assert exposure.returncode == 0, exposure.stdout[-3000:]
    finally:
        assert daemon(inside, "remove") == []
    assert not list((inside.tree / "etc/systemd/system").rglob("reconciler-shop-*"))


def test_what_hands_did_is_seen_and_undone(inside: Machine) -> None:
    """Stopped, masked away or edited by hand is told as what it is, and put right by applying it again."""
    daemon(inside, "apply")
    name = unit(inside)
    try:
        inside.systemctl("stop", name)
        assert daemon(inside, "look")[0].startswith("exited ")
        assert daemon(inside, "apply")[1].startswith("healthy ")
        file = inside.tree / "etc/systemd/system" / name
        file.write_text(file.read_text().replace("sleep 1000", "sleep 2000"))
        assert " edited its unit file was edited" in daemon(inside, "look")[0]
        assert " 1 " in daemon(inside, "apply")[1]
        assert "sleep 2000" not in inside.systemctl("cat", name)
        assert inside.run("pgrep", "-f", "-x", "sleep 1000").stdout.count("\n") == 1
        file.unlink()
        inside.systemctl("disable", name)
        inside.systemctl("daemon-reload")
        inside.systemctl("stop", name)
        assert daemon(inside, "look") == ["exited 1 1 its unit is not there, or cannot be read"]
        assert daemon(inside, "apply")[1].startswith("healthy ")
    finally:
        assert daemon(inside, "remove") == []


def test_daemon_that_is_not_root(inside: Machine) -> None:
    """Without the rule it is told which one it lacks; with it, its own units are all that it may handle."""
    (why,) = daemon(inside, "why", user="reconciler")
    assert "the polkit rule systemd/49-reconciler.rules" in why
    rules = inside.tree / RULES
    rules.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "systemd" / rules.name, rules)
    rules.chmod(0o644)
    try:
        until(
            lambda: daemon(inside, "why", user="reconciler") == ["None"],
            lambda: inside.journal("polkit"),
            deadline_s=DEADLINE_S,
        )
        assert daemon(inside, "apply", user="reconciler") == ["None", "healthy 1 1 "]
        assert inside.systemctl("is-enabled", unit(inside)).strip() == "enabled"
        until(
            lambda: daemon(inside, "log", user="reconciler")[0] == "<hidden>",
            lambda: "its words",
            deadline_s=DEADLINE_S,
        )
        as_it = ["setpriv", "--reuid=reconciler", "--regid=reconciler", "--init-groups"]
        for verb, other in (
            ("stop", "shop-postgres.service"),
            ("kill", unit(inside)),
            ("restart", unit(inside)),
        ):
            refused = inside.run(*as_it, "systemctl", "--no-ask-password", verb, other)
            assert refused.returncode != 0, (verb, other)
        assert inside.show("ActiveState", "shop-postgres") == "active"
        assert daemon(inside, "remove", user="reconciler") == []
        assert not list((inside.tree / "etc/systemd/system").rglob("reconciler-shop-*"))
    finally:
        rules.unlink()
