"""What differs between two catalogs, in words."""

import json
from typing import Any

import pytest

from reconciler.catalog.fingerprint import fingerprint
from reconciler.catalog.model import CatalogObject, ObjectKind
from reconciler.diff.catalog import compare, describe_change
from reconciler.diff.model import Action, Drift


def item(kind: ObjectKind, name: str, **attributes: Any) -> CatalogObject:
    definition = json.dumps(attributes)
    return CatalogObject(kind, name, definition, fingerprint(definition))


def catalog(*objects: CatalogObject) -> dict[str, CatalogObject]:
    return {found.identity: found for found in objects}


def change(kind: ObjectKind, before: dict[str, Any], after: dict[str, Any]) -> str:
    return describe_change(item(kind, "x", **before), item(kind, "x", **after))


ORDERS = item(
    ObjectKind.TABLE,
    "shop.orders",
    owner="app",
    columns=[{"name": "id", "type": "bigint", "not_null": True}, {"name": "note", "type": "text"}],
)
ORDERS_INDEX = item(
    ObjectKind.INDEX,
    "shop.orders_idx",
    table="shop.orders",
    definition="CREATE INDEX orders_idx ON shop.orders USING btree (note)",
)
ORDERS_KEY = item(
    ObjectKind.CONSTRAINT, "shop.orders.orders_pkey", table="shop.orders", definition="PRIMARY KEY (id)"
)
ORDERS_SEQUENCE = item(ObjectKind.SEQUENCE, "shop.orders_id_seq", table="shop.orders", owned_by="id")
OTHER_INDEX = item(
    ObjectKind.INDEX, "shop.b_idx", table="shop.b", definition="CREATE INDEX b_idx ON shop.b (a)"
)


def test_equal_catalogs_have_no_drift() -> None:
    """A catalog compared with itself has nothing to say."""
    same = catalog(ORDERS, ORDERS_INDEX, ORDERS_KEY)
    assert compare(same, dict(reversed(same.items())), "shop-db") == ()


def test_removed_index_is_named() -> None:
    """What was dropped by hand is named, with its definition where that is short and plain."""
    assert compare(catalog(ORDERS, ORDERS_INDEX), catalog(ORDERS), "shop-db") == (
        Drift(
            component="shop-db",
            identity="index shop.orders_idx",
            action=Action.REMOVED,
            detail="is gone: CREATE INDEX orders_idx ON shop.orders USING btree (note)",
        ),
    )


def test_removed_table_takes_what_hangs_on_it() -> None:
    """A dropped table is one drift that counts its indexes, constraints and sequences."""
    base = catalog(ORDERS, ORDERS_INDEX, ORDERS_KEY, ORDERS_SEQUENCE, OTHER_INDEX)
    rows = compare(base, {}, "shop-db")
    assert [(row.identity, row.action, row.detail) for row in rows] == [
        ("index shop.b_idx", Action.REMOVED, "is gone: CREATE INDEX b_idx ON shop.b (a)"),
        ("table shop.orders", Action.REMOVED, "is gone, with 1 constraint, 1 index, 1 sequence"),
    ]


def test_added_table_brings_what_hangs_on_it() -> None:
    """A table made by hand is one drift too; an index added to one that stays is its own."""
    second = item(ObjectKind.INDEX, "shop.orders_idx2", table="shop.orders", definition="CREATE INDEX …")
    policy = item(ObjectKind.POLICY, "shop.orders.p", table="shop.orders", using="(owner = 'secret')")
    rows = compare({}, catalog(ORDERS, ORDERS_INDEX, second, policy), "db")
    assert [(row.identity, row.action, row.detail) for row in rows] == [
        ("table shop.orders", Action.ADDED, "was not there, with 2 indexes, 1 policy"),
    ]
    (row,) = compare(catalog(ORDERS), catalog(ORDERS, ORDERS_INDEX), "db")
    assert (row.identity, row.action) == ("index shop.orders_idx", Action.ADDED)


