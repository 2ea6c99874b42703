"""SQL text as values: statements with their places, and a hash that layout does not move.

This is the one door to PostgreSQL's parser. It never runs SQL and never changes a text.
"""

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from reconciler.catalog import libpg_query, sql_facts, sql_json, sql_lexer, sql_roles, sql_targets
from reconciler.catalog.text_cache import TextCache, text_key
from reconciler.errors import Problem, ScriptError
from reconciler.frozen import frozen

TEXT_MAX = 8 * 1024 * 1024
"""Characters of one text; a tree takes some fifty times its text in memory while it is read."""

GRAMMAR = libpg_query.GRAMMAR
"""What hashes of texts begin with; those of different versions of the grammar do not compare."""

CHAIN_MAX = 20_000
"""Operators in a row; the parser's own recursion ends a process of 8 MiB stack at three times as many."""

# two characters at least make one level, so a shorter text cannot hold a chain that long
_SURELY_SHALLOW = 2 * CHAIN_MAX
_DEPTH_READ = 40
_MESSAGE_MAX = 200
_LOCATION = b'"location":'
# what follows `mark` in a tree, where the mark is there at all; nearly all places are named `location`
_RARE_PLACES = (
    (b'"stmt_l', (b'"stmt_location":', b'"stmt_len":')),
    (b'list_start":', (b'"list_start":', b'"list_end":', b'"rexpr_list_start":', b'"rexpr_list_end":')),
    (b'"name_location":', (b'"name_location":',)),
)
_PLACE_DIGITS = b"-0123456789"
_JSON_MARK = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]')
_STATEMENTS = b'"stmts":'
_CONTINUATION = re.compile(rb"[\x80-\xbf]")
_BLANKS = " \t\n\r\f\v"
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]*")


class SyntaxProblem(ScriptError):
    """A text is not SQL as PostgreSQL reads it; line and column are 1-based, `offset` counts from 0."""

    def __init__(self, message: str, *, line: int = 1, column: int = 1, offset: int = 0) -> None:
        self.message_alone = message
        self.line = line
        self.column = column
        self.offset = offset
        super().__init__((Problem(message=message, line=line, column=column),))


@frozen
class Statement:
    """One statement: its text without the semicolon, and where it stands in the whole text.

    `offset` counts characters from 0, `line` from 1. `kind` names it for people (`CREATE TABLE`), `node` as
    the parser does (`CreateStmt`).
    """

    text: str
    offset: int
    line: int
    kind: str
    node: str
    facts: sql_facts.Facts = sql_facts.NOTHING


class Places:
    """Characters of a text by their bytes, which the parser counts."""

    def __init__(self, text: str) -> None:
        self._continued: list[int] = []
        if not text.isascii():
            self._continued = [mark.start() for mark in _CONTINUATION.finditer(text.encode())]

    def character(self, byte: int) -> int:
        """Return the character that begins at a byte, both counted from 0."""
        return byte - bisect_left(self._continued, byte)


@frozen
class Tree:
    """One statement with its parse tree, for those who look into it.

    `start` and `end` are the characters of its first and behind its last token in the whole text; all places
    in `body` count bytes of the whole text, which `places` turns into characters.
    """

    node: str
    body: dict[str, Any]
    start: int
    end: int
    places: Places
    kind: str


_hashes: TextCache[str] = TextCache(weight_max=64 * 1024 * 1024)


def split(text: str) -> tuple[Statement, ...]:
    """Cut a text into its statements; a text that does not parse raises a `SyntaxProblem`."""
    tree = _parse(text)
    raw = text if text.isascii() else text.encode()
    return tuple(_statements(raw, _statement_trees(tree), has_delete=b'"DeleteStmt"' in tree))


