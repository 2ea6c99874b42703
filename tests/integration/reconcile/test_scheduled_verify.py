"""Verify scripts that passes have run again and again: what is recorded, told and shown of them."""

from collections.abc import Mapping

import pytest

from reconciler.control.gauges import read_gauges
from reconciler.events import VerifyFailed
from reconciler.metrics import Metrics
from reconciler.postgres.connection import connect
from reconciler.reconcile import due_verifications
from tests.plugins.site import Process, Site, holds

POLICY = "  policy: {verify: {interval: 10s}}\n"
CHANGES = {"a": "create table a (id int);", "b": "create table b (id int);"}
VERIFY = {f"modules/shop/verify/{name}.sql": f"select id from {name} where false;" for name in CHANGES}


async def deployed(site: Site, files: Mapping[str, str]) -> Process:
    """A daemon that has deployed the module."""
    site.commit(CHANGES, files)
    process = site.process()
    process.work()
    await holds(lambda: is_done(process), "the rollout to end")
    return process


async def is_done(process: Process) -> bool:
    await process.look()
    found = await process.rollouts()
    return bool(found) and found[0].finished_at is not None


async def first_run(site: Site, process: Process) -> None:
    """The run that is due as soon as anything is deployed."""
    await process.look()
    await holds(lambda: site.control_rows("select 1 from reconciler_control.verifications"), "the first run")


async def make_due(site: Site) -> None:
    """Let an hour pass since the last run."""
    await site.control_rows(
        "update reconciler_control.verifications set verified_at = verified_at - interval '1 hour'"
    )


async def verified_again(site: Site, process: Process) -> None:
    """One more run."""
    await make_due(site)
    await process.look()

    async def is_recorded() -> bool:
        query = "select 1 from reconciler_control.verifications where verified_at > now() - interval '30 min'"
        return bool(await site.control_rows(query))

    await holds(is_recorded, "the run to be recorded")


async def test_failures_are_drift_until_they_are_gone(site: Site) -> None:
    """A dropped table is told once, shown in status, condition and metrics, and then taken back."""
    process = await deployed(site, {**site.spec(more=POLICY), **VERIFY})
    await first_run(site, process)
    status = await process.environment()
    assert (status.deployments[0].verify_failures, process.told(VerifyFailed)) == (0, [])
    site.rows("drop table b")
    await verified_again(site, process)
    await verified_again(site, process)
    (told,) = process.told(VerifyFailed)
    assert isinstance(told, VerifyFailed)
    assert (told.failures, told.examples) == (1, ("b",))
    status = await process.environment()
    assert status.deployments[0].verify_failures == 1
    drifted = next(row for row in status.conditions if row.type == "Drifted")
    assert drifted.status
    connection = await connect(site.control, role="test")
    scraped = Metrics().render(await read_gauges(connection)).decode()
    await connection.close()
    assert 'reconciler_verify_failures{deployment="eu",environment="production"} 1.0' in scraped
    site.rows("create table b (id int)")
    await verified_again(site, process)
    events = [row.kind for row in await process.parts.reconciler.events(environment="production")]
    assert [kind for kind in events if kind.startswith("module.")] == [
        "module.verify_failed",
        "module.verify_recovered",
    ]


async def test_nobody_verifies_unasked_and_nothing_is_kept(site: Site) -> None:
    """Without an interval no script runs; where the spec loses it, what was found is forgotten."""
    process = await deployed(site, {**site.spec(more=POLICY), **VERIFY})
    await first_run(site, process)
    site.commit(CHANGES, site.spec())
    await process.look()
    assert await site.control_rows("select 1 from reconciler_control.verifications") == []
    assert (await process.environment()).deployments[0].verified_at is None


async def test_no_pass_waits_for_scripts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While scripts run, passes go on; one run of an environment is under way at a time."""
    monkeypatch.setattr(due_verifications, "WAITING_MAX", 0)
    slow = {**VERIFY, "modules/shop/verify/a.sql": "select pg_sleep(3);"}
    process = await deployed(site, {**site.spec(more=POLICY), **slow})
    await process.look()
    of_us = f"datname = '{site.database()}' and query like '%pg_sleep%' and pid <> pg_backend_pid()"
    sleeping = f"select count(*) from pg_stat_activity where {of_us}"

    async def runs() -> bool:
        return site.server.run(sleeping) == [(1,)]

    await holds(runs, "the script to run")
    for _ in range(3):
        await process.look()
        assert site.server.run(sleeping) == [(1,)]
