"""Which deployed changes are taken back, in which order, by which scripts."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from reconciler.changes.script import Script
from reconciler.diff import reverts
from reconciler.diff.deployed import index_of
from reconciler.diff.model import Reverts
from reconciler.diff.reverts import Ground
from reconciler.diff.verifiable import can_tell, stored_alone
from reconciler.plan.tasks import hazards_of_revert, revert_steps
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.state.program import Purpose, compile_script
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.state.tracked import (
    Revertible,
    TrackedChange,
    TrackedDatabase,
    TrackedModule,
    TrackedState,
    Unfinished,
)
from reconciler.state.units import units
from tests.plugins.states import change, database, desired, module, tracked_database


def with_revert(name: str, **more: object) -> DesiredChange:
    made = change(name, **more)  # type: ignore[arg-type]
    return replace(made, revert=Script(f"modules/shop/revert/{name}.sql", f"drop table {name}"))


def tracked(project: str, *changes: DesiredChange, first: int = 0, **whose: Any) -> TrackedModule:
    return TrackedModule(
        project=project,
        component=f"{project}-schema",
        changes=tuple(
            TrackedChange(
                change_id=one.change_id,
                name=one.name,
                script_hash=one.script_hash,
                parse_hash=one.parse_hash,
                position=first + number,
                tags=tuple(tag for _id, tag in one.tags),
            )
            for number, one in enumerate(changes)
        ),
        **whose,
    )


def ground(
    *modules: DesiredModule, there: TrackedDatabase, stored: dict[str, Revertible] | None = None
) -> Ground:
    known = {
        row.change_id: Revertible(script=None) for each in there.modules.values() for row in each.changes
    }
    return Ground(
        desired=desired(*modules), database=database(), tracked=there, stored={**known, **(stored or {})}
    )


def task(**asked: object) -> ModuleTask:
    return ModuleTask(verb=TaskVerb.REVERT, module="shop-schema", **asked)  # type: ignore[arg-type]


def names(found: Reverts) -> list[str]:
    assert found.blocked == ()
    return [f"{one.project}:{one.change.name}" for one in found.changes]


A, B, C, D = (
    with_revert(name, tags=tags) for name, tags in (("a", ()), ("b", ("v1",)), ("c", ()), ("d", ()))
)
SHOP = module(A, B, C, D)
THERE = tracked_database(tracked("shop", A, B, C, D))


@pytest.mark.parametrize(
    ("asked", "gone"),
    [
        ({}, "d"),
        ({"to": "b"}, "dc"),
        ({"to": "@v1"}, "dc"),
        ({"to": "b@v1"}, "dc"),
        ({"to": "@HEAD"}, ""),
        ({"to": "HEAD"}, ""),
        ({"to": "@HEAD^"}, "d"),
        ({"to": "@HEAD^2"}, "dc"),
        ({"to": "HEAD^^"}, "dc"),
        ({"to": "ROOT"}, "dcb"),
        ({"to": "@ROOT~2"}, "d"),
        ({"to": "@v1~"}, "d"),
        ({"to": "@ROOT"}, "dcb"),
        ({"to": A.change_id}, "dcb"),
        ({"to": "shop:a"}, "dcb"),
        ({"everything": True}, "dcba"),
    ],
)
def test_newest_goes_first_down_to_the_target(asked: dict[str, object], gone: str) -> None:
    """The target stays, and so does all before it; without one the last change goes."""
    assert names(reverts.plan_task(ground(SHOP, there=THERE), "shop", task(**asked))) == [
        f"shop:{name}" for name in gone
    ]


@pytest.mark.parametrize("to", ["nosuch", "@v9", "other:a", "@HEAD~", "@ROOT^", "a^", "f" * 40, "", "^"])
def test_what_is_not_deployed_is_no_target(to: str) -> None:
    """Nothing is taken back, least of all everything."""
    found = reverts.plan_task(ground(SHOP, there=THERE), "shop", task(to=to))
    assert found.changes == ()
    assert "is not deployed" in found.blocked[0]


def test_instances_of_a_reworked_change_are_told_apart() -> None:
    """`a@v1` is the instance that stood when the tag was set; the bare name is refused with candidates."""
    there = tracked("shop", replace(A, name="a@v1"), replace(B, name="b"), replace(C, name="a"))
    assert [index_of(there.changes, "shop", name) for name in ("a@v1", "a@HEAD", "b@v1")] == [0, 2, 1]
    found = reverts.plan_task(ground(there=tracked_database(there)), "shop", task(to="a"))
    assert found.changes == ()
    assert "say which: a@HEAD, a@v1" in found.blocked[0]


def test_script_of_the_commit_only_for_what_was_deployed() -> None:
    """Mended revert scripts count; those of another deploy script do not, and a missing one stops all."""
    mended = replace(D, revert=Script("modules/shop/revert/d.sql", "drop table if exists d"))
    edited = replace(C, script_hash="e" * 40, parse_hash="pother")
    stored = {C.change_id: Revertible(script="drop table stored_c")}
    found = reverts.plan_task(
        ground(module(A, B, edited, mended), there=THERE, stored=stored), "shop", task(to="b")
    )
    scripts = [(one.script.text if one.script else None, one.stored) for one in found.changes]
    assert scripts == [("drop table if exists d", False), ("drop table stored_c", True)]
    assert found.changes[0].hazards == ("DELETES_DATA",)
    missing = reverts.plan_task(ground(there=THERE), "shop", task(everything=True))
    assert missing.changes == ()
    assert all(f"'shop:{name}'" in missing.blocked[0] for name in "abcd")


def test_script_that_cannot_be_one_transaction_says_so() -> None:
    """It is taken back outside of one, and the plan shows that."""
    outside = replace(D, revert=Script("revert/d.sql", "drop index concurrently i"))
    found = reverts.plan_task(ground(module(A, B, C, outside), there=THERE), "shop", task())
    assert found.blocked == ()
    assert found.changes[0].hazards == ("NOT_TRANSACTIONAL",)


def apps() -> tuple[DesiredModule, DesiredModule, TrackedDatabase, dict[str, Revertible]]:
    one, two = with_revert("one"), with_revert("two")
    app = module(one, two, component="app-schema", project="app")
    other = module(with_revert("o"), component="other-schema", project="other")
    there = tracked_database(
        tracked("shop", A, B, C, D),
        tracked("app", one, two, first=10),
        tracked("other", *other.changes, first=20),
    )
    return app, other, there, {one.change_id: Revertible(script=None, requires=("shop:@v1",))}


def test_dependents_stand_in_the_way_or_go_first() -> None:
    """They go with all that was deployed of their module after them; what nothing requires stays."""
    app, other, there, stored = apps()
    place = ground(SHOP, app, other, there=there, stored=stored)
    assert names(reverts.plan_task(place, "shop", task(to="b"))) == ["shop:d", "shop:c"]
    refused = reverts.plan_task(place, "shop", task(to="a"))
    assert refused.changes == ()
    assert "'app:one' requires 'shop:b'" in refused.blocked[0]
    assert "other:" not in refused.blocked[0]
    found = reverts.plan_task(place, "shop", task(to="a", with_dependents=True))
    assert names(found) == ["app:two", "app:one", "shop:d", "shop:c", "shop:b"]


def test_requirement_of_a_control_file_counts_from_when_it_was_deployed() -> None:
    """What was deployed of a module before is what the other one was built on; what came later is not."""
    app, other, there, _stored = apps()
    place = ground(SHOP, replace(app, requires_modules=("shop",)), other, there=there)
    assert "'app:one' requires" in reverts.plan_task(place, "shop", task()).blocked[0]
    late = replace(there, modules={**there.modules, "app": tracked("app", *app.changes, first=-10)})
    assert names(reverts.plan_task(replace(place, tracked=late), "shop", task())) == ["shop:d"]


def test_only_what_was_shown_goes() -> None:
    """What is left of it when some is gone already; nothing where more would have to go."""
    place = ground(SHOP, there=THERE)
    shown = frozenset({C.change_id, D.change_id, "gone already"})
    assert names(reverts.plan_task(place, "shop", task(), shown)) == ["shop:d", "shop:c"]
    assert names(reverts.plan_task(place, "shop", task(), frozenset({"gone already"}))) == []
    blocked = reverts.plan_task(place, "shop", task(), frozenset({C.change_id}))
    assert blocked.changes == ()
    assert "'shop:d' was deployed since the revert was shown" in blocked.blocked[0]


def test_left_behind_is_only_what_is_known_to_be_ours() -> None:
    """Of this environment and deployment, with changes, and declared by no module of the database."""
    ours: dict[str, Any] = {"environment": "production", "deployment": "eu"}
    there = tracked_database(
        tracked("shop", A, **ours),
        tracked("gone", B, **ours),
        tracked("empty", **ours),
        tracked("unknown", C),
        tracked("staged", D, environment="staging", deployment="eu"),
    )
    found = reverts.left_behind(desired(SHOP), TrackedState(databases={"shop": there}))
    assert [each.project for _database, each in found] == ["gone"]


def test_long_modules_take_no_time() -> None:
    """Five thousand changes and as many requirements are planned at once, not one against each."""
    many = [with_revert(f"t{number}") for number in range(5000)]
    stored = {
        one.change_id: Revertible(script="drop table t", requires=(before.name,))
        for before, one in pairwise(many)
    }
    place = ground(there=tracked_database(tracked("shop", *many)), stored=stored)
    assert reverts.plan_task(place, "shop", task(to="t0")).blocked == ()


def test_interrupted_revert_says_what_a_person_has_to_decide() -> None:
    """What the database cannot show is a hazard that needs consent; what it can show is none."""
    call = replace(D, revert=Script("modules/shop/revert/d.sql", "call p();\nvacuum t"))
    assert call.revert is not None
    parts = units(compile_script(call.revert, purpose=Purpose.REVERT))

    def codes(**noted: Any) -> list[tuple[str, str]]:
        left = Unfinished(change_id=D.change_id, project="shop", name="d", script_hash=None, **noted)
        there = replace(THERE, unfinished={D.change_id: left})
        found = reverts.plan_task(ground(module(A, B, C, call), there=there), "shop", task())
        return [(code.value, message) for code, message in hazards_of_revert(found.changes[0])][1:]

    told = "CALL at modules/shop/revert/d.sql:1 was interrupted, and may have done its work"
    assert codes(running=parts[0].hash, words=parts[0].words) == [("REPEATS_STATEMENT", told)]
    assert codes(done=(parts[0].hash,), running=parts[1].hash, words=parts[1].words) == []


def test_what_remains_is_verified_behind_a_revert() -> None:
    """As a step of its own, also for who goes on where all was taken back; never where nothing is to go."""

    def kinds(only: frozenset[str] | None = None, **asked: object) -> list[str]:
        found = reverts.plan_task(ground(SHOP, there=THERE), "shop", task(**asked), only)
        return [step.kind.value for step in revert_steps(found)]

    assert kinds() == ["revert-change", "verify-remaining"]
    assert kinds(frozenset({D.change_id})) == ["revert-change", "verify-remaining"]
    assert kinds(frozenset({"e" * 40})) == ["verify-remaining"]
    assert kinds(to="d") == []
    assert kinds(to="nosuch") == []


def test_verify_script_of_what_goes_is_that_of_what_was_deployed() -> None:
    """The commit's where it has the change, else the stored one."""
    looks = replace(D, verify=Script("modules/shop/verify/d.sql", "table d"))
    stored = {D.change_id: Revertible(script="drop table d", verify="table stored_d")}

    def verifies(*changes: DesiredChange) -> str:
        found = reverts.plan_task(ground(module(*changes), there=THERE, stored=stored), "shop", task())
        (one,) = found.changes
        return one.verify.text if one.verify is not None else ""

    assert verifies(A, B, C, looks) == "table d"
    assert verifies(A, B, C) == "table stored_d"


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("", False),
        ("select 1", False),
        ("select true; -- from nothing\nSELECT 'x' AS y", False),
        ("set search_path = shop; select 1", False),
        ("begin; select 1; rollback", False),
        ("select id from shop.t where false", True),
        ("select has_schema_privilege('shop', 'usage')", True),
        ("select 'shop.t'::regclass", True),
        ("table t", True),
        ("do $$ begin assert false; end $$", True),
    ],
)
def test_who_looks_at_nothing_cannot_tell(text: str, *, can: bool) -> None:
    """A verify script that passes whatever is there says nothing when it passes behind a revert."""
    assert can_tell(compile_script(Script("verify/x.sql", text), purpose=Purpose.VERIFY)) is can


