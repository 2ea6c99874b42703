"""What `status` says of groups that are refreshed and of leftovers that are kept."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.cli.objects_status import SHOWN_MAX, refreshes, troubles
from reconciler.cli.output import Screen

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SOON = (NOW + timedelta(minutes=5)).isoformat()


def group(name: str, **changed: Any) -> dict[str, Any]:
    row = {
        "deployment": "eu",
        "component": "reports",
        "name": name,
        "schedule": "0 * * * *",
        "due_at": SOON,
        "running": False,
        "succeeded_at": (NOW - timedelta(minutes=55)).isoformat(),
        "data_at": (NOW - timedelta(minutes=56)).isoformat(),
        "failures": 0,
        "error": None,
    }
    return {**row, **changed}


def shown(groups: list[dict[str, Any]], *, every: bool = False) -> list[str]:
    out = io.StringIO()
    screen = Screen(out=out, err=io.StringIO())
    refreshes(screen, {"refreshes": groups}, NOW, every=every)
    return [line.strip() for line in out.getvalue().splitlines() if line.strip()]


def test_groups_are_shown_those_that_fail_first() -> None:
    """When each was refreshed, how old its data is, and when it is next; many are cut."""
    failing = group("daily", failures=2, error="boom", succeeded_at=None, data_at=None)
    lines = shown([group("hourly"), failing, group("now", running=True)])
    assert lines[1].split()[0] == "daily"
    assert "never" in lines[1]
    assert lines[1].endswith("failed 2 times, again at 2026-03-01 12:05:00Z")
    assert "55" in lines[2]
    assert lines[2].endswith("due at 2026-03-01 12:05:00Z")
    assert lines[3].endswith("running")
    many = [group(f"g{number}") for number in range(SHOWN_MAX + 2)]
    assert shown(many)[-1] == "and 2 more groups"
    assert len(shown(many, every=True)) == SHOWN_MAX + 3
    assert shown([]) == []


def test_what_fails_and_what_is_kept_is_told_with_its_reason() -> None:
    """Each with what it is, why, and when it is tried again; an answer of an older daemon has neither."""
    kept = {
        "deployment": "eu",
        "component": "reports",
        "generation": "k1",
        "state": "promoted",
        "failures": 1,
        "error": "table mine",
        "next_try_at": SOON,
    }
    environment = {"refreshes": [group("daily", failures=1, error="boom"), group("hourly")], "kept": [kept]}
    failed, left = troubles(environment)
    assert failed == "refreshing 'daily' of 'reports' on 'eu' failed: boom"
    about, _, why = left.partition(": table mine ")
    assert about == "kept: what was displaced by generation k1 of 'reports' on 'eu'"
    assert why == "(tried 1 time, again at 2026-03-01 12:05:00Z)"
    assert list(troubles({})) == []
    assert list(troubles({"kept": [kept] * (SHOWN_MAX + 3)}))[-1] == "kept: 3 more generations"
