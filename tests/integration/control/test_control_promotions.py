"""Promotions in the control database: who waits, who goes live and when, what is kept, what goes back."""

from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.control import claims, environments, generations, promotions, requests, windows
from reconciler.control.claims import Claim
from reconciler.control.environments import DeploymentObservation
from reconciler.control.generations import Remains
from reconciler.control.rollouts import supersede
from reconciler.control.transitions import transition
from reconciler.control.workers import Worker
from reconciler.errors import LeaseLost
from reconciler.rollout.states import IN_FLIGHT, TRANSITIONS, OperationEvent, OperationState
from reconciler.rollout.status import RequestStatus
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import LEASE_S, Control

S = OperationState
E = OperationEvent
BARRIER = RolloutPolicy(order="barrier", max_parallel=5)
MANUAL = RolloutPolicy(order="parallel", max_parallel=5, promotion="manual")
HOUR = "clock_timestamp() + interval '1 hour'"


class Promoting:
    """A control database with a worker, and what a worker does around a promotion."""

    def __init__(self, control: Control, worker: Worker) -> None:
        self.control = control
        self.worker = worker

    async def claim_all(self, worker: Worker | None = None, room: int = 10) -> dict[str, Claim]:
        """Everything that may be claimed now, by deployment."""
        found = await claims.claim_many(
            self.control.connection, worker or self.worker, room=room, lease_s=LEASE_S
        )
        return {one.deployment: one for one in found}

    async def stage(self, claim: Claim, key: str = "g1", component: str = "analytics") -> None:
        """Note that a generation is made."""
        await promotions.note_staging(
            self.control.connection,
            claim,
            component=component,
            generation=key,
            server="db:5432",
            database="shop",
        )

    async def ask(self, claim: Claim, key: str = "g1", component: str = "analytics") -> bool:
        """Ask to promote; park where that has to wait."""
        may = await promotions.begin_promotion(
            self.control.connection, claim, component=component, generation=key
        )
        if not may:
            await transition(self.control.connection, claim, E.PARK, reason="waits for its promotion")
        return may

    async def switched(self, claim: Claim, key: str = "g1", *, retain: str = HOUR) -> None:
        """What follows a switch, to the end of the operation."""
        until = (await self.control.rows(f"SELECT {retain}"))[0][0]
        await promotions.promoted(
            self.control.connection,
            claim,
            component="analytics",
            generation=key,
            database="shop",
            retained_until=until,
        )
        kept = await promotions.revert_window(self.control.connection, claim.operation)
        await transition(self.control.connection, claim, E.OPEN_REVERT_WINDOW if kept is not None else E.DONE)

    async def park(self, *deployments: str, **changes: Any) -> str:
        """A rollout of which every operation is staged and waits."""
        rollout = await self.control.record(*deployments, **changes)
        for claim in (await self.claim_all()).values():
            await self.stage(claim)
            assert not await self.ask(claim)
        return rollout

    async def live(self, *deployments: str, **changes: Any) -> str:
        """A rollout of which every operation is live, and in its window."""
        rollout = await self.control.record(*deployments, **changes)
        for claim in (await self.claim_all()).values():
            await self.stage(claim)
            assert await self.ask(claim)
            await self.switched(claim)
        return rollout

    async def verb(self, rollout: str, verb: str, deployment: str | None = None) -> RequestStatus:
        """What came of a verb."""
        return await requests.submit(
            self.control.connection, rollout=rollout, verb=verb, deployment=deployment, requested_by="ada"
        )

    async def states(self, rollout: str) -> list[str]:
        """The states of its operations in order."""
        return list((await self.control.states(rollout)).values())

    async def moves(self, rollout: str) -> list[tuple[str, str]]:
        """The moves of a rollout's operations, as the history has them."""
        return [
            (row[0], row[1])
            for row in await self.control.rows(
                "SELECT data ->> 'before', data ->> 'after' FROM reconciler_control.events"
                " WHERE rollout = %s AND operation IS NOT NULL AND data ? 'before' ORDER BY id",
                int(rollout),
            )
        ]


