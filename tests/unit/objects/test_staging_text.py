"""Texts of objects under staging and live names."""

from dataclasses import replace

import pytest

from reconciler.catalog.sql_text import parse_hash
from reconciler.errors import Refused
from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Generation, Placement, plan
from reconciler.objects.model import (
    Mention,
    ObjectName,
    ObjectSort,
    Production,
    Project,
    SqlIndex,
    SqlSchema,
    SqlStatement,
)
from reconciler.objects.stable import ObjectAction
from reconciler.objects.staging_text import (
    in_switch,
    live_metadata,
    live_options,
    live_schema_metadata,
    live_text,
    option_texts,
    renamed,
    schema_texts,
    staged,
)
from tests.plugins.object_projects import NOTHING_BUILT, named, production, project, sql_object, statement

MATERIALIZED = ObjectSort.MATERIALIZED_VIEW
FUNCTION = ObjectSort.FUNCTION
CORE = sql_object("core.open")


def placed(wanted: Project, live: Production = NOTHING_BUILT) -> tuple[Placement, Generation]:
    made = plan(wanted, live, dirty(wanted, live), key="k")
    return Placement.of(made), made


def unqualified(text: str, written: str, target: str, *, in_body: bool = False) -> SqlStatement:
    """A statement that mentions one object as it is written there."""
    at = text.index(written)
    mention = Mention(start=at, end=at + len(written), target=named(target), in_body=in_body)
    return SqlStatement(text=text, line=1, mentions=(mention,))


def of_index(text: str, written: str, target: ObjectName) -> SqlStatement:
    """A comment on an index of an object."""
    at = text.index(written)
    mention = Mention(start=at, end=at + len(written), target=target, index="m_one")
    return SqlStatement(text=text, line=1, mentions=(mention,))


def of_schema(text: str, written: str) -> SqlStatement:
    """A statement about a schema."""
    at = text.index(written)
    mention = Mention(start=at, end=at + len(written), target=ObjectName("core", ""))
    return SqlStatement(text=text, line=1, mentions=(mention,))


def test_staged_objects_are_named_where_they_are_staged() -> None:
    """Mentions of what is staged get the staging schema, all others the live one."""
    live = project(sql_object("base.days"))
    late = sql_object("ops.late", "core.open", "base.days")
    placement, made = placed(project(*live.objects.values(), CORE, late), production(live))
    core, ops = made.staging["core"], made.staging["ops"]
    assert staged(late, placement).creates == (
        f"CREATE view {ops}.late AS SELECT 1 AS one FROM {core}.open, base.days",
    )
    assert staged(late, placement).schema == ops
    assert live_text(late.creates[0]) == late.creates[0].text


def test_unqualified_names_are_qualified_and_the_rest_stays() -> None:
    """A short name is written out; comments, strings and layout stay as their author wrote them."""
    text = "CREATE VIEW core.x AS\n  SELECT 'open' AS open -- from open\n  FROM open /* open */ AS o"
    at = text.index("FROM open") + 5
    own = Mention(start=12, end=18, target=named("core.x"))
    create = SqlStatement(
        text=text,
        line=1,
        mentions=(own, Mention(start=at, end=at + 4, target=named("core.open"))),
    )
    assert live_text(create) == text.replace("FROM open", "FROM core.open")


