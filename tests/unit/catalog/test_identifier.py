"""Identifiers and literals as PostgreSQL writes them."""

import pytest

from reconciler.catalog import identifier


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("orders", "orders"),
        ("_private1", "_private1"),
        ("Orders", '"Orders"'),
        ("1st", '"1st"'),
        ("a b", '"a b"'),
        ('say "hi"', '"say ""hi"""'),
        ("a$b", '"a$b"'),
        ("café", '"café"'),
        ("", '""'),
        ("select", '"select"'),
        ("user", '"user"'),
        ("int", '"int"'),
        ("values", '"values"'),
        ("name", "name"),
        ("index", "index"),
        ("merge_action", '"merge_action"'),
        ("line\nbreak", '"line\nbreak"'),
    ],
)
def test_names_are_quoted_where_postgresql_quotes(name: str, quoted: str) -> None:
    """Quotes stand where `quote_ident` puts them, and nowhere else."""
    assert identifier.quote_identifier(name) == quoted


def test_qualified_names_are_quoted_part_by_part() -> None:
    """A dot inside a part stays inside its quotes."""
    assert identifier.quote_qualified("shop", "Order.Item") == 'shop."Order.Item"'


@pytest.mark.parametrize(
    ("text", "quoted"), [("it's", "'it''s'"), ("a\\b", "E'a\\\\b'"), ("", "''"), ("\\'", "E'\\\\'''")]
)
def test_literals_are_quoted(text: str, quoted: str) -> None:
    """A literal means the same whatever the session's settings."""
    assert identifier.quote_literal(text) == quoted


def test_long_names_are_named() -> None:
    """PostgreSQL cuts a name by bytes, so ours are counted in bytes."""
    assert identifier.why_not_a_name("é" * 31) is None
    assert identifier.why_not_a_name("é" * 32) == "PostgreSQL cuts names to 63 bytes, and this one has 64"
    assert identifier.truncate("é" * 32) == "é" * 31
    assert identifier.why_not_a_name("") == "a name cannot be empty"
    assert identifier.why_not_a_name("a\0") == "a name cannot hold a NUL character"
