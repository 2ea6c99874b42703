"""The forecast of locks beside what a server really holds at the end of a transaction."""

from psycopg import sql

from reconciler.catalog.sql_text import split
from reconciler.postgres.connection import connect
from reconciler.state.locks import forecast
from tests.plugins.postgres import Server

THERE = """
create table o (id int primary key);
create table old (id int primary key, a text unique, b bigint, c int references o);
create table wide (id serial primary key, a text unique, b text unique, c jsonb, d int);
create index on wide (d);
create index on wide (b, c);
create table child (id int references wide, k serial);
create table plain (id bigint primary key, name text not null, at timestamptz not null default now());
create materialized view mv as select id, a from wide;
create function f() returns trigger language plpgsql as $$ begin return new; end $$;
create table part (id int primary key, x int) partition by range (id);
create table part1 partition of part for values from (0) to (10)
"""
EXACT = (
    "create table t (id bigint primary key, name text not null, at timestamptz not null default now())",
    "create table t (id int, a text)",
)
STATEMENTS = (
    *EXACT,
    "create table t (id int primary key)",
    "create table t (id int primary key references o, a text references old (a))",
    "create table t (id serial primary key, x text unique, a bigint references o)",
    "create table t (id serial, b smallserial, c bigserial)",
    "create table t (id int generated always as identity primary key, x text unique, exclude (x with =))",
    "create table t (like wide including all)",
    "create table t () inherits (old)",
    "create table t as select * from old",
    "create materialized view v as select * from old",
    "create materialized view v as select 'x'::text",
    "create table part2 partition of part for values from (10) to (20)",
    "create schema x create table a (id int primary key, t text)",
    "create index on old (b)",
    "create view v as select 1",
    "create view v as select * from old",
    "alter table old add column n text",
    "alter table old add column n text unique",
    "alter table old add constraint fk foreign key (b) references wide",
    "alter table old add column n serial",
    "alter table wide alter column b type varchar(10)",
    "alter table child drop constraint child_id_fkey",
    "alter table wide drop column d",
    "alter table part detach partition part1",
    "drop table child",
    "drop table plain",
    "drop table child, plain",
    "drop table o cascade",
    "drop materialized view mv",
    "drop index wide_d_idx",
    "drop function f()",
    "create type e as enum ('a', 'b')",
    "create type e as (a int, b text)",
    "create domain d as int check (value > 0)",
    "create function g() returns int language sql as 'select 1'",
    "create sequence s",
    "create trigger g after insert on old for each row execute function f()",
    "create policy p on old using (true)",
    "comment on table old is 'x'",
    "grant select on old to public",
    "create collation c (locale = 'C')",
    "create statistics s on a, b from old",
    "truncate wide cascade",
    "refresh materialized view mv",
    "cluster wide using wide_pkey",
)
HELD = """select count(*) from pg_locks
where pid = pg_backend_pid() and not (locktype = 'relation' and mode = 'AccessShareLock')"""
"""Locks of tables that are only read mostly take no place in the shared table."""
BEFORE = "create function before() returns int language sql as 'select 1'"
"""Takes what each transaction takes once: its own id and the schema."""


async def test_no_statement_holds_more_locks_than_forecast(
    postgres_server: Server, fresh_database: str
) -> None:
    """What a statement holds until the end was forecast, and of a plain table it is just that."""
    held = {}
    connection = await connect(postgres_server.dsn, database=fresh_database, role="test")
    version = connection.info.server_version
    async with connection:
        for statement in split(THERE):
            await connection.execute(sql.SQL(statement.text))
        for text in STATEMENTS:
            numbers = []
            async with connection.transaction(force_rollback=True):
                for step in (BEFORE, text):
                    await connection.execute(sql.SQL(step))
                    row = await (await connection.execute(HELD)).fetchone()
                    assert row is not None
                    numbers.append(int(row[0]))
            held[text] = numbers[1] - numbers[0]
    more = {text: (number, forecast(split(text))) for text, number in held.items()}
    assert not {text: pair for text, pair in more.items() if pair[0] > pair[1]}
    if version >= 180000:  # before, a table holds fewer
        assert {text: pair for text, pair in more.items() if text in EXACT and pair[0] != pair[1]} == {}
