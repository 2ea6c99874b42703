"""Installing the tracking schema on real PostgreSQL."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import reconciler.tracking
from reconciler.errors import Refused
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.install import TRACKING_VERSION, install
from reconciler.tracking.read import read_tracked
from reconciler.tracking.record import begin_writes

EVERYTHING = """
    SELECT 'class ' || oid::regclass::text, xmin::text, relacl::text FROM pg_class
    WHERE relnamespace = 'reconciler'::regnamespace
    UNION ALL SELECT 'proc ' || oid::regprocedure::text, xmin::text, proacl::text FROM pg_proc
    WHERE pronamespace = 'reconciler'::regnamespace
    UNION ALL SELECT 'schema', xmin::text, nspacl::text FROM pg_namespace WHERE nspname = 'reconciler'
    UNION ALL SELECT 'migration', xmin::text, '' FROM reconciler.migrations
    UNION ALL SELECT 'fence', xmin::text, epoch::text FROM reconciler.fence
    ORDER BY 1, 2
"""


@pytest.fixture
def make_role(postgres_server, fresh_database) -> Iterator:
    """Make login roles of this test only, and take them away with all they own."""
    made: list[str] = []

    def make(options: str, *, may_create: bool = True) -> Dsn:
        name = f'te"st {uuid.uuid4().hex[:8]}'
        with psycopg.connect(postgres_server.text(fresh_database), autocommit=True) as connection:
            role = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' " + options).format(role))
            made.append(name)
            if may_create:
                connection.execute(
                    sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(fresh_database), role)
                )
        return Dsn(make_conninfo(postgres_server.text(fresh_database), user=name, password="x"))

    yield make
    with psycopg.connect(postgres_server.text(fresh_database), autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


async def test_the_second_run_writes_nothing(connection: Connection, superuser) -> None:
    """Installing where everything is installed leaves every row and catalog row as it was."""
    assert await install(connection) == TRACKING_VERSION
    before = superuser.execute(EVERYTHING).fetchall()

    assert await install(connection) == TRACKING_VERSION

    assert superuser.execute(EVERYTHING).fetchall() == before


def test_the_version_is_that_of_the_newest_migration() -> None:
    """`TRACKING_VERSION` is raised with every migration that is added."""
    folder = Path(reconciler.tracking.__file__).parent / "migrations"
    assert max(int(path.name.split("_")[0]) for path in folder.glob("*.sql")) == TRACKING_VERSION


async def test_ten_at_once_install_once(open_connection, superuser) -> None:
    """Ten installations of one database side by side all succeed, and one does the work."""
    connections = [await open_connection() for _ in range(10)]

    versions = await asyncio.gather(*(install(connection) for connection in connections))

    assert versions == [TRACKING_VERSION] * 10
    assert superuser.execute("SELECT count(*) FROM reconciler.migrations").fetchone() == (TRACKING_VERSION,)


@pytest.mark.parametrize("options", ["SUPERUSER", "CREATEROLE"])
async def test_databases_of_one_server_install_side_by_side(private_postgres, options: str) -> None:
    """The role they share is the cluster's: installing into many databases at once makes it once."""
    private_postgres.run(f"CREATE ROLE installer LOGIN PASSWORD 'x' {options}")
    databases = [private_postgres.create_database() for _ in range(6)]
    connections = []
    for database in databases:
        private_postgres.run(f'GRANT CREATE ON DATABASE "{database}" TO installer')
        text = make_conninfo(private_postgres.text(database), user="installer", password="x")
        connections.append(await connect(Dsn(text), role="test"))
    try:
        versions = await asyncio.gather(*(install(connection) for connection in connections))
    finally:
        for connection in connections:
            await connection.close()

    assert versions == [TRACKING_VERSION] * len(databases)
    assert private_postgres.run("SELECT count(*) FROM pg_roles WHERE rolname = 'reconciler_tracking'") == [
        (1,)
    ]
    owner = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'reconciler'"
    owners = {private_postgres.run(owner, database=database)[0][0] for database in databases}
    assert owners == {"reconciler_tracking"}


async def test_the_reference_names_everything(installed: Connection, superuser) -> None:
    """`docs/reference/tracking-schema.md` names every table and every column of the schema."""
    page = (Path(__file__).parents[3] / "docs/reference/tracking-schema.md").read_text()
    columns = superuser.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'reconciler'"
    ).fetchall()
    sections = dict(part.split("`", 1) for part in page.split("### `")[1:])
    assert [
        f"{table}.{column}" for table, column in columns if f"`{column}`" not in sections.get(table, "")
    ] == []


