"""Texts of objects as they are sent: names put where the objects stand, nothing else of a text is touched.

There is no printer of trees here: what is put in another place is spliced at the mentions of a text, so that
layout and comments of the author stay. It sends nothing.
"""

from collections.abc import Callable, Iterable, Mapping

from reconciler.catalog import sql_lexer
from reconciler.catalog.identifier import quote_identifier, quote_literal, quote_qualified
from reconciler.catalog.sql_lexer import TokenKind
from reconciler.errors import Refused
from reconciler.frozen import frozen
from reconciler.objects.generation import Placement
from reconciler.objects.model import Mention, ObjectName, ObjectSort, SqlObject, SqlSchema, SqlStatement
from reconciler.objects.stable import IN_PLACE, ObjectAction

Edit = tuple[int, int, str]
"""From where to where, and what stands there instead."""

SchemaOf = Callable[[ObjectName], str]
"""The schema in which a text is to find an object."""

_CHECK = "check_option"
_ESCAPED = frozenset("'\\$")


@frozen
class StagedTexts:
    """What makes one object in a staging schema, in this order: `fill` is for materialized views alone.

    These are made without rows and filled behind that, for a transaction that began before would else find
    none of them. What is only tried has no `metadata` and no `indexes`.
    """

    name: ObjectName
    sort: ObjectSort
    schema: str
    creates: tuple[str, ...]
    fill: str | None = None
    indexes: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()


@frozen
class SchemaTexts:
    """What makes a staging schema, in this order; `owner` comes last, when all in it is made.

    `settings` are for the transactions that make its objects.
    """

    creates: tuple[str, ...]
    settings: tuple[str, ...] = ()
    owner: str | None = None


def live_text(statement: SqlStatement) -> str:
    """Return a statement with every mention as a qualified name of what is live."""
    return _edited(statement.text, _names(statement, _live))


def staged(wanted: SqlObject, placement: Placement) -> StagedTexts:
    """Return the texts of an object that is made in a staging schema."""

    def schema_of(target: ObjectName) -> str:
        return placement.schema_of(target, wanted)

    schema = schema_of(wanted.name)
    creates = tuple(_created(wanted, statement, schema_of) for statement in wanted.creates)
    tried = placement.works[wanted.name].action in IN_PLACE
    return StagedTexts(
        name=wanted.name,
        sort=wanted.sort,
        schema=schema,
        creates=creates,
        fill=_refresh(schema, wanted),
        indexes=() if tried else tuple(rewritten(one.statement, schema_of) for one in wanted.indexes),
        metadata=() if tried else _metadata(wanted, schema_of),
    )


def in_switch(wanted: SqlObject, action: ObjectAction) -> tuple[str, ...]:
    """Return what makes an object under its live name while the switch is made, once all is renamed.

    What is replaced keeps its grants and comments, and so does what was staged with them; what is added there
    has none yet.
    """
    creates = tuple(
        _edited(statement.text, [*_or_replace(statement.text), *_names(statement, _live)])
        for statement in wanted.creates
    )
    return (*creates, *live_metadata(wanted)) if action is ObjectAction.ADD else creates


def live_metadata(wanted: SqlObject) -> tuple[str, ...]:
    """Return the grants and comments of a live object."""
    return _metadata(wanted, _live)


def live_options(wanted: SqlObject) -> Mapping[str, str]:
    """Return all options that a live view or materialized view is to have, as the catalog keeps them."""
    if wanted.sort.is_routine or not _is_checked(wanted):
        return wanted.options
    text = wanted.creates[0].text
    words = [text[token.start : token.end].lower() for token in sql_lexer.tokens(text)]
    return {**wanted.options, _CHECK: "local" if words[-3] == "local" else "cascaded"}


def option_texts(wanted: SqlObject, live: Mapping[str, str]) -> tuple[str, ...]:
    """Return what gives a live view the options of its file; `live` are those that the catalog has."""
    if wanted.sort.is_routine:
        return ()
    kept = {**wanted.options, **({_CHECK: live[_CHECK]} if _CHECK in live and _is_checked(wanted) else {})}
    sets = ", ".join(
        f"{_option(name)} = {quote_literal(value)}"
        for name, value in sorted(kept.items())
        if live.get(name) != value
    )
    resets = ", ".join(_option(name) for name in sorted(live) if name not in kept)
    altering = f"ALTER {wanted.sort.value.upper()} {quote_qualified(wanted.name.schema, wanted.name.name)}"
    return (
        *([f"{altering} SET ({sets})"] if sets else []),
        *([f"{altering} RESET ({resets})"] if resets else []),
    )


def schema_texts(schema: SqlSchema, staging: str) -> SchemaTexts:
    """Return what makes a schema under another name, with all that its file says of it.

    Default privileges come first: they are for what is made behind them.
    """
    said = (*schema.default_privileges, *schema.grants, *([schema.comment] if schema.comment else []))
    return SchemaTexts(
        creates=(
            f"CREATE SCHEMA {quote_identifier(staging)}",
            *(rewritten(statement, lambda _: staging) for statement in said),
        ),
        settings=tuple(
            f"SET LOCAL {quote_identifier(name)} = {quote_literal(value)}" for name, value in schema.settings
        ),
        owner=_owner(staging, schema.owner),
    )


