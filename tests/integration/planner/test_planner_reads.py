"""What planning asks of servers: each thing once for all who may share it, and nobody waits for the dead."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from psycopg import sql

from reconciler.planner.planner import Assessment, PlanRequest
from reconciler.planner.reads import StateReader
from reconciler.planner.servers import Servers
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.snapshot import database as snapshot_database
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.programs import DesiredServer
from tests.plugins.control import until
from tests.plugins.git import GitRepository
from tests.plugins.planning import Setting, environment, module
from tests.plugins.postgres import Server
from tests.plugins.proxy import MakeProxy

MODULE = module("shop", one="CREATE TABLE a ();")


async def wanted(
    setting: Setting, repository: GitRepository, texts: Sequence[str]
) -> list[tuple[EnvironmentSpec, DesiredState]]:
    """Commit environments and resolve them."""
    files: dict[str, str | bytes | None] = {
        f"environments/e{number}.yaml": text for number, text in enumerate(texts)
    }
    repository.commit({**files, **MODULE})
    view = await setting.planner.view("site", (await setting.source.fetch()).commit)
    found = [await setting.planner.desired(view, name) for name in sorted(view.environments)]
    return [(spec, state) for spec, (state,) in found]


async def assess(
    setting: Setting, pairs: Sequence[tuple[EnvironmentSpec, DesiredState]], request: PlanRequest
) -> list[Assessment]:
    return await asyncio.gather(*(setting.planner.assess(spec, state, request) for spec, state in pairs))


async def test_pass_reads_each_server_and_database_once(
    setting: Setting,
    git_repository: GitRepository,
    postgres_server: Server,
    databases: list[str],
    make_proxy: MakeProxy,
) -> None:
    """Thirty environments in three databases open four connections, and each is planned as if alone."""
    proxy = await make_proxy(postgres_server.text())
    setting.dsns["SITE_DSN"] = proxy.text(postgres_server.text())
    texts = [environment(f"e{number:02}", databases[number % 3]) for number in range(30)]
    pairs = await wanted(setting, git_repository, texts)
    found = await assess(setting, pairs, PlanRequest(not_before=time.monotonic()))
    assert proxy.connections == 4
    assert all(item.plan.unavailable is None and item.plan.steps for item in found)
    alone = [await setting.planner.assess(*pair, PlanRequest()) for pair in pairs[:3]]
    assert [item.plan.digest for item in alone] == [item.plan.digest for item in found[:3]]


async def test_later_pass_and_dry_run_read_anew(postgres_server: Server, databases: list[str]) -> None:
    """What was done in a database since is seen by whoever accepts no older read, and by nobody else."""
    connections = Connections()
    reader = StateReader(connections, databases_in_parallel=4, full_read_interval_s=600)
    (name,) = databases[:1]

    async def probe(not_before: float | None) -> str | None:
        _tracked, live = await reader.read(
            Servers(own=postgres_server.dsn), state_of([name]), not_before=not_before
        )
        return live.databases[name].probe

    began = time.monotonic()
    before = await probe(began)
    await asyncio.to_thread(postgres_server.run, "CREATE TABLE public.new ()", database=name)
    assert await probe(began) == before
    later = await probe(time.monotonic())
    assert later != before
    assert await probe(None) == later
    await connections.close()


async def test_server_that_is_gone_is_asked_once_in_a_pass(
    setting: Setting, git_repository: GitRepository, postgres_server: Server, make_proxy: MakeProxy
) -> None:
    """All environments on it are unavailable for the same reason, after one attempt."""
    proxy = await make_proxy(postgres_server.text())
    proxy.refuse = True
    setting.dsns["SITE_DSN"] = proxy.text(postgres_server.text())
    texts = [environment(f"e{number:02}", f"gone_{number}") for number in range(20)]
    pairs = await wanted(setting, git_repository, texts)
    request = PlanRequest(not_before=time.monotonic())
    found = await assess(setting, pairs, request)
    found += await assess(setting, pairs, request)
    assert len({item.plan.unavailable for item in found}) == 1
    assert found[0].plan.unavailable is not None
    attempts = proxy.connections
    await assess(setting, pairs, PlanRequest(not_before=time.monotonic()))
    assert proxy.connections == 2 * attempts, "once in each pass"
    proxy.refuse = False
    again = await assess(setting, pairs, PlanRequest(not_before=time.monotonic()))
    assert all(item.plan.unavailable is None for item in again)


async def test_servers_that_are_silent_keep_no_place_from_others(
    postgres_server: Server, databases: list[str]
) -> None:
    """However many hosts take connections and say nothing, those that answer are read meanwhile."""
    clients: list[asyncio.StreamWriter] = []

    async def never_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)

    silent = [await asyncio.start_server(never_answer, "127.0.0.1", 0) for _ in range(8)]
    connections = Connections(total=8, per_server=8)
    reader = StateReader(connections, databases_in_parallel=4, full_read_interval_s=600)
    await reader.read(Servers(own=postgres_server.dsn), state_of(databases), not_before=None)
    waiting = []
    for number in range(64):
        port = silent[number % 8].sockets[0].getsockname()[1]
        dsn = Dsn(f"host=127.0.0.1 port={port} user=u{number} dbname=x sslmode=disable")
        read = reader.read(Servers(own=dsn), state_of(databases), not_before=None)
        waiting.append(asyncio.create_task(read))

    async def asked() -> bool:
        return len(clients) == 4

    await until(asked)
    _tracked, live = await reader.read(Servers(own=postgres_server.dsn), state_of(databases), not_before=None)
    assert all(live.databases[name].exists for name in databases)
    assert len(clients) == 4, "the silent ones were still waited for"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await connections.close()
    for server in silent:
        server.close()
    for writer in clients:
        writer.close()
        await writer.wait_closed()


async def test_full_reads_over_two_connections_never_wait_for_each_other(
    postgres_server: Server, databases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two connections, six readers that would each take two all come to their end."""
    monkeypatch.setattr(snapshot_database, "LARGE_CATALOG_BYTES", 0)
    connections = Connections(per_database=2, total=2, wait_s=20)
    reader = StateReader(connections, databases_in_parallel=4, full_read_interval_s=600)
    state = state_of(databases)
    began = time.monotonic()
    found = await asyncio.gather(
        *(reader.read(Servers(own=postgres_server.dsn), state, not_before=None) for _ in range(6))
    )
    assert time.monotonic() - began < 15, "none had to give up waiting"
    assert all(live.databases[name].catalog is not None for _tracked, live in found for name in databases)
    await connections.close()


