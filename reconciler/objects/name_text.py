"""Names in SQL text by their tokens: where one ends, and what one says; pure text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.catalog.identifier import truncate
from reconciler.catalog.sql_lexer import Token, TokenKind, next_token

_CAPITALS = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})
_GOES_ON = re.compile(r"[\w$]")
_SHORT = 40
"""Bytes of a name that is surely not cut, whatever its letters."""


@dataclass(frozen=True, slots=True)
class WrittenName:
    """A name of one or more parts as it stands in a text."""

    start: int
    end: int
    parts: tuple[str, ...]


def part_of(text: str, token: Token | None) -> str | None:
    """Return what a token says as a part of a name, as the catalog has it; None where it is none."""
    if token is None:
        return None
    written = text[token.start : token.end]
    if token.kind is TokenKind.WORD:
        name = written.translate(_CAPITALS)
    elif token.kind is TokenKind.QUOTED and len(written) > 2 and written.endswith('"'):
        name = written[1:-1].replace('""', '"')
    else:
        return None
    return name if len(name) <= _SHORT and name.isascii() else truncate(name)


def name_token(text: str, position: int) -> Token | None:
    """Return the first token at or after a place; a quote written twice is a part of a quoted name."""
    token = next_token(text, position)
    if token is None or token.kind is not TokenKind.QUOTED:
        return token
    end = token.end
    while text.startswith('"', end):
        following = next_token(text, end)
        assert following is not None  # there is a quote
        end = following.end
    return Token(token.kind, token.start, end)


def name_at(text: str, start: int) -> WrittenName | None:
    """Read the name that begins with the first token at or after a place."""
    token = name_token(text, start)
    part = part_of(text, token)
    if token is None or part is None:
        return None
    begin, end, parts = token.start, token.end, [part]
    while True:
        dot = next_token(text, end)
        if dot is None or text[dot.start : dot.end] != ".":
            break
        token = name_token(text, dot.end)
        part = part_of(text, token)
        if token is None or part is None:
            break
        parts.append(part)
        end = token.end
    return WrittenName(begin, end, tuple(parts))


def end_of(text: str, start: int, parts: Sequence[str]) -> int | None:
    """Return where a name of known parts ends that begins at a place; None where it is written otherwise."""
    plain = ".".join(parts)
    if text.startswith(plain, start):
        end = start + len(plain)
        if not _GOES_ON.match(text, end):
            return end
    end = start
    for number, part in enumerate(parts):
        if number:
            dot = next_token(text, end)
            if dot is None or text[dot.start : dot.end] != ".":
                return None
            end = dot.end
        token = name_token(text, end)
        if token is None or (number == 0 and token.start != start) or part_of(text, token) != part:
            return None
        end = token.end
    return end


def whole_string(text: str, token: Token) -> Token:
    """Return the string that a token begins: a quote written twice ends one token and begins the next."""
    end = token.end
    while text[token.start] == "'" and text.startswith("'", end):
        following = next_token(text, end)
        assert following is not None  # there is a quote
        end = following.end
    return Token(token.kind, token.start, end)


def inside(text: str, string: Token) -> tuple[int, int] | None:
    """Return from where to where a string's contents stand; None where escapes stand for other characters."""
    start, end = string.start, string.end
    if text[start] == "$":
        tag = text.index("$", start + 1) + 1 - start
        return start + tag, end - tag
    if text[start] in "eE" and "\\" not in text[start:end]:
        start += 1
    return (start + 1, end - 1) if text[start] == "'" else None
