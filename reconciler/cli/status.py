"""`reconciler status`: what is desired, applied, live and drifting, what runs, what holds what."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from reconciler.cli import objects_status, programs_status
from reconciler.cli.backend import Backend, Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode, worst
from reconciler.cli.output import Screen, ago, clock, count, printable, scope_mark, short

RUNNING = frozenset({"pending", "running", "promoting", "reverting", "retrying", "running_degraded"})
PERSON = frozenset({"waiting_for_approval", "waiting_for_promotion", "stopped"})
STYLES = {"in sync": "green", "failing": "red", "held": "red", "stalled": "red", "unreadable": "red"}
ROLLOUTS_SHOWN = 5
LOOKED_INTO_MAX = 3
"""Rollouts that are not over whose operations are looked at one by one."""
DEPLOYMENTS_SHOWN = 50
"""Deployments that are shown; of more, those that need a look, and the others as numbers."""
WAITS_SHOWN = 20
CAUSES_SHOWN = 20
NAMED_MAX = 10
"""Names of one list that are shown."""


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "status")(status)


def status(
    common: Common,
    environment: Annotated[
        str | None, typer.Argument(metavar="ENV", help="One environment; else all.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every deployment, however many; else those that need a look.")
    ] = False,
) -> ExitCode:
    """Show what is desired, applied, live and drifting; exit with 3, 4 or 5 where that is not one thing."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        if environment is None:
            found = backend.environments()
            rollouts: list[Json] = []
        else:
            found = [backend.environment(environment)]
            rollouts = _rollouts_of(backend, environment) if common.output == "text" else []
    now = datetime.now(UTC)
    if common.output == "json":
        common.screen.json({"environments": found} if environment is None else found[0])
    elif environment is None:
        _all(common.screen, found, now)
    else:
        _one(common.screen, found[0], (rollouts, now), every=every)
    return worst(code_of(each) for each in found)


def _rollouts_of(backend: Backend, environment: str) -> list[Json]:
    """The latest rollouts; those that are not over with what each operation waits for."""
    found = backend.rollouts(environment, limit=ROLLOUTS_SHOWN)
    open_ones = [row["id"] for row in found if row["finished_at"] is None][:LOOKED_INTO_MAX]
    return [backend.rollout(row["id"]) if row["id"] in open_ones else row for row in found]


def code_of(environment: Json) -> ExitCode:
    """What the status of an environment says as an exit code."""
    deployments = environment["deployments"]
    if environment["error"] is not None or _is(environment, "Stalled"):
        return ExitCode.FAILED
    if any(row["held"] or row["unavailable"] for row in deployments):
        return ExitCode.FAILED
    commits = {environment["head_commit"], environment["observed_commit"]}
    behind = any(row["pending"] or row.get("left_out") or row["state"] in RUNNING for row in deployments)
    if behind or len(commits) > 1 or environment["observed_commit"] is None:
        return ExitCode.PENDING
    drifted = any(row["drift"] or row.get("verify_failures") for row in deployments)
    return ExitCode.DRIFT if drifted else ExitCode.OK


def word_of(environment: Json) -> str:
    """The state of an environment in a word or two; the worst first."""
    deployments = environment["deployments"]
    running = sum(row["state"] in RUNNING for row in deployments)
    for is_it, word in (
        (_is_left(environment), "not declared"),
        (environment["suspended"], "suspended"),
        (environment.get("stopped", False), "stopped"),
        (environment["error"] is not None, "failing"),
        (any(row["held"] for row in deployments), "held"),
        (any(row["unavailable"] for row in deployments), "unreadable"),
        (running > 0, "rolling out"),
        (any(row["state"] == "waiting_for_approval" for row in deployments), "needs approval"),
        (any(row["state"] == "waiting_for_promotion" for row in deployments), "waits for promotion"),
        (_is(environment, "Stalled"), "stalled"),
        (environment["observed_commit"] is None, "not seen yet"),
        (_is_provisioned(environment), "provisioned"),
        (code_of(environment) is ExitCode.PENDING, "pending"),
        (code_of(environment) is ExitCode.DRIFT, "drifted"),
    ):
        if is_it:
            return word
    return "in sync"


def _is(environment: Json, condition: str) -> bool:
    return any(row["type"] == condition and row["status"] for row in environment["conditions"])


def _is_provisioned(environment: Json) -> bool:
    """Whether all that is left to be done was left to another rollout."""
    return any(row["reason"] == "Provisioned" for row in environment["conditions"])