async def test_reading_leaves_sessions_as_they_started(
    setting: Setting, git_repository: GitRepository, databases: list[str]
) -> None:
    """Who borrows after a reader finds a clean session, named for the borrower."""
    pairs = await wanted(setting, git_repository, [environment("shop", databases[0])])
    await assess(setting, pairs, PlanRequest())
    dsn = setting.planner.dsn(pairs[0][1])
    asked = """
        SELECT
            current_setting('search_path'), current_setting('application_name'),
            current_setting('lock_timeout'), current_setting('transaction_read_only')
    """
    async with setting.connections.borrow(dsn, database=databases[0], role="control") as connection:
        cursor = await connection.execute(asked)
        assert await cursor.fetchone() == ("", "reconciler/control", "0", "off")


async def test_functions_of_the_database_are_never_run_by_reading(
    setting: Setting, git_repository: GitRepository, postgres_server: Server, databases: list[str]
) -> None:
    """What a database's owner put on the path is not called, though reading keeps the session's settings."""
    target = databases[0]
    trap = """
        CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''trapped''; END'
    """
    for name, arguments, returns in (
        ("hash_record_extended", "record, int4", "int8"),
        ("coalesce_json", "json", "json"),
        ("current_setting", "varchar", "text"),
    ):
        statement = trap.format(name=name, arguments=arguments, returns=returns)
        await asyncio.to_thread(postgres_server.run, statement, database=target)
    path = sql.SQL("ALTER DATABASE {} SET search_path = public, pg_catalog").format(sql.Identifier(target))
    with psycopg.connect(postgres_server.text(), autocommit=True) as connection:
        connection.execute(path)
    (pair,) = await wanted(setting, git_repository, [environment("shop", target)])
    (found,) = await assess(setting, [pair], PlanRequest())
    assert found.plan.unavailable is None


