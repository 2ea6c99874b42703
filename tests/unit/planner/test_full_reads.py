"""When a catalog is read in full though nothing seems to have moved, and what is kept beside it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.catalog.model import Catalog, CatalogObject, DatabaseIdentity
from reconciler.planner import reads
from reconciler.planner.reads import StateReader
from reconciler.postgres.connection import Connections, Dsn
from reconciler.snapshot.probe import ALGORITHM
from reconciler.state.live import LiveDatabase
from reconciler.state.tracked import BaseLine, TrackedDatabase, Unfinished

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


async def test_what_is_tracked_stays_whole_beside_a_full_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the catalog is read too, an unfinished change, a busy fence and its epoch are known as before."""
    unfinished = Unfinished(change_id="1", project="shop", name="a", script_hash=None)
    tracked = replace(TRACKED, busy=True, unfinished={"1": unfinished}, epoch=7)

    async def none(_connection: object) -> Mapping[str, CatalogObject]:
        return {}

    monkeypatch.setattr(reads, "read_base_line_objects", none)
    nobody: Any = None
    found = await reads._with_objects(nobody, tracked, LiveDatabase(exists=True, catalog=Catalog({})))
    assert found == replace(tracked, base_line=replace(BASE_LINE, objects={}))
    assert found.epoch == 7
