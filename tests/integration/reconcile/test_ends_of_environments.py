"""Whole environments are stopped, started and removed, by rollouts, with the jobs that are for that."""

from collections.abc import AsyncIterator

import pytest

from reconciler.errors import NotFound, Refused
from reconciler.runtimes.process import ProcessRuntime
from tests.plugins.site import Process, Site, holds

JOB = (
    "    - {{name: {name}, kind: Job, runtime: {{process: {{command: [/bin/sh, {place}/says.sh, {name}]}}}},"
    " run: {{on: [{on}]}}}}\n"
)
SERVICE = (
    "    - {{name: {name}, kind: Service{more}, health: {{interval: 100ms, steady: 100ms}},"
    " runtime: {{process: {{command: [/bin/sh, {place}/serves.sh, {name}]}}}}}}\n"
)
SAYS = 'echo "$1" >> {place}/said\n'
SERVES = "trap 'echo ends \"$1\" >> {place}/said; exit 0' TERM\nsleep 1000 &\nwait\n"


class Whole:
    """An environment with a database, two services that need each other, and a job for each occasion."""

    def __init__(self, site: Site, process: Process) -> None:
        self.site = site
        self.process = process
        self.runtime = ProcessRuntime(site.folder / "one" / "services")

    def commit(self, *, version: str = "1", skip: str = "") -> None:
        """A spec in which `spare` may be skipped; another version makes other instances."""
        place = str(self.site.folder)
        env = f", env: {{VERSION: '{version}'}}"
        parts = [SERVICE.format(name="api", place=place, more=env)]
        parts.append(SERVICE.format(name="web", place=place, more=", after: [api]" + env))
        parts.append(SERVICE.format(name="spare", place=place, more=skip))
        on = {"hello": "start", "pause": "stop", "farewell": "remove"}
        parts += [JOB.format(name=name, place=place, on=each) for name, each in on.items()]
        spec = self.site.spec()["environments/production.yaml"]
        self.site.commit({}, {"environments/production.yaml": spec + "".join(parts)})

    def said(self) -> list[str]:
        """What was said since the last time."""
        path = self.site.folder / "said"
        found = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return found

    async def rolled(self) -> str:
        """A pass, and the end of the rollout that it records; gives why it was recorded."""
        before = await self.site.control_rows("SELECT id FROM reconciler_control.rollouts")
        await self.process.look()
        assert (await self.process.environment()).error is None
        assert len(await self.process.rollouts()) == len(before) + 1
        return await self.over((await self.process.rollouts())[0].id)

    async def over(self, name: str) -> str:
        """The end of a rollout; gives why it was recorded."""
        self.process.worker.wake()
        reconciler = self.process.parts.reconciler

        async def done() -> bool:
            return (await reconciler.rollout(name)).finished_at is not None

        await holds(done, "the rollout to end")
        rollout = await reconciler.rollout(name)
        assert [operation.state.value for operation in rollout.operations] == ["completed"], rollout
        return rollout.reason

    async def runs(self) -> list[str]:
        """The services that run."""
        return sorted(each.identity.component for each in await self.runtime.observe("production", "eu"))


@pytest.fixture
async def whole(site: Site) -> AsyncIterator[Whole]:
    """It was rolled out."""
    process = site.process()
    made = Whole(site, process)
    (site.folder / "says.sh").write_text(SAYS.format(place=site.folder))
    (site.folder / "serves.sh").write_text(SERVES.format(place=site.folder))
    made.commit()
    process.work()
    assert await made.rolled() == "commit"
    yield made
    await process.stop()
    for each in await made.runtime.observe("production", "eu"):
        await made.runtime.remove(each.identity, each.instance)


async def test_an_environment_is_stopped_and_started(whole: Whole) -> None:
    """Who needs another ends first; no commit starts what a person stopped; a start brings all back."""
    reconciler = whole.process.parts.reconciler
    assert whole.said() == ["hello"]
    assert await whole.runs() == ["api", "spare", "web"]
    whole.commit(skip=", skip: true")
    await whole.process.look()

    await reconciler.stop("production", reason="at night", requested_by="ada")
    assert await whole.rolled() == "stop"
    said = whole.said()
    assert said == ["ends web", "ends api", "pause"]
    assert await whole.runs() == ["spare"]
    assert (await whole.process.environment()).stopped

    whole.commit(version="2", skip=", skip: true")
    before = len(await whole.process.rollouts())
    await whole.process.look()
    assert len(await whole.process.rollouts()) == before
    assert (await whole.runs(), whole.said()) == (["spare"], [])

    await reconciler.start("production", reason="", requested_by="ada")
    assert await whole.rolled() == "start"
    assert whole.said() == ["hello"]
    assert await whole.runs() == ["api", "spare", "web"]
    await whole.process.look()
    assert len(await whole.process.rollouts()) == before + 1


async def test_an_environment_that_left_is_removed(whole: Whole) -> None:
    """Its jobs for that run, who needs another ends first, what is skipped too, databases where named."""
    reconciler = whole.process.parts.reconciler
    whole.commit(skip=", skip: true")
    await whole.process.look()
    with pytest.raises(Refused, match="would deploy it again"):
        await reconciler.remove("production", reason="", requested_by="ada")
    (whole.site.repository.path / "environments/production.yaml").unlink()
    whole.site.repository.commit()
    whole.said()
    await whole.process.look()
    conditions = {each.type: each.reason for each in (await whole.process.environment()).conditions}
    assert conditions["Ready"] == "Orphaned"
    assert await whole.runs() == ["api", "spare", "web"]
    with pytest.raises(NotFound, match="has no database 'shop'"):
        await reconciler.preview_removal("production", ["shop"])
    plan = await reconciler.preview_removal("production", ["shop-db"])
    kinds = [step.kind.value for step in plan.deployments[0].steps]
    assert kinds.count("remove-service") == 3
    assert kinds.count("drop-database") == 1

    rollout = await reconciler.remove("production", ["shop-db"], reason="for good", requested_by="ada")
    assert rollout is not None
    assert await whole.over(rollout.id) == "for good"
    said = whole.said()
    assert said.index("ends web") < said.index("ends api")
    assert "farewell" in said
    assert "ends spare" in said
    assert await whole.runs() == []
    assert await reconciler.environments() == ()
    there = whole.site.server.run(f"select 1 from pg_database where datname = '{whole.site.database()}'")
    assert there == []
    told = [event.kind for event in await reconciler.events(environment="production")]
    assert told.count("environment.removed") == 1