def test_names_are_quoted_exactly() -> None:
    """Names that SQL would fold or take for a key word are quoted, staging names too."""
    view = sql_object("Daily Sales.order", "Daily Sales.User")
    other = sql_object("Daily Sales.User")
    placement, made = placed(project(other, view))
    staging = made.staging["Daily Sales"]
    assert staged(view, placement).creates == (
        f'CREATE view "{staging}"."order" AS SELECT 1 AS one FROM "{staging}"."User"',
    )


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("CREATE MATERIALIZED VIEW core.m AS SELECT 1", "AS SELECT 1\nWITH NO DATA"),
        ("CREATE MATERIALIZED VIEW core.m AS SELECT 1 -- all", "AS SELECT 1 -- all\nWITH NO DATA"),
        ("CREATE MATERIALIZED VIEW core.m AS SELECT 1 WITH data", "AS SELECT 1 WITH NO data"),
        ("CREATE MATERIALIZED VIEW core.m AS SELECT 'with' data", "AS SELECT 'with' data\nWITH NO DATA"),
    ],
    ids=["plain", "comment at the end", "with data", "alias"],
)
def test_materialized_view_is_made_empty_and_filled_behind_that(text: str, made: str) -> None:
    """Older snapshots see rows of a refresh, and none of those that came with CREATE."""
    view = replace(sql_object("core.m", sort=MATERIALIZED), creates=(unqualified(text, "core.m", "core.m"),))
    placement, generation = placed(project(view))
    texts = staged(view, placement)
    staging = generation.staging["core"]
    assert texts.creates == (f"CREATE MATERIALIZED VIEW {staging}.m {made}",)
    assert texts.fill == f"REFRESH MATERIALIZED VIEW {staging}.m"


def test_indexes_grants_and_comments_go_along() -> None:
    """Companions name the staged object; a comment on an index names the index where it is made."""
    own = named("core.m")
    index = statement("CREATE INDEX m_one ON ", own, " (one)")
    view = replace(
        sql_object("core.m", sort=MATERIALIZED),
        indexes=(SqlIndex(name="m_one", unique=True, statement=index),),
        grants=(statement("GRANT SELECT ON ", own, " TO reader"),),
        comments=(
            statement("COMMENT ON COLUMN ", own, ".one IS 'on core.m'"),
            of_index("COMMENT ON INDEX core.m_one IS 'x'", "core.m_one", own),
            of_index("comment on index m_one IS 'm_one'", "m_one", own),
        ),
    )
    placement, generation = placed(project(view))
    staging = generation.staging["core"]
    texts = staged(view, placement)
    assert texts.indexes == (f"CREATE INDEX m_one ON {staging}.m (one)",)
    assert texts.metadata == (
        f"GRANT SELECT ON {staging}.m TO reader",
        f"COMMENT ON COLUMN {staging}.m.one IS 'on core.m'",
        f"COMMENT ON INDEX {staging}.m_one IS 'x'",
        f"comment on index {staging}.m_one IS 'm_one'",
    )
    assert live_metadata(view)[0] == "GRANT SELECT ON core.m TO reader"
    assert live_metadata(view)[3] == "comment on index core.m_one IS 'm_one'"


def test_moved_view_takes_its_index_comments_along() -> None:
    """A materialized view that is new in a stable schema has its indexes beside it in staging."""
    view = replace(
        sql_object("api.m", sort=MATERIALIZED),
        comments=(of_index("COMMENT ON INDEX m_one IS 'x'", "m_one", named("api.m")),),
    )
    live = project(sql_object("api.a"), stable=["api"])
    placement, generation = placed(project(sql_object("api.a"), view, stable=["api"]), production(live))
    assert staged(view, placement).metadata == (f"COMMENT ON INDEX {generation.staging['api']}.m_one IS 'x'",)


def test_bodies_are_staged_and_told_live_names_in_the_switch() -> None:
    """A text-bound routine names staging schemas while it is staged, and live ones once they are renamed."""
    rate = sql_object("core.rate", "core.open", sort=FUNCTION)
    placement, made = placed(project(CORE, rate))
    staging = made.staging["core"]
    assert staged(rate, placement).creates == (
        f"CREATE function {staging}.rate() LANGUAGE sql AS $$ SELECT 1 FROM {staging}.open $$",
    )
    assert in_switch(rate, ObjectAction.BUILD) == (
        "CREATE OR REPLACE function core.rate() LANGUAGE sql AS $$ SELECT 1 FROM core.open $$",
    )