def live_schema_metadata(schema: SqlSchema) -> tuple[str, ...]:
    """Return what the file of a live schema says of it, as it stands there."""
    said = (*schema.default_privileges, *schema.grants, *([schema.comment] if schema.comment else []))
    owner = _owner(schema.name, schema.owner)
    return (*(statement.text for statement in said), *([owner] if owner else []))


def rewritten(statement: SqlStatement, schema_of: SchemaOf) -> str:
    """Return a statement with every mention qualified by the schema that is given for its target."""
    return _edited(statement.text, _names(statement, schema_of))


def renamed(statement: SqlStatement, names: Mapping[ObjectName, ObjectName]) -> str:
    """Return a statement in which objects stand under other names; the rest is qualified with live ones."""
    mentions = (*statement.mentions, *statement.outside)
    text = statement.text
    return _edited(text, (_edit(text, one, names.get(one.target, one.target)) for one in mentions))


def _option(name: str) -> str:
    return quote_qualified(*name.split("."))


def _is_checked(wanted: SqlObject) -> bool:
    """Whether the text says `WITH CHECK OPTION`, which the catalog keeps among the options."""
    text = wanted.creates[0].text
    last = [text[token.start : token.end].lower() for token in sql_lexer.tokens(text)][-2:]
    return last == ["check", "option"]


def _live(target: ObjectName) -> str:
    return target.schema


def _names(statement: SqlStatement, schema_of: SchemaOf) -> list[Edit]:
    edits = []
    for mention in statement.mentions:
        target = ObjectName(schema_of(mention.target), mention.target.name)
        edits.append(_edit(statement.text, mention, target))
    return [*edits, *(_edit(statement.text, mention, mention.target) for mention in statement.outside)]


def _edit(text: str, mention: Mention, target: ObjectName) -> Edit:
    if not target.name:
        written = quote_identifier(target.schema)
    else:
        written = quote_qualified(target.schema, mention.index or target.name)
    return (mention.start, mention.end, _within(text, mention, written))


def _within(text: str, mention: Mention, written: str) -> str:
    """Write a name as it has to stand in its text, which may be inside of quotes there."""
    if _ESCAPED.isdisjoint(written):
        return written
    around = next(
        (token for token in sql_lexer.tokens(text) if token.start <= mention.start < token.end), None
    )
    if around is None or around.kind is not TokenKind.STRING:
        return written
    opening = text[around.start]
    if opening == "$":
        tag = text[around.start : text.index("$", around.start + 1) + 1]
        if tag in written:
            raise Refused(
                f"the name {written} cannot stand in a text that is quoted with {tag}",
                hint="quote the body of the routine with another tag, such as $body$",
            )
        return written
    doubled = written.replace("'", "''")
    return doubled.replace("\\", "\\\\") if opening in "eE" else doubled


def _edited(text: str, edits: Iterable[Edit]) -> str:
    parts, at = list[str](), 0
    for start, end, written in sorted(edits):
        parts += (text[at:start], written)
        at = end
    return "".join((*parts, text[at:]))


def _created(wanted: SqlObject, statement: SqlStatement, schema_of: SchemaOf) -> str:
    edits = _names(statement, schema_of)
    if wanted.sort is not ObjectSort.MATERIALIZED_VIEW:
        return _edited(statement.text, edits)
    return _edited(statement.text, [*edits, _without_rows(statement.text)])


def _without_rows(text: str) -> Edit:
    """Let a materialized view be made without rows, whether or not its text says `WITH DATA`."""
    last = list(sql_lexer.tokens(text))[-2:]
    if [text[token.start : token.end].lower() for token in last] == ["with", "data"]:
        return (last[1].start, last[1].start, "NO ")
    # on a line of its own, for the text may end in a comment
    return (len(text), len(text), "\nWITH NO DATA")


def _or_replace(text: str) -> list[Edit]:
    tokens = sql_lexer.tokens(text)
    first, second = next(tokens), next(tokens)
    if text[second.start : second.end].lower() == "or":
        return []
    return [(first.end, first.end, " OR REPLACE")]


def _refresh(schema: str, wanted: SqlObject) -> str | None:
    if wanted.sort is not ObjectSort.MATERIALIZED_VIEW:
        return None
    return f"REFRESH MATERIALIZED VIEW {quote_qualified(schema, wanted.name.name)}"


def _metadata(wanted: SqlObject, schema_of: SchemaOf) -> tuple[str, ...]:
    said = (*wanted.grants, *wanted.comments)
    return tuple(rewritten(statement, schema_of) for statement in said)


def _owner(schema: str, owner: str | None) -> str | None:
    return f"ALTER SCHEMA {quote_identifier(schema)} OWNER TO {quote_identifier(owner)}" if owner else None
