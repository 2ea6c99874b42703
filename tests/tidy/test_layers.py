"""The import contracts hold, and each of them fails when it is broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BREACHES = {
    "layers": ("reconciler/state/order.py", "import reconciler.worker"),
    "runtimes": ("reconciler/runtimes/runtime.py", "import reconciler.runtimes.process"),
    "supervisor": ("reconciler/runtimes/launch.py", "import reconciler.errors"),
    "pure-core": ("reconciler/diff/compare.py", "import os"),
    "acyclic": ("reconciler/plan/digest.py", "import reconciler.plan.build"),
    "git-door": ("reconciler/worker/loop.py", "import git"),
    "sql-door": ("reconciler/planner/planner.py", "import psycopg"),
}


def lint(root: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    for contract in contracts:
        command += ["--contract", contract]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)


def copy(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "reconciler", tmp_path / "reconciler", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    """Imports point one way, the core is pure, and the doors to Git and SQL are kept."""
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("contract", BREACHES)
def test_broken_contract_is_found(contract: str, tmp_path: Path) -> None:
    """A contract that cannot fail is none: each is broken once on purpose."""
    root = copy(tmp_path)
    path, line = BREACHES[contract]
    module = root / path
    module.write_text(module.read_text() + f"\n{line}\n")
    result = lint(root, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_undeclared_package_is_found(tmp_path: Path) -> None:
    """A new package without a declared place is an error."""
    root = copy(tmp_path)
    (root / "reconciler" / "elsewhere").mkdir()
    (root / "reconciler" / "elsewhere" / "__init__.py").write_text('"""Nowhere."""\n')
    assert lint(root, "layers").returncode == 1
