"""The file of verdicts: whole, of this program and of this user, or not used; never an error."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import reconciler
from reconciler.daemon import cache_files, verdict_file
from reconciler.state.verdicts import Verdict, Verdicts

KEY = "k"


def saved(folder: Path) -> Path:
    known = Verdicts()
    known.put(KEY, Verdict(parse_hash="hash"))
    verdict_file.save(folder, known)
    return verdict_file.place(folder)


def is_known(folder: Path) -> bool:
    return verdict_file.load(folder).get(KEY) is not None


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """It is for its owner alone, and nothing is written where nothing was learnt."""
    file = saved(tmp_path)
    assert is_known(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.unlink()
    verdict_file.save(tmp_path, Verdicts({KEY: ["hash", True]}))
    assert list(file.parent.iterdir()) == []


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    """No file and no folder are no error."""
    assert not is_known(tmp_path / "nowhere")


def _writable(file: Path) -> None:
    file.chmod(0o622)


def _linked(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("spoilt", [_writable, _linked, _pipe, _folder])
def test_a_file_that_others_may_have_written_is_not_read(
    spoilt: Callable[[Path], None], tmp_path: Path
) -> None:
    """Only a plain file that nobody else can write is believed."""
    spoilt(saved(tmp_path))
    assert not is_known(tmp_path)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is bounded, and one that would be longer is not written."""
    saved(tmp_path)
    monkeypatch.setattr(cache_files, "FILE_BYTES_MAX", 10)
    assert not is_known(tmp_path)
    saved(tmp_path / "other")
    assert not verdict_file.place(tmp_path / "other").exists()


def test_an_edited_program_does_not_believe_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version, or another file among those that judge scripts, looks again."""
    saved(tmp_path)
    monkeypatch.setattr(reconciler, "__version__", "0.0.0")
    assert not is_known(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(cache_files, "JUDGES", ("catalog", "changes"))
    assert not is_known(tmp_path)
    monkeypatch.undo()
    assert is_known(tmp_path)


def test_where_another_writes_it_is_left_to_that(tmp_path: Path) -> None:
    """One process at a time puts a file there; what a killed one left goes after a while."""
    file = saved(tmp_path)
    file.unlink()
    half = file.with_name("verdicts.new")
    half.write_text("half")
    saved(tmp_path)
    assert (half.read_text(), file.exists()) == ("half", False)
    os.utime(half, (0, 0))
    saved(tmp_path)
    assert not half.exists()
    saved(tmp_path)
    assert is_known(tmp_path)


def test_a_folder_that_takes_no_file_is_no_error(tmp_path: Path) -> None:
    """A command works without."""
    (tmp_path / "cache").write_text("a file")
    saved(tmp_path)
    assert not is_known(tmp_path)
