"""Plans with SQL objects: their steps, what holds them back, and what people are shown."""

from dataclasses import replace

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import ObjectsDiff, OpenGeneration
from reconciler.diff.objects import BuiltState, stopped
from reconciler.diff.objects import compare as compare_objects
from reconciler.errors import Problem
from reconciler.objects.model import ObjectSort, Project
from reconciler.plan import build, render
from reconciler.plan.check import check
from reconciler.plan.encode import deployment_from_json, deployment_to_json
from reconciler.plan.model import DeploymentPlan, ObjectsAsked, Scope
from reconciler.plan.objects_text import OBJECTS_MAX, span
from reconciler.plan.steps import PromoteObjects, StepKind
from reconciler.state.desired import DesiredObjects, DesiredState
from tests.plugins.object_projects import NOTHING_BUILT, desired, production, project, sql_object
from tests.plugins.states import change, live_database, module, states, tracked_database
from tests.plugins.states import desired as desired_state

CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")
PLACE = ("production", "eu")
OPEN = sql_object("core.open")
DAILY = sql_object("reports.daily", "core.open", sort=ObjectSort.MATERIALIZED_VIEW)
LATE = sql_object("reports.late", "reports.daily")
ALL = project(OPEN, DAILY, LATE)
EDITED = project(sql_object("core.open", hash_="2"), DAILY, LATE)


def wanting(*objects: DesiredObjects, modules: bool = False) -> DesiredState:
    own = (module(change("a")),) if modules else ()
    state = desired_state(*own, stages=("databases", "migrations", "objects", "later"))
    return replace(state, objects=objects)


def planned(wanted: DesiredState, *parts: ObjectsDiff) -> DeploymentPlan:
    both = states(tracked_database(), live_database())
    diff = compare(wanted, *both, {"shop": CONTEXT})
    return build.build(wanted, replace(diff, objects=parts), both)


def plan_of(part: ObjectsDiff) -> DeploymentPlan:
    return planned(wanting(part.desired), part)


def over(of: Project, built: BuiltState) -> ObjectsDiff:
    return compare_objects(desired(of), built, place=PLACE)


FIRST = over(ALL, BuiltState(production=NOTHING_BUILT))
CHANGED = over(EDITED, BuiltState(production=production(ALL), generations={"core": 1, "reports": 1}))


def shown(plan: DeploymentPlan) -> str:
    return render.to_text(build.whole("production", "c" * 40, Scope.FULL, [plan]))


def test_objects_come_in_their_stage_behind_modules() -> None:
    """Tables of the same commit are made first; then objects are staged, filled and checked, and promoted."""
    plan = planned(wanting(FIRST.desired, modules=True), FIRST)
    assert [(stage.name, [step.kind for step in stage.steps]) for stage in plan.stages] == [
        ("databases", []),
        ("migrations", [StepKind.DEPLOY_CHANGE]),
        ("objects", [StepKind.STAGE_OBJECTS, StepKind.READY_OBJECTS, StepKind.PROMOTE_OBJECTS]),
        ("later", []),
    ]
    assert check(plan) == []


def test_plan_survives_json() -> None:
    """What was asked, what is warned of and all steps come back as they were."""
    warned = replace(CHANGED, warnings=(Problem(message="filled from what is live"),))
    plan = replace(plan_of(warned), asked=ObjectsAsked(redeploy=frozenset({"core", "ops"}), keep_failed=True))
    assert plan.warnings == ("analytics: filled from what is live",)
    assert deployment_from_json(deployment_to_json(plan)) == plan


def test_blocked_objects_hold_later_stages_back() -> None:
    """Nothing is done of a component that cannot go on, and what comes behind it waits."""
    blocked = stopped(FIRST, ["core: it belongs to somebody"])
    later = replace(desired(ALL, component="more"), stage="later")
    plan = planned(
        wanting(blocked.desired, later),
        blocked,
        compare_objects(later, BuiltState(production=NOTHING_BUILT), place=PLACE),
    )
    assert plan.steps == ()
    assert plan.blocked == (
        "analytics: core: it belongs to somebody",
        "stage 'later' waits: component 'analytics' of stage 'objects' is blocked",
    )


def test_blocked_objects_with_nothing_to_do_hold_nothing_back() -> None:
    """Where all is live as it should be, whatever stands in the way stands in nobody's."""
    idle = stopped(over(ALL, BuiltState(production=production(ALL))), ["no"])
    later = replace(desired(ALL, component="more"), stage="later")
    plan = planned(
        wanting(idle.desired, later),
        idle,
        compare_objects(later, BuiltState(production=NOTHING_BUILT), place=PLACE),
    )
    assert len(plan.steps) == 3


def test_components_of_one_stage_keep_their_order() -> None:
    """One after the other as the spec has them, unless one is declared after another."""
    one, other = desired(ALL, component="one"), desired(ALL, component="other")
    parts = [
        compare_objects(each, BuiltState(production=NOTHING_BUILT), place=PLACE) for each in (one, other)
    ]
    plan = planned(wanting(one, other), *parts)
    assert [step.component for step in plan.steps] == ["one"] * 3 + ["other"] * 3
    after = replace(one, after=("other",))
    plan = planned(wanting(after, other), replace(parts[0], desired=after), parts[1])
    assert [step.component for step in plan.steps] == ["other"] * 3 + ["one"] * 3


