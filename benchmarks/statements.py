"""Counts the statements that daemons send, by the server's own log of every statement."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.fleet import CONTROL, Fleet

FLUSH_S = 1.0
_SENT = re.compile(r"^(?:statement|execute [^:]*): (.*)$", re.DOTALL)
_OURS = "reconciler/"
_BEAT = "heartbeat_at"


@dataclass(slots=True)
class Statements:
    """What was sent while somebody looked."""

    seconds: float = 0.0
    heartbeats: int = 0
    control: Counter[str] = field(default_factory=Counter)
    managed: Counter[str] = field(default_factory=Counter)

    @property
    def a_second(self) -> float:
        """Statements a second beside heartbeats, and their transaction marks."""
        return (self.control.total() + self.managed.total()) / self.seconds


@contextmanager
def counted(made: Fleet) -> Iterator[Statements]:
    """Have the server log every statement while the block runs, then count those of daemons."""
    found = Statements()
    _log_statements(made, "all")
    places = {path: path.stat().st_size for path in _logs(made.server_data)}
    began = time.perf_counter()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - began
        _log_statements(made, "none")
        time.sleep(FLUSH_S)
        for path in _logs(made.server_data):
            _count(path, places.get(path, 0), found)


def _log_statements(made: Fleet, which: str) -> None:
    with psycopg.connect(made.dsn, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET log_statement = '{which}'".encode())
        connection.execute("SELECT pg_reload_conf()")
    time.sleep(FLUSH_S / 2)


def _logs(data: Path) -> list[Path]:
    return sorted((data / "statements").glob("*.json"))


def _count(path: Path, start: int, found: Statements) -> None:
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            with suppress(ValueError):
                _count_line(json.loads(line), found)


def _count_line(row: dict[str, Any], found: Statements) -> None:
    sent = _SENT.match(row.get("message", ""))
    if sent is None or not str(row.get("application_name", "")).startswith(_OURS):
        return
    text = " ".join(sent[1].split())
    if _BEAT in text:
        found.heartbeats += 1
    elif row.get("dbname") == CONTROL:
        found.control[text[:70]] += 1
    else:
        found.managed[text[:70]] += 1
