"""SQL objects from a commit to what is live, by a pass and a worker: what is built, switched and kept."""

import pytest

from tests.plugins.objects_site import ORDERS, ask, beside, calm, ended, files, rolled, schemas, spec
from tests.plugins.site import Process, Site

VIEWS = {
    "reports/totals": "CREATE VIEW totals AS SELECT sum(amount) AS total FROM public.orders;",
    "reports/daily": (
        "CREATE MATERIALIZED VIEW daily AS SELECT id, amount FROM public.orders;\n"
        "CREATE UNIQUE INDEX daily_id ON daily (id);\nCOMMENT ON MATERIALIZED VIEW daily IS 'of each day';"
    ),
    "reports/top": "CREATE VIEW top AS SELECT max(amount) AS amount FROM reports.daily;",
}


async def first(site: Site, *, objects: str = "", texts: dict[str, str] = VIEWS) -> Process:
    """A worker, and what it made of the first commit."""
    process = site.process()
    process.work()
    site.commit(ORDERS, {**spec(site, objects=objects), **files(texts)})
    await rolled(process, state="completed" if "retain: 0s" in objects else "revert_window")
    return process


async def test_objects_are_made_over_what_the_same_commit_makes(site: Site) -> None:
    """Tables of a module come first; views, a filled materialized view and its index go live together."""
    process = await first(site)

    assert site.rows("SELECT total FROM reports.totals") == [(60,)]
    assert site.rows("SELECT amount FROM reports.top") == [(30,)]
    assert site.rows("SELECT indexrelid::regclass::text FROM pg_index WHERE indisvalid AND indisunique"
                     " AND indrelid = 'reports.daily'::regclass") == [("reports.daily_id",)]  # fmt: skip
    assert site.rows("SELECT reltuples FROM pg_class WHERE oid = 'reports.daily'::regclass") == [(3.0,)]
    operation = await ended(process)
    assert [step.kind for step in operation.steps][-3:] == [
        "stage-objects",
        "ready-objects",
        "promote-objects",
    ]
    said = {step.kind: step.said for step in operation.steps}
    assert said["stage-objects"] == "3 of 3 objects made"
    assert beside(site) == []
    await calm(process)


async def test_a_changed_view_takes_the_place_of_the_one_before_which_is_kept(site: Site) -> None:
    """What changed and what depends on it is built beside and switched to; what was displaced stands by."""
    process = await first(site)
    changed = "CREATE VIEW totals AS SELECT sum(amount) AS total, count(*) AS n FROM public.orders;"
    site.commit(ORDERS, files({"reports/totals": changed}))
    await rolled(process)

    assert site.rows("SELECT total, n FROM reports.totals") == [(60, 3)]
    assert site.rows("SELECT amount FROM reports.top") == [(30,)]
    (old,) = beside(site)
    assert site.rows(f'SELECT total FROM "{old}".totals') == [(60,)]
    await calm(process)


async def test_grants_and_comments_are_changed_in_place(site: Site) -> None:
    """Nothing is built where only grants or comments differ: the view stays the same object."""
    process = await first(site)
    oid = site.rows("SELECT 'reports.totals'::regclass::oid")
    more = VIEWS["reports/totals"] + "\nGRANT SELECT ON totals TO PUBLIC; COMMENT ON VIEW totals IS 'all';"
    site.commit(ORDERS, files({"reports/totals": more}))
    operation = await rolled(process, state="completed")

    assert [step.kind for step in operation.steps] == ["alter-objects"]
    assert site.rows("SELECT 'reports.totals'::regclass::oid") == oid
    assert site.rows("SELECT obj_description('reports.totals'::regclass)") == [("all",)]
    assert site.rows("SELECT has_table_privilege('pg_monitor', 'reports.totals', 'SELECT')") == [(True,)]
    await calm(process)


async def test_a_schema_goes_with_the_last_of_its_objects(site: Site) -> None:
    """A schema that is no longer in the project is taken out in the switch, and kept as others are."""
    process = await first(site, texts={**VIEWS, "extra/one": "CREATE VIEW one AS SELECT 1 AS one;"})
    assert "extra" in schemas(site)
    (site.repository.path / "objects/reports/extra/one.sql").unlink()
    site.commit(ORDERS)
    await rolled(process)

    assert "extra" not in schemas(site)
    assert len(beside(site)) == 1
    assert site.rows("SELECT total FROM reports.totals") == [(60,)]
    await calm(process)


