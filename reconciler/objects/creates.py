"""The CREATE statements of object files: what each makes, and what it may not say."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reconciler.catalog import sql_lexer
from reconciler.catalog.sql_text import Tree
from reconciler.frozen import frozen
from reconciler.objects import bodies
from reconciler.objects.drafts import Draft
from reconciler.objects.model import ObjectSort
from reconciler.objects.reading import Reading, range_parts, strings, words_until

_SWITCHES = frozenset({"security_barrier", "security_invoker", "autovacuum_enabled", "vacuum_truncate"})
_TRUE = frozenset({"on", "true", "yes", "1", ""})
_FALSE = frozenset({"off", "false", "no", "0"})


@frozen
class Created:
    """What a CREATE makes: its sort, the statement, its options, and what tells overloads apart."""

    sort: ObjectSort
    draft: Draft
    options: Mapping[str, str]
    signature: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()


def sort_of(tree: Tree) -> ObjectSort | None:
    """Return what a statement makes of the sorts that object files may hold; None for any other."""
    match tree.node:
        case "ViewStmt":
            return ObjectSort.VIEW
        case "CreateTableAsStmt" if tree.body.get("objtype") == "OBJECT_MATVIEW":
            return ObjectSort.MATERIALIZED_VIEW
        case "CreateFunctionStmt":
            return ObjectSort.PROCEDURE if tree.body.get("is_procedure") else ObjectSort.FUNCTION
        case _:
            return None


def read(reading: Reading, tree: Tree, sort: ObjectSort) -> Created | None:
    """Read a CREATE; None and findings where it cannot be used."""
    match sort:
        case ObjectSort.VIEW:
            return _view(reading, tree, tree.body["view"], tree.body.get("options"), sort)
        case ObjectSort.MATERIALIZED_VIEW:
            into = tree.body["into"]
            if into.get("skipData"):
                hint = "leave WITH NO DATA out: a materialized view is filled before anybody reads it"
                reading.wrong(tree.start, "a materialized view cannot stay empty", hint)
            if tree.body.get("if_not_exists"):
                hint = "leave IF NOT EXISTS out: what is there is known"
                reading.wrong(tree.start, "IF NOT EXISTS could leave another definition in place", hint)
            return _view(reading, tree, into["rel"], into.get("options"), sort)
        case _:
            return _routine(reading, tree, sort)


def _view(reading: Reading, tree: Tree, relation: Any, options: Any, sort: ObjectSort) -> Created | None:
    start = tree.places.character(relation["location"])
    if relation.get("relpersistence") != "p":
        what = "temporary" if relation.get("relpersistence") == "t" else "unlogged"
        reading.wrong(tree.start, f"an object of a project cannot be {what}", "leave the word out")
    own = reading.own(tree, range_parts(relation), start, sort)
    if own is None:
        return None
    draft = reading.draft(tree, own, tree.body["query"])
    head_end = own.end
    unhashed = [*_or_replace(tree, draft.text)]
    if options and (place := _options_place(draft.text, head_end)) is not None:
        unhashed.append(place)
    return Created(sort=sort, draft=replace(draft, unhashed=tuple(unhashed)), options=_options(options))


def _routine(reading: Reading, tree: Tree, sort: ObjectSort) -> Created | None:
    start = bodies.name_start(reading, tree)
    own = reading.own(tree, strings(tree.body["funcname"]), start, sort)
    if own is None:
        return None
    draft = reading.draft(tree, own, {key: item for key, item in tree.body.items() if key != "funcname"})
    read_body = bodies.read(reading, tree)
    if read_body is not None:
        every = sorted((*draft.references, *read_body.references), key=lambda each: each.start)
        draft = replace(draft, references=tuple(every), body=read_body.body)
    return Created(
        sort=sort,
        draft=replace(draft, unhashed=_or_replace(tree, draft.text)),
        options={},
        signature=bodies.argument_types(tree.body),
        words=read_body.words if read_body else frozenset(),
    )


def _or_replace(tree: Tree, text: str) -> tuple[tuple[int, int], ...]:
    """Return where OR REPLACE stands: making an object and replacing it are the same here."""
    if not tree.body.get("replace"):
        return ()
    create = sql_lexer.next_token(text, 0)
    start = sql_lexer.next_token(text, create.end) if create else None
    end = sql_lexer.next_token(text, start.end) if start else None
    return ((start.start, end.end),) if start and end else ()


def _options_place(text: str, start: int) -> tuple[int, int] | None:
    """Return where `WITH (…)` stands between the name of a view and its query."""
    end = words_until(text, start, "with")
    opening = None if end is None else sql_lexer.next_token(text, end)
    if end is None or opening is None:
        return None
    depth, position = 0, opening.start
    while (token := sql_lexer.next_token(text, position)) is not None:
        position = token.end
        mark = text[token.start : token.end]
        depth += (mark == "(") - (mark == ")")
        if depth == 0:
            break
    return end - len("with"), position


def _options(items: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items or ():
        option = item["DefElem"]
        space = option.get("defnamespace")
        name = f"{space}.{option['defname']}" if space else str(option["defname"])
        found[name] = _option_value(str(option["defname"]), _plain(option.get("arg") or {}))
    return dict(sorted(found.items()))


def _option_value(name: str, value: str) -> str:
    if name in _SWITCHES and value.lower() in _TRUE:
        return "true"
    return "false" if name in _SWITCHES and value.lower() in _FALSE else value


def _plain(argument: Mapping[str, Any]) -> str:
    """Return the value of an option as it is written, without quotes."""
    for sort, key in (("String", "sval"), ("Integer", "ival"), ("Float", "fval"), ("Boolean", "boolval")):
        if sort in argument:
            value = argument[sort].get(key, 0 if key == "ival" else key == "sval" and "")
            return str(value).lower() if isinstance(value, bool) else str(value)
    return ".".join(strings(argument.get("TypeName", {}).get("names")))
