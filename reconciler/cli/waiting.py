"""Follow a rollout until its operations have settled, telling each step as it goes."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.cli.backend import Backend, Json
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, printable, printable_lines, span
from reconciler.frozen import frozen

SETTLED = frozenset(
    {"completed", "failed", "cancelled", "reverted", "superseded", "stopped", "revert_window"}
)
"""States in which an operation stays until somebody or something new acts."""
WAITING = frozenset({"waiting_for_approval", "waiting_for_promotion"})
"""States in which a person is waited for; before a promotion only where policy does not let it go."""
_DONE = frozenset({"completed", "revert_window"})
_ENDS = {
    "promote": ("waiting_for_promotion", _DONE),
    "revert": ("revert_window", frozenset({"reverted"})),
}
"""From which state a verb leads to which ends."""
CODES = {
    "completed": ExitCode.OK,
    "revert_window": ExitCode.OK,
    "failed": ExitCode.FAILED,
    "reverted": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
    "superseded": ExitCode.CANCELLED,
    "stopped": ExitCode.CANCELLED,
    "waiting_for_approval": ExitCode.CANCELLED,
    "waiting_for_promotion": ExitCode.CANCELLED,
    "paused": ExitCode.FAILED,
}


def wait(
    backend: Backend,
    screen: Screen,
    rollout: str,
    *,
    timeout_s: float | None,
    quiet: bool,
    deployment: str | None = None,
) -> Json:
    """Wait until the rollout, or one deployment of it, has settled; gives it as it was last seen.

    Running out of time, or Ctrl-C, ends the waiting and nothing else.
    """
    ends = time.monotonic() + timeout_s if timeout_s is not None else None
    told = _Told(screen, quiet=quiet)
    last: Json = {"id": rollout, "state": "pending", "operations": []}
    seen = backend.watch(rollout)
    try:
        with _busy(screen, quiet=quiet) as show:
            for last in seen:
                told.tell(last)
                show(last)
                if ends is not None and time.monotonic() > ends:
                    break
                # A worker of our own is let come to its end; then there is nothing more to see.
                if settled(part_of(last, deployment)) and not backend.local:
                    break
    except KeyboardInterrupt:
        screen.note(
            "no longer waiting; the rollout goes on" if not backend.local else "stopped at a safe point"
        )
    finally:
        close = getattr(seen, "close", None)
        if close is not None:
            close()
    return last


def part_of(rollout: Json, deployment: str | None) -> Json:
    """A rollout as if it had one deployment only, where one is meant."""
    meant = [one for one in rollout["operations"] if one["deployment"] == deployment]
    return {**rollout, "state": meant[0]["state"], "operations": meant} if meant else rollout


def settled(rollout: Json) -> bool:
    """Nothing more happens by itself: every operation has ended or waits for a person."""
    # Both are looked at: the operations may be read a moment after the rollout that is derived from them.
    if rollout["state"] not in CODES:
        return False
    # Under `pause`, those not yet started stay so until somebody lets the rollout go on.
    return rollout["state"] == "paused" or all(
        operation["state"] in SETTLED
        or (operation["state"] in WAITING and operation.get("waits_for_person", True))
        for operation in rollout["operations"]
    )


def code_of(rollout: Json) -> ExitCode:
    """What came of a rollout as an exit code; one that has not settled was not waited for to its end."""
    if not settled(rollout):
        return ExitCode.CANCELLED
    if rollout["state"] in _DONE and any(map(_left_out, rollout["operations"])):
        return ExitCode.FAILED
    # What is live may still be taken back, what waits may have to for a failure: of each it is known already.
    states = {rollout["state"], *(one["state"] for one in rollout["operations"])}
    return _worst(CODES[state] for state in states if state in CODES)


@frozen
class Meant:
    """What a promotion or a revert was about: `deployments`, and those that had `failed` before.

    `end`: the states in which it is done.
    """

    deployments: frozenset[str]
    failed: frozenset[str]
    end: frozenset[str]


def meant_by(verb: str, before: Json, after: Json) -> Meant | None:
    """What a verb was about, from the rollout right before and right after it; None where that is all."""
    source, end = _ENDS.get(verb, (None, _DONE))
    had = {one["deployment"] for one in before["operations"] if one["state"] == source}
    left = {
        one["deployment"]
        for one in after["operations"]
        if one["state"] == source and not one.get("granted", False)
    }
    failed = {one["deployment"] for one in before["operations"] if one["state"] == "failed"}
    if not had - left:
        return None
    return Meant(deployments=frozenset(had - left), failed=frozenset(failed), end=end)


def came_of(rollout: Json, meant: Meant) -> ExitCode:
    """What came of what a verb was about; of the others only that they failed since counts."""
    if not settled(rollout):
        return ExitCode.CANCELLED
    found = set[ExitCode]()
    for one in rollout["operations"]:
        state = one["state"]
        if one["deployment"] in meant.deployments:
            if state not in meant.end or _left_out(one):
                # A revert that something is in the way of leaves its window open: that is no success of it.
                found.add(CODES.get(state) or ExitCode.FAILED)
        elif state == "failed" and one["deployment"] not in meant.failed:
            found.add(ExitCode.FAILED)
    return _worst(found)


def _worst(found: Iterable[ExitCode]) -> ExitCode:
    codes = set(found)
    return next((code for code in (ExitCode.FAILED, ExitCode.CANCELLED) if code in codes), ExitCode.OK)


def _left_out(operation: Json) -> str | None:
    """What an operation that completed could not do."""
    blocked = operation.get("blocked") or ()
    return f"as far as may be; blocked: {'; '.join(blocked)}" if blocked else None


class _Told:
    """Writes each change of an operation or step once."""

    def __init__(self, screen: Screen, *, quiet: bool) -> None:
        self._screen = screen
        self._quiet = quiet
        self._seen: dict[tuple[str, ...], str] = {}

    def tell(self, rollout: Json) -> None:
        """Write what changed since the last look."""
        for operation in rollout["operations"]:
            over = operation["state"] in SETTLED
            if not over:
                self._operation(operation)
            for step in operation.get("steps", ()):
                if self._is_new((operation["id"], step["id"]), step["state"]):
                    self._step(operation, step)
            if over:
                self._operation(operation)

    def _operation(self, operation: Json) -> None:
        if self._is_new((operation["id"],), f"{operation['state']} {operation['attempts']}"):
            plain = operation["state"] in {"completed", "pending", "running"}
            self._write(
                f"{operation['deployment']}: {operation['state']}",
                _left_out(operation) if plain else operation["reason"],
            )

    def _is_new(self, key: tuple[str, ...], state: str) -> bool:
        before = self._seen.get(key)
        self._seen[key] = state
        return before != state

    def _step(self, operation: Json, step: Json) -> None:
        # Why a step failed or was left out, its operation says.
        if step["state"] not in {"done", "failed"}:
            return
        # Changes of two modules may have one name.
        what = f"{step['kind']} {step['component']}: {step['identity']}"
        name = f"{operation['deployment']}: {step['stage']}: {what}"
        took = f" ({duration(step)})" if duration(step) != "-" else ""
        self._write(f"{name}: {step['state']}{took}", None)
        for line in printable_lines(step.get("said") or "").splitlines():
            self._write(f"  {line}", None)

    def _write(self, text: str, why: str | None) -> None:
        line = printable(text + (f": {why}" if why else ""))
        if self._quiet:
            self._screen.note(line)
        else:
            self._screen.line(line)


def duration(part: Json) -> str:
    """How long a step or an operation took."""
    from reconciler.cli.output import moment

    began, ended = moment(part.get("started_at")), moment(part.get("finished_at"))
    return span((ended - began).total_seconds()) if began is not None and ended is not None else "-"


@contextmanager
def _busy(screen: Screen, *, quiet: bool) -> Iterator[Any]:
    """On a terminal, a bar of the steps done; elsewhere nothing."""
    if quiet or not screen.terminal:
        yield lambda _rollout: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(), transient=True) as progress:
        bar = progress.add_task("rollout", total=None)

        def show(rollout: Json) -> None:
            total, done = (
                sum(operation.get(key) or 0 for operation in rollout["operations"])
                for key in ("steps_total", "steps_done")
            )
            progress.update(bar, total=total or None, completed=done, description=str(rollout["state"]))

        yield show
