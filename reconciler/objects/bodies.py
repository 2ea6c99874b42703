"""The bodies of routines that are strings: where they stand, and the names in them."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.catalog import sql_lexer, sql_text
from reconciler.catalog.sql_lexer import Token, TokenKind
from reconciler.catalog.sql_text import Tree
from reconciler.frozen import frozen
from reconciler.objects.drafts import Body
from reconciler.objects.mentions import Reference, references, words
from reconciler.objects.name_text import inside, part_of, whole_string
from reconciler.objects.reading import Reading, next_start

_NOT_TEXT = frozenset({"c", "internal"})
"""Languages whose string names a symbol and holds no program."""


@frozen
class ReadBody:
    """A body, the names in it by characters of the statement, and its words where no parser read it."""

    body: Body
    references: tuple[Reference, ...]
    words: frozenset[str] = frozenset()


def read(reading: Reading, tree: Tree) -> ReadBody | None:
    """Read the body of a CREATE FUNCTION; None where it has none as a string, or one that is wrong."""
    options = {each["DefElem"]["defname"]: each["DefElem"] for each in tree.body.get("options") or ()}
    if "as" not in options:
        return None
    language = str(options.get("language", {}).get("arg", {}).get("String", {}).get("sval", "")).lower()
    if language in _NOT_TEXT:
        return None
    text = reading.file.text
    token = _string(text, tree.places.character(options["as"]["location"]), tree.end)
    place = None if token is None else inside(text, token)
    if token is None or place is None:
        at = tree.start if token is None else token.start
        reading.wrong(at, "the body is written with escapes", "write it in dollar quotes: AS $$ … $$")
        return None
    doubled = text[token.start] != "$" and "''" in text[slice(*place)]
    body = Body(
        start=place[0] - tree.start,
        end=place[1] - tree.start,
        literal=(token.start - tree.start, token.end - tree.start),
        doubled=doubled,
        is_sql=language == "sql",
    )
    return _names(reading, tree, body)


def contents(text: str, body: Body) -> str:
    """Return what a body says, from the text of its statement."""
    raw = text[body.start : body.end]
    return raw.replace("''", "'") if body.doubled else raw


def _string(text: str, position: int, end: int) -> Token | None:
    """Return the string behind AS."""
    keyword = sql_lexer.next_token(text, position)
    token = None if keyword is None else sql_lexer.next_token(text, keyword.end)
    if token is None or token.end > end or token.kind is not TokenKind.STRING:
        return None
    return whole_string(text, token)


def _names(reading: Reading, tree: Tree, body: Body) -> ReadBody:
    raw = reading.file.text[tree.start + body.start : tree.start + body.end]
    value = raw.replace("''", "'") if body.doubled else raw
    raw_places = _Doubled(raw if body.doubled else "")
    if not body.is_sql:
        found: Iterable[Reference] = words(value)
        all_words = frozenset(
            part for token in sql_lexer.tokens(value) if (part := part_of(value, token)) is not None
        )
    else:
        found, all_words = (), frozenset()
        try:
            found = [each for one in sql_text.trees(value) for each in _of_tree(one, value)]
        except sql_text.SyntaxProblem as problem:
            place = tree.start + body.start + raw_places.raw(problem.offset)
            reading.wrong(place, f"in the body: {problem.message_alone}")
    placed = tuple(_placed(each, raw_places, body.start) for each in found)
    return ReadBody(body=body, references=placed, words=all_words)


def _of_tree(tree: Tree, value: str) -> tuple[Reference, ...]:
    return references(tree.body, value, tree.places)


def _placed(reference: Reference, raw_places: "_Doubled", shift: int) -> Reference:
    end = reference.end
    return Reference(
        raw_places.raw(reference.start) + shift,
        None if end is None else raw_places.raw(end - 1) + 1 + shift,
        reference.question,
        in_body=True,
    )


class _Doubled:
    """Characters of a string as it is written, by those of what it says: quotes are written twice."""

    def __init__(self, raw: str) -> None:
        self._quotes: list[int] = []
        found = raw.find("''")
        while found >= 0:
            self._quotes.append(found - len(self._quotes))
            found = raw.find("''", found + 2)

    def raw(self, offset: int) -> int:
        """Return the written character."""
        return offset + bisect_left(self._quotes, offset)


def argument_types(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types that tell overloads of a routine apart, as text that layout does not move."""
    is_procedure = bool(body.get("is_procedure"))
    parameters = [each["FunctionParameter"] for each in body.get("parameters") or ()]
    counted = ("FUNC_PARAM_OUT",) if is_procedure else ()
    told = ("FUNC_PARAM_DEFAULT", "FUNC_PARAM_IN", "FUNC_PARAM_INOUT", "FUNC_PARAM_VARIADIC", *counted)
    return tuple(type_text(each.get("argType") or {}) for each in parameters if each.get("mode") in told)


def type_text(name: Mapping[str, Any]) -> str:
    """Return a type as text, for comparing: its names, and whether it is an array."""
    names = [str(each.get("String", {}).get("sval", "")) for each in name.get("names") or ()]
    return f"{'.'.join(names)}{'[]' if name.get('arrayBounds') else ''}"


def name_start(reading: Reading, tree: Tree) -> int:
    """Return where the name of a routine begins in its CREATE; the tree has no place for it."""
    text = reading.file.text
    position = tree.start
    while (token := sql_lexer.next_token(text, position)) is not None and token.end <= tree.end:
        position = token.end
        if text[token.start : token.end].lower() in ("function", "procedure"):
            break
    return next_start(text, position)