def test_of_a_module_that_left_the_commit_the_newest_instances_are_verified() -> None:
    """By the scripts that were stored with them."""
    there = tracked("shop", replace(A, name="a@v1"), B, replace(C, name="a"))
    assert [(row.change, row.stored) for row in stored_alone(there)] == [("b", True), ("a", True)]


@pytest.mark.parametrize("there_still", [True, False])
def test_everything_that_cannot_go_is_told_at_once(*, there_still: bool) -> None:
    """Missing scripts and those that cannot run, of the commit or stored, before anything is taken back."""
    broken = Script("modules/shop/revert/c.sql", "drop table c;\n\\gexec")
    commit = (A, replace(B, revert=None), replace(C, revert=broken), replace(D, revert=None))
    texts = {A.change_id: "drop table a", C.change_id: "\\ir gone.sql"}
    stored = {key: Revertible(script=text) for key, text in texts.items()}
    modules = (module(*commit),) if there_still else ()
    found = reverts.plan_task(ground(*modules, there=THERE, stored=stored), "shop", task(everything=True))
    assert (found.changes, found.verify) == ((), False)
    missing, problem = found.blocked
    assert missing == "no revert script, neither in the commit nor stored: 'shop:d', 'shop:b'"
    told = "modules/shop/revert/c.sql:2" if there_still else "shop:revert/c.sql (stored):1"
    assert told in problem


