"""What operators ask of rollouts: noted durably, carried out at once where no worker holds the operation."""

from collections.abc import Sequence
from dataclasses import replace

from reconciler.control import approvals
from reconciler.control.environments import free_holds
from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import Why, lock_environment, move
from reconciler.control.settle import Member, Whole, read_wholes, resolve, settle
from reconciler.control.sql import Row, changing, key, many, one, run
from reconciler.control.wake import wake
from reconciler.control.windows import begin_reverting
from reconciler.errors import InvalidInput, NotFound, Problem
from reconciler.postgres.connection import Connection
from reconciler.rollout.status import RequestStatus
from reconciler.rollout.verbs import (
    EVENTS,
    INTERRUPTING,
    Answer,
    RequestVerb,
    Seen,
    Waiting,
    answer,
    stopped_first,
)

__all__ = ["RequestStatus", "submit"]


async def submit(
    connection: Connection,
    *,
    rollout: str,
    verb: str,
    deployment: str | None,
    requested_by: str,
    why: str = "",
    digest: str | None = None,
) -> RequestStatus:
    """Note a request and do what can be done at once; the same request that still waits is given again.

    Each request ends `completed` or `failed` with a reason; `pending` means that a worker acts on it at its
    next safe point. `digest` names the plan that is agreed to. NotFound for a rollout or deployment that is
    not there.
    """
    asked, number = _verb(verb), key(rollout)
    if (asked is RequestVerb.APPROVE) != (digest is not None):
        raise InvalidInput([_about_digest(asked)])
    async with changing(connection, f"asking to {verb} rollout '{rollout}'"):
        where = await one(connection, "environment_of_rollout", id=number) if number is not None else None
        if number is None or where is None:
            raise NotFound(f"there is no rollout '{rollout}'", hint="`reconciler history ENV` lists them")
        await lock_environment(connection, where["environment"])
        whole = (await read_wholes(connection, [number]))[0]
        chosen = _chosen(whole, deployment)
        request: Row = {
            "rollout": number,
            "deployment": deployment,
            "verb": asked.value,
            "requested_by": requested_by,
            "why": why or None,
            "digest": digest,
        }
        row = await one(connection, "insert_request", **request)
        if row is not None:
            request |= {"id": row["id"], "environment": whole.environment}
            await _tell(connection, request)
            await _carry_out(connection, request, whole, chosen)
        found = await _read(connection, row["id"] if row is not None else None, number, asked, deployment)
        return replace(found, already=row is None)


def _verb(verb: str) -> RequestVerb:
    try:
        return RequestVerb(verb)
    except ValueError:
        known = ", ".join(RequestVerb)
        problem = Problem(
            message=f"'{verb}' is nothing that can be asked of a rollout", hint=f"one of {known}"
        )
        raise InvalidInput([problem]) from None


def _about_digest(verb: RequestVerb) -> Problem:
    if verb is RequestVerb.APPROVE:
        return Problem(
            message="approve needs the digest of the plan that is agreed to", hint="`reconciler show` says it"
        )
    return Problem(message=f"{verb.value} takes no digest", hint="only approve does")


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
    why = f": {request['why']}" if request["why"] else ""
    event = NewEvent(
        kind="request.recorded",
        message=f"{request['requested_by']} asks to {request['verb']} rollout {request['rollout']}{on}{why}",
        environment=request["environment"],
        deployment=request["deployment"],
        rollout=request["rollout"],
        data={
            "verb": request["verb"],
            "requested_by": request["requested_by"],
            "request": request["id"],
            "why": request["why"],
        },
    )
    await append_all(connection, [event])


async def _carry_out(connection: Connection, request: Row, whole: Whole, chosen: list[Member]) -> None:
    verb = RequestVerb(request["verb"])
    if verb in INTERRUPTING:
        await settle(connection, whole.environment, rollouts=[whole.id])
        return
    names = {member.deployment for member in chosen}
    rows = await many(connection, "pending_requests", rollouts=[whole.id])
    refusal = stopped_first(verb, request["deployment"], [_waiting(row) for row in rows])
    if refusal is None:
        seen = await _seen(connection, whole, chosen)
        found = answer(verb, seen, names, whole.policy, released=whole.released)
        refusal = found.refusal
        if refusal is None:
            refusal = await _go_on(connection, request, whole, found)
    if refusal is not None:
        await resolve(connection, request, state="failed", reason=refusal)


