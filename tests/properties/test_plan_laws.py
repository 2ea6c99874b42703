"""Laws of comparing and planning: it converges, it is a function of its inputs, and it is safe."""

import dataclasses
import hashlib
import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.plan import build, encode, render
from reconciler.plan.build import Consent
from reconciler.plan.check import check
from reconciler.plan.digest import digest
from reconciler.plan.hazards import NEEDS_CONSENT, HazardCode
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.steps import (
    AdoptDatabase,
    AnyStep,
    CreateDatabase,
    CreateExtension,
    CreateRole,
    DeployChange,
    InstallTracking,
    RecordTag,
    TakeBaseLine,
)
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredChange, DesiredModule, DesiredRole, DesiredState
from reconciler.state.live import LiveDatabase, LiveRole, LiveState
from reconciler.state.tracked import TrackedChange, TrackedDatabase, TrackedModule, TrackedState
from tests.plugins.states import base_line, change, database, desired, live_database, module, tracked_database

Both = tuple[TrackedState, LiveState]
CONTEXT = DatabaseContext(versions=Versions(tracking=2, fingerprint_algorithm=1), drift="warn")
EVERYTHING = frozenset(code.value for code in HazardCode)
READERS = DesiredRole(name="readers")
WRITER = DesiredRole(
    name='wr"iter',
    attributes=(("login", True), ("createdb", True)),
    member_of=("readers",),
    password=SecretReference(env="WRITER"),
)
STAGES = ("databases", "first", "second")
HAZARDS = st.sampled_from([(), (), ("DELETES_DATA",), ("REWRITES_TABLE", "NOT_TRANSACTIONAL")])
WORDS = st.sampled_from(["a", "b", "c", "d", 'we"ird', "Ünï", "e f"])


@st.composite
def modules(draw: st.DrawFn, number: int) -> DesiredModule:
    """A module with some changes, each of which may carry tags and hazards."""
    names = draw(st.lists(WORDS, unique=True, max_size=5))
    project = f"project{number}"
    return module(
        *(
            change(
                name,
                change_id=f"{number}{place}".ljust(40, "0"),
                hazards=draw(HAZARDS),
                tags=draw(st.sampled_from([(), (f"v{number}.{place}",)])),
            )
            for place, name in enumerate(names)
        ),
        component=f"module{number}",
        project=project,
        stage=draw(st.sampled_from(STAGES)),
        database=f"db{number % 2}",
        database_component=f"db{number % 2}",
        requires_extensions=draw(st.sampled_from([(), ("citext",)])),
    )


@st.composite
def wanted_states(draw: st.DrawFn) -> DesiredState:
    parts = [draw(modules(number)) for number in range(draw(st.integers(0, 4)))]
    databases = [
        database(
            component=f"db{number}",
            database=f"db{number}",
            extensions=draw(st.sampled_from([(), ("citext",), ("pg_trgm", "citext")])),
            roles=draw(st.sampled_from([(), (READERS,), (READERS, WRITER)])),
        )
        for number in (0, 1)
    ]
    return desired(*parts, databases=databases, stages=STAGES)


@st.composite
def situations(draw: st.DrawFn) -> tuple[DesiredState, Both]:
    """A desired state, and what may be found: nothing, a stranger's, ours, ours and half done."""
    wanted = draw(wanted_states())
    tracked, live = {}, {}
    for part in wanted.databases:
        match draw(st.sampled_from(["absent", "foreign", "ours", "moving", "older"])):
            case "absent":
                found = TrackedDatabase(), LiveDatabase(available_extensions=frozenset({"citext", "pg_trgm"}))
            case "foreign":
                found = TrackedDatabase(), live_database()
            case what:
                deployed = [
                    _record(one, draw(st.integers(0, len(one.changes))))
                    for one in wanted.modules
                    if one.database == part.database
                ]
                ours = tracked_database(
                    *deployed,
                    version=1 if what == "older" else 2,
                    base_line=base_line(moving=what == "moving"),
                )
                found = ours, live_database()
        tracked[part.database], live[part.database] = found
    roles = {"readers": LiveRole()} if draw(st.booleans()) else {}
    return wanted, (TrackedState(databases=tracked), LiveState(server_major=18, databases=live, roles=roles))


def _record(one: DesiredModule, count: int) -> TrackedModule:
    return TrackedModule(
        project=one.project,
        component=one.component,
        changes=tuple(_tracked(item, place) for place, item in enumerate(one.changes[:count])),
    )


def _tracked(item: DesiredChange, place: int, *, tags: bool = False) -> TrackedChange:
    return TrackedChange(
        change_id=item.change_id,
        name=item.name,
        script_hash=item.script_hash,
        parse_hash=item.parse_hash,
        position=place,
        tags=tuple(tag for _id, tag in item.tags) if tags else (),
    )


def plan_of(wanted: DesiredState, both: Both, allowed: frozenset[str] = EVERYTHING) -> DeploymentPlan:
    contexts = {part.database: CONTEXT for part in wanted.databases}
    return build.build(wanted, compare(wanted, *both, contexts), both, consent=Consent(allowed=allowed))


