"""Passes that something overtakes: a newer commit, another daemon, the end of a registration."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from reconciler.control import environments, workers
from reconciler.control.workers import Peer
from reconciler.daemon.parts import Parts
from reconciler.errors import DatabaseUnavailable
from reconciler.postgres.connection import Dsn
from reconciler.reconcile import known as known_module
from reconciler.reconcile import passes as passes_module
from reconciler.reconcile.shares import share
from tests.plugins.control import Control
from tests.plugins.site import Process, Site, holds

BASE = {"a": "create table a ();"}
MORE = {**BASE, "b": "create table b ();"}


@pytest.fixture
async def control(site: Site, control_database: Dsn) -> AsyncIterator[Control]:
    """The control database of the site, to be looked into and meddled with."""
    del site
    async with AsyncExitStack() as stack:
        made = Control(control_database, stack)
        made.connection = await made.connect()
        yield made


class Held:
    """Keeps one look waiting where it plans, until it is let go."""

    def __init__(self, parts: Parts, environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.let_through = 0
        assess = parts.planner.assess

        async def waits(spec: Any, desired: Any, request: Any) -> Any:
            if self.let_through:
                self.let_through -= 1
            elif spec.name == environment and not self.go_on.is_set():
                self.reached.set()
                await self.go_on.wait()
            return await assess(spec, desired, request)

        monkeypatch.setattr(parts.planner, "assess", waits)

    def let_one_through(self) -> None:
        """Hold all but the next one."""
        self.let_through = 1
        self.reached.clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of sources that wait for no environment for long."""
    monkeypatch.setattr(passes_module, "PATIENCE_S", 0.2)


def _take_back(site: Site) -> None:
    """Remove the script of the change that a commit takes back, so that all is as it was."""
    (site.repository.path / "modules/shop/deploy/b.sql").unlink()


async def _applied(process: Process, commit: str, name: str = "production") -> None:
    async def carries() -> bool:
        return (await process.environment(name)).applied_commit == commit

    await holds(carries, f"{commit[:12]} to be applied to {name}")


async def _ended(process: Process, name: str = "production") -> None:
    """Wait until nothing looks at an environment or waits for its turn there."""
    lanes = process.parts.passes._lanes

    async def idle() -> bool:
        return not lanes.has(name)

    await holds(idle, f"the looks at {name} to end")


async def _settled_at_first_commit(site: Site, *names: str, **more: Any) -> Process:
    process = site.process(**more)
    files: dict[str, str] = {}
    for name in names:
        files |= site.spec(name)
    first = site.commit(BASE, files)
    await process.look()
    process.work()
    for name in names:
        await _applied(process, first, name)
    await process.look()
    await process.stop()
    return process


async def test_environment_just_looked_at_is_not_carried_past_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """A commit that takes the last one back is looked at after the look at that one, and ends its rollout."""
    process = await _settled_at_first_commit(site, "production")
    held = Held(process.parts, "production", monkeypatch)
    site.commit(MORE)
    await process.look(full=False)
    await held.reached.wait()
    _take_back(site)
    newest = site.commit(BASE)
    await process.look(full=False)
    held.go_on.set()
    await _ended(process)
    assert [item.state.value for item in await process.rollouts() if item.finished_at is None] == []
    assert (await process.environment()).observed_commit == newest


