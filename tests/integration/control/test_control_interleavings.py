"""Seeded interleavings of workers, crashes, thefts, operators and commits: the promises hold after each step.

`RECONCILER_TEST_SEED` chooses the first seed, `RECONCILER_TEST_LONGER` how many times as many are run.
"""

import os
import random
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.control import claims, environments, install, promotions, requests, windows, workers
from reconciler.control.claims import Claim
from reconciler.control.repair import Repaired, repair
from reconciler.control.rollouts import supersede
from reconciler.control.sql import many
from reconciler.control.transitions import finish_many, replace_plan, step_started, transition
from reconciler.errors import Conflict, IllegalTransition, LeaseLost, NotFound
from reconciler.postgres.connection import Connection, Dsn
from reconciler.rollout.next import PASSED, STAGED
from reconciler.rollout.states import IN_FLIGHT, TERMINAL, TERMINAL_ROLLOUT, OperationEvent, OperationState
from reconciler.rollout.summary import AT_WORK, RolloutPolicy, derive, halted
from reconciler.rollout.verbs import RequestVerb
from tests.plugins.control import Control, new_rollout, until
from tests.plugins.fleet import LONGER

SEED = int(os.environ.get("RECONCILER_TEST_SEED") or 20260101)
SEEDS = max(1, round(3 * LONGER))
STEPS = 70
LEASE_S = 3600.0
DEPLOYMENTS = ("eu", "us", "asia")
S, E = OperationState, OperationEvent
ENDS = (E.DONE, E.DONE, E.DONE, E.FAIL, E.RETRY, E.RETRY, E.STOP, E.CANCEL, E.SUPERSEDE, E.OPEN_REVERT_WINDOW)
ACTIONS = {
    "record": 4,
    "claim": 12,
    "end": 8,
    "stale write": 6,
    "progress": 4,
    "plan anew": 1,
    "hand back": 3,
    "heartbeat": 3,
    "freeze": 3,
    "crash": 3,
    "leave": 1,
    "ask": 8,
    "suspend": 1,
    "resume": 2,
    "supersede": 1,
    "due": 4,
    "promote": 8,
    "switch": 4,
    "expire": 1,
}
SNAPSHOT = """
SELECT
    o.id, o.rollout, o.deployment, o.ordinal, o.state::text AS state, o.lease_token, o.started_at,
    o.finished_at, o.attempts, o.worker::text AS worker, o.reason, r.state::text AS rollout_state, o.wave,
    o.promoted_at, o.parked ->> 'generation' = ANY(o.granted) AS granted,
    o.state = 'reverting' OR o.resumes_as = 'reverting' AS goes_back,
    r.finished_at AS over_at, r.released, r.ordering, r.on_failure, r.max_parallel, r.promotion
FROM reconciler_control.operations AS o JOIN reconciler_control.rollouts AS r ON r.id = o.rollout
ORDER BY o.id
"""


@dataclass(slots=True)
class Hand:
    """One worker: its session, its registration, and whatever it ever claimed."""

    session: Connection
    worker: workers.Worker
    claims: list[Claim] = field(default_factory=list)