def _is_left(environment: Json) -> bool:
    """Whether its source no longer declares it."""
    return any(row["reason"] == "Orphaned" for row in environment["conditions"])


def _all(screen: Screen, environments: list[Json], now: datetime) -> None:
    if not environments:
        screen.line("no environments yet")
        screen.note("a daemon that reads a source with environment specs makes them: reconciler run")
        return
    rows = [
        (
            each["name"],
            word_of(each),
            short(each["head_commit"]),
            short(each["applied_commit"]),
            str(sum(row["pending"] for row in each["deployments"])),
            str(sum(row["drift"] for row in each["deployments"])),
            str(len(each["deployments"])),
            ago(each["last_pass_at"], now),
        )
        for each in environments
    ]
    head = ("ENVIRONMENT", "STATE", "DESIRED", "APPLIED", "PENDING", "DRIFT", "DEPLOYMENTS", "LAST PASS")
    screen.table(head, rows)
    for each in environments:
        found = list(causes(each))
        for line in found:
            screen.line(f"{printable(each['name'])}: {line}")
        if found:
            screen.line(f"{printable(each['name'])}: what to do: reconciler status {each['name']}")


def _one(screen: Screen, environment: Json, told: tuple[list[Json], datetime], *, every: bool) -> None:
    rollouts, now = told
    word = word_of(environment)
    where = f"({environment['source']}: {environment['path']})"
    name = screen.styled(printable(environment["name"]), "bold")
    screen.line(f"{name}: {screen.styled(word, STYLES.get(word, 'yellow'))}  {printable(where)}")
    committed = (
        f"committed {ago(environment['head_commit_at'], now)}" if environment["head_commit_at"] else ""
    )
    applied = f"since {clock(environment['applied_at'])}" if environment["applied_at"] else "never"
    screen.line(f"  desired   {short(environment['head_commit']):<12}  {committed}".rstrip())
    if environment.get("attempted_commit"):
        attempted = f"last rollout {ago(environment['attempted_at'], now)}"
        screen.line(f"  attempted {short(environment['attempted_commit']):<12}  {attempted}")
    screen.line(f"  applied   {short(environment['applied_commit']):<12}  {applied}")
    looked = f"last pass {ago(environment['last_pass_at'], now)}"
    screen.line(f"  looked at {short(environment['observed_commit']):<12}  {looked}")
    screen.line()
    _conditions(screen, environment, now)
    _deployments(screen, environment, now, every=every)
    programs_status.table(screen, environment, now, every=every)
    objects_status.refreshes(screen, environment, now, every=every)
    _rollouts(screen, rollouts, now)
    lines = [*causes(environment), *waits(rollouts), *advice(environment, rollouts)]
    if lines:
        screen.line()
    for line in lines:
        screen.line(line)


def _conditions(screen: Screen, environment: Json, now: datetime) -> None:
    rows = [
        (row["type"], "yes" if row["status"] else "no", row["reason"], ago(row["since"], now))
        for row in environment["conditions"]
    ]
    if rows:
        screen.table(("CONDITION", "STATUS", "REASON", "SINCE"), rows, indent="  ")
        screen.line()


def _deployments(screen: Screen, environment: Json, now: datetime, *, every: bool) -> None:
    deployments = environment["deployments"]
    shown = deployments if every or len(deployments) <= DEPLOYMENTS_SHOWN else _worth_a_look(deployments)
    rows = [
        (
            row["name"],
            short(row["applied_commit"]),
            str(row["pending"]),
            str(row["drift"]),
            str(row["diverged"]),
            _doing(row, now),
        )
        for row in shown
    ]
    left = len(deployments) - len(rows)
    if left:
        screen.line("  " + ", ".join(f"{number} {state}" for state, number in _counted(deployments)))
    if rows:
        screen.table(
            ("DEPLOYMENT", "APPLIED", "PENDING", "DRIFT", "DIVERGED", "OPERATION"), rows, indent="  "
        )
    elif not deployments:
        screen.line("  no deployment was looked at yet")
    if left:
        more = f"and {count(left, 'more deployment')}"
        screen.line(f"  {more}; all of them with: reconciler status {printable(environment['name'])} --all")


def _counted(deployments: list[Json]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for row in deployments:
        word = row["state"] or "without an operation"
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items())


