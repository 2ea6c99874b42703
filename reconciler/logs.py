"""Events as log lines, and the set-up of logging; the last net that keeps secrets out of both.

JSON, one object a line, unless the stream is a terminal. Reads events and changes nothing; structlog is
imported when logging is set up, for commands that never log.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from importlib import import_module
from threading import Lock
from typing import Any, TextIO
from urllib.parse import unquote

from typing_extensions import override

from reconciler import events
from reconciler.events import Event
from reconciler.postgres.redact import MASK, redact

SECRET_CHARACTERS_MIN = 3
"""Shorter values are not masked by value: every line would be full of masks, and none would be safer."""
VALUE_CHARACTERS_MAX = 4000
"""A longer value of a line is cut."""
_DRAWING = ("better_exceptions", "colorama", "rich")
LEVELS = ("debug", "info", "warning", "error")

NAMES: dict[type[Event], str] = {
    events.WakeReceived: "wake.received",
    events.SourceFetched: "source.fetched",
    events.HistoryRewritten: "source.history_rewritten",
    events.SignatureRejected: "source.signature_rejected",
    events.PassFinished: "pass.finished",
    events.RolloutRecorded: "rollout.recorded",
    events.OperationMoved: "operation.moved",
    events.StepFinished: "step.finished",
    events.ScriptSaid: "script.said",
    events.CommitApplied: "commit.applied",
    events.DriftFound: "drift.found",
    events.VerifyFailed: "module.verify_failed",
    events.GroupRefreshed: "objects.refreshed",
    events.ScheduledJobRan: "job.ran",
    events.GenerationRemoved: "generation.removed",
    events.GenerationKept: "generation.kept",
    events.LeaseLost: "lease.lost",
    events.BaseLineRetaken: "base_line.retaken",
    events.DiffServed: "diff.served",
    events.SnapshotRead: "snapshot.read",
    events.WorkerBeat: "worker.beat",
    events.DaemonStarted: "daemon.started",
    events.ControlAwaited: "control.awaited",
    events.DaemonStopped: "daemon.stopped",
    events.DeliveryReceived: "delivery.received",
    events.CallerRejected: "caller.rejected",
    events.CertificateRenewed: "certificate.renewed",
    events.Repaired: "upkeep.repaired",
    events.TaskFailed: "task.failed",
}
"""The name of each event in the log: noun, dot, what happened to it."""

_SECRET_KEYS = frozenset({"password", "passwd", "secret", "token", "dsn", "authorization", "conninfo"})
_PARTS = (
    re.compile(r"://[^/:@\s]*:(?P<secret>.*)@", re.DOTALL),
    re.compile(r"(?i)\bpassword\s*=\s*(?P<secret>'(?:[^'\\]|\\.)*'|[^\s&]+)"),
)
"""The part of a connection string that is a secret by itself, also where the whole cannot be parsed."""


class _Forbidden:
    """Values that no line may show; the longest is masked first, so that nothing of it is left over."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: frozenset[str] = frozenset()
        self._plain: tuple[str, ...] = ()
        self._escaped: tuple[str, ...] = ()

    def add(self, values: set[str]) -> None:
        """Remember more values."""
        fresh = {value for value in values if len(value) >= SECRET_CHARACTERS_MIN} - self._values
        if not fresh:
            return
        with self._lock:
            self._values |= fresh
            self._plain = tuple(sorted(self._values, key=len, reverse=True))
            self._escaped = tuple(json.dumps(value, ensure_ascii=False)[1:-1] for value in self._plain)

    def mask(self, text: str) -> str:
        """Mask every value as it is."""
        return redact(text, self._plain)

    def mask_json(self, line: str) -> str:
        """Mask every value as it stands in JSON text; the line stays JSON."""
        for value in self._escaped:
            line = line.replace(value, MASK)
        return line


_forbidden = _Forbidden()


def forbid(value: str) -> None:
    """Never show this value in a log line, nor the password in it where it is a connection string."""
    found = {value, value.strip()}
    for pattern in _PARTS:
        for match in pattern.finditer(value):
            part = match["secret"].strip("'")
            found |= {part, unquote(part)}
    _forbidden.add(found)


def mask(text: str) -> str:
    """Text fit to be shown: forbidden values, passwords in URLs and `password=…` are masked."""
    return _forbidden.mask(text)


