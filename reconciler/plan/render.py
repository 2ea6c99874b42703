"""Show a plan to people: as text for a terminal, as Markdown for a pull request. JSON is in `encode`."""

from collections.abc import Iterable, Sequence

from reconciler.diff.model import Action, DivergencePolicy
from reconciler.diff.skipping import REASON as SKIPPED
from reconciler.plan.encode import to_json
from reconciler.plan.model import DeploymentPlan, LeftDeployment, Plan, Scope
from reconciler.plan.objects_text import details, waiting
from reconciler.plan.programs_text import REMOVES, left_out, program_details, puts_back, rest_command
from reconciler.plan.steps import (
    AnyStep,
    DeployChange,
    DiscardObjects,
    DropDatabase,
    RevertChange,
    RollService,
)

__all__ = ["to_json", "to_markdown", "to_text"]

MARKS = {
    Action.ADD: "+",
    Action.CHANGE: "~",
    Action.REMOVE: "-",
    Action.ADDED: "+",
    Action.CHANGED: "~",
    Action.REMOVED: "-",
}
MARKDOWN_ROWS_MAX = 200
"""Rows of one list in Markdown; a comment on a pull request has a limit of its own (65,536 characters)."""


def to_text(plan: Plan) -> str:
    """The plan as plain text; of SQL objects what there is much of is counted."""
    lines = [f"environment {plan.environment} at commit {plan.commit[:12]}{_scope(plan)}: {_verdict(plan)}"]
    for deployment in plan.deployments:
        lines += ["", *_deployment_text(deployment)]
    lines += ["", *(_left_text(row) for row in plan.left)] if plan.left else []
    lines += ["", _rest(plan)] if _leaves_out(plan) else []
    return "\n".join(lines) + "\n"


def to_markdown(plan: Plan) -> str:
    """The plan as Markdown, fit for a comment: long lists are folded and cut, and say so."""
    lines = [
        f"### `{_code(plan.environment)}` at `{plan.commit[:12]}`{_scope(plan)}: {_verdict(plan)}",
        "",
        f"plan digest `{plan.digest}`",
    ]
    for deployment in plan.deployments:
        lines += ["", *_deployment_markdown(deployment)]
    if plan.left:
        rows = [
            f"| {_cell(row.name)} | {'leaves' if row.leaves else 'left'} | {_cell(_where(row))} | "
            f"{_cell(row.detail)} |"
            for row in plan.left
        ]
        table = ["| deployment | | databases | what becomes of it |", "| --- | --- | --- | --- |"]
        lines += ["", *_folded(f"{len(rows)} deployments not in the spec", table, rows)]
    lines += ["", f"{_rest(plan)}"] if _leaves_out(plan) else []
    return "\n".join(lines) + "\n"


def _scope(plan: Plan) -> str:
    return " (provision-only)" if plan.scope is Scope.PROVISION_ONLY else ""


def _leaves_out(plan: Plan) -> bool:
    return any(left_out(deployment) is not None for deployment in plan.deployments)


def _rest(plan: Plan) -> str:
    """What ends a plan of resources alone: how what it leaves out is rolled out."""
    return (
        f"only resources are provisioned; roll out the rest with: `{rest_command(_code(plan.environment))}`"
    )


def _verdict(plan: Plan) -> str:
    if plan.in_sync:
        return "in sync"
    steps = sum(len(deployment.steps) for deployment in plan.deployments)
    parts = [f"{steps} step{'' if steps == 1 else 's'} to run"]
    for count, word in (
        (sum(1 for deployment in plan.deployments if deployment.unavailable is not None), "unreadable"),
        (sum(1 for deployment in plan.deployments if deployment.blocked), "blocked"),
        (sum(1 for deployment in plan.deployments if deployment.refused), "waiting for consent"),
        (sum(1 for deployment in plan.deployments if deployment.held is not None), "held"),
    ):
        if count:
            parts.append(f"{count} deployment{'' if count == 1 else 's'} {word}")
    return ", ".join(parts)


def _left_text(row: LeftDeployment) -> str:
    word = "leaves" if row.leaves else "left"
    mark = "-" if row.prune else " "
    return f"{mark} {word}: {_line(row.name)} ({_line(_where(row))}): {_line(row.detail)}"


def _where(row: LeftDeployment) -> str:
    there = ", ".join(row.databases) or "no database is known"
    return f"{there} on {row.server}" if row.server else there


def _notices(deployment: DeploymentPlan) -> Iterable[tuple[str, str]]:
    if deployment.unavailable is not None:
        yield "unreadable", deployment.unavailable
    if deployment.held is not None:
        yield "held", deployment.held
    for why in deployment.blocked:
        yield "blocked", why
    for why in deployment.refused:
        yield "needs consent", why
    for why in deployment.warnings:
        yield "warning", why
    for component in deployment.skipped:
        yield "skipped", f"{component}: {SKIPPED}"
    left = left_out(deployment)
    if left is not None:
        yield "left out", f"{left}: this plan provisions resources alone"
    for row in deployment.diverged:
        yield (
            "allowed" if row.policy is DivergencePolicy.ALLOW else "diverged",
            f"{row.component}: {row.identity} {row.sort.value} ({row.policy.value}): {row.detail}",
        )


