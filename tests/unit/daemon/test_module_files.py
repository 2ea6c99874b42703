"""Files of modules and of commits: whole, of this program and of this user, or not used; never an error."""

import os
import threading
from pathlib import Path

import pytest

import reconciler
from reconciler.daemon import cache_files, module_files, tree_files
from reconciler.state.contents import Contents, Resolved
from reconciler.state.resolve import ModuleContent

FILES = b"digest"


def resolved(project: str) -> Resolved:
    content = ModuleContent(
        plan_file="m/sqitch.plan", project=project, uri=None, requires=(), changes=(), beyond_target=()
    )
    return Resolved(files=FILES, names=frozenset(), key=b"key", content=content)


def loaded(folder: Path) -> Contents:
    known = module_files.load(folder)
    assert known is not None
    return known


def saved(folder: Path, place: str = "m", project: str = "shop") -> Path:
    known = loaded(folder)
    known.put(place, resolved(project))
    module_files.save(folder, known)
    return module_files.file(folder, place)


def project_of(folder: Path, place: str = "m") -> str | None:
    known = loaded(folder).get(place, FILES)
    return known.content.project if known is not None else None


def test_each_module_has_a_file_of_its_own(tmp_path: Path) -> None:
    """It is for its owner alone; another module leaves it as it is, and the same one takes its place."""
    file = saved(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    saved(tmp_path, "other", "blog")
    assert (project_of(tmp_path), project_of(tmp_path, "other")) == ("shop", "blog")
    saved(tmp_path, project="new")
    assert project_of(tmp_path) == "new"


def test_files_that_others_may_have_written_are_not_read(tmp_path: Path) -> None:
    """Only a plain file that nobody else can write is believed, and only by the program that wrote it."""
    saved(tmp_path).chmod(0o622)
    assert project_of(tmp_path) is None


def test_an_edited_program_makes_modules_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version does not believe what this one wrote."""
    saved(tmp_path)
    monkeypatch.setattr(reconciler, "__version__", "0.0.0")
    assert project_of(tmp_path) is None


def test_there_are_only_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more, those that were written first go."""
    monkeypatch.setattr(module_files, "FILES_MAX", 2)
    for number, place in enumerate(("a", "b", "c")):
        file = saved(tmp_path, place)
        os.utime(file, (number, number))
    assert [project_of(tmp_path, place) for place in ("a", "b", "c")] == [None, "shop", "shop"]


def test_a_folder_that_takes_no_file_makes_no_error(tmp_path: Path) -> None:
    """A command works without."""
    (tmp_path / "cache").write_text("a file")
    saved(tmp_path)
    assert project_of(tmp_path) is None
    kept = tree_files.kept(tmp_path, "config")
    assert kept is not None
    kept.write(b"content")
    assert kept.read() is None


def test_several_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    """Whoever reads while others write finds one of what they wrote, whole."""
    contents = [str(number).encode() * 200_000 for number in range(4)]
    file = tmp_path / "cache" / "file"
    cache_files.write(file, contents[0])

    def put(content: bytes) -> None:
        for _ in range(20):
            cache_files.write(file, content)

    threads = [threading.Thread(target=put, args=(own,)) for own in contents]
    for thread in threads:
        thread.start()
    found = {cache_files.read(file) for _ in range(50)}
    for thread in threads:
        thread.join()
    assert found | {cache_files.read(file)} <= set(contents)
    assert [entry.name for entry in file.parent.iterdir()] == ["file"]