def test_view_takes_its_rules_and_triggers() -> None:
    """What hangs on a view is rolled up like what hangs on a table."""
    view = item(ObjectKind.VIEW, "shop.v", owner="app", columns=[], definition="SELECT 1")
    rule = item(ObjectKind.RULE, "shop.v.r", table="shop.v", definition="…")
    (row,) = compare(catalog(view, rule), {}, "db")
    assert (row.identity, row.detail) == ("view shop.v", "is gone, with 1 rule")


def test_rows_are_in_order_of_identity() -> None:
    """The same difference is the same tuple, whatever the order of the catalogs."""
    base = catalog(item(ObjectKind.TABLE, "b.a", owner="x"), item(ObjectKind.SCHEMA, "z", owner="x"))
    live = catalog(item(ObjectKind.TYPE, "a.a", owner="x"), item(ObjectKind.SCHEMA, "z", owner="y"))
    rows = compare(base, live, "db")
    assert [row.identity for row in rows] == ["schema z", "table b.a", "type a.a"]
    assert rows == compare(dict(reversed(base.items())), dict(reversed(live.items())), "db")


TABLE = {"owner": "a", "columns": [{"name": "id", "type": "integer"}, {"name": "note", "type": "text"}]}


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (TABLE, {**TABLE, "owner": "b"}, "owner was a, is b"),
        (
            TABLE,
            {**TABLE, "columns": [*TABLE["columns"], {"name": "b", "type": "text"}]},
            "column b added: text",
        ),
        (TABLE, {**TABLE, "columns": [{"name": "id", "type": "integer"}]}, "column note removed"),
        (TABLE, {**TABLE, "columns": list(reversed(TABLE["columns"]))}, "order of columns differs"),
        (
            TABLE,
            {**TABLE, "columns": [{"name": "id", "type": "bigint", "not_null": True}, TABLE["columns"][1]]},
            "column id type was integer, is bigint; column id not null added",
        ),
        (
            TABLE,
            {
                **TABLE,
                "columns": [
                    TABLE["columns"][0],
                    {"name": "note", "type": "text", "default": "'hunter2'::text"},
                ],
            },
            "column note default added",
        ),
        (
            {**TABLE, "options": ["fillfactor=70"]},
            {**TABLE, "options": ["fillfactor=80"]},
            "option fillfactor=70 removed; option fillfactor=80 added",
        ),
        (TABLE, {**TABLE, "row_security": True}, "row security added"),
        ({**TABLE, "row_security": True}, TABLE, "row security removed"),
        (TABLE, {**TABLE, "replica_identity": "full"}, "replica identity is now full"),
        ({**TABLE, "comment": "one"}, {**TABLE, "comment": "two"}, "comment differs"),
        ({**TABLE, "comment": "one"}, TABLE, "comment removed"),
    ],
)
def test_tables(before: dict[str, Any], after: dict[str, Any], detail: str) -> None:
    """A table says what differs column by column and attribute by attribute."""
    assert change(ObjectKind.TABLE, before, after) == detail


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        ({}, {"grants": ["bob=r/app"]}, "grant SELECT to bob added"),
        ({"grants": ["bob=r/app"]}, {}, "grant SELECT to bob removed"),
        ({"grants": ["bob=r/app"]}, {"grants": ["bob=rw/app"]}, "grant UPDATE to bob added"),
        (
            {"grants": ["bob=arw/app"]},
            {"grants": ["alice=r/app"]},
            "grant INSERT, SELECT, UPDATE to bob removed; grant SELECT to alice added",
        ),
        (
            {"grants": ["bob=r/app"]},
            {"grants": ["bob=r*/app"]},
            "grant SELECT to bob removed; grant SELECT with grant option to bob added",
        ),
        ({}, {"revoked": ["=X/app"]}, "grant EXECUTE to PUBLIC removed"),
        ({"revoked": ["=X/app"]}, {}, "grant EXECUTE to PUBLIC added"),
        (
            {},
            {"grants": ["app=r/app"], "revoked": ["app=rw/app"]},
            "grant UPDATE to app removed",
        ),
        ({}, {"grants": ['"a=""b\n"=U/app']}, 'grant USAGE to "a=""b\n" added'),
        ({"grants": ["bob=r/app"]}, {"grants": ["bob=r/other"]}, "who granted its privileges differs"),
        (
            {"owner": "app", "grants": ["bob=r/app"]},
            {"owner": "other", "grants": ["bob=r/other"]},
            "owner was app, is other",
        ),
    ],
)
def test_grants(before: dict[str, Any], after: dict[str, Any], detail: str) -> None:
    """Grants are told in the words of GRANT, as the change of what each role may do."""
    assert change(ObjectKind.TABLE, before, after) == detail


