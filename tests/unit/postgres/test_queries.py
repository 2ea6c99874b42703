"""Named queries are read from files and looked up by name."""

import pytest

from reconciler.postgres.queries import Queries, split


def test_queries_of_a_package_are_found_by_name() -> None:
    """A package's queries are loaded once, from wherever it is installed."""
    queries = Queries.load("reconciler.postgres")
    assert "try_lock" in queries
    assert "pg_try_advisory_lock" in queries["try_lock"].as_string()
    assert Queries.load("reconciler.postgres") is queries


def test_unknown_name_is_an_error() -> None:
    """A name without a query says of which package."""
    with pytest.raises(LookupError, match=r"'reconciler\.postgres' has no query named 'nothing'"):
        Queries.load("reconciler.postgres")["nothing"]


def test_statement_is_what_stands_below_the_comment() -> None:
    """The sentence below the header and the last semicolon are not sent."""
    text = (
        "-- a file\n\n-- name: one_thing :one\n-- Why.\nSELECT 1;\n\n-- name: other :exec\n-- x\nSELECT 2\n"
    )
    assert split(text) == [("one_thing", "SELECT 1"), ("other", "SELECT 2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1;", "before the first header"),
        ("-- name: x :one\n-- Nothing.\n", "'x' is empty"),
        ("-- name: x :on\nSELECT 1", "is not a header"),
        ("-- Name: x :one\nSELECT 1", "is not a header"),
        ("-- name: x-y :one\nSELECT 1", "is not a header"),
    ],
)
def test_malformed_file_is_an_error(text: str, message: str) -> None:
    """A header that would be taken for a comment is an error, not a lost query."""
    with pytest.raises(ValueError, match=message):
        split(text)