@pytest.fixture
async def world(control: Control) -> Promoting:
    """A living worker."""
    return Promoting(control, await control.worker())


async def test_auto_promotes_as_soon_as_it_is_staged(world: Promoting) -> None:
    """Without anything to wait for it keeps its worker, and the history has both moves."""
    rollout = await world.control.record("eu")
    (claim,) = (await world.claim_all()).values()
    assert claim.state is S.RUNNING
    await world.stage(claim)
    assert await world.ask(claim)
    assert await world.ask(claim), "asked again, it is under way already"
    assert await world.states(rollout) == ["promoting"]
    await world.switched(claim)
    assert await world.moves(rollout) == [
        ("pending", "running"),
        ("running", "waiting_for_promotion"),
        ("waiting_for_promotion", "promoting"),
        ("promoting", "running"),
        ("running", "revert_window"),
    ]
    found = await world.control.rollout(rollout)
    assert found.state.value == "revert_window"
    assert found.operations[0].promoted_at is not None
    assert found.operations[0].revert_until is not None
    assert {step.state for step in found.operations[0].steps} == {"done"}


async def test_manual_waits_without_a_worker(world: Promoting) -> None:
    """Parked, it keeps nobody's place and is claimed by nobody; one word, and it is claimed to promote."""
    rollout = await world.park("eu", policy=MANUAL)
    assert await world.claim_all() == {}
    (operation,) = (await world.control.rollout(rollout)).operations
    assert operation.parked is not None
    assert (operation.parked.component, operation.parked.generation) == ("analytics", "g1")
    assert operation.waits_for == "somebody to let it go live"
    assert operation.worker is None
    asked = await world.verb(rollout, "promote")
    assert (asked.state, asked.reason) == ("completed", "promote: eu (analytics)")
    again = await world.verb(rollout, "promote")
    assert again.reason == "'eu' was let go before, and a worker takes it next"
    (claim,) = (await world.claim_all()).values()
    assert (claim.state, claim.first, claim.attempts) == (S.PROMOTING, False, 1)
    under_way = await world.verb(rollout, "promote")
    assert under_way.reason is not None
    assert "its promotion is under way already" in under_way.reason
    assert await world.ask(claim)
    await world.switched(claim)
    assert await world.states(rollout) == ["revert_window"]


async def test_what_was_let_go_is_what_goes_live(world: Promoting) -> None:
    """Where something else is staged by the time it is claimed, it waits for a word of its own."""
    rollout = await world.park("eu", policy=MANUAL)
    await world.verb(rollout, "promote")
    (claim,) = (await world.claim_all()).values()
    assert not await world.ask(claim, "g2")
    assert await world.states(rollout) == ["waiting_for_promotion"]
    assert await world.claim_all() == {}
    await world.verb(rollout, "promote")
    (claim,) = (await world.claim_all()).values()
    assert await world.ask(claim, "g2")


async def test_barrier_stages_all_and_then_promotes_in_order(world: Promoting) -> None:
    """With one place for three: each is staged and leaves its place; then they go live one at a time."""
    policy = RolloutPolicy(order="barrier", max_parallel=1)
    rollout = await world.control.record("eu", "us", "asia", policy=policy)
    for name in ("eu", "us"):
        (claim,) = (await world.claim_all()).values()
        assert claim.deployment == name
        await world.stage(claim)
        assert not await world.ask(claim)
    (claim,) = (await world.claim_all()).values()
    await world.stage(claim)
    assert not await world.ask(claim), "the last one staged is not the first in order"
    second = await world.control.worker("second")
    for name in ("eu", "us", "asia"):
        found = await world.claim_all()
        assert list(found) == [name]
        assert await world.claim_all(second) == {}, "one at a time"
        assert await world.ask(found[name])
        assert await world.claim_all(second) == {}
        await world.switched(found[name])
    assert await world.states(rollout) == ["revert_window"] * 3


