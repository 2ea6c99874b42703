"""How many sessions of the server an operation takes in the database it writes to."""

from tests.integration.worker.test_worker_operations import ended
from tests.plugins.site import Site

COUNT = """
create table {name} as
select count(*) as sessions, count(distinct pid) filter (where pid = pg_backend_pid()) as own
from pg_stat_activity
where
    datname = current_database()
    and application_name in ('reconciler/writer', 'reconciler/fence', 'reconciler/watch');
"""


async def test_one_small_change_takes_one_session(site: Site) -> None:
    """A single change is run by the session that keeps the fence; of several, another one runs them."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec())
    await process.look()
    process.work()
    assert await ended(process) == ["completed"]
    for changes in (("b",), ("c", "d")):
        known = {name: COUNT.format(name=name) for name in "bcd" if name <= changes[-1]}
        site.commit({"a": "create table a ();", **known})
        await process.look()
        process.worker.wake()
        assert await ended(process) == ["completed"]
    assert site.deployed() == list("abcd")
    assert [site.rows(f"select sessions, own from {name}") for name in "bcd"] == [
        [(1, 1)],
        [(2, 1)],
        [(2, 1)],
    ]
    assert site.rows("select moving from reconciler.base_line") == [(False,)]
    await process.look()
    deployment = (await process.environment()).deployments[0]
    assert deployment.pending == 0
    assert not [
        row for row in (await process.environment()).conditions if row.type == "Drifted" and row.status
    ]