def _waiting(row: Row) -> Waiting:
    return Waiting(
        id=row["id"],
        verb=RequestVerb(row["verb"]),
        deployment=row["deployment"],
        requested_by=row["requested_by"],
    )


async def _seen(connection: Connection, whole: Whole, chosen: Sequence[Member]) -> list[Seen]:
    """The operations of a rollout, with who else has a say on the chosen deployments."""
    names = [member.deployment for member in chosen]
    rows = await many(connection, "others_there", rollout=whole.id, deployments=names)
    followed = await one(connection, "commit_followed", environment=whole.environment)
    head = followed["head_commit"] if followed is not None else None
    others = {row["deployment"]: row for row in rows}
    return [
        Seen(
            name=member.deployment,
            state=member.state,
            task=member.task,
            taken=_taken(others.get(member.deployment)),
            newer=_newer(others.get(member.deployment), whole, head),
            busy=_busy(others.get(member.deployment)),
            granted=member.granted,
            promoted=member.promoted,
            back=member.back,
            wave=member.wave,
        )
        for member in whole.members
    ]


def _taken(row: Row | None) -> str | None:
    """Why an operation that was stopped may not go on where it was."""
    if row is None:
        return None
    if row["flying"] is not None:
        return f"rollout {row['flying']} is at work there"
    if row["newer"] is not None:
        return f"rollout {row['newer']} is newer there"
    if row["replaced"]:
        by = f"rollout {row['superseded_by']}" if row["superseded_by"] is not None else "a newer commit"
        return f"{by} took its place"
    return None


def _busy(row: Row | None) -> str | None:
    """What is at work on the deployment of an operation that is to go back."""
    return f"rollout {row['flying']} is at work there" if row is not None and row["flying"] else None


def _newer(row: Row | None, whole: Whole, head: str | None) -> str | None:
    """Why the commit of an operation that ended is not tried again there."""
    if row is None:
        return None
    if row["newer"] is not None:
        return f"rollout {row['newer']} is newer there; retry that one"
    if head is not None and head != whole.commit:
        return (
            f"its commit {whole.commit[:12]} is not followed any more, {head[:12]} is; to carry it out "
            f"all the same: reconciler apply {whole.environment} --ref {whole.commit[:12]}"
        )
    return None


