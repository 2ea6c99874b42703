"""Definitions of services: what is wrong with them, and what shows of them."""

from dataclasses import replace

import pytest

from reconciler.errors import PermanentError
from reconciler.runtimes.runtime import (
    CommandCheck,
    Health,
    Hidden,
    HttpCheck,
    Identity,
    Logs,
    Port,
    Restart,
    ServiceSpec,
    check_names,
    environment_of,
    faults,
    without_hidden,
)

SPEC = ServiceSpec(
    identity=Identity(environment="production", deployment="eu", component="api"),
    definition_hash="1",
    argv=("serve",),
    env=(("NAME", "shop"), ("PASSWORD", Hidden("hunter2"))),
    ports=(Port(name="web"), Port(name="admin-api", number=8081)),
)


def test_nothing_is_wrong_with_a_right_one() -> None:
    """What is right is not complained of."""
    assert faults(SPEC) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"identity": replace(SPEC.identity, component="../x")}, "'../x' cannot be part of a service's name"),
        ({"env": (("A", "1"), ("A", "2"))}, "the variable 'A' is given twice"),
        ({"env": (("A", Hidden("x\0y")),)}, "the value of 'A' has a zero byte"),
        ({"argv": ("a\0",)}, "the command has a zero byte"),
        ({"ports": (Port(name="web"), Port(name="web"))}, "the port 'web' is given twice"),
        (
            {"ports": (Port(name="web", number=70000),)},
            "the port 'web' has the number 70000, which is not between 1 and 65535",
        ),
        (
            {"health": Health(check=HttpCheck(port="http"))},
            "its health check names the port 'http', which it does not have",
        ),
        ({"health": Health(check=CommandCheck(argv=()))}, "the command of its health check is empty"),
        ({"grace_s": 4000.0}, "a grace of 4000 s is not between 0 and 3600"),
        ({"restart": Restart(delay_s=-1.0)}, "a time of its restart is negative"),
        ({"logs": Logs(files=0)}, "its log needs one file of one byte at least"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_faults(changes: dict[str, object], expected: str) -> None:
    """Each thing that is wrong for every runtime is told."""
    assert faults(replace(SPEC, **changes)) == [expected]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a" * 64, "a\n"])
def test_names_of_instances(name: str) -> None:
    """What names an instance may become a file's or a container's name."""
    with pytest.raises(PermanentError, match="is no name"):
        check_names(SPEC.identity, name)
    with pytest.raises(PermanentError, match="is no name"):
        check_names(replace(SPEC.identity, deployment=name), "one")


def test_hidden_never_shows() -> None:
    """Neither a value nor its definition shows what is hidden; two of the same text are equal."""
    assert "hunter2" not in f"{SPEC} {SPEC!r} {SPEC.env}"
    assert Hidden("a") == Hidden("a") != Hidden("b")
    assert len({Hidden("a"), Hidden("a")}) == 1
    assert without_hidden(SPEC, "login with hunter2 failed") == "login with <hidden> failed"


def test_half_of_what_is_hidden_never_shows() -> None:
    """The end of a log may begin in the middle of it, also where that looks like another place of it."""
    key = "BEGIN abcdefgh abcdefgh-1 END"
    given = replace(SPEC, env=(("KEY", Hidden(key)),))
    for at in range(1, len(key) - 7):
        assert without_hidden(given, f"{key[at:]} and {key}") == "<hidden> and <hidden>"
    assert without_hidden(given, "abcdefgh, which begins like it") == "abcdefgh, which begins like it"


@pytest.mark.parametrize(
    ("address", "said", "expected"),
    [
        ("postgresql://me:s3%23cret@h/shop", "as me with s3%23cret", "as me with <hidden>"),
        ("postgresql://me:s3%23cret@h/shop", "as me with s3#cret", "as me with <hidden>"),
        ("redis://:long-one@h", "no redis://:long-one@h", "no <hidden>"),
        ("http://a:b@h", "a and b", "a and b"),
        ("http://[bad:s3cret@h", "bad", "bad"),
    ],
)
def test_passwords_in_hidden_addresses_never_show(address: str, said: str, expected: str) -> None:
    """A program that takes its address apart may say the password alone, as it stands there or decoded."""
    assert without_hidden(replace(SPEC, env=(("URL", Hidden(address)),)), said) == expected


def test_environment() -> None:
    """A service finds its variables, a path to look for programs in, and its ports by their names."""
    assert environment_of(SPEC, {"web": 20001, "admin-api": 8081}) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PORT_WEB": "20001",
        "PORT_ADMIN_API": "8081",
        "NAME": "shop",
        "PASSWORD": "hunter2",
    }
    given = replace(SPEC, env=(("PATH", "/opt/bin"), ("PORT_WEB", "1")))
    assert environment_of(given, {"web": 2})["PATH"] == "/opt/bin"
    assert environment_of(given, {"web": 2})["PORT_WEB"] == "1"
