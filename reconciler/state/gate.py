"""The gate at the end of a wave, as one deployment sees it; it asks nothing."""

from reconciler.catalog import sql_text
from reconciler.errors import Problem, ScriptError, SpecError
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredDatabase, DesiredGate

_PLACE = "spec.rollout.waves.gate.sql"
_HINT = "write it as in SELECT count(*) = 0 FROM shop.failed_jobs"


def desired_gate(
    spec: EnvironmentSpec, database: DesiredDatabase | None, *, wave: int, last: int
) -> DesiredGate | None:
    """The gate of a deployment, where others come after its wave; raises SpecError where it asks no question.

    `spec` is of that deployment, with its variables put in.
    """
    gate = spec.rollout.waves.gate
    if gate is None or database is None:
        return None
    text = _question(gate.sql)
    if wave >= last:
        return None
    return DesiredGate(
        component=database.component,
        database=database.database,
        wave=wave,
        sql=text,
        timeout_s=gate.timeout_s,
    )


def _question(text: str) -> str:
    """The one SELECT that a gate is, without what may stand behind it."""
    try:
        statements = sql_text.split(text)
    except ScriptError as error:
        raise _broken(f"is no SQL: {error.problems[0].message}") from None
    if len(statements) != 1:
        raise _broken(f"must be one statement, and has {len(statements)}")
    if statements[0].node != "SelectStmt":
        raise _broken(f"must be a SELECT, not {statements[0].kind}")
    return statements[0].text


def _broken(message: str) -> SpecError:
    return SpecError([Problem(path=_PLACE, message=message, hint=_HINT)])
