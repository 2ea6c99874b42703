"""Scripts of every make: what ends with rows, what changes the session, what is long, what fails late."""

from tests.plugins.daemon import Daemon, World, until

REMARK = "\N{SNOWMAN} \N{LATIN SMALL LETTER E WITH ACUTE}"


def held(daemon: Daemon) -> str:
    """Why the first deployment is held; empty where it is not, or not looked at yet."""
    return "".join(str(row["held"] or "") for row in daemon.environment().get("deployments", [])[:1])


def test_scripts_that_end_with_rows(world: World) -> None:
    """A script may end with any statement, also one that gives no row, one row or very many."""
    endings = {
        "none": "select 1 where false;",
        "one": "select 1;",
        "many": "create table many as select generate_series(1, 5000) as id;\nselect * from many",
        "returning": "insert into many select generate_series(1, 3000) returning id;",
        "listed": "values (1), (2)",
        "shown": "show server_version",
        "explained": "explain select 1;",
        "prepared": "prepare rows_of_many as select * from many; execute rows_of_many; deallocate all;",
        "remark": "select 1; -- \N{SNOWMAN} and nothing after it",
    }
    files = world.repository.module(endings)
    for name in endings:
        files[f"modules/shop/verify/{name}.sql"] = "select 1; select 1 where false;"
    commit = world.repository.commit({**world.spec(), **files})
    daemon = world.daemon().start()
    daemon.until_applied(commit)
    assert world.deployed() == list(endings)


def test_scripts_that_change_the_session(world: World) -> None:
    """Role, search_path, limits and other settings of one script reach neither our records nor the next."""
    role = f"{world.database}_role"
    changes = {
        "role": f"create role {role}; create schema app; grant usage, create on schema app to {role};",
        "become": f"set role {role}; create table app.mine();",
        "path": "set search_path = app, pg_catalog; create table by_path();",
        "auth": f"set session authorization {role}; create table app.also();",
        "limits": "set default_transaction_read_only = on; set lock_timeout = 1;",
        "quoting": "set backslash_quote = off; set client_encoding = sql_ascii;",
        "plain": f"create table in_public(); comment on table in_public is '{REMARK}';",
    }
    commit = world.repository.commit({**world.spec(), **world.repository.module(changes)})
    daemon = world.daemon().start()
    try:
        daemon.until_applied(commit)
        assert world.deployed() == list(changes)
        found = world.rows(
            "select n.nspname || '.' || c.relname, pg_get_userbyid(c.relowner), obj_description(c.oid)"
            " from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid"
            " where c.relkind = 'r' and n.nspname in ('app', 'public') order by 1"
        )
        assert found == [
            ("app.also", role, None),
            ("app.by_path", "postgres", None),
            ("app.mine", role, None),
            ("public.in_public", "postgres", REMARK),
        ]
        assert daemon.stop() == 0
    finally:
        world.server.drop_database(world.database)
        world.server.run(f"drop role if exists {role}")


def test_verify_that_fails_undoes_the_change(world: World) -> None:
    """Nothing of a change whose verify script fails stays, and place and cause are told."""
    files = world.repository.module({"a": "create table a();", "b": "create table b();"})
    files["modules/shop/verify/b.sql"] = "begin;\nselect 1 / 0;\nrollback;\n"
    world.repository.commit({**world.spec(), **files})
    daemon = world.daemon().start()
    until(lambda: held(daemon), "the failure")
    assert world.deployed() == ["a"]
    assert world.rows("select to_regclass('b')") == [(None,)]
    shown = daemon.run("show", "1").stdout
    assert "modules/shop/verify/b.sql:2" in shown
    assert "division by zero [22012]" in shown


def test_very_long_script(world: World) -> None:
    """A script of ten thousand statements is one change, and one that breaks off leaves nothing."""
    lines = [
        "create table long(id int);",
        *(f"insert into long values ({number});" for number in range(10_000)),
    ]
    good = {"long": "\n".join(lines)}
    commit = world.repository.commit({**world.spec(), **world.repository.module(good)})
    daemon = world.daemon().start()
    daemon.until_applied(commit)
    assert world.rows("select count(*) from long") == [(10_000,)]
    bad = {**good, "more": "\n".join([*lines[1:], "insert into long values ('x');"])}
    world.repository.commit(world.repository.module(bad))
    until(lambda: held(daemon), "the failure")
    assert world.rows("select count(*) from long") == [(10_000,)]
    assert "modules/shop/deploy/more.sql:10001" in held(daemon)