async def test_everything_has_a_comment(installed: Connection, superuser) -> None:
    """The schema explains itself: each table, column, index of ours, function, type and trigger."""
    silent = superuser.execute(
        """
        SELECT c.oid::regclass::text FROM pg_class c
        WHERE c.relnamespace = 'reconciler'::regnamespace AND c.relkind = 'r'
          AND c.relname <> 'migrations' AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT c.oid::regclass || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'reconciler'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
          AND c.relname <> 'migrations' AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'reconciler'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT t.oid::regtype::text FROM pg_type t
        WHERE t.typnamespace = 'reconciler'::regnamespace AND t.typtype = 'e'
          AND obj_description(t.oid, 'pg_type') IS NULL
        """
    ).fetchall()
    assert silent == []


async def test_a_role_of_its_own_owns_it_and_public_gets_nothing(installed: Connection, superuser) -> None:
    """Nobody but the role `reconciler_tracking`, which cannot log in, owns or may use anything there."""
    owners = superuser.execute(
        """
        SELECT relowner::regrole::text FROM pg_class WHERE relnamespace = 'reconciler'::regnamespace
        UNION SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'reconciler'::regnamespace
        UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'reconciler'
        """
    ).fetchall()
    public = superuser.execute(
        """
        SELECT 1 FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'reconciler'::regnamespace AND a.grantee = 0
        UNION ALL
        SELECT 1 FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.pronamespace = 'reconciler'::regnamespace AND a.grantee = 0
        """
    ).fetchall()
    login = superuser.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'reconciler_tracking'")
    assert owners == [("reconciler_tracking",)]
    assert public == []
    assert login.fetchone() == (False,)


async def test_a_schema_of_somebody_else_is_left_alone(connection: Connection, superuser) -> None:
    """A schema named `reconciler` that we did not make is refused with what to do, and not touched."""
    superuser.execute("CREATE SCHEMA reconciler CREATE TABLE migrations (id int)")

    with pytest.raises(Refused, match="not made by pg-reconciler") as caught:
        await install(connection)

    assert "rename or drop" in (caught.value.hint or "")
    assert superuser.execute(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'reconciler'::regnamespace"
    ).fetchone() == (1,)
    assert not (await read_tracked(connection)).installed


async def test_an_empty_schema_made_for_us_is_used(connection: Connection, superuser) -> None:
    """A schema that a database administrator made in advance, and left empty, is installed into."""
    superuser.execute("CREATE SCHEMA reconciler")
    assert await install(connection) == TRACKING_VERSION


@pytest.mark.parametrize("options", ["NOCREATEROLE", "CREATEROLE", "CREATEROLE NOINHERIT"])
async def test_a_plain_role_installs_and_writes(make_role, options: str, superuser) -> None:
    """A role that is no superuser can install, run again without writing, take the fence and write."""
    dsn = make_role(options)
    connection = await connect(dsn, role="test")
    try:
        assert await install(connection) == TRACKING_VERSION
        before = superuser.execute(EVERYTHING).fetchall()
        assert await install(connection) == TRACKING_VERSION
        assert superuser.execute(EVERYTHING).fetchall() == before
        owner = FenceOwner(control_id="c", environment="e", deployment="d", operation="o")
        fence = await Fence.acquire(connection, owner, deadline_s=60)
        await begin_writes(connection, fence)
        tracked = await read_tracked(connection)
        assert tracked.base_line is not None
        assert tracked.base_line.moving
        await fence.release()
    finally:
        await connection.close()


async def test_a_role_without_rights_is_told_what_to_do(installed: Connection, make_role) -> None:
    """A role that may not use the schema is refused for installing and for reading, each with a hint."""
    connection = await connect(make_role("NOCREATEROLE"), role="test")
    try:
        with pytest.raises(Refused, match="may not write") as caught:
            await install(connection)
        assert "GRANT reconciler_tracking" in (caught.value.hint or "")
        with pytest.raises(Refused, match="may not read"):
            await read_tracked(connection)
    finally:
        await connection.close()


async def test_a_hostile_search_path_does_not_catch_it(connection: Connection, superuser) -> None:
    """Objects named like ours, and functions named like the server's, in the search path change nothing."""
    superuser.execute(
        """
        CREATE SCHEMA evil;
        CREATE TABLE evil.migrations (number int, name text, sha256 text, applied_at timestamptz);
        CREATE TABLE evil.fence (epoch int);
        CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE sql
        AS 'SELECT 1/0; SELECT $1';
        """
    )
    await connection.execute("SET search_path = evil, pg_catalog")
    assert await install(connection) == TRACKING_VERSION
    assert superuser.execute("SELECT count(*) FROM evil.fence").fetchone() == (0,)
