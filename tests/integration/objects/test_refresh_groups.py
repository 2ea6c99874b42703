"""Groups of materialized views that are refreshed by a schedule: by one process, once, and told of."""

from datetime import UTC, datetime, timedelta

from reconciler.control.gauges import read_gauges
from reconciler.events import GroupRefreshed
from reconciler.metrics import Metrics
from reconciler.postgres.connection import connect
from tests.plugins.objects_site import ORDERS, files, rolled, spec
from tests.plugins.site import Process, Site, holds

GROUPS = (
    ", refresh: [{name: hourly, schedule: '0 * * * *', views: [reports.copy, reports.stored]}"
    ", {name: never, schedule: '0 0 29 2 *', views: [reports.stored]}]"
)
VIEWS = {
    "reports/stored": "CREATE MATERIALIZED VIEW stored AS SELECT sum(amount * id / id) AS n FROM orders;",
    "reports/copy": "CREATE MATERIALIZED VIEW copy AS SELECT n FROM reports.stored;",
}
ROWS = "SELECT name, failures, error, succeeded_at IS NOT NULL, running_by IS NULL, due_at > now() FROM"
DUE = "UPDATE reconciler_control.refreshes SET due_at = now() - interval '3 hours' WHERE name = 'hourly'"


async def started(site: Site, name: str = "one") -> Process:
    """A process whose passes own the environments, as those of a daemon do."""
    process = site.process(name, shared=True)
    process.work()
    await holds(lambda: registered(process), "the worker to register")
    process.parts.passes.set_peers(*process.peers[-1])
    return process


async def registered(process: Process) -> bool:
    return bool(process.peers) and process.peers[-1][0] is not None


async def deployed(site: Site) -> Process:
    process = await started(site)
    site.commit(ORDERS, {**spec(site, objects=GROUPS), **files(VIEWS)})
    await rolled(process)
    await process.parts.refreshing.look()
    return process


async def groups(site: Site) -> list[tuple[object, ...]]:
    return await site.control_rows(f"{ROWS} reconciler_control.refreshes ORDER BY name")


async def ran(process: Process) -> None:
    """What is due, and the end of it."""
    await process.parts.refreshing.look()
    await process.parts.refreshing.idle()


def copied(site: Site) -> int:
    ((found,),) = site.rows("SELECT n FROM reports.copy")
    return int(found)


async def test_a_missed_run_is_made_up_once(site: Site) -> None:
    """What was due while nobody ran is run once, each view behind those that it reads."""
    process = await deployed(site)
    assert await groups(site) == [
        ("hourly", 0, None, False, True, True),
        ("never", 0, None, False, True, True),
    ]
    site.rows("INSERT INTO public.orders VALUES (4, 1000); SELECT 1")
    await ran(process)
    assert copied(site) == 60
    await site.control_rows(DUE)
    await ran(process)
    await ran(process)
    assert copied(site) == 1060
    assert (await groups(site))[0] == ("hourly", 0, None, True, True, True)
    (told,) = process.told(GroupRefreshed)
    assert isinstance(told, GroupRefreshed)
    assert (told.group, told.ok, told.is_news) == ("hourly", True, False)
    connection = await connect(site.control, role="test")
    gauges = await read_gauges(connection)
    await connection.close()
    found = (await process.environment()).refreshes[0]
    assert found.data_at is not None
    assert found.data_at > datetime.now(UTC) - timedelta(minutes=30)
    scraped = Metrics().render(gauges).decode()
    labels = 'component="reports",deployment="eu",environment="production",group="hourly"'
    assert f"reconciler_objects_data_age_seconds{{{labels}}}" in scraped


async def test_a_failure_is_told_once_and_tried_again_soon(site: Site) -> None:
    """It counts up, its words are kept, and a run that works is news again."""
    process = await deployed(site)
    site.rows("INSERT INTO public.orders VALUES (0, 0); SELECT 1")
    for _ in range(2):
        await site.control_rows(DUE)
        await ran(process)
    ((_, failures, error, succeeded, free, later),) = [row for row in await groups(site) if row[1]]
    assert (failures, succeeded, free, later) == (2, False, True, True)
    assert "refreshing reports.stored" in str(error)
    assert "division by zero" in str(error)
    (told_of,) = [row for row in (await process.environment()).refreshes if row.failures]
    assert (told_of.name, told_of.component, told_of.running) == ("hourly", "reports", False)
    site.rows("DELETE FROM public.orders WHERE id = 0; SELECT 1")
    await site.control_rows(DUE)
    await ran(process)
    told = [event for event in process.told(GroupRefreshed) if isinstance(event, GroupRefreshed)]
    assert [(event.ok, event.is_news) for event in told] == [(False, True), (False, False), (True, True)]
    kinds = [row.kind for row in await process.parts.reconciler.events(environment="production")]
    assert [kind for kind in kinds if kind.startswith("objects.")] == [
        "objects.refresh_failed",
        "objects.refresh_recovered",
    ]


async def test_only_the_process_that_passes_over_it_refreshes(site: Site) -> None:
    """Another daemon leaves the groups alone, and nobody refreshes what is suspended."""
    process = await deployed(site)
    other = await started(site, "two")
    await other.look()
    await other.parts.refreshing.look()
    await site.control_rows(DUE)
    await ran(other)
    assert other.told(GroupRefreshed) == []
    await process.parts.reconciler.suspend("production", reason="holidays", requested_by="ada")
    await ran(process)
    assert process.told(GroupRefreshed) == []
    await process.parts.reconciler.resume("production", requested_by="ada")
    await ran(process)
    assert len(process.told(GroupRefreshed)) == 1


async def test_groups_follow_the_spec(site: Site) -> None:
    """A new schedule counts from now on, and a group that left the spec is forgotten."""
    process = await deployed(site)
    await site.control_rows(DUE)
    changed = GROUPS.replace("'0 * * * *'", "'30 2 * * *'").replace("never", "other")
    site.commit(ORDERS, {**spec(site, objects=changed)})
    await process.look()
    await ran(process)
    rows = await site.control_rows(
        "SELECT name, schedule, due_at > now() FROM reconciler_control.refreshes ORDER BY name"
    )
    assert rows == [("hourly", "30 2 * * *", True), ("other", "0 0 29 2 *", True)]
    site.commit(ORDERS, spec(site))
    await process.look()
    await ran(process)
    assert await groups(site) == []