@pytest.mark.parametrize(
    ("kind", "before", "after", "detail"),
    [
        (
            ObjectKind.FUNCTION,
            {"definition": "SELECT 'planted'"},
            {"definition": "SELECT 'planted2'"},
            "definition differs",
        ),
        (
            ObjectKind.VIEW,
            {"definition": "SELECT 'planted'"},
            {"definition": "SELECT 'planted2'"},
            "definition differs",
        ),
        (
            ObjectKind.INDEX,
            {"definition": "CREATE INDEX i ON t (a)"},
            {"definition": "CREATE INDEX i ON t (b)", "valid": False},
            "definition was CREATE INDEX i ON t (a), is CREATE INDEX i ON t (b); valid is now false",
        ),
        (ObjectKind.POLICY, {"using": "(k = 'planted')"}, {"using": "true"}, "using differs"),
        (ObjectKind.POLICY, {"roles": ["PUBLIC"]}, {"roles": ["bob"]}, "role PUBLIC removed; role bob added"),
        (ObjectKind.TYPE, {"labels": ["a", "b"]}, {"labels": ["a", "c", "b"]}, "label c added"),
        (ObjectKind.TYPE, {"labels": ["a", "b"]}, {"labels": ["b", "a"]}, "order of labels differs"),
        (
            ObjectKind.DOMAIN,
            {"constraints": [{"name": "k", "definition": "CHECK (VALUE > 0)"}]},
            {"constraints": [{"name": "k", "definition": "CHECK (VALUE > 1)"}]},
            "constraint k definition differs",
        ),
        (
            ObjectKind.DATABASE,
            {"settings": ["app.key=sha256:aa", "work_mem=sha256:bb"]},
            {"settings": ["app.key=sha256:cc"]},
            "setting work_mem removed; setting app.key differs",
        ),
        (ObjectKind.TRIGGER, {}, {"enabled": "disabled"}, "enabled is now disabled"),
        (ObjectKind.SEQUENCE, {"increment": 1}, {"increment": 5}, "increment was 1, is 5"),
    ],
)
def test_other_kinds(kind: ObjectKind, before: dict[str, Any], after: dict[str, Any], detail: str) -> None:
    """Every kind says what differs, and no text that could hold a secret is shown."""
    found = change(kind, before, after)
    assert "planted" not in found
    assert found == detail


def test_details_are_bounded() -> None:
    """A difference of a thousand columns, or a definition of a megabyte, stays readable."""
    wide = {"columns": [{"name": f"c{number}", "type": "text"} for number in range(1000)]}
    detail = change(ObjectKind.TABLE, {"columns": []}, wide)
    assert detail.endswith("and 950 more")
    long = change(ObjectKind.INDEX, {"definition": "a" * 1_000_000}, {"definition": "b" * 1_000_000})
    assert len(long) < 1000


@pytest.mark.parametrize(
    "definition", ["", "not json", "[1, 2]", "null", '{"columns": 5}', '{"columns": [1]}']
)
def test_unknown_definitions_still_compare(definition: str) -> None:
    """A definition that is not what we write is only said to differ."""
    odd = CatalogObject(ObjectKind.TABLE, "shop.orders", definition, fingerprint(definition))
    (row,) = compare(catalog(ORDERS), catalog(odd), "db")
    assert row.action is Action.CHANGED
    assert row.detail
