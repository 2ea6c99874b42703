"""What is recorded of services, jobs and routes is read with what runs of them, and what others have."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from typing_extensions import override

from reconciler.control import install, programs
from reconciler.control.claims import Claim
from reconciler.control.programs import Definition, RouteClaim, StoredOutput
from reconciler.errors import NotFound
from reconciler.planner.programs import ProgramReader
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.runtimes.machine import Machine
from reconciler.spec.values import OutputReference
from tests.plugins.control import Control
from tests.plugins.seen import HEALTHY, Seen, SeenRoutes, desired, route, service


class Counted(Connections):
    """Connections that count how often one is borrowed."""

    borrowed = 0

    @override
    @asynccontextmanager
    async def borrow(self, *args: Any, **kwargs: Any) -> AsyncIterator[Connection]:
        self.borrowed += 1
        async with super().borrow(*args, **kwargs) as connection:
            yield connection


class Recorded:
    """A control database in which something was applied, and readers of it."""

    def __init__(self, control: Control, connections: Counted) -> None:
        self.control = control
        self.connections = connections

    async def claim(self, environment: str = "production") -> Claim:
        """An operation of an environment."""
        await self.control.observe(name=environment)
        await self.control.record("eu", environment=environment)
        return await self.control.must_claim(await self.control.worker())

    async def applied(self, claim: Claim, component: str = "api", runtime: str = "process") -> None:
        """A service was applied on machine `one`."""
        what = Definition(
            component=component,
            kind="Service",
            stage="services",
            definition_hash="d1",
            definition={"program": {"runtime": runtime}},
            place="one",
            instance="i1",
        )
        await programs.applied(self.control.connection, claim, what, healed=False)

    def reader(
        self, *runtimes: Seen, place: str = "one", proxies: tuple[SeenRoutes, ...] = ()
    ) -> ProgramReader:
        """What reads on one machine."""
        return ProgramReader(
            control=self.control.dsn,
            connections=self.connections,
            machine=Machine(
                place=place,
                runtimes={each.name: each for each in runtimes},
                proxies={each.name: each for each in proxies},
            ),
            unseal=lambda sealed: sealed.removeprefix("sealed "),
            observe_timeout_s=30,
        )


@pytest.fixture
async def recorded(control_database: Dsn) -> AsyncIterator[Recorded]:
    """An installed control database."""
    async with AsyncExitStack() as stack:
        control = Control(control_database, stack)
        control.connection = await control.connect()
        await install.install(control.connection)
        connections = Counted()
        stack.push_async_callback(connections.close)
        yield Recorded(control, connections)


async def test_what_runs_on_another_machine_is_unknown(recorded: Recorded) -> None:
    """Nothing seen here says anything of it, and the machine is named."""
    await recorded.applied(await recorded.claim())
    process = Seen("process")
    tracked, live = await recorded.reader(process, place="two").read(desired(service("api")))
    assert tracked.components["api"].instance == "i1"
    assert list(live.unknown) == ["api"]
    assert "machine 'one', and this daemon is on 'two'; a daemon there sees it" in live.unknown["api"]
    _tracked, here = await recorded.reader(process).read(desired(service("api")))
    assert not here.unknown


async def test_what_left_the_spec_is_looked_for_where_it_was(recorded: Recorded) -> None:
    """An environment without services asks once for all whether any has some, and then those that had."""
    first, second = Seen("process", [HEALTHY]), Seen("container")
    reader = recorded.reader(first, second)
    now = 0.0
    for _ in range(3):
        await reader.read(desired(), not_before=now)
    assert recorded.connections.borrowed == 1
    assert first.looks == 0
    await recorded.applied(await recorded.claim())
    again = recorded.reader(first, second)
    tracked, live = await again.read(desired(), not_before=now)
    assert set(tracked.components) == set(live.instances) == {"api"}
    assert (first.looks, second.looks) == (1, 0)
    assert (await again.read(desired()))[0].components == tracked.components


async def test_route_of_others_is_barred_with_whose_it_is(recorded: Recorded) -> None:
    """Before anything is planned: two environments never fight over a host."""
    theirs = RouteClaim(component="front", proxy="caddy", host="shop.example.com", path="/")
    await programs.claim_route(recorded.control.connection, await recorded.claim("other"), theirs)
    reader = recorded.reader(proxies=(SeenRoutes("caddy"),))
    _tracked, live = await reader.read(desired(route("edge")))
    assert live.barred == {
        "edge": "'shop.example.com/' of proxy 'caddy' is the route 'front' of deployment 'eu' of environment "
        "'other'"
    }


async def test_outputs_are_texts_wherever_they_are_put_in(recorded: Recorded) -> None:
    """Sealed ones are opened; one that is not kept is no empty text."""
    outputs = [
        StoredOutput(name="host", type="string", value="db"),
        StoredOutput(name="port", type="number", value=5432),
        StoredOutput(name="password", type="string", sealed='sealed "pw"'),
    ]
    await programs.keep_outputs(recorded.control.connection, await recorded.claim(), "shop-db", "h1", outputs)
    reader = recorded.reader()
    found = [
        await reader.output(desired(), OutputReference(component="shop-db", output=name))
        for name in ("host", "port", "password")
    ]
    assert found == ["db", "5432", "pw"]
    with pytest.raises(NotFound, match=r"'shop-db\.url' is not there"):
        await reader.output(desired(), OutputReference(component="shop-db", output="url"))
