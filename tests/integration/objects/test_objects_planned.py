"""Dry runs of SQL objects over a real database: what they show is what is done, and what would stop it."""

import json

import pytest

from reconciler.errors import InvalidInput
from reconciler.plan.encode import to_json
from reconciler.plan.model import DeploymentPlan, ObjectsAsked
from reconciler.rollout.verbs import approval_digest
from tests.plugins.objects_site import ORDERS, beside, calm, ended, files, rolled, schemas, spec
from tests.plugins.site import Process, Site

TOTALS = "CREATE VIEW totals AS SELECT id, amount FROM public.orders;"
VIEWS = {
    "reports/totals": TOTALS,
    "reports/top": "CREATE VIEW top AS SELECT max(amount) AS amount FROM reports.totals;",
}


async def first(site: Site, texts: dict[str, str] = VIEWS) -> Process:
    """A worker, and what it made of the first commit."""
    process = site.process()
    process.work()
    site.commit(ORDERS, {**spec(site, objects=", retain: 0s"), **files(texts)})
    await rolled(process, state="completed")
    return process


async def previewed(process: Process, *redeploy: str, ref: str | None = None) -> DeploymentPlan:
    plan = await process.parts.reconciler.preview("production", ref=ref, redeploy=frozenset(redeploy))
    return plan.deployments[0]


async def applied(process: Process, *, state: str, objects: ObjectsAsked) -> None:
    """Record a rollout by hand and see it through."""
    await process.parts.reconciler.apply("production", reason="", requested_by="ada", objects=objects)
    process.worker.wake()
    found = await ended(process)
    assert found.state.value == state, (found.state.value, found.error)


async def test_dry_run_is_what_is_recorded_and_agreed_to(site: Site) -> None:
    """Two dry runs give the same bytes, a pass records that very plan, and approved it is carried out."""
    process = site.process()
    ((name, text),) = spec(site, objects=", retain: 0s").items()
    asking = {name: text.replace("spec:\n", "spec:\n  policy: {mode: approve}\n")}
    site.commit(ORDERS, {**asking, **files(VIEWS)})
    both = [await process.parts.reconciler.preview("production") for _ in range(2)]
    assert json.dumps(to_json(both[0])) == json.dumps(to_json(both[1]))
    await process.look()
    process.work()
    (rollout,) = await process.rollouts()
    (operation,) = rollout.operations
    assert operation.plan_digest == both[0].deployments[0].digest
    digest = approval_digest([(operation.deployment, operation.plan_digest)])
    await process.parts.reconciler.request(
        rollout.id, "approve", deployment=None, requested_by="ada", digest=digest
    )
    process.worker.wake()
    done = await ended(process, left="waiting_for_approval")
    assert (done.state.value, done.reason, done.error) == ("completed", "all stages done", None)
    assert [step.id for step in done.steps] == [step.id for step in both[0].deployments[0].steps]
    assert (await previewed(process)).pending == ()


async def test_what_would_stop_it_is_told_before_anything_is_made(site: Site) -> None:
    """A table by hand, a missing relation and role, and columns of a stable view, all in one dry run."""
    stable = {"api": "SET api = stable;", "api/one": "CREATE VIEW one AS SELECT id FROM public.orders;"}
    process = await first(site, {**VIEWS, **stable})
    site.rows("CREATE TABLE reports.notes (); SELECT 1")
    changed = {
        "reports/totals": TOTALS.replace("amount FROM", "amount AS sum FROM")
        + " GRANT SELECT ON totals TO nobody_of_this_name;",
        "reports/top": "CREATE VIEW top AS SELECT max(sum) AS amount FROM reports.totals;",
        "reports/gone": "CREATE VIEW gone AS SELECT 1 AS one FROM public.gone;",
        "api/one": "CREATE VIEW one AS SELECT amount FROM public.orders;",
    }
    environment = {
        name: text.replace("externals: [public.orders]", "externals: [public.orders, public.gone]")
        for name, text in spec(site).items()
    }
    site.commit(ORDERS, {**environment, **files(changed)})
    await process.look()
    plan = await previewed(process)
    told = [why.removeprefix("reports: ") for why in plan.blocked]
    assert told[0].startswith(
        "schema reports would be displaced, and holds what was not built from objects: table reports.notes"
    )
    assert told[1:3] == [
        "public.gone: there is no such relation, and view reports.gone reads it",
        "nobody_of_this_name: there is no such role to grant to",
    ]
    assert ": - id integer; + amount" in told[3]
    assert len(told) == 4
    assert plan.steps == ()
    assert beside(site) == []


