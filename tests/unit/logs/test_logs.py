"""Events become lines, and no line shows a secret."""

import io
import json
import logging
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from reconciler import events, logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def moved(after: str) -> events.OperationMoved:
    return events.OperationMoved(
        environment="production",
        deployment="eu",
        rollout="7",
        operation="8",
        before="running",
        after=after,
        reason="x",
    )


def finished(**changed: Any) -> events.PassFinished:
    values = {"environment": "production", "result": events.PassResult.IN_SYNC, "duration_s": 0.123456789}
    return events.PassFinished(**{**values, **changed})


def test_an_event_is_one_json_line() -> None:
    """Off a terminal each event is one JSON object with a dotted name and its parts."""
    stream = io.StringIO()
    logs.configure(stream)
    logs.EventLog().observe(moved("completed"))
    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line["event"] == "operation.moved"
    assert (line["level"], line["environment"], line["after"]) == ("info", "production", "completed")
    assert "worker" not in line


def test_a_terminal_gets_no_json() -> None:
    """On a terminal lines are for people."""
    stream = Terminal()
    logs.configure(stream)
    logs.EventLog().observe(moved("completed"))
    assert "operation.moved" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_levels_say_who_should_look() -> None:
    """Failures are errors, what passes by itself a warning, routine is not shown at all."""
    stream = io.StringIO()
    logs.configure(stream)
    log = logs.EventLog()
    log.observe(moved("failed"))
    log.observe(moved("retrying"))
    log.observe(events.WakeReceived(cause=events.WakeCause.TIMER))
    log.observe(events.WorkerBeat(worker="w"))
    log.observe(events.SourceFetched(source="p", ok=True, duration_s=1))
    log.observe(events.SourceFetched(source="p", ok=False, duration_s=1, error="no route"))
    assert [line["level"] for line in lines(stream)] == ["error", "warning", "warning"]


def test_a_pass_that_says_nothing_new_is_silent() -> None:
    """A thousand environments in sync do not fill the disk: a repeated outcome is told once."""
    stream = io.StringIO()
    logs.configure(stream)
    log = logs.EventLog()
    for duration in (0.1, 0.2, 0.3):
        log.observe(finished(duration_s=duration))
    log.observe(finished(pending=1, result=events.PassResult.PENDING))
    log.observe(finished())
    assert [line["pending"] for line in lines(stream)] == [0, 1, 0]


def test_a_deployment_that_cannot_be_read_is_told_with_the_reason() -> None:
    """The log alone says which deployment nobody can read, and why; once, and again when it is another."""
    stream = io.StringIO()
    logs.configure(stream)
    log = logs.EventLog()
    away = ("eu: connecting to db1:5432: authentication failed",)
    log.observe(finished())
    log.observe(finished(unavailable=away, result=events.PassResult.PENDING))
    log.observe(finished(unavailable=away, result=events.PassResult.PENDING))
    log.observe(finished(unavailable=("eu: away",), result=events.PassResult.PENDING))
    first, *told = lines(stream)
    assert "unavailable" not in first
    assert [line["unavailable"] for line in told] == [list(away), ["eu: away"]]
    assert [line["level"] for line in told] == ["warning", "warning"]


def test_every_event_has_a_name() -> None:
    """No event can be added without a name in the log, and names are dotted."""
    assert set(logs.NAMES) == set(typing.get_args(events.Event))
    assert len(set(logs.NAMES.values())) == len(logs.NAMES)
    assert all(name.count(".") == 1 and name == name.lower() for name in logs.NAMES.values())


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://shop:hunter2-pa%24s@db.example.com/postgres",
        "postgresql://shop:hunter2-pa@ss:wörd/x@db.example.com",
        "host=db user=shop password='hunter2 pa\\'ss' dbname=x",
        "host=db password=hunter2pass",
        "hunter2-only-a-password",
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_secrets_are_masked_wherever_they_stand(dsn: str, terminal: bool) -> None:
    """A registered secret, and the password in it, is masked in messages, values, keys and tracebacks."""
    logs.forbid(dsn)
    stream = Terminal() if terminal else io.StringIO()
    logs.configure(stream)
    log = logs.EventLog()
    log.observe(events.TaskFailed(task="x", error=f"could not parse {dsn!s}"))
    structlog.stdlib.get_logger().error("failed", nested={"deep": [dsn]}, **{dsn: 1})
    logging.getLogger("some.library").warning("connecting to %s", dsn)
    try:
        int(dsn)
    except ValueError:
        logging.getLogger("some.library").exception("trouble")
    assert "hunter2" not in stream.getvalue()
    assert "trouble" in stream.getvalue()
    if not terminal:
        assert len(lines(stream)) == 4


def test_unregistered_passwords_are_masked_by_their_look() -> None:
    """The password of a URL and of a key=value pair is masked even where nobody registered it."""
    stream = io.StringIO()
    logs.configure(stream)
    log = structlog.stdlib.get_logger()
    log.info("trying https://ci:s3cr3t-a@git.example.com/x", other="host=x password=s3cr3t-b sslmode=require")
    log.info("x", dsn="s3cr3t-c", authorization="Bearer s3cr3t-d")
    assert "s3cr3t" not in stream.getvalue()
    assert lines(stream)[0]["other"].endswith("sslmode=require")


def test_short_values_do_not_blind_the_log() -> None:
    """Registering a secret of a letter or two does not mask every line."""
    logs.forbid("e")
    assert logs.mask("event") == "event"


def test_unprintable_text_stops_nothing() -> None:
    """Half a surrogate pair or a character the stream cannot hold is written escaped."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    logs.configure(stream, as_json=True)
    structlog.stdlib.get_logger().info("odd", value="\udcff ünï", when=datetime(2026, 1, 1, tzinfo=UTC))
    stream.flush()
    assert b'"event": "odd"' in raw.getvalue()


def test_long_values_are_cut() -> None:
    """A line has a limit."""
    stream = io.StringIO()
    logs.configure(stream)
    structlog.stdlib.get_logger().info("long", value="x" * 100_000)
    assert len(stream.getvalue()) < 10_000
