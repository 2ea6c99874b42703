"""`reconciler stop`, `start`, `cancel`, `release`, `retry`, `approve`, and the verbs of promotions."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from reconciler.cli.backend import Backend, Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, count, printable
from reconciler.frozen import frozen

PASS_WITHIN_S = 60.0
"""How long the pass after a retry is waited for."""
LOOK_EVERY_S = 0.2
WORKED_OFF = frozenset({"start", "release", "approve", "promote", "revert"})
"""Verbs after which a rollout goes on; without a daemon this process is its worker."""

Rollout = Annotated[str, typer.Argument(metavar="ROLLOUT", help="The rollout; `history` lists them.")]
Deployment = Annotated[str | None, typer.Option(help="Only this deployment.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is carried out, and what follows settled.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="SECONDS", help="Wait no longer than this; implies --wait."),
]


@frozen
class Asked:
    """One verb as it was typed."""

    rollout: str
    verb: str
    deployment: str | None
    reason: str
    wait: bool
    timeout: float | None

    @property
    def waits(self) -> bool:
        """Whether its end is waited for."""
        return self.wait or self.timeout is not None


_MEANINGS = {
    "stop": "Halt a rollout at the next safe point; it keeps its place, and goes on with `start`.",
    "start": "Let a stopped rollout go on.",
    "cancel": "Give a rollout up at the next safe point, for good; what is applied stays.",
    "release": "Let a rollout that paused after a failure start what is left of it.",
    "promote": "Let what is staged and ready go live; under `barrier`, the one whose turn it is.",
    "revert": "Go back to what was before a promotion, while it is kept.",
    "skip-revert": "Keep what was promoted, and stop keeping what was before.",
}


def add(app: typer.Typer) -> None:
    """Add the commands."""
    for verb, meaning in _MEANINGS.items():
        register(app, verb)(_command(verb, meaning))
    register(app, "retry")(retry)
    register(app, "approve")(approve)


def _command(verb: str, meaning: str) -> Callable[..., ExitCode]:
    def command(
        common: Common,
        rollout: Rollout,
        deployment: Deployment = None,
        reason: Reason = "",
        wait: Wait = False,
        timeout: Timeout = None,
    ) -> ExitCode:
        return _ask(common, _asked((rollout, verb), deployment, reason, wait=wait, timeout=timeout))

    command.__doc__ = meaning
    command.__name__ = verb.replace("-", "_")
    return command


def retry(
    common: Common,
    rollout: Rollout,
    deployment: Deployment = None,
    reason: Reason = "",
    wait: Wait = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Try a failed rollout again, from the step it failed at."""
    from reconciler.cli.client import connect

    asked = _asked((rollout, "retry"), deployment, reason, wait=wait, timeout=timeout)
    with connect(common, needs_control=True) as backend:
        before = backend.rollout(rollout)
        known = _newest(backend, str(before["environment"]))
        answer = backend.request(rollout, "retry", deployment=deployment, reason=reason)
        if answer["state"] == "failed" or not (asked.waits or backend.local):
            return _told(common, answer)
        again: Json | None = before
        if _is_over(before, deployment):
            # What has ended stays as it ended; trying again is a rollout of its own.
            again = _next_rollout(backend, (before, known), deployment, timeout_s=timeout)
        if again is None:
            return _told(common, answer)
        return _seen_through(common, backend, again, asked)


def _is_over(rollout: Json, deployment: str | None) -> bool:
    """Whether nothing of it waits for its next attempt, so that only a new rollout tries again."""
    return not any(
        one["state"] == "retrying" and deployment in (None, one["deployment"])
        for one in rollout["operations"]
    )


def _newest(backend: Backend, environment: str) -> Json | None:
    found = backend.rollouts(environment, limit=1)
    return found[0] if found else None


