"""What a plan was made from is read again under the fence, unless its epoch says that nobody wrote since."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from reconciler.errors import StateMoved
from reconciler.execution import changes
from reconciler.execution import resources as resources_module
from reconciler.execution.changes import Progress
from reconciler.execution.resources import Resources
from reconciler.execution.session import Limits, open_session
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.state.desired import DesiredChange
from reconciler.state.tracked import TrackedDatabase
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_tracked, read_under_fence
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.states import change, desired, module

ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LIMITS = Limits(fence_wait_s=30)


def owner(operation: str) -> FenceOwner:
    return FenceOwner(control_id="test", environment="production", deployment="eu", operation=operation)


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


async def never(_database: str) -> None:
    raise AssertionError("no database is made")


@dataclass(slots=True)
class Place:
    """A database with a tracking schema, and how often what it tracks was read under the fence."""

    dsn: Dsn
    database: str
    looking: Connection
    read: list[str] = field(default_factory=list)

    async def tracked(self) -> TrackedDatabase:
        return await read_tracked(self.looking)

    async def write(self, name: str) -> None:
        """Another operation deploys a change, or none of that name."""
        session = await open_session(
            self.dsn, self.database, owner("other"), limits=LIMITS, install_tracking=True
        )
        if name:
            one = change(name)
            await changes.deploy(session, module(one), [one], ACTOR, Progress(done=nothing, safe_point=go_on))
        await session.finish()

    def operation(self, planned_from: TrackedDatabase) -> Resources:
        return Resources(
            dsn=self.dsn,
            owner=owner("1"),
            actor=ACTOR,
            limits=LIMITS,
            desired=desired(module(change("a"), database=self.database)),
            unprepared=frozenset(),
            standing={},
            planned_from={self.database: planned_from},
            intend=never,
            forget=never,
        )


@pytest.fixture
async def place(
    postgres_server: Server, fresh_database: str, database_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    looking = await connect(database_dsn, role="other")
    made = Place(postgres_server.dsn, fresh_database, looking)

    async def counted(connection: Connection) -> TrackedDatabase:
        made.read.append(fresh_database)
        return await read_under_fence(connection)

    monkeypatch.setattr(resources_module, "read_under_fence", counted)
    await made.write("")
    yield made
    await looking.close()


async def test_the_next_epoch_says_that_nobody_wrote(place: Place) -> None:
    """Whoever takes the fence next after the plan reads nothing again, whenever that is."""
    operation = place.operation(await place.tracked())
    await operation.session(place.database)
    await operation.finish()
    assert place.read == []


async def test_a_writer_between_is_met_by_a_look(place: Place) -> None:
    """One that left all as it was keeps nobody from going on; one that deployed something does."""
    planned_from = await place.tracked()
    await place.write("")
    operation = place.operation(planned_from)
    await operation.session(place.database)
    await operation.finish()
    assert place.read == [place.database]
    planned_from = await place.tracked()
    await place.write("a")
    operation = place.operation(planned_from)
    with pytest.raises(StateMoved):
        await operation.session(place.database)
    await operation.abandon()
    assert place.read == [place.database] * 2


async def test_a_writer_that_was_at_it_is_met_by_a_look(place: Place) -> None:
    """What was read while another had the fence, alive or dead, says nothing of what that one did then."""
    session = await open_session(
        place.dsn, place.database, owner("other"), limits=LIMITS, install_tracking=False
    )
    planned_from = await place.tracked()
    assert planned_from.epoch is None
    one = change("a")
    await changes.deploy(session, module(one), [one], ACTOR, Progress(done=nothing, safe_point=go_on))
    await session.abandon()
    assert (await place.tracked()).epoch is None
    operation = place.operation(planned_from)
    with pytest.raises(StateMoved):
        await operation.session(place.database)
    await operation.abandon()
    assert place.read == [place.database]
