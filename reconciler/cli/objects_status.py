"""What `status` says of SQL objects: groups that are refreshed, and leftovers that could not be removed."""

from collections.abc import Iterator
from datetime import datetime

from reconciler.cli.backend import Json
from reconciler.cli.output import Screen, ago, clock, count, printable

SHOWN_MAX = 10
"""Groups and leftovers that are told of one by one."""
_WHAT = {
    "staged": "what was staged of",
    "promoted": "what was displaced by",
    "reverted": "what was taken back of",
}


def refreshes(screen: Screen, environment: Json, now: datetime, *, every: bool) -> None:
    """A table of the groups, those that fail first."""
    groups = sorted(environment.get("refreshes") or [], key=lambda row: not row["failures"])
    if not groups:
        return
    shown = groups if every else groups[:SHOWN_MAX]
    rows = [
        (
            row["name"],
            row["deployment"],
            row["schedule"],
            ago(row["succeeded_at"], now) if row["succeeded_at"] else "never",
            ago(row["data_at"], now) if row["data_at"] else "-",
            _state(row),
        )
        for row in shown
    ]
    screen.line()
    screen.table(("REFRESH", "DEPLOYMENT", "SCHEDULE", "REFRESHED", "DATA OF", "NOW"), rows, indent="  ")
    if len(groups) > len(shown):
        screen.line(f"  and {count(len(groups) - len(shown), 'more group')}")


def _state(row: Json) -> str:
    if row["running"]:
        return "running"
    if row["failures"]:
        return f"failed {count(row['failures'], 'time')}, again at {clock(row['due_at'])}"
    return f"due at {clock(row['due_at'])}"


def troubles(environment: Json) -> Iterator[str]:
    """Groups whose last run failed, and what could not be removed."""
    failing = [row for row in environment.get("refreshes") or [] if row["failures"]]
    for row in failing[:SHOWN_MAX]:
        about = f"refreshing '{row['name']}' of '{row['component']}' on '{row['deployment']}' failed"
        yield printable(f"{about}: {row['error']}")
    if len(failing) > SHOWN_MAX:
        yield f"and {count(len(failing) - SHOWN_MAX, 'more group')} could not be refreshed"
    kept = environment.get("kept") or []
    for row in kept[:SHOWN_MAX]:
        what = f"{_WHAT[row['state']]} generation {row['generation']} of '{row['component']}'"
        again = f"tried {count(row['failures'], 'time')}, again at {clock(row['next_try_at'])}"
        yield printable(f"kept: {what} on '{row['deployment']}': {row['error']} ({again})")
    if len(kept) > SHOWN_MAX:
        yield f"kept: {count(len(kept) - SHOWN_MAX, 'more generation')}"
