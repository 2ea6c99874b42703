"""Names that a parse tree uses, with their places in the text; what they mean is decided elsewhere."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from reconciler.catalog import sql_lexer
from reconciler.catalog.sql_text import Places
from reconciler.objects.name_text import end_of, inside, name_at, part_of, whole_string

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """The common table expressions of a WITH that are seen, the first `upto` of them, and those around."""

    order: Mapping[str, int]
    upto: int
    around: "Scope | None"


class Use(StrEnum):
    """How a name is used, from which follows what it may mean."""

    RELATION = "relation"
    ROUTINE = "routine"
    TYPE = "type"
    COLUMN = "column"
    """`schema.relation` before the name of a column."""
    LITERAL = "literal"
    """A relation in a string that is cast to `regclass`."""
    ROUTINE_LITERAL = "routine literal"
    TYPE_LITERAL = "type literal"
    WORDS = "words"
    """Words with a dot between in a body that no parser reads here."""


class Question(NamedTuple):
    """What has to be known of a name: its one or two parts, and how it is used."""

    parts: tuple[str, ...]
    use: Use


class Reference(NamedTuple):
    """A name in a text: `text[start:end]`; without an `end` it is written in a way that is not followed.

    There are many of these, so they are tuples, which are made in a fifth of the time.
    """

    start: int
    end: int | None
    question: Question
    in_body: bool = False


_LITERALS = {
    "regclass": Use.LITERAL,
    "regproc": Use.ROUTINE_LITERAL,
    "regprocedure": Use.ROUTINE_LITERAL,
    "regtype": Use.TYPE_LITERAL,
}
# `FOR UPDATE OF` names what stands in FROM; the rest are lists of names that are read where they are found
_NOT_ENTERED = frozenset({"withClause", "lockingClause", "fields", "funcname", "names"})
# Types of the server whose bare names never mean an object: they would else be taken for a relation's rows.
_TYPES_TEXT = """
    aclitem any anyarray anycompatible anycompatiblearray anycompatiblemultirange anycompatiblenonarray
    anycompatiblerange anyelement anyenum anymultirange anynonarray anyrange bit bool box bpchar bytea
    char cid cidr circle cstring date datemultirange daterange event_trigger fdw_handler float4 float8
    gtsvector index_am_handler inet int2 int2vector int4 int4multirange int4range int8 int8multirange
    int8range internal interval json jsonb jsonpath language_handler line lseg macaddr macaddr8 money name
    numeric nummultirange numrange oid oidvector path pg_lsn point polygon record refcursor regclass
    regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole
    regtype table_am_handler text tid time timestamp timestamptz timetz trigger tsm_handler tsmultirange
    tsquery tsrange tstzmultirange tstzrange tsvector txid_snapshot unknown uuid varbit varchar void xid
    xid8 xml
