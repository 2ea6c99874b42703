"""Several daemons on one control database: real processes, struck from outside and read by their logs."""

import hashlib
import hmac
import json
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins.daemon import DEADLINE_S, ConfigRepository, Daemon, until
from tests.plugins.postgres import OwnServer, Server

CONTROL = "control"
WEBHOOK_SECRET = "long-enough-to-be-the-secret-of-a-webhook"
LONGER = float(os.environ.get("RECONCILER_TEST_LONGER") or 1)
"""How many times as long as usual storms and soaks last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one daemon takes of its machine at one moment; processes count those it started."""

    processes: int
    descriptors: int
    threads: int
    resident: int


class Member(Daemon):
    """One daemon of several, with settings of its own and all of its events in its log."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        sources: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__(folder, "", environ)
        self.arguments = ["--log-level", "debug"]
        self.config.write_text(
            yaml.safe_dump(
                {
                    "state_dir": str(folder / "state"),
                    "listen": f"127.0.0.1:{self.port}",
                    "control": {"dsn": {"env": "RECONCILER_CONTROL_DSN"}},
                    "sources": [dict(source) for source in sources],
                    **settings,
                }
            )
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_ended(self) -> int:
        """Wait until it ended by itself, and give its exit code."""
        assert self.process is not None
        code = self.process.wait(timeout=DEADLINE_S)
        self.process = None
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if there is anybody to get it."""
        if self.process is not None:
            self.process.send_signal(number)

    def deliver(self, delivery: str, source: str = "shop") -> None:
        """Send it the webhook of a push."""
        body = b'{"ref": "refs/heads/main"}'
        signature = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(
            f"{self.url}/v1/webhooks/{source}",
            method="POST",
            data=body,
            headers={
                "Content-Type": "application/json",
                "X-GitHub-Event": "push",
                "X-GitHub-Delivery": delivery,
                "X-Hub-Signature-256": f"sha256={signature}",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 202

    def logged(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The lines of its log, over all of its runs; those of one kind of event."""
        lines = []
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        for line in text.splitlines():
            # A process that was killed may leave half a line.
            with suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and (kind is None or found.get("event") == kind):
                    lines.append(found)
        return lines

    def footprint(self) -> Footprint:
        """What it takes at this moment."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
        )
        return Footprint(
            processes=len(_descendants(self.pid)),
            descriptors=sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()),
            threads=int(status["Threads"]),
            resident=int(status["VmRSS"].split()[0]) * 1024,
        )


def _descendants(pid: int) -> list[int]:
    """Processes below a process."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        for task in _listing(Path(f"/proc/{above}/task")):
            with suppress(OSError):
                below = [int(each) for each in (task / "children").read_text().split()]
                found += below
                waiting += below
    return found


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


class Fleet:
    """A config repository, a server of its own with a control database, and daemons on them."""

    def __init__(self, folder: Path, server: OwnServer) -> None:
        self.folder = folder
        self.server = server
        server.create_database(CONTROL)
        self.repository = ConfigRepository(folder / "repository")
        self.members: list[Member] = []
        self.extra: dict[str, str] = {}

    def member(
        self,
        *,
        url: str | None = None,
        interval: str = "2s",
        sources: Sequence[Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> Member:
        """One more daemon; it is not started yet."""
        source = {"name": "shop", "url": url or str(self.repository.path), "interval": interval}
        environ = {
            "SHOP_DSN": self.server.text(),
            "RECONCILER_CONTROL_DSN": self.server.text(CONTROL),
            **self.extra,
        }
        made = Member(
            self.folder / f"daemon-{len(self.members)}",
            environ,
            sources=sources if sources is not None else [source],
            settings=settings,
        )
        self.members.append(made)
        return made

    def start(self, *members: Member) -> None:
        """Start daemons side by side and wait until all are ready."""
        for member in members or self.members:
            member.start(wait=False)
        for member in members or self.members:
            until(member.ready, f"{member.folder.name} to be ready")

    def control(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the control database."""
        return self.server.run(statement, database=CONTROL)

    def spec(
        self,
        name: str,
        *,
        deployments: Sequence[str] = ("eu",),
        module: str | None = "shop",
        dsn: str | Mapping[str, str] = "SHOP_DSN",
        more: Mapping[str, Any] | None = None,
        database: str | None = None,
    ) -> dict[str, str]:
        """The file of an environment: a database for each deployment, and a module, unless there is none."""
        variables = {each: dsn if isinstance(dsn, str) else dsn[each] for each in deployments}
        components: list[dict[str, Any]] = [
            {"name": "db", "kind": "Database", "database": database or f"{name}_${{deployment}}"}
        ]
        if module is not None:
            components.append(
                {
                    "name": "schema",
                    "kind": "Module",
                    "database": {"from": "db"},
                    "path": f"modules/{module}",
                }
            )
        value = {
            "apiVersion": "reconciler/v1",
            "kind": "Environment",
            "metadata": {"name": name},
            "spec": {
                **(more or {}),
                "deployments": [
                    {"name": each, "postgres": {"dsn": {"env": variable}}}
                    for each, variable in variables.items()
                ],
                "components": components,
            },
        }
        return {f"environments/{name}.yaml": yaml.safe_dump(value, sort_keys=False)}

    def commit(
        self,
        changes: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        *,
        module: str = "shop",
    ) -> str:
        """Commit files, and the changes of a module."""
        plan = self.repository.module(changes, name=module) if changes is not None else {}
        return self.repository.commit({**(files or {}), **plan})

    def applied(self, commit: str, names: Iterable[str]) -> bool:
        """Whether a commit is applied to all of these environments, as the control database knows."""
        found = self.control(
            f"select name from reconciler_control.environments where applied_commit = '{commit}'"
        )
        return set(names) <= {row[0] for row in found}

    def until_applied(self, commit: str, names: Sequence[str], *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until a commit is applied to all of these environments."""
        try:
            until(lambda: self.applied(commit, names), f"{commit} to be applied", deadline_s=deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def told(self) -> str:
        """What somebody wants to know when it did not go as it should."""
        parts = [
            _table(
                self.control,
                "select o.id, o.rollout, r.commit, o.environment, o.deployment, o.state::text, o.attempts, "
                "w.name, reconciler_control.is_alive(w.id), o.reason, o.error "
                "from reconciler_control.operations o join reconciler_control.rollouts r on r.id = o.rollout "
                "left join reconciler_control.workers w on w.id = o.worker "
                "where o.state <> 'completed' order by o.id",
            ),
            _table(
                self.control,
                "select w.id, w.name, reconciler_control.is_alive(w.id), w.lease_expires_at "
                "from reconciler_control.workers w order by w.registered_at",
            ),
            _table(
                self.control,
                "select e.name, w.name, e.head_commit, e.observed_commit, e.applied_commit, e.error "
                "from reconciler_control.environments e "
                "left join reconciler_control.workers w on w.id = e.owner order by 1",
            ),
        ]
        for member in self.members:
            loud = [line for line in member.logged() if line.get("level") in ("warning", "error")]
            parts.append(f"{member.folder.name}: " + "\n".join(json.dumps(line) for line in loud[-15:]))
            parts.append(member.tail(1500))
        return "\n\n".join(parts)

    def history(self, name: str) -> str:
        """All that happened to an environment, as the control database tells it, and its passes."""
        events = self.control(
            "select to_char(at at time zone 'UTC', 'HH24:MI:SS.US'), kind, rollout, message "
            f"from reconciler_control.events where environment = '{name}'"
        )
        rows = [tuple(map(str, row)) for row in events]
        rows += [
            (
                f"{each.end:%H:%M:%S.%f}",
                "pass",
                each.member,
                f"{each.begin:%S.%f}",
                str(each.commit),
                each.result,
            )
            for each in self.passes()
            if each.environment == name
        ]
        return "\n".join(" | ".join(row) for row in sorted(rows))

    def owners(self) -> dict[str, str]:
        """Who runs the passes of each environment, by the name of a living worker."""
        return dict(
            self.control(
                "select e.name, w.name from reconciler_control.environments e "
                "join reconciler_control.workers w on w.id = e.owner "
                "where e.orphaned_at is null and reconciler_control.is_alive(w.id)"
            )
        )

    def share(self, member: Member) -> set[str]:
        """The environments whose passes a daemon runs."""
        return {name for name, worker in self.owners().items() if worker.endswith(f"/{member.pid}")}

    def rollouts_of_commits(self) -> Counter[tuple[str, str]]:
        """How many rollouts were recorded for each environment and commit."""
        found = self.control("select environment, commit from reconciler_control.rollouts")
        return Counter((str(name), str(commit)) for name, commit in found)

    def claimers(self) -> Counter[str]:
        """How many claims each worker made, by its name."""
        found = self.control(
            "select data ->> 'worker' from reconciler_control.events "
            "where kind in ('operation.claimed', 'operation.resumed')"
        )
        return Counter(str(row[0]) for row in found)

    def passes(self, *, since: datetime | None = None) -> list["Pass"]:
        """All passes that any daemon finished, by their time."""
        found = []
        for member in self.members:
            for line in member.logged("pass.finished"):
                end = datetime.fromisoformat(line["timestamp"])
                begin = end - timedelta(seconds=line["duration_s"])
                if since is None or begin >= since:
                    found.append(
                        Pass(
                            member=member.folder.name,
                            environment=line["environment"],
                            begin=begin,
                            end=end,
                            commit=line.get("commit"),
                            result=line["result"],
                        )
                    )
        return sorted(found, key=lambda each: each.end)

    def backends(self) -> list[tuple[Any, ...]]:
        """Connections of daemons to the server: database, name, how many."""
        return self.server.run(
            "select datname, application_name, count(*) from pg_stat_activity "
            "where application_name like 'reconciler/%' group by 1, 2 order by 1, 2"
        )

    def leftovers(self) -> list[str]:
        """Processes that work below the folder of the fleet, and are none of its running daemons."""
        running = {member.pid for member in self.members if member.is_up}
        found = []
        for process in _listing(Path("/proc")):
            if not process.name.isdigit() or int(process.name) in running | {os.getpid()}:
                continue
            with suppress(OSError):
                place = str((process / "cwd").readlink())
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.folder) in command or place.startswith(str(self.folder)):
                    found.append(f"{process.name} in {place}: {command}")
        return found

    def stop(self) -> list[int]:
        """Ask all to end, and give their exit codes."""
        running = [member for member in self.members if member.is_up]
        for member in running:
            member.send(signal.SIGCONT)
            member.send(signal.SIGTERM)
        return [member.wait_ended() for member in running]

    def close(self) -> None:
        for member in self.members:
            if member.process is not None:
                member.process.kill()
                member.process.wait(timeout=DEADLINE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over one environment, as the log of a daemon tells it."""

    member: str
    environment: str
    begin: datetime
    end: datetime
    commit: str | None
    result: str


def _table(run: Callable[[str], list[tuple[Any, ...]]], statement: str) -> str:
    return "\n".join(" | ".join(str(value) for value in row) for row in run(statement))


def source_with_webhook(url: str, name: str = "shop", interval: str = "1h") -> dict[str, Any]:
    """The settings of a source that a webhook wakes."""
    webhook = {"provider": "github", "secret": WEBHOOK_SECRET}
    return {"name": name, "url": url, "interval": interval, "webhook": webhook}


def gate(name: str) -> str:
    """A statement that waits until the gate of that name is opened; any number may wait, in any database."""
    return (
        "do $$ begin while not exists (select from pg_catalog.pg_roles "
        f"where rolname = 'gate_{name}') loop perform pg_catalog.pg_sleep(0.05); end loop; end $$;"
    )


def open_gate(server: Server, name: str) -> None:
    """Let go who waits at a gate, and who comes later."""
    server.run(f"create role gate_{name}")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A server and a repository; nothing runs yet."""
    tmp_path.chmod(0o755)
    server = OwnServer(max_connections="400")
    made: Fleet | None = None
    try:
        server.start()
        made = Fleet(tmp_path, server)
        yield made
    finally:
        if made is not None:
            made.close()
        server.remove()
