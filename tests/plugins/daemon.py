"""The daemon as a user runs it: a process of its own, a config repository, and its API from outside."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.git import git, git_environment
from tests.plugins.postgres import Server, free_port
from tests.plugins.starter import Started, starter

DEADLINE_S = 120.0

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: {name}}}
spec:
  deployments:
    - name: eu
      postgres: {{dsn: {{env: SHOP_DSN}}}}
  components:
    - {{name: shop-db, kind: Database, database: {database}, extensions: [citext]}}
    - {{name: shop-schema, kind: Module, database: {{from: shop-db}}, path: modules/{module}}}
"""


def until(condition: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S) -> Any:
    """Wait for a condition; what it gives is returned once it is true.

    Asking costs sessions of the server and answers of daemons, which have better to do: what takes long is
    asked for less often, and never for more than a third of the time.
    """
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        found = condition()
        if found:
            return found
        now = time.monotonic()
        if now > began + deadline_s:
            raise AssertionError(f"waited {deadline_s:g} s for {what}")
        time.sleep(min(0.25, max(0.02, (now - began) / 40, 2 * (now - asked))))


class ConfigRepository:
    """A config repository on disk, changed by commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main")

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, text in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, files: Mapping[str, str | bytes] | None = None, message: str = "change") -> str:
        """Write files and commit everything; gives the commit's id."""
        self.write(files or {})
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--allow-empty", "--message", message)
        return str(git(self.path, "rev-parse", "HEAD")).strip()

    def module(self, changes: Mapping[str, str], *, name: str = "shop") -> dict[str, str]:
        """Files of a module whose plan has these changes, name to deploy script, in order."""
        lines = [
            f"{change} 2026-01-01T00:00:{number % 60:02d}Z Ada <ada@example.org> # change {number}"
            for number, change in enumerate(changes)
        ]
        plan = f"%syntax-version=1.0.0\n%project={name}\n\n" + "\n".join(lines) + "\n"
        scripts = {f"modules/{name}/deploy/{change}.sql": text for change, text in changes.items()}
        return {f"modules/{name}/sqitch.plan": plan, **scripts}


class Daemon:
    """A `reconciler run` in a process of its own."""

    def __init__(self, folder: Path, repository: str, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "reconciler.yaml"
        self.log = folder / "daemon.log"
        self.environ = {**git_environment(), **environ, "PYTHONUNBUFFERED": "1"}
        self.arguments: list[str] = []
        self.process: Started | subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f"state_dir: {folder / 'state'}\nlisten: 127.0.0.1:{self.port}\n"
            "control: {dsn: {env: RECONCILER_CONTROL_DSN}}\n"
            "sources:\n"
            f"  - {{name: shop, url: {json.dumps(repository)}, branch: main, interval: 2s,"
            " drift_interval: 2s}\n"
        )

    def start(self, *, wait: bool = True, **environ: str) -> "Daemon":
        """Start it and wait until it is ready."""
        arguments, environ = (
            ["run", "--config", str(self.config), *self.arguments],
            {**self.environ, **environ},
        )
        if "LD_PRELOAD" in environ:
            # Nothing is loaded before a process that is forked.
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "reconciler", *arguments],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                )
        else:
            self.process = starter().start(arguments, environ, self.folder, self.log)
        if wait:
            until(self.ready, f"the daemon to be ready; log:\n{self.tail()}")
        return self

    def ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
        return self.get("/readyz")[0] == 200

    def tail(self, characters: int = 6000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def wait_killed(self) -> None:
        """Wait until it died of a kill."""
        assert self.process is not None
        assert self.process.wait(timeout=DEADLINE_S) == -signal.SIGKILL, self.tail()
        self.process = None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=DEADLINE_S)
        self.process = None

    def stop(self) -> int:
        """Ask it to end and give its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=DEADLINE_S)
        self.process = None
        return code

    def get(self, path: str) -> tuple[int, Any]:
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of a request; status 0 where nobody answers."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"} if method == "POST" else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                content = response.read()
                return response.status, _decoded(content)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())
        except (urllib.error.URLError, OSError):
            return 0, None

    def environment(self, name: str = "production") -> dict[str, Any]:
        status, found = self.get(f"/v1/environments/{name}")
        return found if status == 200 else {}

    def plan(self, name: str = "production", query: str = "") -> dict[str, Any]:
        status, found = self.get(f"/v1/environments/{name}/diff{query}")
        assert status == 200, found
        return dict(found)

    def until_applied(self, commit: str, name: str = "production") -> None:
        """Wait until a commit is applied everywhere."""
        try:
            until(lambda: self.environment(name).get("applied_commit") == commit, f"{commit} to be applied")
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(self.environment(name), indent=1)}\n{self.tail()}"
            ) from None

    def condition(self, kind: str, name: str = "production") -> dict[str, Any]:
        found = [row for row in self.environment(name).get("conditions", []) if row["type"] == kind]
        return dict(found[0]) if found else {}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line beside the daemon."""
        result = subprocess.run(
            [sys.executable, "-m", "reconciler", *arguments, "--config", str(self.config)],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


class World:
    """A repository, a server with a control database, and daemons on them."""

    def __init__(self, folder: Path, server: Server, database: str) -> None:
        self.folder = folder
        self.server = server
        self.database = database
        self.control = server.create_database()
        self.repository = ConfigRepository(folder / "repository")
        self.daemons: list[Daemon] = []
        self.extra: dict[str, str] = {}

    def spec(
        self, name: str = "production", *, database: str | None = None, module: str = "shop"
    ) -> dict[str, str]:
        text = SPEC.format(name=name, database=database or self.database, module=module)
        return {f"environments/{name}.yaml": text}

    def daemon(self, *, server: Server | None = None, repository: str | None = None) -> Daemon:
        environ = {
            "SHOP_DSN": (server or self.server).text(),
            "RECONCILER_CONTROL_DSN": self.server.text(self.control),
            **self.extra,
        }
        daemon = Daemon(
            self.folder / f"daemon-{len(self.daemons)}", repository or str(self.repository.path), environ
        )
        self.daemons.append(daemon)
        return daemon

    def rows(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        return self.server.run(statement, database=database or self.database)

    def deployed(self, database: str | None = None) -> list[str]:
        return [
            str(row[0])
            for row in self.rows("select name from reconciler.changes order by position", database)
        ]

    def close(self) -> None:
        for daemon in self.daemons:
            if daemon.process is not None:
                daemon.process.kill()
                daemon.process.wait(timeout=DEADLINE_S)
        for name in (self.control, self.database):
            self.server.drop_database(name)


@pytest.fixture
def world(tmp_path: Path, postgres_server: Server) -> Iterator[World]:
    """A repository and a server; nothing runs yet."""
    tmp_path.chmod(0o755)
    made = World(tmp_path, postgres_server, f"shop_{os.getpid()}_{time.monotonic_ns() % 10**9}")
    yield made
    made.close()
