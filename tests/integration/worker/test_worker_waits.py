"""An operation whose database is another's for the moment: it holds no place and spends no attempt."""

from reconciler.rollout.status import OperationStatus
from reconciler.tracking.fence import Fence, FenceOwner
from tests.plugins.site import Process, Site, holds

OTHER = FenceOwner(
    control_id="00000000-0000-0000-0000-000000000001", environment="other", deployment="eu", operation="7"
)


async def _newest(process: Process) -> OperationStatus:
    return (await process.rollouts())[0].operations[0]


async def _parked(process: Process) -> bool:
    newest = await _newest(process)
    return newest.state.value == "retrying" and process.worker.busy == 0


async def _completed(process: Process) -> bool:
    return (await _newest(process)).state.value == "completed"


async def test_a_taken_database_holds_no_worker(site: Site) -> None:
    """While another writes, the operation waits in the control database and says for whom; then it goes."""
    process = site.process()
    process.work()
    site.commit({"one": "create table one ();"}, site.spec())
    await process.look()
    await holds(lambda: _completed(process), "the first rollout")
    session = await site.connect()
    fence = await Fence.acquire(session, OTHER, deadline_s=60)
    site.commit({"one": "create table one ();", "two": "create table two ();"}, site.spec())
    await process.look()
    await holds(lambda: _parked(process), "the operation to give its place back")
    newest = await _newest(process)
    assert newest.attempts == 1
    assert "waits until its database is free" in (newest.reason or "")
    assert "operation '7'" in (newest.reason or "")
    assert newest.next_attempt_at is not None
    await holds(lambda: _waited(site, 2), "it to look again, and to wait again")
    await fence.release()
    await holds(lambda: _completed(process), "the operation to be done")
    assert (await _newest(process)).attempts == 1
    assert site.deployed() == ["one", "two"]


async def _waited(site: Site, times: int) -> bool:
    rows = await site.control_rows("select max(waits) from reconciler_control.operations")
    return bool(rows[0][0] >= times)
