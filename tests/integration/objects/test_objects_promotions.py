"""What waits for its promotion, goes live by another worker and goes back; and what others do meanwhile."""

import pytest

from reconciler.rollout.verbs import approval_digest
from tests.plugins.objects_site import ORDERS, ask, beside, calm, ended, files, rolled, schemas, spec
from tests.plugins.site import Process, Site, holds

MANUAL = "promotion: manual"
TOTALS = "CREATE VIEW totals AS SELECT sum(amount) AS total FROM public.orders;"
CHANGED = "CREATE VIEW totals AS SELECT sum(amount) + 1 AS total FROM public.orders;"
OTHER = "CREATE VIEW other AS SELECT 1 AS one;"


async def parked(site: Site, *, objects: str = "") -> Process:
    """A worker that made the first generation live, and staged the second, which waits."""
    process = site.process()
    process.work()
    texts = files({"reports/totals": TOTALS, "reports/other": OTHER})
    site.commit(ORDERS, {**spec(site, objects=objects), **texts})
    await rolled(process)
    site.commit(ORDERS, {**spec(site, objects=objects, rollout=MANUAL), **files({"reports/totals": CHANGED})})
    await rolled(process, state="waiting_for_promotion")
    return process


def total(site: Site) -> int:
    ((found,),) = site.rows("SELECT total FROM reports.totals")
    return int(found)


async def test_parked_it_is_no_drift_and_another_worker_goes_on_and_back(site: Site) -> None:
    """What waits holds no worker and looks like no drift; promoted and reverted, live and records agree."""
    process = await parked(site)
    await calm(process)
    assert total(site) == 60
    assert len(beside(site)) == 1
    await process.stop()

    other = site.process("two")
    other.work()
    assert (await ask(other, "promote")).state.value == "revert_window"
    assert total(site) == 61
    await calm(other)

    assert (await ask(other, "revert")).state.value == "reverted"
    assert total(site) == 60
    assert sorted(set(schemas(site)) - set(beside(site))) == ["public", "reports"]
    await calm(other)


async def test_what_is_in_the_way_of_a_revert_ends_no_window(site: Site) -> None:
    """A table by hand refuses the switch back and is named; once it is gone, another revert takes it back."""
    process = await parked(site)
    await ask(process, "promote")
    site.rows("CREATE TABLE reports.mine (); SELECT 1")
    newest = (await process.rollouts())[0]
    await process.parts.reconciler.request(newest.id, "revert", deployment=None, requested_by="ada")
    process.worker.wake()

    async def refused() -> bool:
        operation = (await process.rollouts())[0].operations[0]
        return operation.state.value == "revert_window" and "reports.mine" in (operation.reason or "")

    await holds(refused, "the revert to be refused")
    assert total(site) == 61
    site.rows("DROP TABLE reports.mine; SELECT 1")
    await calm(process)

    assert (await ask(process, "revert")).state.value == "reverted"
    assert total(site) == 60


async def test_whoever_lets_it_go_live_is_told_what_readers_will_hear(site: Site) -> None:
    """What is seen only once it is built, such as another type of a column, is told while it waits."""
    process = await parked(site)
    other = "CREATE VIEW totals AS SELECT sum(amount)::int AS total FROM public.orders;"
    site.commit(ORDERS, files({"reports/totals": other}))
    operation = await rolled(process, state="waiting_for_promotion")

    assert operation.reason is not None
    assert "total: bigint -> integer" in operation.reason


async def test_what_somebody_agreed_to_is_what_goes_live(site: Site) -> None:
    """Under approval, what waits for its promotion goes live as the end of the plan that was agreed to."""
    process = await parked(site)
    await ask(process, "promote")
    ((name, text),) = spec(site, rollout=MANUAL).items()
    text = text.replace("  rollout: {", "  policy: {mode: approve}\n  rollout: {")
    site.commit(ORDERS, {name: text, **files({"reports/totals": CHANGED.replace("+ 1", "+ 2")})})
    await rolled(process, state="waiting_for_approval")
    newest = (await process.rollouts())[0]
    digest = approval_digest([(one.deployment, one.plan_digest) for one in newest.operations])
    await process.parts.reconciler.request(
        newest.id, "approve", deployment=None, requested_by="ada", digest=digest
    )
    process.worker.wake()
    assert (await ended(process, left="waiting_for_approval")).state.value == "waiting_for_promotion"

    assert (await ask(process, "promote")).state.value == "revert_window"
    assert total(site) == 62
    assert (await process.rollouts())[0].id == newest.id


