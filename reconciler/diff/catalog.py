"""Compares the catalog of the base line with the live one and names each difference; pure.

Details are for people and for logs: they name attributes, and show a value only where it cannot be a secret.
Texts of functions, views and policies, defaults, comments and options of foreign tables are never shown.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler.catalog.model import CatalogObject, ObjectKind
from reconciler.diff.grants import describe_grants
from reconciler.diff.model import Action, Drift

_Attributes = Mapping[str, Any]

# Kinds that hang on a table or view by the attribute `table`: they come and go with it.
_PARENTS = (ObjectKind.TABLE, ObjectKind.FOREIGN_TABLE, ObjectKind.VIEW, ObjectKind.MATERIALIZED_VIEW)

# Definitions short and plain enough to be shown; any other text may hold what is nobody else's business.
_SHOWN_DEFINITIONS = (ObjectKind.INDEX, ObjectKind.CONSTRAINT)
_TEXT_CHARACTERS_MAX = 200
_DETAILS_MAX = 50
_HIDDEN = frozenset(
    {
        "definition",
        "default",
        "expression",
        "comment",
        "using",
        "check",
        "where",
        "arguments",
        "details",
        "base",
        "range",
    }
)


def compare(
    base: Mapping[str, CatalogObject], live: Mapping[str, CatalogObject], component: str
) -> tuple[Drift, ...]:
    """Say which objects were added, removed and changed since the base line, by identity.

    What came or went with its table is counted with it and not listed.
    """
    added = {key: live[key] for key in live.keys() - base.keys()}
    removed = {key: base[key] for key in base.keys() - live.keys()}
    rows = [
        Drift(component=component, identity=key, action=action, detail=detail)
        for action, objects in ((Action.ADDED, added), (Action.REMOVED, removed))
        for key, detail in _rolled_up(objects, action)
    ]
    changed = (key for key in base.keys() & live.keys() if base[key].fingerprint != live[key].fingerprint)
    rows += [
        Drift(
            component=component,
            identity=key,
            action=Action.CHANGED,
            detail=describe_change(base[key], live[key]),
        )
        for key in changed
    ]
    return tuple(sorted(rows, key=lambda row: (row.identity, row.action.value)))


def _rolled_up(objects: Mapping[str, CatalogObject], action: Action) -> Iterable[tuple[str, str]]:
    parents = {found.name for found in objects.values() if found.kind in _PARENTS}
    with_parent: defaultdict[str, Counter[str]] = defaultdict(Counter)
    own: list[tuple[str, CatalogObject, _Attributes]] = []
    for key, found in objects.items():
        attributes = _attributes(found)
        parent = attributes.get("table")
        if found.kind not in _PARENTS and isinstance(parent, str) and parent in parents:
            with_parent[parent][found.kind.value] += 1
        else:
            own.append((key, found, attributes))
    start = "was not there" if action is Action.ADDED else "is gone"
    for key, found, attributes in own:
        companions = with_parent[found.name] if found.kind in _PARENTS else Counter[str]()
        yield key, start + _companions(companions) + _shown(found, attributes)


def _companions(counts: Counter[str]) -> str:
    if not counts:
        return ""
    return ", with " + ", ".join(_count(number, word) for word, number in sorted(counts.items()))


def _count(number: int, word: str) -> str:
    if number == 1:
        return f"1 {word}"
    plural = {"index": "indexes", "policy": "policies"}.get(word, f"{word}s")
    return f"{number} {plural}"


def _shown(found: CatalogObject, attributes: _Attributes) -> str:
    definition = attributes.get("definition")
    if found.kind not in _SHOWN_DEFINITIONS or not isinstance(definition, str):
        return ""
    return f": {_bounded(definition)}"


def describe_change(base: CatalogObject, live: CatalogObject) -> str:
    """Say attribute by attribute how two definitions of one object differ."""
    before, after = _attributes(base), _attributes(live)
    details = _differences(
        before, after, _HIDDEN - {"definition"} if live.kind in _SHOWN_DEFINITIONS else _HIDDEN
    )
    if len(details) > _DETAILS_MAX:
        details = [*details[:_DETAILS_MAX], f"and {len(details) - _DETAILS_MAX} more"]
    return "; ".join(details) or "definition differs"


def _differences(before: _Attributes, after: _Attributes, hidden: frozenset[str]) -> list[str]:
    details: list[str] = []
    for key in _ordered(before, after):
        if before.get(key) != after.get(key) and key not in ("grants", "revoked"):
            details += _attribute(key, before.get(key), after.get(key), hidden)
    return details + describe_grants(before, after)


def _attribute(key: str, before: object, after: object, hidden: frozenset[str]) -> list[str]:
    if key in _BY_NAME:
        return _named_parts(_BY_NAME[key], before, after)
    if key in _LISTS:
        return _list_items(_LISTS[key], before, after)
    word = key.replace("_", " ")
    if key in hidden:
        return [_hidden(word, before, after)]
    return [_plain(word, before, after)]


_BY_NAME = {"columns": "column", "attributes": "attribute", "constraints": "constraint", "tables": "table"}
_LISTS: Mapping[str, tuple[str, bool]] = {
    # The word for one item, and whether its value may be shown.
    "options": ("option", True),
    "fdw_options": ("foreign option", False),
    "settings": ("setting", False),
    "labels": ("label", True),
    "inherits": ("parent", True),
    "roles": ("role", True),
    "publish": ("operation", True),
    "schemas": ("schema", True),
    "tags": ("tag", True),
}


def _named_parts(word: str, before: object, after: object) -> list[str]:
    """Compare two lists of attributes that have names: the columns of a table, say."""
    old, new = _by_name(before), _by_name(after)
    if old is None or new is None:
        return [f"{word}s differ"]
    details = []
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            details.append(f"{word} {name} removed")
        elif name not in old:
            kind = new[name].get("type")
            details.append(f"{word} {name} added" + (f": {kind}" if isinstance(kind, str) else ""))
        else:
            parts = _differences(old[name], new[name], _HIDDEN)
            details += [f"{word} {name} {detail}" for detail in parts]
    stayed = [name for name in new if name in old]
    if stayed != [name for name in old if name in new]:
        details.append(f"order of {word}s differs")
    return details or [f"{word}s differ"]


def _list_items(word_and_shown: tuple[str, bool], before: object, after: object) -> list[str]:
    word, shown = word_and_shown
    old, new = _texts(before), _texts(after)
    gone = [item for item in old if item not in new]
    come = [item for item in new if item not in old]
    if not shown:
        names_gone = {_option_name(item) for item in gone}
        names_come = {_option_name(item) for item in come}
        details = [f"{word} {name} removed" for name in sorted(names_gone - names_come)]
        details += [f"{word} {name} added" for name in sorted(names_come - names_gone)]
        details += [f"{word} {name} differs" for name in sorted(names_come & names_gone)]
    else:
        details = [f"{word} {_bounded(item)} removed" for item in gone]
        details += [f"{word} {_bounded(item)} added" for item in come]
    return details or [f"order of {word}s differs"]


def _option_name(item: str) -> str:
    return _bounded(item.split("=", 1)[0])


def _hidden(word: str, before: object, after: object) -> str:
    if before is None:
        return f"{word} added"
    return f"{word} removed" if after is None else f"{word} differs"


def _plain(word: str, before: object, after: object) -> str:
    if before is None:
        return f"{word} added" if after is True else f"{word} is now {_value(after)}"
    if after is None:
        return f"{word} removed" if before is True else f"{word} is no longer {_value(before)}"
    return f"{word} was {_value(before)}, is {_value(after)}"


def _value(value: object) -> str:
    return _bounded(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _bounded(text: str) -> str:
    if len(text) <= _TEXT_CHARACTERS_MAX:
        return text
    return text[: _TEXT_CHARACTERS_MAX - 1] + "…"


def _attributes(found: CatalogObject) -> _Attributes:
    """Decode a definition; one that is no JSON object (a record from elsewhere) has no attributes."""
    try:
        decoded = json.loads(found.definition)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _by_name(items: object) -> dict[str, _Attributes] | None:
    if items is None:
        return {}
    if not isinstance(items, list) or not all(isinstance(i, dict) and "name" in i for i in items):
        return None
    return {str(item["name"]): item for item in items}


def _texts(items: object) -> Sequence[str]:
    return [str(item) for item in items] if isinstance(items, list) else []


def _ordered(before: _Attributes, after: _Attributes) -> list[str]:
    return [*before, *(key for key in after if key not in before)]
