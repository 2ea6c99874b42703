"""The fence with real backends: who may write, who takes over, who is told to wait."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from reconciler.catalog.model import Catalog, DatabaseIdentity
from reconciler.errors import DatabaseUnavailable, FenceBusy, FenceTaken, LeaseLost, PermanentError
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.tracking.base_line import settle
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.install import install
from reconciler.tracking.record import Actor, ChangeRecord, ModuleIdentity, begin_writes, change_deployed

DAEMON = """
import sys, psycopg
text, owner, held = sys.argv[1], sys.argv[2:6], sys.argv[6]
holder = psycopg.connect(text, autocommit=True)
epoch = holder.execute("SELECT taken FROM reconciler.take_fence(%s, %s, %s, %s)", owner).fetchone()[0]
writer = psycopg.connect(text, autocommit=True)
writer.execute("SELECT reconciler.enroll_backend(%s)", (epoch,))
if held == "writing":
    writer.execute("BEGIN")
    writer.execute("SELECT reconciler.check_fence(%s)", (epoch,))
    writer.execute("INSERT INTO public.written VALUES ('predecessor')")
print(epoch, holder.info.backend_pid, writer.info.backend_pid, flush=True)
sys.stdin.readline()
try:
    if held != "writing":
        writer.execute("BEGIN")
        writer.execute("SELECT reconciler.check_fence(%s)", (epoch,))
        writer.execute("INSERT INTO public.written VALUES ('predecessor')")
    writer.execute("COMMIT")
    print("committed", flush=True)
except psycopg.Error as error:
    print("refused", type(error).__name__, flush=True)
"""


class Daemon:
    """Another process that holds the fence, and perhaps a transaction."""

    def __init__(self, text: str, owner: FenceOwner, doing: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", DAEMON, text),
                *(owner.control_id, owner.environment, owner.deployment, owner.operation, doing),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.epoch, self.holder, self.writer = (int(word) for word in self.process.stdout.readline().split())

    def go_on(self) -> str:
        """Let it write and commit; says what came of that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
async def start_daemon(postgres_server, fresh_database, installed: Connection, superuser):
    superuser.execute("CREATE TABLE public.written (who text)")
    started: list[Daemon] = []

    def start(owner: FenceOwner, doing: str = "idle") -> Daemon:
        started.append(Daemon(postgres_server.text(fresh_database), owner, doing))
        return started[-1]

    yield start
    for daemon in started:
        daemon.end()


@pytest.fixture
async def second(open_connection) -> Connection:
    return await open_connection()


@pytest.fixture
def stranger() -> FenceOwner:
    return FenceOwner(control_id="control-2", environment="staging", deployment="us", operation="op-9")


def backends(superuser: psycopg.Connection, *pids: int) -> int:
    row = superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", (list(pids),)
    ).fetchone()
    assert row is not None
    return row[0]


async def until(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    deadline = asyncio.get_running_loop().time() + deadline_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_another_owner_waits_and_is_told_who_holds_it(
    fence: Fence, second: Connection, stranger: FenceOwner, connection: Connection
) -> None:
    """While the holder lives, another owner gets FenceTaken, soon: who, where, since when, and what to do."""
    with pytest.raises(FenceTaken) as caught:
        await Fence.acquire(second, stranger, deadline_s=3600, patience_s=0.3)

    text = str(caught.value)
    for part in ("'production'", "'eu'", "control-1", "op-1", "UTC", str(connection.info.backend_pid)):
        assert part in text
    assert caught.value.hint
    await fence.check(connection)


async def test_it_is_free_once_released(
    fence: Fence, second: Connection, stranger: FenceOwner, connection: Connection
) -> None:
    """A released fence goes to the next at once, with a higher epoch, and the old epoch writes no more."""
    await fence.release()
    with pytest.raises(LeaseLost):
        await fence.check(connection)

    following = await Fence.acquire(second, stranger, deadline_s=30)

    assert following.epoch > fence.epoch
    with pytest.raises(LeaseLost):
        await begin_writes(connection, fence)


async def test_of_many_at_once_one_holds_it(installed: Connection, open_connection) -> None:
    """Of ten owners that race for the fence one gets it; the others are told that it is held."""
    owners = [
        FenceOwner(control_id=f"control-{number}", environment="e", deployment="d", operation="o")
        for number in range(10)
    ]
    connections = [await open_connection() for _ in owners]

    results = await asyncio.gather(
        *(Fence.acquire(one, owner, deadline_s=0.5) for one, owner in zip(connections, owners, strict=True)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, Fence) for result in results) == 1
    assert sum(isinstance(result, FenceBusy) for result in results) == 9


async def test_waiting_ends_when_the_holder_lets_go(
    fence: Fence, second: Connection, stranger: FenceOwner
) -> None:
    """Who waits for the fence gets it when it is released before the deadline."""
    waiting = asyncio.create_task(Fence.acquire(second, stranger, deadline_s=60))
    await asyncio.sleep(0)
    await fence.release()
    assert (await waiting).epoch == fence.epoch + 1


@pytest.mark.parametrize("doing", ["idle", "writing"])
async def test_takeover_after_kill_9(
    start_daemon, second: Connection, stranger: FenceOwner, owner: FenceOwner, superuser, doing: str
) -> None:
    """After kill -9 of the holder anyone can take the fence, and nothing it had not committed is there."""
    daemon = start_daemon(owner, doing)
    daemon.process.kill()
    daemon.process.wait()

    following = await Fence.acquire(second, stranger, deadline_s=60)

    assert following.epoch == daemon.epoch + 1
    assert backends(superuser, daemon.holder, daemon.writer) == 0
    assert superuser.execute("SELECT count(*) FROM public.written").fetchone() == (0,)


@pytest.mark.parametrize("doing", ["idle", "writing"])
async def test_a_frozen_predecessor_cannot_write(
    start_daemon, second: Connection, owner: FenceOwner, superuser, doing: str
) -> None:
    """A stopped process of the same place loses its backends first, and cannot commit afterwards."""
    daemon = start_daemon(owner, doing)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        following = await Fence.acquire(second, owner, deadline_s=60)
        assert backends(superuser, daemon.holder, daemon.writer) == 0
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)

    assert daemon.go_on().startswith("refused")
    assert following.epoch == daemon.epoch + 1
    assert superuser.execute("SELECT count(*) FROM public.written").fetchone() == (0,)


