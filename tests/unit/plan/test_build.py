"""From a diff to a plan, its digests, its JSON and what people are shown."""

import dataclasses
import json
import re

import pytest

from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.plan import build, encode, render
from reconciler.plan.build import Consent
from reconciler.plan.check import check
from reconciler.plan.model import DeploymentPlan, LeftDeployment, Scope
from reconciler.plan.steps import StepKind
from reconciler.state.desired import DesiredGate, DesiredState
from reconciler.state.live import LiveDatabase
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


def plan_of(
    wanted: DesiredState,
    tracked: TrackedDatabase,
    live: LiveDatabase,
    *,
    allowed: frozenset[str] = frozenset(),
    gate_due: bool = False,
) -> DeploymentPlan:
    both = states(tracked, live)
    diff = compare(wanted, *both, {part.database: CONTEXT for part in wanted.databases})
    return build.build(wanted, diff, both, consent=Consent(allowed=allowed), gate_due=gate_due)


def test_first_plan_creates_then_deploys() -> None:
    """Stages in order, one step per change, every step with its component."""
    wanted = desired(module(change("a"), change("b")), databases=[database(extensions=("citext",))])
    plan = plan_of(wanted, TrackedDatabase(), LiveDatabase())
    assert [(stage.name, [step.kind for step in stage.steps]) for stage in plan.stages] == [
        ("databases", [StepKind.CREATE_DATABASE, StepKind.CREATE_EXTENSION]),
        ("migrations", [StepKind.DEPLOY_CHANGE, StepKind.DEPLOY_CHANGE]),
    ]
    assert all(step.component for step in plan.steps)
    assert check(plan) == []


def test_plan_of_what_is_applied_is_empty() -> None:
    """Everything deployed: no steps, in sync, each stage says why it is skipped."""
    a = change("a")
    plan = plan_of(desired(module(a)), tracked_database(tracked_of(a)), live_database())
    assert plan.steps == ()
    assert [stage.skipped for stage in plan.stages] == ["nothing to do", "nothing to do"]
    assert build.whole("production", "c", Scope.FULL, [plan]).in_sync


def test_same_inputs_same_bytes_and_another_commit_another_digest() -> None:
    """A plan is a function of its inputs."""
    first = plan_of(desired(module(change("a"))), tracked_database(), live_database())
    second = plan_of(desired(module(change("a"))), tracked_database(), live_database())
    assert json.dumps(encode.deployment_to_json(first)) == json.dumps(encode.deployment_to_json(second))
    other = plan_of(desired(module(change("a", text="select 1"))), tracked_database(), live_database())
    assert first.digest != other.digest


def test_digest_follows_what_the_steps_touch_and_nothing_else() -> None:
    """Another tracked head makes another digest; drift elsewhere does not."""
    a, b = change("a"), change("b")
    wanted = desired(module(a, b))
    before = plan_of(wanted, tracked_database(tracked_of(a)), live_database())
    after = plan_of(wanted, tracked_database(), live_database())
    assert before.base != after.base
    elsewhere = plan_of(
        wanted, tracked_database(tracked_of(a)), live_database(extensions={"hstore": "1.8"}, probe="moved")
    )
    assert before.digest == elsewhere.digest


def test_blocked_module_blocks_later_stages_and_not_its_neighbours() -> None:
    """A component that cannot go on holds back later stages; others of its stage go on."""
    a = change("a")
    broken = module(change("x"), component="broken", project="other", stage="migrations")
    wanted = desired(
        broken,
        module(a),
        module(change("z"), component="late", project="late", stage="later"),
        stages=("databases", "migrations", "later"),
    )
    gone = tracked_of(change("gone"))
    recorded = tracked_database(type(gone)(project="other", component="broken", changes=gone.changes))
    plan = plan_of(wanted, recorded, live_database())
    assert [step.component for step in plan.steps] == ["shop-schema"]
    assert any("stage 'later' waits" in why for why in plan.blocked)


