"""Says what went wrong with an operation, for people at three in the morning: what, where, why, what next."""

from typing import Any

from reconciler.errors import InvalidInput, ReconcilerError, StepFailed, TemporaryError
from reconciler.execution.roles import missing_role_hint
from reconciler.plan.steps import AnyStep


def describe(error: Exception, step: AnyStep | None) -> dict[str, Any]:
    """The error of an operation as it is recorded and shown; `step` is where it happened, if in one."""
    known = isinstance(error, ReconcilerError)
    return {
        "what": f"{step.kind.value} {step.identity}" if step is not None else "planning the operation",
        "where": _where(error, step),
        "why": error.message if isinstance(error, ReconcilerError) else f"internal error: {error!r}",
        "next": _hint(error) or _next(error, known=known),
        "sqlstate": getattr(error, "sqlstate", None),
    }


def _hint(error: Exception) -> str | None:
    if not isinstance(error, ReconcilerError):
        return None
    return error.hint or (missing_role_hint(error) if isinstance(error, StepFailed) else None)


def _where(error: Exception, step: AnyStep | None) -> str | None:
    if isinstance(error, StepFailed) and error.file is not None:
        return f"{error.file}:{error.line}" if error.line is not None else error.file
    if isinstance(error, InvalidInput) and error.problems and error.problems[0].file is not None:
        return error.problems[0].file
    return step.id if step is not None else None


def _next(error: Exception, *, known: bool) -> str:
    if not known:
        return "this is a fault of the program: report it, then retry"
    return (
        "it is tried again by itself" if isinstance(error, TemporaryError) else "push a new commit, or retry"
    )
