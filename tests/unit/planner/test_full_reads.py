"""When a catalog is read in full though nothing seems to have moved."""

import time

import pytest

from reconciler.catalog.model import DatabaseIdentity
from reconciler.planner.reads import StateReader
from reconciler.postgres.connection import Connections, Dsn
from reconciler.snapshot.probe import ALGORITHM
from reconciler.state.tracked import BaseLine, TrackedDatabase


def test_full_reads_of_many_databases_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand databases seen at once are read in full all over the interval, each once in it."""
    reader = StateReader(Connections(), databases_in_parallel=4, full_read_interval_s=600)
    identity = DatabaseIdentity("1", 1, 17)
    base_line = BaseLine(moving=False, identity=identity, algorithm=ALGORITHM, probe="p")
    tracked = TrackedDatabase(installed=True, version=1, modules={}, base_line=base_line)
    dsn = Dsn("host=localhost")
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    due = []
    for _minute in range(11):
        found = [reader._known_probe(dsn, f"db{number}", tracked) for number in range(1000)]
        due.append(found.count(None))
        now += 60
    assert due[0] == 0
    assert sum(due) == 1000
    assert max(due) < 200
