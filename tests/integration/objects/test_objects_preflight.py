"""What would stop a generation is found before the first write, all of it at once."""

import psycopg
from psycopg.conninfo import make_conninfo

from reconciler.execution.objects.preflight import preflight
from reconciler.objects.model import ObjectName
from reconciler.postgres.connection import Dsn, connect
from tests.plugins.generations import Schema, Stand, live, view, work

PLACE = ("production", "eu")


async def test_nothing_speaks_against_what_is_ours(stand: Stand) -> None:
    """A first generation, the next one, and the same one again meet nothing, and nothing is written."""
    session = await stand.session()
    first = work("k1", view("app.a", "SELECT id FROM orders"))
    orders = ObjectName("public", "orders")
    assert await preflight(session.writer, first, place=PLACE, externals=[orders]) == ()
    await live(stand, session, first)
    following = work("k2", view("app.a", "SELECT 2 AS a"))
    assert await preflight(session.writer, following, place=PLACE) == ()
    await stand.stage(session, following)
    assert await preflight(session.writer, following, place=PLACE, roles=["public"]) == ()


async def test_everything_is_found_at_once(stand: Stand) -> None:
    """Rights with the statement that grants them, names, what stands there, what is missing, whose it is."""
    session = await stand.session()
    await live(stand, session, work("k0", view("theirs.a", "SELECT 1 AS a"), component="other"))
    await session.finish()
    role = stand.role("LOGIN PASSWORD 'x'")
    stand.run(
        "CREATE SCHEMA app; CREATE TABLE app.t (id serial); CREATE TYPE app.mood AS ENUM ('a');"
        " CREATE SCHEMA app__k1; CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        f" GRANT reconciler_tracking TO {role}"
    )
    long = "x" * 70
    wanted = work(
        "k1",
        view("app.a", "SELECT 1 AS a"),
        view("theirs.a", "SELECT 1 AS a"),
        view(f"app.{long}", "SELECT 1 AS a"),
        schemas=[Schema("app")],
    )
    dsn = Dsn(make_conninfo(stand.dsn.reveal(), user=role, password="x"))
    connection = await connect(dsn, database=stand.database, role="test")
    try:
        found = await preflight(
            connection,
            wanted,
            place=PLACE,
            externals=[ObjectName("public", "orders"), ObjectName("public", "gone")],
            roles=["nobody_of_this_name"],
        )
    finally:
        await connection.close()
    create = f"GRANT CREATE ON DATABASE {stand.database} TO {role}"
    told = [f"{one.kind} {one.subject}: {one.detail}" for one in found]
    assert told == [
        f"name {long}: PostgreSQL cuts names to 63 bytes, and this one has 70",
        "name app__k1: a schema that is not of this generation is called so",
        "owner theirs: it belongs to component 'other' of environment 'production', deployment 'eu'",
        f"privilege {stand.database}: role {role} may not make schemas: {create}",
        f"privilege app: role {role} does not act as its owner: GRANT postgres TO {role}",
        f"privilege theirs: role {role} does not act as its owner: GRANT postgres TO {role}",
        "unknown app: function app.f() is not ours, and would be displaced",
        "unknown app: sequence app.t_id_seq is not ours, and would be displaced",
        "unknown app: table app.t is not ours, and would be displaced",
        "unknown app: type app.mood is not ours, and would be displaced",
        "missing public.gone: there is no such relation",
        f"privilege public.orders: role {role} may not read it: GRANT SELECT ON public.orders TO {role}",
        "role nobody_of_this_name: there is no such role to grant to",
    ]


async def test_a_role_that_is_no_superuser_builds_and_switches(stand: Stand) -> None:
    """With CREATE on the database and what it reads, a plain role does all of it."""
    role = stand.role("LOGIN PASSWORD 'x'")
    stand.run(f"GRANT SELECT ON orders TO {role}; GRANT CREATE ON DATABASE {stand.database} TO {role}")
    dsn = Dsn(make_conninfo(stand.dsn.reveal(), user=role, password="x"))
    theirs = Stand(dsn=dsn, database=stand.database, by_hand=stand.by_hand)
    session = await theirs.session()
    try:
        for number in (1, 2):
            wanted = work(f"k{number}", view("app.a", f"SELECT {number} AS a FROM orders LIMIT 1"))
            assert await preflight(session.writer, wanted, place=PLACE) == ()
            await live(theirs, session, wanted)
        assert stand.run("SELECT a FROM app.a") == [(2,)]
        with psycopg.connect(dsn.reveal(), dbname=stand.database) as other:
            assert other.execute("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'app'")
    finally:
        await session.abandon()
