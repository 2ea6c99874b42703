"""The gate and the wave of each deployment, from the spec to what it should be."""

import pytest

from reconciler.errors import SpecError
from reconciler.spec.parse import ParsedEnvironment, parse_file
from reconciler.state.desired import DesiredState
from reconciler.state.resolve import resolve

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: production}}
spec:
  deployments:
    - {{name: canary, wave: 1, postgres: {{dsn: {{env: EU}}}}, variables: {{limit: "3"}}}}
    - {{name: eu, postgres: {{dsn: {{env: EU}}}}}}
  variables: {{limit: "5"}}
  rollout:
    waves:
      gate:
        database: {database}
        sql: {sql}
  components:
    - {{name: db, kind: Database, database: "shop_${{deployment}}"}}
"""


def parsed(sql: str, database: str = "db") -> ParsedEnvironment:
    (found,) = parse_file("env.yaml", SPEC.format(sql=sql, database=database).encode())
    return found


def resolved(sql: str, deployment: str) -> DesiredState:
    found = parsed(sql)
    assert found.spec is not None, found.problems
    return resolve(found.spec, deployment, "c" * 40, {})


def test_a_gate_is_asked_of_whom_others_follow() -> None:
    """The last wave is asked nothing; variables are put in, what stands behind the question is left out."""
    state = resolved('"SELECT count(*) < ${limit} FROM jobs; -- few"', "canary")
    assert state.gate is not None
    assert (state.wave, state.gate.wave, state.gate.database) == (1, 1, "shop_canary")
    assert state.gate.sql == "SELECT count(*) < 3 FROM jobs"
    assert state.gate.timeout_s == 30.0
    last = resolved("SELECT true", "eu")
    assert (last.wave, last.gate) == (2, None)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELEC true", "is no SQL: syntax error"),
        ("SELECT true; SELECT true", "must be one statement, and has 2"),
        ("DELETE FROM t RETURNING true", "must be a SELECT, not DELETE"),
        ("-- nothing", "must be one statement, and has 0"),
    ],
    ids=["syntax", "two", "delete", "comment"],
)
def test_what_asks_no_question_is_told_at_its_place(sql: str, expected: str) -> None:
    """In every deployment, and before anything runs."""
    found = parsed(f'"{sql}"')
    assert found.spec is not None
    for deployment in ("canary", "eu"):
        with pytest.raises(SpecError) as broken:
            resolve(found.spec, deployment, "c" * 40, {})
        (problem,) = found.placed(broken.value.problems)
        assert str(problem).startswith(f"env.yaml:13:14: spec.rollout.waves.gate.sql: {expected}")


def test_a_gate_asks_a_database_of_the_environment() -> None:
    """Another name is a problem of the spec."""
    (problem,) = parsed("SELECT true", "bd").problems
    assert "unknown component 'bd'" in str(problem)
    assert "known Database components: db" in str(problem)