def test_what_a_deployment_that_left_had_goes_over_all_modules() -> None:
    """All of its own goes, newest first over modules; what others deployed there stays."""
    shop = [with_revert(name) for name in ("a", "b")]
    bill = [with_revert("c"), with_revert("d")]
    mine = {"environment": "production", "deployment": "eu"}
    there = tracked_database(
        tracked("shop", *shop, first=1, **mine),
        tracked("bill", *bill, first=10, **mine),
        tracked("other", with_revert("e"), first=20, environment="production", deployment="us"),
        tracked("nobody", with_revert("f"), first=30),
    )
    stored = {
        row.change_id: Revertible(script=f"drop table {row.name}")
        for each in there.modules.values()
        for row in each.changes
    }
    found = reverts.plan_place(ground(there=there, stored=stored))
    assert found is not None
    assert ([one.change.name for one in found.changes], found.blocked) == (["d", "c", "b", "a"], ())
    assert all(one.stored for one in found.changes)
    others = tracked_database(tracked("other", with_revert("e"), environment="x", deployment="eu"))
    assert reverts.plan_place(ground(there=others, stored=stored)) is None


@pytest.mark.parametrize("why", ["required", "no script"])
def test_what_others_built_on_stands_in_the_way_of_pruning_a_place(why: str) -> None:
    """Another environment's change that requires one keeps all; so does a change with no revert script."""
    a, e = with_revert("a"), with_revert("e")
    mine = {"environment": "production", "deployment": "eu"}
    there = tracked_database(
        tracked("shop", a, first=1, **mine), tracked("other", e, first=2, environment="x", deployment="y")
    )
    stored = {
        a.change_id: Revertible(script="drop table a" if why == "required" else None),
        e.change_id: Revertible(
            script="drop table e", requires_ids=(a.change_id,) if why == "required" else ()
        ),
    }
    found = reverts.plan_place(ground(there=there, stored=stored))
    assert found is not None
    assert found.changes == ()
    (said,) = found.blocked
    assert ("'other:e' requires 'shop:a'" in said) is (why == "required")
    assert ("no revert script" in said) is (why == "no script")
