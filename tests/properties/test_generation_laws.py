"""Laws of a switch: whatever was edited, all that is live is bound to what is live, and to nothing else."""

from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.objects.dirty import dirty, in_place
from reconciler.objects.generation import Generation, Placement, SchemaAction, plan
from reconciler.objects.model import ObjectName, ObjectSort, Project, SqlObject
from reconciler.objects.stable import ObjectAction
from tests.plugins.object_projects import production, project, sql_object

SCHEMAS = ["a", "b", "c", "d"]


@dataclass(eq=False)
class Made:
    """An object of the server: what it is bound to, and the names that a body has as text."""

    bound: "dict[ObjectName, Made]" = field(default_factory=dict)
    text: dict[ObjectName, str] = field(default_factory=dict)


class Server:
    """Names and bindings as PostgreSQL keeps them: bindings follow renames, texts of bodies do not."""

    def __init__(self) -> None:
        self.names: dict[ObjectName, Made] = {}

    def make(self, wanted: SqlObject, schemas: dict[ObjectName, str], made: Made | None = None) -> Made:
        """Make an object, or one again; a name that is not there ends it."""
        made = made or Made()
        found = {need: ObjectName(schemas[need], need.name) for need in wanted.depends_on}
        if wanted.sort.is_routine:
            made.bound, made.text = {}, {need: name.schema for need, name in found.items()}
        else:
            made.bound, made.text = {need: self.names[name] for need, name in found.items()}, {}
        return made

    def rename(self, old: str, new: str) -> None:
        """Rename a schema."""
        self.names = {
            ObjectName(new if name.schema == old else name.schema, name.name): made
            for name, made in self.names.items()
        }


def first(seed: int) -> Project:
    """A project of one number, as it was built at first."""
    chosen = Random(seed)
    names = chosen.sample(
        [f"{schema}.{name}" for schema in SCHEMAS for name in "uvwx"], chosen.randrange(1, 12)
    )
    objects = []
    for number, name in enumerate(names):
        needs = chosen.sample(names[:number], min(number, chosen.choice([0, 1, 1, 2])))
        sort = chosen.choices(list(ObjectSort), weights=[5, 2, 2, 1])[0]
        objects.append(sql_object(name, *needs, sort=sort, hash_=f"1 of {sorted(needs)}"))
    return project(*objects, stable=chosen.sample(SCHEMAS, chosen.choice([0, 1, 1, 2])))


def edited(before: Project, seed: int) -> Project:
    """The project after some edits: objects that nobody needs go, some change, some are new."""
    chosen = Random(seed)
    needed = {need for one in before.objects.values() for need in one.depends_on}
    objects = []
    for one in before.objects.values():
        what = chosen.choices(["keep", "edit", "delete"], weights=[6, 2, 1])[0]
        if what == "edit":
            objects.append(replace(one, hash=f"2{one.hash}"))
        elif what == "keep" or one.name in needed:
            objects.append(one)
    for number in range(chosen.choice([0, 0, 1, 2])):
        needs = [f"{one.name.schema}.{one.name.name}" for one in chosen.sample(objects, min(len(objects), 2))]
        sort = chosen.choices(list(ObjectSort), weights=[5, 2, 2, 1])[0]
        objects.append(sql_object(f"{chosen.choice(SCHEMAS)}.new{number}", *needs, sort=sort))
    stable = {name for name, schema in before.schemas.items() if schema.stable}
    if chosen.random() < 0.2:
        stable ^= {chosen.choice(SCHEMAS)}
    return project(*objects, stable=sorted(stable))


def live(of: Project) -> dict[ObjectName, str]:
    return {name: name.schema for name in of.objects}


def built(of: Project) -> Server:
    server = Server()
    for name, one in of.objects.items():
        server.names[name] = server.make(one, live(of))
    return server


def stage(server: Server, of: Project, made: Generation) -> None:
    placement = Placement.of(made)
    for wave in made.waves:
        for name in wave:
            one = of.objects[name]
            schemas = {need: placement.schema_of(need, one) for need in one.depends_on}
            server.names[ObjectName(placement.schema_of(name, one), name.name)] = server.make(one, schemas)


def switch(server: Server, of: Project, made: Generation) -> None:
    swapped = {SchemaAction.SWAP: True, SchemaAction.RETIRE: True, SchemaAction.ADD: False}
    for work in made.schemas:
        if swapped.get(work.action):
            server.rename(work.name, f"old {work.name}")
        if work.action in (SchemaAction.SWAP, SchemaAction.ADD):
            server.rename(work.staging or "", work.name)
    for name, object_work in made.objects.items():
        if object_work.action is ObjectAction.MOVE:
            server.names[name] = server.names.pop(ObjectName(made.staging[name.schema], name.name))
        if object_work.action is ObjectAction.RETIRE:
            server.names[ObjectName("old", name.name)] = server.names.pop(name)
    for name in made.in_switch:
        again = server.names.get(name)
        assert of.objects[name].sort is not ObjectSort.MATERIALIZED_VIEW  # which has no OR REPLACE
        assert (again is None) is (made.objects[name].action is ObjectAction.ADD)
        server.names[name] = server.make(of.objects[name], live(of), again)


numbers = st.integers(0, 2**32)


@settings(max_examples=150)
@given(numbers, numbers, st.frozensets(st.sampled_from(SCHEMAS), max_size=1))
def test_everything_is_bound_to_what_is_live(seed: int, edits: int, forced: frozenset[str]) -> None:
    """After a switch each object of the project is there once, bound to live ones, with live names as text.

    Objects of schemas that are changed in place are the ones they were, so that others stay bound to them.
    """
    before = first(seed)
    after = edited(before, edits)
    known = production(before)
    made = plan(after, known, dirty(after, known, forced=forced), key="k")
    server = built(before)
    were = dict(server.names)
    if made.refused:
        return
    stage(server, after, made)
    assert {name: server.names[name] for name in were} == were, "what is live changed before the switch"
    switch(server, after, made)
    schemas = {*after.schemas, *before.schemas}
    assert {name for name in server.names if name.schema in schemas} == set(after.objects)
    for name, one in after.objects.items():
        now = server.names[name]
        assert {need: server.names[need] for need in now.bound} == now.bound
        assert all(schema == need.schema for need, schema in now.text.items())
        assert {*now.bound, *now.text} == one.depends_on
        if name.schema in in_place(after, known) and name in were:
            assert now is were[name]