def test_or_replace_is_written_once() -> None:
    """A text that says OR REPLACE already is not told twice, wherever comments stand."""
    text = "/* a */ CREATE -- b\n OR REPLACE VIEW core.open AS SELECT 1"
    view = replace(CORE, creates=(unqualified(text, "core.open", "core.open"),))
    assert in_switch(view, ObjectAction.REPLACE) == (text,)


def test_added_object_gets_its_grants_in_the_switch() -> None:
    """What is made in a live schema has no grants yet; what is replaced there keeps its own."""
    grant = statement("GRANT SELECT ON ", named("core.open"), " TO reader")
    view = replace(CORE, grants=(grant,))
    assert in_switch(view, ObjectAction.ADD) == (
        "CREATE OR REPLACE view core.open AS SELECT 1 AS one",
        "GRANT SELECT ON core.open TO reader",
    )
    assert in_switch(view, ObjectAction.REPLACE) == ("CREATE OR REPLACE view core.open AS SELECT 1 AS one",)


def test_what_is_tried_has_no_companions() -> None:
    """A copy that is only tried needs neither grants nor comments."""
    grant = statement("GRANT SELECT ON ", named("api.a"), " TO reader")
    live = project(sql_object("api.a"), stable=["api"])
    view = replace(sql_object("api.a", hash_="2"), grants=(grant,))
    placement, generation = placed(project(view, stable=["api"]), production(live))
    texts = staged(view, placement)
    assert texts.schema == generation.staging["api"]
    assert texts.metadata == ()


def test_externals_are_qualified_and_can_stand_elsewhere() -> None:
    """A declared relation outside is written out; for a test it is another one."""
    orders = named("public.orders")
    create = statement("CREATE VIEW ", named("core.x"), " AS SELECT * FROM ", orders, outside=[orders])
    short = create.text.replace("public.orders", "orders")
    at = short.index("orders")
    create = replace(create, text=short, outside=(Mention(start=at, end=at + len("orders"), target=orders),))
    assert live_text(create) == "CREATE VIEW core.x AS SELECT * FROM public.orders"
    mocks = {orders: ObjectName("mock_1", "orders"), named("core.x"): ObjectName("mock_0", "x")}
    assert renamed(create, mocks) == "CREATE VIEW mock_0.x AS SELECT * FROM mock_1.orders"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("SELECT 'x'::regclass", "SELECT '\"a\\''b\".x'::regclass"),
        ("SELECT E'x'::regclass", "SELECT E'\"a\\\\''b\".x'::regclass"),
        ("SELECT $$x$$::regclass", 'SELECT $$"a\\\'b".x$$::regclass'),
        ("SELECT x", 'SELECT "a\\\'b".x'),
    ],
    ids=["string", "escaped", "dollar", "bare"],
)
def test_name_in_a_string_is_written_as_the_string_needs(text: str, made: str) -> None:
    """Quotes and backslashes of a name are doubled where the string around it asks for that."""
    at = text.index("x")
    mention = Mention(start=at, end=at + 1, target=ObjectName("a\\'b", "x"))
    written = live_text(SqlStatement(text=text, line=1, mentions=(mention,)))
    assert written == made


def test_name_that_would_end_its_text_is_refused() -> None:
    """A name that holds the very quotes of the body around it is not put there."""
    text = "CREATE FUNCTION f() AS $$ SELECT x $$"
    at = text.index("x")
    mention = Mention(start=at, end=at + 1, target=ObjectName("a$$b", "x"), in_body=True)
    with pytest.raises(Refused, match=r"cannot stand in a text that is quoted with \$\$"):
        live_text(SqlStatement(text=text, line=1, mentions=(mention,)))