async def test_a_frozen_stranger_keeps_the_fence(
    start_daemon, second: Connection, owner: FenceOwner, stranger: FenceOwner
) -> None:
    """While a stranger's session holds the lock it is waited for, never ended, however still it is."""
    daemon = start_daemon(stranger, "writing")
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(FenceBusy, match="'staging'"):
            await Fence.acquire(second, owner, deadline_s=0.3)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    assert daemon.go_on() == "committed\n"


async def test_a_writer_that_outlives_its_holder_is_ended(
    start_daemon, second: Connection, stranger: FenceOwner, owner: FenceOwner, superuser
) -> None:
    """Where the lock is free but a recorded writer is in a transaction, the successor ends that first."""
    daemon = start_daemon(owner, "writing")
    superuser.execute("SELECT pg_terminate_backend(%s)", (daemon.holder,))
    await until(lambda: backends(superuser, daemon.holder) == 0)

    following = await Fence.acquire(second, stranger, deadline_s=60)

    assert following.epoch == daemon.epoch + 1
    assert backends(superuser, daemon.writer) == 0
    assert daemon.go_on().startswith("refused")
    assert superuser.execute("SELECT count(*) FROM public.written").fetchone() == (0,)


async def test_nobody_is_ended_where_that_is_not_wanted(
    start_daemon, second: Connection, owner: FenceOwner, superuser
) -> None:
    """With `terminate=False` even a predecessor of the same place is only waited for."""
    daemon = start_daemon(owner, "writing")
    with pytest.raises(FenceBusy):
        await Fence.acquire(second, owner, deadline_s=0.3, terminate=False)
    assert backends(superuser, daemon.holder, daemon.writer) == 2


async def test_only_recorded_backends_are_ended(
    start_daemon, second: Connection, owner: FenceOwner, superuser
) -> None:
    """A backend that merely has the process id of a recorded one, started at another time, is left alone."""
    bystander = superuser.info.backend_pid
    daemon = start_daemon(owner)
    superuser.execute(
        "INSERT INTO reconciler.fence_backends (pid, backend_start, epoch, holder)"
        " VALUES (%s, now() - interval '1 day', %s, false)",
        (bystander, daemon.epoch),
    )

    await Fence.acquire(second, owner, deadline_s=60)

    assert backends(superuser, bystander) == 1
    assert backends(superuser, daemon.holder, daemon.writer) == 0


