"""Laws of planning SQL objects: what an interrupted operation plans again is the end of what it planned."""

import json
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.diff.model import ObjectsDiff, OpenGeneration
from reconciler.diff.objects import BuiltState, LeftDeferred, compare
from reconciler.objects.generation import SchemaAction
from reconciler.objects.model import BuiltObject, ObjectSort, Production, Project, SqlSchema
from reconciler.objects.work import UNSETTLED
from reconciler.plan.encode import step_from_json, step_to_json
from reconciler.plan.objects import objects_steps
from reconciler.plan.objects_text import details
from reconciler.plan.steps import AnyStep, StepKind
from reconciler.state.desired import DesiredAssertion, DesiredDeferred, DesiredObjects
from tests.plugins.object_projects import desired, production, project, sql_object

PLACE = ("production", "eu")
SCHEMAS = ["a", "b", "c"]
few = settings(max_examples=60)


def project_of(seed: int) -> Project:
    """A project of a few objects, none of them a materialized view: these may be refused."""
    chosen = Random(seed)
    names = chosen.sample([f"{schema}.{name}" for schema in SCHEMAS for name in "uvwx"], chosen.randrange(9))
    objects = [
        sql_object(
            name,
            *chosen.sample(names[:number], min(number, chosen.choice([0, 0, 1, 2]))),
            sort=chosen.choice([ObjectSort.VIEW, ObjectSort.FUNCTION])
            if name[-1] != "u"
            else ObjectSort.VIEW,
            hash_=chosen.choice("112"),
            metadata_hash=chosen.choice(["", "m", "n"]),
        )
        for number, name in enumerate(names)
    ]
    schemas = [
        SqlSchema(name=name, stable=chosen.random() < 0.4, metadata_hash=chosen.choice(["", "s", "t"]))
        for name in SCHEMAS
        if any(each.startswith(f"{name}.") for each in names)
    ]
    return project(*objects, schemas=schemas)


projects = st.integers(0, 2**32).map(project_of)


def component(of: Project) -> DesiredObjects:
    return replace(
        desired(of),
        assertions=(DesiredAssertion(name="no-gaps", sql="SELECT 1 WHERE false"),),
        deferred=(
            DesiredDeferred(name="publish", sql="SELECT 1"),
            DesiredDeferred(name="tell", url="https://x"),
        ),
    )


def at(of: Project, built: BuiltState) -> ObjectsDiff:
    return compare(component(of), built, place=PLACE)


def steps(part: ObjectsDiff) -> list[AnyStep]:
    return list(objects_steps(part))


def before_switch(live: Production, part: ObjectsDiff, state: str) -> BuiltState:
    begun = OpenGeneration(key=part.generation.key, state=state, commit="c", operation="o")
    made = frozenset(part.generation.staging.values())
    return BuiltState(
        production=live,
        generations=dict.fromkeys(live.schemas, 1),
        unfinished=(begun,),
        staging=made,
        schemas=made | frozenset(live.schemas),
    )


def behind_switch(of: Project, live: Production, part: ObjectsDiff) -> BuiltState:
    """What is recorded once the generation is live: what is altered in place is still to be."""
    generation = part.generation
    touched = {work.name: work.action for work in generation.schemas}
    kept = {
        name: one
        for name, one in live.objects.items()
        if touched.get(name.schema, SchemaAction.IN_PLACE) is SchemaAction.IN_PLACE
        and name not in generation.objects
    }
    made = {
        name: BuiltObject(
            name=name,
            sort=of.objects[name].sort,
            hash=of.objects[name].hash,
            metadata_hash=UNSETTLED if name in generation.metadata else of.objects[name].metadata_hash,
        )
        for name in generation.objects
        if name in of.objects
    }
    schemas = {name: stable for name, stable in live.schemas.items() if name not in touched}
    hashes = {name: live.schema_hashes.get(name, "") for name in schemas}
    for name, action in touched.items():
        if action is not SchemaAction.RETIRE:
            schemas[name] = of.schemas[name].stable
            altered = name in generation.schema_metadata
            hashes[name] = UNSETTLED if altered else of.schemas[name].metadata_hash
    return BuiltState(
        production=Production(objects={**kept, **made}, schemas=schemas, schema_hashes=hashes),
        generations={name: 2 if name in touched else 1 for name in schemas},
        deferred=(
            (
                LeftDeferred(key=generation.key, name="publish"),
                LeftDeferred(key=generation.key, name="tell", outside=True),
            )
            if touched
            else ()
        ),
    )


@few
@given(projects, projects)
def test_what_is_left_is_the_end_of_what_was_planned(of: Project, before: Project) -> None:
    """Staged, ready or live: the plan made then is whole steps from the end of the first one."""
    live = production(before)
    built = BuiltState(
        production=live, generations=dict.fromkeys(live.schemas, 1), schemas=frozenset(live.schemas)
    )
    first = at(of, built)
    recorded = steps(first)
    if first.blocked:
        return
    if first.generation.schemas:
        for state, left in (("staging", recorded), ("staged", recorded[1:]), ("ready", recorded[2:])):
            again = at(of, before_switch(live, first, state))
            assert again.generation == first.generation
            assert steps(again) == left
    again = at(of, behind_switch(of, live, first))
    behind = {StepKind.ALTER_OBJECTS, StepKind.RUN_DEFERRED}
    assert steps(again) == [step for step in recorded if step.kind in behind]


@few
@given(projects, projects)
def test_steps_survive_json_and_are_told(of: Project, before: Project) -> None:
    """Every step comes back from JSON as it was, has an id of its own, and says what it does."""
    found = steps(at(of, BuiltState(production=production(before))))
    assert [step_from_json(json.loads(json.dumps(step_to_json(step)))) for step in found] == found
    assert len({step.id for step in found}) == len(found)
    assert all(details(step) for step in found)


@few
@given(projects, projects)
def test_same_inputs_give_the_same_steps(of: Project, before: Project) -> None:
    """Neither the order of mappings nor another run shows."""
    live = production(before)
    turned = Production(
        objects=dict(reversed(live.objects.items())),
        schemas=dict(reversed(live.schemas.items())),
        schema_hashes=dict(reversed(live.schema_hashes.items())),
    )
    assert steps(at(of, BuiltState(production=live))) == steps(at(of, BuiltState(production=turned)))