def test_missing_requirements_are_all_listed_before_anything_runs() -> None:
    """Every unmet requirement is named at once; the module gets no step."""
    wanted = desired(module(change("a", requires=["base:x", "base:@v9"]), change("b", requires=["nosuch"])))
    plan = plan_of(wanted, tracked_database(), live_database())
    assert plan.steps == ()
    assert re.findall(r"'([^']*)' \(no module|'(nosuch)'", plan.blocked[0]) == [
        ("base:x", ""),
        ("base:@v9", ""),
        ("", "nosuch"),
    ]


def test_module_required_by_another_comes_first() -> None:
    """Inside a stage a module follows the modules its changes require."""
    app = module(change("a1", requires=["base:b1"]), component="app", project="app")
    base = module(change("b1"), component="base", project="base")
    plan = plan_of(desired(app, base), tracked_database(), live_database())
    assert [step.component for step in plan.steps] == ["base", "app"]


def test_conflicting_change_is_blocked() -> None:
    """A change that conflicts with a deployed one is refused."""
    a, b = change("a"), change("b", conflicts=["a"])
    plan = plan_of(desired(module(a, b)), tracked_database(tracked_of(a)), live_database())
    assert "'b' conflicts with deployed 'a'" in plan.blocked[0]


def test_hazard_needs_consent() -> None:
    """A destructive change is refused until its hazard is allowed; the plan shows it either way."""
    wanted = desired(module(change("drop", hazards=["DELETES_DATA"])))
    refused = plan_of(wanted, tracked_database(), live_database())
    assert "DELETES_DATA" in refused.refused[0]
    allowed = plan_of(wanted, tracked_database(), live_database(), allowed=frozenset({"DELETES_DATA"}))
    assert allowed.refused == ()
    assert allowed.digest == refused.digest


def test_plan_survives_its_json() -> None:
    """What an operation records is what it was."""
    plan = plan_of(
        desired(
            module(change("a", hazards=["REWRITES_TABLE"])), databases=[database(extensions=("citext",))]
        ),
        TrackedDatabase(),
        LiveDatabase(),
    )
    text = json.dumps(encode.deployment_to_json(plan))
    assert encode.deployment_from_json(json.loads(text)) == plan


@pytest.mark.parametrize("name", ["a\nb", 'x"y', "\x1b[31mred", "|`*_<b>", "ü" * 31])
def test_hostile_names_cannot_break_what_is_shown(name: str) -> None:
    """Names with newlines, escapes or markup stay one line, one cell, no terminal escape."""
    wanted = desired(databases=[database(database=name)])
    both = states(TrackedDatabase(), LiveDatabase())
    diff = compare(wanted, *both, {name: CONTEXT})
    plan = build.whole("production", "c" * 40, Scope.FULL, [build.build(wanted, diff, both)])
    text, markdown = render.to_text(plan), render.to_markdown(plan)
    assert "\x1b" not in text + markdown
    assert len([line for line in text.splitlines() if "create-database" in line]) == 1
    row = next(line for line in markdown.splitlines() if "create-database" in line)
    assert row.replace("\\|", "").count("|") == 6


def test_text_says_what_holds_and_what_is_blocked() -> None:
    """Every notice of a deployment stands in the text."""
    wanted = desired(module(change("a")))
    both = states(tracked_database(), live_database())
    diff = compare(wanted, *both, {"shop": CONTEXT})
    plan = build.build(wanted, diff, both, held="rollout 7 failed")
    text = render.to_text(build.whole("production", "c" * 40, Scope.FULL, [plan]))
    assert "held: rollout 7 failed" in text
    assert "1 step to run, 1 deployment held" in text


def test_unreadable_deployment_is_not_in_sync() -> None:
    """What could not be read is never taken for done."""
    plan = build.unavailable(desired(), "connection refused")
    whole = build.whole("production", "c" * 40, Scope.FULL, [plan])
    assert not whole.in_sync
    assert "unreadable: connection refused" in render.to_text(whole)


