"""What `status` says of services, jobs and routes, and `outputs` of what they put out."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.cli.jobs import shown_run
from reconciler.cli.output import Screen
from reconciler.cli.outputs import VALUE_CHARACTERS_MAX, shown_value
from reconciler.cli.programs_status import SHOWN_MAX, table, troubles
from reconciler.cli.status import advice, causes

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def row(component: str, kind: str = "Service", **changed: Any) -> dict[str, Any]:
    return {
        "deployment": "eu",
        "component": component,
        "kind": kind,
        "stage": "services",
        "state": "healthy",
        "reason": None,
        "since": (NOW - timedelta(minutes=55)).isoformat(),
        "instance": "i1",
        "applying": False,
        "heals": 0,
        **changed,
    }


def shown(rows: list[dict[str, Any]], *, every: bool = False) -> list[str]:
    out = io.StringIO()
    table(Screen(out=out, err=io.StringIO()), {"name": "production", "programs": rows}, NOW, every=every)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_services_jobs_and_routes_are_listed_as_they_come() -> None:
    """In the order of their stages, each with how it is and since when."""
    rows = [
        row("seed", "Job", state="done"),
        row("api", applying=True),
        row("cache", state="exited", heals=2),
        row("edge", "Route", state=None, since=None, instance=None),
    ]
    assert shown(rows)[1:] == [
        "job seed eu done 55 min ago -",
        "service api eu healthy, being rolled out 55 min ago i1",
        "service cache eu exited, put back 2 times 55 min ago i1",
        "route edge eu not looked at yet - -",
    ]
    assert shown([]) == []


def test_of_many_those_that_are_wrong_are_shown() -> None:
    """The others are counted, and there is a way to see them all."""
    rows = [row(f"s{number:02}") for number in range(SHOWN_MAX + 3)] + [row("bad", state="absent")]
    lines = shown(rows)
    assert lines[1].startswith("service bad eu absent")
    assert lines[-1] == "and 4 more components; all of them with: reconciler status production --all"
    assert len(shown(rows, every=True)) == SHOWN_MAX + 5


def test_what_is_wrong_is_told_with_its_reason() -> None:
    """What is stopped on purpose is not; an answer of an older daemon has none of this."""
    rows = [
        row("api"),
        row("off", state="stopped"),
        row("seed", "Job", state="failed", reason="it ended with 3"),
        row("edge", "Route", state="absent"),
    ]
    assert list(troubles({"programs": rows})) == [
        "job 'seed' on 'eu' is failed: it ended with 3",
        "route 'edge' on 'eu' is absent",
    ]
    assert list(troubles({})) == []
    many = [row("api", state="exited")] * (SHOWN_MAX + 2)
    assert list(troubles({"programs": many}))[-1] == "and 2 more components not as they should be"


def test_values_are_shown_on_one_line_and_secrets_are_not() -> None:
    """Texts as they are, other values as JSON, long ones cut."""
    assert shown_value({"sensitive": True, "value": None}) == "(sensitive)"
    assert shown_value({"sensitive": False, "value": "db.example.com"}) == "db.example.com"
    assert shown_value({"sensitive": False, "value": {"a": [1]}}) == '{"a": [1]}'
    assert shown_value({"sensitive": False, "value": "a\nb"}) == r"a\nb"
    assert len(shown_value({"sensitive": False, "value": "x" * 500})) == VALUE_CHARACTERS_MAX


def environment(*conditions: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": "production",
        "source": "shop",
        "suspended": False,
        "error": None,
        "deployments": [],
        "conditions": [{"type": "Ready", "status": False, "reason": each} for each in conditions],
        **changed,
    }


def test_what_is_off_says_so_and_what_to_type() -> None:
    """A stopped environment names the command that starts it, one that left its source what removes it."""
    stopped = environment(stopped=True)
    assert list(causes(stopped)) == [
        "stopped: its services and routes are to be off; a commit starts none of them"
    ]
    assert list(advice(stopped, [])) == ["start it with: reconciler env start production"]
    left = environment("Orphaned", stopped=True)
    assert list(causes(left)) == ["source 'shop' no longer declares it; nothing is done to it"]
    assert list(advice(left, [])) == [
        "see what removing it would do, and remove it, with: reconciler env remove production"
    ]


def test_the_last_run_of_a_job_says_what_it_was_for() -> None:
    """Whether it is done, and how often by its schedule it was not."""
    run = {"began_at": "then", "ended_at": "then", "error": None, "failures": 0, "trigger": "schedule"}
    assert shown_run(run) == "done (schedule)"
    assert shown_run({**run, "ended_at": None}) == "runs (schedule)"
    assert shown_run({**run, "error": "why", "failures": 3}) == "failed (schedule), 3 times in a row"
    assert shown_run({**run, "began_at": None}) == "never ran"
