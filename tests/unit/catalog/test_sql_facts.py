"""What a statement's text tells about applying it."""

import pytest

from reconciler.catalog import sql_text
from reconciler.catalog.sql_facts import Facts


def facts(text: str) -> Facts:
    """Return the facts of one statement."""
    (statement,) = sql_text.split(text)
    return statement.facts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DROP TABLE a.b", "drops table a.b"),
        ('DROP TABLE IF EXISTS "A b"', "drops table A b"),
        ("DROP MATERIALIZED VIEW m", "drops materialized view m"),
        ("DROP SCHEMA s CASCADE", "drops schema s"),
        ("DROP DATABASE d", "drops database d"),
        ("DROP OWNED BY r", "drops everything a role owns"),
        ("DROP TYPE t CASCADE", "drops type t and, by CASCADE, the columns that use it"),
        ("DROP EXTENSION e CASCADE", "drops extension e and, by CASCADE, the columns that use it"),
        ("ALTER TABLE t DROP COLUMN c", "drops column c of t"),
        ("ALTER TYPE t DROP ATTRIBUTE c", "drops column c of t"),
        ("TRUNCATE t", "truncates t"),
        ("DELETE FROM s.t", "deletes every row of s.t"),
        ("DELETE FROM t USING u", "deletes every row of t"),
        ("WITH d AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM d", "deletes every row of t"),
        ("EXPLAIN ANALYZE DELETE FROM t", "deletes every row of t"),
        ("DO $$ BEGIN IF true THEN drop /* x */  table t; END IF; END $$", "a DO block runs DROP TABLE"),
    ],
)
def test_deleting_data_is_seen(text: str, message: str) -> None:
    """Each way in which a statement loses data is named."""
    assert [danger.message for danger in facts(text).deletes] == [message]