def test_schema_is_made_with_all_that_its_file_says() -> None:
    """Default privileges, grants and the comment name the staging schema, and nothing else is touched."""
    schema = SqlSchema(
        name="core",
        owner="Keeper",
        grants=(of_schema("GRANT USAGE ON SCHEMA core TO core", "core"),),
        default_privileges=(
            of_schema('ALTER DEFAULT PRIVILEGES IN SCHEMA "core" GRANT SELECT ON TABLES TO core', '"core"'),
        ),
        comment=of_schema("COMMENT ON SCHEMA core IS 'on schema core'", "core"),
        settings=(("work_mem", "64MB"),),
    )
    texts = schema_texts(schema, "core__1")
    assert texts.creates == (
        "CREATE SCHEMA core__1",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA core__1 GRANT SELECT ON TABLES TO core",
        "GRANT USAGE ON SCHEMA core__1 TO core",
        "COMMENT ON SCHEMA core__1 IS 'on schema core'",
    )
    assert texts.settings == ("SET LOCAL work_mem = '64MB'",)
    assert texts.owner == 'ALTER SCHEMA core__1 OWNER TO "Keeper"'
    assert live_schema_metadata(schema)[-1] == 'ALTER SCHEMA core OWNER TO "Keeper"'
    assert live_schema_metadata(schema)[1] == "GRANT USAGE ON SCHEMA core TO core"
    bare = schema_texts(SqlSchema(name="x"), "Y")
    assert (bare.creates, bare.settings, bare.owner) == (('CREATE SCHEMA "Y"',), (), None)


def test_live_text_means_what_was_written() -> None:
    """A text whose names are written out in live names is, to the parser, the text with qualified names."""
    short = unqualified("CREATE VIEW core.x AS SELECT o.one FROM open o", "open", "core.open")
    written_out = "CREATE VIEW core.x AS SELECT o.one FROM core.open AS o"
    assert parse_hash(live_text(short)) == parse_hash(written_out)


@pytest.mark.parametrize(
    ("options", "live", "texts"),
    [
        ({}, {}, ()),
        ({"security_barrier": "true"}, {"security_barrier": "true"}, ()),
        ({"security_barrier": "true"}, {}, ("SET (security_barrier = 'true')",)),
        ({}, {"security_barrier": "true"}, ("RESET (security_barrier)",)),
        (
            {"a.b": "1", "c": "2"},
            {"c": "1", "d": "1"},
            ("SET (a.b = '1', c = '2')", "RESET (d)"),
        ),
    ],
    ids=["none", "same", "set", "reset", "both"],
)
def test_options_are_changed_in_place(
    options: dict[str, str], live: dict[str, str], texts: tuple[str, ...]
) -> None:
    """What the file says is set, and what it no longer says is reset; what is as it should be is left."""
    view = replace(CORE, options=options)
    assert option_texts(view, live) == tuple(f"ALTER VIEW core.open {text}" for text in texts)


def test_check_option_of_the_text_is_kept() -> None:
    """What the catalog keeps among options and the text says by itself is not reset; routines have none."""
    checked = replace(
        CORE,
        creates=(statement("CREATE VIEW ", CORE.name, " AS SELECT 1 WITH LOCAL CHECK OPTION -- so"),),
    )
    assert option_texts(checked, {"check_option": "local"}) == ()
    assert option_texts(CORE, {"check_option": "local"}) == ("ALTER VIEW core.open RESET (check_option)",)
    assert option_texts(sql_object("core.rate", sort=FUNCTION), {"x": "1"}) == ()


@pytest.mark.parametrize(
    ("text", "kept"),
    [("", ""), (" WITH CHECK OPTION", "cascaded"), (" WITH local CHECK OPTION", "local")],
    ids=["none", "cascaded", "local"],
)
def test_live_options_have_the_check_of_the_text(text: str, kept: str) -> None:
    """All options that the catalog is to keep of a view are those of the file, and what its text checks."""
    creates = (statement("CREATE VIEW ", CORE.name, " AS SELECT 1" + text),)
    view = replace(CORE, creates=creates, options={"security_barrier": "true"})
    assert live_options(view) == {"security_barrier": "true", **({"check_option": kept} if kept else {})}
