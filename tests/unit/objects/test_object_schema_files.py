"""Files of schemas: owner, grants, default privileges, comment, stable, and settings while building."""

import pytest

from reconciler.errors import Problem
from reconciler.objects.model import ObjectName, SqlSchema
from reconciler.objects.project import compile_project


def compiled(text: str, name: str = "a") -> tuple[SqlSchema | None, tuple[Problem, ...]]:
    made = compile_project("p", {f"{name}.sql": text}, externals=(), variables={"x": "1"})
    return (made.project.schemas[name] if made.project else None), made.problems


def read(text: str, name: str = "a") -> SqlSchema:
    schema, problems = compiled(text, name)
    assert problems == ()
    assert schema is not None
    return schema


def test_everything_about_a_schema_stands_in_its_file() -> None:
    """Each statement becomes a value; what is run on a schema names it where it can be put elsewhere."""
    schema = read(
        """
        ALTER SCHEMA "Sales a" OWNER TO "Boss";
        GRANT USAGE, CREATE ON SCHEMA "Sales a" TO r; REVOKE ALL ON SCHEMA "Sales a" FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES FOR ROLE schema IN SCHEMA "Sales a" GRANT SELECT ON TABLES TO r;
        COMMENT ON SCHEMA "Sales a" IS 'about sales';
        SET api = stable; SET work_mem TO '64MB'; SET jit = off;
        SET statement_timeout = 0; SET lock_timeout = 1.5;
        """,
        "Sales a",
    )
    assert (schema.path, schema.stable, schema.owner) == ("p/Sales a.sql", True, "Boss")
    assert schema.settings == (
        ("jit", "off"), ("lock_timeout", "1.5"), ("statement_timeout", "0"), ("work_mem", "64MB"),
    )  # fmt: skip
    assert schema.comment is not None
    statements = (*schema.grants, *schema.default_privileges, schema.comment)
    assert [each.line for each in statements] == [3, 3, 4, 5]
    for each in statements:
        (mention,) = each.mentions
        assert each.text[mention.start : mention.end] == '"Sales a"'
        assert mention.target == ObjectName("Sales a", "")


def test_a_schema_without_a_file_has_defaults() -> None:
    """A folder alone makes a schema; a file alone does too."""
    files = {"a/v.sql": "CREATE VIEW v AS SELECT 1", "b.sql": "SET jit = on"}
    made = compile_project("p", files, externals=(), variables={})
    assert made.project is not None
    assert made.project.schemas["a"] == SqlSchema(name="a")
    assert made.project.schemas["b"].settings == (("jit", "on"),)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("ALTER SCHEMA b OWNER TO r", "is about b, not about schema 'a' alone", "write it for schema a"),
        ("ALTER SCHEMA a OWNER TO CURRENT_USER", "must be named", "anybody"),
        ("ALTER SCHEMA a OWNER TO r; ALTER SCHEMA a OWNER TO s", "an owner twice", "leave"),
        ("GRANT USAGE ON SCHEMA a, b TO r", "is about a, b", "write it for schema a"),
        ("GRANT SELECT ON v TO r", "GRANT cannot stand", "GRANT … ON SCHEMA"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r", "is about every schema", "schema a"),
        ("ALTER DEFAULT PRIVILEGES IN SCHEMA b GRANT SELECT ON TABLES TO r", "is about b", "schema a"),
        ("COMMENT ON SCHEMA b IS 'x'", "is about b", "schema a"),
        ("COMMENT ON SCHEMA a IS 'x'; COMMENT ON SCHEMA a IS 'y'", "commented on twice", "leave"),
        ("CREATE SCHEMA a", "CREATE SCHEMA cannot stand", "the file of a schema says"),
        ("SET api = internal", "the only api of a schema is stable", "SET api = stable"),
        ("SET work_men = 1", "'work_men' cannot be set", "did you mean 'work_mem'?"),
        ("SET search_path = a", "'search_path' cannot be set", "settings while building"),
        ("SET LOCAL jit = off", "must be set to one value", "SET jit = VALUE"),
        ("SET jit TO DEFAULT", "must be set to one value", "SET jit = VALUE"),
        ("SET jit = 1, 2", "must be set to one value", "SET jit = VALUE"),
        ("SET jit = on; SET jit = off", "'jit' is set twice", "leave"),
        ("GRANT USAGE ON SCHEMA", "syntax error", ""),
        ("SET jit = :y", "unknown variable 'y'", "known variables: x"),
        ('COMMENT ON SCHEMA U&"\\0061" IS NULL', "written with escapes", "plainly"),
    ],
)
def test_what_the_file_of_a_schema_may_not_say(text: str, message: str, hint: str) -> None:
    """What is about something else, or cannot be set, is told once, with what to write."""
    schema, (problem,) = compiled(text)
    assert schema is None
    assert message in problem.message
    assert hint in (problem.hint or "")


def test_metadata_of_a_schema_is_hashed() -> None:
    """Owner, grants, privileges and the comment move the hash; layout, order and settings do not."""
    hashes = [
        read(text).metadata_hash
        for text in (
            "GRANT USAGE ON SCHEMA a TO r; GRANT CREATE ON SCHEMA a TO r",
            "grant create on schema A to r; -- x\ngrant usage on schema a to r; SET jit = off",
            "GRANT USAGE ON SCHEMA a TO r",
            "ALTER SCHEMA a OWNER TO r",
            "COMMENT ON SCHEMA a IS 'x'",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA a GRANT SELECT ON TABLES TO r",
            "",
        )
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 6
    assert hashes[-1] == ""