def test_digest_follows_from_what_is_done_and_over_what() -> None:
    """The same inputs give the same digest; another generation under it, or one more to discard, another."""
    again = over(EDITED, BuiltState(production=production(ALL), generations={"core": 1, "reports": 1}))
    assert plan_of(CHANGED).digest == plan_of(again).digest
    moved = over(EDITED, BuiltState(production=production(ALL), generations={"core": 2, "reports": 1}))
    left = OpenGeneration(key="old", state="staged", commit="c", operation="o")
    discarding = replace(CHANGED, discard=(left,))
    assert len({plan_of(part).digest for part in (CHANGED, moved, discarding)}) == 3


def test_changed_columns_are_a_hazard_that_needs_no_consent() -> None:
    """Who prepared statements over a view whose columns change is told of, and nobody has to agree."""
    names = [(f"view core.v{number}", "- old integer") for number in range(9)]
    plan = plan_of(replace(CHANGED, changed_results=tuple(names)))
    (step,) = [step for step in plan.steps if isinstance(step, PromoteObjects)]
    (hazard,) = step.hazards
    assert hazard.code == "BREAKS_CACHED_PLANS"
    assert hazard.message.endswith("view core.v4 (- old integer) and 4 more")
    assert plan.refused == ()


def test_text_says_what_is_built_and_why() -> None:
    """The dry run names schemas beside, objects with their reasons, and how long the old is kept."""
    plan = plan_of(
        replace(CHANGED, discard=(OpenGeneration(key="old", state="ready", commit="c", operation="o"),))
    )
    core, reports = CHANGED.generation.staging["core"], CHANGED.generation.staging["reports"]
    key = CHANGED.generation.key
    text = shown(plan)
    assert text.splitlines()[3:] == [
        "  stage objects",
        "    - discard-objects  analytics  generation old",
        "        drop what was staged of it: its turn never came",
        f"    + stage-objects    analytics  generation {key}: 2 schemas, 3 objects",
        f"        schema core: exchanged for {core}, 1 object",
        "          build view core.open because its definition changed",
        f"        schema reports: exchanged for {reports}, 2 objects",
        "          build materialized view reports.daily because core.open, which it reads, is rebuilt",
        "          build view reports.late because reports.daily, which it reads, is rebuilt",
        "        in 3 waves, those of one side by side",
        f"    + ready-objects    analytics  generation {key}: 2 schemas, 3 objects",
        "        fill 1 materialized view:",
        "          reports.daily",
        "        within 30m, or nothing goes live",
        f"    + promote-objects  analytics  generation {key}: 2 schemas, 3 objects",
        "        in one transaction: core, reports",
        "        what they displace is kept for 1h, to be reverted to",
        "        dependents outside: refuse; grants made by hand: refuse; objects altered by hand: refuse",
    ]


def test_what_was_staged_before_is_told_where_it_goes_live() -> None:
    """Whoever lets a parked generation go on still sees what it is, and why it was built."""
    begun = OpenGeneration(key=CHANGED.generation.key, state="ready", commit="c", operation="o")
    lines = shown(plan_of(replace(CHANGED, begun=begun))).splitlines()
    assert lines[lines.index("        staged before:") + 1 :] == [
        "          view core.open: its definition changed",
        "          materialized view reports.daily: core.open, which it reads, is rebuilt",
        "          view reports.late: reports.daily, which it reads, is rebuilt",
    ]


def test_many_objects_are_counted() -> None:
    """Two hundred objects of one schema stay readable, as text and as Markdown."""
    many = project(*(sql_object(f"core.v{number:03}") for number in range(200)))
    plan = plan_of(over(many, BuiltState(production=NOTHING_BUILT)))
    text = shown(plan)
    assert f"… and {200 - OBJECTS_MAX} more" in text
    assert len(text.splitlines()) < 60
    markdown = render.to_markdown(build.whole("production", "c" * 40, Scope.FULL, [plan]))
    assert f"… and {200 - OBJECTS_MAX} more" in markdown
    assert "<details><summary>stage-objects analytics: generation" in markdown


def test_names_end_no_line_and_no_cell() -> None:
    """What is in a name cannot become markup or another line."""
    odd = project(sql_object("core.a|b\n<script>"))
    plan = plan_of(over(odd, BuiltState(production=NOTHING_BUILT)))
    markdown = render.to_markdown(build.whole("production", "c" * 40, Scope.FULL, [plan]))
    assert "<script>" not in markdown
    assert "b\n" not in shown(plan)


def test_durations_are_told_as_specs_have_them() -> None:
    """The greatest unit that gives a whole number."""
    assert [span(value) for value in (0, 45, 90, 1800, 5400, 86_400)] == [
        "0s",
        "45s",
        "90s",
        "30m",
        "90m",
        "1d",
    ]
