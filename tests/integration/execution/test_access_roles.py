"""Roles that others get into a database with, on a real server: what they may do, and what they may not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from typing_extensions import override

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext
from reconciler.diff.model import DatabaseDiff
from reconciler.errors import Refused
from reconciler.execution import changes
from reconciler.execution.access import drop_database, provide_access
from reconciler.execution.changes import Progress
from reconciler.execution.interference import Interference
from reconciler.execution.objects.metadata import Metadata, apply_metadata
from reconciler.execution.resources import Resources
from reconciler.execution.session import Limits
from reconciler.objects.model import ObjectName
from reconciler.plan.steps import DropDatabase, ProvideAccess, StepKind
from reconciler.planner.planner import VERSIONS
from reconciler.planner.reads import StateReader
from reconciler.planner.servers import Servers
from reconciler.postgres.connection import Connections, Dsn
from reconciler.state.desired import DesiredChange, DesiredState
from reconciler.state.programs import DATABASE_OUTPUTS, DesiredAccess
from reconciler.state.tracked import TrackedOutput, TrackedPrograms
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor
from tests.plugins.generations import Draft, Stand, live, view, work
from tests.plugins.postgres import Server
from tests.plugins.rolling import MemoryRegister
from tests.plugins.states import change, database, desired, module

ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")


class Died(BaseException):
    """The process died here, as far as a test can tell."""


class Strike(Interference):
    """Dies inside of the step."""

    active = True

    @override
    def at(self, point: str) -> None:
        if point.startswith("inside"):
            raise Died


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


async def never(_database: str) -> None:
    raise AssertionError("no database is made")


@dataclass
class Place:
    """A managed database whose roles are asked for, and what is recorded of it."""

    server: Server
    database: str
    register: MemoryRegister = field(default_factory=MemoryRegister)
    connections: Connections = field(default_factory=Connections)
    dsn: Dsn | None = None
    """Narrower credentials, where they are not those of the server."""

    @property
    def access(self) -> DesiredAccess:
        return DesiredAccess(
            owner=f"{self.database}_owner",
            reader=f"{self.database}_reader",
            outputs=tuple(sorted(DATABASE_OUTPUTS)),
            inputs_hash="v1",
        )

    @property
    def desired(self) -> DesiredState:
        return desired(databases=[database(database=self.database, access=self.access)])

    @property
    def step(self) -> ProvideAccess:
        return ProvideAccess(
            id="shop-db/provide-access",
            kind=StepKind.PROVIDE_ACCESS,
            component="shop-db",
            identity=f"access to database {self.database}",
            database=self.database,
            owner=self.access.owner,
            reader=self.access.reader,
            inputs_hash=self.access.inputs_hash,
            produces=tuple(f"shop-db.{name}" for name in self.access.outputs),
        )

    def resources(self, interference: Interference | None = None) -> Resources:
        return Resources(
            dsn=self.dsn or self.server.dsn,
            owner=OWNER,
            actor=ACTOR,
            limits=Limits(fence_wait_s=30),
            desired=self.desired,
            unprepared=frozenset({self.database}),
            standing={},
            planned_from={},
            intend=never,
            forget=never,
            register=self.register,
            secret=lambda _reference: self.server.text(),
            interference=interference or Interference(),
        )

    async def provide(self, *names: str) -> Resources:
        """Provide access, and deploy changes of these names behind it."""
        resources = self.resources()
        try:
            await provide_access(self.step, resources)
            for number, text in enumerate(names):
                session = await resources.session(self.database)
                one = change(f"c{number}", text=text)
                await changes.deploy(
                    session, module(one), [one], ACTOR, Progress(done=nothing, safe_point=go_on)
                )
            await resources.finish()
        finally:
            await resources.abandon()
        return resources

    def output(self, name: str) -> str:
        return str(self.register.outputs[f"shop-db.{name}"][0].value)

    def run(self, statement: str, *, url: str | None = None) -> list[tuple[object, ...]]:
        """Run by hand, or as whoever has a URL."""
        if url is None:
            return self.server.run(statement, database=self.database)
        with psycopg.connect(self.output(url), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    async def diff(self) -> DatabaseDiff:
        """What a plan finds now."""
        reader = StateReader(self.connections, databases_in_parallel=4, full_read_interval_s=600)
        tracked, found = await reader.read(Servers(own=self.server.dsn), self.desired, not_before=None)
        kept = {
            name: TrackedOutput(component="shop-db", name=made.name, inputs_hash=inputs)
            for name, (made, inputs) in self.register.outputs.items()
        }
        tracked = replace(tracked, programs=TrackedPrograms(outputs=kept))
        context = DatabaseContext(versions=VERSIONS, drift="warn")
        return compare(self.desired, tracked, found, {self.database: context}).databases[0]


@pytest.fixture
async def place(postgres_server: Server, fresh_database: str) -> AsyncIterator[Place]:
    made = Place(postgres_server, fresh_database)
    yield made
    await made.connections.close()
    for role in (made.access.owner, made.access.reader):
        there = postgres_server.run(f"SELECT FROM pg_roles WHERE rolname = '{role}'")
        if there:
            await asyncio.to_thread(made.run, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def test_both_get_in_and_may_do_what_they_are_for(place: Place) -> None:
    """With what is kept the owner writes and makes, the reader reads, both also what modules make later."""
    await asyncio.to_thread(place.run, "CREATE TABLE before (n int); INSERT INTO before VALUES (1)")
    await place.provide("CREATE SCHEMA late; CREATE TABLE late.after (id serial, n int)")

    def use() -> None:
        assert place.run("SELECT n FROM before", url="readerUrl") == [(1,)]
        assert place.run("SELECT count(*) FROM late.after", url="readerUrl") == [(0,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            place.run("INSERT INTO late.after (n) VALUES (1)", url="readerUrl")
        place.run("INSERT INTO before VALUES (2)", url="url")
        place.run("INSERT INTO late.after (n) VALUES (2)", url="url")
        place.run("CREATE SCHEMA own", url="url")
        place.run("DROP SCHEMA own", url="url")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            place.run("SELECT * FROM reconciler.fence", url="url")

    await asyncio.to_thread(use)
    assert (place.output("database"), place.output("user")) == (place.database, place.access.owner)
    assert {made.name for made, _hash in place.register.outputs.values() if made.sensitive} == {
        "password",
        "readerPassword",
        "readerUrl",
        "url",
    }


async def test_what_was_provided_is_neither_pending_nor_drift(place: Place) -> None:
    """A plan finds nothing to do and nothing changed by hand; a role dropped by hand is pending again."""
    await place.provide("CREATE TABLE orders (n int)")
    found = await place.diff()
    assert not found.works
    assert not found.drift
    reader = place.access.reader
    await asyncio.to_thread(place.run, f"DROP OWNED BY {reader}; DROP ROLE {reader}")
    assert (await place.diff()).access == f"role '{reader}' is not on the server any more"
    await place.provide()
    assert await asyncio.to_thread(place.run, "SELECT count(*) FROM orders", url="readerUrl") == [(0,)]
    assert not (await place.diff()).works


async def test_whoever_comes_after_a_death_goes_on(place: Place) -> None:
    """Where the roles were made and nothing was kept, the next attempt keeps the password they have."""
    resources = place.resources(Strike())
    with pytest.raises(Died):
        await provide_access(place.step, resources)
    await resources.abandon()
    assert not place.register.outputs
    await place.provide()
    assert await asyncio.to_thread(place.run, "SELECT 1", url="url") == [(1,)]


async def test_a_role_of_somebody_else_is_never_touched(place: Place) -> None:
    """One that was made by hand between plan and step keeps its password, and nothing of the step is done."""
    owner, reader = place.access.owner, place.access.reader
    await asyncio.to_thread(place.run, f"CREATE ROLE {owner} LOGIN PASSWORD 'mine'")
    with pytest.raises(Refused, match=f"role '{owner}' was not made for database"):
        await place.provide()
    assert not place.register.outputs
    roles = f"SELECT rolname FROM pg_roles WHERE rolname IN ('{owner}', '{reader}')"
    assert await asyncio.to_thread(place.run, roles) == [(owner,)]


async def test_grants_to_others_are_none_by_hand_on_generations(
    place: Place, postgres_server: Server
) -> None:
    """What was built before access is provided, and after, is switched to without a word, and read."""

    def drafts(answer: int) -> list[Draft]:
        return [view("app.plain", f"SELECT {answer} AS n")]

    resources = place.resources()
    session = await resources.session(place.database)
    with psycopg.connect(postgres_server.text(place.database), autocommit=True) as by_hand:
        stand = Stand(postgres_server.dsn, place.database, by_hand)
        await live(stand, session, work("k1", *drafts(1)))
        await provide_access(place.step, resources)
        assert await asyncio.to_thread(place.run, "SELECT n FROM app.plain", url="readerUrl") == [(1,)]
        await live(stand, session, work("k2", *drafts(2)))
        assert await asyncio.to_thread(place.run, "SELECT n FROM app.plain", url="readerUrl") == [(2,)]
        said = Metadata(
            name=ObjectName("app", ""),
            statements=("COMMENT ON SCHEMA app IS 'what is said of it in place'",),
            metadata_hash="other",
        )
        await apply_metadata(session, [said])
        assert await asyncio.to_thread(place.run, "SELECT n FROM app.plain", url="readerUrl") == [(2,)]
        await live(stand, session, work("k3", *drafts(3)))
        await resources.finish()
    assert not (await place.diff()).drift


async def test_narrower_credentials_are_enough(place: Place) -> None:
    """A role that may make roles and has the database provides access; whom it cannot speak for is told."""
    narrow = f"{place.database}_narrow"
    made = f"CREATE ROLE {narrow} LOGIN CREATEROLE PASSWORD 'narrow'"
    await asyncio.to_thread(place.run, f"{made}; ALTER DATABASE {place.database} OWNER TO {narrow}")
    place.dsn = Dsn.of(**{**place.server.dsn.parameters(), "user": narrow, "password": "narrow"})
    try:
        resources = await place.provide("CREATE TABLE made (n int); CREATE VIEW seen AS SELECT n FROM made")
        assert await asyncio.to_thread(place.run, "SELECT n FROM seen", url="readerUrl") == []
        (remark,) = resources.remarks
        assert remark.startswith(f"what role 'postgres' makes in database '{place.database}' is not granted")
    finally:
        await asyncio.to_thread(place.run, f"ALTER DATABASE {place.database} OWNER TO postgres")
        for role in (place.access.owner, place.access.reader, narrow):
            await asyncio.to_thread(place.run, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def test_a_database_is_dropped_with_its_roles(place: Place) -> None:
    """Also while somebody is connected to it; again, nothing is left to do, and outputs are forgotten."""
    await place.provide()
    step = DropDatabase(
        id="shop-db/drop-database",
        kind=StepKind.DROP_DATABASE,
        component="shop-db",
        identity=f"database {place.database}",
        database=place.database,
    )
    with psycopg.connect(place.output("url")):
        for _ in range(2):
            resources = place.resources()
            await drop_database(step, resources)
            await resources.finish()
            assert not resources.remarks
    names = f"'{place.access.owner}', '{place.access.reader}'"
    asked = (
        f"SELECT datname FROM pg_database WHERE datname = '{place.database}'"
        f" UNION ALL SELECT rolname FROM pg_roles WHERE rolname IN ({names})"
    )
    assert await asyncio.to_thread(place.server.run, asked) == []
    assert not place.register.outputs
