"""What speaks against a generation, from what is there and what is recorded."""

from dataclasses import replace

from reconciler.objects.dirty import dirty
from reconciler.objects.generation import plan
from reconciler.objects.model import Project, SqlSchema
from reconciler.objects.preflight import (
    SHOWN_MAX,
    ByHand,
    Content,
    Meeting,
    Objection,
    Outside,
    Recorded,
    asked,
    by_hand,
    dependents,
    needed,
    objections,
    told,
)
from reconciler.objects.project import compile_project
from reconciler.objects.work import UNSETTLED, hash_of, work_of
from tests.plugins.object_projects import NOTHING_BUILT, production, project, sql_object, statement

OURS = ("analytics", "production", "eu")
QUIET = Meeting(
    role="us",
    database="shop",
    may_create=True,
    schemas={},
    contents=(),
    missing=(),
    unreadable=(),
    missing_roles=(),
)


def things(count: int) -> tuple[Content, ...]:
    return tuple(
        Content(
            schema="core",
            routine=False,
            relation=True,
            oid=number,
            description=f"table core.t{number:03}",
            extension="postgis" if number == 0 else None,
        )
        for number in range(count)
    )


def found_by(met: Meeting, recorded: Recorded) -> tuple[Objection, ...]:
    of = project(sql_object("core.open"))
    work = work_of(of, plan(of, NOTHING_BUILT, dirty(of, NOTHING_BUILT), key="k"), component="analytics")
    return objections(work, asked(work), met, recorded, ours=OURS)


def test_what_is_ours_hinders_nothing() -> None:
    """Objects that are recorded as ours, and schemas of this component, speak against nothing."""
    ours = Recorded(owners={"core": OURS}, objects=frozenset({(False, 0), (False, 1)}))
    assert found_by(replace(QUIET, contents=things(2)), ours) == ()


def test_what_stands_in_one_schema_is_told_at_once() -> None:
    """Of many objects in the way as many are named as a person reads, with what can be done."""
    (why,) = told(found_by(replace(QUIET, contents=things(50)), Recorded()))
    assert why.startswith(
        "schema core would be displaced, and holds what was not built from objects: "
        "table core.t000, of extension postgis, table core.t001, "
    )
    assert why.endswith(f"and {50 - SHOWN_MAX} more; move it to another schema first, or drop it")


def test_other_objections_are_told_with_what_they_are_about() -> None:
    """Whose a schema is and which role is missing comes with the name."""
    found = found_by(
        replace(QUIET, missing_roles=("reader",)), Recorded(owners={"core": ("other", "production", "eu")})
    )
    assert told(found) == (
        "core: it belongs to component 'other' of environment 'production', deployment 'eu'",
        "reader: there is no such role to grant to",
    )


def compiled(grants: str = "") -> Project:
    files = {
        "core/open.sql": f"CREATE VIEW open AS SELECT id FROM orders; {grants}",
        "core/idle.sql": "CREATE VIEW idle AS SELECT 1 AS one;",
        "core.sql": "ALTER SCHEMA core OWNER TO analyst;",
        "ops/kept.sql": 'CREATE VIEW kept AS SELECT id FROM customers; GRANT SELECT ON kept TO "Big Boss";',
    }
    externals = ["public.orders", "public.customers"]
    found = compile_project("objects", files, externals=externals, variables={})
    assert found.project is not None, found.problems
    return found.project


def test_needed_are_relations_and_roles_of_what_is_built() -> None:
    """Only what is staged or altered needs its relations and roles; the rest was there before."""
    of, before = compiled("GRANT SELECT ON open TO reader, PUBLIC;"), production(compiled())
    externals, named = needed(of, plan(of, before, dirty(of, before), key="k"))
    assert (externals, named) == (frozenset(), frozenset({"reader"}))
    externals, named = needed(of, plan(of, NOTHING_BUILT, dirty(of, NOTHING_BUILT), key="k"))
    assert sorted(one.name for one in externals) == ["customers", "orders"]
    assert named == frozenset({"reader", "Big Boss", "analyst"})


def test_what_is_altered_behind_the_switch_is_recorded_as_to_be_done() -> None:
    """Grants of what is replaced in place are not taken for given by the switch, which leaves them alone."""
    before = project(sql_object("api.a"), sql_object("api.b"), schemas=[SqlSchema(name="api", stable=True)])
    after = project(
        sql_object("api.a", hash_="2", metadata_hash="m"),
        sql_object("api.b"),
        schemas=[SqlSchema(name="api", stable=True, metadata_hash="s")],
    )
    work = work_of(
        after, plan(after, production(before), dirty(after, production(before)), key="k"), component="c"
    )
    assert [one.metadata_hash for one in work.objects.values()] == [UNSETTLED]
    assert [one.metadata_hash for one in work.schemas] == [UNSETTLED]


def test_hash_covers_texts_that_are_sent() -> None:
    """Another text gives another hash, and the same one the same."""
    one, other = sql_object("core.open"), sql_object("core.open")
    other = replace(other, creates=(statement("CREATE VIEW ", other.name, " AS SELECT 2 AS one"),))
    hashes = [
        hash_of(work_of(of, plan(of, NOTHING_BUILT, dirty(of, NOTHING_BUILT), key="k"), component="c"))
        for of in (project(one), project(one), project(other))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_dependents_are_refused_or_bound_by_what_the_spec_says() -> None:
    """Where they are not adopted every one is in the way; where they are, those that cannot be bound anew."""
    found = (Outside(identity="view a", bound=True), Outside(identity="rule b on table c", bound=False))
    refused, said = dependents(found, adopt=False)
    assert [one.split(":")[0] for one in refused] == ["view a", "rule b on table c"]
    assert ["`dependents: adopt`" in one for one in refused] == [True, False]
    assert said == ()
    refused, said = dependents(found, adopt=True)
    assert [one.split(":")[0] for one in refused] == ["rule b on table c"]
    assert said == ("view a: it will be bound to what takes the place",)
    assert dependents((), adopt=True) == ((), ())


def test_what_was_done_by_hand_is_refused_or_told_by_what_the_spec_says() -> None:
    """Each is told with the key of the component that allows it, or with what becomes of it."""
    found = (
        ByHand(kind="altered", subject="view core.open", detail=""),
        ByHand(kind="altered", subject="function core.rate", detail="dropped"),
        ByHand(kind="grant", subject="schema core", detail="USAGE reader"),
        ByHand(kind="grant", subject="view core.open", detail="INSERT ada"),
        ByHand(kind="grant", subject="view core.open", detail="SELECT reader"),
    )
    altered, given = (
        "view core.open, function core.rate (dropped): altered by hand; ",
        "schema core (USAGE reader), view core.open (INSERT ada, SELECT reader): given by hand; ",
    )
    refused, said = by_hand(found, altered="refuse", hand_made="refuse")
    assert refused == (
        altered + "take that back, or bring it into its file and allow `altered: replace`",
        given + "take it back, or allow it with `handMadeGrants: carry` or `leave`",
    )
    assert said == ()
    refused, said = by_hand(found, altered="replace", hand_made="carry")
    assert refused == ()
    assert said == (
        altered + "what takes the place is as its file has it",
        given + "it is carried over to what takes the place",
    )
    assert by_hand(found[2:], altered="refuse", hand_made="leave") == (
        (),
        (given + "it is left behind by what takes the place",),
    )
    assert by_hand((), altered="refuse", hand_made="refuse") == ((), ())