async def test_barrier_goes_on_at_once_where_it_is_ones_turn(world: Promoting) -> None:
    """Whoever is staged last and stands first needs not be parked."""
    await world.control.record("eu", "us", policy=BARRIER)
    found = await world.claim_all()
    assert not await world.ask(found["us"])
    assert await world.ask(found["eu"])
    assert await world.claim_all() == {}


async def test_barrier_out_of_turn_is_refused_with_the_name(world: Promoting) -> None:
    """The answer says whose turn it is, and who is not ready."""
    policy = RolloutPolicy(order="barrier", max_parallel=5, promotion="manual")
    rollout = await world.control.record("eu", "us", "asia", policy=policy)
    found = await world.claim_all()
    assert not await world.ask(found["eu"])
    assert not await world.ask(found["us"])
    early = await world.verb(rollout, "promote", "eu")
    assert early.state == "failed"
    assert early.reason == "none goes live before all are staged and ready, and 'asia' is running"
    assert not await world.ask(found["asia"])
    other = await world.verb(rollout, "promote", "us")
    assert other.reason == "it is the turn of 'eu'; the others follow in order"
    assert (await world.verb(rollout, "promote")).reason == "promote: eu (analytics)"
    (claim,) = (await world.claim_all()).values()
    assert claim.deployment == "eu"
    busy = await world.verb(rollout, "promote", "us")
    assert busy.reason == "it is the turn of 'eu', which is promoting"


async def test_a_failure_holds_what_is_parked(world: Promoting) -> None:
    """Under halt nothing more goes live by itself; under barrier nor by hand, else a person may."""
    barrier = await world.control.record("eu", "us", policy=BARRIER)
    found = await world.claim_all()
    assert not await world.ask(found["us"])
    await transition(world.control.connection, found["eu"], E.FAIL, reason="bad")
    assert await world.claim_all() == {}
    refused = await world.verb(barrier, "promote", "us")
    assert refused.reason is not None
    assert refused.reason.startswith("'eu' is failed, and none goes live without the others")
    assert (await world.verb(barrier, "cancel")).state == "completed"
    assert await world.states(barrier) == ["failed", "cancelled"]
    rollout = await world.control.record("eu", "us", policy=MANUAL, commit="b" * 40)
    found = await world.claim_all()
    assert not await world.ask(found["us"])
    await transition(world.control.connection, found["eu"], E.FAIL, reason="bad")
    assert (await world.verb(rollout, "promote", "us")).state == "completed"
    assert list(await world.claim_all()) == ["us"]


async def test_release_lets_what_is_parked_go_on(world: Promoting) -> None:
    """Under pause, what policy would let go goes once somebody released the rollout."""
    policy = RolloutPolicy(order="barrier", max_parallel=5, on_failure="pause")
    rollout = await world.control.record("eu", "us", policy=policy)
    found = await world.claim_all()
    assert not await world.ask(found["us"])
    await transition(world.control.connection, found["eu"], E.FAIL, reason="bad")
    assert await world.claim_all() == {}
    assert (await world.verb(rollout, "release")).state == "completed"
    assert list(await world.claim_all()) == ["us"]


async def test_parked_is_superseded_at_once_and_its_rest_is_removed(world: Promoting) -> None:
    """A newer commit takes its place at once; what it staged is due, unless somebody goes on with it."""
    old = await world.park("eu", policy=MANUAL)
    new = await world.control.record("eu", policy=MANUAL, commit="b" * 40)
    assert await world.states(old) == ["superseded"]
    connection, me = world.control.connection, world.worker.id
    assert await generations.take_due(connection, me, lease_s=60) is None, "the newer one may want it"
    (claim,) = (await world.claim_all()).values()
    assert not await world.ask(claim)
    assert await generations.take_due(connection, me, lease_s=60) is None, "it is the newer one's now"
    assert (await world.verb(new, "cancel")).state == "completed"
    chore = await generations.take_due(connection, me, lease_s=60)
    assert chore is not None
    assert (chore.state, chore.operation, chore.commit) == (Remains.STAGED, claim.operation, "b" * 40)
    assert await generations.take_due(connection, me, lease_s=60) is None, "whoever took it has it"
    assert await generations.settle_chore(connection, chore)
    assert not await generations.settle_chore(connection, chore)


