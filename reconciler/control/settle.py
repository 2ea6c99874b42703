"""What follows when operations moved: halting, requests, the rollouts' states, conditions; one transaction.

Callers hold the lock of the environment, so that what is read here is what is written on. Every decision
comes from `reconciler.rollout`.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from reconciler.control import removals
from reconciler.control.events import NewEvent, append_all
from reconciler.control.facts import refresh_conditions
from reconciler.control.moves import Moved, Why, move, write_down
from reconciler.control.sql import TERMINAL_ROLLOUT_NAMES, Row, many, one, run
from reconciler.control.wake import OPERATIONS_CHANNEL, notify, wake
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import (
    IN_FLIGHT,
    TERMINAL_ROLLOUT,
    OperationEvent,
    OperationState,
    RolloutState,
    targets,
)
from reconciler.rollout.summary import (
    UNSTARTED,
    UNSUCCESSFUL,
    OnFailure,
    RolloutPolicy,
    derive,
    halted,
)
from reconciler.rollout.verbs import EVENTS, INTERRUPTING, RequestVerb, Seen, answer

ROUNDS_MAX = 20
"""A move may lead to others, such as a halt; each round moves operations on, so a few rounds are enough."""


@frozen
class Member:
    """One operation as its rollout sees it.

    `task`: it is of modules by hand, and not of everything. `replaced`: something newer takes its place.
    `granted`: what it waits to promote was let go. `promoted`: it made something live already. `back`: its
    next attempt goes back.
    """

    id: int
    deployment: str
    state: OperationState
    task: bool = False
    replaced: bool = False
    wave: int = 0
    promoted: bool = False
    granted: bool = False
    back: bool = False


@frozen
class Whole:
    """One rollout with its policy and its operations in order."""

    id: int
    environment: str
    commit: str
    scope: str
    state: RolloutState
    policy: RolloutPolicy
    released: bool
    members: tuple[Member, ...]

    @property
    def states(self) -> tuple[OperationState, ...]:
        """The states of the operations, in order."""
        return tuple(member.state for member in self.members)

    @property
    def named(self) -> tuple[tuple[str, OperationState], ...]:
        """The operations as `rollout.next` takes them."""
        return tuple((member.deployment, member.state) for member in self.members)

    def after(self, moved: Sequence[Moved]) -> "Whole":
        """The same rollout once operations moved."""
        states = {item.id: item.after for item in moved}
        return replace(
            self,
            members=tuple(replace(m, state=states.get(m.id, m.state)) for m in self.members),
        )


async def read_wholes(connection: Connection, rollouts: Collection[int]) -> list[Whole]:
    """Rollouts with their operations, in one query."""
    if not rollouts:
        return []
    return [_whole(row) for row in await many(connection, "rollout_members", ids=sorted(rollouts))]


def policy_of(row: Row) -> RolloutPolicy:
    """The policy that a rollout's row holds."""
    return RolloutPolicy(
        order=row["ordering"],
        on_failure=row["on_failure"],
        max_parallel=row["max_parallel"],
        promotion=row["promotion"],
    )


def _whole(row: Row) -> Whole:
    columns = (
        "operations", "deployments", "states", "tasks", "replaced", "waves", "promoted", "granted",
        "going_back",
    )  # fmt: skip
    members = zip(*(row[column] for column in columns), strict=True)
    return Whole(
        id=row["id"],
        environment=row["environment"],
        commit=row["commit"],
        scope=row["scope"],
        state=RolloutState(row["state"]),
        policy=policy_of(row),
        released=row["released"],
        members=tuple(
            Member(
                id=number,
                deployment=deployment,
                state=OperationState(state),
                task=task,
                replaced=replaced,
                wave=wave,
                promoted=promoted,
                granted=granted,
                back=back,
            )
            for number, deployment, state, task, replaced, wave, promoted, granted, back in members
        ),
    )


@frozen
class _Brief:
    """One rollout in brief: which states its operations have, however many there are.

    `is_asked`: a request waits. `is_replaced`: something newer takes the place of one of its operations.
    """

    id: int
    environment: str
    commit: str
    state: RolloutState
    policy: RolloutPolicy
    released: bool
    states: frozenset[OperationState]
    is_asked: bool
    is_replaced: bool
    removes: bool

    @property
    def needs_a_look(self) -> bool:
        """Whether something may follow for single operations, for which all of them have to be read."""
        halts = self.states & UNSTARTED and halted(self.states, self.policy, released=self.released)
        return self.is_asked or self.is_replaced or bool(halts)


