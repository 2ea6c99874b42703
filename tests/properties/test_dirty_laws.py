"""Laws of what is built anew: the least fixed point of the rules, whatever order things come in."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.objects.dirty import Why, dirty, in_place
from reconciler.objects.generation import plan
from reconciler.objects.model import ObjectName, ObjectSort, Production, Project
from tests.plugins.object_projects import compared, production, project, sql_object

SCHEMAS = ["a", "b", "c", "d"]
few = settings(max_examples=60)


def project_of(seed: int) -> Project:
    """A project of a few objects in a few schemas; each may need any that stand before it.

    It is made of one number, for drawing every choice by itself costs a hundred times as much.
    """
    chosen = Random(seed)
    names = chosen.sample(
        [f"{schema}.{name}" for schema in SCHEMAS for name in "uvwxyz"], chosen.randrange(13)
    )
    needed = [
        chosen.sample(names[:number], min(number, chosen.choice([0, 0, 1, 1, 2, 3])))
        for number in range(len(names))
    ]
    objects = [
        sql_object(
            name,
            *needs,
            sort=chosen.choice(list(ObjectSort)),
            hash_=f"{chosen.choice('1112')} of {' '.join(sorted(needs))}",
            metadata_hash=chosen.choice("mmn"),
        )
        for name, needs in zip(names, needed, strict=True)
    ]
    return project(*objects, stable=chosen.sample(SCHEMAS, chosen.choice([0, 0, 1, 2])))


def projects() -> st.SearchStrategy[Project]:
    """Any project."""
    return st.integers(0, 2**32).map(project_of)


forced = st.frozensets(st.sampled_from(SCHEMAS), max_size=2)


def naive(wanted: Project, live: Production, named: frozenset[str]) -> set[ObjectName]:
    """The rules as they are written, applied until nothing is added."""
    bound = in_place(wanted, live)
    found = {
        name
        for name in {*wanted.objects, *live.objects}
        if name not in wanted.objects
        or name not in live.objects
        or (wanted.objects[name].hash, wanted.objects[name].sort)
        != (live.objects[name].hash, live.objects[name].sort)
        or name.schema in named
    }
    while True:
        spreading = {name for name in found if name.schema not in bound}
        more = {
            name
            for name, one in wanted.objects.items()
            if one.depends_on & spreading or name.schema in {other.schema for other in spreading}
        }
        if more <= found:
            return found
        found |= more


@few
@given(projects(), projects(), forced)
def test_it_is_the_least_fixed_point(wanted: Project, before: Project, named: frozenset[str]) -> None:
    """What is found is exactly what the rules give when they are applied until nothing is added."""
    live = production(before)
    assert set(dirty(wanted, live, forced=named).reasons) == naive(wanted, live, named)


@few
@given(projects(), projects(), forced, forced)
def test_more_causes_never_clean_anything(
    wanted: Project, before: Project, some: frozenset[str], more: frozenset[str]
) -> None:
    """It is monotone: whatever is forced besides, what was dirty stays dirty."""
    live = production(before)
    assert set(dirty(wanted, live, forced=some).reasons) <= set(
        dirty(wanted, live, forced=some | more).reasons
    )


@few
@given(projects())
def test_what_was_built_is_clean(wanted: Project) -> None:
    """A project that was built as it is needs nothing, and its plan says so."""
    live = production(wanted)
    found = dirty(wanted, live)
    assert not found.reasons
    assert not plan(wanted, live, found, key="k").works


@few
@given(projects(), projects(), forced)
def test_order_of_mappings_does_not_show(wanted: Project, before: Project, named: frozenset[str]) -> None:
    """The same objects in another order give the same reasons, in the same order, and the same plan."""
    live = production(before)
    turned = replace(wanted, schemas=dict(reversed(wanted.schemas.items())))
    shuffled = replace(turned, objects=dict(reversed(wanted.objects.items())))
    turned_live = Production(
        objects=dict(reversed(live.objects.items())),
        schemas=dict(reversed(live.schemas.items())),
        schema_hashes=live.schema_hashes,
    )
    found, again = dirty(wanted, live, forced=named), dirty(shuffled, turned_live, forced=sorted(named))
    assert list(found.reasons.items()) == list(again.reasons.items())
    assert plan(wanted, live, found, key="k") == plan(turned, turned_live, again, key="k")


@few
@given(projects(), projects(), forced)
def test_every_chain_ends_at_what_a_person_did(
    wanted: Project, before: Project, named: frozenset[str]
) -> None:
    """From every object the causes lead back to a change or a forced schema, without a circle."""
    found = dirty(wanted, production(before), forced=named)
    for name in found.reasons:
        chain = found.chain(name)
        assert len(set(chain)) == len(chain)
        assert found.reasons[chain[-1]].why in (Why.ADDED, Why.EDITED, Why.DELETED, Why.FORCED)
        assert len(found.explained(name)) == len(chain)


@few
@given(projects(), projects(), forced)
def test_waves_come_after_what_they_need(wanted: Project, before: Project, named: frozenset[str]) -> None:
    """Each staged object stands in one wave, behind all staged objects that it needs; names never meet."""
    live = production(before)
    made = plan(wanted, live, dirty(wanted, live, forced=named), key="k")
    places = {name: number for number, wave in enumerate(made.waves) for name in wave}
    assert sum(map(len, made.waves)) == len(places)
    for name, place in places.items():
        assert all(places.get(need, -1) < place for need in wanted.objects[name].depends_on)
        assert name.schema in made.staging
    staging = set(made.staging.values())
    assert len(staging) == len(made.staging)
    assert not staging & {*wanted.schemas, *live.schemas}


@few
@given(projects(), projects(), forced)
def test_every_dirty_object_is_accounted_for(wanted: Project, before: Project, named: frozenset[str]) -> None:
    """What is dirty is built, made in place or left with a schema that goes, and nothing else is."""
    live = production(before)
    found = dirty(wanted, live, forced=named)
    made = plan(wanted, live, found, key="k")
    assert set(made.objects) <= set(found.reasons)
    bound = in_place(wanted, live)
    for name in set(found.reasons) - set(made.objects):
        forced_only = found.reasons[name].why is Why.FORCED and name.schema in bound
        assert name not in wanted.objects or forced_only


@few
@given(projects(), projects(), forced)
def test_rows_are_told_if_and_only_if_something_is_done(
    wanted: Project, before: Project, named: frozenset[str]
) -> None:
    """Whatever a rollout would do has a row, and a row is never told of nothing."""
    found = compared(wanted, production(before), forced=named)
    assert found.works is bool(found.pending)
    assert len({row.identity for row in found.pending}) == len(found.pending)
