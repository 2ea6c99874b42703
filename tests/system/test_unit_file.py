"""The unit file is right and tight, by systemd's own judgement."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.plugins.package import ROOT, must

pytestmark = pytest.mark.system

UNIT = ROOT / "systemd" / "reconciler.service"
EXPOSURE_MAX = 1.5


def test_unit_file_is_valid(tmp_path: Path) -> None:
    """systemd knows every key and every value of the unit file."""
    program = tmp_path / "reconciler"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "reconciler.service"
    unit.write_text(UNIT.read_text().replace("/opt/pg-reconciler/bin/reconciler", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert (done.returncode, about_us) == (0, [])


def test_exposure_is_low() -> None:
    """The hardening scores at most 1.5 of 10 points of exposure."""
    analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    must(*analyze, f"--threshold={EXPOSURE_MAX * 10:.0f}", str(UNIT))
    open_points = [
        row["name"] for row in json.loads(must(*analyze, "--json=short", str(UNIT))) if row["set"] is False
    ]
    # It talks to servers wherever they are, and starts no containers of its own.
    assert "PrivateNetwork=" in open_points
    assert not {"ProtectSystem=", "NoNewPrivileges=", "MemoryDenyWriteExecute="} & set(open_points)
