"""Looks at environments of several deployments: which of them are read, and which are known."""

from reconciler.events import SnapshotRead
from tests.plugins.site import Gate, Process, Site, holds

NAMES = ("eu", "us", "asia")
BASE = {"gate": "create table gate ();"}
MORE = {**BASE, "behind": Gate.SCRIPT}


def read(process: Process) -> list[str]:
    """The deployments that were read since this was asked last."""
    found = sorted(event.deployment for event in process.events if isinstance(event, SnapshotRead))
    process.events.clear()
    return found


async def _rests(process: Process) -> None:
    """Wait until no look at the environment and no operation is under way."""

    async def rests() -> bool:
        over = all(item.finished_at is not None for item in await process.rollouts())
        return over and not process.parts.passes._lanes.has("production") and process.worker.busy == 0

    await holds(rests, "the rollout and the looks to end")


async def deployed(site: Site) -> tuple[Process, str]:
    """A daemon that has brought the first commit everywhere, and has looked at nothing since."""
    commit = site.commit(BASE, site.spec(deployments=NAMES))
    process = site.process()
    await process.look()
    process.work()
    await _rests(process)
    read(process)
    return process, commit


async def test_the_end_of_a_rollout_is_no_reason_to_read_what_it_did(site: Site) -> None:
    """What operations completed is known; who asks for a look gets one at every database."""
    process, commit = await deployed(site)
    await process.parts.passes.pass_environments({"production": False})
    await _rests(process)
    assert read(process) == []
    assert (await process.environment()).applied_commit == commit
    await process.parts.passes.pass_environments({"production": True})
    await _rests(process)
    assert read(process) == sorted(NAMES)


async def test_a_deployment_more_is_the_only_one_read(site: Site) -> None:
    """A commit that adds one to the list carries the others to itself; the newcomer's rollout is its own."""
    process, _first = await deployed(site)
    commit = site.commit(BASE, site.spec(deployments=(*NAMES, "mars")))
    await process.look(full=False)
    await _rests(process)
    # A look before its operation, and the worker's own.
    assert set(read(process)) == {"mars"}
    assert [item.deployment for item in (await process.rollouts())[0].operations] == ["mars"]
    await process.look(full=False)
    await _rests(process)
    environment = await process.environment()
    assert {item.name: item.applied_commit for item in environment.deployments} == dict.fromkeys(
        (*NAMES, "mars"), commit
    )
    assert environment.applied_commit == commit
    assert read(process) == []
    again = site.commit(BASE, site.spec(deployments=NAMES))
    await process.look(full=False)
    await _rests(process)
    assert read(process) == []
    assert (await process.environment()).applied_commit == again


async def test_what_is_under_way_is_its_workers_to_read(site: Site) -> None:
    """A timer that comes while a rollout is under way reads nothing, and what is pending stays told."""
    process, _first = await deployed(site)
    gate = Gate(site, "eu")
    await gate.close()
    commit = site.commit(MORE)
    await process.look(full=False)
    await gate.until_waited_for()
    read(process)
    await process.look(full=False)
    assert read(process) == []
    assert [item.pending for item in (await process.environment()).deployments] == [1, 1, 1]
    await gate.open()
    await _rests(process)
    assert (await process.environment()).applied_commit == commit


async def test_what_ends_after_it_was_looked_at_is_read(site: Site) -> None:
    """A commit is taken back while it is carried out: what got there all the same is found."""
    process, _first = await deployed(site)
    gate = Gate(site, "eu")
    await gate.close()
    site.commit(MORE)
    await process.look(full=False)
    await gate.until_waited_for()
    (site.repository.path / "modules/shop/deploy/behind.sql").unlink()
    site.commit(BASE)
    # Reads while the change waits, uncommitted: as this commit has it.
    await process.look(full=False)
    await gate.open()
    await _rests(process)
    read(process)
    await process.parts.passes.pass_environments({"production": False})
    await _rests(process)
    assert "eu" in read(process)
    assert {item.name: item.diverged for item in (await process.environment()).deployments}["eu"] == 1
