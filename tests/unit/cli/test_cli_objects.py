"""`reconciler objects`, as far as it goes without a server: what is chosen, lineage, what would follow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: NAME}
spec:
  variables: {tier: gold}
  deployments:
    - {name: eu, postgres: {dsn: {env: NOBODYS_DSN}}}
    - {name: us, postgres: {dsn: {env: NOBODYS_DSN}}, variables: {tier: silver}}
  components:
    - {name: db, kind: Database, database: shop}
    - {name: broken, kind: Module, database: {from: db}, path: modules/nowhere}
    - {name: reports, kind: Objects, database: {from: db}, path: objects/reports, externals: [public.orders]}
"""
FILES = {
    "environments/production.yaml": SPEC.replace("NAME", "production"),
    "environments/staging.yaml": SPEC.replace("NAME", "staging"),
    "objects/reports/core/open.sql": "CREATE VIEW open AS SELECT *, :'tier' AS tier FROM orders",
    "objects/reports/ops/late.sql": "CREATE VIEW late AS SELECT * FROM core.open",
    "objects/reports/ops/side.sql": "CREATE VIEW side AS SELECT 1 AS one",
    "objects/other/top/late.sql": "CREATE VIEW late AS SELECT 1 AS one",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["objects", *arguments])


@pytest.mark.usefixtures("tree")
def test_lineage_goes_both_ways() -> None:
    """What an object reads and what reads it, from files alone; a module that is broken is not asked."""
    result = run("explain", "core.open")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "view core.open",
        "  objects/reports/core/open.sql",
        "",
        "reads",
        "  external public.orders",
        "",
        "read by",
        "  view ops.late",
    ]
    found = json.loads(run("explain", "late", "--output", "json").stdout)
    assert (found["environment"], found["deployment"], found["component"]) == ("production", "eu", "reports")
    assert [row["object"] for row in found["upstream"]] == ["core.open", "public.orders"]
    assert (found["rebuilt"], found["compared"]) == (None, False)


@pytest.mark.usefixtures("tree")
def test_what_follows_from_a_change_is_told_without_a_database() -> None:
    """Objects that are said to have changed, and schemas that are said to be built anew."""
    result = run("explain", "side", "--changed", "core.open")
    assert [line.strip() for line in result.stdout.splitlines()[-4:]] == [
        "rebuilt (build)",
        "ops.side because it shares schema ops with ops.late, which is rebuilt",
        "ops.late because core.open, which it reads, is rebuilt",
        "core.open because its definition changed",
    ]
    found = json.loads(run("explain", "late", "--redeploy-schema", "ops", "--output", "json").stdout)
    assert found["rebuilt"]["because"] == "--redeploy-schema named ops"
    assert run("explain", "core.open", "--redeploy-schema", "ops").stdout.endswith("not rebuilt\n")
    unknown = run("explain", "late", "--redeploy-schema", "opps")
    assert unknown.exit_code == 1
    assert "did you mean 'ops'?" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("explain nothing", 1, "no object 'nothing' in the project"),
        ("explain late --environment test", 1, "no environment 'test' in 'environments/'"),
        ("explain late --environment staging --deployment asia", 1, "has no deployment 'asia'"),
        ("explain late --component other", 1, "no environment has component 'other' of SQL objects"),
        ("explain late --path specs", 1, "no environment has SQL objects"),
        ("explain late --live", 1, "environment variable 'NOBODYS_DSN' is not set"),
        ("explain late --folder nowhere", 1, "there is no 'nowhere'"),
        ("explain late --folder objects/reports --set tier=x", 1, "undeclared external 'orders'"),
        ("explain late --external public.orders", 2, "the spec says that"),
        ("explain late --folder objects/other --component reports", 2, "either a folder or what a spec says"),
        ("explain late --live --changed core.open", 2, "needs a spec"),
        ("test ops.lat", 1, "no unit test matches 'ops.lat'"),
        ("test --folder objects/other --live", 2, "needs a spec"),
        ("test --dsn-env NOBODYS_DSN", 1, "environment variable 'NOBODYS_DSN' is not set"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_what_cannot_be_done_is_told(arguments: str, code: int, told: str) -> None:
    """Each mistake has its own words and its code."""
    result = run(*arguments.split())
    assert result.exit_code == code, result.output
    assert told in result.output


@pytest.mark.usefixtures("tree")
def test_a_folder_needs_no_spec() -> None:
    """Its externals and variables are options then; from within it, it is the folder itself."""
    given = ("--folder", "objects/reports", "--external", "public.orders", "--set", "tier=x")
    found = json.loads(run("explain", "open", *given, "--output", "json").stdout)
    assert (found["path"], found["component"]) == ("reports/core/open.sql", None)
    assert run("explain", "late", "--folder", "objects/other").exit_code == 0


def test_an_object_of_two_components_has_to_be_told_apart(tree: Path) -> None:
    """One is named with --component; the same folder in two environments is one."""
    spec = tree / "environments/production.yaml"
    more = "    - {name: more, kind: Objects, database: {from: db}, path: objects/other}\n"
    spec.write_text(spec.read_text() + more)
    result = run("explain", "late")
    assert result.exit_code == 1
    assert "several components have 'late': production/eu/reports, production/eu/more" in result.output
    assert run("explain", "late", "--component", "more").stdout.startswith("view top.late\n")


def test_without_unit_tests_there_is_nothing_to_run(tree: Path) -> None:
    """That is no failure, and it is said; no server is started for it."""
    result = run("test", "--junit", str(tree / "results.xml"))
    assert (result.exit_code, result.stderr) == (0, "there are no unit tests\n")
    assert "testsuites" in (tree / "results.xml").read_text()
