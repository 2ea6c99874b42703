"""Connection strings show nothing but their server."""

import pytest

from reconciler.errors import PermanentError
from reconciler.postgres.dsn import Dsn


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("postgresql://u:s3cret@db.example.com:5433/x", "db.example.com:5433"),
        ("postgres://u:s3%40cret@db.example.com/x?sslmode=require", "db.example.com:5432"),
        ("host=db.example.com password='s3cret x' port=5433", "db.example.com:5433"),
        ("host=a,b port=1,2 password=s3cret", "a:1, b:2"),
        ("host=a,b port=5433 password=s3cret", "a:5433, b:5433"),
        ("host=/var/run/postgresql password=s3cret", "/var/run/postgresql:5432"),
        ("postgresql://u:s3cret@[::1]:5433/x", "::1:5433"),
        ("hostaddr=127.0.0.1 password=s3cret", "127.0.0.1:5432"),
        ("password=s3cret", "localhost:5432"),
    ],
)
def test_server_is_host_and_port(text: str, server: str) -> None:
    """People see host and port, and neither user nor password."""
    assert Dsn(text).server == server


MALFORMED = [
    "postgresql://u:s3cret@host:port:x/db",
    "postgresql://u:12@s3cret@host/db",
    "postgresql://u:p@s3cret.example:1@host/db",
    "postgresql://u:12/s3cret@host/db",
    "postgresql://u:s3cret/x@host/db",
    "postgresql://u:p%zzs3cret@host/db",
    "postgresql://u:p@@s3cret@host/db",
    "host=h password=s3 cret s3cret",
    "host=h password='s3cret",
    "host=h s3cret=1",
    "host=h port=s3cret",
    "s3cret",
    "host=h password=s3cret\0",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_strings_are_never_quoted(text: str) -> None:
    """What cannot be parsed is named by its purpose, and no piece of it is shown anywhere."""
    dsn = Dsn(text)
    with pytest.raises(PermanentError) as caught:
        dsn.parameters("of deployment 'eu'")
    assert str(caught.value).startswith("the connection string of deployment 'eu' cannot be parsed")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    for shown in (str(caught.value), repr(caught.value), dsn.server, repr(dsn), str(dsn), f"{dsn}"):
        assert "s3" not in shown


def test_what_was_parsed_once_is_nobodys_to_change() -> None:
    """Who changes the parameters that were given changes none of those that are given next."""
    dsn = Dsn("host=a password=s3cret")
    dsn.parameters()["host"] = "b"
    assert dsn.parameters() == {"host": "a", "password": "s3cret"}
    assert (dsn.server, dsn.server) == ("a:5432", "a:5432")


def test_equal_strings_are_equal_values() -> None:
    """Two values of one text are one key."""
    assert Dsn("host=a") == Dsn("host=a")
    assert len({Dsn("host=a"), Dsn("host=a"), Dsn("host=b")}) == 2
