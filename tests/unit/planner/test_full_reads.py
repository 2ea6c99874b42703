"""When a catalog is read in full though nothing seems to have moved."""

import time

import pytest

from reconciler.catalog.model import DatabaseIdentity
from reconciler.planner.reads import StateReader
from reconciler.postgres.connection import Connections, Dsn
from reconciler.snapshot.probe import ALGORITHM
from reconciler.state.tracked import BaseLine, TrackedDatabase

DSN = Dsn("host=localhost")
BASE_LINE = BaseLine(moving=False, identity=DatabaseIdentity("1", 1, 17), algorithm=ALGORITHM, probe="p")
TRACKED = TrackedDatabase(installed=True, version=1, modules={}, base_line=BASE_LINE)


def test_full_reads_of_many_databases_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand databases seen at once are read in full all over the interval, each once in it."""
    reader = StateReader(Connections(), databases_in_parallel=4, full_read_interval_s=600)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    due = []
    for _minute in range(11):
        found = [reader._known_probe(DSN, f"db{number}", TRACKED) for number in range(1000)]
        due.append(found.count(None))
        now += 60
    assert due[0] == 0
    assert sum(due) == 1000
    assert max(due) < 200


def test_looks_for_a_commit_leave_full_reads_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due for its age stays due until somebody looks for drift; what moved is read at once."""
    reader = StateReader(Connections(), databases_in_parallel=4, full_read_interval_s=600)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    assert reader._known_probe(DSN, "db", TRACKED) == "p"
    monkeypatch.setattr(time, "monotonic", lambda: 1700.0)
    assert reader._known_probe(DSN, "db", TRACKED, due_too=False) == "p"
    assert reader._known_probe(DSN, "db", TRACKED) is None
    assert reader._known_probe(DSN, "db", TrackedDatabase(), due_too=False) == ""