async def _read_briefs(connection: Connection, rollouts: Collection[int]) -> list[_Brief]:
    rows = await many(connection, "rollout_briefs", ids=sorted(rollouts)) if rollouts else []
    return [
        _Brief(
            id=row["id"],
            environment=row["environment"],
            commit=row["commit"],
            state=RolloutState(row["state"]),
            policy=policy_of(row),
            released=row["released"],
            states=frozenset(OperationState(state) for state in row["states"]),
            is_asked=row["is_asked"],
            is_replaced=row["is_replaced"],
            removes=row["removes"],
        )
        for row in rows
    ]


async def settle(
    connection: Connection,
    environment: str,
    moved: Sequence[Moved] = (),
    *,
    rollouts: Collection[int] = (),
    quiet: bool = False,
) -> None:
    """Write down what moved, move what follows from it, and derive the states of all rollouts touched.

    `quiet`: a worker did it, which looks itself for what is next; only what is over is told to others.
    """
    touched = {item.rollout for item in moved} | set(rollouts)
    everything = list(moved)
    briefs = await _move_on(connection, touched, everything)
    changed = [state for found in briefs if (state := await _derive(connection, found)) is not None]
    rests = any(state not in _UNDER_WAY for state in changed)
    completed = any(item.after in _APPLIED for item in everything)
    known = {state for found in briefs for state in found.states} if rests else set()
    if known & _APPLIED or (completed and not quiet):
        await note_applied(connection, environment)
    if changed or not quiet or any(_is_news(item) for item in everything):
        await refresh_conditions(connection, environment)
    if rests or not quiet:
        await notify(connection, OPERATIONS_CHANNEL, environment)
    asks_anew = any(item.after is OperationState.SUPERSEDED for item in everything)
    if rests or asks_anew or (not quiet and any(item.after not in IN_FLIGHT for item in everything)):
        # What ended is to be seen by whoever passes over the environment, wherever that is.
        await wake(connection, environment, moved=True)


async def _move_on(connection: Connection, touched: Collection[int], everything: list[Moved]) -> list[_Brief]:
    """Write down what moved, and move what follows from it until nothing does; adds that to `everything`."""
    fresh = list(everything)
    briefs: list[_Brief] = []
    for _ in range(ROUNDS_MAX):
        await write_down(connection, fresh)
        briefs = await _read_briefs(connection, touched)
        wholes = await read_wholes(connection, [found.id for found in briefs if found.needs_a_look])
        fresh = (
            await _halt(connection, wholes)
            or await _carry_out(connection, wholes)
            or await _end_replaced(connection, wholes)
        )
        everything += fresh
        if not fresh:
            break
    return briefs


def _is_news(item: Moved) -> bool:
    """Whether conditions may have changed with this move alone, the rollout being what it was."""
    return item.after not in _APPLIED or item.mended


async def note_applied(connection: Connection, environment: str) -> None:
    """Note when all deployments of an environment came to carry the same commit."""
    row = await one(connection, "environment_applied", environment=environment)
    if row is not None:
        commit, seconds = row["applied_commit"], row["seconds"]
        event = NewEvent(
            kind="environment.applied",
            message=f"every deployment of '{environment}' carries commit {commit[:12]}",
            environment=environment,
            data={"commit": commit, "seconds": seconds},
        )
        await append_all(connection, [event])


async def _halt(connection: Connection, wholes: Sequence[Whole]) -> list[Moved]:
    """Cancel what a halted rollout will never start."""
    moved: list[Moved] = []
    for whole in wholes:
        unstarted = [member.id for member in whole.members if member.state in UNSTARTED]
        waits = whole.policy.on_failure == OnFailure.PAUSE
        if not unstarted or waits or not halted(whole.states, whole.policy, released=whole.released):
            continue
        culprit = next(member for member in whole.members if member.state in UNSUCCESSFUL)
        reason = (
            f"not started, since operation {culprit.id} on '{culprit.deployment}' "
            f"{culprit.state.value} and onFailure is {whole.policy.on_failure}"
        )
        moved += await move(connection, unstarted, OperationEvent.CANCEL, Why(reason=reason))
    return moved


async def _carry_out(connection: Connection, wholes: Sequence[Whole]) -> list[Moved]:
    """Do what requests that wait ask of operations no worker holds, and settle those that are through.

    Only stop and cancel ever wait; what else is asked has its answer before it is acknowledged.
    """
    moved: list[Moved] = []
    known = {whole.id: whole for whole in wholes}
    if not known:
        return moved
    for request in await many(connection, "pending_requests", rollouts=sorted(known)):
        verb = RequestVerb(request["verb"])
        if verb not in INTERRUPTING:
            continue
        whole = known[request["rollout"]]
        chosen = [member for member in whole.members if request["deployment"] in (None, member.deployment)]
        found = answer(
            verb,
            [Seen(name=one.deployment, state=one.state, back=one.back) for one in whole.members],
            {member.deployment for member in chosen},
            whole.policy,
            released=whole.released,
        )
        ids = [member.id for member in chosen if member.deployment in found.move]
        words = f": {request['why']}" if request["why"] else ""
        why = Why(reason=f"asked for by {request['requested_by']} (request {request['id']}){words}")
        done = await move(connection, ids, EVENTS[verb], why)
        moved += done
        known[whole.id] = whole.after(done)
        if not found.await_worker:
            chosen_now = [m for m in known[whole.id].members if m.id in {c.id for c in chosen}]
            await _resolve(connection, request, chosen_now, found.refusal)
    return moved