async def test_stop_keeps_what_is_staged_and_start_goes_on(world: Promoting) -> None:
    """Stopped, it is nobody's to remove; started, it is claimed as any, and has to be let go anew."""
    rollout = await world.park("eu", policy=MANUAL)
    await world.verb(rollout, "promote")
    assert (await world.verb(rollout, "stop")).state == "completed"
    assert await world.states(rollout) == ["stopped"]
    assert await world.claim_all() == {}
    assert await generations.take_due(world.control.connection, world.worker.id, lease_s=60) is None
    assert (await world.verb(rollout, "start")).state == "completed"
    (claim,) = (await world.claim_all()).values()
    assert claim.state is S.RUNNING
    assert not await world.ask(claim)


@pytest.mark.parametrize("verb", ["stop", "cancel"])
async def test_nothing_is_promoted_past_a_stop(world: Promoting, verb: str) -> None:
    """What is asked while it runs is carried out before the switch; while it switches, after it."""
    rollout = await world.control.record("eu")
    (claim,) = (await world.claim_all()).values()
    assert (await world.verb(rollout, verb)).state == "pending"
    assert not await world.ask(claim)
    assert await world.states(rollout) == [{"stop": "stopped", "cancel": "cancelled"}[verb]]
    again = await world.control.record("us")
    (claim,) = (await world.claim_all()).values()
    assert await world.ask(claim)
    assert (await world.verb(again, verb)).state == "pending"
    assert await claims.interruption(world.control.connection, claim) is None
    await promotions.promoted(
        world.control.connection,
        claim,
        component="analytics",
        generation="g1",
        database="shop",
        retained_until=None,
    )
    assert await claims.interruption(world.control.connection, claim) == verb


async def test_suspended_environments_promote_nothing(world: Promoting) -> None:
    """A word that was given counts once the environment is reconciled again."""
    rollout = await world.park("eu", policy=MANUAL)
    await environments.suspend(world.control.connection, "production", reason="incident", actor="ada")
    assert (await world.verb(rollout, "promote")).state == "completed"
    assert await world.claim_all() == {}
    await environments.resume(world.control.connection, "production", actor="ada")
    assert list(await world.claim_all()) == ["eu"]


async def test_applied_counts_when_the_window_opens(world: Promoting) -> None:
    """In its window a deployment carries the commit and the environment is ready; so it is told once."""
    names = ("eu", "us")
    await world.control.observe(*(DeploymentObservation(name=name, pending=2) for name in names))
    await world.control.record(*names)
    found = await world.claim_all()
    for name in names:
        assert await world.ask(found[name])
        await world.switched(found[name])
    (status,) = await environments.read_environments(world.control.connection, ["production"])
    assert status.applied_commit == "a" * 40
    assert [one.type for one in status.conditions if one.status] == ["Ready"]
    assert {one.applied_commit for one in status.deployments} == {"a" * 40}
    await world.control.rows("UPDATE reconciler_control.operations SET revert_until = '-infinity'")
    assert await windows.expire_windows(world.control.connection) == 2
    assert (await world.control.kinds()).count("environment.applied") == 1


async def test_parked_is_reconciling_for_a_reason(world: Promoting) -> None:
    """Conditions say that it waits for promotion, and what to type."""
    await world.control.observe(DeploymentObservation(name="eu", pending=2))
    rollout = await world.park("eu", policy=MANUAL)
    (status,) = await environments.read_environments(world.control.connection, ["production"])
    found = {one.type: one for one in status.conditions}
    assert not found["Ready"].status
    assert found["Reconciling"].reason == "WaitsForPromotion"
    assert found["Reconciling"].message.endswith(f"reconciler promote {rollout}")


