"""Laws of comparing two catalogs."""

import json

from hypothesis import given
from hypothesis import strategies as st

from reconciler.catalog.fingerprint import fingerprint
from reconciler.catalog.model import CatalogObject, ObjectKind
from reconciler.diff.catalog import compare
from reconciler.diff.model import Action

SECRET = "planted-secret"
names = st.text(st.sampled_from("ab\"'\n=/*., é表"), min_size=1, max_size=8)
scalars = st.one_of(st.booleans(), st.integers(), st.text(max_size=10))
privileges = st.builds("{}={}/{}".format, names, st.sampled_from(["r", "rw", "r*w", "X", ""]), names)
columns = st.lists(
    st.fixed_dictionaries(
        {"name": names, "type": st.sampled_from(["integer", "text"])},
        optional={
            "not_null": st.just(value=True),
            "default": st.just(SECRET),
            "grants": st.lists(privileges),
        },
    ),
    max_size=4,
    unique_by=lambda column: column["name"],
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "owner": names,
        "table": st.sampled_from(["s.a", "s.b"]),
        "columns": columns,
        "grants": st.lists(privileges, max_size=3),
        "revoked": st.lists(privileges, max_size=3),
        "options": st.lists(names, max_size=3),
        "settings": st.lists(names.map(lambda name: f"{name}={SECRET}"), max_size=3),
        "comment": st.just(SECRET) | st.just(f"{SECRET}2"),
        "using": st.just(SECRET),
        "increment": scalars,
    },
)


def build(kind: ObjectKind, name: str, found: dict[str, object]) -> CatalogObject:
    definition = json.dumps(found)
    return CatalogObject(kind, name, definition, fingerprint(definition))


objects = st.builds(build, st.sampled_from(ObjectKind), st.sampled_from(["s.a", "s.b", "s.c"]), attributes)
catalogs = st.lists(objects, max_size=12).map(lambda rows: {row.identity: row for row in rows})


@given(catalogs)
def test_nothing_drifts_from_itself(base: dict[str, CatalogObject]) -> None:
    """A catalog never drifts from itself."""
    assert compare(base, dict(reversed(base.items())), "db") == ()


@given(catalogs, catalogs)
def test_every_difference_is_told_once(
    base: dict[str, CatalogObject], live: dict[str, CatalogObject]
) -> None:
    """Each changed object is one row, and what was added or removed is a row or counted with its table."""
    rows = compare(base, live, "db")
    identities = [row.identity for row in rows]
    assert identities == sorted(set(identities))
    assert all(row.detail for row in rows)
    differing = {key for key in base.keys() | live.keys() if base.get(key) != live.get(key)}
    assert set(identities) <= differing
    for key in differing - set(identities):
        found = base.get(key) or live[key]
        assert (key in base) != (key in live)
        assert "table" in json.loads(found.definition)
    assert {row.identity for row in rows if row.action is Action.CHANGED} == {
        key for key in base.keys() & live.keys() if base[key] != live[key]
    }


@given(catalogs, catalogs)
def test_order_of_objects_does_not_matter(
    base: dict[str, CatalogObject], live: dict[str, CatalogObject]
) -> None:
    """The same two catalogs give the same rows in the same order."""
    assert compare(base, live, "db") == compare(
        dict(reversed(base.items())), dict(reversed(live.items())), "db"
    )


@given(catalogs, catalogs)
def test_looking_back_swaps_added_and_removed(
    base: dict[str, CatalogObject], live: dict[str, CatalogObject]
) -> None:
    """What was added one way was removed the other way."""
    opposite = {
        Action.ADDED: Action.REMOVED,
        Action.REMOVED: Action.ADDED,
        Action.CHANGED: Action.CHANGED,
    }
    there = {(row.identity, row.action) for row in compare(base, live, "db")}
    back = {(row.identity, opposite[row.action]) for row in compare(live, base, "db")}
    assert there == back


@given(catalogs, catalogs)
def test_no_hidden_text_is_shown(base: dict[str, CatalogObject], live: dict[str, CatalogObject]) -> None:
    """Defaults, comments, expressions and values of settings are in no detail."""
    assert SECRET not in repr(compare(base, live, "db"))
