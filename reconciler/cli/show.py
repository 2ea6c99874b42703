"""`reconciler show`: one rollout as it stands, what waits for what, what was asked, and what to do next."""

from collections.abc import Iterator
from typing import Annotated

import typer

from reconciler.cli.backend import Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, clock, count, printable, printable_lines


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "show")(show)


def show(
    common: Common,
    rollout: Annotated[str, typer.Argument(metavar="ROLLOUT", help="The rollout; `history` lists them.")],
    every: Annotated[
        bool, typer.Option("--all", help="Every operation, however many; else those that need a look.")
    ] = False,
) -> ExitCode:
    """Show one rollout: operations and steps, what waits for what, what was asked, and what to do next."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        found = backend.rollout(rollout)
    if common.output == "json":
        common.screen.json(found)
    else:
        _show(common.screen, found, every=every)
    return ExitCode.OK


SHOWN_MAX = 20
"""Operations that are shown one by one; of more, only those that need a look, and the others as numbers."""


def _show(screen: Screen, rollout: Json, *, every: bool) -> None:
    title = f"rollout {rollout['id']} of {rollout['environment']} at {rollout['commit']}: "
    screen.line(screen.styled(printable(title), "bold") + printable(rollout["state"]))
    screen.line(f"  recorded {clock(rollout['created_at'])} by {printable(rollout['requested_by'])}")
    screen.line(f"  reason   {printable(rollout['reason'])}")
    screen.line(f"  scope    {rollout['scope']}")
    if rollout["finished_at"]:
        screen.line(f"  finished {clock(rollout['finished_at'])}")
    _about(screen, rollout)
    shown = rollout["operations"] if every else _worth_a_look(rollout["operations"])
    for operation in shown:
        screen.line()
        _operation(screen, operation)
    left = sum((rollout.get("counts") or {}).values()) - len(shown)
    if left > 0:
        screen.line()
        screen.line(
            f"and {count(left, 'more operation')}; all of them with: reconciler show {rollout['id']} --all"
        )
    _commands(screen, rollout)
    if rollout.get("next"):
        screen.line()
    for line in rollout.get("next") or ():
        screen.line(printable(line))


def _about(screen: Screen, rollout: Json) -> None:
    """The policy it was recorded with, its numbers, and the rollouts before and after it in its place."""
    if rollout.get("order"):
        released = ", released" if rollout["released"] else ""
        policy = f"{rollout['order']}, {rollout['max_parallel']} at once, onFailure {rollout['on_failure']}"
        if rollout.get("promotion") == "manual":
            policy += ", promotion manual"
        screen.line(f"  policy   {printable(policy)}{released}")
    waves = sorted({one.get("wave", 0) for one in rollout["operations"]})
    if len(waves) > 1:
        pause = rollout.get("wave_pause_s")
        between = f", {pause:g} s between them" if pause else ""
        screen.line(f"  waves    {', '.join(map(str, waves))}{between}")
    counts = rollout.get("counts") or {}
    if len(counts) > 1 or len(rollout["operations"]) > 1:
        screen.line(
            "  states   " + ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
        )
    for word, key in (("followed", "replaces"), ("then", "replaced_by")):
        for number in rollout.get(key) or ():
            screen.line(f"  {word:<8} rollout {number}")
    if rollout.get("digest"):
        screen.line(f"  digest   {rollout['digest']} (of the plans that wait for approval)")


def _worth_a_look(operations: list[Json]) -> list[Json]:
    """All, where they are few; else what failed, then what is under way, then what waits for a person."""
    if len(operations) <= SHOWN_MAX:
        return operations
    ranks = {state: rank for rank, state in enumerate(("failed", "running", "retrying", "reverting"))}
    calm = {"completed", "pending", "cancelled", "superseded"}
    worth = [one for one in operations if one["state"] not in calm]
    return sorted(worth, key=lambda one: ranks.get(one["state"], len(ranks)))[:SHOWN_MAX]


def _commands(screen: Screen, rollout: Json) -> None:
    """What was asked of it, the newest first, and who agreed to what."""
    rows = [
        (
            str(one["id"]),
            clock(one["created_at"]),
            one["verb"],
            one["deployment"] or "all",
            one["requested_by"],
            one["state"],
            (one["reason"] or "waits for the next safe point").splitlines()[0],
            one.get("why") or "-",
        )
        for one in rollout.get("requests") or ()
    ]
    if rows:
        screen.line()
        screen.table(("REQUEST", "AT", "VERB", "DEPLOYMENT", "BY", "STATE", "WHAT CAME OF IT", "WHY"), rows)
    approvals = [
        (
            one["deployment"],
            clock(one["approved_at"]),
            one["approved_by"],
            one["plan_digest"],
            _standing(one),
        )
        for one in rollout.get("approvals") or ()
    ]
    if approvals:
        screen.line()
        screen.table(("APPROVED", "AT", "BY", "PLAN", "WHAT CAME OF IT"), approvals)


def _standing(approval: Json) -> str:
    if approval["void_at"]:
        return f"counts no more: {approval['void_reason']}"
    return f"carried out from {clock(approval['used_at'])}" if approval["used_at"] else "stands"


def _operation(screen: Screen, operation: Json) -> None:
    attempts = f", attempt {operation['attempts']}" if operation["attempts"] > 1 else ""
    wave = f" (wave {operation['wave']})" if operation.get("wave") else ""
    told = f"{operation['deployment']}{wave}: {operation['state']}{attempts}{progress(operation)}"
    screen.line(printable(told))
    if operation.get("waits_for"):
        screen.line(printable(f"  waits for {operation['waits_for']}"))
    for line in _kept(operation):
        screen.line(printable(line))
    if operation.get("superseded_by"):
        screen.line(f"  then rollout {operation['superseded_by']} took its place")
    error = operation["error"] or {}
    if operation["reason"] and operation["reason"] != error.get("why"):
        _block(screen, "reason", operation["reason"])
    if operation["next_attempt_at"]:
        screen.line(f"  next attempt {clock(operation['next_attempt_at'])}")
    for part in ("what", "where", "why", "sqlstate", "next"):
        if error.get(part):
            _block(screen, part, str(error[part]))
    _steps(screen, operation)


def _kept(operation: Json) -> Iterator[str]:
    """What of it waits to go live, and until when what is live may be taken back."""
    parked = operation.get("parked")
    if parked:
        granted = ", let go" if operation.get("granted") else ""
        since = clock(parked["since"])
        yield f"  staged {parked['component']} ({parked['generation']}), since {since}{granted}"
    if operation.get("revert_until"):
        yield f"  live since {clock(operation['promoted_at'])}, kept to go back until " + clock(
            operation["revert_until"]
        )


def _steps(screen: Screen, operation: Json) -> None:
    from reconciler.cli.waiting import duration

    rows = [
        (step["stage"], step["kind"], step["component"], step["identity"], step["state"], duration(step))
        for step in operation["steps"]
    ]
    if rows:
        screen.table(("STAGE", "STEP", "COMPONENT", "WHAT", "STATE", "TOOK"), rows, indent="  ")
    for step in operation["steps"]:
        if step.get("said"):
            _block(screen, f"{step['identity']} said", step["said"])
        if step["reason"] and not _is_told(step["reason"], operation):
            _block(screen, f"{step['identity']}: {step['state']}", step["reason"])


def progress(operation: Json) -> str:
    """How far an operation is that is not over, and what it is at since when."""
    if operation.get("finished_at") or not operation.get("steps_total"):
        return ""
    told = f", {operation['steps_done']} of {count(operation['steps_total'], 'step')} done"
    if operation.get("current"):
        told += f", at {operation['current']} since {clock(operation['current_since'])}"
    return told


def _is_told(reason: str, operation: Json) -> bool:
    """Whether the operation itself gives the reason of a step already."""
    error = operation["error"] or {}
    return any(told and reason.startswith(told) for told in (operation["reason"], error.get("why")))


def _block(screen: Screen, name: str, text: str) -> None:
    """A name and a text that may have several lines, such as a server's message: all of it."""
    first, *rest = printable_lines(text).splitlines() or [""]
    screen.line(f"  {printable(name)}: {first}")
    for line in rest:
        screen.line(f"    {line}")
