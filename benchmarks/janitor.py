"""Ends what a benchmark leaves behind when it is killed: a process of its own that outlives its parent.

It reads lines from its standard input and acts when that ends: `process PID CREATED` is killed if it is still the
process it was, and `folder PATH` is removed.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil


class Janitor:
    """The parent's end: what it is told is ended with us."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines

    def process(self, pid: int) -> None:
        """Kill this process when we end."""
        self._tell(f"process {pid} {psutil.Process(pid).create_time()}")

    def folder(self, path: Path) -> None:
        """Remove this folder when we end."""
        self._tell(f"folder {path}")

    def _tell(self, line: str) -> None:
        self._lines.write(line + "\n")
        self._lines.flush()


@contextmanager
def janitor() -> Iterator[Janitor]:
    """A janitor for as long as the block runs, and for what is left if it never ends in order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.janitor"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield Janitor(process.stdin)
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def _end(pid: int, created: float) -> None:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.create_time() != created:
            return
        whole = [*process.children(recursive=True), process]
        for one in whole:
            with suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(whole, timeout=20)


def main() -> None:
    told = [line.rstrip("\n").partition(" ") for line in sys.stdin]
    for what, _, value in told:
        if what == "process":
            pid, created = value.split()
            _end(int(pid), float(created))
    for what, _, value in told:
        if what == "folder":
            shutil.rmtree(value, ignore_errors=True)


if __name__ == "__main__":
    main()
