"""What operations wait for and what can be done about it, said of every state."""

from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.rollout.outlook import Around, outlook
from reconciler.rollout.states import IN_FLIGHT, TERMINAL, OperationState, RolloutState
from reconciler.rollout.status import OperationStatus, RequestStatus, RolloutStatus

S = OperationState
AT = datetime(2026, 3, 1, tzinfo=UTC)


def operation(name: str, state: OperationState, **more: Any) -> OperationStatus:
    values: dict[str, Any] = {
        "id": name,
        "deployment": name,
        "state": state,
        "attempts": 1,
        "plan_digest": "sha256:1",
        "reason": None,
        "error": None,
        "next_attempt_at": None,
        "started_at": None,
        "finished_at": None,
        "worker": "w" if state in IN_FLIGHT else None,
    }
    return OperationStatus(**{**values, **more})


def rollout(*operations: OperationStatus, **more: Any) -> RolloutStatus:
    values: dict[str, Any] = {
        "id": "7",
        "environment": "production",
        "commit": "a" * 40,
        "scope": "full",
        "state": RolloutState.RUNNING,
        "reason": "commit",
        "requested_by": "reconciler",
        "created_at": AT,
        "finished_at": None,
        "operations": operations,
        "order": "rolling",
        "on_failure": "halt",
        "max_parallel": 2,
    }
    return RolloutStatus(**{**values, **more})


def waits(found: RolloutStatus, around: Around | None = None) -> list[str | None]:
    return [one.waits_for for one in outlook(found, around or Around()).operations]


@pytest.mark.parametrize("state", list(S), ids=str)
def test_every_state_moves_or_says_what_it_waits_for(state: OperationState) -> None:
    """What is over waits for nothing, what is in flight moves; everything else names something."""
    (why,) = waits(rollout(operation("eu", state)))
    quiet = state in TERMINAL | IN_FLIGHT
    assert (why is None) is quiet


@pytest.mark.parametrize("state", sorted(S), ids=str)
def test_every_state_that_waits_for_a_person_names_a_command(state: OperationState) -> None:
    """What does not move by itself, and what failed, has a way on, with the rollout's number in it."""
    found = outlook(rollout(operation("eu", state)), Around()).next
    person = {S.WAITING_FOR_APPROVAL, S.STOPPED, S.FAILED, S.CANCELLED}
    person |= {S.WAITING_FOR_PROMOTION, S.REVERT_WINDOW}
    if state in person:
        assert any(" 7" in line for line in found)
    if state is S.COMPLETED:
        assert found == ()


def test_pending_says_whose_turn_it_is() -> None:
    """In order of rolling it is the one before; side by side it is a place."""
    eu, us = operation("eu", S.RUNNING), operation("us", S.PENDING)
    assert waits(rollout(eu, us)) == [None, "'eu', which is running"]
    parallel = rollout(eu, us, order="parallel", max_parallel=1)
    assert waits(parallel) == [None, "a place: 1 of 1 are at work"]
    assert waits(rollout(us)) == ["a worker"]
    assert waits(rollout(us), Around(workers=0)) == ["a daemon: none is alive that can read its source"]
    assert waits(rollout(us), Around(others={"us": "6"})) == ["rollout 6, which is at work there"]
    assert waits(rollout(us), Around(suspended="incident")) == [
        "its environment, which is suspended: incident"
    ]
    assert waits(rollout(us), Around(orphaned=True)) == [
        "its environment, which its source no longer declares"
    ]


def test_what_is_asked_of_what_runs_is_told() -> None:
    """A stop that waits is named with who asked, a successor with its number, a dead worker as that."""
    stop = RequestStatus(
        id="3",
        rollout="7",
        deployment=None,
        verb="stop",
        state="pending",
        reason=None,
        requested_by="ada",
        created_at=AT,
        resolved_at=None,
    )
    assert waits(rollout(operation("eu", S.RUNNING), requests=(stop,))) == [
        "its next safe point, to stop (request 3, ada)"
    ]
    replaced = outlook(rollout(operation("eu", S.RUNNING, superseded_by="8")), Around())
    assert replaced.operations[0].waits_for == "its next safe point, to make place for rollout 8"
    assert replaced.replaced_by == ("8",)
    assert waits(rollout(operation("eu", S.RUNNING, worker=None))) == [
        "a worker: the one that had it is gone"
    ]


def test_paused_is_released() -> None:
    """Under `pause` what did not start waits for the release, until it is released."""
    operations = (operation("eu", S.FAILED), operation("us", S.PENDING))
    held = outlook(rollout(*operations, on_failure="pause"), Around())
    assert held.operations[1].waits_for == "the rollout to be released, since 'eu' failed"
    assert "let the rest start with: reconciler release 7" in held.next
    going = outlook(rollout(*operations, on_failure="pause", released=True), Around())
    assert going.operations[1].waits_for == "a worker"
    assert not any("release" in line for line in going.next)


def test_what_was_followed_is_not_tried_again() -> None:
    """Where something took its place, that is what to look at."""
    failed, gone = operation("eu", S.FAILED), operation("us", S.SUPERSEDED, superseded_by="8")
    assert outlook(rollout(failed, gone), Around()).next == (
        "see what took its place with: reconciler show 8",
    )
    assert outlook(rollout(failed), Around()).next == (
        "push a fix, or try the same again with: reconciler retry 7",
    )
    assert outlook(rollout(operation("eu", S.FAILED, by_hand=True)), Around()).next == (
        "push a fix, or ask for it anew by the same command: reconciler module …",
    )


def test_what_was_only_provisioned_says_how_the_rest_is_rolled_out() -> None:
    """Once it is done everywhere, and not where something failed."""
    rest = "resources are provisioned; roll out the rest with: reconciler apply production --full"
    done, failed = operation("eu", S.COMPLETED), operation("us", S.FAILED)
    assert outlook(rollout(done, scope="provision-only"), Around()).next == (rest,)
    assert rest not in outlook(rollout(done, failed, scope="provision-only"), Around()).next
    assert outlook(rollout(done), Around()).next == ()
