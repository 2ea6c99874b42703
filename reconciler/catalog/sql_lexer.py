"""Cut SQL text into tokens as PostgreSQL does, also where it does not parse; it never judges the SQL itself.

Used where the parser cannot be: to look into the text of a body, and to bound how deep a tree may become
before the text is given to the parser.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

# Letters of names by what they are not: a range up to the last character takes milliseconds to compile.
_START = r"[^\x00-@\[-^`{-\x7f]"
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\n\r\f\v]++)
    | (?P<line_comment>--[^\n]*+)
    | (?P<block_comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]++|\\.|'')*+'?)
    | (?P<string>'[^']*+'?)
    | (?P<quoted>"[^"]*+"?)
    | (?P<dollar>\$(?:{_START}[^\x00-/:-@\[-^`{{-\x7f]*+)?\$)
    | (?P<word>{_START}[^\x00-#%-/:-@\[-^`{{-\x7f]*+)
    | (?P<number>\$?[0-9][A-Za-z0-9_.]*+)
    | (?P<cast>::)
    | (?P<operator>(?:(?!--|/\*)[-+*/<>=~!@#%^&|`?])+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_SET_OPERATIONS = frozenset({"union", "intersect", "except"})
_CHAINING_WORDS = frozenset({"at", "collate", "is", "isnull", "join", "notnull", "operator"})


class TokenKind(StrEnum):
    """What a token is; comments and blanks are none."""

    STRING = "string"
    QUOTED = "quoted"
    WORD = "word"
    NUMBER = "number"
    OPERATOR = "operator"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Token:
    """One token and where it stands, in characters."""

    kind: TokenKind
    start: int
    end: int


_KINDS = {
    "escaped": TokenKind.STRING,
    "string": TokenKind.STRING,
    "quoted": TokenKind.QUOTED,
    "word": TokenKind.WORD,
    "number": TokenKind.NUMBER,
    "cast": TokenKind.OPERATOR,
    "operator": TokenKind.OPERATOR,
    "other": TokenKind.OTHER,
}


def next_token(text: str, position: int) -> Token | None:
    """Return the first token at or after a position; what is not closed reaches to the end of the text."""
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # `other` takes any character
        group = match.lastgroup or "other"
        position = match.end()
        if group in ("space", "line_comment"):
            continue
        if group == "block_comment":
            position = _end_of_block_comment(text, position)
            continue
        if group == "dollar":
            closing = text.find(match.group(), position)
            end = closing + len(match.group()) if closing >= 0 else len(text)
            return Token(TokenKind.STRING, match.start(), end)
        return Token(_KINDS[group], match.start(), position)
    return None


def tokens(text: str) -> Iterator[Token]:
    """Yield all tokens in order."""
    token = next_token(text, 0)
    while token is not None:
        yield token
        token = next_token(text, token.end)


def _end_of_block_comment(text: str, position: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position


def longest_chain(text: str) -> int:
    """Return a bound of how deep left-recursive syntax (`1 + 1 + …`, `… union …`) nests in a text.

    Items of a comma list do not nest in one another, so a comma starts anew; set operations span commas.
    """
    levels: list[list[int]] = [[0, 0]]
    depth = deepest = 0
    for token in tokens(text):
        level = levels[-1]
        if token.kind is TokenKind.OTHER:
            character = text[token.start]
            if character in "([":
                levels.append([0, 0])
            elif character in ")]" and len(levels) > 1:
                depth -= sum(levels.pop())
            elif character == ",":
                depth -= level[0]
                level[0] = 0
            elif character == ";":
                levels, depth = [[0, 0]], 0
            continue
        if token.kind is TokenKind.WORD:
            word = text[token.start : token.end].lower()
            slot = 1 if word in _SET_OPERATIONS else 0 if word in _CHAINING_WORDS else None
        else:
            slot = 0 if token.kind is TokenKind.OPERATOR else None
        if slot is not None:
            level[slot] += 1
            depth += 1
            deepest = max(deepest, depth)
    return deepest
