"""Workers that die at any point of a generation: the next attempt ends where one without a fault does."""

import pytest
from typing_extensions import override

from tests.plugins.objects_site import (
    ORDERS,
    StrikeOnce,
    ask,
    beside,
    calm,
    files,
    generation_states,
    rolled,
    spec,
)
from tests.plugins.site import Process, Site

POINTS = {
    "build": [
        "before reports/stage-objects",
        "reports/stage-objects: begun",
        "reports/stage-objects: inside reports.daily",
        "reports/stage-objects: objects made",
        "after reports/stage-objects",
    ],
    "ready-and-switch": [
        "reports/ready-objects: filling reports.daily",
        "after reports/ready-objects",
        "reports/promote-objects: inside switch",
        "reports/promote-objects: switched",
        "after reports/promote-objects",
        "settle",
    ],
    "behind": [
        "before reports/run-deferred/note",
        "reports/run-deferred/note: inside deferred",
        "reports/run-deferred/note: deferred done",
    ],
}
"""Behind one phase is before the next; what comes before the switch in its transaction is inside of it."""
NOTE = ", retain: 0s, deferred: [{name: note, sql: 'INSERT INTO public.notes VALUES (1)'}]"
MANUAL = "promotion: manual"
KEEPING = {"ready-and-switch": ("", "revert_window"), "behind": (NOTE, "completed")}
"""What the component says, and where that leads to."""


def texts(number: int) -> dict[str, str]:
    return files(
        {
            "reports/daily": f"CREATE MATERIALIZED VIEW daily AS SELECT {number} AS n FROM public.orders;",
            "reports/top": "CREATE VIEW top AS SELECT max(n) AS n FROM reports.daily;",
        }
    )


async def begun(site: Site, strikes: StrikeOnce, objects: str) -> Process:
    """A worker that made the first generation live."""
    process = site.process(interference=strikes, retry_base=0.01)
    process.work()
    tables = {**ORDERS, "notes": "create table notes (n int);"}
    site.commit(tables, {**spec(site, objects=objects), **texts(0)})
    await rolled(process, state="completed" if "retain: 0s" in objects else "revert_window")
    return process


@pytest.mark.parametrize("phase", POINTS)
async def test_a_death_at_any_point_changes_nothing_of_the_end(site: Site, phase: str) -> None:
    """Struck before, inside and after each phase, all goes live once, and no staging schema is left."""
    strikes = StrikeOnce()
    objects, state = KEEPING.get(phase, (", retain: 0s", "completed"))
    process = await begun(site, strikes, objects)
    for number, point in enumerate(POINTS[phase], start=1):
        strikes.point = point
        site.commit({**ORDERS, "notes": "create table notes (n int);"}, texts(number))
        operation = await rolled(process, state=state)

        assert strikes.point is None, f"{point} was never reached: {strikes.seen}"
        assert operation.error is None, point
        assert site.rows("SELECT n FROM reports.top") == [(number,)], point
        assert {state for state, _ in generation_states(site)} <= {"live", "retained", "retired"}, point
        if phase == "behind":
            assert site.rows("SELECT count(*) FROM notes") == [(number + 1,)], point
        strikes.seen.clear()
    await calm(process)


OVERTAKEN = """
    WITH live AS (SELECT generation AS number FROM reconciler.live_schemas WHERE schema = 'reports'),
    new AS (
        INSERT INTO reconciler.generations
            (key, component, environment, deployment, commit, operation, actor, state, promoted_at)
        SELECT 'other', component, environment, deployment, commit, operation, actor, 'live', now()
        FROM reconciler.generations, live WHERE generation = live.number
        RETURNING generation AS number
    ),
    s AS (
        INSERT INTO reconciler.generation_schemas
            (generation, schema, sort, live_oid, staging_name, staging_oid, version, acl)
        SELECT new.number, schema, sort, live_oid, staging_name, staging_oid, version, acl
        FROM reconciler.generation_schemas, live, new WHERE generation = live.number
    ),
    o AS (
        INSERT INTO reconciler.generation_objects
            (generation, schema, name, sort, action, wave, hash, metadata_hash, oids, version, fingerprint,
            acl)
        SELECT
            new.number, schema, name, sort, action, wave, hash, metadata_hash, oids, version, fingerprint,
            acl
        FROM reconciler.generation_objects, live, new WHERE generation = live.number
    )
    UPDATE reconciler.live_schemas SET generation = new.number FROM new WHERE schema = 'reports' RETURNING 1
"""


REMOVED = """
    WITH taken AS (UPDATE reconciler.fence SET epoch = epoch + 1),
    gone AS (
        UPDATE reconciler.generations SET state = 'cancelled', ended_at = now() WHERE state = 'ready'
        RETURNING generation
    ),
    o AS (DELETE FROM reconciler.generation_objects AS o USING gone WHERE o.generation = gone.generation)
    SELECT 1 FROM gone
"""


