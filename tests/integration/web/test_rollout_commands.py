"""Commands about rollouts that ask a daemon: what is asked of it, and what they print."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli import verbs
from reconciler.cli.main import app
from reconciler.errors import DatabaseUnavailable
from reconciler.rollout.outlook import Around, outlook
from reconciler.rollout.states import OperationState
from reconciler.rollout.status import ApprovalStatus, EventRecord, OperationStatus, RequestStatus
from tests.plugins.memory_service import (
    AT,
    MemoryService,
    deployment,
    environment,
    operation,
    rollout,
    serving,
)

DIGEST = "sha256:" + "1" * 64
FOLLOWED = "00000000-0000-4000-8000-000000000007"


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as found:
        yield found


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--server", url])


def placed(name: str, state: str, **more: Any) -> OperationStatus:
    over = state in {"completed", "failed", "superseded"}
    values = {"deployment": name, "id": name, "finished_at": AT if over else None, "steps": ()}
    return operation(state, **{**values, **more})


def many(count: int = 1000) -> tuple[OperationStatus, ...]:
    """All completed but the last two: one failed, one runs."""
    names = [f"t{number:04}" for number in range(count)]
    done = [placed(name, "completed") for name in names[:-2]]
    failed = placed(names[-2], "failed", reason="boom", error={"what": "deploying", "why": "boom"})
    at = AT + timedelta(seconds=1)
    busy = placed(
        names[-1], "running", steps_done=3, steps_total=10, current="deploy-change c", current_since=at
    )
    return (*done, failed, busy)


def seen(*operations: OperationStatus, state: str = "running", **more: Any) -> Any:
    counts: dict[str, int] = {}
    for one in operations:
        counts[one.state.value] = counts.get(one.state.value, 0) + 1
    made = rollout(7, state, operations=operations, counts=counts, order="parallel", max_parallel=2, **more)
    return outlook(made, Around())


@pytest.mark.parametrize(
    "verb", ["stop", "start", "cancel", "release", "promote", "revert", "skip-revert", "retry"]
)
def test_each_verb_is_asked_with_why(url: str, service: MemoryService, verb: str) -> None:
    """Verb, deployment and reason reach the daemon; what came of it is printed."""
    service.history = [rollout(7, "running", operations=(placed("eu", "running"),))]
    result = run(url, verb, FOLLOWED, "--deployment", "eu", "--reason", "incident 7")
    assert result.exit_code == 0, result.output
    asked = next(what for name, what in service.calls if name == "request")
    assert asked == {
        "rollout": FOLLOWED,
        "verb": verb,
        "deployment": "eu",
        "requested_by": "local",
        "reason": "incident 7",
        "digest": None,
    }


def waiting(*names: str) -> Any:
    steps = tuple(
        replace(step, hazards=({"code": "DELETES_DATA", "message": "drops a table"},))
        for step in operation("pending").steps
    )
    found = [placed(name, "waiting_for_approval", steps=steps, plan_digest=DIGEST) for name in names]
    return seen(*found, state="waiting_for_approval", digest=DIGEST)


def test_approve_sends_the_digest(url: str, service: MemoryService) -> None:
    """Off a terminal it takes --digest, or --yes for what waits now, and nothing else."""
    service.history = [waiting("eu")]
    refused = run(url, "approve", FOLLOWED)
    assert refused.exit_code == 2
    assert "request" not in [name for name, _ in service.calls]
    assert run(url, "approve", FOLLOWED, "--digest", "sha256:" + "2" * 64).exit_code == 0
    assert run(url, "approve", FOLLOWED, "--yes").exit_code == 0
    digests = [what["digest"] for name, what in service.calls if name == "request"]
    assert digests == ["sha256:" + "2" * 64, DIGEST]
    assert run(url, "approve", FOLLOWED, "--digest", "nonsense").exit_code == 1
    service.history = [rollout(7, "completed")]
    nothing = run(url, "approve", FOLLOWED, "--yes")
    assert nothing.exit_code == 1
    assert "nothing of it waits for approval" in nothing.stderr


@pytest.mark.parametrize(("typed", "code"), [("yes", 0), ("y", 6), ("", 6)])
def test_approve_shows_and_asks_on_a_terminal(
    url: str, service: MemoryService, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    """It shows steps, hazards and digest, the same plans once, and only `yes` agrees."""
    service.history = [waiting("eu", "us")]
    monkeypatch.setattr(verbs, "_asks", lambda _common: True)
    result = CliRunner().invoke(app, ["approve", FOLLOWED, "--server", url], input=f"{typed}\n")
    assert result.exit_code == code, result.output
    assert "eu, us: 1 step" in result.stdout
    assert "DELETES_DATA: drops a table" in result.stdout
    assert result.stdout.count("change orders") == 1
    asked = [what["digest"] for name, what in service.calls if name == "request"]
    assert len(asked) == (1 if code == 0 else 0)
    assert all(f"digest {digest}" in result.stdout for digest in asked)


def test_status_of_many_deployments_shows_what_needs_a_look(url: str, service: MemoryService) -> None:
    """Failed first, then what runs and how far it is; the others are counted, and --all has them."""
    rows = [deployment(f"t{number:04}", state=OperationState.COMPLETED) for number in range(998)]
    rows += [
        deployment(
            "t0998",
            state=OperationState.RUNNING,
            rollout=FOLLOWED,
            steps_done=3,
            steps_total=10,
            current="deploy-change c",
            current_since=AT,
        ),
        deployment("t0999", state=OperationState.FAILED, held="operation 3 failed: boom"),
    ]
    service.known["production"] = environment(deployments=tuple(rows))
    service.history = [seen(*many())]
    shown = run(url, "status", "production").stdout
    assert "998 completed, 1 failed, 1 running" in shown
    assert shown.index("t0999") < shown.index("t0998")
    assert "running 3/10, rollout" in shown
    assert "and 998 more deployments; all of them with: reconciler status production --all" in shown
    assert len(shown.splitlines()) < 40
    assert "t0500" in run(url, "status", "production", "--all").stdout
    whole = json.loads(run(url, "status", "production", "--output", "json").stdout)
    assert len(whole["deployments"]) == 1000


def test_show_of_many_operations_shows_what_needs_a_look(url: str, service: MemoryService) -> None:
    """What failed and what is under way, one by one; the others as numbers; JSON has all."""
    service.history = [seen(*many())]
    shown = run(url, "show", FOLLOWED).stdout
    assert "states   998 completed, 1 failed, 1 running" in shown
    assert shown.index("t0998: failed") < shown.index("t0999: running, 3 of 10 steps done")
    assert "at deploy-change c since 2026-03-01 12:00:01Z" in shown
    assert f"and 998 more operations; all of them with: reconciler show {FOLLOWED} --all" in shown
    assert len(shown.splitlines()) < 40
    assert len(run(url, "show", FOLLOWED, "--all").stdout.splitlines()) > 1000
    assert len(json.loads(run(url, "show", FOLLOWED, "-o", "json").stdout)["operations"]) == 1000


def test_show_tells_who_asked_and_who_agreed(url: str, service: MemoryService) -> None:
    """Commands with when, who, why and what came of each; approvals with what became of them; the chain."""
    request = RequestStatus(
        id="3",
        rollout=FOLLOWED,
        deployment=None,
        verb="stop",
        state="pending",
        reason=None,
        requested_by="ada",
        created_at=AT,
        resolved_at=None,
        why="incident 7",
    )
    approval = ApprovalStatus(
        operation="1",
        deployment="eu",
        request="2",
        plan_digest=DIGEST,
        approved_by="grace",
        approved_at=AT,
        used_at=None,
        void_at=AT,
        void_reason="the state moved",
    )
    eu = placed("eu", "running")
    service.history = [seen(eu, requests=(request,), approvals=(approval,), replaces=("6",))]
    shown = run(url, "show", FOLLOWED).stdout
    assert "ada" in shown
    assert "waits for the next safe point" in shown
    assert "incident 7" in shown
    assert "counts no more: the state moved" in shown
    assert "followed rollout 6" in shown
    assert "waits for its next safe point, to stop (request 3, ada)" in shown


def test_history_says_why_each_ended(url: str, service: MemoryService) -> None:
    """The reason of the worst operation, what took the rollout's place, and numbers instead of names."""
    service.history = [
        seen(*many()),
        rollout(
            6,
            "superseded",
            operations=(placed("eu", "superseded", reason="a newer commit is there"),),
            replaced_by=("7",),
        ),
    ]
    lines = run(url, "history", "production").stdout.splitlines()
    assert "998 completed, 1 failed, 1 running" in lines[1]
    assert lines[1].endswith("boom")
    assert lines[2].endswith("a newer commit is there (then rollout 7)")


