"""Put the values of variables into SQL text as psql does, and know which character came from where."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from reconciler.catalog import sql_lexer
from reconciler.catalog.identifier import quote_literal
from reconciler.catalog.sql_lexer import Token, TokenKind
from reconciler.frozen import frozen
from reconciler.objects.words import Finding, meant

# what is no variable for sure: a colon before a blank, a digit or `=`, and the second colon of a cast
_MAY_STAND = re.compile(r":(?=[^\W\d]|['\"])")
_PLAIN = re.compile(r"[^\W\d]\w*")
TEXT_MAX = 8 * 1024 * 1024
"""Characters of a file, before and after."""


@frozen
class Substituted:
    """A text with its variables replaced.

    `pieces` are where each piece of it begins, and the character of the written text that this is;
    `values` are the pieces that stand for a variable, all characters of which came from one place.
    """

    text: str
    pieces: tuple[tuple[int, int], ...] = ((0, 0),)
    values: frozenset[int] = frozenset()

    def written(self, offset: int) -> int:
        """Return the character of the written text that a character came from."""
        if len(self.pieces) == 1:
            return offset
        piece = bisect_right(self.pieces, offset, key=lambda each: each[0]) - 1
        start, came_from = self.pieces[piece]
        return came_from if piece in self.values else came_from + offset - start


def may_use(text: str) -> bool:
    """Whether a text has anything that looks like a variable; a text that has none needs no look."""
    return any(
        text[max(found.start() - 1, 0)] != ":" or not found.start() for found in _MAY_STAND.finditer(text)
    )


def names_in(text: str) -> frozenset[str]:
    """Return the names of the variables that a text uses."""
    return frozenset(name for _, _, name, _ in _uses(text)) if may_use(text) else frozenset()


def substitute(text: str, variables: Mapping[str, str]) -> tuple[Substituted, tuple[Finding, ...]]:
    """Replace `:name`, `:'name'` and `:"name"`; unknown names are findings, and stay as they are."""
    if not may_use(text):
        return Substituted(text=text), ()
    parts: list[str] = []
    pieces: list[tuple[int, int]] = []
    values: set[int] = set()
    findings: list[Finding] = []
    made = copied = 0
    for start, end, name, quoting in _uses(text):
        if name not in variables:
            findings.append(_unknown(start, end, name, quoting, variables))
            continue
        for part, came_from in (
            (text[copied:start], copied),
            (_quoted(variables[name], quoting), start),
        ):
            pieces.append((made, came_from))
            parts.append(part)
            made += len(part)
        values.add(len(pieces) - 1)
        copied = end
        if made > TEXT_MAX:
            message = f"the text has more than {TEXT_MAX} characters once variables are replaced"
            return Substituted(text=""), (Finding(offset=start, message=message),)
    pieces.append((made, copied))
    parts.append(text[copied:])
    replaced = Substituted(text="".join(parts), pieces=tuple(pieces), values=frozenset(values))
    return replaced, tuple(findings)


def _uses(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Yield where variables stand, with their names and the quote around them."""
    colon: Token | None = None
    for token in sql_lexer.tokens(text):
        if colon is not None and token.start == colon.end:
            written = text[token.start : token.end]
            if token.kind is TokenKind.WORD and (name := _PLAIN.match(written)):
                yield colon.start, token.start + name.end(), name.group(), ""
            elif written[0] in "'\"" and _PLAIN.fullmatch(written[1:-1]) and written[-1] == written[0]:
                yield colon.start, token.end, written[1:-1], written[0]
        colon = token if text[token.start : token.end] == ":" else None


def _quoted(value: str, quoting: str) -> str:
    if quoting == "'":
        return quote_literal(value)
    if quoting == '"':
        return '"' + value.replace('"', '""') + '"'
    return value


def _unknown(start: int, end: int, name: str, quoting: str, variables: Mapping[str, str]) -> Finding:
    near = meant(name, variables)
    known = (
        f"known variables: {', '.join(sorted(variables)[:12])}" if variables else "no variables are declared"
    )
    hint = near or known
    if not quoting:
        hint += "; a slice of an array is written with a blank behind the colon"
    return Finding(offset=start, end=end, message=f"unknown variable '{name}'", hint=hint)
