"""What an instance keeps in its folder is read as it was written, or known to be damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.runtimes import instance
from reconciler.runtimes.instance import State
from reconciler.runtimes.log_files import LogFile

DEFINITION = {"format": 1, "hash": "1", "env": {"A": "\udce4"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "one"
    found.mkdir()
    instance.write_definition(found, DEFINITION)
    return found


def test_definition(folder: Path) -> None:
    """It is read as it was written, bytes that are no text too; a second one never takes its place."""
    assert instance.read_definition(folder) == DEFINITION
    assert instance.read_state(folder) == State()
    with pytest.raises(FileExistsError):
        instance.write_definition(folder, {})
    for damaged in (b"", b"[]", b'{"a', b'{"format": 2}'):
        (folder / instance.DEFINITION).write_bytes(damaged)
        with pytest.raises(instance.Damaged):
            instance.read_definition(folder)


def test_definition_that_is_too_long(tmp_path: Path) -> None:
    """What is longer than any command line can be is refused before it is written."""
    with pytest.raises(ValueError, match="at most 4194304"):
        instance.write_definition(tmp_path, {"env": {"A": "x" * 5_000_000}})
    assert list(tmp_path.iterdir()) == []


@given(
    st.builds(
        State,
        phase=st.sampled_from([instance.PREPARED, instance.RUNNING, instance.ENDED]),
        run=st.integers(0, 2**60),
        boot=st.text("0123456789abcdef-", max_size=36),
        since=st.floats(0, 2**40),
        up_since=st.floats(0, 2**40),
        exit_status=st.none() | st.integers(-64, 255),
        reason=st.text(),
    )
)
def test_state_fits_its_page(state: State) -> None:
    """Any state is one page, and what is read of it is what was told; a reason may be cut short."""
    page = instance._packed(state)
    assert len(page) == instance.STATE_BYTES
    found = instance._unpacked(page)
    assert found is not None
    assert found._replace(reason="") == state._replace(reason="")
    assert state.reason.startswith(found.reason)


def test_state_takes_no_room(folder: Path) -> None:
    """Telling a state writes over the page that is there, whoever has it open."""
    before = (folder / instance.STATE).stat()
    instance.write_state(folder, State(phase=instance.RUNNING, run=3))
    after = (folder / instance.STATE).stat()
    assert (before.st_ino, before.st_size, before.st_blocks) == (after.st_ino, after.st_size, after.st_blocks)
    assert instance.read_state(folder) == State(phase=instance.RUNNING, run=3)


def test_damaged_state(folder: Path) -> None:
    """A page that is not whole is not believed."""
    page = bytearray((folder / instance.STATE).read_bytes())
    page[20] ^= 1
    for damaged in (bytes(page), page[:100], b""):
        (folder / instance.STATE).write_bytes(damaged)
        with pytest.raises(instance.Damaged):
            instance.read_state(folder)


def test_lock_of_a_process(folder: Path) -> None:
    """The kernel says who has the lock; looking at it neither takes nor frees it, and death does."""
    text = (
        "import sys; from pathlib import Path; from reconciler.runtimes import instance\n"
        "print(instance.take_for_life(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", text, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert [instance.holder(folder) for _ in range(3)] == [process.pid] * 3
        assert instance.take(folder) is None
        process.kill()
    assert instance.holder(folder) is None


def test_lock_among_threads(folder: Path) -> None:
    """Within a process each who takes the lock excludes the others, and looking frees nothing."""
    lock = instance.take(folder)
    assert lock is not None
    assert instance.take(folder) is None
    assert instance.holder(folder) == -1
    assert instance.take(folder) is None
    os.close(lock)
    assert instance.holder(folder) is None


def test_lock_of_a_folder_that_was_moved(folder: Path) -> None:
    """Who locked a folder that is not at its place any more has nothing."""
    (folder / instance.LOCK).rename(folder / "other")
    assert instance.take(folder) is None
    assert instance.holder(folder) is None


@pytest.mark.parametrize("files", [1, 3])
def test_log_keeps_the_newest(tmp_path: Path, files: int) -> None:
    """So many files of so many bytes, lines whole where they fit, and nothing of the newest missing."""
    path = tmp_path / "log"
    log = LogFile(path, bytes_max=10, files=files)
    assert sum(log.write(f"line {each}\n".encode()) for each in range(5)) == 0
    kept = [tmp_path / f"log.{number}" for number in range(files - 1, 0, -1)] + [path]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert "".join(each.read_text() for each in kept) == "".join(
        f"line {each}\n" for each in range(5 - files, 5)
    )
    log.close()
    assert LogFile(path, bytes_max=10, files=files).write(b"x" * 35) == 0
    assert path.read_text() == "x" * 5


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    """What is not taken is counted, and the next words are tried anew."""
    log = LogFile(tmp_path / "later" / "log", bytes_max=100, files=2)
    assert log.write(b"lost") == 4
    (tmp_path / "later").mkdir()
    assert log.write(b"kept") == 0
    assert (tmp_path / "later" / "log").read_bytes() == b"kept"
    log.close()