async def test_a_stable_schema_is_changed_in_place(site: Site) -> None:
    """What depends on a view of a stable schema from outside stays bound to it when it gains a column."""
    process = await first(site, texts={"reports/totals": VIEWS["reports/totals"]})
    oid = site.rows("SELECT 'reports.totals'::regclass::oid")
    site.commit(ORDERS, files({"reports": "SET api = stable;"}))
    operation = await rolled(process, state="completed")
    assert [step.kind for step in operation.steps] == ["alter-objects"]
    await calm(process)
    site.rows("CREATE VIEW public.outside AS SELECT total FROM reports.totals; SELECT 1")
    changed = "CREATE VIEW totals AS SELECT sum(amount) AS total, count(*) AS n FROM public.orders;"
    site.commit(ORDERS, files({"reports/totals": changed}))
    await rolled(process)

    assert site.rows("SELECT 'reports.totals'::regclass::oid") == oid
    assert site.rows("SELECT total, n FROM reports.totals") == [(60, 3)]
    assert site.rows("SELECT total FROM public.outside") == [(60,)]


FAILING = {
    "staging": (
        {"reports/totals": "CREATE VIEW totals AS\n  SELECT 1\n    AS total, nothing FROM public.orders;"},
        "",
        "objects/reports/reports/totals.sql:3",
        'column "nothing" does not exist',
    ),
    "unit-test": (
        {
            "reports/totals": VIEWS["reports/totals"].replace("AS total", "+ 0 AS total")
            + "\nEXECUTE UNIT TEST sums\n"
            "MOCK public.orders(id int, amount int) AS (VALUES (1, 2), (2, 3)),\n"
            "EXPECTED(total bigint) AS (VALUES (6::bigint));\n"
        },
        "",
        "objects/reports/reports/totals.sql:2",
        "MISSING",
    ),
    "assertion": (
        {"reports/totals": "CREATE VIEW totals AS SELECT -1 AS total;"},
        ", assertions: [{name: positive, sql: 'SELECT total FROM reports.totals WHERE total < 0'}]",
        "reports/ready-objects",
        "checking assertion 'positive': it found 1 rows: -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING)
async def test_what_does_not_hold_never_goes_live(site: Site, case: str) -> None:
    """Staging, unit tests and assertions end the operation, say where, and change nothing that is live."""
    process = await first(site)
    texts, objects, where, why = FAILING[case]
    site.commit(ORDERS, {**spec(site, objects=objects), **files(texts)})
    operation = await rolled(process, state="failed")

    assert operation.error is not None
    assert operation.error["where"] == where
    assert why in operation.error["why"]
    assert site.rows("SELECT total FROM reports.totals") == [(60,)]
    if case == "staging":
        assert beside(site) == []

    good = "CREATE VIEW totals AS SELECT sum(amount) AS total, 1 AS good FROM public.orders;"
    site.commit(ORDERS, files({"reports/totals": good}))
    await rolled(process)
    assert site.rows("SELECT total, good FROM reports.totals") == [(60, 1)]
    assert len(beside(site)) == 1


async def test_rows_that_became_too_old_are_filled_again_before_the_switch(site: Site) -> None:
    """A materialized view that waited longer than its rows may be old is filled again when it goes live."""
    kept = "CREATE MATERIALIZED VIEW kept AS SELECT id FROM public.orders; CREATE UNIQUE INDEX ON kept (id);"
    reads = "CREATE VIEW reads AS SELECT count(*) AS n FROM base.kept;"
    texts = {**VIEWS, "base/kept": kept, "reports/reads": reads}
    process = await first(site, objects=", dataAge: 10s", texts=texts)
    changed = VIEWS["reports/daily"].replace("SELECT id", "SELECT id + 0 AS id")
    environment = spec(site, objects=", dataAge: 10s", rollout="promotion: manual")
    site.commit(ORDERS, {**environment, **files({"reports/daily": changed})})
    await rolled(process, state="waiting_for_promotion")
    site.rows("UPDATE reconciler.generation_objects SET filled_at = filled_at - interval '1 minute';"
              " INSERT INTO orders VALUES (4, 40); SELECT 1")  # fmt: skip

    assert (await ask(process, "promote")).state.value == "revert_window"
    assert site.rows("SELECT max(amount) FROM reports.daily") == [(40,)]
    assert site.rows("SELECT n FROM reports.reads") == [(4,)]
