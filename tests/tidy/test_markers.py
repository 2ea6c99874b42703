"""Tests that need programs of the system run only where these were installed."""

from pathlib import Path

import pytest

SYSTEM = sorted((Path(__file__).resolve().parents[1] / "system").glob("test_*.py"))


@pytest.mark.parametrize("path", SYSTEM, ids=lambda path: path.name)
def test_system_tests_are_marked(path: Path) -> None:
    """Each file of system tests carries their marker as a whole: `make test` leaves it out."""
    marks = [line for line in path.read_text().splitlines() if line.startswith("pytestmark = ")]
    assert any("pytest.mark.system" in line for line in marks)
