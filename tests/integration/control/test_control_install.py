"""The control schema is installed once, by whoever comes, and says what it is."""

import asyncio
from pathlib import Path

from reconciler.control import install
from reconciler.control.sql import QUERIES
from reconciler.postgres.connection import Dsn, connect
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.verbs import RequestVerb
from tests.plugins.control import Control

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "control-schema.md"


async def test_ten_installs_at_once_make_one_schema(control_database: Dsn) -> None:
    """Daemons that start together install the schema once and agree on its identity."""
    connections = [await connect(control_database, role="test") for _ in range(10)]
    try:
        versions = await asyncio.gather(*(install.install(connection) for connection in connections))
        assert versions == [install.CONTROL_VERSION] * 10
        identities = {await install.control_id(connection) for connection in connections}
        assert len(identities) == 1
    finally:
        for connection in connections:
            await connection.close()


async def test_second_install_writes_nothing(control: Control) -> None:
    """Installing again reads only: a session that may not write can do it."""
    await control.connection.execute("SET default_transaction_read_only = on")
    assert await install.install(control.connection) == install.CONTROL_VERSION


async def labels(control: Control, name: str) -> list[str]:
    rows = await control.rows(
        "SELECT unnest(enum_range(NULL::reconciler_control." + name + "))::text"  # a name of this module
    )
    return [row[0] for row in rows]


async def test_enum_types_hold_the_states_of_the_table(control: Control) -> None:
    """The labels in SQL are those of the Python table, in the same order."""
    assert await labels(control, "operation_state") == [state.value for state in OperationState]
    assert await labels(control, "rollout_state") == [state.value for state in RolloutState]
    assert await labels(control, "request_verb") == [verb.value for verb in RequestVerb]


async def test_everything_is_commented(control: Control) -> None:
    """Every table, column, type, sequence, function, index and trigger of ours says what it is for."""
    rows = await control.rows(
        """
        SELECT c.relname, a.attname
        FROM pg_class AS c
        INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'reconciler_control'::regnamespace AND c.relkind = 'r'
            AND c.relname <> 'migrations' AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT c.relname, 'itself'
        FROM pg_class AS c
        WHERE c.relnamespace = 'reconciler_control'::regnamespace AND c.relkind IN ('r', 'S', 'i')
            AND obj_description(c.oid, 'pg_class') IS NULL
            AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid)
            AND NOT EXISTS (
                SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'i' AND c.relkind = 'S'
            )
            AND c.relname NOT LIKE 'migrations%'
        UNION ALL
        SELECT t.typname, 'itself'
        FROM pg_type AS t
        WHERE t.typnamespace = 'reconciler_control'::regnamespace AND t.typtype = 'e'
            AND obj_description(t.oid, 'pg_type') IS NULL
        UNION ALL
        SELECT p.proname, 'itself'
        FROM pg_proc AS p
        WHERE p.pronamespace = 'reconciler_control'::regnamespace
            AND obj_description(p.oid, 'pg_proc') IS NULL
        """
    )
    assert rows == []


async def test_index_comments_name_queries_that_exist(control: Control) -> None:
    """An index whose reader is gone would be dead weight."""
    rows = await control.rows(
        """
        SELECT obj_description(c.oid, 'pg_class')
        FROM pg_class AS c
        WHERE c.relnamespace = 'reconciler_control'::regnamespace AND c.relkind = 'i'
            AND obj_description(c.oid, 'pg_class') LIKE '%erves %'
        """
    )
    assert rows
    for (comment,) in rows:
        words = comment.split("erves ")[1].rstrip(".").replace(",", " ").split()
        named = [word for word in words if "_" in word]
        assert all(word in QUERIES for word in named), comment


async def test_page_names_every_table(control: Control) -> None:
    """The reference page lists every table of the schema."""
    page = PAGE.read_text()
    rows = await control.rows(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'reconciler_control'::regnamespace AND relkind = 'r'"
    )
    assert len(rows) == 26
    assert all(f"| `{name}` |" in page for (name,) in rows)
