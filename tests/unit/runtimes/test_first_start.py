"""What a supervisor looks for, and notes, before it starts its service for the first time."""

import errno
from pathlib import Path

import pytest

from reconciler.runtimes import instance, launch, supervisor
from reconciler.runtimes.instance import State
from reconciler.runtimes.supervisor import Supervisor

DEFINITION = {
    "format": instance.FORMAT,
    "token": "one",
    "grace_s": 1.0,
    "log_bytes": 1024,
    "log_files": 1,
    "restart": {"when": "always", "delay_s": 1.0, "delay_max_s": 1.0, "limit": None, "steady_s": 1.0},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new instance."""
    instance.write_definition(tmp_path, DEFINITION)
    return tmp_path


def looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a supervisor looks for processes of one before it."""
    found: list[State] = []

    def look(_token: str, before: State, *, grace_s: float) -> int:
        assert grace_s == 1.0
        found.append(before)
        return 0

    monkeypatch.setattr(supervisor, "end_left", look)
    Supervisor(folder)._end_what_a_predecessor_left()
    return bool(found)


def test_nobody_is_looked_for_where_nothing_ever_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for processes is to read of all of the machine, once for each service that is started."""
    assert not looked_for(folder, monkeypatch)


@pytest.mark.parametrize("phase", [instance.STARTING, instance.RUNNING, instance.WAITING, instance.ENDED])
def test_whatever_may_be_left_is_looked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """Whoever was killed had noted that it starts something."""
    instance.write_state(folder, State(phase=phase, run=1))
    assert looked_for(folder, monkeypatch)


def test_where_the_note_cannot_be_read_all_is_looked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have said anything."""
    (folder / instance.STATE).write_bytes(b"\0" * instance.STATE_BYTES)
    assert looked_for(folder, monkeypatch)


def test_nothing_starts_before_that_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that is killed then leaves nothing that the next one does not look for."""
    tried: list[object] = []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    def start(definition: object) -> launch.Started:
        tried.append(definition)
        raise launch.NotStarted("not in a test")

    monkeypatch.setattr(launch, "start", start)
    one = Supervisor(folder)
    with monkeypatch.context() as patch:
        patch.setattr(instance, "write_state", full)
        one._start()
        assert not tried
        assert one._start_at is not None
    one._start()
    assert tried
    assert instance.read_state(folder).run == 1
