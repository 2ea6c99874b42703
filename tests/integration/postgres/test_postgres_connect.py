"""Opening connections: what is set, and what errors say and never say."""

import socket
import time
import traceback
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from psycopg import conninfo, sql

from reconciler.errors import DatabaseUnavailable, LockNotAcquired, NotFound, PermanentError, ReconcilerError
from reconciler.postgres.connection import DatabaseMissing, Dsn, connect, is_transient, translate
from tests.plugins.postgres import OwnServer, Server
from tests.plugins.proxy import Proxy

SECRET = "s3cret-4711"


def shown(error: BaseException) -> str:
    """All of an error that a person or a log may see, with everything it was raised from."""
    return "".join(traceback.format_exception(error)) + repr(error)


async def test_session_is_named_and_limited(database_dsn: Dsn) -> None:
    """A connection says whose it is, and neither idles in a transaction for long nor outlives its client."""
    async with await connect(database_dsn, role="pass") as connection:
        cursor = await connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)",
            [["application_name", "idle_in_transaction_session_timeout", "client_connection_check_interval"]],
        )
        assert dict(await cursor.fetchall()) == {
            "application_name": "reconciler/pass",
            "idle_in_transaction_session_timeout": "8000",
            "client_connection_check_interval": "2000",
        }
        assert connection.autocommit


async def test_limits_outlive_a_reset_of_the_session(database_dsn: Dsn) -> None:
    """A script's RESET ALL does not take the limits of the session away."""
    async with await connect(database_dsn, role="writer") as connection:
        await connection.execute("RESET ALL")
        cursor = await connection.execute("SHOW idle_in_transaction_session_timeout")
        assert await cursor.fetchone() == ("8s",)


@pytest.mark.parametrize(
    "name",
    [
        'quo"te',
        "quo'te",
        "two\nlines",
        "with space ",
        "ünïcødé ☃",
        "back\\slash",
        "postgresql://u:p@h/x",
        "dbname=postgres host=elsewhere",
        "x" * 63,
        "-c",
        "%s {x}",
    ],
)
async def test_hostile_database_names(postgres_server: Server, name: str) -> None:
    """Any name that PostgreSQL takes is reached as it stands, and as nothing else."""
    postgres_server.create_database(name)
    try:
        async with await connect(postgres_server.dsn, database=name, role="test") as connection:
            cursor = await connection.execute("SELECT current_database()")
            assert await cursor.fetchone() == (name,)
    finally:
        postgres_server.drop_database(name)


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32, "a\0b"])
async def test_names_that_would_be_cut_are_refused(postgres_server: Server, name: str) -> None:
    """A name that the server would cut short, and so take for another database, is refused."""
    with pytest.raises(PermanentError, match="not one PostgreSQL can have"):
        await connect(postgres_server.dsn, database=name, role="test")


async def test_missing_database_is_told_apart(postgres_server: Server) -> None:
    """A database that is not there is not found; its server is not unavailable."""
    with pytest.raises(DatabaseMissing) as caught:
        await connect(postgres_server.dsn, database="not there", role="test")
    assert isinstance(caught.value, NotFound)
    assert caught.value.message == (
        f"connecting to database 'not there' on 127.0.0.1:{postgres_server.port}: the database does not exist"
    )


def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("form", ["keyword", "uri"])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"password": SECRET}, PermanentError, "authentication failed"),
        ({"user": f"nobody-{SECRET}"}, PermanentError, "authentication failed"),
        ({"port": "refused"}, DatabaseUnavailable, "connection refused"),
        ({"host": "no-such-host.invalid"}, DatabaseUnavailable, "the host name cannot be resolved"),
        ({"sslmode": "require"}, PermanentError, "the TLS handshake failed"),
        ({"dbname": f"db-{SECRET}"}, DatabaseMissing, "the database does not exist"),
        ({"options": f"-c nonsense.{SECRET}=1 -c {SECRET}=1"}, ReconcilerError, "connecting to"),
        ({"sslmode": SECRET}, PermanentError, "not valid"),
        ({"connect_timeout": SECRET}, PermanentError, "not valid"),
    ],
)
async def test_failures_say_why_and_no_secret(
    postgres_server: Server, form: str, change: dict[str, str], error: type[Exception], words: str
) -> None:
    """Each cause has its words and its kind, and nothing of the connection string but its server is told."""
    if change.get("port") == "refused":
        change = {"port": str(refused_port())}
    given = {**conninfo.conninfo_to_dict(postgres_server.text()), "password": f"{SECRET}-x", **change}
    if not {"password", "port", "user"} & set(change):
        given["password"] = str(conninfo.conninfo_to_dict(postgres_server.text())["password"])
    text = conninfo.make_conninfo(
        "", **{k: v for k, v in given.items() if k not in {"sslmode", "connect_timeout"}}
    )
    extra = {k: v for k, v in given.items() if k in {"sslmode", "connect_timeout"}}
    text += "".join(f" {key}={value}" for key, value in extra.items())
    if form == "uri":
        parts = {key: _encoded(str(value)) for key, value in given.items()}
        rest = "&".join(
            f"{key}={parts[key]}" for key in ("options", "sslmode", "connect_timeout") if key in parts
        )
        text = (
            f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}"
            f"/{parts['dbname']}?{rest}"
        )
    with pytest.raises(error, match=words) as caught:
        await connect(Dsn(text), role="test")
    assert SECRET not in shown(caught.value)
    assert "password=" not in shown(caught.value)
    if words == "authentication failed":
        assert "check user and password in the connection string" in str(caught.value)


