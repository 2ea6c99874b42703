"""`reconciler demo`: the main job from first rollout to drift, on an embedded PostgreSQL of its own.

It uses the commands a user would, so what it shows is what there is.
"""

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reconciler.cli.demo_files import FIRST_COMMIT, SECOND_COMMIT
from reconciler.errors import PermanentError

WAIT_S = 60.0
SHOWN_METRICS = (
    "reconciler_commit_to_applied_seconds_sum",
    "reconciler_drifted_objects",
    "reconciler_environment_applied_commit_timestamp_seconds",
    "reconciler_operations{",
    "reconciler_pending_changes",
)


class Demo:
    """One run of the demonstration, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "shop-environments"
        self.config = folder / "reconciler.yaml"
        self.log = folder / "daemon.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.psql: list[str] = []
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PG"))}

    # ---- what the demonstration does -------------------------------------------------------------

    def run(self) -> dict[str, str]:
        """Do everything; returns the figures of the summary."""
        _title("1. A PostgreSQL server, a config repository, the daemon")
        self._start_postgres()
        self._commit_files(FIRST_COMMIT, "Declare production")
        self._start_daemon()
        _title("2. The first rollout: two deployments, a database each")
        first = self._until_applied("the first commit")
        self._reconciler("status", "production")
        _title("3. A branch with a new commit, and its dry run before anyone merges")
        self._git("switch", "--quiet", "-c", "loyalty")
        self._commit_files(SECOND_COMMIT, "Add loyalty points")
        self._git("switch", "--quiet", "main")
        self._reconciler("diff", "production", "--ref", "loyalty")
        _title("4. The merge: only the delta is applied")
        self._git("merge", "--quiet", "--ff-only", "loyalty")
        merged = self._until_applied("the merge")
        self._reconciler("history", "production")
        _title("5. Drift: somebody changes production by hand")
        statement = "ALTER TABLE shop.customers ADD COLUMN note text; DROP INDEX shop.orders_customer_idx"
        _say(f"psql: {statement}")
        self._sql("shop_eu", statement)
        drift = self._until_drift()
        self._reconciler("diff", "production", "--deployment", "eu")
        _title("6. What Prometheus sees")
        for line in self._metrics():
            _say(f"  {line}")
        return {
            "first commit to applied": f"{first:.2f} s",
            "merge to applied": f"{merged:.2f} s",
            "drifted objects reported": str(drift),
        }

    def stop(self) -> None:
        """End the daemon and both servers."""
        if self.daemon is not None:
            self.daemon.terminate()
            try:
                self.daemon.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait(timeout=10)
        asyncio.run(self._stop_servers())

    def write_stop_script(self) -> Path:
        """Write a script that ends everything and removes it; gives its path."""
        script = self.folder / "stop"
        production = self.folder / "production.yaml"
        production.write_text(f"state_dir: {json.dumps(str(self.folder / 'production'))}\n")
        pid = self.daemon.pid if self.daemon is not None else 0
        lines = [
            "#!/bin/sh",
            "# Ends the demonstration: the daemon, then both servers, then its folder.",
            f"kill {pid}",
            f"while kill -0 {pid} 2>/dev/null; do sleep 0.1; done",
            *(
                shlex.join([*_ourselves(), "control", "stop", "--config", str(config)])
                for config in (self.config, production)
            ),
            shlex.join(["rm", "-rf", str(self.folder)]),
        ]
        script.write_text("\n".join(lines) + "\n")
        script.chmod(0o755)
        return script

    async def _stop_servers(self) -> None:
        from reconciler.postgres.embedded import EmbeddedServer

        for state in (self.folder / "production", self.folder / "state"):
            if state.exists():
                await EmbeddedServer.at(state).stop()

    # ---- parts -----------------------------------------------------------------------------------

    def _start_postgres(self) -> None:
        from reconciler.postgres.embedded import EmbeddedServer, find_binaries

        began = time.monotonic()
        server = EmbeddedServer.at(self.folder / "production")
        dsn = asyncio.run(server.ensure_running())
        self.environ["SHOP_DSN"] = dsn.reveal()
        self.psql = [str(find_binaries() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        _say(f"PostgreSQL answers at {dsn.server} after {time.monotonic() - began:.1f} s")

    def _commit_files(self, files: dict[str, str], message: str) -> None:
        fresh = not self.repository.exists()
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if fresh:
            self._git("init", "--quiet", "--initial-branch=main")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)
        _say(f"committed: {message}")

    def _git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false"]
        _run(["git", "-C", str(self.repository), *identity, *arguments], self.environ)

    def _start_daemon(self) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.config.write_text(
            f"state_dir: {json.dumps(str(self.folder / 'state'))}\n"
            f"listen: 127.0.0.1:{port}\n"
            "sources:\n"
            "  - name: shop\n"
            f"    url: {json.dumps(str(self.repository))}\n"
            "    branch: main\n"
            "    interval: 10s\n"
            "    drift_interval: 10s\n"
        )
        with self.log.open("wb") as log:
            self.daemon = subprocess.Popen(  # noqa: S603 - ourselves
                [*_ourselves(), "run", "--config", str(self.config)],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        began = time.monotonic()
        self._wait("the daemon to be ready", lambda: self._get("/readyz") is not None)
        _say(f"daemon serves {self.url} after {time.monotonic() - began:.1f} s")

    def _until_applied(self, what: str) -> float:
        """Wait until the head of the repository is applied; seconds from now."""
        began = time.monotonic()
        head = subprocess.run(  # noqa: S603
            ["git", "-C", str(self.repository), "rev-parse", "HEAD"],  # noqa: S607
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()
        self._wait(
            f"{what} to be applied",
            lambda: (self._get("/v1/environments/production") or {}).get("applied_commit") == head,
        )
        _say(f"applied {head[:12]} everywhere")
        return time.monotonic() - began

    def _until_drift(self) -> int:
        self._reconciler("reconcile", "production")

        def drift() -> int:
            status = self._get("/v1/environments/production") or {}
            return sum(int(deployment["drift"]) for deployment in status.get("deployments", []))

        self._wait("the drift to be noticed", lambda: drift() > 0)
        return drift()

    def _metrics(self) -> Sequence[str]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as response:  # noqa: S310
            lines = response.read(1_000_000).decode().splitlines()
        return [line for line in lines if line.startswith(SHOWN_METRICS)]

    def _sql(self, database: str, statement: str) -> None:
        from reconciler.postgres.dsn import Dsn

        # The connection goes by the environment: arguments are seen by every user of the machine.
        given = Dsn(self.environ["SHOP_DSN"]).parameters()
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
        connection = {variable: str(given[key]) for key, variable in names.items() if key in given}
        environ = {**self.environ, **connection, "PGDATABASE": database}
        _run([*self.psql, "--command", statement], environ)

    def _reconciler(self, *arguments: str) -> None:
        _say(f"\n$ reconciler {' '.join(arguments)}")
        _run([*_ourselves(), *arguments, "--config", str(self.config)], self.environ, show=True)

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:  # noqa: S310 - our own daemon
                found: dict[str, Any] = json.loads(response.read(1_000_000))
                return found
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if self.daemon is not None and self.daemon.poll() is not None:
                raise PermanentError(f"waiting for {what}: the daemon ended", hint=f"see {self.log}")
            if time.monotonic() > deadline:
                raise PermanentError(f"waiting for {what}: not within {WAIT_S:.0f} s", hint=f"see {self.log}")
            time.sleep(0.05)


def run_demo(*, keep: bool, folder: Path | None) -> int:
    """Run the demonstration; with `keep`, leave everything running and say where."""
    if shutil.which("git") is None:
        raise PermanentError("the demonstration needs the program 'git'", hint="install git")
    place = folder or Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    if folder is None:
        # Let the account that PostgreSQL runs as pass through, so that all of it is here and goes with it.
        place.chmod(0o711)
    demo = Demo(place)
    began = time.monotonic()
    kept = failed = False
    try:
        figures = demo.run()
        figures["whole demonstration"] = f"{time.monotonic() - began:.1f} s"
        _title("Summary")
        for name, value in figures.items():
            _say(f"  {name:<28} {value}")
        if keep:
            kept = True
            _say(f"\nleft running: {demo.url}")
            _say(f"repository:   {demo.repository}")
            _say(f"stop it with: {demo.write_stop_script()}")
    except PermanentError:
        failed = True  # its message names the log, which stays
        raise
    finally:
        if not kept:
            demo.stop()
            if folder is None and not failed:
                shutil.rmtree(place, ignore_errors=True)
    return 0


def _ourselves() -> list[str]:
    return [sys.executable, "-m", "reconciler"]


def _run(command: Sequence[str], environ: dict[str, str], *, show: bool = False) -> None:
    result = subprocess.run(  # noqa: S603 - arguments are ours
        command, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    if show:
        _say(result.stdout.rstrip())
    if result.returncode not in {0, 3, 4}:
        raise PermanentError(
            f"{Path(command[0]).name} {' '.join(command[1:4])} … failed with {result.returncode}: "
            + result.stderr.strip()
        )


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _say(text: str) -> None:
    print(text, flush=True)
