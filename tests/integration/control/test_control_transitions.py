"""Transitions: the table in SQL, its consequences, and the constraints that forbid nonsense."""

import psycopg
import pytest

from reconciler.control import environments, intents, transitions
from reconciler.control.environments import DeploymentObservation
from reconciler.control.moves import Why, move
from reconciler.control.rollouts import NewStep
from reconciler.control.transitions import transition
from reconciler.errors import IllegalTransition, LeaseLost
from reconciler.rollout.states import IN_FLIGHT, TERMINAL, TRANSITIONS, OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control

E = OperationEvent
S = OperationState
ERROR = {"what": "deploy", "where": "a.sql:3", "why": "no such table", "next": "fix it", "sqlstate": "42P01"}


async def test_done_completes_operation_rollout_and_environment(control: Control) -> None:
    """The last operation that completes ends the rollout, once, and marks the commit as applied."""
    await control.observe(DeploymentObservation(name="eu", pending=2))
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    assert await transition(control.connection, claim, E.DONE, reason="all stages done") is S.COMPLETED
    status = await control.rollout(rollout)
    assert status.state.value == "completed"
    assert status.finished_at is not None
    assert [step.state for step in status.operations[0].steps] == ["done", "done"]
    (environment,) = await environments.read_environments(control.connection, ["production"])
    assert environment.applied_commit == "a" * 40
    assert environment.deployments[0].applied_commit == "a" * 40
    assert {c.type for c in environment.conditions if c.status} == {"Ready"}
    kinds = await control.kinds()
    assert kinds.count("rollout.completed") == 1
    assert kinds.count("environment.applied") == 1


async def test_failure_holds_and_halts(control: Control) -> None:
    """A failed deployment is held with its reason, and what had not started is cancelled and held too."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling"))
    claim = await control.must_claim(await control.worker())
    assert (
        await transition(control.connection, claim, E.FAIL, reason="no such table", error=ERROR) is S.FAILED
    )
    assert await control.states(rollout) == {"eu": "failed", "us": "cancelled"}
    status = await control.rollout(rollout)
    assert status.state.value == "failed"
    assert status.operations[0].error == ERROR
    assert "onFailure is halt" in (status.operations[1].reason or "")
    held = await intents.held(control.connection, "production", "a" * 40)
    assert set(held) == {"eu", "us"}
    assert "no such table" in held["eu"]
    assert await intents.held(control.connection, "production", "b" * 40) == {}
    assert (await control.kinds()).count("rollout.failed") == 1


async def test_failure_under_continue_lets_the_others_go_on(control: Control) -> None:
    """Under continue the verdict waits for the others."""
    policy = RolloutPolicy(order="rolling", on_failure="continue")
    rollout = await control.record("eu", "us", policy=policy)
    worker = await control.worker()
    await transition(control.connection, await control.must_claim(worker), E.FAIL, reason="bad")
    assert (await control.rollout(rollout)).state.value == "running_degraded"
    await transition(control.connection, await control.must_claim(worker), E.DONE)
    assert (await control.rollout(rollout)).state.value == "failed"


async def test_failure_under_pause_waits_for_release(control: Control) -> None:
    """Under pause nothing more starts until an operator says so."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling", on_failure="pause"))
    worker = await control.worker()
    await transition(control.connection, await control.must_claim(worker), E.FAIL, reason="bad")
    assert (await control.rollout(rollout)).state.value == "paused"
    assert await control.claim(worker) is None
    (environment,) = await environments.read_environments(control.connection, ["production"])
    assert "Stalled" in {c.type for c in environment.conditions if c.status}


