"""What operators ask of rollouts: noted durably, carried out at once where no worker holds the operation."""

from reconciler.control.environments import free_holds
from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import lock_environment
from reconciler.control.settle import Member, Whole, read_wholes, resolve, settle
from reconciler.control.sql import Row, changing, key, many, one, run
from reconciler.control.wake import wake
from reconciler.errors import InvalidInput, NotFound, Problem
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import HELD, TERMINAL, OperationState, RolloutState
from reconciler.rollout.status import RequestStatus
from reconciler.rollout.verbs import EVENTS, RequestVerb, not_possible

__all__ = ["RequestStatus", "submit"]


async def submit(
    connection: Connection, *, rollout: str, verb: str, deployment: str | None, requested_by: str
) -> RequestStatus:
    """Note a request and do what can be done at once; the same request that still waits is given again.

    Each request ends `completed` or `failed` with a reason; `pending` means that a worker acts on it at its
    next safe point. NotFound for a rollout or deployment that is not there.
    """
    asked, number = _verb(verb), key(rollout)
    async with changing(connection, f"asking to {verb} rollout '{rollout}'"):
        where = await one(connection, "environment_of_rollout", id=number) if number is not None else None
        if number is None or where is None:
            raise NotFound(f"there is no rollout '{rollout}'", hint="`reconciler history ENV` lists them")
        await lock_environment(connection, where["environment"])
        whole = (await read_wholes(connection, [number]))[0]
        chosen = _chosen(whole, deployment)
        row = await one(
            connection,
            "insert_request",
            rollout=number,
            deployment=deployment,
            verb=asked.value,
            requested_by=requested_by,
        )
        if row is not None:
            request: Row = {
                "id": row["id"],
                "rollout": number,
                "environment": whole.environment,
                "deployment": deployment,
                "verb": asked.value,
                "requested_by": requested_by,
            }
            await _tell(connection, request)
            await _carry_out(connection, request, whole, chosen)
        return await _read(connection, row["id"] if row is not None else None, number, asked, deployment)


def _verb(verb: str) -> RequestVerb:
    try:
        return RequestVerb(verb)
    except ValueError:
        known = ", ".join(RequestVerb)
        problem = Problem(
            message=f"'{verb}' is nothing that can be asked of a rollout", hint=f"one of {known}"
        )
        raise InvalidInput([problem]) from None


def _chosen(whole: Whole, deployment: str | None) -> list[Member]:
    chosen = [member for member in whole.members if deployment in (None, member.deployment)]
    if not chosen:
        names = ", ".join(member.deployment for member in whole.members[:20])
        raise NotFound(
            f"rollout {whole.id} has no operation on deployment '{deployment}'", hint=f"it has: {names}"
        )
    return chosen


async def _tell(connection: Connection, request: Row) -> None:
    on = f" on '{request['deployment']}'" if request["deployment"] is not None else ""
    event = NewEvent(
        kind="request.recorded",
        message=f"{request['requested_by']} asks to {request['verb']} rollout {request['rollout']}{on}",
        environment=request["environment"],
        deployment=request["deployment"],
        rollout=request["rollout"],
        data={"verb": request["verb"], "requested_by": request["requested_by"], "request": request["id"]},
    )
    await append_all(connection, [event])


async def _carry_out(connection: Connection, request: Row, whole: Whole, chosen: list[Member]) -> None:
    verb = RequestVerb(request["verb"])
    if verb in EVENTS:
        await settle(connection, whole.environment, rollouts=[whole.id])
    elif verb is RequestVerb.RETRY:
        await _retry(connection, request, whole, chosen)
    elif verb is RequestVerb.RELEASE and whole.state is RolloutState.PAUSED:
        await run(connection, "release_rollout", id=whole.id)
        await resolve(connection, request, state="completed", reason="the rollout goes on")
        await settle(connection, whole.environment, rollouts=[whole.id])
    else:
        reason = not_possible(verb, [(member.deployment, member.state) for member in chosen])
        await resolve(connection, request, state="failed", reason=reason)


async def _retry(connection: Connection, request: Row, whole: Whole, chosen: list[Member]) -> None:
    """Make what waits for its next attempt due, and let passes try again what failed for good."""
    waiting = [member.id for member in chosen if member.state is OperationState.RETRYING]
    due = await many(connection, "make_due", ids=waiting) if waiting else []
    # What passes try again is everything: the end of a revert by hand is not to become a deploy.
    over = [member.deployment for member in chosen if member.state in HELD & TERMINAL and not member.task]
    by_hand = any(member.state in HELD & TERMINAL and member.task for member in chosen)
    freed: tuple[str, ...] = ()
    if over:
        freed = await free_holds(
            connection,
            whole.environment,
            over,
            commit=whole.commit,
            why=f"{request['requested_by']} (request {request['id']})",
        )
    if not due and not freed:
        reason = not_possible(RequestVerb.RETRY, [(member.deployment, member.state) for member in chosen])
        hint = "; nothing is held" if over else ""
        hint += "; what was asked of modules by hand is asked for anew" if by_hand else ""
        await resolve(connection, request, state="failed", reason=reason + hint)
        return
    done = [f"{len(due)} made due now"] if due else []
    done += [f"the next pass tries again on {', '.join(freed)}"] if freed else []
    await resolve(connection, request, state="completed", reason="; ".join(done))
    await settle(connection, whole.environment, rollouts=[whole.id])
    await wake(connection, whole.environment)


async def _read(
    connection: Connection, id_: int | None, rollout: int, verb: RequestVerb, deployment: str | None
) -> RequestStatus:
    row = await one(
        connection, "read_request", id=id_, rollout=rollout, verb=verb.value, deployment=deployment
    )
    assert row is not None
    return RequestStatus(**row)
