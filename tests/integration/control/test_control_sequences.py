"""Any sequence of calls keeps the constraints, and every rollout is what its operations make it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.control import claims, environments, install, promotions, requests, workers
from reconciler.control.claims import Claim
from reconciler.control.environments import DeploymentObservation
from reconciler.control.rollouts import supersede
from reconciler.control.settle import Whole, read_wholes
from reconciler.control.sql import AT_WORK_NAMES, PASSED_NAMES, STAGED_NAMES, many
from reconciler.control.transitions import transition
from reconciler.errors import Conflict, IllegalTransition, LeaseLost
from reconciler.postgres.connection import Dsn
from reconciler.rollout.next import Brief, brief
from reconciler.rollout.states import IN_FLIGHT, TERMINAL, TERMINAL_ROLLOUT, OperationEvent, OperationState
from reconciler.rollout.summary import AT_WORK, RolloutPolicy, derive
from reconciler.rollout.verbs import RequestVerb
from tests.plugins.control import LEASE_S, Control, new_rollout

DEPLOYMENTS = ("eu", "us", "asia")
COMMITS = ("a" * 40, "b" * 40, "c" * 40)
WORKER_EVENTS = (
    OperationEvent.DONE,
    OperationEvent.FAIL,
    OperationEvent.RETRY,
    OperationEvent.STOP,
    OperationEvent.CANCEL,
    OperationEvent.SUPERSEDE,
    OperationEvent.OPEN_REVERT_WINDOW,
)
POLICIES = st.builds(
    RolloutPolicy,
    order=st.sampled_from(["rolling", "parallel", "barrier"]),
    on_failure=st.sampled_from(["halt", "continue", "pause"]),
    max_parallel=st.integers(1, 3),
    promotion=st.sampled_from(["auto", "manual"]),
)
ACTIONS = st.one_of(
    st.tuples(
        st.just("record"),
        st.sampled_from(COMMITS),
        st.lists(st.sampled_from(DEPLOYMENTS), min_size=1, max_size=3, unique=True),
        POLICIES,
        st.booleans(),
        st.booleans(),
    ),
    st.tuples(st.just("claim"), st.integers(0, 1)),
    st.tuples(st.just("claim"), st.integers(0, 1)),
    st.tuples(st.just("move"), st.integers(0, 5), st.sampled_from(WORKER_EVENTS)),
    st.tuples(st.just("move"), st.integers(0, 5), st.sampled_from(WORKER_EVENTS)),
    st.tuples(st.just("promote"), st.integers(0, 5)),
    st.tuples(st.just("hand back"), st.integers(0, 5)),
    st.tuples(
        st.just("ask"),
        st.integers(1, 4),
        st.sampled_from(RequestVerb),
        st.sampled_from([None, *DEPLOYMENTS]),
    ),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("supersede"), st.sampled_from(COMMITS)),
    st.tuples(st.just("observe"), st.sampled_from(COMMITS), st.booleans()),
    st.tuples(st.just("die"), st.integers(0, 1)),
)


@dataclass
class World:
    """A control database under a random sequence of calls, and what must stay true of it."""

    control: Control
    workers: list[workers.Worker]
    held: list[Claim] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)
    went_back: bool = False

    async def act(self, action: tuple[object, ...]) -> None:  # noqa: C901 - one arm per action
        connection = self.control.connection
        match action:
            case (
                "record",
                str(commit),
                list(names),
                RolloutPolicy() as policy,
                bool(narrowed),
                bool(approve),
            ):
                waits = OperationState.WAITING_FOR_APPROVAL if approve else OperationState.PENDING
                await self.control.record(
                    *names,
                    commit=commit,
                    policy=policy,
                    narrowed=narrowed,
                    operations=new_rollout(*names, initial=waits).operations,
                )
            case ("claim", int(index)):
                claim = await claims.claim(connection, self.workers[index], lease_s=LEASE_S)
                self.held += [claim] if claim is not None else []
            case ("move", int(index), OperationEvent() as event) if self.held:
                await self.move(self.held[index % len(self.held)], event)
            case ("promote", int(index)) if self.held:
                await self.promote(self.held[index % len(self.held)])
            case ("hand back", int(index)) if self.held:
                await self.hand_back(self.held[index % len(self.held)])
            case ("ask", int(number), RequestVerb() as verb, deployment):
                await self.ask(number, verb, deployment if isinstance(deployment, str) else None)
            case ("suspend", True):
                await environments.suspend(connection, "production", reason="test", actor="ada")
            case ("suspend", False):
                await environments.resume(connection, "production", actor="ada")
            case ("supersede", str(commit)):
                await supersede(connection, "production", commit)
            case ("observe", str(commit), bool(in_sync)):
                found = [DeploymentObservation(name=name, in_sync=in_sync) for name in DEPLOYMENTS]
                await self.control.observe(*found, observed_commit=commit)
            case ("die", int(index)):
                await self.die(index)

    async def die(self, index: int) -> None:
        """Let one worker be replaced by another: its lease is over."""
        self.workers[index] = await self.control.worker(f"w{index}")
        await self.control.rows(
            "UPDATE reconciler_control.workers SET lease_expires_at = '-infinity' WHERE id <> ALL(%s)",
            [worker.id for worker in self.workers],
        )

    async def move(self, claim: Claim, event: OperationEvent) -> None:
        try:
            await transition(self.control.connection, claim, event, reason="test", delay_s=0)
        except (LeaseLost, IllegalTransition):
            return

    async def promote(self, claim: Claim) -> None:
        connection = self.control.connection
        try:
            if not await promotions.begin_promotion(
                connection, claim, component="analytics", generation="g1"
            ):
                await transition(connection, claim, OperationEvent.PARK, reason="test")
        except (LeaseLost, IllegalTransition):
            return

    async def hand_back(self, claim: Claim) -> None:
        try:
            await claims.hand_back(self.control.connection, claim)
        except LeaseLost:
            return

    async def ask(self, number: int, verb: RequestVerb, deployment: str | None) -> None:
        found = await self.control.rows(
            "SELECT rollout::text, deployment FROM reconciler_control.operations ORDER BY id"
        )
        known = sorted({rollout for rollout, _ in found}, key=int)
        if not known:
            return
        rollout = known[number % len(known)]
        names = [name for owner, name in found if owner == rollout]
        await requests.submit(
            self.control.connection,
            rollout=rollout,
            verb=verb.value,
            deployment=deployment if deployment in names else None,
            requested_by="ada",
            digest="sha256:1" if verb is RequestVerb.APPROVE else None,
        )

    async def check(self) -> None:
        rows = await self.control.rows("SELECT id FROM reconciler_control.rollouts")
        wholes = await read_wholes(self.control.connection, [row[0] for row in rows])
        for whole in wholes:
            assert whole.state is derive(whole.states, whole.policy, released=whole.released)
            # What goes back waits for no place.
            back = sum(state is OperationState.REVERTING for state in whole.states)
            retrying = sum(state is OperationState.RETRYING for state in whole.states)
            self.went_back = self.went_back or back > 0
            at_work = sum(state in AT_WORK for state in whole.states)
            assert at_work - back - (retrying if self.went_back else 0) <= whole.policy.max_parallel
            await self.check_brief(whole)
            assert (whole.state in TERMINAL_ROLLOUT) == (set(whole.states) <= TERMINAL)
            assert self.ended.get(whole.id, whole.state.value) == whole.state.value
            if whole.state in TERMINAL_ROLLOUT:
                self.ended[whole.id] = whole.state.value
        flying = [m.deployment for whole in wholes for m in whole.members if m.state in IN_FLIGHT]
        assert len(flying) == len(set(flying))
        await self.check_events()
        await self.check_requests()
        await self.check_approvals()

    async def check_brief(self, whole: Whole) -> None:
        """What a claim and a move read of a rollout is what all its operations come to."""
        named = [(str(member.id), member.state) for member in whole.members]
        (row,) = await many(self.control.connection, "rollout_briefs", ids=[whole.id])
        assert {OperationState(state) for state in row["states"]} == set(whole.states)
        rows = await many(
            self.control.connection,
            "claimable",
            environment="production",
            rollouts=[whole.id],
            is_open=True,
            at_work=AT_WORK_NAMES,
            passed=PASSED_NAMES,
            per_server=100,
            worker=None,
            suspect=100,
            limit=2,
        )
        if not rows:
            assert whole.state in TERMINAL_ROLLOUT
            return
        wanted = brief(
            named,
            {str(member.id): member.wave for member in whole.members},
            granted=[str(member.id) for member in whole.members if member.granted],
            promoted=[str(member.id) for member in whole.members if member.promoted],
        )
        await self.check_parked(whole, wanted)
        first = rows[0]["first_open"]
        assert (first and (str(first[0]), first[1])) == wanted.first_open
        assert rows[0]["at_work"] == wanted.at_work
        assert {OperationState(state) for state in rows[0]["states"]} == wanted.states
        # One whose deployment another rollout works on is left out.
        assert set(map(str, rows[0]["pending"])) <= set(wanted.pending)

    async def check_parked(self, whole: Whole, wanted: Brief) -> None:
        rows = await many(
            self.control.connection,
            "claimable_parked",
            environment="production",
            rollouts=[whole.id],
            passed=PASSED_NAMES,
            staged=STAGED_NAMES,
            barrier="barrier",
            per_server=100,
            limit=5,
        )
        assert bool(rows) is bool(wanted.parked)
        if rows:
            assert {*map(str, rows[0]["parked"]), *map(str, rows[0]["granted"])} <= set(wanted.parked)
            assert set(map(str, rows[0]["granted"])) <= wanted.granted
            assert rows[0]["unstaged"] is (wanted.unstaged and whole.policy.order == "barrier")

    async def check_approvals(self) -> None:
        """Nobody has agreed to what ended before it began, nor goes on with what something newer replaced."""
        rows = await self.control.rows(
            """
            SELECT o.id, o.state::text FROM reconciler_control.operations AS o
            LEFT JOIN reconciler_control.approvals AS a ON a.operation = o.id
            WHERE
                (o.state IN ('cancelled', 'superseded') AND a.operation IS NOT NULL AND a.void_at IS NULL)
                OR (o.state IN ('pending', 'retrying', 'stopped') AND o.superseded_at IS NOT NULL)
                OR (o.state NOT IN ('cancelled', 'superseded') AND a.void_at IS NOT NULL)
            """
        )
        assert rows == []
        kinds = await self.control.rows(
            "SELECT DISTINCT verb::text FROM reconciler_control.requests WHERE state = 'pending'"
        )
        assert {row[0] for row in kinds} <= {"stop", "cancel"}

    async def check_events(self) -> None:
        rows = await self.control.rows(
            "SELECT rollout, count(*) FROM reconciler_control.events WHERE kind = ANY(%s) GROUP BY rollout",
            [f"rollout.{state.value}" for state in TERMINAL_ROLLOUT],
        )
        assert dict(rows) == dict.fromkeys(self.ended, 1)

    async def check_requests(self) -> None:
        rows = await self.control.rows(
            """
            SELECT q.id FROM reconciler_control.requests AS q
            WHERE q.state = 'pending' AND NOT EXISTS (
                SELECT FROM reconciler_control.operations AS o
                WHERE o.rollout = q.rollout AND (q.deployment IS NULL OR q.deployment = o.deployment)
                    AND o.state IN ('running', 'promoting', 'reverting')
            )
            """
        )
        assert rows == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=30))
def test_any_sequence_of_calls_keeps_the_promises(
    control_database: Dsn, actions: list[tuple[object, ...]]
) -> None:
    """Rollouts derive from their operations, the bounds hold, ends are final and told once."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            control = Control(control_database, stack)
            control.connection = await control.connect()
            await control.connection.execute("DROP SCHEMA IF EXISTS reconciler_control CASCADE")
            await install.install(control.connection)
            await environments.claim_name(control.connection, "production", "platform")
            world = World(control, [await control.worker(f"w{index}") for index in range(2)])
            for action in actions:
                try:
                    await world.act(action)
                except Conflict:
                    continue
                await world.check()

    asyncio.run(run())
