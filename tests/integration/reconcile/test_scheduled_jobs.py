"""Jobs that run by a schedule: once for each time, by whoever is alive, and beside no run of their own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler.events import ScheduledJobRan
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Observed
from tests.plugins.site import Process, Site, holds

SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {{name: production}}
spec:
  deployments: [{{name: eu, postgres: {{dsn: {{env: SHOP_DSN}}}}}}]
  components:
    - name: nightly
      kind: Job
      runtime: {{process: {{command: [/bin/sh, {place}/nightly.sh]}}}}
      run: {{schedule: "0 3 29 2 *"}}
      env: {{VERSION: "{version}"}}
      outputs: [{{name: rows, type: number, keep: true}}]
"""
WRITES = 'echo run >> {place}/runs; echo \'{{"rows": 5}}\' > "$JOB_OUTPUT"\n'
DUE = "UPDATE reconciler_control.job_schedules SET due_at = now() - interval '3 hours'"
SCHEDULES = (
    "SELECT failures, error, succeeded_at IS NOT NULL, running_by IS NULL, due_at > now()"
    " FROM reconciler_control.job_schedules"
)
RUNS = "SELECT trigger, operation, attempt, exit_status, error FROM reconciler_control.job_runs"
RUNS += " WHERE trigger = 'schedule' ORDER BY id"


class Nightly:
    """A job with a schedule, of a daemon's parts."""

    def __init__(self, site: Site, process: Process) -> None:
        self.site = site
        self.process = process
        self.runtime = ProcessRuntime(site.folder / "one" / "services")

    def does(self, script: str) -> None:
        """What the job does from now on."""
        place = self.site.folder
        (place / "nightly.sh").write_text(script.format(place=place))

    def ran(self) -> int:
        """How often it did that."""
        runs = self.site.folder / "runs"
        return len(runs.read_text().split()) if runs.exists() else 0

    async def due(self) -> None:
        """Its time comes, and whoever is there looks."""
        await self.rows(DUE)
        await self.look()

    async def look(self, process: Process | None = None) -> None:
        scheduling = (process or self.process).parts.scheduling
        await scheduling.look()
        await scheduling.idle()

    async def over(self) -> None:
        """The newest rollout is carried out."""
        self.process.worker.wake()

        async def over() -> bool:
            return await self.process.states() == ["completed"]

        await holds(over, "the rollout to end")

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return await self.site.control_rows(statement)

    async def there(self) -> tuple[Observed, ...]:
        return await self.runtime.observe("production", "eu", "nightly")

    async def began(self) -> tuple[Observed, ...]:

        async def ran() -> bool:
            return self.ran() > 0

        await holds(ran, "the job to begin")
        return await self.there()


async def started(site: Site, name: str = "one") -> Process:
    """A process whose passes own the environments, as those of a daemon do."""
    process = site.process(name, shared=True)
    process.work()

    async def registered() -> bool:
        return bool(process.peers) and process.peers[-1][0] is not None

    await holds(registered, "the worker to register")
    process.parts.passes.set_peers(*process.peers[-1])
    return process


@pytest.fixture
async def nightly(site: Site) -> AsyncIterator[Nightly]:
    """A job that was run once for what it puts out, of an environment that is as it should be."""
    site.commit({}, {"environments/production.yaml": SPEC.format(place=site.folder, version=1)})
    process = await started(site)
    made = Nightly(site, process)
    made.does(WRITES)
    await process.look()
    await made.over()
    (site.folder / "runs").unlink()
    await process.parts.scheduling.look()
    yield made
    for each in await made.there():
        await made.runtime.remove(each.identity, each.instance)


async def test_a_missed_time_is_made_up_once(nightly: Nightly) -> None:
    """It runs once however long nobody looked, beside rollouts, and what it puts out is kept."""
    assert await nightly.rows(SCHEDULES) == [(0, None, False, True, True)]
    await nightly.due()
    await nightly.look()
    assert nightly.ran() == 1
    assert await nightly.rows(SCHEDULES) == [(0, None, True, True, True)]
    assert await nightly.rows(RUNS) == [("schedule", None, 1, 0, None)]
    assert await nightly.there() == ()
    (kept,) = await nightly.process.parts.reconciler.outputs("production")
    assert (kept.name, kept.value) == ("rows", 5)
    (told,) = nightly.process.told(ScheduledJobRan)
    assert isinstance(told, ScheduledJobRan)
    assert (told.component, told.ok, told.is_news) == ("nightly", True, False)
    await nightly.process.look()
    assert len(await nightly.process.rollouts()) == 1
    (found,) = (await nightly.process.environment()).programs
    assert (found.component, found.state, found.applying) == ("nightly", "done", False)


