"""The program as it is distributed: source distribution, wheel, and a virtual environment made from them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UV = str(Path(sys.executable).with_name("uv"))


def must(*arguments: str, timeout_s: float = 120.0, **options: Any) -> str:
    """Run a program that has to succeed, and give its output."""
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=timeout_s, check=False, **options
    )
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def build(source: Path, folder: Path, *kinds: str) -> list[Path]:
    """Build distributions (`--wheel`, `--sdist`; neither: both) of a source tree; gives the files."""
    must(UV, "build", "--quiet", *kinds, "--out-dir", str(folder), cwd=source)
    return sorted(path for path in folder.iterdir() if path.suffix in {".gz", ".whl"})


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment with the program in it, and nothing of the checkout."""

    folder: Path

    def program(self, name: str = "reconciler") -> str:
        return str(self.folder / "bin" / name)

    def run(
        self, *arguments: str, cwd: Path, timeout_s: float = 100.0, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the program as a user does, from a folder of theirs."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV")) and name != "PATH"
        }
        return subprocess.run(
            [self.program(), *arguments],
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", **kept, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def install(
    wheel: Path, folder: Path, *, python: str = sys.executable, extra: str | None = None
) -> Installed:
    """Install a wheel into a new virtual environment, with what it needs in the versions of the lock."""
    extras = ["--extra", extra] if extra else []
    must(
        UV, "sync", "--quiet", "--frozen", "--no-default-groups", "--no-install-project", *extras,
        "--python", python,
        cwd=ROOT, env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)},
    )  # fmt: skip
    must(UV, "pip", "install", "--quiet", "--no-deps", "--python", str(folder), str(wheel))
    return Installed(folder)
