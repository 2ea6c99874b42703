"""Services are looked at between the looks at databases, shown as they are, and put back within limits."""

from collections.abc import AsyncIterator

import pytest

from reconciler.events import DriftFound
from reconciler.reconcile import watching
from reconciler.runtimes.process import ProcessRuntime
from tests.plugins.site import Process, Site, holds

SPEC = """apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  policy: {drift: heal}
  deployments: [{name: eu, postgres: {dsn: {env: SHOP_DSN}}}]
  components:
    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sleep, "1000"]}}
      health: {interval: 100ms, steady: 100ms}
"""


class Watched:
    """One service that runs, of a daemon's parts, and what an outsider does to it."""

    def __init__(self, site: Site, process: Process) -> None:
        self.site = site
        self.process = process
        self.runtime = ProcessRuntime(site.folder / "one" / "services")

    async def ends(self) -> None:
        """Somebody ends all of its instances, and tells nobody."""
        for each in await self.runtime.observe("production", "eu"):
            await self.runtime.remove(each.identity, each.instance)

    async def rollouts(self, *, done: bool = True) -> list[str]:
        """Why each rollout was recorded, the first one first; waits until the last one is over."""

        async def over() -> bool:
            return (await self.process.states())[0] in {"completed", "failed"}

        if done:
            self.process.worker.wake()
            await holds(over, "the rollout to end")
        return [each.reason for each in reversed(await self.process.rollouts())]

    async def rows(self, statement: str) -> list[tuple[object, ...]]:
        return await self.site.control_rows(statement)

    async def state(self) -> tuple[object, ...]:
        """How it is, as people are shown it, and how often it was put back."""
        return (await self.rows("SELECT state, heals FROM reconciler_control.programs"))[0]

    async def deployment(self) -> tuple[int, str | None]:
        """How much drifted there, and why nothing is done."""
        (found,) = (await self.process.environment()).deployments
        return found.drift, found.blocked


@pytest.fixture
async def watched(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """A service that was rolled out."""
    monkeypatch.setattr(watching, "EVERY_S", 0.0)
    site.commit({}, {"environments/production.yaml": SPEC})
    process = site.process()
    made = Watched(site, process)
    process.work()
    await process.look()
    assert await made.rollouts() == ["commit"]
    yield made
    await process.stop()
    await made.ends()


async def test_what_others_ended_is_put_back_within_limits(watched: Watched) -> None:
    """At once the first time, later the next; in the end only a person has it put back once more."""
    process = watched.process
    await process.look(full=False)
    assert await watched.state() == ("healthy", 0)

    await watched.ends()
    await process.look(full=False)
    assert await watched.rollouts() == ["commit", "drift"]
    assert await watched.state() == ("healthy", 1)
    assert len(await watched.runtime.observe("production", "eu")) == 1
    assert [event.examples for event in process.told(DriftFound) if isinstance(event, DriftFound)] == [
        ("service api",)
    ]

    await watched.ends()
    await process.look(full=False)
    assert await watched.rollouts() == ["commit", "drift"]
    assert await watched.state() == ("absent", 1)
    assert await watched.deployment() == (1, None)

    ago = "UPDATE reconciler_control.programs SET healed_at = clock_timestamp() - interval '{}', heals = {}"
    await watched.rows(ago.format("2 minutes", 1))
    await process.look(full=False)
    assert await watched.rollouts() == ["commit", "drift", "drift"]
    assert await watched.state() == ("healthy", 2)

    await watched.rows(ago.format("2 hours", 5))
    await watched.ends()
    await process.look(full=False)
    drift, blocked = await watched.deployment()
    assert drift == 1
    assert blocked is not None
    assert "put back 5 times" in blocked
    assert len(await watched.rollouts()) == 3

    await process.parts.reconciler.apply("production", requested_by="ada", reason="by hand")
    assert len(await watched.rollouts()) == 4
    assert await watched.state() == ("healthy", 6)
    await watched.rows(ago.format("2 hours", 6))
    await process.look(full=False)
    await process.look()
    assert await watched.state() == ("healthy", 0)