async def test_drift_names_the_component_and_columns_are_foreseen(site: Site) -> None:
    """What is altered by hand is drift of the objects; a column that goes is told of before and behind."""
    process = await first(site)
    site.rows("ALTER VIEW reports.top SET (security_barrier); SELECT 1")
    (drift,) = (await previewed(process)).drift
    assert (drift.component, drift.identity) == ("reports", "view reports.top")
    site.rows("ALTER VIEW reports.top RESET (security_barrier); SELECT 1")

    commit = site.commit(ORDERS, files({"reports/totals": TOTALS.replace("SELECT id, ", "SELECT ")}))
    hazards = (await previewed(process, ref=commit)).hazards
    assert [hazard.code.value for hazard in hazards] == ["BREAKS_CACHED_PLANS"]
    assert "view reports.totals (- id integer)" in hazards[0].message
    await rolled(process, state="completed")
    as_text = TOTALS.replace("id, amount", "amount::text AS amount")
    commit = site.commit(ORDERS, files({"reports/totals": as_text}))
    assert (await previewed(process, ref=commit)).hazards == ()
    operation = await rolled(process, state="completed")
    assert "the result of view reports.totals changes: ~ amount: integer -> text" in str(operation)
    await calm(process)


async def test_types_of_a_stable_view_are_refused_once_they_are_known(site: Site) -> None:
    """What the text does not tell is seen beside what is live, and never reaches the switch."""
    stable = {"api": "SET api = stable;", "api/one": "CREATE VIEW one AS SELECT id FROM public.orders;"}
    process = await first(site, stable)
    as_bigint = "CREATE VIEW one AS SELECT id::bigint AS id FROM public.orders;"
    commit = site.commit(ORDERS, files({"api/one": as_bigint}))
    assert (await previewed(process, ref=commit)).blocked == ()
    operation = await rolled(process, state="failed")
    assert operation.error is not None
    assert operation.error["where"] == "reports/ready-objects"
    assert "~ id: integer -> bigint" in operation.error["why"]


async def test_schemas_are_built_anew_when_they_are_named(site: Site) -> None:
    """The dry run shows it, a rollout does it once, and an unknown name is refused with those there are."""
    process = await first(site)
    assert (await previewed(process)).steps == ()
    shown = await previewed(process, "reports")
    assert {row.reason for row in shown.pending} >= {"--redeploy-schema named reports"}
    before = site.rows("SELECT 'reports.totals'::regclass::oid")
    asked = ObjectsAsked(redeploy=frozenset({"reports"}))
    await applied(process, state="completed", objects=asked)
    assert site.rows("SELECT 'reports.totals'::regclass::oid") != before
    await calm(process)
    with pytest.raises(InvalidInput, match="no schema 'report' in the project") as caught:
        await previewed(process, "report")
    assert "reports" in str(caught.value.problems[0].hint)


async def test_what_failed_is_kept_where_that_was_asked_and_discarded_by_the_next_plan(site: Site) -> None:
    """With --no-rollback the half of it that was made can be looked at, until another rollout comes."""
    process = await first(site)
    site.commit(
        ORDERS,
        files({"reports/totals": "CREATE VIEW totals AS SELECT nothing AS amount FROM public.orders;"}),
    )
    await rolled(process, state="failed")
    assert beside(site) == []
    await applied(process, state="failed", objects=ObjectsAsked(keep_failed=True))
    (kept,) = beside(site)
    commit = site.commit(ORDERS, files({"reports/totals": TOTALS}))
    plan = await previewed(process, ref=commit)
    assert [step.kind.value for step in plan.steps] == ["discard-objects"]
    await rolled(process, state="completed")
    assert kept not in beside(site)
    await calm(process)


