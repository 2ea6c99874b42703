"""What people are shown of the steps of SQL objects, a line each; what there is much of is counted."""

from collections.abc import Iterable, Sequence

from reconciler.catalog.identifier import quote_identifier
from reconciler.objects.generation import SchemaAction
from reconciler.objects.model import ObjectSort
from reconciler.plan.model import DeploymentPlan
from reconciler.plan.steps import (
    AlterObjects,
    AnyStep,
    DiscardObjects,
    PromoteObjects,
    ReadyObjects,
    RunDeferred,
    StageObjects,
)

OBJECTS_MAX = 40
"""Objects of one schema, and names of one list, that are shown."""
_BECOMES = {
    SchemaAction.SWAP: "exchanged for",
    SchemaAction.ADD: "made as",
    SchemaAction.IN_PLACE: "changed in place, tried in",
    SchemaAction.RETIRE: "retired",
}
_INDENT = "  "


def details(step: AnyStep) -> Sequence[str]:
    """Say what a step does, in lines that are indented by what they belong to; nothing for other steps."""
    match step:
        case DiscardObjects():
            return ("drop what was staged of it: its turn never came",)
        case StageObjects():
            return tuple(_staged(step))
        case ReadyObjects():
            return tuple(_readied(step))
        case PromoteObjects():
            return tuple(_promoted(step))
        case AlterObjects():
            return tuple(_some(step.objects))
        case RunDeferred():
            place = "outside of the database, until it is answered" if step.outside else "with its record"
            return (f"once behind the switch to generation {step.generation}, {place}",)
        case _:
            return ()


def waiting(step: AnyStep, plan: DeploymentPlan) -> Sequence[str]:
    """Say what goes live with a promotion whose generation was staged before, and why it was built."""
    if not isinstance(step, PromoteObjects) or any(
        isinstance(other, StageObjects) and other.component == step.component for other in plan.steps
    ):
        return ()
    rows = [
        f"{row.identity}: {row.reason}"
        for row in plan.pending
        if row.component == step.component and not row.identity.startswith("generation ")
    ]
    return ("staged before:", *_some(rows)) if rows else ()


def span(seconds: float) -> str:
    """Write a duration as specs have it: `1h`, `90m`, `45s`."""
    whole = int(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def _staged(step: StageObjects) -> Iterable[str]:
    left = list(step.objects)
    for schema, action, staging in step.schemas:
        quoted = quote_identifier(schema)
        own = [row for row in left if _name(row[0]).startswith(f"{quoted}.")]
        beside = f" {quote_identifier(staging)}" if staging else ""
        count = f", {len(own)} object{'' if len(own) == 1 else 's'}" if own else ""
        yield f"schema {quoted}: {_BECOMES[SchemaAction(action)]}{beside}{count}"
        yield from _some([f"{what} {identity} because {why}" for identity, what, why in map(_split, own)])
    if step.waves > 1:
        yield f"in {step.waves} waves, those of one side by side"


def _split(row: tuple[str, str]) -> tuple[str, str, str]:
    what, _, why = row[1].partition(" because ")
    return row[0], what, why


def _name(identity: str) -> str:
    for sort in ObjectSort:
        if identity.startswith(f"{sort.value} "):
            return identity.removeprefix(f"{sort.value} ")
    return identity


def _some(rows: Sequence[str]) -> Iterable[str]:
    for row in rows[:OBJECTS_MAX]:
        yield f"{_INDENT}{row}"
    if len(rows) > OBJECTS_MAX:
        yield f"{_INDENT}… and {len(rows) - OBJECTS_MAX} more"


def _readied(step: ReadyObjects) -> Iterable[str]:
    if step.views:
        yield f"fill {len(step.views)} materialized view{'' if len(step.views) == 1 else 's'}:"
        yield from _some(step.views)
    checks = [f"{step.tests} unit test{'' if step.tests == 1 else 's'}"] if step.tests else []
    checks += [f"assertion {name}" for name in step.assertions]
    if checks:
        yield "check:"
        yield from _some(checks)
    yield f"within {span(step.within_s)}, or nothing goes live"


def _promoted(step: PromoteObjects) -> Iterable[str]:
    names = [quote_identifier(name) for name in step.schemas]
    more = f" and {len(names) - OBJECTS_MAX} more" if len(names) > OBJECTS_MAX else ""
    yield f"in one transaction: {', '.join(names[:OBJECTS_MAX])}{more}"
    if step.retain_s:
        yield f"what they displace is kept for {span(step.retain_s)}, to be reverted to"
    else:
        yield "what they displace is not kept: it cannot be reverted"
    yield (
        f"dependents outside: {step.dependents}; grants made by hand: {step.hand_made}; "
        f"objects altered by hand: {step.altered}"
    )
