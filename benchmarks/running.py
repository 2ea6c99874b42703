"""A daemon as a user runs it, over a small environment, for benchmarks of what a user waits for."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.setting import server
from reconciler.cli.demo_files import FIRST_COMMIT

WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A daemon, its config file, its repository and its log."""

    url: str
    config: Path
    repository: Path
    log: Path
    environ: dict[str, str]

    def git(self, *arguments: str) -> str:
        """Run Git in the repository."""
        identity = [
            "-c",
            "user.name=Bench",
            "-c",
            "user.email=bench@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        done = subprocess.run(
            ["git", "-C", str(self.repository), *identity, *arguments],
            env=self.environ, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        """Write files and commit them; gives the id."""
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def environment(self) -> dict[str, Any]:
        """What the API says of the environment; empty where it does not answer yet."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/environments/production", timeout=5) as response:
                found: dict[str, Any] = json.loads(response.read())
                return found
        except OSError:
            return {}

    def until_applied(self, commit: str) -> None:
        """Wait until a commit is applied everywhere."""
        deadline = time.monotonic() + WAIT_S
        while self.environment().get("applied_commit") != commit:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{commit} was not applied:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.002)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    """A server, a repository with a first commit, and a daemon that has applied it."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with server() as dsn:
        # Compiled modules are kept, as they are wherever nobody forbids it.
        left_out = ("GIT_", "PYTHONDONTWRITEBYTECODE")
        environ = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
        environ |= {"SHOP_DSN": dsn.reveal(), "RECONCILER_CONTROL_DSN": dsn.reveal()}
        made = Running(
            url=f"http://127.0.0.1:{port}",
            config=folder / "reconciler.yaml",
            repository=folder / "repository",
            log=folder / "daemon.log",
            environ=environ,
        )
        made.repository.mkdir(parents=True)
        made.git("init", "--quiet", "--initial-branch=main")
        first = made.commit(FIRST_COMMIT)
        made.config.write_text(
            f"state_dir: {folder / 'state'}\nlisten: 127.0.0.1:{port}\n"
            "control: {dsn: {env: RECONCILER_CONTROL_DSN}}\n"
            f"sources:\n  - {{name: shop, url: {json.dumps(str(made.repository))}, branch: main, interval: 60s}}\n"
        )
        with made.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "run", "--config", str(made.config), "--log-level", "debug"],
                env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            made.until_applied(first)
            yield made
        finally:
            process.terminate()
            process.wait(timeout=60)