async def test_illegal_transition_is_refused_and_changes_nothing(control: Control) -> None:
    """An event that the state does not take is an error, and leaves everything as it was."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    before = len(await control.kinds())
    with pytest.raises(IllegalTransition, match="running"):
        await transition(control.connection, claim, E.SKIP_REVERT)
    assert await control.states(rollout) == {"eu": "running"}
    assert len(await control.kinds()) == before


@pytest.mark.parametrize("state", sorted(set(OperationState) - {S.RUNNING}))
async def test_sql_moves_exactly_as_the_table_says(control: Control, state: OperationState) -> None:
    """For every state and event, SQL does what the table says; only coming into flight takes a claim."""
    await control.record("eu")
    claim = await control.must_claim(await control.worker())
    flying, over = state in IN_FLIGHT, state in TERMINAL
    for event in OperationEvent:
        await control.connection.execute(
            """
            UPDATE reconciler_control.operations AS o
            SET state = n.state, lease_token = CASE WHEN %(flying)s THEN 7 END, worker = NULL,
                next_attempt_at = CASE WHEN n.state = 'retrying' THEN clock_timestamp() END,
                resumes_as = CASE
                    WHEN n.state = 'retrying' THEN 'running'::reconciler_control.operation_state
                END,
                superseded_at = clock_timestamp(),
                error = CASE WHEN n.state <> 'completed' THEN '{}'::jsonb END,
                started_at = coalesce(started_at, clock_timestamp()), attempts = 1,
                finished_at = CASE WHEN %(over)s THEN clock_timestamp() END,
                revert_until = CASE WHEN n.state = 'revert_window' THEN clock_timestamp() END
            FROM (SELECT %(state)s::reconciler_control.operation_state AS state) AS n
            """,
            {"state": state.value, "flying": flying, "over": over},
        )
        moved = await move(
            control.connection,
            [int(claim.operation)],
            event,
            Why(reason="test", error={"why": "test"}),
            lease_token=7 if flying else None,
        )
        expected = TRANSITIONS[state].get(event)
        if expected in IN_FLIGHT and not flying:
            expected = None
        assert [item.after for item in moved] == ([expected] if expected else [])


async def test_progress_of_steps_is_noted_under_the_lease(control: Control) -> None:
    """A step's progress is noted under the lease only."""
    await control.record("eu")
    claim = await control.must_claim(await control.worker())
    connection = control.connection
    await transitions.step_started(connection, claim, "s1")
    await transitions.finish_many(connection, claim, ["s1"])
    await transitions.step_started(connection, claim, "s2")
    await transitions.step_finished(connection, claim, "s2", "failed", reason="bad")
    steps = (await control.rollout(claim.rollout)).operations[0].steps
    assert [(step.id, step.state, step.reason) for step in steps] == [
        ("s1", "done", None),
        ("s2", "failed", "bad"),
    ]
    new = NewStep(id="s2", ordinal=0, stage="m", kind="deploy-change", component="c", identity="i")
    await transitions.replace_plan(connection, claim, {"name": "anew"}, "sha256:2", (new,))
    operation = (await control.rollout(claim.rollout)).operations[0]
    assert operation.plan_digest == "sha256:2"
    assert [(step.id, step.ordinal, step.state) for step in operation.steps] == [
        ("s1", 0, "done"),
        ("s2", 1, "pending"),
    ]
    await transition(connection, claim, E.RETRY, reason="busy", delay_s=1)
    for late in (
        transitions.step_started(connection, claim, "s2"),
        transitions.finish_many(connection, claim, ["s2"]),
        transitions.replace_plan(connection, claim, {}, "sha256:3", ()),
    ):
        with pytest.raises(LeaseLost):
            await late


@pytest.mark.parametrize(
    "change",
    [
        "lease_token = NULL",
        "state = 'pending'",
        "state = 'completed'",
        "state = 'failed', lease_token = NULL, worker = NULL, finished_at = clock_timestamp()",
        "state = 'retrying', lease_token = NULL, worker = NULL, error = '{}'",
        "next_attempt_at = clock_timestamp()",
        "resumes_as = 'running'",
        "finished_at = clock_timestamp()",
        "started_at = NULL",
        "attempts = 0",
        "error = '[]'",
        "superseded_by = rollout",
        "started_at = created_at - interval '1 s'",
        "state = 'completed', lease_token = NULL, worker = NULL, finished_at = now(), error = '{}'",
        "state = 'superseded', lease_token = NULL, worker = NULL, finished_at = clock_timestamp()",
        "state = 'nonsense'",
    ],
)
async def test_constraints_refuse_nonsense(control: Control, change: str) -> None:
    """No combination of columns that no state allows can be written, whoever writes."""
    await control.record("eu")
    await control.must_claim(await control.worker())
    with pytest.raises((psycopg.errors.IntegrityError, psycopg.errors.DataError)):
        await control.rows("UPDATE reconciler_control.operations SET " + change)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reconciler_control.rollouts SET state = 'completed'",
        "UPDATE reconciler_control.rollouts SET finished_at = clock_timestamp()",
        "UPDATE reconciler_control.environments SET suspended_at = clock_timestamp()",
        "UPDATE reconciler_control.environments SET applied_commit = 'x'",
        "UPDATE reconciler_control.steps SET state = 'done'",
        "UPDATE reconciler_control.steps SET finished_at = clock_timestamp()",
        "INSERT INTO reconciler_control.requests (rollout, verb, requested_by, state) VALUES (1, 'stop', 'a', 'failed')",  # noqa: E501
        "INSERT INTO reconciler_control.installation DEFAULT VALUES",
        "INSERT INTO reconciler_control.events (kind, message) VALUES ('no dots', 'x')",
        "UPDATE reconciler_control.events SET message = 'x'",
        "DELETE FROM reconciler_control.events",
        "TRUNCATE reconciler_control.events",
    ],
)
async def test_other_tables_refuse_nonsense(control: Control, statement: str) -> None:
    """Half-set suspensions, ends without a time, a second identity, a rewritten audit: all refused."""
    await control.record("eu")
    with pytest.raises(psycopg.errors.IntegrityError):
        await control.rows(statement)


async def test_two_in_flight_on_one_deployment_are_refused_by_the_database(control: Control) -> None:
    """Even a program gone wrong cannot put two operations of a deployment in flight."""
    await control.record("eu")
    await control.must_claim(await control.worker())
    await control.record("eu", commit="b" * 40)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await control.rows(
            "UPDATE reconciler_control.operations SET state = 'running', lease_token = 9, attempts = 1,"
            " started_at = clock_timestamp() WHERE state = 'pending'"
        )