def configure(stream: TextIO, *, as_json: bool | None = None, level: str = "info") -> None:
    """Send all log lines of the process, also those of libraries, to a stream.

    JSON unless the stream is a terminal, or as `as_json` says.
    """
    structlog = _structlog()
    chosen = as_json if as_json is not None else not stream.isatty()
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _fit]
    if chosen:
        render[1:1] = [structlog.processors.format_exc_info]
        render.append(structlog.processors.JSONRenderer(serializer=_json_line))
    else:
        plain = structlog.dev.plain_traceback
        render.append(structlog.dev.ConsoleRenderer(exception_formatter=plain))
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream, as_json=chosen)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(library).handlers[:] = []
        logging.getLogger(library).propagate = True
    # Each request is a line of its own at this level; what matters of them are events.
    for library in ("uvicorn", "uvicorn.access", "uvicorn.error", "apscheduler", "git", "watchfiles"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _structlog() -> Any:
    """The library without what its console for developers would draw with: our tracebacks are plain.

    It takes whatever of that is installed, and that takes longer to import than all the rest of it.
    """
    before = {name: sys.modules[name] for name in _DRAWING if name in sys.modules}
    if "structlog" not in sys.modules:
        sys.modules.update(dict.fromkeys(_DRAWING))  # type: ignore[arg-type]
    try:
        return import_module("structlog")
    finally:
        for name in [name for name in _DRAWING if sys.modules.get(name, name) is None]:
            del sys.modules[name]
        sys.modules.update(before)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; what goes out passes the last net here, and an unprintable character stops nothing."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        super().__init__(stream)
        self._as_json = as_json

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        line = _forbidden.mask_json(line) if self._as_json else _forbidden.mask(line)
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)


def _json_line(value: Mapping[str, Any], **_options: Any) -> str:
    first = ("timestamp", "level", "event")
    ordered = {key: value[key] for key in first if key in value} | dict(value)
    return json.dumps(ordered, ensure_ascii=False, default=str)


def _fit(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask and cut the values of a line."""
    line.pop("color_message", None)
    for key, value in list(line.items()):
        line[key] = MASK if key.lower() in _SECRET_KEYS and value else _fit_value(value)
    return line


def _fit_value(value: Any) -> Any:
    match value:
        case str():
            text = redact(value)
            return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"
        case Mapping():
            return {str(key): _fit_value(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_fit_value(item) for item in value]
        case _:
            return value


class EventLog:
    """Writes events as lines; a pass that says what the one before it said is told at `debug` only."""

    def __init__(self) -> None:
        structlog = _structlog()
        self._logger = structlog.stdlib.get_logger("reconciler")
        self._passes: dict[str, tuple[Any, ...]] = {}

    def observe(self, event: Event) -> None:
        """Write one line."""
        level = self._level(event)
        self._logger.log(level, NAMES[type(event)], **_values(event))

    def _level(self, event: Event) -> int:
        match event:
            case events.PassFinished():
                return self._level_of_pass(event)
            case events.TaskFailed() | events.SignatureRejected():
                return logging.ERROR
            case events.OperationMoved(after="failed"):
                return logging.ERROR
            case (
                events.SourceFetched(ok=False)
                | events.StepFinished(ok=False)
                | events.OperationMoved(after="retrying")
                | events.WorkerBeat(ok=False)
                | events.DiffServed(ok=False)
                | events.DriftFound()
                | events.VerifyFailed()
                | events.GroupRefreshed(ok=False)
                | events.ScheduledJobRan(ok=False)
                | events.GenerationKept(is_news=True)
                | events.LeaseLost()
                | events.HistoryRewritten()
                | events.BaseLineRetaken()
                | events.ControlAwaited()
                | events.Repaired()
            ):
                return logging.WARNING
            case events.CertificateRenewed(error=str()):
                return logging.ERROR
            case events.CallerRejected(told=True):
                return logging.WARNING
            case (
                events.WakeReceived()
                | events.CallerRejected()
                | events.SnapshotRead()
                | events.WorkerBeat()
                | events.SourceFetched(changed=False)
                | events.GenerationKept()
            ):
                return logging.DEBUG
            case _:
                return logging.INFO

    def _level_of_pass(self, event: events.PassFinished) -> int:
        said = (
            event.result,
            event.commit,
            event.pending,
            event.drift,
            event.diverged,
            event.held,
            event.unavailable,
            event.error,
        )
        repeated = self._passes.get(event.environment) == said
        self._passes[event.environment] = said
        if repeated:
            return logging.DEBUG
        if event.result is events.PassResult.FAILED:
            return logging.ERROR
        return logging.WARNING if event.unavailable else logging.INFO


def _values(event: Event) -> dict[str, Any]:
    """The parts of an event that say something."""
    parts = {field.name: getattr(event, field.name) for field in fields(event)}
    return {key: _plain(value) for key, value in parts.items() if value is not None and value != ()}


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case float():
            return round(value, 6)
        case _:
            return value