async def test_a_stale_epoch_writes_nothing(
    fence: Fence,
    connection: Connection,
    open_connection,
    stranger: FenceOwner,
    module: ModuleIdentity,
    actor: Actor,
    superuser,
) -> None:
    """Whatever a former owner still tries to record ends with LeaseLost and leaves no trace."""
    late = await open_connection()
    await fence.enroll(late)
    superuser.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
    superuser.execute("UPDATE reconciler.fence SET epoch = epoch + 1")
    change = ChangeRecord(change_id="c1", name="one")
    identity = DatabaseIdentity("1", 1, 15)

    for attempt in (
        lambda: fence.check(late),
        lambda: fence.enroll(late),
        lambda: begin_writes(late, fence),
        lambda: change_deployed(late, fence, module, change, actor),
        lambda: settle(late, fence, Catalog({}), "p", identity, 1),
    ):
        with pytest.raises(LeaseLost, match="is over"):
            await attempt()
    assert superuser.execute("SELECT count(*) FROM reconciler.changes").fetchone() == (0,)
    assert superuser.execute("SELECT count(*) FROM reconciler.base_line").fetchone() == (0,)


async def test_a_writer_has_to_be_enrolled(fence: Fence, second: Connection) -> None:
    """A backend that nobody could end, because it is not on record, may not write."""
    with pytest.raises(PermanentError, match="without having been enrolled"):
        await fence.check(second)
    await fence.enroll(second)
    await fence.check(second)
    await fence.enroll(second)


async def test_enrolling_inside_a_transaction_is_refused(fence: Fence, second: Connection) -> None:
    """An enrolment that nobody else can see yet does not count."""
    async with second.transaction():
        with pytest.raises(PermanentError, match="inside a transaction"):
            await fence.enroll(second)


async def test_the_epoch_stands_while_a_writer_is_in_its_transaction(
    fence: Fence, connection: Connection, second: Connection, open_connection, owner: FenceOwner, superuser
) -> None:
    """A checked transaction is either ended or waited out before the epoch is raised."""
    await fence.enroll(second)
    async with second.transaction():
        await fence.check(second)
        superuser.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        superuser.execute("DELETE FROM reconciler.fence_backends")  # a writer that is on no record
        third = await open_connection()
        with pytest.raises(FenceBusy):
            await Fence.acquire(third, owner, deadline_s=0.3)
    assert (await Fence.acquire(third, owner, deadline_s=60)).epoch == fence.epoch + 1


async def test_an_epoch_is_never_given_out_twice(private_postgres, owner: FenceOwner) -> None:
    """A server that crashes right after the fence was taken remembers the epoch, whatever its settings."""
    private_postgres.run("ALTER SYSTEM SET synchronous_commit = off")
    private_postgres.restart()
    connection = await connect(private_postgres.dsn, role="test")
    await install(connection)
    before = await Fence.acquire(connection, owner, deadline_s=60)
    private_postgres.restart()
    with pytest.raises(DatabaseUnavailable):
        await before.check(connection)
    await connection.close()

    connection = await connect(private_postgres.dsn, role="test")
    try:
        assert (await Fence.acquire(connection, owner, deadline_s=60)).epoch == before.epoch + 1
    finally:
        await connection.close()


async def test_waiting_does_not_deadlock_with_a_concurrent_index(
    fence: Fence, connection: Connection, second: Connection, stranger: FenceOwner, superuser
) -> None:
    """An index is built concurrently by the holder while another owner polls for the fence."""
    superuser.execute("CREATE TABLE public.big AS SELECT g AS id FROM generate_series(1, 1000) AS g")
    waiting = asyncio.create_task(Fence.acquire(second, stranger, deadline_s=60))
    await asyncio.sleep(0)
    await connection.execute("CREATE INDEX CONCURRENTLY big_id ON public.big (id)")
    await fence.release()
    await waiting


@pytest.fixture
async def plain_role(postgres_server, fresh_database, superuser) -> AsyncIterator[Dsn]:
    name = sql.Identifier(f"plain {uuid.uuid4().hex[:8]}")
    superuser.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(name))
    superuser.execute(
        sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(fresh_database), name)
    )
    yield Dsn(
        make_conninfo(postgres_server.text(fresh_database), user=name.as_string().strip('"'), password="x")
    )
    superuser.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
    superuser.execute(sql.SQL("DROP ROLE {}").format(name))


async def test_a_role_that_may_end_nobody_says_so(plain_role: Dsn, owner: FenceOwner, superuser) -> None:
    """Where PostgreSQL does not let us see or end a predecessor's backend, the message says how to go on."""
    connection = await connect(plain_role, role="test")
    try:
        await install(connection)
        fence = superuser.execute(
            "SELECT taken FROM reconciler.take_fence(%s, %s, %s, %s)",
            (owner.control_id, owner.environment, owner.deployment, owner.operation),
        ).fetchone()
        assert fence is not None
        with pytest.raises(FenceBusy, match="may not see or end") as caught:
            await Fence.acquire(connection, owner, deadline_s=0.3)
        assert "pg_terminate_backend" in (caught.value.hint or "")
        assert backends(superuser, superuser.info.backend_pid) == 1
    finally:
        await connection.close()