async def test_dependents_outside_are_told_before_anything_is_made(site: Site) -> None:
    """What would stay bound to what is displaced blocks the plan, or is bound anew where that is allowed."""
    stable = {"api": "SET api = stable;", "api/all": 'CREATE VIEW "all" AS SELECT id FROM reports.totals;'}
    process = await first(site, {**VIEWS, **stable})
    site.rows(
        "CREATE VIEW public.outside AS SELECT id FROM reports.totals;"
        " CREATE MATERIALIZED VIEW public.stored AS SELECT id FROM reports.totals;"
        " CREATE VIEW api.mine AS SELECT id FROM reports.totals; SELECT 1"
    )
    changed = files({"reports/totals": TOTALS.replace("FROM", ", 1 AS one FROM")})
    commit = site.commit(ORDERS, changed)
    why, other = (await previewed(process, ref=commit)).blocked
    assert why == (
        "reports: view api.mine, view outside: it depends on what is displaced; "
        "bring it into the folder of the objects, or allow it with `dependents: adopt`"
    )
    commit = site.commit(ORDERS, {**spec(site, objects=", retain: 0s, dependents: adopt"), **changed})
    plan = await previewed(process, ref=commit)
    (why,) = plan.blocked
    assert why == other
    assert why.startswith("reports: materialized view stored: it depends on what is displaced; it cannot be")
    assert plan.warnings == (
        "reports: view api.mine, view outside: it will be bound to what takes the place",
    )
    site.rows("DROP MATERIALIZED VIEW public.stored; SELECT 1")
    await rolled(process, state="completed")
    assert site.rows("SELECT count(*) FROM public.outside") == [(3,)]
    site.rows("CREATE VIEW public.highest AS SELECT amount FROM reports.top; SELECT 1")
    (site.repository.path / "objects/reports/reports/top.sql").unlink()
    commit = site.commit(ORDERS, {"notes.md": "without top"})
    (why,) = (await previewed(process, ref=commit)).blocked
    assert why.startswith("reports: view highest: it depends on what is displaced; it cannot be bound")


async def test_what_was_done_by_hand_is_told_before_anything_is_made(site: Site) -> None:
    """What the switch would refuse, or take along, is told of what it displaces, and of nothing else."""
    stable = {"api": "SET api = stable;", "api/one": "CREATE VIEW one AS SELECT id FROM public.orders;"}
    process = await first(site, {**VIEWS, **stable})
    site.rows(
        "CREATE OR REPLACE VIEW api.one AS SELECT 1 AS id; GRANT SELECT ON reports.top TO pg_monitor;"
        " GRANT USAGE ON SCHEMA reports TO pg_monitor; ALTER VIEW reports.totals SET (security_barrier);"
        " SELECT 1"
    )
    altered = "view reports.totals: altered by hand; "
    given = "schema reports (USAGE pg_monitor), view reports.top (SELECT pg_monitor): given by hand; "
    plan = await previewed(process, "reports")
    assert plan.blocked == (
        f"reports: {altered}take that back, or bring it into its file and allow `altered: replace`",
        f"reports: {given}take it back, or allow it with `handMadeGrants: carry` or `leave`",
    )
    assert plan.steps == ()
    (why,) = [one for one in (await previewed(process, "api")).blocked if "altered" in one]
    assert why.startswith("reports: view api.one: altered by hand; ")
    changed = files({"reports/totals": TOTALS.replace("FROM", ", 1 AS one FROM")})
    more = ", retain: 0s, altered: replace, handMadeGrants: carry"
    commit = site.commit(ORDERS, {**spec(site, objects=more), **changed})
    plan = await previewed(process, ref=commit)
    assert (plan.blocked, plan.warnings) == (
        (),
        (
            f"reports: {altered}what takes the place is as its file has it",
            f"reports: {given}it is carried over to what takes the place",
        ),
    )
    await rolled(process, state="completed")
    assert site.rows("SELECT has_table_privilege('pg_monitor', 'reports.top', 'SELECT')") == [(True,)]
    assert site.rows("SELECT has_schema_privilege('pg_monitor', 'reports', 'USAGE')") == [(True,)]


async def test_a_component_that_left_is_told_of_and_pruned_where_that_is_said(site: Site) -> None:
    """Its schemas stay and are told of; with policy.prune they are taken out as others that are displaced."""
    process = await first(site)
    ((name, text),) = spec(site).items()
    without = text[: text.index("    - {name: reports,")]
    commit = site.commit(ORDERS, {name: without})
    plan = await previewed(process, ref=commit)
    (told,) = plan.diverged
    assert (told.component, told.sort.value) == ("reports", "orphaned")
    assert told.detail == (
        "it left the spec, and its schemas are live: reports; policy.prune is off, so they stay as they are"
    )
    assert (plan.steps, plan.pending) == ((), ())
    site.commit(ORDERS, {name: without.replace("spec:\n", "spec:\n  policy: {prune: true}\n")})
    operation = await rolled(process)
    assert [step.kind for step in operation.steps] == ["stage-objects", "ready-objects", "promote-objects"]
    assert "reports" not in schemas(site)
    (kept,) = beside(site)
    assert site.rows(f'SELECT count(*) FROM "{kept}".totals') == [(3,)]
    await calm(process)