def trees(text: str) -> tuple[Tree, ...]:
    """Parse a text for its whole trees, however deep; one that does not parse raises a `SyntaxProblem`."""
    places = Places(text)
    found: list[Tree] = []
    for each in sql_json.loads(_parse(text)).get("stmts") or []:
        ((node, body),) = each["stmt"].items()
        start_byte, length = each.get("stmt_location", 0), each.get("stmt_len", 0)
        start = places.character(start_byte)
        end = places.character(start_byte + length) if length else len(text)
        first = sql_lexer.next_token(text, start)
        found.append(
            Tree(
                node=node,
                body=body,
                start=first.start if first else start,
                end=_last_end(text, start, end),
                places=places,
                kind=_kind(node, body),
            )
        )
    return tuple(found)


def _last_end(text: str, start: int, end: int) -> int:
    """Return where the last token of a statement ends, which nothing but a comment need be looked for."""
    bare = text[start:end].rstrip(_BLANKS)
    if not bare.endswith("*/") and "--" not in bare[bare.rfind("\n") + 1 :]:
        return start + len(bare)
    last = position = start
    while (token := sql_lexer.next_token(text, position)) is not None and token.end <= end:
        last = position = token.end
    return last


def roles(text: str) -> sql_roles.Roles:
    """Say which roles a text names and makes; one that does not parse raises a `SyntaxProblem`."""
    return sql_roles.read(_statement_trees(_parse(text)), text)


def parse_hash(text: str) -> str:
    """Hash what a text means to the parser: layout, comments and the case of keywords do not move it.

    Strings, identifiers and bodies of functions do, as text. A text that does not parse is hashed as it
    stands. The prefix says which of the two it is; hashes of different prefixes do not compare.
    """
    key = text_key(text)
    known = _hashes.get(key)
    if known is None:
        known = _hash(text)
        _hashes.put(key, known, weight=len(known))
    return known


def _hash(text: str) -> str:
    try:
        tree = _parse(text)
    except SyntaxProblem:
        return f"text:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    statements = tree[tree.index(_STATEMENTS) :] if _STATEMENTS in tree else b""
    return f"{libpg_query.GRAMMAR}:{hashlib.sha256(_without_places(statements)).hexdigest()}"


def _without_places(tree: bytes) -> bytes:
    """Take all places out of a tree; cutting at their names is faster than any pattern is."""
    tree = _without_place(tree, _LOCATION)
    for mark, names in _RARE_PLACES:
        if mark in tree:
            for name in names:
                tree = _without_place(tree, name)
    return tree


def _without_place(tree: bytes, name: bytes) -> bytes:
    """Take out one sort of place, each with one of the commas beside it."""
    first, *rest = tree.split(name)
    parts = [first]
    for part in rest:
        behind = part.lstrip(_PLACE_DIGITS)
        if not behind.startswith(b",") and parts[-1].endswith(b","):
            parts[-1] = parts[-1][:-1]
        parts.append(behind.removeprefix(b","))
    return b"".join(parts)


def position(text: str, offset: int) -> tuple[int, int]:
    """Return the 1-based line and column of a character."""
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


def _parse(text: str) -> bytes:
    """Return the tree of a text as JSON, after making sure that parsing it is safe."""
    if len(text) > TEXT_MAX:
        raise SyntaxProblem(f"the text has {len(text)} characters, more than the limit of {TEXT_MAX}")
    nul = text.find("\0")
    if nul >= 0:
        raise _problem("a NUL character, which PostgreSQL cannot take", text, nul)
    if len(text) > _SURELY_SHALLOW and sql_lexer.longest_chain(text) > CHAIN_MAX:
        raise SyntaxProblem(f"an expression chains more than {CHAIN_MAX} operators, too deep to parse safely")
    try:
        return libpg_query.parse_json(text.encode())
    except libpg_query.ParseFailure as failure:
        raise _problem(_brief(failure.message), text, max(failure.cursor - 1, 0)) from failure
    except UnicodeEncodeError as error:
        raise _problem("a character that is not valid Unicode", text, error.start) from error


