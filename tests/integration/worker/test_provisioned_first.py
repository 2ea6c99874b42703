"""An environment provisioned with narrower credentials, and then rolled out: nothing is provisioned again."""

from collections.abc import AsyncIterator

import pytest

from reconciler.daemon import age
from tests.integration.worker.test_worker_services import SEED, Machine, ended, not_well, spec
from tests.plugins.site import Process, Site

NARROW = "narrow"
NARROWER = {"{env: SHOP_DSN}": "{env: SHOP_DSN}, provisionDsn: {env: NARROW_DSN}"}
"""Credentials of their own for what only provisions."""


@pytest.fixture
async def machine(site: Site) -> AsyncIterator[Machine]:
    """A daemon that has a key, and two connection strings for one server."""
    role = f"{site.prefix}_{NARROW}"
    site.server.run(f"CREATE ROLE {role} LOGIN CREATEDB CREATEROLE PASSWORD '{NARROW}'")
    place = f"host=127.0.0.1 port={site.server.port} user={role} password={NARROW} dbname=postgres"
    site.environ |= {"AGE_KEY": age.new_key().secret, "NARROW_DSN": place}
    process = site.process(more={"secrets": {"age_keys": [{"env": "AGE_KEY"}]}})
    found = Machine(process, site.folder / "one")
    yield found
    await process.stop()
    await process.parts.close()
    await found.close()
    site.drop_databases()
    for name in (f"{site.database()}_owner", f"{site.database()}_reader", role):
        if site.server.run(f"SELECT FROM pg_roles WHERE rolname = '{name}'"):
            site.server.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def kinds(process: Process) -> list[str]:
    """The steps of the newest rollout."""
    newest = (await process.rollouts())[0].id
    return [step.kind for step in (await process.parts.reconciler.rollout(newest)).operations[0].steps]


def with_scope(site: Site, scope: str, **changes: str) -> dict[str, str]:
    """The spec, as far as it is rolled out by itself."""
    ((path, text),) = spec(site, **changes).items()
    return {path: f"{text}  policy: {{scope: {scope}}}\n"}


async def stands(process: Process) -> tuple[str | None, str | None, tuple[str, ...], str]:
    """What is applied, what is provisioned, what is left to roll out, and why it is ready or not."""
    found = await process.environment()
    (eu,) = found.deployments
    ready = next(row for row in found.conditions if row.type == "Ready")
    assert eu.applied_commit == found.applied_commit
    return found.applied_commit, eu.provisioned_commit, eu.left_out, ready.reason


async def test_a_rollout_behind_provisioning_provisions_nothing(site: Site, machine: Machine) -> None:
    """First only resources are made, by the narrower role; then only what uses them, which finds them."""
    (site.folder / "seed.py").write_text(SEED)
    process = machine.process
    first = {"first": "create table first (n int)"}
    provisioned = site.commit(first, with_scope(site, "provision-only", **NARROWER))
    await process.look()
    process.work()
    assert await ended(process) == "completed", await not_well(process)
    made = await kinds(process)
    assert {"create-database", "deploy-change", "provide-access", "run-job"} <= set(made)
    assert "roll-service" not in made
    assert await machine.there("api") == ()
    whose = f"SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = '{site.database()}'"
    assert site.server.run(whose) == [(f"{site.prefix}_{NARROW}",)]
    assert await stands(process) == (None, provisioned, ("api",), "Provisioned")
    await process.look()
    assert await stands(process) == (None, provisioned, ("api",), "Provisioned")
    assert len(await process.rollouts()) == 1

    applied = site.commit(first, with_scope(site, "full", **NARROWER))
    await process.look()
    process.worker.wake()
    assert await ended(process) == "completed", await not_well(process)
    assert await kinds(process) == ["prepare-program", "roll-service"]
    assert site.rows("select count(*) from first") == [(1,)]
    assert await stands(process) == (applied, None, (), "InSync")


async def test_what_a_policy_leaves_out_waits_for_a_person(site: Site, machine: Machine) -> None:
    """Passes provision alone and say what is left; somebody rolls that out, and then all is applied."""
    (site.folder / "seed.py").write_text(SEED)
    process, reconciler = machine.process, machine.process.parts.reconciler
    first = {"first": "create table first (n int)"}
    applied = site.commit(first, with_scope(site, "full"))
    await process.look()
    process.work()
    assert await ended(process) == "completed", await not_well(process)
    (before,) = await machine.there("api")

    newer = site.commit(first, with_scope(site, "provision-only", **{"MODE: first": "MODE: second"}))
    await process.look()
    assert await stands(process) == (applied, newer, ("api",), "Provisioned")
    assert await machine.there("api") == (before,)
    assert len(await process.rollouts()) == 1
    assert await reconciler.apply("production", reason="", requested_by="ada") is None

    rollout = await reconciler.apply("production", scope="full", reason="", requested_by="ada")
    assert rollout is not None
    assert rollout.scope == "full"
    assert await ended(process) == "completed", await not_well(process)
    assert await kinds(process) == ["prepare-program", "roll-service"]
    assert await stands(process) == (newer, None, (), "InSync")
    await process.look()
    assert await stands(process) == (newer, None, (), "InSync")
    assert (await machine.there("api"))[0].instance != before.instance