async def test_window_expires(world: Promoting) -> None:
    """Before its time nothing happens; then it is completed, and what was displaced may go."""
    rollout = await world.live("eu")
    connection, me = world.control.connection, world.worker.id
    assert await windows.expire_windows(connection) == 0
    assert await generations.take_due(connection, me, lease_s=60) is None
    await world.control.rows("UPDATE reconciler_control.operations SET revert_until = '-infinity'")
    late = await world.verb(rollout, "revert")
    assert late.reason == "its revert window is over just now, and what was kept is being removed"
    assert await windows.expire_windows(connection) == 1
    assert await world.states(rollout) == ["completed"]
    chore = await generations.take_due(connection, me, lease_s=0)
    assert chore is not None
    assert chore.state is Remains.PROMOTED
    assert await generations.postpone_chore(connection, chore, "a reader holds it", 0)
    assert await generations.postpone_chore(connection, chore, "a reader holds it", 0)
    (kept,) = await generations.read_kept(connection)
    assert (kept.error, kept.failures) == ("a reader holds it", 2)
    assert (await world.control.kinds()).count("generation.kept") == 1
    assert (await generations.count_generations(connection))[Remains.PROMOTED].kept == 1


async def test_skip_revert_ends_the_window(world: Promoting) -> None:
    """At once completed, and what was displaced may go before its time."""
    rollout = await world.live("eu")
    assert (await world.verb(rollout, "skip-revert")).reason == "skip-revert: eu"
    assert await world.states(rollout) == ["completed"]
    assert await generations.take_due(world.control.connection, world.worker.id, lease_s=60) is not None
    gone = await world.verb(rollout, "revert")
    assert gone.reason is not None
    assert "its window is over" in gone.reason


async def test_newer_promotion_closes_the_window_and_not_before(world: Promoting) -> None:
    """A newer commit is rolled out beside an open window, which ends as the newer one begins to promote."""
    old = await world.live("eu")
    await world.control.record("eu", commit="b" * 40)
    assert await supersede(world.control.connection, "production", "c" * 40) == 1
    assert await world.states(old) == ["revert_window"]
    newest = await world.control.record("eu", commit="d" * 40, policy=MANUAL)
    (claim,) = (await world.claim_all()).values()
    busy = await world.verb(old, "revert")
    assert busy.reason == f"'eu' stays as it is: rollout {newest} is at work there; stop it first"
    assert not await world.ask(claim, "g2")
    assert await world.states(old) == ["revert_window"]
    await world.verb(newest, "promote")
    await world.claim_all()
    assert await world.states(old) == ["completed"]
    assert (await world.moves(old))[-1] == ("revert_window", "completed")
    assert (await world.control.rollout(old)).state.value == "completed"


async def test_newer_auto_promotion_closes_the_window(world: Promoting) -> None:
    """The same where it never parks."""
    old = await world.live("eu")
    await world.control.record("eu", commit="b" * 40)
    (claim,) = (await world.claim_all()).values()
    assert await world.states(old) == ["revert_window"]
    assert await world.ask(claim, "g2")
    assert await world.states(old) == ["completed"]


