"""Who works: registering, the session lock that shows a worker lives, its lease, and leaving."""

from collections.abc import Collection

from reconciler.control.events import NewEvent, append_all
from reconciler.control.sql import CLAIMABLE_NAMES, IN_FLIGHT_NAMES, changing, many, one, run, telling
from reconciler.control.wake import OPERATIONS_CHANNEL, notify
from reconciler.errors import LeaseLost, LockNotAcquired
from reconciler.frozen import frozen
from reconciler.postgres import lock
from reconciler.postgres.connection import Connection

LOCK_CLASS = 1380206159
"""First key of the session locks of workers; `is_alive` of the control schema names the same."""
NUMBER_MAX = 2**31 - 1


@frozen
class Worker:
    """One run of a worker: its identity, the second key of its session lock, its name for people."""

    id: str
    number: int
    name: str
    sources: frozenset[str]


@frozen
class Peer:
    """A living worker as the others see it: the sources it can read now, and whether it runs passes."""

    id: str
    sources: frozenset[str]
    passes: bool


@frozen
class Beat:
    """What a heartbeat tells: the living workers by rising id, and whether a claim may find something.

    `work` is the net below the notifications: it is true also for what waits its turn, never false for what
    may be claimed.
    """

    peers: tuple[Peer, ...]
    work: bool


async def register(
    connection: Connection, *, name: str, sources: Collection[str], passes: bool, lease_s: float = 10.0
) -> Worker:
    """Make a worker known; it lives as long as this connection does and its lease is renewed.

    The lock is taken before the row exists, so that nobody ever sees a living worker without its lock.
    """
    with telling(f"registering worker '{name}'"):
        row = await one(connection, "next_worker_number")
        assert row is not None
        number = int(row["nextval"])
        if not await lock.try_lock(connection, (LOCK_CLASS, number)):
            raise LockNotAcquired(f"registering worker '{name}': its session lock {number} is held")
        await run(connection, "remove_dead_workers")
        row = await one(
            connection,
            "insert_worker",
            number=number,
            name=name,
            sources=sorted(sources),
            passes=passes,
            lease_s=float(lease_s),
        )
        assert row is not None
        return Worker(id=row["id"], number=number, name=name, sources=frozenset(sources))


async def heartbeat(connection: Connection, worker: Worker, lease_s: float) -> Beat:
    """Renew the lease of a worker and with it all its claims; tell who lives and what there is to do.

    LeaseLost where it is not known any more, and where its lease ran out: who is once dead to the others
    stays so, and registers anew.
    """
    with telling(f"renewing the lease of worker '{worker.name}'"):
        row = await one(
            connection,
            "heartbeat",
            worker=worker.id,
            lease_s=float(lease_s),
            in_flight=IN_FLIGHT_NAMES,
            claimable=CLAIMABLE_NAMES,
        )
    if row is None:
        raise LeaseLost(f"worker '{worker.name}' is not registered any more, or its lease ran out")
    peers = tuple(
        Peer(id=peer["id"], sources=frozenset(peer["sources"]), passes=peer["passes"])
        for peer in row["peers"]
    )
    return Beat(peers=peers, work=row["work"])


async def note_readable(connection: Connection, worker: str, source: str, *, readable: bool) -> None:
    """Tell the others whether a worker has a commit of a source that it may use; else its share is theirs."""
    with telling(f"noting whether source '{source}' can be read"):
        await run(connection, "note_readable", worker=worker, source=source, readable=readable)


async def release_strays(connection: Connection, worker: Worker, kept: Collection[str]) -> None:
    """Hand back what is claimed by a worker and not among the operations it works on."""
    async with changing(connection, f"handing back what worker '{worker.name}' does not work on"):
        await _release(connection, worker, kept, "does not work on it")


async def release_former(connection: Connection, worker: Worker) -> None:
    """Hand back what a registration that ended had: its process lives, and works on none of it any more."""
    async with changing(connection, f"handing back what worker '{worker.name}' had before"):
        await _release(connection, worker, (), "lost its session")


async def deregister(connection: Connection, worker: Worker) -> None:
    """Leave: whatever is still claimed may be resumed by anyone at once."""
    async with changing(connection, f"deregistering worker '{worker.name}'"):
        await _release(connection, worker, (), "left")
        await run(connection, "remove_worker", worker=worker.id)
    with telling(f"deregistering worker '{worker.name}'"):
        await lock.unlock(connection, (LOCK_CLASS, worker.number))


async def _release(connection: Connection, worker: Worker, kept: Collection[str], why: str) -> None:
    rows = await many(
        connection, "release_operations", worker=worker.id, kept=[int(operation) for operation in kept]
    )
    events = [
        NewEvent(
            kind="operation.handed_back",
            message=f"operation {row['id']} was handed back by worker '{worker.name}', which {why}",
            environment=row["environment"],
            deployment=row["deployment"],
            rollout=row["rollout"],
            operation=row["id"],
        )
        for row in rows
    ]
    await append_all(connection, events)
    for environment in sorted({row["environment"] for row in rows}):
        await notify(connection, OPERATIONS_CHANNEL, environment)
