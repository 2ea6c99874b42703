"""The gate of a wave on a real server: true lets through, anything else does not, and nothing is written."""

import pytest

from reconciler.errors import DatabaseUnavailable, NotFound, StepFailed
from reconciler.execution.gate import check_gate
from reconciler.plan.steps import CheckGate, StepKind
from reconciler.postgres.connection import Dsn
from tests.plugins.postgres import Server


def step(sql: str, database: str, timeout_s: float = 20.0) -> CheckGate:
    return CheckGate(
        id="shop-db/check-gate/0",
        kind=StepKind.CHECK_GATE,
        component="shop-db",
        identity="gate of wave 0",
        database=database,
        wave=0,
        sql=sql,
        timeout_s=timeout_s,
    )


@pytest.mark.parametrize(
    "sql",
    ["SELECT true", "SELECT count(*) = 0 FROM pg_class WHERE relname = 'gone', 1", "VALUES (true, 'more')"],
    ids=["true", "like", "values"],
)
async def test_true_lets_through(postgres_server: Server, sql: str) -> None:
    """One row whose first column is true is all that is wanted; `%` and such mean nothing to the driver."""
    sql = sql.replace(", 1", " AND '%s' LIKE '%'")
    await check_gate(step(sql, "postgres"), postgres_server.dsn)


@pytest.mark.parametrize(
    ("sql", "why", "sqlstate"),
    [
        ("SELECT false", "the answer is false", None),
        ("SELECT null::boolean", "the answer is null", None),
        ("SELECT true WHERE false", "the answer has no row", None),
        ("SELECT true FROM generate_series(1, 3)", "more than one row", None),
        ("SELECT 'hidden-value'", "is no boolean", None),
        ("SELECT 1", "is no boolean", None),
        ("SELECT", "is no boolean", None),
        ("SELECT nosuch", "does not exist", "42703"),
        ("SELECT 1/0 = 1", "division by zero", "22012"),
        ("SELECT true INTO gate_made", "", "42601"),
        ("WITH x AS (CREATE TABLE y ()) SELECT true", "", "42601"),
        ("SELECT true; SELECT true", "", "42601"),
        ("SELECT nextval('gate_numbers') > 0", "read-only", "25006"),
    ],
    ids=[
        "false", "null", "none", "many", "text", "number", "nothing", "column", "error", "into", "ddl", "two",
        "writes",
    ],
)  # fmt: skip
async def test_anything_else_does_not(
    postgres_server: Server, fresh_database: str, sql: str, why: str, sqlstate: str | None
) -> None:
    """The reason is told, the value never, and nothing stays."""
    postgres_server.run("create sequence gate_numbers", database=fresh_database)
    with pytest.raises(StepFailed) as shut:
        await check_gate(step(sql, fresh_database), postgres_server.dsn)
    assert why in shut.value.message
    assert shut.value.message.startswith(f"asking the gate of wave 0 in database '{fresh_database}' on ")
    assert "hidden-value" not in shut.value.message
    assert shut.value.sqlstate == sqlstate
    assert postgres_server.run(
        "select count(*) from pg_class where relname like 'gate_made'", database=fresh_database
    ) == [(0,)]


async def test_an_answer_that_takes_too_long_is_none(postgres_server: Server) -> None:
    """The deadline of the spec is the server's, so that nothing runs on there."""
    with pytest.raises(StepFailed) as shut:
        await check_gate(step("SELECT pg_sleep(60) IS NOT NULL", "postgres", 0.2), postgres_server.dsn)
    assert shut.value.message.endswith("no answer within 0.2 s")
    assert shut.value.sqlstate == "57014"


async def test_a_server_that_is_away_says_nothing(postgres_server: Server) -> None:
    """Who cannot be asked did not say no: it is tried again. A database that is not there is an error."""
    with pytest.raises(DatabaseUnavailable):
        await check_gate(step("SELECT true", "postgres"), Dsn("host=127.0.0.1 port=1"))
    with pytest.raises(NotFound):
        await check_gate(step("SELECT true", "no_such_database"), postgres_server.dsn)
