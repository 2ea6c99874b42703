"""What is read from SQL text agrees with what a real server does."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from reconciler.catalog import identifier, sql_text

OUTSIDE = [
    "CREATE INDEX CONCURRENTLY i ON t (a)",
    "DROP INDEX CONCURRENTLY t_a",
    "REINDEX INDEX CONCURRENTLY t_a",
    "REINDEX SCHEMA public",
    "VACUUM t",
    "VACUUM (FULL) t",
    "CLUSTER",
    "CREATE DATABASE nosuch",
    "DROP DATABASE nosuch",
    "ALTER DATABASE postgres SET TABLESPACE pg_default",
    "CREATE TABLESPACE s LOCATION '/nosuch'",
    "DROP TABLESPACE s",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "DISCARD ALL",
    "ALTER TABLE parent DETACH PARTITION part CONCURRENTLY",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=nosuch' PUBLICATION p",
]
INSIDE = [
    "REINDEX INDEX t_a",
    "ANALYZE t",
    "CLUSTER t USING t_a",
    "DISCARD PLANS",
    "ALTER TYPE mood ADD VALUE 'sad'",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
    "ALTER TABLE parent DETACH PARTITION part",
    "ALTER DATABASE postgres SET work_mem = '1MB'",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=nosuch' PUBLICATION p WITH (connect = false)",
]
SETUP = """
CREATE TABLE t (a int PRIMARY KEY);
CREATE INDEX t_a ON t (a);
CREATE TABLE parent (a int) PARTITION BY RANGE (a);
CREATE TABLE part PARTITION OF parent FOR VALUES FROM (0) TO (10);
CREATE TYPE mood AS ENUM ('ok');
CREATE MATERIALIZED VIEW m AS SELECT 1 AS a;
CREATE UNIQUE INDEX ON m (a);
"""


@pytest.fixture
def connection(postgres_server: Any, fresh_database: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Return a connection to a database with a little of everything."""
    with psycopg.connect(postgres_server.text(fresh_database)) as opened:
        opened.autocommit = True
        opened.execute(SETUP)
        opened.autocommit = False
        yield opened
        opened.rollback()


def test_the_server_refuses_in_a_transaction_what_we_say(connection: psycopg.Connection[Any]) -> None:
    """Each statement said to be impossible in a transaction is refused there for that reason."""
    for text in OUTSIDE:
        (statement,) = sql_text.split(text)
        assert statement.facts.outside_transaction, text
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            connection.execute(statement.text)
        connection.rollback()


def test_the_server_takes_in_a_transaction_the_others(connection: psycopg.Connection[Any]) -> None:
    """What is not said to be impossible in a transaction works there."""
    for text in INSIDE:
        (statement,) = sql_text.split(text)
        assert statement.facts.outside_transaction is None, text
        connection.execute(statement.text)
        connection.rollback()


def test_names_and_literals_are_quoted_as_the_server_does(connection: psycopg.Connection[Any]) -> None:
    """Key words, capitals, signs and backslashes: the same text as `quote_ident` and `quote_literal` give."""
    words = connection.execute("SELECT word FROM pg_get_keywords()").fetchall()
    names = [word for (word,) in words] + [
        "a",
        "A",
        "a b",
        'a"b',
        "é",
        "1a",
        "_a",
        "a$",
        "",
        "a'b",
        "a\\b",
        "\\",
        "a\nb",
    ]
    server = connection.execute(
        "SELECT quote_ident(name), quote_literal(name)"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS n (name, i) ORDER BY i",
        [names],
    ).fetchall()
    assert [(identifier.quote_identifier(name), identifier.quote_literal(name)) for name in names] == server


def test_positions_of_errors_are_those_of_the_server(connection: psycopg.Connection[Any]) -> None:
    """A syntax error has the same place and words as on the server."""
    for text in ["SELECT 'é' FROM FROM", "SELEC 1", "SELECT (", "CREATE TABLE ü (a int,, b int)"]:
        with pytest.raises(sql_text.SyntaxProblem) as ours:
            sql_text.split(text)
        with pytest.raises(psycopg.errors.SyntaxError) as theirs:
            connection.execute(text)
        connection.rollback()
        assert ours.value.message_alone == theirs.value.diag.message_primary
        assert ours.value.offset + 1 == int(theirs.value.diag.statement_position or 0)
