"""A database on a service of its own environment: made behind it, and found wherever that is."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import pytest

from reconciler.daemon import age
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Observed
from tests.integration.worker.test_worker_services import ended, not_well
from tests.plugins.postgres import PASSWORD, OwnServer
from tests.plugins.site import Process, Site

SEED = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("insert into first values (1)")
"""
SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: NOWHERE}}}]
  components:
    - name: pg
      kind: Service
      runtime:
        process:
          command: [/bin/sh, -c, 'exec POSTGRES -D FILES -p "$PORT_SQL" -k "" -c fsync=off']
          cwd: /
          USERports: [{name: sql}]
      env: {MODE: first}
      health: {tcp: {port: sql}, interval: 100ms, steady: 100ms}
      grace: 500ms
    - name: shop-db
      kind: Database
      on: {from: pg, user: postgres, password: {env: PG_PASSWORD}}
      database: shop
    - {name: shop-schema, kind: Module, database: {from: shop-db}, path: modules/shop}
    - name: seed
      kind: Job
      runtime: {process: {command: [PYTHON, FOLDER/seed.py]}}
      env: {DATABASE_URL: {from: shop-db, output: url}}
"""


@dataclass
class Colocated:
    """A daemon's parts, and a server that nobody has started yet."""

    site: Site
    server: OwnServer
    process: Process
    runtime: ProcessRuntime

    async def instances(self) -> tuple[Observed, ...]:
        return await self.runtime.observe("production", "eu", "pg")

    def spec(self, mode: str = "first") -> dict[str, str]:
        account = self.server.account
        user = f"user: {account.name}\n          " if account is not None else ""
        words = {
            "USER": user,
            "POSTGRES": str(self.server.bin_dir / "postgres"),
            "PYTHON": sys.executable,
            "FOLDER": str(self.site.folder),
            "FILES": str(self.server.data_dir),
            "MODE: first": f"MODE: {mode}",
        }
        text = SPEC
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return {"environments/production.yaml": text}

    async def rows(self, statement: str) -> list[tuple[object, ...]]:
        """What the server says, wherever it is now."""
        (there,) = await self.instances()
        port = there.endpoints[0].port
        text = f"host=127.0.0.1 port={port} user=postgres password={PASSWORD} dbname=shop"
        async with await psycopg.AsyncConnection.connect(text) as connection:
            return await (await connection.execute(statement.encode())).fetchall()


@pytest.fixture
async def colocated(site: Site) -> AsyncIterator[Colocated]:
    """The deployment's own server is nowhere: nothing of this environment is on it."""
    site.environ |= {
        "AGE_KEY": age.new_key().secret,
        "NOWHERE": "host=127.0.0.1 port=1 user=nobody",
        "PG_PASSWORD": PASSWORD,
    }
    (site.folder / "seed.py").write_text(SEED)
    server = OwnServer()
    process = site.process(more={"secrets": {"age_keys": [{"env": "AGE_KEY"}]}})
    made = Colocated(site, server, process, ProcessRuntime(site.folder / "one" / "services"))
    yield made
    await process.stop()
    for each in await made.runtime.observe("production", "eu"):
        await made.runtime.remove(each.identity, each.instance)
    server.remove()


async def test_a_database_is_where_its_service_is(colocated: Colocated) -> None:
    """One rollout starts the server, makes the database and what is in it; replaced, it is found again."""
    process, site = colocated.process, colocated.site
    first = {"first": "create table first (n int)"}
    site.commit(first, colocated.spec())
    await process.look()
    assert await process.rollouts(), await not_well(process)
    process.work()
    assert await ended(process) == "completed", await not_well(process)
    assert await colocated.rows("select n from first") == [(1,)]
    await process.look()
    assert len(await process.rollouts()) == 1
    # The server is replaced in place, and what is new is deployed where it is then.
    (before,) = await colocated.instances()
    second = {**first, "second": "create table second (n int)"}
    site.commit(second, colocated.spec("second"))
    await process.look()
    process.worker.wake()
    assert await ended(process) == "completed", await not_well(process)
    (after,) = await colocated.instances()
    assert after.instance != before.instance
    assert await colocated.rows("select count(*) from second") == [(0,)]
    # Nobody knows what is in a database whose server was there and is gone.
    await colocated.runtime.remove(after.identity, after.instance)
    count = len(await process.rollouts())
    site.commit({**second, "third": "create table third (n int)"}, colocated.spec("second"))
    await process.look()
    assert len(await process.rollouts()) == count
    assert "nobody knows what is in it" in " ".join(await not_well(process))