class Meanwhile(StrikeOnce):
    """At its point, something else is done by another, as far as the records tell."""

    def __init__(self, site: Site, statement: str) -> None:
        super().__init__()
        self._site = site
        self._statement = statement

    @override
    def at(self, point: str) -> None:
        if point == self.point:
            self.point = None
            assert self._site.rows(self._statement) == [(1,)]


async def test_overtaken_just_before_the_switch_it_is_built_anew(site: Site) -> None:
    """A switch that finds another generation live is not made: all is planned anew upon that one, at once."""
    overtaker = Meanwhile(site, OVERTAKEN)
    process = await begun(site, overtaker, ", retain: 0s")
    overtaker.point = "before reports/promote-objects"
    site.commit({**ORDERS, "notes": "create table notes (n int);"}, texts(1))
    operation = await rolled(process, state="completed")

    assert overtaker.point is None
    assert operation.attempts == 1
    assert site.rows("SELECT n FROM reports.top") == [(1,)]
    assert site.rows("SELECT count(*) FROM reconciler.generations WHERE state = 'cancelled'") == [(1,)]


async def test_what_upkeep_removed_since_it_was_planned_is_built_anew(site: Site) -> None:
    """Who goes on with what is ready, and takes the fence behind one that removed it, plans anew at once."""
    remover = Meanwhile(site, REMOVED)
    process = await begun(site, remover, "")
    site.commit(
        {**ORDERS, "notes": "create table notes (n int);"}, {**spec(site, rollout=MANUAL), **texts(1)}
    )
    await rolled(process, state="waiting_for_promotion")
    remover.point = "before reports/promote-objects"
    operation = await ask(process, "promote")

    assert remover.point is None
    assert operation.state.value == "revert_window", operation.error
    assert site.rows("SELECT n FROM reports.top") == [(1,)]


async def test_a_death_while_what_waits_is_discarded_leaves_nothing_of_it(site: Site) -> None:
    """Struck inside and behind the discard of what waited, the rest of it goes, and what is newer waits."""
    strikes = StrikeOnce()
    process = await begun(site, strikes, "")
    manual = spec(site, rollout=MANUAL)
    site.commit({**ORDERS, "notes": "create table notes (n int);"}, {**manual, **texts(1)})
    await rolled(process, state="waiting_for_promotion")
    points = [": before dropping materialized view {staging}.daily", ""]
    for number, point in enumerate(points, start=2):
        ((key, staging),) = site.rows(
            "SELECT key, staging_name FROM reconciler.generations INNER JOIN reconciler.generation_schemas"
            " USING (generation) WHERE state = 'ready'"
        )
        step = f"reports/discard-objects/{key}"
        strikes.point = f"{step}{point.format(staging=staging)}" if point else f"after {step}"
        site.commit({**ORDERS, "notes": "create table notes (n int);"}, {**manual, **texts(number)})
        await rolled(process, state="waiting_for_promotion")
        assert strikes.point is None, f"never reached: {strikes.seen}"
        assert len(beside(site)) == 1
        assert dict(generation_states(site))["ready"] == 1
        strikes.seen.clear()

    assert (await ask(process, "promote")).state.value == "revert_window"
    assert site.rows("SELECT n FROM reports.top") == [(3,)]
    await calm(process)


class Cutter(StrikeOnce):
    """At its point, the server ends all connections that write."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    @override
    def at(self, point: str) -> None:
        if point == self.point:
            self.point = None
            self._site.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'reconciler%'"
            )


async def test_connections_that_are_cut_are_only_another_attempt(site: Site) -> None:
    """Cut while it builds, switches or goes back, an operation is tried again, and ends as it would have."""
    cutter = Cutter(site)
    process = await begun(site, cutter, "")
    for number, point in enumerate(
        ["reports/stage-objects: inside reports.top", "reports/promote-objects: inside switch"], start=1
    ):
        cutter.point = point
        site.commit({**ORDERS, "notes": "create table notes (n int);"}, texts(number))
        operation = await rolled(process)
        assert cutter.point is None, point
        assert operation.attempts >= 2, point
        assert site.rows("SELECT n FROM reports.top") == [(number,)], point
    cutter.point = "revert reports: inside switch"
    operation = await ask(process, "revert")

    assert cutter.point is None
    assert operation.state.value == "reverted", operation.error
    assert site.rows("SELECT n FROM reports.top") == [(1,)]
    await calm(process)


async def test_a_death_while_going_back_changes_nothing_of_the_end(site: Site) -> None:
    """A revert that is struck before, inside and after its switch ends with what was before live again."""
    strikes = StrikeOnce()
    process = await begun(site, strikes, ", retain: 0s")
    for number, point in enumerate(
        ["revert reports: before switch", "revert reports: switched", "reverted reports"], start=1
    ):
        site.commit({**ORDERS, "notes": "create table notes (n int);"}, {**spec(site), **texts(number)})
        await rolled(process)
        strikes.point = point

        assert (await ask(process, "revert")).state.value == "reverted", point
        assert strikes.point is None, f"{point} was never reached: {strikes.seen}"
        assert site.rows("SELECT n FROM reports.top") == [(0,)], point
    await calm(process)
    assert beside(site) != []  # kept until upkeep drops it
