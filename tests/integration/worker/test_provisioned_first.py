"""An environment provisioned with narrower credentials, and then rolled out: nothing is provisioned again."""

from collections.abc import AsyncIterator

import pytest

from reconciler.daemon import age
from tests.integration.worker.test_worker_services import SEED, Machine, ended, not_well, spec
from tests.plugins.site import Process, Site

NARROW = "narrow"


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


async def test_a_rollout_behind_provisioning_provisions_nothing(site: Site, machine: Machine) -> None:
    """First only resources are made, by the narrower role; then only what uses them, which finds them."""
    (site.folder / "seed.py").write_text(SEED)
    ((path, text),) = spec(site).items()
    text = text.replace("{env: SHOP_DSN}", "{env: SHOP_DSN}, provisionDsn: {env: NARROW_DSN}")
    process = machine.process
    first = {"first": "create table first (n int)"}
    site.commit(first, {path: f"{text}  policy: {{scope: provision-only}}\n"})
    await process.look()
    process.work()
    assert await ended(process) == "completed", await not_well(process)
    made = await kinds(process)
    assert {"create-database", "deploy-change", "provide-access", "run-job"} <= set(made)
    assert "roll-service" not in made
    assert await machine.there("api") == ()
    whose = f"SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = '{site.database()}'"
    assert site.server.run(whose) == [(f"{site.prefix}_{NARROW}",)]

    site.commit(first, {path: text})
    await process.look()
    process.worker.wake()
    assert await ended(process) == "completed", await not_well(process)
    assert await kinds(process) == ["prepare-program", "roll-service"]
    assert site.rows("select count(*) from first") == [(1,)]