def _encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1:2/db",
        f"postgresql://u:1@{SECRET}@127.0.0.1/db",
        f"postgresql://u:{SECRET}/x@127.0.0.1/db",
        f"host=127.0.0.1 password={SECRET} {SECRET}",
        f"host=127.0.0.1 password='{SECRET}",
        f"host=127.0.0.1 {SECRET}=1",
        SECRET,
    ],
)
async def test_malformed_strings_are_replaced(text: str) -> None:
    """What cannot be parsed is never quoted, by us or by a traceback."""
    with pytest.raises(PermanentError, match="cannot be parsed") as caught:
        await connect(Dsn(text), role="test")
    assert SECRET not in shown(caught.value)


async def test_silent_server_is_given_up(
    postgres_server: Server, make_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    """A host that takes the connection and says nothing costs the given time and no more."""
    proxy = await make_proxy(postgres_server.text())
    proxy.silent = True
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="no answer"):
        await connect(Dsn(proxy.text(postgres_server.text())), role="test", connect_timeout_s=2)
    assert time.monotonic() - began < 10


async def test_pooler_that_takes_no_settings(
    postgres_server: Server, make_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    """Where settings with the start of the session are refused, the limits are set after it."""
    proxy = await make_proxy(postgres_server.text())
    refused: list[bytes] = []

    def answer(packet: bytes) -> bytes | None:
        if b"client_connection_check_interval" not in packet:
            return None
        refused.append(packet)
        words = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter in options: x\0\0"
        return b"E" + (len(words) + 4).to_bytes(4, "big") + words

    proxy.answer = answer
    text = conninfo.make_conninfo(proxy.text(postgres_server.text()), sslmode="disable", gssencmode="disable")
    async with await connect(Dsn(text), role="test") as connection:
        cursor = await connection.execute("SHOW idle_in_transaction_session_timeout")
        assert await cursor.fetchone() == ("8s",)
    assert refused


async def test_starting_server_is_temporary(private_postgres: OwnServer) -> None:
    """A server that went away may come back."""
    private_postgres.stop()
    with pytest.raises(DatabaseUnavailable) as caught:
        await connect(private_postgres.dsn, role="test")
    assert is_transient(caught.value)


async def raised(connection: psycopg.AsyncConnection, statement: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        await connection.execute(sql.SQL(statement))
    return caught.value


async def test_words_of_the_server_are_kept(database_dsn: Dsn) -> None:
    """An error of a statement keeps the server's words, detail, hint and code."""
    async with await connect(database_dsn, role="test") as connection:
        told = translate(await raised(connection, "SELECT nothing_here()"), "reading")
    assert isinstance(told, PermanentError)
    assert told.message == "reading: function nothing_here() does not exist [42883]"
    assert told.hint


async def test_secrets_in_words_of_the_server_are_masked(database_dsn: Dsn) -> None:
    """What the server quotes of a statement is masked where it looks like a secret."""
    async with await connect(database_dsn, role="test") as connection:
        error = await raised(
            connection, f"DO $$ BEGIN RAISE 'at postgresql://u:{SECRET}@h/x with password={SECRET}'; END $$"
        )
    told = translate(error, "running")
    assert SECRET not in str(told)
    assert told.message == "running: at postgresql://***@h/x with password=*** [P0001]"


async def test_lock_timeout_is_a_lock_not_acquired(database_dsn: Dsn) -> None:
    """A lock that was not granted in time may be granted later."""
    async with (
        await connect(database_dsn, role="holder") as holder,
        await connect(database_dsn, role="test") as connection,
    ):
        await holder.execute("CREATE TABLE public.t ()")
        async with holder.transaction():
            await holder.execute("LOCK TABLE public.t")
            await connection.execute("SET lock_timeout = '50ms'")
            told = translate(await raised(connection, "SELECT FROM public.t"), "reading")
    assert isinstance(told, LockNotAcquired)


@pytest.mark.parametrize(
    ("code", "temporary"),
    [
        ("08006", True),
        ("57P01", True),
        ("57P03", True),
        ("53300", True),
        ("53100", True),
        ("40001", True),
        ("40P01", True),
        ("55P03", True),
        ("55006", True),
        ("25006", True),
        ("57014", False),
        ("42601", False),
        ("23505", False),
        ("3D000", False),
        ("28P01", False),
    ],
)
async def test_codes_that_may_pass(database_dsn: Dsn, code: str, temporary: bool) -> None:
    """The server's code says whether trying again may help, and the error's type says the same."""
    async with await connect(database_dsn, role="test") as connection:
        error = await raised(connection, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{code}'; END $$")
    assert is_transient(error) is temporary
    assert is_transient(translate(error, "trying")) is temporary


async def test_lost_connection_is_temporary(database_dsn: Dsn) -> None:
    """A session that was ended from outside is an unavailable server, for which trying again helps."""
    async with (
        await connect(database_dsn, role="test") as connection,
        await connect(database_dsn, role="other") as other,
    ):
        await other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        told = translate(await raised(connection, "SELECT 1"), "reading")
    assert isinstance(told, DatabaseUnavailable)
