"""A whole environment through passes and a worker: databases, jobs and services; nothing the next time."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.daemon import age
from reconciler.errors import RuntimeUnavailable
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Observed, ServiceState
from tests.plugins.rolling import StopsAt
from tests.plugins.site import Process, Site, holds

SEED = """
import json, os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("insert into first values (1)")
with open(os.environ["JOB_OUTPUT"], "w") as file:
    json.dump({"token": "correct horse", "rows": 1}, file)
"""
SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: SHOP_DSN}}}]
  components:
    - {name: shop-db, kind: Database, database: DATABASE}
    - {name: shop-schema, kind: Module, database: {from: shop-db}, path: modules/shop}
    - name: seed
      kind: Job
      runtime: {process: {command: [PYTHON, FOLDER/seed.py]}}
      env: {DATABASE_URL: {from: shop-db, output: url}}
      outputs: [{name: token, type: string, sensitive: true}, {name: rows, type: number}]
    - name: api
      kind: Service
      runtime:
        process:
          command: [/bin/sh, -c, 'exec PYTHON -m http.server --bind 127.0.0.1 "$PORT_HTTP"']
          cwd: FOLDER
          ports: [{name: http}]
      env: {TOKEN: {from: seed, output: token}, ROWS: {from: seed, output: rows}, MODE: first}
      health: {http: {port: http, path: /}, interval: 100ms, steady: 200ms}
"""


class Machine:
    """The processes of one daemon; all are gone at the end."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.runtime = ProcessRuntime(folder / "services")

    async def there(self, component: str) -> tuple[Observed, ...]:
        """All instances of a component."""
        return await self.runtime.observe("production", "eu", component)

    async def close(self) -> None:
        """End everything."""
        for each in await self.runtime.observe("production", "eu"):
            await self.runtime.remove(each.identity, each.instance)


@pytest.fixture
async def machine(site: Site) -> AsyncIterator[Machine]:
    """A daemon's parts with a key to keep sensitive values with."""
    site.environ["AGE_KEY"] = age.new_key().secret
    process = site.process(more={"secrets": {"age_keys": [{"env": "AGE_KEY"}]}})
    found = Machine(process, site.folder / "one")
    yield found
    await process.stop()
    await found.close()


def spec(site: Site, **changes: str) -> dict[str, str]:
    text = SPEC.replace("DATABASE}", f"{site.database()}}}").replace("PYTHON", sys.executable)
    text = text.replace("FOLDER", str(site.folder))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return {"environments/production.yaml": text}


async def ended(process: Process) -> str:
    """The state of the newest rollout's operation, once it is over."""

    async def over() -> str | None:
        (state,) = await process.states()
        return state if state not in {"pending", "running", "retrying"} else None

    found: str = await holds(over, "the rollout to end")
    return found


async def not_well(process: Process) -> list[str]:
    """What its conditions say that is not well."""
    found = (await process.environment()).conditions
    return [row.message for row in found if row.status != (row.type in {"Ready", "Synced"})]


async def test_everything_of_an_environment_is_rolled_out_once(site: Site, machine: Machine) -> None:
    """One commit makes it all, each given what the one before it made; looking again plans nothing."""
    (site.folder / "seed.py").write_text(SEED)
    site.commit({"first": "create table first (n int)"}, spec(site))
    process = machine.process
    await process.look()
    process.work()
    assert await ended(process) == "completed", await not_well(process)
    assert site.rows("select count(*) from first") == [(1,)]
    (api,) = await machine.there("api")
    assert api.state is ServiceState.HEALTHY
    assert await machine.there("seed") == ()
    await process.look()
    assert len(await process.rollouts()) == 1
    # Of what the next commit makes another, nothing else is done again.
    site.commit({"first": "create table first (n int)"}, spec(site, **{"MODE: first": "MODE: second"}))
    await process.look()
    process.worker.wake()
    assert await ended(process) == "completed", await not_well(process)
    steps = (await process.parts.reconciler.rollout((await process.rollouts())[0].id)).operations[0].steps
    assert [step.kind for step in steps] == ["prepare-program", "roll-service"]
    (second,) = await machine.there("api")
    assert (second.state, second.instance == api.instance) == (ServiceState.HEALTHY, False)
    assert site.rows("select count(*) from first") == [(1,)]