async def _end_replaced(connection: Connection, wholes: Sequence[Whole]) -> list[Moved]:
    """End what a worker let go of while something newer was to take its place: nobody goes on with it."""
    takes = targets(OperationEvent.SUPERSEDE)
    ids = [
        member.id
        for whole in wholes
        for member in whole.members
        if member.replaced and member.state in takes and member.state not in IN_FLIGHT
    ]
    return await move(connection, ids, OperationEvent.SUPERSEDE, Why(reason="something newer took its place"))


async def _resolve(
    connection: Connection, request: Row, chosen: Sequence[Member], refusal: str | None
) -> None:
    """Settle a request: it had its effect where one of its operations is where the verb leads."""
    effect = set(targets(EVENTS[RequestVerb(request["verb"])]).values())
    reached = [member.deployment for member in chosen if member.state in effect]
    missed = [f"'{m.deployment}' is {m.state.value}" for m in chosen if m.state not in effect]
    if refusal is not None and not reached:
        await resolve(connection, request, state="failed", reason=refusal)
    elif reached:
        rest = f"; {', '.join(missed)}" if missed else ""
        reason = f"{request['verb']}: {', '.join(reached)}{rest}"
        await resolve(connection, request, state="completed", reason=reason)
    else:
        await resolve(connection, request, state="failed", reason=f"too late: {', '.join(missed)}")


async def resolve(connection: Connection, request: Row, *, state: str, reason: str) -> None:
    """Settle a request with what came of it, once."""
    await run(connection, "resolve_request", id=request["id"], state=state, reason=reason)
    asked = f"request {request['id']} to {request['verb']} rollout {request['rollout']}"
    event = NewEvent(
        kind=f"request.{state}",
        message=f"{asked} {state}: {reason}",
        environment=request["environment"],
        deployment=request["deployment"],
        rollout=request["rollout"],
        data={"verb": request["verb"], "requested_by": request["requested_by"]},
    )
    await append_all(connection, [event])


_APPLIED = {OperationState.COMPLETED, OperationState.REVERT_WINDOW}
_TOLD = TERMINAL_ROLLOUT | {RolloutState.PAUSED, RolloutState.RUNNING_DEGRADED}
_UNDER_WAY = {
    RolloutState.PENDING,
    RolloutState.RUNNING,
    RolloutState.RUNNING_DEGRADED,
    RolloutState.RETRYING,
    RolloutState.PROMOTING,
    RolloutState.REVERTING,
}
"""States in which a rollout goes on by itself; in all others a pass, or a person, is next."""
MEMBERS_TOLD = 20
"""Operations that the event of a rollout names."""


async def _derive(connection: Connection, found: _Brief) -> RolloutState | None:
    """Write the state that follows from the operations, and give it if that is news.

    The one that ends a rollout tells of it, once.
    """
    state = derive(found.states, found.policy, released=found.released)
    if state is found.state:
        return None
    written = await one(
        connection,
        "move_rollout",
        id=found.id,
        before=found.state.value,
        after=state.value,
        terminal=TERMINAL_ROLLOUT_NAMES,
    )
    if written is None:
        return None
    if state in _TOLD:
        await _tell_rollout(connection, found, state)
    if found.removes and state in TERMINAL_ROLLOUT:
        await removals.end(connection, found.environment, done=state is RolloutState.COMPLETED)
    return state


async def _tell_rollout(connection: Connection, found: _Brief, state: RolloutState) -> None:
    members = await many(connection, "first_members", id=found.id, limit=MEMBERS_TOLD)
    count = await one(connection, "count_members", id=found.id)
    assert count is not None
    summary = ", ".join(f"'{member['deployment']}' {member['state']}" for member in members)
    more = f" and {count['count'] - len(members)} more" if count["count"] > len(members) else ""
    event = NewEvent(
        kind=f"rollout.{state.value}",
        message=f"rollout {found.id} at {found.commit[:12]} is {state.value}: {summary}{more}",
        environment=found.environment,
        rollout=found.id,
        data={"before": found.state.value, "after": state.value, "commit": found.commit},
    )
    await append_all(connection, [event])
