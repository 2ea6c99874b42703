"""The base line: moving while an operation writes, settled with only what differs."""

import asyncio
import hashlib
import subprocess
import sys

import pytest

from reconciler.catalog.model import Catalog, CatalogObject, DatabaseIdentity, Fingerprint, ObjectKind
from reconciler.errors import Refused
from reconciler.postgres.connection import Connection
from reconciler.tracking.base_line import adopt_copy, settle
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.read import read_base_line_objects, read_tracked
from reconciler.tracking.record import begin_writes

HERE = DatabaseIdentity("7000000000000000001", 16384, 15)
WRITER = """
import sys, psycopg
text = sys.argv[1]
connection = psycopg.connect(text, autocommit=True)
epoch = connection.execute("SELECT taken FROM reconciler.take_fence('c', 'e', 'd', 'op-7')").fetchone()[0]
connection.execute("SELECT reconciler.begin_writes(%s, 'op-7')", (epoch,))
connection.execute("CREATE TABLE public.half (id int)")
print("writing", flush=True)
sys.stdin.readline()
"""


def write_and_die(text: str) -> None:
    """Take the fence in another process, begin to write, and end it with kill -9."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    writer.kill()
    writer.communicate()


def item(name: str, text: str = "{}", kind: ObjectKind = ObjectKind.TABLE) -> CatalogObject:
    return CatalogObject(kind, name, text, Fingerprint(hashlib.sha256(text.encode()).hexdigest()))


def catalog(*items: CatalogObject) -> Catalog:
    return Catalog({one.identity: one for one in items})


async def test_first_moving_then_settled(fence: Fence, connection: Connection, superuser) -> None:
    """The first write marks the base line as moving, once; the last one stores what is there."""
    assert (await read_tracked(connection)).base_line is None
    await begin_writes(connection, fence)
    before = superuser.execute("SELECT xmin, moving_since FROM reconciler.base_line").fetchone()
    await begin_writes(connection, fence)
    assert superuser.execute("SELECT xmin, moving_since FROM reconciler.base_line").fetchone() == before
    moving = (await read_tracked(connection)).base_line
    assert moving is not None
    assert (moving.moving, moving.algorithm, moving.probe) == (True, 0, "")

    here = moving.identity
    await settle(connection, fence, catalog(item("a.b")), "probe-1", here, 3)

    settled = (await read_tracked(connection)).base_line
    assert settled is not None
    assert (settled.moving, settled.identity, settled.algorithm, settled.probe) == (False, here, 3, "probe-1")
    assert await read_base_line_objects(connection) == catalog(item("a.b")).objects


async def test_the_identity_is_the_servers(fence: Fence, connection: Connection, superuser) -> None:
    """A base line that moves for the first time carries the identity of the physical database."""
    await begin_writes(connection, fence)
    row = superuser.execute(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()),"
        " (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),"
        " current_setting('server_version_num')::int / 10000"
    ).fetchone()
    base_line = (await read_tracked(connection)).base_line
    assert base_line is not None
    assert base_line.identity == DatabaseIdentity(*row)


async def test_only_what_differs_is_written(fence: Fence, connection: Connection, superuser) -> None:
    """Settling again stores new and changed objects, removes vanished ones and leaves the others alone."""
    long_name = "s." + "f(" + "a_very_long_type_name, " * 300 + ")"
    kept = (
        item("s.kept"),
        item(long_name, kind=ObjectKind.FUNCTION),
        item('s."a\tb\\n\n\\."', '{"ü": "\\\\"}'),
    )
    await settle(connection, fence, catalog(*kept, item("s.gone"), item("s.changed", "1")), "p1", HERE, 1)
    rows = "SELECT name, xmin::text FROM reconciler.base_line_objects"
    before = dict(superuser.execute(rows).fetchall())

    now = catalog(*kept, item("s.changed", "2"), item("s.new"), item("s.kept", kind=ObjectKind.VIEW))
    await settle(connection, fence, now, "p2", HERE, 1)

    assert await read_base_line_objects(connection) == now.objects
    after = dict(superuser.execute(rows + " WHERE kind <> 'view'").fetchall())
    assert {name for name in after if before.get(name) == after[name]} == {one.name for one in kept}


async def test_ten_thousand_objects_are_one_transaction(
    fence: Fence, connection: Connection, superuser
) -> None:
    """However many objects there are, readers see the old base line or the new one."""
    many = catalog(*(item(f"s.t{number}") for number in range(10_000)))
    async with connection.transaction():
        await settle(connection, fence, many, "p1", HERE, 1)
        assert superuser.execute("SELECT count(*) FROM reconciler.base_line_objects").fetchone() == (0,)
    assert superuser.execute("SELECT count(*) FROM reconciler.base_line_objects").fetchone() == (10_000,)


async def test_a_copy_is_not_settled_but_adopted(fence: Fence, connection: Connection) -> None:
    """Where the stored identity is another's, settling is refused, and adopting takes everything anew."""
    await settle(connection, fence, catalog(item("a.b")), "p1", HERE, 1)
    there = DatabaseIdentity(HERE.system_identifier, HERE.database_oid + 1, HERE.server_major)

    with pytest.raises(Refused, match="a copy"):
        await settle(connection, fence, catalog(), "p2", there, 1)
    assert await read_base_line_objects(connection) == catalog(item("a.b")).objects

    await adopt_copy(connection, fence, catalog(item("c.d")), "p2", there, 1)
    base_line = (await read_tracked(connection)).base_line
    assert base_line is not None
    assert base_line.identity == there
    assert await read_base_line_objects(connection) == catalog(item("c.d")).objects


async def test_an_upgraded_server_is_no_copy(fence: Fence, connection: Connection) -> None:
    """Another major version comes with another identity, and is settled."""
    await settle(connection, fence, catalog(), "p1", HERE, 1)
    await settle(connection, fence, catalog(), "p1", DatabaseIdentity("8", 5, HERE.server_major + 1), 1)
    base_line = (await read_tracked(connection)).base_line
    assert base_line is not None
    assert base_line.identity.server_major == HERE.server_major + 1


async def test_killed_between_first_and_last_write(
    postgres_server, fresh_database, installed: Connection, owner: FenceOwner
) -> None:
    """A writer that dies before it settles leaves the base line moving, for whoever takes over."""
    await asyncio.to_thread(write_and_die, postgres_server.text(fresh_database))

    fence = await Fence.acquire(installed, owner, deadline_s=60)

    base_line = (await read_tracked(installed)).base_line
    assert base_line is not None
    assert base_line.moving
    await settle(installed, fence, catalog(), "p", base_line.identity, 1)
    base_line = (await read_tracked(installed)).base_line
    assert base_line is not None
    assert not base_line.moving


async def test_settling_waits_for_the_disk(fence: Fence, connection: Connection) -> None:
    """Whatever the session is set to, the last write of an operation commits durably."""
    await connection.execute("SET synchronous_commit = off")
    async with connection.transaction():
        await settle(connection, fence, catalog(), "p", HERE, 1)
        cursor = await connection.execute("SHOW synchronous_commit")
        assert await cursor.fetchone() == ("on",)
