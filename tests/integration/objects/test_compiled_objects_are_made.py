"""A compiled project against a real server: its order is one in which everything can be made."""

from typing import Any

import psycopg
import pytest

from reconciler.catalog.identifier import quote_identifier
from reconciler.objects.hashing import qualified, splice
from reconciler.objects.model import ObjectName, Project, SqlStatement
from reconciler.objects.project import compile_project

FILES = {
    "sales/daily.sql": """
        CREATE OR REPLACE VIEW sales.daily WITH (security_barrier) AS
          WITH orders AS (SELECT id, day, total FROM orders WHERE total > :'least')
          SELECT o.day, sum(o.total) AS total, sales.label(max(o.id)) AS label, 'lines'::regclass AS source
          FROM orders AS o JOIN lines AS l ON l."order" = o.id GROUP BY o.day;
        GRANT SELECT ON daily TO PUBLIC;
        COMMENT ON COLUMN sales.daily.total IS 'of the day';
    """,
    "sales/label.sql": """
        CREATE FUNCTION label(id int) RETURNS text LANGUAGE sql STABLE AS
          'SELECT ''#'' || k.name FROM "Kinds É" AS k WHERE k.id = label.id';
        CREATE FUNCTION label(kind "Kinds É") RETURNS text RETURN label(kind.id);
        REVOKE ALL ON FUNCTION label(sales."Kinds É") FROM PUBLIC;
        COMMENT ON FUNCTION label(int) IS 'in words';
    """,
    "sales/Kinds É.sql": """
        CREATE MATERIALIZED VIEW "Kinds É" WITH (fillfactor = 70) AS
          SELECT DISTINCT kind AS id, sales.lines.name FROM sales.lines;
        CREATE UNIQUE INDEX "Kinds key" ON sales."Kinds É" (id);
        CREATE INDEX ON "Kinds É" (lower(name)) WHERE name <> '';
        COMMENT ON INDEX "Kinds key" IS 'one each';
    """,
    "sales/lines.sql": """
        CREATE VIEW lines AS SELECT o.id AS "order", o.kind, 'x'::text AS name FROM public.orders AS o
    """,
    "sales/tree.sql": """
        CREATE RECURSIVE VIEW tree (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM tree WHERE n < 3;
    """,
    "sales/upkeep.sql": """
        CREATE PROCEDURE upkeep(d sales.daily DEFAULT NULL) LANGUAGE plpgsql AS $$
        DECLARE r sales.daily%ROWTYPE;
        BEGIN FOR i IN 1..2 LOOP SELECT * INTO r FROM sales.daily; END LOOP; CALL stats.note(r.label); END $$;
    """,
    "stats/note.sql": """
        CREATE PROCEDURE note(what text) BEGIN ATOMIC
          WITH tree AS (SELECT n FROM sales.tree) INSERT INTO log SELECT what FROM tree; END;
    """,
    "stats.sql": """
        COMMENT ON SCHEMA stats IS 'notes'; GRANT USAGE ON SCHEMA stats TO PUBLIC;
        ALTER DEFAULT PRIVILEGES IN SCHEMA stats REVOKE ALL ON FUNCTIONS FROM PUBLIC; SET work_mem = '8MB';
    """,
}  # fmt: skip
TABLES = """
    CREATE TABLE public.orders (id int, day date, kind int, total int); CREATE TABLE public.log (what text);
"""
DEPENDED = """
    SELECT DISTINCT v.relname, s.relname FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
    JOIN pg_class AS v ON v.oid = r.ev_class JOIN pg_class AS s ON s.oid = d.refobjid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND v.oid <> s.oid
      AND v.relnamespace IN ('sales'::regnamespace, 'stats'::regnamespace)
"""


@pytest.mark.parametrize("in_full", [False, True])
def test_objects_are_made_in_their_order(postgres_server: Any, fresh_database: str, in_full: bool) -> None:
    """Every statement runs in the order of the project, as it is written and with all names in full."""
    made = compile_project("p", FILES, externals=("public.orders", "public.log"), variables={"least": "10"})
    assert made.problems == made.warnings == ()
    assert made.project is not None
    with psycopg.connect(postgres_server.text(fresh_database), autocommit=True) as connection:
        connection.execute(TABLES)
        _make(connection, made.project, in_full=in_full)
        depended = connection.execute(DEPENDED).fetchall()
        if in_full:  # a body that is text finds what it names by its full name alone
            assert connection.execute("CALL sales.upkeep()").statusmessage == "CALL"
    objects = made.project.objects.values()
    known = {(each.name.name, name.name) for each in objects for name in (*each.depends_on, *each.externals)}
    assert depended
    assert {(one, other) for one, other in depended} <= known
    assert made.project.objects[ObjectName("stats", "note")].externals == {ObjectName("public", "log")}


def _make(connection: psycopg.Connection, project: Project, *, in_full: bool) -> None:
    for schema in project.schemas.values():
        connection.execute(f"CREATE SCHEMA {quote_identifier(schema.name)}".encode())
        said = (*schema.grants, *schema.default_privileges, *([schema.comment] if schema.comment else []))
        for statement in said:
            connection.execute(statement.text.encode())
    for made in project.objects.values():
        path = "public" if in_full else f"{quote_identifier(made.name.schema)}, public"
        connection.execute(f"SET search_path = {path}".encode())
        statements = (*made.creates, *(each.statement for each in made.indexes), *made.grants, *made.comments)
        for statement in statements:
            connection.execute((_in_full(statement) if in_full else statement.text).encode())
    connection.execute("SET search_path = public")


def _in_full(statement: SqlStatement) -> str:
    every = sorted((*statement.mentions, *statement.outside), key=lambda each: each.start)
    return splice(statement.text, [(each.start, each.end, qualified(each)) for each in every])
