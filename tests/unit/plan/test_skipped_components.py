"""Components that are skipped stay out of plans, and who needs what they lack waits."""

from dataclasses import replace

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.reverts import left_behind
from reconciler.diff.skipping import left_out, without_skips
from reconciler.plan import build, encode, render
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.steps import StepKind
from reconciler.state.desired import DesiredState
from reconciler.state.live import LiveDatabase
from reconciler.state.task import ModuleTask, TaskVerb, narrowed
from reconciler.state.tracked import TrackedDatabase
from tests.plugins.states import (
    change,
    database,
    desired,
    live_database,
    module,
    states,
    tracked_database,
    tracked_of,
)

CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")
SHOP = module(change("a"), change("b"), skip=True)
APP = module(change("x"), component="app-schema", project="app")


def plan_of(
    wanted: DesiredState, tracked: TrackedDatabase | None = None, live: LiveDatabase | None = None
) -> DeploymentPlan:
    both = states(tracked or tracked_database(), live or live_database())
    diff = compare(wanted, *both, {part.database: CONTEXT for part in wanted.databases})
    return build.build(wanted, left_out(diff), both)


def test_a_skipped_module_is_not_deployed() -> None:
    """The others go on, and the plan says who is left out; nothing of it is pending."""
    plan = plan_of(desired(SHOP, APP))
    assert [step.component for step in plan.steps] == ["app-schema"]
    assert [row.component for row in plan.pending] == ["app-schema"]
    assert (plan.skipped, plan.blocked, plan.diverged) == (("shop-schema",), (), ())
    assert plan_of(desired(replace(SHOP, skip=False), APP)).skipped == ()


def test_a_stage_of_skipped_components_says_so() -> None:
    """Where all of a stage are skipped, that is its reason; the environment is in sync then."""
    plan = plan_of(desired(SHOP))
    assert [stage.skipped for stage in plan.stages] == ["nothing to do", "all components are skipped"]
    assert build.whole("production", "c", Scope.FULL, [plan]).in_sync


def test_people_are_told_who_is_skipped() -> None:
    """Text, Markdown and JSON name the components, and the JSON makes the same plan again."""
    plan = plan_of(desired(SHOP, APP))
    whole = build.whole("production", "c" * 40, Scope.FULL, [plan])
    assert "  skipped: shop-schema: skip: true in the spec\n" in render.to_text(whole)
    assert "**skipped**: shop-schema" in render.to_markdown(whole)
    value = encode.deployment_to_json(plan)
    assert value["skipped"] == ["shop-schema"]
    assert encode.deployment_from_json(value) == plan


def test_who_requires_what_is_skipped_waits() -> None:
    """What a skipped module has to deploy does not come; what it has deployed already is there."""
    user = module(change("y", requires=["shop:a"]), component="user", project="user")
    plan = plan_of(desired(SHOP, user))
    assert plan.steps == ()
    assert plan.blocked == (
        "user: missing required changes: 'shop:a' (component 'shop-schema', which deploys it, is skipped)",
    )
    by_file = replace(APP, requires_modules=("shop",))
    assert "component 'shop-schema' is skipped" in plan_of(desired(SHOP, by_file)).blocked[0]
    there = tracked_database(tracked_of(change("a")))
    assert [step.identity for step in plan_of(desired(SHOP, user), there).steps] == ["change y"]


def test_a_skipped_database_that_is_ready_is_used() -> None:
    """Its modules go on; its own roles and extensions are left as they are."""
    wanted = desired(APP, databases=[database(skip=True, extensions=("citext",))])
    plan = plan_of(wanted)
    assert [step.kind for step in plan.steps] == [StepKind.DEPLOY_CHANGE]
    assert plan.skipped == ("shop-db",)
    needy = replace(APP, requires_extensions=("citext",))
    plan = plan_of(desired(needy, databases=wanted.databases))
    assert [step.kind for step in plan.steps] == [StepKind.CREATE_EXTENSION, StepKind.DEPLOY_CHANGE]


def test_a_skipped_database_that_is_not_there_holds_its_modules_up() -> None:
    """Nobody makes it, and each module on it says why it waits; skipped with it, nothing is blocked."""
    wanted = desired(APP, databases=[database(skip=True)])
    plan = plan_of(wanted, TrackedDatabase(), LiveDatabase())
    assert plan.steps == ()
    assert plan.blocked == ("app-schema: its database component 'shop-db' is skipped, and does not exist",)
    plan = plan_of(
        desired(replace(APP, skip=True), databases=wanted.databases), TrackedDatabase(), LiveDatabase()
    )
    assert (plan.blocked, plan.pending) == ((), ())
    assert plan.skipped == ("shop-db", "app-schema")


def test_a_skipped_module_has_not_left_the_spec() -> None:
    """It is no orphan, and nothing of it is pruned."""
    ours = replace(tracked_of(change("a")), environment="production", deployment="eu")
    tracked = states(tracked_database(ours), live_database())[0]
    assert list(left_behind(desired(SHOP), tracked)) == []
    assert [row.project for _database, row in left_behind(desired(APP), tracked)] == ["shop"]


def test_what_a_person_asks_for_by_name_is_not_skipped() -> None:
    """A module that is named is deployed, all modules are those that are not skipped."""
    wanted = desired(SHOP, APP)
    named = without_skips(narrowed(wanted, ModuleTask(verb=TaskVerb.DEPLOY, module="shop-schema")))
    assert [step.identity for step in plan_of(named).steps] == ["change a", "change b"]
    every = without_skips(narrowed(wanted, ModuleTask(verb=TaskVerb.DEPLOY)))
    assert [part.component for part in every.modules] == ["app-schema"]
    assert without_skips(desired(APP)) == desired(APP)