def _worth_a_look(deployments: list[Json]) -> list[Json]:
    """What failed or stands in the way, then what runs, then what waits for a person, then what differs."""

    def rank(row: Json) -> int:
        stuck = row["held"] or row["unavailable"] or row.get("blocked") or row["state"] == "failed"
        differs = row["drift"] or row["diverged"] or row.get("verify_failures")
        choices = (
            stuck,
            row["state"] in RUNNING - {"pending"},
            row["state"] in PERSON,
            differs,
            row["pending"],
        )
        return next((place for place, is_it in enumerate(choices) if is_it), len(choices))

    worth = [row for row in deployments if rank(row) < 5]
    return sorted(worth, key=rank)[:DEPLOYMENTS_SHOWN]


def _doing(row: Json, now: datetime) -> str:
    """Its operation, and while that is not over how far it is."""
    if not row["state"]:
        return "-"
    told = str(row["state"])
    if row.get("steps_total") is not None:
        told += f" {row['steps_done']}/{row['steps_total']}, rollout {row['rollout']}"
    if row.get("current"):
        told += f", {row['current']}, begun {ago(row['current_since'], now)}"
    return told


def _rollouts(screen: Screen, rollouts: list[Json], now: datetime) -> None:
    if not rollouts:
        return
    screen.line()
    rows = [
        (
            str(row["id"]),
            short(row["commit"]),
            row["state"],
            ago(row["created_at"], now),
            f"{row['reason']}{scope_mark(row)}",
        )
        for row in rollouts
    ]
    screen.table(("ROLLOUT", "COMMIT", "STATE", "RECORDED", "REASON"), rows, indent="  ")


def causes(environment: Json) -> Iterator[str]:
    """What stands in the way; nothing where all is well."""
    if _is_left(environment):
        yield f"source '{printable(environment['source'])}' no longer declares it; nothing is done to it"
    elif environment.get("stopped"):
        yield "stopped: its services and routes are to be off; a commit starts none of them"
    yield from _left(environment)
    if environment["suspended"]:
        yield f"suspended: {printable(environment['suspended_reason'] or 'no reason given')}"
    if environment["error"] is not None:
        yield from _lines("failing", environment["error"])
    stuck = [
        row for row in environment["deployments"] if row["unavailable"] or row["held"] or row.get("blocked")
    ]
    for row in stuck[:CAUSES_SHOWN]:
        yield from _in_the_way(row)
    if len(stuck) > CAUSES_SHOWN:
        yield f"and {count(len(stuck) - CAUSES_SHOWN, 'more deployment')} with something in the way"
    told = environment["error"] is not None or any(
        row["held"] or row.get("blocked") for row in environment["deployments"]
    )
    if _is(environment, "Stalled") and not told:
        stalled = next(row for row in environment["conditions"] if row["type"] == "Stalled")
        yield from _lines("stalled", stalled["message"])
    yield from _differences(environment["deployments"])
    yield from programs_status.troubles(environment)
    yield from objects_status.troubles(environment)


def _left(environment: Json) -> Iterator[str]:
    """Deployments that the spec named before; their databases are a person's business now."""
    left = environment.get("left") or []
    for row in left[:CAUSES_SHOWN]:
        there = ", ".join(row["databases"]) or "no database is known"
        where = f" on {row['server']}" if row["server"] else ""
        had = row.get("applied_commit")
        since = f" since {clock(row['left_at'])}" + (f", it carried {short(had)}" if had else "")
        why = row.get("why") or "it is not in the spec, and nothing is done to it"
        yield printable(f"left: {row['name']} ({there}{where}){since}: {why}")
    if len(left) > CAUSES_SHOWN:
        yield f"left: {count(len(left) - CAUSES_SHOWN, 'more deployment')}"


def _in_the_way(row: Json) -> Iterator[str]:
    if row["unavailable"]:
        yield from _lines(f"{row['name']} cannot be read", row["unavailable"])
    if row["held"]:
        yield from _lines(f"{row['name']} is held", row["held"])
    if row.get("blocked"):
        yield from _lines(f"{row['name']} is blocked", row["blocked"])


def waits(rollouts: list[Json]) -> Iterator[str]:
    """What operations wait for; the same is told once for all that wait for it."""
    for rollout in rollouts:
        alike: dict[str, list[str]] = {}
        for operation in rollout["operations"]:
            if operation.get("waits_for"):
                alike.setdefault(operation["waits_for"], []).append(operation["deployment"])
        for why, names in list(alike.items())[:WAITS_SHOWN]:
            some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            verb = "waits" if len(names) == 1 else "wait"
            yield from _lines(f"{some} (rollout {rollout['id']}) {verb} for", why, joined=" ")


