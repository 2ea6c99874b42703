"""What `status` says of services, jobs and routes: a table of them, and what is wrong with which."""

from collections.abc import Iterator
from datetime import datetime

from reconciler.cli.backend import Json
from reconciler.cli.output import Screen, ago, count, printable

SHOWN_MAX = 20
"""Services, jobs and routes that are told of one by one."""
SOUND = frozenset({"healthy", "starting", "set", "done", "running", "stopped", None})


def table(screen: Screen, environment: Json, now: datetime, *, every: bool) -> None:
    """All of them in the order of their stages; of many, those that something is wrong with come first."""
    found = environment.get("programs") or []
    if not found:
        return
    shown = found
    if not every and len(found) > SHOWN_MAX:
        shown = sorted(found, key=lambda row: row["state"] in SOUND)[:SHOWN_MAX]
    rows = [
        (
            f"{row['kind'].lower()} {row['component']}",
            row["deployment"],
            _state(row),
            ago(row["since"], now) if row["since"] else "-",
            row["instance"] if row["kind"] == "Service" and row["instance"] else "-",
        )
        for row in shown
    ]
    screen.line()
    screen.table(("COMPONENT", "DEPLOYMENT", "STATE", "SINCE", "INSTANCE"), rows, indent="  ")
    if len(found) > len(shown):
        name = printable(environment["name"])
        more = f"and {count(len(found) - len(shown), 'more component')}"
        screen.line(f"  {more}; all of them with: reconciler status {name} --all")


def _state(row: Json) -> str:
    told = row["state"] or "not looked at yet"
    if row["applying"]:
        told += ", being rolled out"
    return told + (f", put back {count(row['heals'], 'time')}" if row["heals"] else "")


def troubles(environment: Json) -> Iterator[str]:
    """What is not as it should be, and why."""
    wrong = [row for row in environment.get("programs") or [] if row["state"] not in SOUND]
    for row in wrong[:SHOWN_MAX]:
        why = f": {row['reason']}" if row["reason"] else ""
        yield printable(
            f"{row['kind'].lower()} '{row['component']}' on '{row['deployment']}' is {row['state']}{why}"
        )
    if len(wrong) > SHOWN_MAX:
        yield f"and {count(len(wrong) - SHOWN_MAX, 'more component')} not as they should be"
