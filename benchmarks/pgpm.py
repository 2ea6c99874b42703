"""The engine of pgpm: which one, how it is installed, and the script that drives it."""

import subprocess
from pathlib import Path

ENGINE = "@pgpmjs/core@7.27.3"
DRIVER = Path(__file__).with_name("pgpm.cjs")
INSTALL_TIMEOUT_S = 240


def install(folder: Path) -> Path:
    """Install the engine into a folder, where it is not there already; gives the folder."""
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == ENGINE:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", ENGINE],
        cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"installing {ENGINE} with npm: {done.stdout}{done.stderr}")
    stamp.write_text(ENGINE)
    return folder


def command(engine: Path, module: Path, verb: str, *change: str) -> tuple[str, ...]:
    """The command that does something with a module, up to a change where one is given."""
    return ("node", str(DRIVER), str(engine), str(module), verb, *change)