def _differences(deployments: list[Json]) -> Iterator[str]:
    """What is not as it was applied, and stands in nobody's way."""
    drifted = sum(row["drift"] for row in deployments)
    if drifted:
        yield f"{count(drifted, 'object')} changed by hand"
    failing = sum(row.get("verify_failures") or 0 for row in deployments)
    if failing:
        yield f"{count(failing, 'verify script')} of what is deployed failed"
    if any(row["diverged"] for row in deployments):
        yield "deployed changes differ from the plan file, or something left the spec"
    alike: dict[tuple[str, str], list[str]] = {}
    for row in deployments:
        if row.get("left_out"):
            rest = (short(row["provisioned_commit"]), _some(row["left_out"]))
            alike.setdefault(rest, []).append(row["name"])
    for (commit, left), names in list(alike.items())[:CAUSES_SHOWN]:
        yield printable(f"{_some(names)}: of {commit} only the resources are there; left out: {left}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def advice(environment: Json, rollouts: list[Json]) -> Iterator[str]:
    """What to do next."""
    name, deployments = environment["name"], environment["deployments"]
    yield from _about_off(environment)
    if environment["error"] is not None:
        if environment["error"].startswith(("fetching", "source")):
            yield "the last good commit stays applied; the source is fetched again by itself"
        else:
            yield "fix it in the source and push; check before with: reconciler validate"
    for row in (environment.get("left") or [])[:1]:
        yield f"where it is gone for good: reconciler forget {name} {row['name']}"
    if _is_provisioned(environment):
        yield f"resources are provisioned; roll out the rest with: reconciler apply {name} --full"
    yield from _about_held(name, [row["name"] for row in deployments if row["held"]], rollouts)
    under_way = [each for each in rollouts if each["finished_at"] is None]
    for each in under_way:
        yield from map(printable, each.get("next") or ())
    for each in under_way[:1]:
        yield f"see how far it is with: reconciler show {each['id']}"
    if any(row.get("verify_failures") for row in deployments):
        yield f"see what fails with: reconciler module verify {name}"
    if any(row["drift"] or row["diverged"] for row in deployments):
        yield f"see what differs with: reconciler diff {name}"
    if codes := _refused_hazards(deployments):
        allowed = " ".join(f"--allow-hazard {code}" for code in codes)
        yield f"where that is meant: reconciler apply {name} {allowed}"


def _refused_hazards(deployments: list[Json]) -> list[str]:
    """The hazards that keep deployments from going on until somebody agrees to them."""
    told = " ".join(row.get("blocked") or "" for row in deployments)
    return sorted(set(re.findall(r": hazard ([A-Z_]+): ", told)))


def _about_off(environment: Json) -> Iterator[str]:
    name = environment["name"]
    if environment["suspended"]:
        yield f"go on with: reconciler resume {name}"
    if _is_left(environment):
        yield f"see what removing it would do, and remove it, with: reconciler env remove {name}"
    elif environment.get("stopped"):
        yield f"start it with: reconciler env start {name}"


def _about_held(name: str, held: list[str], rollouts: list[Json]) -> Iterator[str]:
    if not held:
        return
    failed = next((each for each in rollouts if any(_failed_on(each, row) for row in held)), None)
    if failed is None:
        yield f"push a fix, or try the same commit again: reconciler apply {name}"
        return
    yield f"see why with: reconciler show {failed['id']}"
    if failed["finished_at"] is None:
        return
    if any(row.get("by_hand") for row in failed["operations"]):
        yield (
            "then push a fix, ask for it anew by the same command (reconciler module …), "
            f"or apply the whole commit: reconciler apply {name}"
        )
    else:
        yield f"then push a fix, or try the same again: reconciler retry {failed['id']}"


def _failed_on(rollout: Json, deployment: str) -> bool:
    return any(
        operation["deployment"] == deployment
        and operation["state"] in {"failed", "cancelled", "stopped", "reverted"}
        for operation in rollout["operations"]
    )


def _lines(what: str, text: str, *, joined: str = ": ") -> Iterator[str]:
    first, *rest = text.splitlines() or [""]
    yield f"{printable(what)}{joined}{printable(first)}"
    for line in rest:
        yield f"  {printable(line)}"
