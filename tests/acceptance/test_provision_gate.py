"""The pipeline of the examples against a daemon: nothing is rolled out before its resources are there."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from reconciler.runtimes.process import ProcessRuntime
from tests.plugins.daemon import Daemon, World
from tests.plugins.package import ROOT

SCRIPT = ROOT / "examples" / "ci" / "rollout.sh"
TOKENS = {"provision": "provision-0123456789abcdef", "full": "operate-0123456789abcdef"}
SETTINGS = f"""
tokens:
  - {{name: pipeline-resources, role: provision, value: {TOKENS["provision"]}}}
  - {{name: pipeline, role: operate, value: {TOKENS["full"]}}}
"""
SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  policy: {mode: observe}
  deployments:
    - {name: eu, postgres: {dsn: {env: SHOP_DSN}, provisionDsn: {env: NARROW_DSN}}}
  components:
    - {name: shop-db, kind: Database, database: DATABASE}
    - {name: shop-schema, kind: Module, database: {from: shop-db}, path: modules/shop}
    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sh, -c, 'exec sleep 600']}}
      env: {MODE: first}
      health: {interval: 100ms, steady: 100ms}
"""


class Pipeline:
    """The script as a pipeline runs it, with a token for each step, and what it made."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.role = f"{world.database}_narrow"
        world.server.run(f"CREATE ROLE {self.role} LOGIN CREATEDB PASSWORD 'narrow'")
        world.extra["NARROW_DSN"] = (
            f"host=127.0.0.1 port={world.server.port} user={self.role} password=narrow dbname=postgres"
        )
        self.daemon: Daemon = world.daemon()
        self.daemon.config.write_text(self.daemon.config.read_text() + SETTINGS)
        self.runtime = ProcessRuntime(self.daemon.folder / "state" / "services")
        self.programs = world.folder / "bin"
        self.programs.mkdir()
        program = self.programs / "reconciler"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m reconciler "$@"\n')
        program.chmod(0o755)

    def commit(self, *changes: str, **texts: str) -> str:
        """Commit changes of the module, and the spec with other texts in it."""
        spec = SPEC.replace("DATABASE}", f"{self.world.database}}}")
        for before, after in texts.items():
            spec = spec.replace(before, after)
        scripts = {f"change_{number}": text for number, text in enumerate(changes)}
        files = {"environments/production.yaml": spec, **self.world.repository.module(scripts)}
        return self.world.repository.commit(files)

    def run(self, step: str, commit: str) -> tuple[int, str]:
        """One step: its exit code, and what it said."""
        ended = subprocess.run(
            [str(SCRIPT), step, "production", commit],
            env={
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "RECONCILER_SERVER": self.daemon.url,
                "RECONCILER_TOKEN": TOKENS[step],
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.daemon.folder,
        )
        return ended.returncode, ended.stdout + ended.stderr

    async def instances(self) -> list[str]:
        """What runs of the service."""
        return [each.instance for each in await self.runtime.observe("production", "eu")]

    async def close(self) -> None:
        """End all of it."""
        if self.daemon.process is not None:
            self.daemon.kill()
        for each in await self.runtime.observe("production", "eu"):
            await self.runtime.remove(each.identity, each.instance)
        self.world.server.drop_database(self.world.database)
        self.world.server.run(f"DROP ROLE {self.role}")


@pytest.fixture
async def pipeline(world: World) -> AsyncIterator[Pipeline]:
    """A daemon that does nothing by itself, and the script."""
    made = Pipeline(world)
    yield made
    await made.close()


async def test_pipeline_provisions_and_then_rolls_out(pipeline: Pipeline) -> None:
    """Resources by the narrower role first, then the rest; where they fail no service is touched."""
    world = pipeline.world
    commit = pipeline.commit("create table a();")
    pipeline.daemon.start()
    code, said = pipeline.run("provision", commit)
    assert code == 0, said
    assert f"at commit {commit[:12]} (provision-only): " in said
    assert said.rstrip().endswith("roll out the rest with: reconciler apply production --full")
    assert f"at {commit[:12]} recorded (provision-only)" in said
    assert "follow it with" not in said
    whose = f"SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = '{world.database}'"
    assert world.server.run(whose) == [(pipeline.role,)]
    assert await pipeline.instances() == []

    code, said = pipeline.run("full", commit)
    assert code == 0, said
    assert "create-database" not in said
    (running,) = await pipeline.instances()

    broken = pipeline.commit("create table a();", "select 1 / 0;", first="second")
    code, said = pipeline.run("provision", broken)
    assert code == 5, said
    assert "division by zero" in said
    code, said = pipeline.run("full", broken)
    assert code == 3, said
    assert "are not provisioned" in said
    assert await pipeline.instances() == [running]