"""
_TYPES = frozenset(_TYPES_TEXT.split())


def references(tree: object, text: str, places: Places, *, shift: int = 0) -> tuple[Reference, ...]:
    """Find all names in a tree that may mean an object, in the order of the text.

    Common table expressions hide relations of their name where they are in scope, and only there. `shift`
    is the character that the references count from.
    """
    reader = _Reader(text, places, shift)
    reader.read(tree)
    return tuple(reader.found[start] for start in sorted(reader.found))


def words(text: str) -> Iterator[Reference]:
    """Find `schema.name` in a text by its tokens."""
    token = sql_lexer.next_token(text, 0)
    while token is not None:
        if part_of(text, token) is not None and (name := name_at(text, token.start)) is not None:
            if len(name.parts) >= 2:
                parts = name.parts[:2]
                end = end_of(text, name.start, parts)
                yield Reference(name.start, end, Question(parts, Use.WORDS))
            token = sql_lexer.next_token(text, name.end)
        else:
            token = sql_lexer.next_token(text, token.end)


class _Reader:
    """Walks a tree with a stack of its own, for trees may be deeper than Python's recursion."""

    def __init__(self, text: str, places: Places, shift: int) -> None:
        self._text = text
        self._shift = shift
        self._character = places.character
        self.found: dict[int, Reference] = {}

    def read(self, tree: object) -> None:
        scoped: list[tuple[Any, Scope | None]] = [(tree, None)]
        while scoped:
            self._read_scope(*scoped.pop(), scoped)

    def _read_scope(self, tree: Any, scope: Scope | None, scoped: list[tuple[Any, Scope | None]]) -> None:
        """Read what sees the same expressions, and queue what sees others. This runs once for every node."""
        pending = [tree]
        while pending:
            value = pending.pop()
            if type(value) is list:
                pending.extend(item for item in value if type(item) is dict or type(item) is list)
                continue
            if "withClause" in value:
                inside = self._enter(value["withClause"], scope, scoped)
                scoped.append(({key: item for key, item in value.items() if key != "withClause"}, inside))
                continue
            for key, item in value.items():
                if key in _LOOKED_AT:
                    _LOOKED_AT[key](self, value, scope)
                if (type(item) is dict or type(item) is list) and key not in _NOT_ENTERED:
                    pending.append(item)

    def _enter(self, clause: Node, around: Scope | None, scoped: list[tuple[Any, Scope | None]]) -> Scope:
        """Queue the expressions of a WITH, each with what it sees; return what the rest sees."""
        expressions = [each["CommonTableExpr"] for each in clause["ctes"]]
        order = {each["ctename"]: number for number, each in enumerate(expressions)}
        everything = Scope(order, len(expressions), around)
        for number, each in enumerate(expressions):
            scoped.append((each, everything if clause.get("recursive") else Scope(order, number, around)))
        return everything

    def relation(self, node: Node, scope: Scope | None) -> None:
        name = node["relname"]
        if schema := node.get("schemaname"):
            if "catalogname" not in node:
                self._add(node, (schema, name), Use.RELATION)
        elif not _sees(scope, name):
            self._add(node, (name,), Use.RELATION)

    def written(self, node: Node, _scope: Scope | None) -> None:
        """What INSERT, UPDATE, DELETE and MERGE write to is never a common table expression."""
        if "relname" in node["relation"]:
            self.relation(node["relation"], None)

    def routine(self, node: Node, _scope: Scope | None) -> None:
        if node.get("funcformat") == "COERCE_EXPLICIT_CALL":
            parts = _strings(node["funcname"])
            if len(parts) <= 2 and parts[0] != "pg_catalog":
                self._add(node, parts, Use.ROUTINE)

    def type(self, node: Node, _scope: Scope | None) -> None:
        parts = _strings(node.get("names") or ())
        if node.get("pct_type"):
            parts = parts[:-1]
        if len(parts) in (1, 2) and parts[0] != "pg_catalog" and (len(parts) == 2 or parts[0] not in _TYPES):
            self._add(node, parts, Use.TYPE)

    def column(self, node: Node, _scope: Scope | None) -> None:
        fields = node["fields"]
        if len(fields) == 3 and len(parts := _strings(fields[:2])) == 2:
            self._add(node, parts, Use.COLUMN)

    def literal(self, node: Node, _scope: Scope | None) -> None:
        constant = node["arg"].get("A_Const", {}) if "arg" in node else {}
        names = _strings(node["typeName"].get("names") or ())
        use = _LITERALS.get(names[-1]) if names and names[:-1] in ((), ("pg_catalog",)) else None
        if use is not None and "sval" in constant:
            self._add_literal(
                self._character(constant.get("location", 0)), constant["sval"].get("sval", ""), use
            )

    def _add(self, node: Node, parts: tuple[str, ...], use: Use) -> None:
        location = node.get("location", -1)
        if location >= 0:  # what the parser made up stands nowhere
            start = self._character(location)
            self._found(start, end_of(self._text, start, parts), Question(parts, use))

    def _add_literal(self, start: int, value: str, use: Use) -> None:
        name = name_at(value, 0)
        if name is None or len(name.parts) > 2:
            return
        rest = value[name.end :].lstrip()
        if rest and not (use is Use.ROUTINE_LITERAL and rest.startswith("(")):
            return
        token = sql_lexer.next_token(self._text, start)
        place = None if token is None else inside(self._text, whole_string(self._text, token))
        question = Question(name.parts, use)
        if place is None or self._text[slice(*place)] != value:
            self._found(start, None, question)
        else:
            self._found(place[0] + name.start, place[0] + name.end, question)

    def _found(self, start: int, end: int | None, question: Question) -> None:
        start -= self._shift
        self.found[start] = Reference(start, None if end is None else end - self._shift, question)


_LOOKED_AT: Mapping[str, Callable[[_Reader, Node, Scope | None], None]] = {
    "relname": _Reader.relation,
    "relation": _Reader.written,
    "funcname": _Reader.routine,
    "typemod": _Reader.type,
    "fields": _Reader.column,
    "typeName": _Reader.literal,
}


def _sees(scope: Scope | None, name: str) -> bool:
    while scope is not None:
        if scope.order.get(name, scope.upto) < scope.upto:
            return True
        scope = scope.around
    return False


def _strings(items: Collection[Node]) -> tuple[str, ...]:
    """Return the strings of a list of names, up to the first that is none."""
    found: list[str] = []
    for item in items:
        string = item.get("String")
        if string is None:
            break
        found.append(string.get("sval", ""))
    return tuple(found)