async def test_stopped_while_it_waits_it_goes_on_with_what_is_staged(site: Site) -> None:
    """A stop and a start change nothing of what waits; it is built once."""
    process = await parked(site)
    staged = beside(site)
    assert (await ask(process, "stop")).state.value == "stopped"
    assert beside(site) == staged
    assert (await ask(process, "start")).state.value == "waiting_for_promotion"

    assert beside(site) == staged
    assert (await ask(process, "promote")).state.value == "revert_window"
    assert total(site) == 61
    assert site.rows("SELECT count(*) FROM reconciler.generations") == [(2,)]


async def test_overtaken_while_it_waits_it_is_built_anew_upon_what_is_live(site: Site) -> None:
    """Where something else went live since, what was staged goes, and another promotion is asked for."""
    process = await parked(site)
    (before,) = beside(site)
    site.rows("UPDATE reconciler.generation_objects SET hash = 'other' WHERE name = 'other'; SELECT 1")
    rollout = (await process.rollouts())[0].id
    await process.parts.reconciler.request(rollout, "promote", deployment=None, requested_by="ada")
    process.worker.wake()

    async def anew() -> bool:
        state = (await process.rollouts())[0].operations[0].state.value
        return state == "waiting_for_promotion" and before not in beside(site)

    await holds(anew, "it to be built anew and to wait again")
    assert total(site) == 60
    assert (await ask(process, "promote")).state.value == "revert_window"
    assert total(site) == 61
    await calm(process)


async def test_what_was_taken_back_can_be_wanted_again(site: Site) -> None:
    """A newer commit with the same objects makes them live once more, and what was taken back is gone."""
    process = await parked(site)
    await ask(process, "promote")
    assert (await ask(process, "revert")).state.value == "reverted"
    (taken_back,) = beside(site)
    site.commit(ORDERS, {**spec(site, objects=", retain: 0s"), "notes.md": "nothing of the objects"})
    await rolled(process, state="completed")

    assert total(site) == 61
    assert taken_back not in beside(site)
    await calm(process)


async def test_a_newer_commit_takes_away_what_waits(site: Site) -> None:
    """What was staged for a commit that another superseded is dropped, but where the other has the same."""
    process = await parked(site)
    (before,) = beside(site)
    site.commit(ORDERS, {"notes.md": "nothing of the objects\n"})
    await process.look()
    assert before in beside(site)
    third = "CREATE VIEW totals AS SELECT sum(amount) + 2 AS total FROM public.orders;"
    site.commit(ORDERS, files({"reports/totals": third}))
    await rolled(process, state="waiting_for_promotion")

    assert before not in beside(site)
    assert (await ask(process, "promote")).state.value == "revert_window"
    assert total(site) == 62