@pytest.mark.parametrize(
    "text",
    [
        "DROP VIEW v CASCADE",
        "DROP INDEX i",
        "DROP TYPE t",
        "DROP FUNCTION f()",
        "DELETE FROM t WHERE id = 1",
        "ALTER TABLE t DROP CONSTRAINT c",
        "ALTER FOREIGN TABLE t DROP COLUMN c",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DROP TABLE t'",
        "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC DELETE FROM t; END",
        "CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u",
        "DO $$ BEGIN -- drop table t\n PERFORM 1; END $$",
    ],
)
def test_what_keeps_data_is_not_accused(text: str) -> None:
    """What loses no rows, or does not run now, is no danger."""
    assert facts(text).deletes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ALTER TABLE t ALTER COLUMN c TYPE bigint", "changes the type of a column of t"),
        ("ALTER TABLE t SET UNLOGGED", "sets UNLOGGED on t"),
        ("ALTER TABLE t SET LOGGED", "sets LOGGED on t"),
        ("ALTER TABLE t SET ACCESS METHOD heap", "changes the access method of t"),
        ("ALTER TABLE t SET TABLESPACE s", "moves to another tablespace t"),
        ("VACUUM FULL t", "rewrites t by VACUUM FULL"),
        ("CLUSTER t USING i", "rewrites t by CLUSTER"),
        ("ALTER TABLE t ADD c serial", "adds a column to t whose value is computed for each row"),
        (
            "ALTER TABLE t ADD c uuid DEFAULT gen_random_uuid()",
            "adds a column to t whose value is computed for each row",
        ),
        (
            "ALTER TABLE t ADD c int GENERATED ALWAYS AS (a) STORED",
            "adds a column to t whose value is computed for each row",
        ),
        (
            "ALTER TABLE t ADD c int GENERATED ALWAYS AS IDENTITY",
            "adds a column to t whose value is computed for each row",
        ),
    ],
)
def test_rewriting_is_seen(text: str, message: str) -> None:
    """Each way in which a statement writes a whole table anew is named."""
    assert [danger.message for danger in facts(text).rewrites] == [message]


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE t ADD c timestamptz DEFAULT now()",
        "ALTER TABLE t ADD c int DEFAULT 1",
        "ALTER TABLE t ADD c int GENERATED ALWAYS AS (a) VIRTUAL",
        "ALTER TABLE t ALTER c SET DEFAULT random()",
        "ALTER FOREIGN TABLE t ALTER c TYPE int",
    ],
)
def test_what_rewrites_nothing_is_not_accused(text: str) -> None:
    """What only changes the catalog is no danger."""
    assert facts(text).rewrites == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX CONCURRENTLY"),
        ("DROP INDEX CONCURRENTLY i", "DROP INDEX CONCURRENTLY"),
        ("REINDEX INDEX CONCURRENTLY i", "REINDEX CONCURRENTLY"),
        ("REINDEX SCHEMA s", "REINDEX SCHEMA"),
        ("REINDEX INDEX i", None),
        ("VACUUM t", "VACUUM"),
        ("ANALYZE t", None),
        ("CLUSTER", "CLUSTER"),
        ("CLUSTER t", None),
        ("CREATE DATABASE d", "CREATE DATABASE"),
        ("DROP DATABASE d", "DROP DATABASE"),
        ("ALTER DATABASE d SET TABLESPACE t", "ALTER DATABASE … SET TABLESPACE"),
        ("ALTER DATABASE d SET work_mem = '1MB'", None),
        ("CREATE TABLESPACE s LOCATION '/x'", "CREATE TABLESPACE"),
        ("DROP TABLESPACE s", "DROP TABLESPACE"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "ALTER SYSTEM"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("DISCARD PLANS", None),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", "ALTER TABLE … DETACH PARTITION CONCURRENTLY"),
        ("ALTER TABLE t DETACH PARTITION p", None),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", None),
        ("ALTER TYPE e ADD VALUE 'x'", None),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", "CREATE SUBSCRIPTION with a replication slot"),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (create_slot = false)", None),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = 0)", None),
        ("DROP SUBSCRIPTION s", "DROP SUBSCRIPTION"),
        ("ALTER SUBSCRIPTION s REFRESH PUBLICATION", "ALTER SUBSCRIPTION … REFRESH PUBLICATION"),
        ("ALTER SUBSCRIPTION s SET PUBLICATION p", "ALTER SUBSCRIPTION … PUBLICATION with refresh"),
        ("ALTER SUBSCRIPTION s SET PUBLICATION p WITH (refresh = false)", None),
        ("ALTER SUBSCRIPTION s DISABLE", None),
    ],
)
def test_what_no_transaction_can_hold(text: str, what: str | None) -> None:
    """A statement that PostgreSQL refuses inside a transaction block is known before it is sent."""
    assert facts(text).outside_transaction == what


@pytest.mark.parametrize(
    ("text", "word", "bare"),
    [
        ("BEGIN", "BEGIN", True),
        ("START TRANSACTION READ ONLY", "BEGIN", False),
        ("END", "COMMIT", True),
        ("COMMIT AND CHAIN", "COMMIT", False),
        ("ABORT", "ROLLBACK", True),
        ("SAVEPOINT a", "SAVEPOINT", False),
        ("ROLLBACK TO a", "ROLLBACK TO SAVEPOINT", False),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION", False),
    ],
)
def test_transaction_control_is_seen(text: str, word: str, *, bare: bool) -> None:
    """Every statement that controls transactions is one, under one name."""
    assert (facts(text).transaction, facts(text).bare) == (word, bare)
    assert facts(text).begins_or_ends is ("SAVEPOINT" not in word)


def test_what_a_statement_makes() -> None:
    """Only what cannot have been there before counts as made."""
    assert facts("CREATE TEMP TABLE a (b int)").makes == ("a",)
    assert facts("CREATE TABLE IF NOT EXISTS a (b int)").makes == ()
    assert facts("CREATE MATERIALIZED VIEW s.m AS SELECT 1").makes == ("s.m",)
    assert facts("SELECT 1 INTO a").makes == ("a",)


def test_data_from_the_client_is_seen() -> None:
    """`COPY` with the client is told apart from `COPY` with a file of the server."""
    assert facts("COPY a FROM stdin").client_data == "COPY … FROM stdin"
    assert facts("COPY a TO stdout").client_data == "COPY … TO stdout"
    assert facts("COPY a FROM '/f'").client_data is None
    assert facts("COPY a FROM PROGRAM 'x'").client_data is None
