"""Cutting SQL into tokens where the parser cannot help."""

import pytest

from reconciler.catalog import sql_lexer


def words(text: str) -> list[str]:
    """Return the text of each token."""
    return [text[token.start : token.end] for token in sql_lexer.tokens(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 'a''b', E'c\\'d'", ["SELECT", "'a'", "'b'", ",", "E'c\\'d'"]),
        ('"a""b".c', ['"a"', '"b"', ".", "c"]),
        ("$$a'b$$ $x$ $$ $x$ a$b$c", ["$$a'b$$", "$x$ $$ $x$", "a$b$c"]),
        ("a -- 'x\nb /* /* c */ d */ e", ["a", "b", "e"]),
        ("1-- x\n+ 2", ["1", "+", "2"]),
        ("a::int*/**/b", ["a", "::", "int", "*", "b"]),
        ("'open", ["'open"]),
        ("$x$ open", ["$x$ open"]),
        ("/* open", []),
        ("$1 + x", ["$1", "+", "x"]),
    ],
)
def test_tokens_are_those_of_postgresql(text: str, expected: list[str]) -> None:
    """Strings, quoted names, dollar quotes and nested comments are whole; what is open reaches to the end."""
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("SELECT 1 + 2 + 3, 4 + 5", 2),
        ("SELECT (1 + 2) + (3 + (4 + 5))", 3),
        ("SELECT 1, 2 UNION SELECT 3, 4 UNION SELECT 5, 6", 2),
        ("SELECT '1+2+3' -- + + +", 0),
        ("SELECT 1 + 1; SELECT 1 + 1", 1),
        ("SELECT a::int::text COLLATE c", 3),
        (")))) + 1", 1),
    ],
)
def test_chains_are_bounded_from_above(text: str, depth: int) -> None:
    """Operators in a row count, items of a list beside each other do not add up."""
    assert sql_lexer.longest_chain(text) == depth