async def test_a_failure_is_told_once_and_tried_again_at_its_next_time(nightly: Nightly) -> None:
    """How it ended is kept with each run, and a run that is done is news again."""
    nightly.does("echo run >> {place}/runs; echo out of luck; exit 3")
    await nightly.due()
    await nightly.look()
    await nightly.due()
    ((failures, error, done, free, later),) = await nightly.rows(SCHEDULES)
    assert (nightly.ran(), failures, done, free, later) == (2, 2, False, True, True)
    assert "it exited with 3; it said last: out of luck" in error
    nightly.does(WRITES)
    await nightly.due()
    kinds = [row.kind for row in await nightly.process.parts.reconciler.events(environment="production")]
    assert [kind for kind in kinds if kind.startswith("job.")] == [
        "job.schedule_failed",
        "job.schedule_recovered",
    ]
    assert [row[3] for row in await nightly.rows(RUNS)] == [3, 3, 0]


@pytest.mark.parametrize(
    "off",
    [
        "suspended_at = now(), suspended_by = 'ada', suspended_reason = 'so'",
        "stopped_at = now(), stopped_by = 'ada'",
        "orphaned_at = now()",
    ],
    ids=["suspended", "stopped", "orphaned"],
)
async def test_what_is_off_runs_nothing(nightly: Nightly, off: str) -> None:
    """Its time passes, and nobody takes it."""
    await nightly.rows(f"UPDATE reconciler_control.environments SET {off}")
    await nightly.due()
    assert nightly.ran() == 0


async def test_times_of_a_stop_are_not_made_up(nightly: Nightly) -> None:
    """What was due while a person wanted it off waits for its next time."""
    await nightly.rows("UPDATE reconciler_control.environments SET started_at = now()")
    await nightly.due()
    assert nightly.ran() == 0
    assert await nightly.rows(SCHEDULES) == [(0, None, False, True, True)]


async def test_the_run_of_who_died_is_waited_for(nightly: Nightly) -> None:
    """The next one finds it by the time that it is for, and begins none of its own."""
    nightly.does("echo run >> {place}/runs; while ! test -e {place}/go; do sleep 0.02; done\n" + WRITES)
    await nightly.rows(DUE)
    scheduling = nightly.process.parts.scheduling
    loop = asyncio.create_task(scheduling.run())
    (begun,) = await nightly.began()
    # Nobody else takes it while it runs; neither does who runs it.
    await scheduling.look()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert [each.instance for each in await nightly.there()] == [begun.instance]
    (nightly.site.folder / "go").touch()
    await nightly.look()
    assert nightly.ran() == 2
    assert await nightly.rows(RUNS) == [("schedule", None, 1, 0, None)]
    assert await nightly.there() == ()


async def test_a_rollout_goes_first(nightly: Nightly) -> None:
    """While an operation is at the deployment nothing is begun there, and its own run goes on."""
    nightly.does("echo run >> {place}/runs; while ! test -e {place}/go; do sleep 0.02; done\n" + WRITES)
    text = SPEC.format(place=nightly.site.folder, version=2)
    nightly.site.commit({}, {"environments/production.yaml": text})
    await nightly.process.look()
    nightly.process.worker.wake()
    (begun,) = await nightly.began()
    await nightly.due()
    assert [each.instance for each in await nightly.there()] == [begun.instance]
    assert await nightly.rows(RUNS) == []
    (nightly.site.folder / "go").touch()
    await nightly.over()
    await nightly.look()
    assert await nightly.rows(RUNS) == [("schedule", None, 1, 0, None)]


async def test_only_one_of_several_runs_it(nightly: Nightly) -> None:
    """What a live worker has is nobody else's; what a dead one had is there to be taken."""
    other = await started(nightly.site, "two")
    taken = "UPDATE reconciler_control.job_schedules SET started_at = now(), running_by = {}"
    await nightly.rows(taken.format(f"'{other.peers[-1][0]}'"))
    await nightly.due()
    assert nightly.ran() == 0
    await nightly.rows(taken.format("gen_random_uuid()"))
    await nightly.due()
    assert nightly.ran() == 1