async def test_revert_is_claimed_and_ends_held(world: Promoting) -> None:
    """It is in flight at once, claimed by whoever comes first, survives a worker, and holds the commit."""
    await world.control.observe(DeploymentObservation(name="eu"))
    rollout = await world.live("eu")
    assert (await world.verb(rollout, "revert")).reason == "revert: eu"
    assert await world.states(rollout) == ["reverting"]
    assert (await world.control.rollout(rollout)).operations[0].waits_for is not None
    for verb in ("stop", "cancel", "revert", "skip-revert", "promote"):
        assert (await world.verb(rollout, verb)).state == "failed"
    claim = (await world.claim_all())["eu"]
    assert claim.state is S.REVERTING
    assert await world.claim_all(await world.control.worker("second")) == {}
    await claims.hand_back(world.control.connection, claim)
    second = await world.control.worker("third")
    claim = (await world.claim_all(second))["eu"]
    assert claim.state is S.REVERTING
    (made,) = await promotions.promoted_by(world.control.connection, claim.operation)
    assert (made.component, made.generation, made.server) == ("analytics", "g1", "db:5432")
    await promotions.reverted(
        world.control.connection, claim, component="analytics", generation="g1", database="shop"
    )
    assert await promotions.promoted_by(world.control.connection, claim.operation) == ()
    await transition(world.control.connection, claim, E.DONE)
    assert await world.states(rollout) == ["reverted"]
    (status,) = await environments.read_environments(world.control.connection, ["production"])
    assert status.deployments[0].applied_commit is None
    assert status.deployments[0].held is not None
    assert "was reverted" in status.deployments[0].held
    chore = await generations.take_due(world.control.connection, world.worker.id, lease_s=60)
    assert chore is not None
    assert chore.state is Remains.REVERTED


async def test_what_is_to_be_taken_back_is_kept_between_two_tries(world: Promoting) -> None:
    """A revert that was asked for in time may take longer than the window: nothing is removed before."""
    rollout = await world.live("eu")
    await world.verb(rollout, "revert")
    claim = (await world.claim_all())["eu"]
    await transition(world.control.connection, claim, E.RETRY, delay_s=60)
    await world.control.rows(
        "UPDATE reconciler_control.generations SET retained_until = clock_timestamp() - interval '1 minute'"
        " RETURNING id"
    )
    assert await generations.take_due(world.control.connection, world.worker.id, lease_s=60) is None
    assert (await world.verb(rollout, "stop")).state == "failed"
    await world.verb(rollout, "retry")
    claim = (await world.claim_all())["eu"]
    assert claim.state is S.REVERTING
    assert len(await promotions.promoted_by(world.control.connection, claim.operation)) == 1
    await transition(world.control.connection, claim, E.RETRY, delay_s=60)
    assert (await world.verb(rollout, "cancel")).state == "completed"
    assert await generations.take_due(world.control.connection, world.worker.id, lease_s=60) is not None


async def test_nothing_newer_ends_what_goes_back(world: Promoting) -> None:
    """A newer commit waits until the deployment went back; then it is claimed."""
    old = await world.live("eu")
    await world.verb(old, "revert")
    claim = (await world.claim_all())["eu"]
    new = await world.control.record("eu", commit="b" * 40)
    assert await claims.interruption(world.control.connection, claim) is None
    assert await world.claim_all() == {}
    await transition(world.control.connection, claim, E.DONE)
    assert await world.states(old) == ["reverted"]
    assert list(await world.claim_all()) == ["eu"]
    assert await world.states(new) == ["running"]


async def test_two_generations_of_one_operation_need_two_words(world: Promoting) -> None:
    """The first is live and the second parks; the window is that of what ends first."""
    rollout = await world.park("eu", policy=MANUAL)
    await world.verb(rollout, "promote")
    claim = (await world.claim_all())["eu"]
    assert await world.ask(claim)
    await promotions.promoted(
        world.control.connection,
        claim,
        component="analytics",
        generation="g1",
        database="shop",
        retained_until=None,
    )
    assert await promotions.revert_window(world.control.connection, claim.operation) is None
    await world.stage(claim, "h1", "reports")
    assert not await world.ask(claim, "h1", "reports")
    (operation,) = (await world.control.rollout(rollout)).operations
    assert operation.parked is not None
    assert operation.parked.component == "reports"
    assert not operation.granted