@dataclass(slots=True)
class Machine:
    """A control database under seeded steps, with what was there before each of them."""

    control: Control
    chance: random.Random
    hands: list[Hand] = field(default_factory=list)
    gone: list[Claim] = field(default_factory=list)
    before: dict[int, dict[str, Any]] = field(default_factory=dict)
    suspended: bool = False
    commits: int = 0
    last: str = ""

    # -- steps --------------------------------------------------------------------------------------------

    async def step(self) -> None:
        name = self.chance.choices(list(ACTIONS), weights=list(ACTIONS.values()))[0]
        self.last = name
        await getattr(self, f"do_{name.replace(' ', '_')}")()
        await self.check()

    async def join(self) -> Hand:
        session = await self.control.connect()
        hand = Hand(session, await self.control.register(session, name="worker", lease_s=LEASE_S))
        self.hands.append(hand)
        return hand

    async def do_record(self) -> None:
        self.commits += self.chance.random() < 0.7
        names = self.chance.sample(DEPLOYMENTS, self.chance.randint(1, 3))
        policy = RolloutPolicy(
            order=self.chance.choice(["rolling", "parallel", "barrier"]),
            on_failure=self.chance.choice(["halt", "continue", "pause"]),
            max_parallel=self.chance.randint(1, 3),
            promotion=self.chance.choice(["auto", "manual"]),
        )
        initial = S.WAITING_FOR_APPROVAL if self.chance.random() < 0.2 else S.PENDING
        try:
            await self.control.record(
                *names,
                commit=f"{self.commits:040x}",
                policy=policy,
                narrowed=self.chance.random() < 0.3,
                respect_holds=self.chance.random() < 0.3,
                operations=new_rollout(*names, initial=initial).operations,
            )
        except Conflict:
            return

    async def do_claim(self) -> None:
        hand = self.chance.choice(self.hands)
        try:
            found = await claims.claim_many(
                self.control.connection, hand.worker, room=self.chance.randint(1, 3), lease_s=LEASE_S
            )
        except LeaseLost:
            await self.replace(hand)
            return
        for claim in found:
            self.check_claim(claim)
        hand.claims += found

    async def do_end(self) -> None:
        claim = self.some_claim()
        if claim is not None:
            await self.write(claim, self.chance.choice(ENDS))

    async def do_stale_write(self) -> None:
        """What a worker that lost an operation writes changes nothing, whatever it is."""
        stale = [claim for claim in self.every_claim() if not self.holds(claim)]
        if not stale:
            return
        claim, connection = self.chance.choice(stale), self.control.connection
        kind = self.chance.randrange(5)
        rows = await self.rows()
        try:
            match kind:
                case 0:
                    state = await transition(connection, claim, self.chance.choice(ENDS), reason="late")
                    # Only a word said twice is taken: it is so already.
                    assert rows[int(claim.operation)]["state"] == state.value
                case 1:
                    await claims.hand_back(connection, claim)
                case 2:
                    await finish_many(connection, claim, ["s1"])
                case 3:
                    await replace_plan(connection, claim, {"name": "late"}, "sha256:late", ())
                case _:
                    await claims.interruption(connection, claim)
            assert kind == 0, f"a stale claim wrote ({kind})"
        except (LeaseLost, IllegalTransition):
            pass
        assert await self.rows() == rows

    async def do_progress(self) -> None:
        claim = self.some_claim()
        if claim is None:
            return
        try:
            await step_started(self.control.connection, claim, "s1")
            await finish_many(self.control.connection, claim, ["s1"])
        except (LeaseLost, NotFound):
            assert not self.holds(claim) or self.last == "plan anew"

    async def do_plan_anew(self) -> None:
        claim = self.some_claim()
        if claim is not None:
            steps = new_rollout(claim.deployment).operations[0].steps
            await replace_plan(self.control.connection, claim, claim.plan(), "sha256:2", steps)

    async def do_hand_back(self) -> None:
        claim = self.some_claim()
        if claim is not None:
            await claims.hand_back(self.control.connection, claim)

    async def do_heartbeat(self) -> None:
        hand = self.chance.choice(self.hands)
        try:
            await workers.heartbeat(hand.session, hand.worker, LEASE_S)
        except LeaseLost:
            await self.replace(hand)

    async def do_freeze(self) -> None:
        """The lease of a worker runs out; it does not know yet."""
        hand = self.chance.choice(self.hands)
        await self.control.rows(
            "UPDATE reconciler_control.workers SET lease_expires_at = '-infinity' WHERE id = %s",
            hand.worker.id,
        )

    async def do_crash(self) -> None:
        """The session of a worker ends without a word."""
        hand = self.chance.choice(self.hands)
        await hand.session.close()

        async def seen() -> bool:
            found = await self.control.rows(
                "SELECT 1 FROM reconciler_control.living_workers WHERE id = %s", hand.worker.id
            )
            return not found

        await until(seen, deadline_s=30)
        await self.replace(hand)

    async def do_leave(self) -> None:
        hand = self.chance.choice(self.hands)
        await workers.deregister(hand.session, hand.worker)
        await self.replace(hand)

    async def do_ask(self) -> None:
        rows = list((await self.rows()).values())
        if not rows:
            return
        row = self.chance.choice(rows)
        verb = self.chance.choice([*RequestVerb, RequestVerb.STOP, RequestVerb.START, RequestVerb.RETRY])
        found = await requests.submit(
            self.control.connection,
            rollout=str(row["rollout"]),
            verb=verb.value,
            deployment=self.chance.choice([None, row["deployment"]]),
            requested_by="ada",
            digest="sha256:1" if verb is RequestVerb.APPROVE else None,
        )
        assert found.state != "pending" or verb in (RequestVerb.STOP, RequestVerb.CANCEL)

    async def do_suspend(self) -> None:
        await environments.suspend(self.control.connection, "production", reason="test", actor="ada")
        self.suspended = True

    async def do_resume(self) -> None:
        await environments.resume(self.control.connection, "production", actor="ada")
        self.suspended = False

    async def do_supersede(self) -> None:
        await supersede(self.control.connection, "production", f"{self.commits:040x}")

    async def do_due(self) -> None:
        """The time of what is to be tried again comes."""
        await self.control.rows(
            "UPDATE reconciler_control.operations SET next_attempt_at = clock_timestamp() "
            "WHERE state = 'retrying'"
        )

    async def do_promote(self) -> None:
        """A worker comes to a promotion: it may go on, or parks."""
        claim = self.some_claim()
        if claim is None or S(self.before[int(claim.operation)]["state"]) is S.REVERTING:
            return
        connection, key = self.control.connection, self.chance.choice(["g1", "g2"])
        if await promotions.begin_promotion(connection, claim, component="analytics", generation=key):
            self.check_promotion(int(claim.operation))
        else:
            await transition(connection, claim, E.PARK, reason="test")

    async def do_switch(self) -> None:
        claim = self.some_claim()
        if claim is None or S(self.before[int(claim.operation)]["state"]) is not S.PROMOTING:
            return
        (until,) = (await self.control.rows("SELECT clock_timestamp() + interval '1 hour'"))[0]
        await promotions.promoted(
            self.control.connection,
            claim,
            component="analytics",
            generation="g1",
            database="shop",
            retained_until=until,
        )

    async def do_expire(self) -> None:
        await self.control.rows("UPDATE reconciler_control.operations SET revert_until = '-infinity'")
        await windows.expire_windows(self.control.connection)

    # -- what steps use -----------------------------------------------------------------------------------

    async def replace(self, hand: Hand) -> None:
        """Another worker comes in the place of one that is gone; what that one had is stale."""
        self.hands.remove(hand)
        self.gone += hand.claims
        await self.join()

    def every_claim(self) -> list[Claim]:
        return self.gone + [claim for hand in self.hands for claim in hand.claims]

    def holds(self, claim: Claim) -> bool:
        row = self.before.get(int(claim.operation))
        return row is not None and row["lease_token"] == claim.lease_token

    def some_claim(self) -> Claim | None:
        held = [claim for claim in self.every_claim() if self.holds(claim)]
        return self.chance.choice(held) if held else None

    async def write(self, claim: Claim, event: OperationEvent) -> None:
        delay = self.chance.choice([0.0, 3600.0])
        try:
            await transition(self.control.connection, claim, event, reason="test", delay_s=delay)
        except IllegalTransition:
            return

    async def rows(self) -> dict[int, dict[str, Any]]:
        cursor = await self.control.connection.execute(SNAPSHOT)
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in await cursor.fetchall()}

    # -- promises -----------------------------------------------------------------------------------------

    def check_claim(self, claim: Claim) -> None:
        """What was only recorded starts where nothing forbids it; nothing living is taken."""
        row = self.before[int(claim.operation)]
        if row["state"] == S.WAITING_FOR_PROMOTION.value:
            assert not self.suspended
            assert claim.state is S.PROMOTING
            assert row["granted"] or row["promotion"] == "auto"
            self.check_promotion(row["id"])
        assert claim.lease_token > (row["lease_token"] or 0)
        assert not any(claim.lease_token <= other.lease_token for other in self.every_claim())
        if row["state"] != S.PENDING.value:
            return
        assert not self.suspended
        assert not halted(self.states(row["rollout"]), policy(row), released=row["released"])

    def check_promotion(self, number: int) -> None:
        """Under `barrier` nobody goes before all of its wave are staged, out of turn, or after a failure."""
        row = self.before[number]
        if row["ordering"] != "barrier" or row["state"] == S.PROMOTING.value:
            return
        assert not halted(self.states(row["rollout"]), policy(row), released=row["released"])
        for other in self.before.values():
            if other["rollout"] != row["rollout"] or other["id"] == number:
                continue
            state = S(other["state"])
            if other["ordinal"] < row["ordinal"]:
                assert state in PASSED, "out of turn"
            if other["wave"] == row["wave"]:
                assert state in STAGED or other["promoted_at"] is not None, "not all are staged"

    def states(self, rollout: int) -> list[OperationState]:
        return [S(row["state"]) for row in self.before.values() if row["rollout"] == rollout]

    async def check(self) -> None:
        before, self.before = self.before, await self.rows()
        for number, row in self.before.items():
            if (old := before.get(number)) is not None:
                check_moved(old, row)
        self.check_rollouts(before)
        flying = [row["deployment"] for row in self.before.values() if S(row["state"]) in IN_FLIGHT]
        assert len(flying) == len(set(flying)), "two in flight on one deployment"
        over = {row["rollout"] for row in self.before.values() if row["over_at"] is not None}
        told = await self.control.rows(
            "SELECT rollout, count(*) FROM reconciler_control.events WHERE kind = ANY(%s) GROUP BY rollout",
            [f"rollout.{state.value}" for state in TERMINAL_ROLLOUT],
        )
        assert dict(told) == dict.fromkeys(over, 1), "one terminal event for each that is over"
        assert await many(
            self.control.connection, "left_unanswered", environment=None, limit=10
        ) == []  # fmt: skip

    def check_rollouts(self, before: dict[int, dict[str, Any]]) -> None:
        for rollout in {row["rollout"] for row in self.before.values()}:
            row = next(row for row in self.before.values() if row["rollout"] == rollout)
            states = self.states(rollout)
            assert row["rollout_state"] == derive(states, policy(row), released=row["released"]).value
            assert (row["over_at"] is not None) == (set(states) <= TERMINAL)
            # What goes back waits for no place.
            own = [row for row in self.before.values() if row["rollout"] == rollout]
            at_work = sum(S(row["state"]) in AT_WORK and not row["goes_back"] for row in own)
            was = sum(S(old["state"]) in AT_WORK for old in before.values() if old["rollout"] == rollout)
            assert at_work <= max(row["max_parallel"], 1, was)

    # -- the end ------------------------------------------------------------------------------------------

    async def settle_down(self) -> None:
        """Faults end: what can go on does, what waits for a person is cancelled, and all is over."""
        await self.do_resume()
        for hand in list(self.hands):
            await self.do_end_of(hand)
        await self.work_off()
        assert await repair(self.control.connection) == Repaired()
        open_ = {row["rollout"] for row in self.before.values() if row["over_at"] is None}
        for rollout in sorted(open_):
            states = set(self.states(rollout))
            waits = {S.STOPPED, S.WAITING_FOR_APPROVAL, S.REVERT_WINDOW} & states
            if self.row_of(rollout)["promotion"] == "manual":
                waits |= {S.WAITING_FOR_PROMOTION} & states
            assert waits or halted(states, policy(self.row_of(rollout)), released=False), states
            for verb in ("cancel", "skip-revert"):
                await requests.submit(
                    self.control.connection,
                    rollout=str(rollout),
                    verb=verb,
                    deployment=None,
                    requested_by="ada",
                )
        await self.work_off()
        assert all(row["over_at"] is not None for row in self.before.values())
        asked = await self.control.rows(
            "SELECT count(*) FROM reconciler_control.requests WHERE state = 'pending' OR reason IS NULL"
        )
        assert asked == [(0,)]
        left = await self.control.rows(
            "SELECT s.id FROM reconciler_control.steps AS s WHERE s.state IN ('running', 'pending')"
        )
        assert left == []

    def row_of(self, rollout: int) -> dict[str, Any]:
        return next(row for row in self.before.values() if row["rollout"] == rollout)

    async def do_end_of(self, hand: Hand) -> None:
        await self.control.rows(
            "UPDATE reconciler_control.workers SET lease_expires_at = '-infinity' WHERE id = %s",
            hand.worker.id,
        )
        await self.replace(hand)

    async def work_off(self) -> None:
        """Claim and carry out until nothing is left to be claimed."""
        for _ in range(200):
            await self.do_due()
            await self.check()
            hand = self.chance.choice(self.hands)
            found = await claims.claim_many(self.control.connection, hand.worker, room=2, lease_s=LEASE_S)
            for claim in found:
                self.check_claim(claim)
            hand.claims += found
            if not found:
                return
            for claim in found:
                asked = await claims.interruption(self.control.connection, claim)
                event = {"cancel": E.CANCEL, "stop": E.STOP, "superseded": E.SUPERSEDE}.get(
                    asked or "", E.DONE
                )
                await transition(self.control.connection, claim, event, reason="the end")
        raise AssertionError("it does not come to an end")


