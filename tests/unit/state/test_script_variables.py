"""Variables of scripts: where their values come from, and what a desired state holds of them."""

import pytest

from reconciler.errors import SpecError
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import parse_file
from reconciler.state.desired import DesiredModule
from reconciler.state.program import Purpose, compile_script
from reconciler.state.resolve import resolve

PLAN = "%project=shop\n\na 2026-01-01T00:00:00Z Ada <ada@example.org>\n"
DECLARE = "declare it in 'variables' of the component or of the deployment, or with \\set)"
SPEC = """
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  variables: {tier: gold, size: "1"}
  deployments:
    - name: eu
      postgres: {dsn: {env: EU}}
    - name: us
      postgres: {dsn: {env: US}}
      variables: {tier: silver}
  components:
    - {name: db, kind: Database, database: shop}
    - name: shop
      kind: Module
      database: {from: db}
      path: m
      variables: {size: "2", place: "${deployment}-${tier}"}
"""


def spec(text: str = SPEC) -> EnvironmentSpec:
    """Parse a spec without problems."""
    (parsed,) = parse_file("env.yaml", text.encode())
    assert parsed.spec is not None, parsed.problems
    return parsed.spec


def module(deployment: str, script: str, text: str = SPEC, **files: str) -> DesiredModule:
    """Resolve the module with a deploy script; further files by name without their ending."""
    source = {"m/sqitch.plan": PLAN.encode(), "m/deploy/a.sql": script.encode()}
    source |= {f"m/{name}": content.encode() for name, content in files.items()}
    return resolve(spec(text), deployment, "c" * 40, source).modules[0]


def sent(found: DesiredModule) -> list[str]:
    """What the deploy script of the one change sends."""
    program = compile_script(found.changes[0].deploy, purpose=Purpose.DEPLOY)
    return [statement.text for statement in program.statements]


def test_the_nearest_value_wins() -> None:
    """A deployment's goes before the component's, that before the environment's; `${…}` is put in before."""
    script = "SELECT :'tier', :size, :'place', :'environment', :'deployment'"
    assert sent(module("eu", script)) == ["SELECT 'gold', 2, 'eu-gold', 'production', 'eu'"]
    assert sent(module("us", script)) == ["SELECT 'silver', 2, 'us-silver', 'production', 'us'"]


def test_values_of_sqitch_conf_stand_behind_all_of_them() -> None:
    """What the spec leaves open, the module's own configuration may say."""
    conf = "[core.variables]\ntier = bronze\nunit = m\n[deploy.variables]\nunit = km\n"
    found = module("eu", "SELECT :'tier', :'unit'", **{"sqitch.conf": conf})
    assert sent(found) == ["SELECT 'gold', 'km'"]


def test_a_value_is_no_edit_of_the_script() -> None:
    """Both hashes stay as they are when only values differ."""
    eu, us = (module(name, "SELECT :'tier'").changes[0] for name in ("eu", "us"))
    assert (eu.script_hash, eu.parse_hash) == (us.script_hash, us.parse_hash)
    assert eu.parse_hash.startswith("psql1:")


def test_a_missing_value_is_told_with_its_place() -> None:
    """The whole environment is refused before anything runs, with all that is wrong."""
    files = {"verify/a.sql": "SELECT :'nix';"}
    with pytest.raises(SpecError) as caught:
        module("eu", "\nSELECT :teir;", **files)
    assert [str(problem) for problem in caught.value.problems] == [
        "m/deploy/a.sql:2:8: unknown variable 'teir' (did you mean 'tier'?)",
        "m/verify/a.sql:1:8: unknown variable 'nix' (" + DECLARE,
    ]


def test_scripts_outside_of_transactions_are_changes_but_not_in_one_transaction() -> None:
    """A module that is to be deployed in one transaction cannot hold one."""
    script = "CREATE INDEX CONCURRENTLY i ON t (a)"
    assert not module("eu", script).changes[0].transactional
    with pytest.raises(SpecError, match="deploys in one transaction, and this script cannot run in one"):
        module("eu", script, SPEC.replace("path: m", "path: m\n      transaction: module"))


TOGETHER = SPEC.replace("path: m", "path: m\n      transaction: module")


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("\nSET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\nSELECT 1;", "m/deploy/a.sql:2"),
        (
            "BEGIN;\n\nset transaction read write, isolation level repeatable read;\nCOMMIT;",
            "m/deploy/a.sql:3",
        ),
        ("SELECT 1;\nSET LOCAL transaction_isolation = 'serializable';", "m/deploy/a.sql:2"),
        ("SET TRANSACTION SNAPSHOT '1-1';", "m/deploy/a.sql:1"),
        ("\\set x 1\n\\ir ../lib.sql", "m/lib.sql:2"),
    ],
    ids=["level", "mode", "setting", "snapshot", "included"],
)
def test_no_script_sets_the_isolation_of_a_transaction_of_all(script: str, place: str) -> None:
    """It is refused with its place before anything runs; by itself it may."""
    files = {"lib.sql": "SELECT 1;\nSET TRANSACTION ISOLATION LEVEL SERIALIZABLE;"}
    with pytest.raises(SpecError) as caught:
        module("eu", script, TOGETHER, **files)
    (problem,) = caught.value.problems
    assert str(problem).startswith(
        f"{place}: component 'shop' deploys in one transaction, whose isolation level"
    )
    assert "transaction: change" in str(problem.hint)
    assert module("eu", script, **files).changes[0].transactional


@pytest.mark.parametrize(
    "script",
    [
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;",
        "SET TRANSACTION READ WRITE; -- isolation",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE;",
        "SELECT 'isolation level'",
    ],
)
def test_what_leaves_the_transaction_as_it_is_may_stay(script: str) -> None:
    """Only what the server would refuse is."""
    assert module("eu", script, TOGETHER).changes
