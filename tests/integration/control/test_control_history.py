"""What a claim and a move read does not grow with what was done before: a long history is not read."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql

from reconciler.control.sql import (
    AT_WORK_NAMES,
    CLAIMABLE_NAMES,
    IN_FLIGHT_NAMES,
    PASSED_NAMES,
    QUERIES,
    STAGED_NAMES,
    UNSUCCESSFUL_NAMES,
)
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control

ROLLOUTS = 60
DEPLOYMENTS = 200
READ_MAX = 3 * DEPLOYMENTS
"""Rows a query may touch: the open ones of the rollout a few times, and none of the thousands before."""
HISTORY = f"""
WITH done AS (
    INSERT INTO reconciler_control.rollouts (
        environment, source, commit, scope, state, ordering, on_failure, max_parallel, promotion, reason,
        requested_by, finished_at
    )
    SELECT 'production', 'platform', 'c' || n, 'full', 'completed', 'parallel', 'continue', 100, 'auto', 'x',
        'x', clock_timestamp()
    FROM generate_series(1, {ROLLOUTS}) AS n
    RETURNING id
)
INSERT INTO reconciler_control.operations (
    rollout, environment, deployment, ordinal, state, plan, plan_digest, attempts, server, created_at,
    started_at, finished_at
)
SELECT done.id, 'production', 'd' || n, n, 'completed', '{{}}', 'x', 1, 'alpha:5432', now(),
    clock_timestamp(), clock_timestamp()
FROM done, generate_series(1, {DEPLOYMENTS}) AS n
"""
PARAMETERS: dict[str, dict[str, Any]] = {
    "rollout_briefs": {},
    "claimable": {
        "environment": "production",
        "is_open": True,
        "at_work": AT_WORK_NAMES,
        "passed": PASSED_NAMES,
        "per_server": 16,
        "worker": None,
        "suspect": 3,
        "limit": 4,
    },
    "candidates": {
        "sources": ["platform"],
        "crowded": [],
        "rollout": None,
        "at_work": AT_WORK_NAMES,
        "passed": PASSED_NAMES,
        "side_by_side": ["barrier", "parallel"],
        "limit": 20,
    },
    "candidates_to_promote": {
        "sources": ["platform"],
        "crowded": [],
        "rollout": None,
        "at_work": AT_WORK_NAMES,
        "passed": PASSED_NAMES,
        "staged": STAGED_NAMES,
        "unsuccessful": UNSUCCESSFUL_NAMES,
        "barrier": "barrier",
        "auto": "auto",
        "limit": 20,
    },
    "claimable_parked": {
        "environment": "production",
        "passed": PASSED_NAMES,
        "staged": STAGED_NAMES,
        "barrier": "barrier",
        "per_server": 16,
        "limit": 4,
    },
    "extend_lease": {"lease_s": 10.0},
    "heartbeat": {
        "lease_s": 10.0,
        "in_flight": IN_FLIGHT_NAMES,
        "claimable": CLAIMABLE_NAMES,
    },
}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


@pytest.mark.parametrize("order", ["parallel", "rolling"])
async def test_a_long_history_is_not_read(control: Control, order: str) -> None:
    """Tens of thousands of operations that are over cost a claim nothing."""
    worker = await control.worker()
    await control.rows(
        "INSERT INTO reconciler_control.environments (name, source) VALUES ('production', 'platform')"
    )
    await control.rows(HISTORY)
    rollout = await control.record(
        *[f"d{number}" for number in range(1, DEPLOYMENTS + 1)],
        policy=RolloutPolicy(order=order, max_parallel=9),
    )
    await control.rows("ANALYZE reconciler_control.operations, reconciler_control.rollouts")
    for name, given in PARAMETERS.items():
        parameters = {**given, "ids": [int(rollout)], "rollouts": [int(rollout)], "worker": worker.id}
        cursor = await control.connection.execute(
            sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) ") + QUERIES[name], parameters
        )
        row = await cursor.fetchone()
        assert row is not None
        touched = {
            f"{node['Node Type']} {node.get('Index Name', node['Relation Name'])}": (
                node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            )
            * node["Actual Loops"]
            for node in _nodes(row[0][0]["Plan"])
            if node.get("Relation Name") in ("operations", "rollouts")
        }
        assert sum(touched.values()) <= READ_MAX, (name, touched)