async def test_sessions_that_ended_meanwhile_are_replaced(
    setting: Setting, git_repository: GitRepository, postgres_server: Server, databases: list[str]
) -> None:
    """A reader that is lent a connection without a question never meets one that the server ended."""
    (pair,) = await wanted(setting, git_repository, [environment("shop", databases[0])])
    for _ in range(3):
        (found,) = await assess(setting, [pair], PlanRequest())
        assert found.plan.unavailable is None
        end = partial(
            postgres_server.run,
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{databases[0]}'",
        )
        await asyncio.to_thread(end)


async def test_connections_stay_within_the_bound_of_a_server(
    postgres_server: Server, databases: list[str]
) -> None:
    """Idle connections to other databases of the server make room, those used longest ago first."""
    connections = Connections(per_server=2)
    reader = StateReader(connections, databases_in_parallel=4, full_read_interval_s=600)
    state = state_of(databases)
    for _ in range(3):
        await reader.read(Servers(own=postgres_server.dsn), state, not_before=None)
        assert len(connections._by_age) <= 2
    async with connections.borrow(Dsn(postgres_server.text(databases[0]))):
        assert len(connections._by_age) <= 1
    await connections.close()


def state_of(databases: Sequence[str]) -> DesiredState:
    parts = tuple(DesiredDatabase(component=name, stage="databases", database=name) for name in databases)
    return DesiredState(
        environment="e",
        deployment="eu",
        commit="0" * 40,
        postgres=SecretReference(env="SITE_DSN"),
        stages=("databases",),
        databases=parts,
        modules=(),
    )


async def test_operations_share_what_a_server_is(
    postgres_server: Server, databases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a database anew reads its server only where a moment ago it did not have the database."""
    monkeypatch.setattr("reconciler.planner.reads.SERVER_STANDS_S", 3600.0)
    read = 0

    async def counted(connection: Connection) -> snapshot_database.ServerFacts:
        nonlocal read
        read += 1
        return await snapshot_database.read_server(connection)

    monkeypatch.setattr("reconciler.planner.reads.read_server", counted)
    connections = Connections()
    reader = StateReader(connections, databases_in_parallel=4, full_read_interval_s=600)

    async def exists(name: str) -> bool:
        _tracked, live = await reader.read(
            Servers(own=postgres_server.dsn), state_of([name]), not_before=None
        )
        return live.databases[name].exists

    try:
        assert [await exists(name) for name in databases] == [True, True, True]
        assert read == 1
        made = postgres_server.create_database()
        assert await exists(made)
        assert read == 2
        assert await exists(made)
        assert read == 2
        postgres_server.drop_database(made)
        # When the server was read, it was still there.
        assert not await exists(made)
        assert read == 3
    finally:
        await connections.close()


async def test_a_service_that_does_not_answer_hinders_nobody_else(
    postgres_server: Server, databases: list[str]
) -> None:
    """Databases on services are read there, each on its own; one that was never applied is on no server."""
    connections = Connections()
    reader = StateReader(connections, databases_in_parallel=4, full_read_interval_s=600)
    names = dict(zip(("own", "there", "away", "never"), (*databases[:3], "never"), strict=True))
    state = state_of(list(names.values()))
    on = {name: DesiredServer(service=word, port="sql", user="me") for word, name in names.items()}
    state = replace(
        state,
        databases=tuple(
            part if part.database == names["own"] else replace(part, on=on[part.database])
            for part in state.databases
        ),
    )
    nowhere = Dsn.of(host="127.0.0.1", port="1", user="me")
    servers = Servers(
        own=postgres_server.dsn, services={names["there"]: postgres_server.dsn, names["away"]: nowhere}
    )
    _tracked, live = await reader.read(servers, state, not_before=None)
    assert {word: live.databases[name].exists for word, name in names.items() if name in live.databases} == {
        "own": True,
        "there": True,
        "never": False,
    }
    there, away = live.servers["there"], live.servers["away"]
    assert there is not None
    assert list(there.databases) == [names["there"]]
    assert away is None
    assert "127.0.0.1:1" in live.silent["away"]
    assert "never" not in live.servers
    await connections.close()
