"""Where the folder of an embedded server goes, and that a failure leaves none behind."""

import os
import tempfile
from pathlib import Path

import pytest

from reconciler.errors import PermanentError
from reconciler.postgres import embedded_record
from reconciler.postgres.embedded_record import chosen_home
from reconciler.postgres.programs import Account

OTHER = Account(name="postgres", uid=os.geteuid(), gid=os.getegid())


class Reach:
    """What the other user can reach, as a test says it."""

    def __init__(self, *, outside: bool) -> None:
        self.outside = outside

    def __call__(self, folder: Path, _account: Account | None) -> bool:
        return self.outside and "state" not in folder.parts


def within(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def fail_within(state_dir: Path, elsewhere: Path | None) -> None:
    with chosen_home(state_dir, OTHER, elsewhere) as (home, _note):
        assert home.is_dir()
        raise OSError("no room")


@pytest.mark.parametrize("place", ["elsewhere", "temporary"])
@pytest.mark.parametrize("reachable", [False, True])
def test_a_failure_leaves_no_folder_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, *, reachable: bool
) -> None:
    """Neither where the other user cannot get there, nor where what needs the folder fails."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(embedded_record, "may_enter", Reach(outside=reachable))
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "file").write_text("stays")
    elsewhere = tmp_path / "others" / "made" / "here" if place == "elsewhere" else None
    before = within(tmp_path)
    with pytest.raises(PermanentError if not reachable else OSError, match=r"can reach neither|no room"):
        fail_within(tmp_path / "state", elsewhere)
    assert within(tmp_path) == before


def test_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of an earlier server is nobody's to remove."""
    monkeypatch.setattr(embedded_record, "may_enter", Reach(outside=True))
    with chosen_home(tmp_path / "state", OTHER, tmp_path / "elsewhere") as (home, note):
        assert note is not None
        assert "'postgres' cannot reach" in note
    monkeypatch.setattr(embedded_record, "may_enter", Reach(outside=False))
    with (
        pytest.raises(PermanentError, match="can reach neither"),
        chosen_home(tmp_path / "state", OTHER, tmp_path / "elsewhere"),
    ):
        pass
    assert home.is_dir()
