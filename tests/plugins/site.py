"""The parts of a daemon in this process: passes and workers on real databases, and no daemon around them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from reconciler.control.install import install
from reconciler.control.workers import Peer
from reconciler.daemon.parts import Parts, build
from reconciler.daemon.readers import Hooks
from reconciler.daemon.secrets import Secrets
from reconciler.daemon.workers import build_worker
from reconciler.events import Event
from reconciler.execution.interference import Interference
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.rollout.status import EnvironmentStatus, RolloutStatus
from reconciler.settings import Settings
from reconciler.worker import Worker
from tests.plugins.daemon import ConfigRepository
from tests.plugins.postgres import Server

LIMITS: Mapping[str, Any] = {
    "lease": 3,
    "heartbeat": 0.3,
    "attempts": 5,
    "retry_base": 0.05,
    "retry_ceiling": 0.2,
    "stop_grace": 5,
    "lock_timeout": 20,
}


class Process:
    """What one daemon has: parts, a worker, and the events they told."""

    def __init__(
        self,
        site: "Site",
        name: str,
        *,
        more_sources: Sequence[Mapping[str, str]] = (),
        shared: bool = False,
        interference: Interference | None = None,
        more: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> None:
        self.events: list[Event] = []
        settings = Settings.model_validate(
            {
                "state_dir": str(site.folder / name),
                "sources": [*more_sources, {"name": "shop", "url": str(site.repository.path)}],
                "limits": {**LIMITS, **limits},
                **(more or {}),
            }
        )
        hooks = Hooks(
            emit=self.events.append,
            ask_pass=lambda _source: None,
            ask_work=lambda: None,
            interference=interference or Interference(),
        )
        secrets = Secrets(site.environ, lambda _secret: None, settings.secrets.age_keys)
        self.parts: Parts = build(settings, secrets, site.control, hooks, fetch_first=False, shared=shared)
        self.peers: list[tuple[str | None, tuple[Peer, ...]]] = []
        self.worker: Worker = build_worker(
            settings,
            self.parts,
            site.control,
            name,
            hooks,
            passes=True,
            on_peers=lambda worker, peers: self.peers.append((worker, peers)),
        )
        self.task: asyncio.Task[None] | None = None

    async def look(self, *, full: bool = True) -> None:
        """One pass over the source."""
        await self.parts.passes.pass_source("shop", full=full)

    def work(self) -> None:
        """Let the worker work from now on."""
        self.task = asyncio.create_task(self.worker.run())

    async def stop(self) -> None:
        """Stop the worker and tell what it died of, if it did."""
        self.worker.stop()
        if self.task is not None:
            await self.task

    def told(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def rollouts(self, name: str = "production") -> tuple[RolloutStatus, ...]:
        return await self.parts.reconciler.rollouts(name)

    async def environment(self, name: str = "production") -> EnvironmentStatus:
        return await self.parts.reconciler.environment(name)

    async def states(self, name: str = "production") -> list[str]:
        """States of the operations of the newest rollout."""
        return [operation.state.value for operation in (await self.rollouts(name))[0].operations]


class Site:
    """A repository, a control database and a server; databases of a test are dropped at its end."""

    def __init__(self, folder: Path, server: Server, control: Dsn, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.server = server
        self.control = control
        self.repository = ConfigRepository(folder / "repository")
        self.environ = {"SHOP_DSN": server.text()}
        self.prefix = f"site_{os.getpid()}_{time.monotonic_ns() % 10**9}"
        self._stack = stack

    def process(self, name: str = "one", **limits: Any) -> Process:
        made = Process(self, name, **limits)
        self._stack.push_async_callback(made.parts.close)
        self._stack.push_async_callback(made.stop)
        return made

    def database(self, deployment: str = "eu", name: str = "production") -> str:
        return f"{self.prefix}_{name}_{deployment}"

    def spec(
        self,
        name: str = "production",
        *,
        deployments: tuple[str, ...] = ("eu",),
        more: str = "",
        dsn: str = "",
    ) -> dict[str, str]:
        """An environment with a database and the module `shop`; `more` is YAML below `spec`."""
        places = "".join(
            f"    - name: {each}\n      postgres: {{dsn: {{env: {dsn or 'SHOP_DSN'}}}}}\n"
            for each in deployments
        )
        text = (
            f"apiVersion: reconciler/v1\nkind: Environment\nmetadata: {{name: {name}}}\nspec:\n{more}"
            f"  deployments:\n{places}  components:\n"
            f"    - {{name: shop-db, kind: Database, database: '{self.prefix}_{name}_${{deployment}}'}}\n"
            "    - {name: shop-schema, kind: Module, database: {from: shop-db}, path: modules/shop}\n"
        )
        return {f"environments/{name}.yaml": text}

    def commit(self, changes: Mapping[str, str], files: Mapping[str, str] | None = None) -> str:
        """Commit these changes of the module `shop`, and files."""
        return self.repository.commit({**(files or {}), **self.repository.module(changes)})

    async def connect(self, deployment: str = "eu", name: str = "production") -> Connection:
        connection = await connect(
            self.server.dsn, database=self.database(deployment, name), role="test", autocommit=True
        )
        self._stack.push_async_callback(connection.close)
        return connection

    def deployed(self, deployment: str = "eu", name: str = "production") -> list[str]:
        rows = self.server.run(
            "select name from reconciler.changes order by position", database=self.database(deployment, name)
        )
        return [str(row[0]) for row in rows]

    def rows(self, statement: str, deployment: str = "eu", name: str = "production") -> list[tuple[Any, ...]]:
        return self.server.run(statement, database=self.database(deployment, name))

    async def control_rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = await connect(self.control, role="test")
        try:
            cursor = await connection.execute(statement)  # type: ignore[arg-type]
            return list(await cursor.fetchall()) if cursor.description else []
        finally:
            await connection.close()

    def drop_databases(self) -> None:
        for (name,) in self.server.run(
            f"select datname from pg_database where datname like '{self.prefix}%'"
        ):
            self.server.drop_database(name)


async def holds(condition: Callable[[], Awaitable[Any]], what: str, *, deadline_s: float = 90.0) -> Any:
    """Wait until a condition holds."""
    deadline = time.monotonic() + deadline_s
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"waited {deadline_s:g} s for {what}"
        await asyncio.sleep(0.02)
    return found


class Gate:
    """A lock on a table that a change of a test needs: the change waits until the gate is opened."""

    SCRIPT = "lock table gate in access exclusive mode; create table behind ();"

    def __init__(self, site: Site, deployment: str = "eu", name: str = "production") -> None:
        self._site = site
        self._deployment = deployment
        self._name = name
        self._connection: Connection | None = None

    async def close(self) -> None:
        self._connection = await self._site.connect(self._deployment, self._name)
        await self._connection.execute("begin")
        await self._connection.execute("lock table gate in access share mode")

    async def open(self) -> None:
        assert self._connection is not None
        await self._connection.close()

    async def until_waited_for(self) -> None:
        async def waiting() -> bool:
            query = "select 1 from pg_locks where not granted and relation = 'gate'::regclass"
            return bool(await asyncio.to_thread(self._site.rows, query, self._deployment, self._name))

        await holds(waiting, "a change to wait at the gate")


@pytest.fixture
async def site(tmp_path: Path, postgres_server: Server, control_database: Dsn) -> AsyncIterator[Site]:
    """A repository, an installed control database and a server; nothing runs yet."""
    connection = await connect(control_database, role="test")
    await install(connection)
    await connection.close()
    async with AsyncExitStack() as stack:
        made = Site(tmp_path, postgres_server, control_database, stack)
        stack.callback(made.drop_databases)
        yield made