IN_THE_WAY = {
    "made-in-live": ("CREATE TABLE reports.mine ()", "mine", "move what was not built"),
    "granted-by-hand": (
        "GRANT SELECT ON reports.totals TO pg_monitor",
        "pg_monitor",
        "`handMadeGrants: carry` or `leave`",
    ),
    "altered-by-hand": (
        "CREATE OR REPLACE VIEW reports.totals AS SELECT 7::bigint AS total",
        "totals",
        "`altered: replace`",
    ),
    "depends-on-it": (
        "CREATE VIEW public.outside AS SELECT * FROM reports.totals",
        "outside",
        "`dependents: adopt`",
    ),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
async def test_what_somebody_made_meanwhile_is_not_displaced(site: Site, case: str) -> None:
    """What is in the way of a switch fails it, is named, and stays; nothing of the switch is done."""
    process = await parked(site)
    statement, named, way_out = IN_THE_WAY[case]
    site.rows(f"{statement}; SELECT 1")
    operation = await ask(process, "promote")

    assert operation.state.value == "failed"
    assert operation.error is not None
    assert named in operation.error["why"]
    assert "nothing was changed" in operation.error["next"]
    assert way_out in operation.error["next"]
    assert total(site) in (60, 7)


@pytest.mark.parametrize("what", ['VIEW "{}".totals', 'SCHEMA "{}" CASCADE'], ids=["view", "schema"])
async def test_what_was_staged_and_dropped_by_hand_is_made_again(site: Site, what: str) -> None:
    """Somebody drops what is staged while it waits: it is built once more, and goes live whole."""
    process = await parked(site)
    (staged,) = beside(site)
    site.rows(f"DROP {what.format(staged)}; SELECT 1")

    assert (await ask(process, "promote")).state.value == "revert_window"
    assert total(site) == 61
    assert site.rows("SELECT one FROM reports.other") == [(1,)]
    await calm(process)


async def test_what_was_staged_and_altered_by_hand_does_not_go_live(site: Site) -> None:
    """Somebody alters what is staged: it is told, and neither goes live nor is thrown away."""
    process = await parked(site)
    (staged,) = beside(site)
    altered = f'CREATE OR REPLACE VIEW "{staged}".totals AS SELECT 7::numeric AS total'
    site.rows(f'DROP VIEW "{staged}".totals; {altered}; SELECT 1')
    operation = await ask(process, "promote")

    assert operation.state.value == "failed"
    assert site.rows(f'SELECT total FROM "{staged}".totals') == [(7,)]
    assert total(site) == 60


async def test_a_view_that_is_filled_for_long_is_broken_off_by_a_cancel(site: Site) -> None:
    """A cancel does not wait for a materialized view that takes for ever; nothing of it goes live."""
    process = await parked(site)
    slow = "CREATE MATERIALIZED VIEW slow AS SELECT pg_sleep(3600)::text AS slept;"
    site.commit(ORDERS, files({"reports/slow": slow}))
    await process.look()
    process.worker.wake()

    async def fills() -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query ~ 'REFRESH'"
        return bool(site.rows(f"{query} AND state = 'active' AND pid <> pg_backend_pid()"))

    await holds(fills, "the view to be filled")
    assert (await ask(process, "cancel")).state.value == "cancelled"
    assert not await fills()
    assert total(site) == 60


async def test_a_switch_in_place_waits_for_who_reads_for_long(site: Site) -> None:
    """What changes a stable schema tries again while somebody's transaction is open, and says so."""
    process = site.process()
    process.work()
    site.commit(ORDERS, {**spec(site), **files({"reports": "SET api = stable;", "reports/totals": TOTALS})})
    await rolled(process)
    reader = await site.connect()
    await reader.execute("BEGIN")
    await reader.execute("SELECT * FROM reports.totals")
    site.commit(ORDERS, files({"reports/totals": CHANGED}))
    await process.look()
    process.worker.wake()

    async def waits() -> bool:
        rollout = (await process.rollouts())[0].id
        steps = (await process.parts.reconciler.rollout(rollout)).operations[0].steps
        return any("trying again" in (step.said or "") for step in steps)

    await holds(waits, "the switch to be tried again")
    assert total(site) == 60
    await reader.execute("COMMIT")
    assert (await ended(process)).state.value == "revert_window"
    assert total(site) == 61


async def test_policy_of_the_component_lets_a_switch_take_others_along(site: Site) -> None:
    """With `carry`, `adopt` and `replace` the same switch is made, and says what it took along."""
    more = ", handMadeGrants: carry, dependents: adopt, altered: replace"
    process = await parked(site, objects=more)
    for statement, *_told in [IN_THE_WAY["granted-by-hand"], IN_THE_WAY["depends-on-it"]]:
        site.rows(f"{statement}; SELECT 1")
    operation = await ask(process, "promote")

    assert operation.state.value == "revert_window", operation.error
    assert operation.reason is not None
    assert "pg_monitor" in operation.reason
    assert site.rows("SELECT total FROM public.outside") == [(61,)]
    assert site.rows("SELECT has_table_privilege('pg_monitor', 'reports.totals', 'SELECT')") == [(True,)]