SERVICES = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: SHOP_DSN}}}]
  policy: {drift: heal, prune: true}
  components:
    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sh, -c, ONE]}}
      health: {interval: 100ms, steady: 100ms, crashes: 0}
      restart: {delay: 10ms}
"""
WEB = """    - name: web
      kind: Service
      runtime: {process: {command: [/bin/sh, -c, exec sleep 1000]}}
      after: [api]
      health: {interval: 100ms, steady: 100ms}
"""


async def test_services_are_put_back_taken_back_and_removed(site: Site, machine: Machine) -> None:
    """What was stopped by hand runs again; what fails leaves the old one; what left the spec is ended."""
    process = machine.process
    one = SERVICES.replace("ONE", "exec sleep 1000")
    site.commit({}, {"environments/production.yaml": one + WEB})
    await process.look()
    process.work()
    assert await ended(process) == "completed", await not_well(process)
    (api,) = await machine.there("api")

    await machine.runtime.remove(api.identity, api.instance)
    await process.look()
    process.worker.wake()
    assert await ended(process) == "completed", await not_well(process)
    assert [each.state for each in await machine.there("api")] == [ServiceState.HEALTHY]

    broken = SERVICES.replace("ONE", "echo no luck; exit 3")
    site.commit({}, {"environments/production.yaml": broken + WEB})
    await process.look()
    process.worker.wake()
    assert await ended(process) == "failed"
    told = "\n".join(await not_well(process))
    assert "does not stay up: it ended with 3; it said last: no luck" in told
    assert f"instance {api.instance} goes on" in told
    assert [each.instance for each in await machine.there("api")] == [api.instance]

    site.commit({}, {"environments/production.yaml": one})
    await process.look()
    process.worker.wake()
    assert await ended(process) == "completed", await not_well(process)
    assert [each.instance for each in await machine.there("api")] == [api.instance]
    assert await machine.there("web") == ()
    assert len(await process.rollouts()) == 4


@pytest.mark.parametrize(("replace", "point"), [("beside", "recorded"), ("in-place", "ended")])
async def test_another_attempt_ends_what_a_dead_one_began(site: Site, replace: str, point: str) -> None:
    """What the control database has, and what runs, is enough to go on: one instance is there in the end."""
    # Nobody asks a worker that died what it died of.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    stops = StopsAt()
    process = site.process(interference=stops)
    machine = Machine(process, site.folder / "one")
    text = SERVICES.replace("kind: Service", f"kind: Service\n      replace: {replace}")
    try:
        for number in ("1000", "2000"):
            site.commit({}, {"environments/production.yaml": text.replace("ONE", f"exec sleep {number}")})
            stops.point = f"{point} api/roll-service" if number == "2000" else None
            await process.look()
            if process.task is None:
                process.work()
            process.worker.wake()
            assert await ended(process) == "completed", await not_well(process)
        assert stops.point is None
        (api,) = await machine.there("api")
        assert api.state is ServiceState.HEALTHY
        await process.look()
        assert len(await process.rollouts()) == 2
    finally:
        await process.stop()
        await machine.close()


async def test_half_way_while_nothing_is_known_of_what_runs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollout whose runtime does not answer any more waits for it, spends no attempt, and goes on then."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    stops = StopsAt()
    process = site.process(interference=stops)
    machine = Machine(process, site.folder / "one")

    async def away(*_: object) -> tuple[Observed, ...]:
        raise RuntimeUnavailable("it is away")

    async def waits() -> bool:
        rows = await site.control_rows("select max(waits) from reconciler_control.operations")
        return bool(rows[0][0] >= 1)

    try:
        with monkeypatch.context() as patched:
            stops.point = "applied api/roll-service"
            stops.then = lambda: patched.setattr(ProcessRuntime, "observe", away)
            text = SERVICES.replace("ONE", "exec sleep 1000")
            site.commit({}, {"environments/production.yaml": text})
            await process.look()
            process.work()
            await holds(waits, "it to wait")
            operation = (await process.rollouts())[0].operations[0]
            assert "waits until what it needs answers" in (operation.reason or "")
            assert "it is away" in (operation.reason or "")
        assert await ended(process) == "completed", await not_well(process)
        assert (await process.rollouts())[0].operations[0].attempts == 1
        assert [each.state for each in await machine.there("api")] == [ServiceState.HEALTHY]
    finally:
        await process.stop()
        await machine.close()
