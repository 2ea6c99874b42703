"""What a service itself may write is for its own user, and only what was asked for is read of it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import PermanentError
from reconciler.runtimes import service_files
from reconciler.runtimes.definition import faults_here
from reconciler.runtimes.runtime import Build, Data, Limits
from tests.plugins.services import shell

SPEC = shell("true", output_bytes_max=10, data=(Data(name="main"),), user="api")
OTHER = (os.geteuid() + 1000, os.getegid() + 1000, [os.getegid() + 1000])


def test_folder_that_its_user_cannot_enter(tmp_path: Path) -> None:
    """A service that is to write as another user is refused where a folder above is shut, which is named."""
    root = tmp_path / "state" / "services"
    service_files.make_folder(root, root)
    (tmp_path / "state").chmod(0o700)
    (found,) = service_files.faults_of_reach(root, SPEC, OTHER)
    assert f"below '{tmp_path / 'state'}'" in found
    ourselves = (os.geteuid(), os.getegid(), [os.getegid()])
    assert service_files.faults_of_reach(root, SPEC, ourselves) == []
    assert service_files.faults_of_reach(root, replace(SPEC, data=(), output_bytes_max=None), OTHER) == []


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_is_no_output(tmp_path: Path, kind: str) -> None:
    """An output that is a pipe, a link or a folder is refused, and keeps nobody waiting."""
    place = tmp_path / service_files.OUTPUT
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to("/etc/passwd"), "folder": os.mkdir}[kind](place)
    with pytest.raises(PermanentError, match="reading the output"):
        service_files.read_output(SPEC, tmp_path)


def test_what_only_a_container_has_is_refused() -> None:
    """A process has no image, no networks, no place of its own for data, and few limits without systemd."""
    spec = replace(
        SPEC,
        user=None,
        data=(Data(name="main", path="/var/lib/main"),),
        build=Build(tag_hash="1", dockerfile="Dockerfile", files={}),
        networks=("shop",),
        limits=Limits(memory_bytes=1),
    )
    assert [each.split(":")[0] for each in faults_here(spec, in_unit=False)] == [
        "a process has no image",
        "a process has no networks of a container engine",
        "its data 'main' cannot stand at '/var/lib/main'",
        "outside of systemd the runtime 'process' limits only open files; 'container' limits the rest",
    ]
    assert len(faults_here(spec, in_unit=True)) == 3