def applied(wanted: DesiredState, both: Both, steps: tuple[AnyStep, ...]) -> Both:
    """What steps leave behind, as the real ones do."""
    tracked, live, roles = dict(both[0].databases), dict(both[1].databases), dict(both[1].roles)
    changes = {item.change_id: item for one in wanted.modules for item in one.changes}
    for step in steps:
        name = step.database
        match step:
            case CreateDatabase() | AdoptDatabase() | InstallTracking() | TakeBaseLine():
                live[name] = dataclasses.replace(live_database(), extensions=live[name].extensions)
                tracked[name] = dataclasses.replace(
                    tracked[name], installed=True, version=2, base_line=base_line()
                )
            case CreateExtension():
                more = {**live[name].extensions, step.extension: "1.0"}
                live[name] = dataclasses.replace(live[name], extensions=more)
            case CreateRole():
                assert all(group in roles for group in step.member_of)
                made = LiveRole(
                    attributes=dict.fromkeys(step.attributes, True), member_of=frozenset(step.member_of)
                )
                roles.setdefault(step.role, made)
            case DeployChange():
                old = tracked[name].modules.get(step.project)
                before = old.changes if old else ()
                row = _tracked(changes[step.change_id], len(before), tags=True)
                tracked[name] = _with(tracked[name], step.project, (*before, row))
            case RecordTag():
                rows = tuple(
                    dataclasses.replace(row, tags=(*row.tags, step.tag))
                    if row.change_id == step.change_id
                    else row
                    for row in tracked[name].modules[step.project].changes
                )
                tracked[name] = _with(tracked[name], step.project, rows)
    return TrackedState(databases=tracked), LiveState(server_major=18, databases=live, roles=roles)


def _with(found: TrackedDatabase, project: str, rows: tuple[TrackedChange, ...]) -> TrackedDatabase:
    one = TrackedModule(project=project, component="any", changes=rows)
    return dataclasses.replace(found, modules={**found.modules, project: one})


@given(situations())
def test_planning_after_applying_is_empty(situation: tuple[DesiredState, Both]) -> None:
    """Carrying out a plan brings what is there to what is desired: planning again finds nothing."""
    wanted, both = situation
    after = applied(wanted, both, plan_of(wanted, both).steps)
    again = plan_of(wanted, after)
    assert again.steps == ()
    assert (again.pending, again.drift, again.blocked) == ((), (), ())
    assert build.whole("production", "c", Scope.FULL, [again]).in_sync


@given(situations(), st.data())
def test_an_interrupted_plan_goes_on_with_what_is_left(
    situation: tuple[DesiredState, Both], data: st.DataObject
) -> None:
    """After any number of its steps, planning again gives the rest in the same order."""
    wanted, both = situation
    steps = plan_of(wanted, both).steps
    done = data.draw(st.integers(0, len(steps)))
    rest = plan_of(wanted, applied(wanted, both, steps[:done]))
    assert [step.id for step in rest.steps] == [step.id for step in steps[done:]]


@given(situations(), st.randoms(use_true_random=False))
def test_same_inputs_in_any_order_give_the_same_bytes(
    situation: tuple[DesiredState, Both], shuffle: random.Random
) -> None:
    """The order in which states were read decides nothing."""
    wanted, (tracked, live) = situation

    def mixed(found: dict[str, Any]) -> dict[str, Any]:
        items = list(found.items())
        shuffle.shuffle(items)
        return dict(items)

    other = (
        TrackedState(
            databases={
                name: dataclasses.replace(value, modules=mixed(dict(value.modules)))
                for name, value in mixed(dict(tracked.databases)).items()
            }
        ),
        dataclasses.replace(live, databases=mixed(dict(live.databases)), roles=mixed(dict(live.roles))),
    )
    first, second = plan_of(wanted, (tracked, live)), plan_of(wanted, other)
    assert json.dumps(encode.deployment_to_json(first)) == json.dumps(encode.deployment_to_json(second))
    whole = [build.whole("production", "c" * 40, Scope.FULL, [plan]) for plan in (first, second)]
    assert render.to_text(whole[0]) == render.to_text(whole[1])


@given(situations())
def test_nothing_dangerous_goes_without_consent(situation: tuple[DesiredState, Both]) -> None:
    """A plan with a hazard that needs consent is refused, step by step; with consent it is not."""
    wanted, both = situation
    plan = plan_of(wanted, both, frozenset())
    dangerous = [hazard for step in plan.steps for hazard in step.hazards if hazard.code in NEEDS_CONSENT]
    assert len(plan.refused) == len(dangerous)
    assert plan_of(wanted, both).refused == ()


@given(situations())
def test_stages_go_forward_and_everything_comes_after_what_it_needs(
    situation: tuple[DesiredState, Both],
) -> None:
    """Stages stand in the order of the spec, and a database is made before anything is done in it."""
    wanted, both = situation
    plan = plan_of(wanted, both)
    assert check(plan) == []
    assert [stage.name for stage in plan.stages] == list(STAGES)
    seen: set[str] = set()
    for step in plan.steps:
        if isinstance(step, CreateDatabase | AdoptDatabase):
            assert step.database not in seen
        seen.add(step.database)
    for one in wanted.modules:
        own = [
            step.change_id
            for step in plan.steps
            if isinstance(step, DeployChange) and step.project == one.project
        ]
        order = [item.change_id for item in one.changes]
        assert own == order[len(order) - len(own) :]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=30,
)


@given(JSON, st.lists(JSON, max_size=4))
def test_a_digest_is_of_the_whole_canonical_text(value: Any, items: list[Any]) -> None:
    """However it is written for that, and whether its lists are there or are only given out."""

    def whole(one: Any) -> str:
        text = json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    assert digest(value) == whole(value)
    given_out = {"stages": ({"steps": iter([item]), "of": value} for item in items)}
    assert digest(given_out) == whole({"stages": [{"steps": [item], "of": value} for item in items]})
