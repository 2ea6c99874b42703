"""The command line in processes of their own that start quickly: forked from one that has imported it."""

import os
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = get_context("forkserver")
_IMPORTED = ["reconciler.cli.main", "reconciler.cli.local_backend", "tests.plugins.commands"]


def _run(arguments: tuple[str, ...], environ: dict[str, str], folder: str, output: str) -> None:
    """What the installed program does, with what it prints in a file."""
    from reconciler.cli.main import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    sys.argv = ["reconciler", *arguments]
    main()


class Command:
    """A `reconciler …` that runs; whoever begins it ends it."""

    def __init__(self, arguments: tuple[str, ...], environ: Mapping[str, str], folder: Path) -> None:
        _CONTEXT.set_forkserver_preload(_IMPORTED)
        self._output = folder / f"output-{os.urandom(4).hex()}"
        self._process: BaseProcess = _CONTEXT.Process(
            target=_run, args=(arguments, dict(environ), str(folder), str(self._output)), daemon=True
        )
        self._process.start()

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End it as a failing machine does."""
        self._process.kill()
        assert self.wait() == -9, self.output

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def wait(self, timeout_s: float = 120) -> int:
        """Its exit code, negative for a signal; a failure where it does not end in time."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        assert code is not None, f"it did not end within {timeout_s:g} s:\n{self.output}"
        return code

    def succeed(self) -> str:
        """Wait for a good end; gives what it printed."""
        assert self.wait() == 0, self.output
        return self.output