def _deployment_text(deployment: DeploymentPlan) -> list[str]:
    lines = [f"deployment {deployment.name}{_about(deployment)}  {deployment.digest[:19]}"]
    lines += [f"  {word}: {_line(why)}" for word, why in _notices(deployment)]
    for stage in deployment.stages:
        if stage.steps:
            lines.append(f"  stage {stage.name}")
            for step in stage.steps:
                lines.append(f"    {_step_text(step)}")
                rows = _details(step, deployment)
                lines += [f"        {_line(row)}" for row in rows]
    if not deployment.steps and deployment.unavailable is None:
        lines.append(f"  {_no_steps(deployment)}")
    if deployment.drift:
        back = {row.component for row in deployment.drift if puts_back(deployment, row.component)}
        lines.append("  drift (changed by hand)" if back else "  drift (changed by hand; not touched)")
        lines += [
            f"    {MARKS[row.action]} {_line(row.identity)} {row.action.value}: {_line(row.detail)}"
            f"{'; put back' if row.component in back else ''}"
            for row in deployment.drift
        ]
    return lines


def _details(step: AnyStep, deployment: DeploymentPlan) -> Sequence[str]:
    """What is told below a step, a line each."""
    return (*details(step), *waiting(step, deployment), *program_details(step, deployment))


def _about(deployment: DeploymentPlan) -> str:
    if deployment.prune_from is not None:
        return f" (left the spec; as of commit {deployment.prune_from[:12]})"
    return f" (wave {deployment.wave})" if deployment.wave else ""


def _no_steps(deployment: DeploymentPlan) -> str:
    """Why there are no steps: what is blocked is not done."""
    return "nothing can be done: it is blocked" if deployment.blocked else "nothing to do"


def _step_text(step: AnyStep) -> str:
    hazards = "".join(f"  ! {hazard.code.value}: {hazard.message}" for hazard in step.hazards)
    mark = _mark(step)
    return f"{mark} {step.kind.value:<16} {step.component}  {_line(step.identity)}{_late(step)}{hazards}"


def _mark(step: AnyStep) -> str:
    if isinstance(step, (RevertChange, DiscardObjects, DropDatabase, *REMOVES)):
        return MARKS[Action.REMOVE]
    changes = isinstance(step, RollService) and (step.replaces is not None or step.action == "settle")
    return MARKS[Action.CHANGE if changes else Action.ADD]


def _late(step: AnyStep) -> str:
    """What is said of a change that is deployed after changes that follow it in the plan file."""
    return " (late)" if isinstance(step, DeployChange) and step.late else ""


def _deployment_markdown(deployment: DeploymentPlan) -> list[str]:
    steps = [
        f"| {stage.name} | {step.kind.value} | {_cell(step.component)} | "
        f"{_cell(step.identity)}{_late(step)} | "
        f"{', '.join(hazard.code.value for hazard in step.hazards) or '–'} |"  # noqa: RUF001
        for stage in deployment.stages
        for step in stage.steps
    ]
    lines = [f"#### {_cell(deployment.name)}{_about(deployment)}", ""]
    lines += [f"> **{word}**: {_cell(why)}  " for word, why in _notices(deployment)]
    if not steps:
        told = _no_steps(deployment) if deployment.unavailable is None else "nothing is known"
        lines += [f"{told.capitalize()}."]
    else:
        table = ["| stage | step | component | what | hazards |", "| --- | --- | --- | --- | --- |"]
        lines += ["", *_folded(f"{len(steps)} steps", table, steps)]
        for step in deployment.steps:
            lines += _details_markdown(step, _details(step, deployment))
    if deployment.drift:
        rows = [
            f"| {row.action.value} | {_cell(row.identity)} | {_cell(row.detail)} |"
            for row in deployment.drift
        ]
        table = ["| drift | object | what differs |", "| --- | --- | --- |"]
        lines += ["", *_folded(f"{len(rows)} drifted objects", table, rows)]
    return lines


def _details_markdown(step: AnyStep, rows: Sequence[str]) -> list[str]:
    """What is told of a step, folded beneath the table; nothing where that is nothing."""
    if not rows:
        return []
    title = f"{step.kind.value} {_cell(step.component)}: {_cell(step.identity)}"
    items = []
    for row in rows[:MARKDOWN_ROWS_MAX]:
        text = row.lstrip()
        items.append(f"{' ' * (len(row) - len(text))}- {_cell(text)}")
    if len(rows) > MARKDOWN_ROWS_MAX:
        items.append(f"- … and {len(rows) - MARKDOWN_ROWS_MAX} more; `--output text` shows all")
    return ["", f"<details><summary>{title}</summary>", "", *items, "", "</details>"]


def _folded(title: str, head: Sequence[str], rows: Sequence[str]) -> list[str]:
    shown = [*head, *rows[:MARKDOWN_ROWS_MAX]]
    if len(rows) > MARKDOWN_ROWS_MAX:
        shown += ["", f"… and {len(rows) - MARKDOWN_ROWS_MAX} more; `--output text` shows all"]
    if len(rows) <= 20:
        return shown
    return [f"<details><summary>{title}</summary>", "", *shown, "", "</details>"]


def _line(text: str) -> str:
    """One printable line: names may hold newlines, control characters and terminal escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _cell(text: str) -> str:
    """Text inside a Markdown table: nothing in a name may end the cell or become markup."""
    escaped = _line(text)
    for char in "\\`*_[]<>|#":
        escaped = escaped.replace(char, "\\" + char)
    return escaped


def _code(text: str) -> str:
    return _line(text).replace("`", "'")