async def _go_on(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    """Do what lets a rollout go on; gives why nothing was done, where nothing could be."""
    match RequestVerb(request["verb"]):
        case RequestVerb.APPROVE:
            return await _approve(connection, request, whole, found)
        case RequestVerb.START:
            return await _start(connection, request, whole, found)
        case RequestVerb.RETRY:
            return await _retry(connection, request, whole, found)
        case RequestVerb.PROMOTE:
            return await _promote(connection, request, whole, found)
        case RequestVerb.REVERT:
            return await _revert(connection, request, whole, found)
        case RequestVerb.SKIP_REVERT:
            return await _skip_revert(connection, request, whole, found)
        case _:
            await run(connection, "release_rollout", id=whole.id)
            await resolve(connection, request, state="completed", reason="the rollout goes on")
            await settle(connection, whole.environment, rollouts=[whole.id])
            return None


async def _start(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    ids = [member.id for member in whole.members if member.deployment in found.move]
    moved = await move(connection, ids, EVENTS[RequestVerb.START], Why(reason=_asked_for(request)))
    reached = ", ".join(item.deployment for item in moved)
    reason = "; ".join([f"start: {reached}", *found.notes])
    await resolve(connection, request, state="completed", reason=reason)
    await settle(connection, whole.environment, moved, rollouts=[whole.id])
    return None


async def _approve(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    """Agree to exactly the plans that wait now: their digest is what was shown, or nothing is agreed to."""
    waiting, digest = await approvals.waiting(connection, whole.id, found.move)
    if digest != request["digest"]:
        return (
            f"the plan that waits is {digest}, and not {request['digest']}: look at it again with "
            f"reconciler show {whole.id}"
        )
    why = Why(reason=f"approved by {request['requested_by']} (request {request['id']}): {digest}")
    moved = await move(connection, list(waiting), EVENTS[RequestVerb.APPROVE], why)
    await approvals.give(connection, request, [item.id for item in moved])
    reached = ", ".join(item.deployment for item in moved)
    reason = "; ".join([f"approve: {reached}", *found.notes])
    await resolve(connection, request, state="completed", reason=reason)
    await settle(connection, whole.environment, moved, rollouts=[whole.id])
    return None


async def _retry(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    """Make what waits for its next attempt due, and let passes try again what failed for good."""
    waiting = [member.id for member in whole.members if member.deployment in found.due]
    due = await many(connection, "make_due", ids=waiting) if waiting else []
    freed: tuple[str, ...] = ()
    if found.free:
        freed = await free_holds(
            connection,
            whole.environment,
            found.free,
            commit=whole.commit,
            why=f"{request['requested_by']} (request {request['id']})",
        )
    if not due and not freed:
        return "; ".join(["nothing of it is held: passes try it again by themselves", *found.notes])
    done = [f"{len(due)} made due now"] if due else []
    done += [f"the next pass tries again on {', '.join(freed)}"] if freed else []
    await resolve(connection, request, state="completed", reason="; ".join([*done, *found.notes]))
    await settle(connection, whole.environment, rollouts=[whole.id])
    await wake(connection, whole.environment, moved=True)
    return None


async def _promote(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    """Note that what waits may go live; a worker claims it for that."""
    ids = [member.id for member in whole.members if member.deployment in found.grant]
    rows = await many(connection, "grant_promotions", ids=ids)
    if not rows:
        return "what waited there is not known any more: stop it and start it, and it is looked at anew"
    named = ", ".join(f"{row['deployment']} ({row['component']})" for row in rows)
    events = [
        NewEvent(
            kind="operation.granted",
            message=f"operation {row['id']} on '{row['deployment']}' may make '{row['component']}' live: "
            f"{_asked_for(request)}",
            environment=whole.environment,
            deployment=row["deployment"],
            rollout=whole.id,
            operation=row["id"],
            data={"component": row["component"], "generation": row["generation"]},
        )
        for row in rows
    ]
    await append_all(connection, events)
    await resolve(
        connection, request, state="completed", reason="; ".join([f"promote: {named}", *found.notes])
    )
    await settle(connection, whole.environment, rollouts=[whole.id])
    return None


async def _revert(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    """Begin to go back; a worker claims it as one that was handed back."""
    ids = [member.id for member in whole.members if member.deployment in found.back]
    moved = await begin_reverting(connection, ids, _asked_for(request))
    if not moved:
        return "its revert window is over just now, and what was kept is being removed"
    reached = ", ".join(item.deployment for item in moved)
    reason = "; ".join([f"revert: {reached}", *found.notes])
    await resolve(connection, request, state="completed", reason=reason)
    await settle(connection, whole.environment, moved, rollouts=[whole.id])
    return None


async def _skip_revert(connection: Connection, request: Row, whole: Whole, found: Answer) -> str | None:
    """End the window; what is kept may be removed from now on."""
    ids = [member.id for member in whole.members if member.deployment in found.move]
    why = Why(reason=_asked_for(request))
    moved = await move(connection, ids, EVENTS[RequestVerb.SKIP_REVERT], why)
    reason = f"skip-revert: {', '.join(item.deployment for item in moved)}"
    await resolve(connection, request, state="completed", reason=reason)
    await settle(connection, whole.environment, moved, rollouts=[whole.id])
    return None


def _asked_for(request: Row) -> str:
    why = f": {request['why']}" if request["why"] else ""
    return f"asked for by {request['requested_by']} (request {request['id']}){why}"


async def _read(
    connection: Connection, id_: int | None, rollout: int, verb: RequestVerb, deployment: str | None
) -> RequestStatus:
    row = await one(
        connection, "read_request", id=id_, rollout=rollout, verb=verb.value, deployment=deployment
    )
    assert row is not None
    return RequestStatus(**row)