async def test_look_whose_turn_comes_late_is_one_at_the_newest_commit(
    site: Site, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """What waited behind others while a commit was taken back records no rollout of it."""
    process = await _settled_at_first_commit(site, "another", "production", passes_in_parallel=1)
    before = len(await process.rollouts())
    held = Held(process.parts, "another", monkeypatch)
    site.commit(MORE)
    await process.look(full=False)
    await held.reached.wait()
    _take_back(site)
    newest = site.commit(BASE)
    await process.look(full=False)
    held.go_on.set()
    await _ended(process)
    assert len(await process.rollouts()) == before
    assert (await process.environment()).applied_commit == newest


async def test_environment_that_left_while_it_waited_its_turn_stays_away(
    site: Site, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """An old look neither brings it back nor records a rollout."""
    process = await _settled_at_first_commit(site, "another", "production", passes_in_parallel=1)
    before = len(await process.rollouts())
    held = Held(process.parts, "another", monkeypatch)
    site.commit(MORE)
    await process.look(full=False)
    await held.reached.wait()
    (site.repository.path / "environments/production.yaml").unlink()
    site.repository.commit()
    await process.look(full=False)
    held.go_on.set()
    await _ended(process)
    assert len(await process.rollouts()) == before
    assert "Orphaned" in {condition.reason for condition in (await process.environment()).conditions}


@pytest.mark.parametrize("reachable", [True, False])
async def test_wake_of_an_environment_seen_at_a_newer_commit_undoes_nothing(
    site: Site, *, reachable: bool
) -> None:
    """A daemon that knows an older commit only ends no rollout of the newer one, and says what keeps it."""
    behind, ahead = await _settled_at_first_commit(site, "production"), site.process("two")
    newest = site.commit(MORE)
    await ahead.look()
    if not reachable:
        site.repository.path.rename(site.folder / "away")
        await behind.look()
    await behind.parts.passes.pass_environments({"production": True})
    newer = (await ahead.rollouts())[0]
    assert (newer.commit, newer.state.value) == (newest, "pending")
    status = await behind.environment()
    assert status.head_commit == newest
    assert (status.error is None) is reachable


async def test_look_that_waits_its_turn_is_left_to_whom_the_environment_was_given(
    site: Site, control: Control, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """Two daemons at one environment at once would each plan, and one of them in vain."""
    process = site.process(shared=True, passes_in_parallel=1)
    me, other = [await control.worker(name, sources=["shop"]) for name in ("me", "other")]
    mine, theirs = (Peer(id=each.id, sources=frozenset({"shop"}), passes=True) for each in (me, other))
    away = sorted(share((f"shop-{number}" for number in range(40)), other.id, {me.id, other.id}))[:2]
    names = ["a-first", *away]
    process.parts.passes.set_peers(me.id, [mine])
    site.commit(BASE, {path: text for name in names for path, text in site.spec(name).items()})
    held = Held(process.parts, names[0], monkeypatch)
    await process.look()
    await held.reached.wait()
    process.parts.passes.set_peers(me.id, [mine, theirs])
    await process.look()
    looked: list[str] = []
    look = process.parts.passes._looks.look

    async def notes(name: str, *args: Any, **more: Any) -> Any:
        looked.append(name)
        return await look(name, *args, **more)

    monkeypatch.setattr(process.parts.passes._looks, "look", notes)
    held.go_on.set()
    for name in names:
        await _ended(process, name)
    assert set(looked).isdisjoint(away)
    # Who leaves again leaves them to us.
    await control.rows("DELETE FROM reconciler_control.workers WHERE id = %s", other.id)
    process.parts.passes.set_peers(me.id, [mine])
    await process.look()
    for name in names:
        await _ended(process, name)
    assert set(away) <= set(looked)


async def _shared(site: Site, control: Control) -> tuple[Process, workers.Worker]:
    process = site.process(shared=True)
    me = await control.worker("me", sources=["shop"])
    process.parts.passes.set_peers(me.id, [Peer(id=me.id, sources=frozenset({"shop"}), passes=True)])
    return process, me


async def _taken_over(control: Control, process: Process) -> None:
    """Our registration ended, and another has all environments."""
    process.parts.passes.set_peers(None, ())
    other = await control.worker("other", sources=["shop"])
    await control.rows("UPDATE reconciler_control.environments SET owner = %s", other.id)


def _before(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, do: Callable[[], Awaitable[None]]
) -> None:
    """Have something happen once, just before a function is called."""
    original = getattr(place, name)
    done = False

    async def called(*args: Any, **more: Any) -> Any:
        nonlocal done
        if not done:
            done = True
            await do()
        return await original(*args, **more)

    monkeypatch.setattr(place, name, called)


async def test_registration_that_ends_within_a_pass_ends_its_right_to_write(
    site: Site, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another daemon owns by then gets no observation and no rollout of ours."""
    process, _me = await _shared(site, control)
    site.commit(BASE, site.spec())
    _before(monkeypatch, environments, "retire_missing", lambda: _taken_over(control, process))
    await process.look()
    assert await process.rollouts() == ()
    assert (await process.environment()).head_commit is None


async def test_registration_that_ends_before_a_woken_look_ends_its_right_to_write(
    site: Site, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a pass over single environments."""
    process, _me = await _shared(site, control)
    first = site.commit(BASE, site.spec())
    await process.look()
    await control.rows("UPDATE reconciler_control.operations SET finished_at = now(), state = 'cancelled'")
    await control.rows("UPDATE reconciler_control.rollouts SET finished_at = now(), state = 'cancelled'")
    _before(monkeypatch, process.parts.passes, "_now", lambda: _taken_over(control, process))
    await process.parts.passes.pass_environments({"production": True})
    assert [rollout.commit for rollout in await process.rollouts()] == [first]


async def test_full_pass_that_was_due_unregistered_is_made_up_for(site: Site, control: Control) -> None:
    """The pass after registering looks at all, whatever woke it."""
    await _settled_at_first_commit(site, "production")
    site.rows("alter table a add column altered int")
    again = site.process("two", shared=True)
    await again.look(full=True)
    assert (await again.environment()).deployments[0].drift == 0
    me = await control.worker("me", sources=["shop"])
    again.parts.passes.set_peers(me.id, [Peer(id=me.id, sources=frozenset({"shop"}), passes=True)])
    await again.look(full=False)
    assert (await again.environment()).deployments[0].drift > 0


async def test_look_that_failed_after_its_pass_is_made_up_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """Nobody waited for it any more; the next pass looks there, also where no commit changed anything."""
    process = await _settled_at_first_commit(site, "production")
    gone_by, read = asyncio.Event(), known_module.read_many_facts

    async def fails(*args: Any, **more: Any) -> Any:
        if gone_by.is_set():
            return await read(*args, **more)
        await gone_by.wait()
        raise DatabaseUnavailable("the control database is away")

    monkeypatch.setattr(known_module, "read_many_facts", fails)
    site.rows("alter table a add column altered int")
    await process.look(full=True)
    gone_by.set()
    await _ended(process)
    assert (await process.environment()).deployments[0].drift == 0
    await process.look(full=False)
    await _ended(process)
    assert (await process.environment()).deployments[0].drift > 0


async def test_looking_for_drift_gives_way_to_a_commit(
    site: Site, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    """A commit that comes meanwhile is planned at once; the look for drift follows, and gives way once."""
    process = await _settled_at_first_commit(site, "production")
    held = Held(process.parts, "production", monkeypatch)
    await process.look()
    await held.reached.wait()
    newer = site.commit(MORE)
    held.let_one_through()
    await process.look(full=False)
    await _recorded(process, newer)
    await held.reached.wait()
    newest = site.commit({**MORE, "c": "create table c ();"})
    await process.look(full=False)
    assert process.parts.passes._lanes.is_busy("production")
    assert len(await process.rollouts()) == 2
    held.go_on.set()
    await _recorded(process, newest)
    await _ended(process)


async def _recorded(process: Process, commit: str) -> None:
    async def is_recorded() -> bool:
        return (await process.rollouts())[0].commit == commit

    await holds(is_recorded, f"a rollout of {commit[:12]}")