def event(number: int) -> EventRecord:
    return EventRecord(
        id=number,
        at=AT,
        kind="operation.completed",
        environment="production",
        deployment="eu",
        rollout="7",
        operation="1",
        message=f"event number {number}",
        data={},
    )


def test_events_are_followed_without_loss_or_repeat(
    url: str, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that shows up late is told, none twice, and a daemon that is away is waited for."""
    service.happened = [event(1), event(3)]
    told: list[Sequence[int]] = []
    real = service.events

    async def events(*, after: int | None = None, **named: Any) -> tuple[EventRecord, ...]:
        found = await real(after=after, **named)
        told.append([row.id for row in found])
        if len(told) == 2:
            service.happened = [event(1), event(2), event(3)]
            raise DatabaseUnavailable("the control database cannot be reached")
        if len(told) == 4:
            service.happened.append(event(4))
        return found

    def sleep(_seconds: float) -> None:
        if len(told) >= 6:
            raise KeyboardInterrupt

    service.events = events  # type: ignore[method-assign]
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr("reconciler.cli.history.time", clock)
    result = run(url, "events", "production", "--follow")
    assert result.exit_code == 0, result.output
    numbers = [int(line.split("number ")[1].split()[0]) for line in result.stdout.splitlines()]
    assert numbers == [1, 3, 2, 4]