def policy(row: dict[str, Any]) -> RolloutPolicy:
    return RolloutPolicy(
        order=row["ordering"],
        on_failure=row["on_failure"],
        max_parallel=row["max_parallel"],
        promotion=row["promotion"],
    )


def check_moved(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Terminal never moves, times are written once, tokens and attempts of one try only rise."""
    if S(old["state"]) in TERMINAL:
        of_rollout = {"rollout_state", "over_at", "released"}
        moved = {name for name in new if new[name] != old[name]} - of_rollout
        assert not moved, f"what is over moved: {moved}"
    assert old["started_at"] is None or new["started_at"] == old["started_at"]
    assert old["over_at"] is None or new["over_at"] == old["over_at"]
    if old["lease_token"] is not None and new["lease_token"] is not None:
        assert new["lease_token"] >= old["lease_token"]
    if S(old["state"]) in IN_FLIGHT and S(new["state"]) in IN_FLIGHT:
        assert new["attempts"] == old["attempts"], "taking over costs no attempt"


@pytest.mark.timeout(120 + 60 * LONGER)
async def test_promises_hold_in_any_interleaving(control_database: Dsn) -> None:
    """One in flight, bounds, tokens, ends that stay, states that follow, answers, and all ends."""
    for seed in range(SEED, SEED + SEEDS):
        async with AsyncExitStack() as stack:
            control = Control(control_database, stack)
            control.connection = await control.connect()
            await control.connection.execute("DROP SCHEMA IF EXISTS reconciler_control CASCADE")
            await install.install(control.connection)
            await environments.claim_name(control.connection, "production", "platform")
            machine = Machine(control, random.Random(seed))
            for _ in range(3):
                await machine.join()
            try:
                for number in range(STEPS):
                    await machine.step()
                    if number % 20 == 19:
                        assert await repair(control.connection) == Repaired()
                await machine.settle_down()
            except BaseException:
                sys.stdout.write(f"RECONCILER_TEST_SEED={seed}, at '{machine.last}'\n")
                raise
