"""What may stand beside a CREATE in its file: indexes, grants and comments on the object, nothing else."""

import json
from collections.abc import Mapping
from typing import Any

from reconciler.catalog import sql_lexer
from reconciler.catalog.sql_text import Tree
from reconciler.frozen import frozen
from reconciler.objects.bodies import type_text
from reconciler.objects.drafts import Draft, IndexDraft
from reconciler.objects.model import Mention, ObjectSort
from reconciler.objects.name_text import end_of
from reconciler.objects.reading import Reading, next_start, range_parts, strings, words_until
from reconciler.objects.words import shown

_COMMENTED = {
    ObjectSort.VIEW: ("OBJECT_VIEW", "VIEW"),
    ObjectSort.MATERIALIZED_VIEW: ("OBJECT_MATVIEW", "MATERIALIZED VIEW"),
    ObjectSort.FUNCTION: ("OBJECT_FUNCTION", "FUNCTION"),
    ObjectSort.PROCEDURE: ("OBJECT_PROCEDURE", "PROCEDURE"),
}


@frozen
class CommentDraft:
    """A comment, what tells it from others of its object, and the index that it is about."""

    key: str
    draft: Draft
    index: str | None = None


def index(reading: Reading, tree: Tree, sort: ObjectSort) -> IndexDraft | None:
    """Read CREATE INDEX; None and a finding where it is not one of the object."""
    relation = tree.body["relation"]
    own = reading.own(tree, range_parts(relation), tree.places.character(relation["location"]), sort)
    if own is None:
        return None
    if sort is not ObjectSort.MATERIALIZED_VIEW:
        hint = "only materialized views have indexes; those of tables belong to a Module"
        reading.wrong(tree.start, f"a {sort.value} cannot have an index", hint)
        return None
    if tree.body.get("concurrent"):
        hint = "leave CONCURRENTLY out: nobody reads the object while it is built"
        reading.wrong(tree.start, "an index cannot be made concurrently in a transaction", hint)
    if tree.body.get("if_not_exists"):
        hint = "leave IF NOT EXISTS out: what is there is known"
        reading.wrong(tree.start, "IF NOT EXISTS could leave another definition in place", hint)
    walked = [tree.body.get(key) for key in ("indexParams", "indexIncludingParams", "whereClause")]
    draft = reading.draft(tree, own, [each for each in walked if each])
    return IndexDraft(name=tree.body.get("idxname", ""), unique=bool(tree.body.get("unique")), draft=draft)


def grant(reading: Reading, tree: Tree, sort: ObjectSort) -> Draft | None:
    """Read GRANT or REVOKE; None and a finding where it is not about the object alone."""
    body, objects = tree.body, tree.body.get("objects") or []
    objtype = str(body.get("objtype"))
    wanted = _is_about(objtype, sort) if sort.is_routine else objtype == "OBJECT_TABLE"
    if body.get("targtype") != "ACL_TARGET_OBJECT" or not wanted or len(objects) != 1:
        name = f"{sort.value.upper()} {reading.name.name}" if sort.is_routine else reading.name.name
        hint = f"write GRANT … ON {name} TO …; grants on a schema are in SCHEMA.sql"
        reading.wrong(tree.start, f"{tree.kind} must be about the object of the file alone", hint)
        return None
    if sort.is_routine:
        described = objects[0]["ObjectWithArgs"]
        parts = strings(described["objname"])
        on = words_until(reading.file.text, tree.start, "on") or tree.start
        start = _behind_words(reading.file.text, on, 1)
    else:
        described = None
        parts = range_parts(objects[0]["RangeVar"])
        start = tree.places.character(objects[0]["RangeVar"]["location"])
    own = reading.own(tree, parts, start, sort)
    if own is None or _is_ambiguous(reading, tree, described):
        return None
    return reading.draft(tree, own, described)


def comment(reading: Reading, tree: Tree, sort: ObjectSort, indexes: frozenset[str]) -> CommentDraft | None:
    """Read COMMENT ON; None and a finding where it is not about the object, its columns or its indexes."""
    objtype, item = str(tree.body.get("objtype")), tree.body.get("object") or {}
    described = item.get("ObjectWithArgs")
    parts = strings(described["objname"] if described else item.get("List", {}).get("items"))
    text = reading.file.text
    start = _behind_words(text, tree.start, 4 if objtype == "OBJECT_MATVIEW" else 3)
    key = json.dumps([objtype, parts[-1:] if objtype in ("OBJECT_COLUMN", "OBJECT_INDEX") else []])
    if objtype == "OBJECT_INDEX" and sort is ObjectSort.MATERIALIZED_VIEW:
        own = _index_mention(reading, tree, parts, start, indexes)
        found = None if own is None else reading.draft(tree, own)
        return None if found is None else CommentDraft(key=key, draft=found, index=parts[-1])
    if objtype == "OBJECT_COLUMN" and not sort.is_routine and len(parts) > 1:
        parts = parts[:-1]
    elif not _is_about(objtype, sort):
        hint = f"write COMMENT ON {_COMMENTED[sort][1]} {reading.name.name} IS …"
        reading.wrong(tree.start, f"{tree.kind} must be about the {sort.value} of the file", hint)
        return None
    if described:
        key = json.dumps([type_text(each["TypeName"]) for each in described.get("objargs") or () if each])
    own = reading.own(tree, parts, start, sort)
    if own is None or _is_ambiguous(reading, tree, described):
        return None
    return CommentDraft(key=key, draft=reading.draft(tree, own, described))


def _is_ambiguous(reading: Reading, tree: Tree, described: Mapping[str, Any] | None) -> bool:
    """Find out whether a routine is named without arguments where there are several of the name."""
    if described is None or not reading.overloaded or not described.get("args_unspecified"):
        return False
    hint = f"write {reading.name.name}(TYPE, …)"
    reading.wrong(tree.start, f"{tree.kind} does not say which {shown(reading.name)} it is about", hint)
    return True


def _is_about(objtype: str, sort: ObjectSort) -> bool:
    return objtype == _COMMENTED[sort][0] or (sort.is_routine and objtype == "OBJECT_ROUTINE")


def _index_mention(
    reading: Reading, tree: Tree, parts: tuple[str, ...], start: int, indexes: frozenset[str]
) -> Mention | None:
    end = end_of(reading.file.text, start, parts)
    if parts[-1] not in indexes or parts[:-1] not in ((), (reading.name.schema,)) or end is None:
        hint = f"indexes of the file: {', '.join(sorted(indexes)) or 'none'}"
        reading.wrong(start, f"no such index '{'.'.join(parts)}' in the file", hint, end=end)
        return None
    return Mention(start=start - tree.start, end=end - tree.start, target=reading.name, index=parts[-1])


def _behind_words(text: str, start: int, count: int) -> int:
    """Return where the token begins behind a number of others."""
    position = start
    for _ in range(count):
        token = sql_lexer.next_token(text, position)
        position = len(text) if token is None else token.end
    return next_start(text, position)
