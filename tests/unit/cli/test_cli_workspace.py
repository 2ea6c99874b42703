"""Modules of a workspace, from its files alone: which, in which order, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.cli.module_workspace import declared_roles
from reconciler.execution.roles import NewRole
from tests.plugins.modules import tables

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}}}
    - {name: us, postgres: {dsn: {env: US}}}
  components:
    - name: db
      kind: Database
      database: shop
      roles: [reader, {name: "${deployment}_admin", login: true, memberOf: [reader], password: {env: X}}]
"""


def work_tree(root: Path, *modules: dict[str, str], **files: str) -> Path:
    (root / ".git").mkdir(parents=True)
    for each in (*modules, files):
        for name, text in each.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


def moved(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {name.replace("modules/", f"{folder}/"): text for name, text in files.items()}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Three modules in two folders that `pgpm.json` knows, and one in a folder that it does not."""
    return work_tree(
        tmp_path / "work",
        moved("packages", tables("lines", project="cart", requires={"lines": "orders:orders"})),
        moved("packages/deep", tables("orders", project="orders", requires={"orders": "base:accounts"})),
        moved("extensions", tables("accounts", project="base")),
        moved("fixtures", tables("x", project="other")),
        **{"pgpm.json": '{"packages": ["packages/*"]}'},
    )


def check(folder: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["module", "check", "--workspace", str(folder), *more])


def checked(folder: Path, *, code: int) -> dict[str, Any]:
    result = check(folder, "--all", "--output", "json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_modules_are_told_in_their_order(workspace: Path) -> None:
    """Those that `pgpm.json` knows, below its globs and its folder of extensions, required ones first."""
    found = checked(workspace, code=0)
    assert [row["path"] for row in found["modules"]] == [
        "extensions/base",
        "packages/deep/orders",
        "packages/cart",
    ]
    assert found["clean"]
    assert check(workspace).stdout.splitlines()[0] == "1. base (extensions/base): 1 change"


def test_without_a_file_all_modules_below_are_meant(workspace: Path) -> None:
    """A folder of the work tree is a workspace too, with the plan files below it."""
    (workspace / "pgpm.json").unlink()
    assert len(checked(workspace, code=0)["modules"]) == 4
    (only,) = checked(workspace / "fixtures", code=0)["modules"]
    assert only["project"] == "other"


def test_roles_that_nobody_declares_are_told(workspace: Path) -> None:
    """Those that a script makes or a spec declares are not; specs elsewhere are not known."""
    script = workspace / "packages/cart/deploy/lines.sql"
    script.write_text(
        "create table lines ();\ncreate role made;\n"
        'do $$ begin create role "Made Too"; end $$;\n'
        'grant select on lines to made, "Made Too", reader, anonymous;\n'
        "alter table lines owner to owner_role;\ngrant helper to anonymous;\ngrant pg_monitor to made;\n"
        "create policy p on lines to public using (true);\n"
    )
    spec = workspace / "environments/production.yaml"
    spec.parent.mkdir()
    spec.write_text(SPEC)
    told = checked(workspace, code=0)["undeclared_roles"]
    assert [row["role"] for row in told] == ["anonymous", "helper", "owner_role"]
    assert {row["file"] for row in told} == {"packages/cart/deploy/lines.sql"}
    assert "role 'anonymous'" in check(workspace).output
    assert "role 'reader'" in check(workspace, "--path", "nowhere").output


def test_what_is_missing_in_a_workspace_is_told(workspace: Path) -> None:
    """A module that requires one from outside is a problem, and so is a file that is not understood."""
    found = checked(workspace / "packages", code=1)
    assert "no module here deploys project 'base'" in json.dumps(found["problems"])
    for text in ("[]", "{", '{"packages": "a"}', '{"packages": [], "extensionsDir": 7}', "[" * 100_000):
        (workspace / "pgpm.json").write_text(text)
        (problem,) = checked(workspace, code=1)["problems"]
        assert problem["file"] == "pgpm.json"
    assert check(workspace).exit_code == 1
    assert check(workspace / "nowhere").exit_code == 1


def test_a_workspace_stands_in_place_of_an_environment(workspace: Path) -> None:
    """One of them is needed, and not both."""
    assert check(workspace, "production").exit_code == 2
    assert CliRunner().invoke(app, ["module", "check"]).exit_code == 2
    both = ["module", "test", str(workspace / "packages"), "--workspace", str(workspace)]
    assert CliRunner().invoke(app, both).exit_code == 2


def test_roles_of_all_specs_are_known_without_secrets() -> None:
    """Every deployment's, groups before members; what is broken elsewhere is not in the way."""
    files = {
        "environments/a.yaml": SPEC.encode(),
        "environments/b.yaml": b"kind: Environment\n",
        "other/c.yaml": SPEC.replace("reader", "writer").encode(),
    }
    assert declared_roles(files, "environments") == [
        NewRole(name="reader"),
        NewRole(name="eu_admin", attributes=("login",), member_of=("reader",)),
        NewRole(name="us_admin", attributes=("login",), member_of=("reader",)),
    ]


def test_roles_that_others_get_in_with_are_known() -> None:
    """Those that a spec names, and those that are made because somebody takes an output."""
    databases = (
        "    - {name: a, kind: Database, database: a, owner: boss}\n"
        "    - {name: b, kind: Database, database: b}\n"
        "    - {name: c, kind: Database, database: c}\n"
    )
    job = (
        "    - name: j\n      kind: Job\n      runtime: {process: {command: [/bin/true]}}\n"
        "      env: {URL: {from: b, output: url}}\n"
    )
    text = (
        "apiVersion: reconciler/v1\nkind: Environment\nmetadata: {name: a}\nspec:\n"
        "  deployments: [{name: eu, postgres: {dsn: {env: EU}}}]\n  components:\n"
    )
    found = declared_roles({"environments/a.yaml": f"{text}{databases}{job}".encode()}, "environments")
    assert [(role.name, role.attributes) for role in found] == [
        (name, ("login",)) for name in ("boss", "a_reader", "b_owner", "b_reader")
    ]
