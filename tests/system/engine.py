"""A Docker Engine of our own: started for the tests, in a network namespace of its own, gone with them."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.plugins.package import ROOT, must

DOCKER = "/usr/bin/docker"
"""Debian's client, which has BuildKit built in; another on the path may want a plug-in."""
START_S = 60.0
BASE = "python-base:test"
IMAGE = "pg-reconciler:test"
RELEASE = "bookworm"


class Engine:
    """A daemon of Docker and its client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *switches: str, namespace: str | None = None) -> None:
        """Start it, in a network namespace if one is given, and wait until it answers."""
        # `ip netns exec` would mount /sys anew, and hide the control groups.
        inside = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        command = [
            *inside, "dockerd", "--data-root", f"{self.folder}/root", "--exec-root", f"{self.folder}/exec",
            "--pidfile", f"{self.folder}/dockerd.pid", "--host", self.address, *switches,
        ]  # fmt: skip
        with (self.folder / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        from tests.system.conftest import until

        until(
            lambda: self.docker("version", check=False).returncode == 0,
            lambda: f"Docker to answer\n{(self.folder / 'dockerd.log').read_text()[-4000:]}",
            deadline_s=START_S,
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=START_S)
            self.process = None

    def kill(self) -> None:
        """End it as a crash would; what it started stays."""
        assert self.process is not None
        record = self.folder / "exec/containerd/containerd.pid"
        containerd = int(record.read_text())
        self.process.kill()
        self.process.wait(timeout=START_S)
        self.process = None
        from tests.system.conftest import until

        # It goes with who started it, but a little later, and would be taken for one that still serves.
        until(lambda: not _is_alive(containerd), lambda: "containerd to end", deadline_s=START_S)
        record.unlink(missing_ok=True)

    def docker(
        self, *arguments: str, check: bool = True, timeout_s: float = 120.0, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the client."""
        done = subprocess.run(
            [DOCKER, *arguments],
            env={**os.environ, "DOCKER_HOST": self.address, "DOCKER_CONFIG": str(self.folder), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        said = f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said
        return done

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container or an image."""
        return dict(json.loads(self.docker("inspect", name).stdout)[0])

    def make_base(self) -> None:
        """A Debian with Python, which stands in for the official image: nothing can be pulled here."""
        tree = self.folder / "base.tar"
        must(
            "mmdebstrap", "--quiet", "--variant=apt", "--include=python3,ca-certificates", RELEASE, str(tree),
            timeout_s=300.0,
        )  # fmt: skip
        self.docker("import", str(tree), BASE)
        tree.unlink()

    def build(self, ca: Path) -> str:
        """Build the image as its users do; gives what was said."""
        done = self.docker(
            "build", "--progress=plain", "--network=host", f"--secret=id=ca,src={ca}",
            f"--build-arg=PYTHON_IMAGE={BASE}", "--tag", IMAGE, str(ROOT),
            timeout_s=300.0, DOCKER_BUILDKIT="1",
        )  # fmt: skip
        return done.stdout + done.stderr


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextlib.contextmanager
def engine_folder() -> Iterator[Path]:
    """A folder for an engine, in memory; not below pytest's, for names of sockets are short."""
    folder = Path(tempfile.mkdtemp(prefix="reconciler-docker-", dir="/dev/shm"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        # An engine that was killed left its folder mounted, and is mounted anew by the next.
        umount = ["umount", "--lazy", str(folder / "root")]
        while subprocess.run(umount, capture_output=True, check=False).returncode == 0:
            pass
        shutil.rmtree(folder)


@contextlib.contextmanager
def network_namespace() -> Iterator[str]:
    """A network namespace with loopback up, and nothing else in it."""
    name = f"reconciler-{os.getpid()}"
    must("ip", "netns", "add", name)
    try:
        must("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        must("ip", "netns", "delete", name)
