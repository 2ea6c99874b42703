"""Which deployments a look leaves out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.control.environments import DeploymentObservation
from reconciler.control.facts import Facts, NewestOperation
from reconciler.reconcile.findings import UnderWay, under_way
from reconciler.reconcile.left_out import Ground, left_out
from reconciler.rollout.states import OperationState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(minutes=1), NOW + timedelta(minutes=1)
IN_SYNC = DeploymentObservation(name="eu", in_sync=True)
ROW = {
    "pending": 0,
    "drift": 0,
    "diverged": 0,
    "held": None,
    "unavailable": None,
    "blocked": None,
    "provisioned_commit": None,
    "applied_commit": "old",
}


def look(
    row: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    under_way: dict[str, frozenset[str]] | None = None,
    **ground: Any,
) -> dict[str, DeploymentObservation]:
    """What a look at commit `new` leaves out of one deployment, which `old` makes from the same."""
    waiting = ground.pop("waiting", {})
    facts = Facts(
        row={"orphaned": False, "held": {}, "intents": [], **(environment or {})},
        deployments={"eu": {**ROW, **(row or {})}},
    )
    known: dict[str, Any] = {"alike": {"old": {"eu"}}, "newest": {}, "read_at": {"eu": NOW}, **ground}
    commits = UnderWay(deployments=under_way or {}, older_by_itself=False, waiting=waiting)
    return left_out(facts, Ground(commit="new", under_way=commits, **known))


def newest(state: OperationState, at: datetime | None, commit: str = "old") -> dict[str, NewestOperation]:
    return {"eu": NewestOperation(commit=commit, state=state, finished_at=at)}


def test_what_is_in_sync_and_the_same_is_left_out() -> None:
    """A commit that makes a deployment from the same carries it, and is no reason to read it."""
    assert look() == {"eu": IN_SYNC}
    assert look({"applied_commit": "new"}, alike={}) == {"eu": IN_SYNC}


@pytest.mark.parametrize(
    "row",
    [
        {"pending": 1},
        {"drift": 1},
        {"diverged": 1},
        {"held": "no"},
        {"unavailable": "no answer"},
        {"blocked": "by something"},
        {"provisioned_commit": "between"},
        {"applied_commit": None},
        {"applied_commit": "another"},
    ],
    ids=lambda row: next(iter(row)),
)
def test_what_is_known_to_be_anything_else_is_read(row: dict[str, Any]) -> None:
    """Whatever was found on a deployment, or is not known of its commit, is looked at again."""
    assert look(row) == {}


def test_what_somebody_asks_for_is_read() -> None:
    """So is what a gate or verify scripts are due on, what is held or about to be made, and what is back."""
    assert look(asked={"eu"}) == {}
    assert look(environment={"held": {"eu": "by hand"}}) == {}
    assert look(environment={"intents": [["eu", "shop"]]}) == {}
    assert look(environment={"orphaned": True}) == {}
    assert left_out(None, Ground(**_ground())) == {}


def _ground() -> dict[str, Any]:
    under_way = UnderWay(deployments={}, older_by_itself=False, waiting={})
    return {"commit": "new", "under_way": under_way, "alike": {}, "newest": {}, "read_at": {}}


def test_what_nobody_here_has_read_is_read_once() -> None:
    """After a restart, what the tables say of a deployment that no operation was on is seen once."""
    assert look(read_at={}) == {}


def test_operations_that_ended_since_it_was_read() -> None:
    """One that completed says what there is, at a commit that makes the same; after any other it is read."""
    completed = OperationState.COMPLETED
    assert look(newest=newest(completed, AFTER), read_at={}) == {"eu": IN_SYNC}
    assert look(newest=newest(completed, AFTER, "new"), read_at={}) == {"eu": IN_SYNC}
    assert look(newest=newest(completed, AFTER, "another")) == {}
    window = OperationState.REVERT_WINDOW
    assert look(newest=newest(window, None), read_at={}) == {"eu": IN_SYNC}
    assert look(newest=newest(window, None, "another")) == {}
    for state in (OperationState.SUPERSEDED, OperationState.FAILED, OperationState.CANCELLED):
        assert look(newest=newest(state, AFTER)) == {}, state
        assert look(newest=newest(state, BEFORE)) == {"eu": IN_SYNC}, state
        assert look(newest=newest(state, BEFORE), read_at={}) == {}, state
    assert look(newest=newest(OperationState.RUNNING, None)) == {}


def test_what_is_under_way() -> None:
    """A worker reads what it brings to this commit; for another commit, or to be agreed to, it is read."""
    as_known = DeploymentObservation(name="eu", as_known=True)
    eu = frozenset({"eu"})
    assert look({"pending": 3, "drift": 2}, under_way={"new": eu}) == {"eu": as_known}
    assert look(under_way={"old": eu}) == {}
    assert look(under_way={"new": eu}, waiting={"eu": "digest"}) == {}
    assert look(under_way={"new": eu}, asked={"eu"}) == {}


def test_what_may_still_be_taken_back_is_not_under_way() -> None:
    """In its window a deployment is looked at like any, and no newer commit has to end that."""

    def seen(state: OperationState, commit: str) -> UnderWay:
        row = {"deployment": "eu", "commit": commit, "requested_by": "reconciler", "state": state.value}
        return under_way(Facts(row={"under_way": [row]}, deployments={}), "new")

    for commit in ("old", "new"):
        assert seen(OperationState.REVERT_WINDOW, commit).everywhere == frozenset()
        assert not seen(OperationState.REVERT_WINDOW, commit).older_by_itself
    assert seen(OperationState.WAITING_FOR_PROMOTION, "new").deployments == {"new": {"eu"}}
    assert seen(OperationState.WAITING_FOR_PROMOTION, "old").older_by_itself
    assert seen(OperationState.REVERTING, "new").everywhere == {"eu"}