def _brief(message: str) -> str:
    """A message of the parser; behind an open quote it quotes all that is left of the text."""
    first = message.partition("\n")[0][:_MESSAGE_MAX]
    return message if first == message else f"{first}…"


def _problem(message: str, text: str, offset: int) -> SyntaxProblem:
    offset = min(offset, len(text))
    line, column = position(text, offset)
    return SyntaxProblem(message, line=line, column=column, offset=offset)


def _statement_trees(tree: bytes) -> list[dict[str, Any]]:
    """Read the JSON; a tree deeper than Python's recursion is read without its depths."""
    try:
        whole = json.loads(tree)
    except RecursionError:
        whole = json.loads(_shallow(tree))
    statements: list[dict[str, Any]] = whole.get("stmts") or []
    return statements


def _shallow(tree: bytes) -> bytes:
    """Replace what nests deeper than anyone looks by null."""
    parts: list[bytes] = []
    depth = start = 0
    for mark in _JSON_MARK.finditer(tree):
        character = mark.group()
        if character in (b"{", b"["):
            depth += 1
            if depth == _DEPTH_READ:
                parts += (tree[start : mark.start()], b"null")
        elif character in (b"}", b"]"):
            if depth == _DEPTH_READ:
                start = mark.end()
            depth -= 1
    parts.append(tree[start:])
    return b"".join(parts)


def _statements(raw: str | bytes, trees: list[dict[str, Any]], *, has_delete: bool) -> Iterator[Statement]:
    """Make the statements; places in the tree count bytes, ours count characters."""
    byte_at = offset = 0
    line = 1
    for tree in trees:
        start = tree.get("stmt_location", 0)
        length = tree.get("stmt_len", 0)
        text = _text(raw[start : start + length] if length else raw[start:])
        between = _text(raw[byte_at:start])
        offset += len(between)
        line += between.count("\n")
        ((node, body),) = tree["stmt"].items()
        stripped = text.rstrip(_BLANKS)
        facts = sql_facts.read(node, body, has_delete=has_delete)
        if facts.outside_transaction is not None:
            facts = replace(facts, target=sql_targets.read(node, body))
        yield Statement(
            text=stripped,
            offset=offset,
            line=line,
            kind=_kind(node, body),
            node=node,
            facts=facts,
        )
        byte_at = start + len(raw[start : start + length] if length else raw[start:])
        offset += len(text)
        line += text.count("\n")


def _text(raw: str | bytes) -> str:
    return raw if isinstance(raw, str) else raw.decode()


_KINDS = {
    "SelectStmt": "SELECT",
    "CreateStmt": "CREATE TABLE",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreateFunctionStmt": "CREATE FUNCTION",
    "CreateEnumStmt": "CREATE TYPE",
    "CreatedbStmt": "CREATE DATABASE",
    "CompositeTypeStmt": "CREATE TYPE",
    "DefineStmt": "CREATE",
    "DropdbStmt": "DROP DATABASE",
    "IndexStmt": "CREATE INDEX",
    "ViewStmt": "CREATE VIEW",
    "RuleStmt": "CREATE RULE",
    "RenameStmt": "ALTER … RENAME",
    "VariableSetStmt": "SET",
    "VariableShowStmt": "SHOW",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "TruncateStmt": "TRUNCATE",
    "CommentStmt": "COMMENT",
}


def _kind(node: str, body: dict[str, Any]) -> str:
    """Name a statement for people, much as PostgreSQL's command tags do."""
    if node == "DropStmt":
        kind = str(body.get("removeType", "")).removeprefix("OBJECT_")
        return "DROP " + {"MATVIEW": "MATERIALIZED VIEW"}.get(kind, kind.replace("_", " "))
    if node == "TransactionStmt":
        return sql_facts.read(node, body).transaction or "transaction control"
    if node == "GrantStmt":
        return "GRANT" if body.get("is_grant") else "REVOKE"
    return _KINDS.get(node) or " ".join(_WORDS.findall(node.removesuffix("Stmt"))).upper()