def test_database_that_is_gone_needs_consent() -> None:
    """Making it anew is a hazard: the step is shown and refused, and allowed by who names the code."""
    wanted = desired(module(change("a")))
    both = states(TrackedDatabase(), LiveDatabase())
    diff = compare(wanted, *both, {"shop": dataclasses.replace(CONTEXT, made=True)})
    refused = build.build(wanted, diff, both)
    assert "RECREATES_DATABASE" in refused.refused[0]
    consent = Consent(allowed=frozenset({"RECREATES_DATABASE"}))
    assert build.build(wanted, diff, both, consent=consent).refused == ()


def test_module_comes_after_its_database_in_one_stage() -> None:
    """Whatever else stands in the stage."""
    wanted = desired(module(change("a"), stage="all"), databases=[database(stage="all")], stages=["all"])
    plan = plan_of(wanted, TrackedDatabase(), LiveDatabase())
    assert [step.kind for step in plan.steps] == [StepKind.CREATE_DATABASE, StepKind.DEPLOY_CHANGE]


GATE = DesiredGate(component="shop-db", database="shop", wave=0, sql="SELECT true", timeout_s=30.0)


def test_a_gate_is_asked_behind_everything_else() -> None:
    """It is the last step, in a stage of its own, and comes back from JSON as it was."""
    wanted = dataclasses.replace(desired(module(change("a"))), gate=GATE)
    plan = plan_of(wanted, tracked_database(), live_database())
    assert plan.stages[-1].name == build.GATE_STAGE
    assert [step.kind for step in plan.steps] == [StepKind.DEPLOY_CHANGE, StepKind.CHECK_GATE]
    assert [row.identity for row in plan.pending] == ["change a"]
    assert check(plan) == []
    again = encode.deployment_from_json(json.loads(json.dumps(encode.deployment_to_json(plan))))
    assert again == plan
    other = dataclasses.replace(wanted, gate=dataclasses.replace(GATE, sql="SELECT 1 = 1"))
    assert plan_of(other, tracked_database(), live_database()).digest != plan.digest


def test_a_gate_alone_is_asked_only_where_it_was_not_passed() -> None:
    """What is applied needs no gate; where the last one said no it is all that is pending."""
    a = change("a")
    wanted = dataclasses.replace(desired(module(a)), gate=GATE)
    there = (tracked_database(tracked_of(a)), live_database())
    assert plan_of(wanted, *there).steps == ()
    due = plan_of(wanted, *there, gate_due=True)
    assert [step.kind for step in due.steps] == [StepKind.CHECK_GATE]
    assert [row.identity for row in due.pending] == ["gate of wave 0"]
    assert plan_of(desired(module(a)), *there, gate_due=True).steps == ()


def test_a_deployment_that_left_is_planned_as_such() -> None:
    """Its plan says which commit had it, its digest too; it comes back from JSON, as what is told does."""
    wanted = dataclasses.replace(desired(), prune_from="b" * 40)
    there = (tracked_database(), live_database())
    plan = plan_of(wanted, *there)
    assert plan.prune_from == "b" * 40
    assert plan.digest != plan_of(desired(), *there).digest
    assert encode.deployment_from_json(json.loads(json.dumps(encode.deployment_to_json(plan)))) == plan
    row = LeftDeployment(name="us", leaves=True, prune=False, detail="it stays", databases=("shop_us",))
    both = build.whole("production", "a" * 40, Scope.FULL, [plan], [row])
    assert both.digest == build.whole("production", "a" * 40, Scope.FULL, [plan]).digest
    (again,) = json.loads(json.dumps(encode.to_json(both)))["left"]
    assert encode.left_from_json(again) == row
    assert "  leaves: us (shop_us): it stays\n" in render.to_text(both)
    assert "deployment eu (left the spec; as of commit bbbbbbbbbbbb)" in render.to_text(both)
    assert "| us | leaves | shop\\_us | it stays |" in render.to_markdown(both)