def _next_rollout(
    backend: Backend,
    what: tuple[Json, Json | None],
    deployment: str | None,
    *,
    timeout_s: float | None,
) -> Json | None:
    """The rollout that tries again: the daemon's next pass records it; without a daemon we do."""
    before, known = what
    environment = str(before["environment"])
    if backend.local:
        if backend.environment(environment)["mode"] == "approve":
            # Somebody has to agree to what a pass plans; what is applied by hand is not asked for.
            return None
        return backend.apply(
            environment,
            ref=before["commit"],
            deployment=deployment,
            scope=before["scope"],
            reason=f"retry of rollout {before['id']}",
            allow_hazards=[],
        )
    ends = time.monotonic() + min(timeout_s if timeout_s is not None else PASS_WITHIN_S, PASS_WITHIN_S)
    while time.monotonic() < ends:
        newest = _newest(backend, environment)
        if newest is not None and (known is None or newest["id"] != known["id"]):
            return newest
        time.sleep(LOOK_EVERY_S)
    return None


def approve(
    common: Common,
    rollout: Rollout,
    deployment: Deployment = None,
    digest: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Agree to this plan, and to no other.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Agree to what waits now, without being asked.")
    ] = False,
    reason: Reason = "",
    wait: Wait = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Agree to the plans of a rollout that waits for that, hazards included; nothing else is carried out."""
    from reconciler.cli.client import connect

    asked = _asked((rollout, "approve"), deployment, reason, wait=wait, timeout=timeout)
    if digest is None and not yes and not _asks(common):
        raise typer.BadParameter("off a terminal, name the plan: --digest, or --yes", param_hint="--digest")
    with connect(common, needs_control=True) as backend:
        if digest is None:
            waiting = _waiting(backend.rollout(rollout), deployment)
            digest = _digest(waiting)
            if digest is not None and not yes:
                show_waiting(common.screen, waiting)
                common.screen.line(f"digest {digest}")
                if not _agreed():
                    common.screen.line("nothing was approved")
                    return ExitCode.CANCELLED
        if digest is None:
            return _nothing_waits(common, rollout)
        return _carried_out(common, backend, asked, digest=digest)


def _asks(common: Common) -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and common.screen.terminal and common.output != "json"


def _waiting(rollout: Json, deployment: str | None) -> list[Json]:
    return [
        one
        for one in rollout["operations"]
        if one["state"] == "waiting_for_approval" and deployment in (None, one["deployment"])
    ]


def _digest(waiting: list[Json]) -> str | None:
    from reconciler.rollout.verbs import approval_digest

    return approval_digest((one["deployment"], one["plan_digest"]) for one in waiting)


def _agreed() -> bool:
    try:
        return input('agree to exactly this? type "yes": ').strip() == "yes"
    except (EOFError, KeyboardInterrupt):
        return False


def _nothing_waits(common: Common, rollout: str) -> ExitCode:
    common.screen.error("nothing of it waits for approval", hint=f"how it stands: reconciler show {rollout}")
    return ExitCode.ERROR


def show_waiting(screen: Screen, operations: list[Json]) -> None:
    """Write the plans that wait, each once: many deployments often have the same."""
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for one in operations:
        alike.setdefault(tuple(_row(step) for step in one["steps"]), []).append(one["deployment"])
    for rows, names in alike.items():
        some = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        screen.line(printable(f"{some}: {count(len(rows), 'step')}"))
        if rows:
            screen.table(("STAGE", "STEP", "COMPONENT", "WHAT", "HAZARDS"), rows, indent="  ")


def _row(step: Json) -> tuple[str, ...]:
    hazards = "; ".join(f"{hazard['code']}: {hazard['message']}" for hazard in step.get("hazards") or ())
    return (step["stage"], step["kind"], step["component"], step["identity"], hazards or "-")


def _asked(
    what: tuple[str, str], deployment: str | None, reason: str, *, wait: bool, timeout: float | None
) -> Asked:
    from reconciler.cli.apply import REASON_CHARACTERS_MAX

    if len(reason) > REASON_CHARACTERS_MAX:
        raise typer.BadParameter(
            f"a reason has {REASON_CHARACTERS_MAX} characters at most", param_hint="--reason"
        )
    rollout, verb = what
    return Asked(rollout=rollout, verb=verb, deployment=deployment, reason=reason, wait=wait, timeout=timeout)


def _ask(common: Common, asked: Asked) -> ExitCode:
    from reconciler.cli.client import connect

    with connect(common, needs_control=True) as backend:
        return _carried_out(common, backend, asked)


def _carried_out(common: Common, backend: Backend, asked: Asked, *, digest: str | None = None) -> ExitCode:
    """Ask, and see it through where that is wanted, or where nobody but this process does it."""
    before = backend.rollout(asked.rollout)
    answer = backend.request(
        asked.rollout, asked.verb, deployment=asked.deployment, reason=asked.reason, digest=digest
    )
    if answer["state"] == "failed":
        return _told(common, answer)
    if answer["state"] == "completed" and asked.verb in WORKED_OFF and (asked.waits or backend.local):
        if common.output != "json":
            _told(common, answer)
        return _seen_through(common, backend, before, asked)
    # Working on a rollout of which one deployment is to be halted would start its others.
    ours = backend.local and asked.deployment is None
    if answer["state"] == "pending" and (asked.waits or ours):
        answer = _resolved(backend, asked, answer, work=ours)
    return _told(common, answer, local=backend.local)


def _seen_through(common: Common, backend: Backend, before: Json, asked: Asked) -> ExitCode:
    """Wait for what was asked; who asked for a promotion or a revert, and got it, is told of success."""
    from reconciler.cli import waiting
    from reconciler.cli.apply import seen_through

    after = backend.rollout(str(before["id"]))
    meant = waiting.meant_by(asked.verb, before, after)
    judge = partial(waiting.came_of, meant=meant) if meant is not None else None
    return seen_through(
        common, backend, after, timeout_s=asked.timeout, deployment=asked.deployment, judge=judge
    )


def _resolved(backend: Backend, asked: Asked, answer: Json, *, work: bool) -> Json:
    """The request once it is carried out, or as it stands when the time is up."""
    ends = time.monotonic() + asked.timeout if asked.timeout is not None else None
    seen = backend.watch(asked.rollout) if work else None
    try:
        while True:
            rollout = next(seen, None) if seen is not None else backend.rollout(asked.rollout)
            last = rollout is None
            rollout = rollout if rollout is not None else backend.rollout(asked.rollout)
            found = next((one for one in rollout["requests"] if one["id"] == answer["id"]), answer)
            late = ends is not None and time.monotonic() > ends
            if found["state"] != "pending" or last or late:
                return found
            if seen is None:
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return answer
    finally:
        close = getattr(seen, "close", None)
        if close is not None:
            close()


def _told(common: Common, asked: Json, *, local: bool = False) -> ExitCode:
    """Say what came of a request; `local`: no daemon answers, and maybe none is there to carry it out."""
    verb, state = asked["verb"], asked["state"]
    when = (
        "no daemon answers here, so it takes effect when a worker looks: a daemon that starts, or "
        f"reconciler {verb} {asked['rollout']} for all of the rollout"
        if local
        else "it is carried out at the next safe point"
    )
    if common.output == "json":
        common.screen.json(asked)
    elif state == "failed":
        told = printable(asked["reason"])
        common.screen.error(told if told.startswith(f'"{verb}"') else f"{verb}: {told}")
    elif state == "completed":
        common.screen.line(printable(asked["reason"] or f"{verb}: done"))
    elif asked.get("already"):
        by = f"{asked['requested_by']} (request {asked['id']})"
        common.screen.line(printable(f"{verb}: asked already by {by}; {when}"))
    else:
        common.screen.line(f"{verb}: recorded (request {asked['id']}); {when}")
    return ExitCode.ERROR if state == "failed" else ExitCode.OK
