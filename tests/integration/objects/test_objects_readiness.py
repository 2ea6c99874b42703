"""Filling and checking what was staged: told as it goes on, bounded, gone on from where it was left."""

import pytest

from reconciler.errors import StepFailed
from reconciler.execution.objects.dropping import Surprised
from reconciler.execution.objects.metadata import Metadata, apply_metadata
from reconciler.execution.objects.readiness import Assertion, make_ready
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import promote
from reconciler.objects.model import ObjectName
from tests.plugins.generations import Schema, Stand, StrikeOnce, Struck, live, matview, view, work

TWO = (
    matview("app.first", "SELECT id FROM orders", indexes=["CREATE INDEX ON {app}.first (id)"]),
    matview("app.second", "SELECT count(*) AS n FROM {app}.first", wave=1),
)


async def test_it_is_filled_with_statistics_and_told(stand: Stand) -> None:
    """One view after the other, each with its rows counted; a dead process is gone on from."""
    session = await stand.session()
    told: list[str] = []

    async def tell(what: str) -> None:
        told.append(what)

    wanted = work("k1", *TWO)
    await stand.stage(session, wanted)
    strike = Manner(told=tell, interference=StrikeOnce("filling app.second"))
    with pytest.raises(Struck):
        await make_ready(session, wanted, deadline_s=60, manner=strike)
    await session.abandon()
    session = await stand.session()
    beside = [await session.with_writer(stand.dsn)]
    found = await make_ready(session, wanted, deadline_s=60, manner=Manner(told=tell), beside=beside)
    assert found.state == "ready"
    assert told == [
        "materialized view app.first is filled, 1 of 2",
        "materialized view app.second is filled, 1 of 1",
    ]
    assert stand.run("SELECT reltuples FROM pg_class WHERE oid = 'app__k1.first'::regclass") == [(10,)]
    assert stand.run("SELECT n FROM app__k1.second") == [(10,)]


async def test_an_assertion_that_finds_rows_is_not_ready(stand: Stand) -> None:
    """What it found is shown; nothing it does stays, and once it holds the generation is ready."""
    session = await stand.session()
    wanted = work("k1", *TWO)
    await stand.stage(session, wanted)
    wrong = Assertion(name="few orders", query="SELECT id, 'x' FROM app__k1.first WHERE id > 8 ORDER BY 1")
    with pytest.raises(StepFailed, match="assertion 'few orders': it found 2 rows: 9, x; 10, x"):
        await make_ready(session, wanted, deadline_s=60, assertions=[wrong])
    writes = Assertion(name="writes", query="DELETE FROM public.orders RETURNING id")
    with pytest.raises(StepFailed, match="read-only transaction"):
        await make_ready(session, wanted, deadline_s=60, assertions=[writes])
    assert stand.state("k1") == "staged"
    holds = Assertion(name="no strange ones", query="SELECT id FROM app__k1.first WHERE id < 0")
    assert (await make_ready(session, wanted, deadline_s=60, assertions=[holds])).state == "ready"


async def test_what_takes_too_long_or_fails_is_told(stand: Stand) -> None:
    """A deadline ends the query that runs; an error of the data names the view and its file."""
    session = await stand.session()
    slow = work("k1", matview("app.slow", "SELECT pg_sleep(600)::text AS s"))
    await stand.stage(session, slow)
    with pytest.raises(StepFailed, match=r"filling materialized view app\.slow: not ready within 0\.2 s"):
        await make_ready(session, slow, deadline_s=0.2)
    bad = work("k2", matview("bad.data", "SELECT 1 / (id - id) AS n FROM orders"))
    await stand.stage(session, bad)
    with pytest.raises(StepFailed, match="division by zero") as caught:
        await make_ready(session, bad, deadline_s=60)
    assert caught.value.file == "objects/bad/data.sql"


async def test_grants_and_comments_change_in_place(stand: Stand) -> None:
    """What files said and say no more goes, what was given by hand stays, and nothing is built anew."""
    ours, mine = stand.role(), stand.role()
    session = await stand.session()
    draft = view(
        "app.a",
        "SELECT 1 AS a",
        metadata=[
            f"GRANT SELECT ON {{app}}.a TO {ours}",
            "COMMENT ON VIEW {app}.a IS 'old'",
            "COMMENT ON COLUMN {app}.a.a IS 'old'",
        ],
    )
    said = [Schema("app", [f"GRANT USAGE ON SCHEMA {{app}} TO {ours}", "COMMENT ON SCHEMA {app} IS 'old'"])]
    await live(stand, session, work("k1", draft, schemas=said))
    stand.run(f"GRANT SELECT ON app.a TO {mine}; GRANT USAGE ON SCHEMA app TO {mine}")
    before = stand.run("SELECT oids FROM reconciler.generation_objects")
    wanted = [
        Metadata(
            name=ObjectName("app", "a"),
            statements=(f"GRANT UPDATE ON app.a TO {ours}", "COMMENT ON VIEW app.a IS 'new'"),
            metadata_hash="2",
            options={"security_barrier": "true"},
        ),
        Metadata(
            name=ObjectName("app", ""), statements=("COMMENT ON SCHEMA app IS 'new'",), metadata_hash="3"
        ),
    ]
    for _ in range(2):
        await apply_metadata(session, wanted)
        grants = (
            "SELECT reconciler.relation_acl('app.a'::regclass), reconciler.schema_acl('app'::regnamespace)"
        )
        objects, schema = stand.run(grants)[0]
        assert sorted(objects) == sorted(["OWNER\tpostgres", f"SELECT\t{mine}", f"UPDATE\t{ours}"])
        assert sorted(schema) == sorted(["OWNER\tpostgres", f"USAGE\t{mine}"])
        assert stand.run(
            "SELECT obj_description(c.oid, 'pg_class'), col_description(c.oid, 1), reloptions,"
            " obj_description(relnamespace, 'pg_namespace') FROM pg_class c WHERE oid = 'app.a'::regclass"
        ) == [("new", None, ["security_barrier=true"], "new")]
    assert stand.run("SELECT oids FROM reconciler.generation_objects") == before
    assert stand.run("SELECT metadata_hash FROM reconciler.generation_objects") == [("2",)]
    await stand.stage(session, work("k2", view("app.a", "SELECT 2 AS a")))
    await make_ready(session, work("k2", view("app.a", "SELECT 2 AS a")), deadline_s=60)
    with pytest.raises(Surprised, match=rf"app: USAGE {mine}; view app\.a: SELECT {mine}"):
        await promote(session, "k2")
    # Once the files give that too, it is by hand no more; what they do not give still is.
    stand.run(f"GRANT INSERT ON app.a TO {mine}")
    texts = {"a": f"GRANT SELECT ON app.a TO {mine}", "": f"GRANT USAGE ON SCHEMA app TO {mine}"}
    wanted = [
        Metadata(name=ObjectName("app", name), statements=(text,), metadata_hash="4")
        for name, text in texts.items()
    ]
    await apply_metadata(session, wanted)
    with pytest.raises(Surprised, match=rf"in the way: view app\.a: INSERT {mine} "):
        await promote(session, "k2")
    stand.run(f"REVOKE INSERT ON app.a FROM {mine}")
    await promote(session, "k2")