async def test_lost_leases_write_nothing(world: Promoting) -> None:
    """Whoever lost the operation neither promotes nor notes anything."""
    await world.control.record("eu")
    claim = (await world.claim_all())["eu"]
    await claims.hand_back(world.control.connection, claim)
    with pytest.raises(LeaseLost):
        await world.ask(claim)
    with pytest.raises(LeaseLost):
        await world.stage(claim)
    with pytest.raises(LeaseLost):
        await world.switched(claim)
    with pytest.raises(LeaseLost):
        await promotions.discarded(
            world.control.connection, claim, component="analytics", generation="g1", database="shop"
        )
    with pytest.raises(LeaseLost):
        await promotions.reverted(
            world.control.connection, claim, component="analytics", generation="g1", database="shop"
        )
    assert await world.control.rows("SELECT FROM reconciler_control.generations") == []


async def test_a_worker_that_dies_while_it_promotes_is_followed(world: Promoting) -> None:
    """Another claims it as promoting, and a failed promotion is tried again from running."""
    rollout = await world.control.record("eu")
    claim = (await world.claim_all())["eu"]
    await world.stage(claim)
    assert await world.ask(claim)
    await claims.hand_back(world.control.connection, claim)
    claim = (await world.claim_all())["eu"]
    assert claim.state is S.PROMOTING
    await transition(world.control.connection, claim, E.RETRY, reason="a reader held it", delay_s=0)
    claim = (await world.claim_all())["eu"]
    assert claim.state is S.RUNNING
    assert await world.ask(claim)
    await world.switched(claim)
    assert await world.states(rollout) == ["revert_window"]


async def test_every_arrow_into_flight_is_driven_by_a_claim_or_a_verb(world: Promoting) -> None:
    """What no plain move makes is made by a claim, a promotion or a revert: no arrow of the table is left."""
    rollout = await world.park("eu", policy=MANUAL)
    await world.verb(rollout, "promote")
    claim = (await world.claim_all())["eu"]
    await transition(world.control.connection, claim, E.RETRY, reason="away", delay_s=0)
    claim = (await world.claim_all())["eu"]
    assert await world.ask(claim)
    await world.switched(claim)
    await world.verb(rollout, "revert")
    claim = (await world.claim_all())["eu"]
    await transition(world.control.connection, claim, E.RETRY, reason="away", delay_s=0)
    await world.claim_all()
    driven = set(await world.moves(rollout))
    assert _into_flight() <= driven


def _into_flight() -> set[tuple[str, str]]:
    """The arrows of the table that `move` does not make."""
    return {
        (before.value, after.value)
        for before, ways in TRANSITIONS.items()
        for after in ways.values()
        if after in IN_FLIGHT and before not in IN_FLIGHT
    }


@pytest.mark.parametrize("order", ["rolling", "parallel"])
async def test_two_workers_never_promote_the_same(control: Control, order: str) -> None:
    """Each parked operation is one worker's, whoever asks first, within the places there are."""
    world = Promoting(control, await control.worker())
    second = await control.worker("second")
    policy = RolloutPolicy(order=order, max_parallel=2, promotion="manual")
    names: Sequence[str] = ("eu", "us", "asia") if order == "parallel" else ("eu",)
    rollout = await control.record(*names, policy=policy)
    while found := await world.claim_all():
        for claim in found.values():
            assert not await world.ask(claim)
    assert (await world.verb(rollout, "promote")).state == "completed"
    first = await world.claim_all(room=1)
    others = await world.claim_all(second, room=5)
    assert len(first) == 1
    assert not first.keys() & others.keys()
    assert len(first) + len(others) == min(2, len(names))


async def test_parked_is_not_recorded_again(world: Promoting) -> None:
    """A pass that records the same commit is given the rollout that waits; in its window it is a new one."""
    rollout = await world.park("eu", policy=MANUAL)
    assert await world.control.record("eu", policy=MANUAL) == rollout
    await world.verb(rollout, "promote")
    claim = (await world.claim_all())["eu"]
    await world.ask(claim)
    await world.switched(claim)
    again = await world.control.record("eu", policy=MANUAL)
    assert again != rollout
    assert await world.states(rollout) == ["revert_window"]
