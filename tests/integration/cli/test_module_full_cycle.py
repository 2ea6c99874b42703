"""`reconciler module test`: modules of a work tree, tried on a real server in databases that go away."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.execution.scratch import PREFIX
from tests.plugins.daemon import until
from tests.plugins.modules import tables
from tests.plugins.postgres import OwnServer, Server, free_port

Files = Mapping[str, str]

SPEC_WITH_ROLES = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}}}
  components:
    - name: db
      kind: Database
      database: shop
      roles:
        - {name: "${deployment}_admin", login: true, memberOf: [all_users], password: {env: X}}
        - all_users
"""


class Workspace:
    """A folder of modules, and a server to try them on."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root = root
        self.server = server
        (root / ".git").mkdir(parents=True)

    def write(self, *modules: Files) -> None:
        for files in modules:
            for name, text in files.items():
                path = self.root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            app,
            ["module", "test", *arguments, "--dsn-env", "TEST_DSN", str(self.root / "modules")],
            env={"TEST_DSN": self.server.text()},
        )

    def tried(self, *arguments: str, code: int) -> dict[str, dict[str, Any]]:
        """Run a full cycle and give what came of it by project."""
        result = self.run("--full-cycle", "--output", "json", *arguments)
        assert result.exit_code == code, result.output
        answer = json.loads(result.stdout)
        assert answer["passed"] is (code == 0)
        return {row["project"]: row for row in answer["modules"]}

    def databases(self) -> set[str]:
        """The scratch databases that are there."""
        rows = self.server.run(f"select datname from pg_database where datname like '{PREFIX}%'")
        return {row[0] for row in rows}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    """A server that nobody else makes scratch databases on."""
    own = OwnServer()
    try:
        own.start()
        yield own
    finally:
        own.remove()


@pytest.fixture
def workspace(tmp_path: Path, server: OwnServer) -> Workspace:
    return Workspace(tmp_path / "work", server)


BASE = tables("accounts", project="base")
SHOP = tables("orders", "lines", project="shop", requires={"orders": "base:accounts"})
BLOG = tables("posts", project="blog")
BLOG_CONTROL = {"modules/blog/blog.control": "default_version = '1'\nrequires = 'plpgsql,base'\n"}


def test_modules_that_cover_all_go_through_the_full_cycle(workspace: Workspace) -> None:
    """Those that no other requires are tried, with what plan file or control file requires before them."""
    workspace.write(BASE, SHOP, BLOG, BLOG_CONTROL)
    tried = workspace.tried(code=0)
    assert {name: row["modules"] for name, row in tried.items()} == {
        "shop": ["base", "shop"],
        "blog": ["base", "blog"],
    }
    assert all(not row["left_behind"] and not row["differs"] for row in tried.values())
    assert workspace.databases() == set()


def test_what_a_revert_left_behind_is_named(workspace: Workspace) -> None:
    """Each object is named, the module fails, and so does not one that leaves nothing."""
    workspace.write(BASE, SHOP, BLOG)
    workspace.write(
        {
            "modules/shop/deploy/lines.sql": "create type unit as enum ('kg');\n"
            "create table if not exists lines (id int);\ncreate table if not exists kept (id int);\n",
            "modules/shop/revert/lines.sql": "drop table lines;\n",
        }
    )
    tried = workspace.tried(code=5)
    assert [row["object"] for row in tried["shop"]["left_behind"]] == [
        "table public.kept",
        "type public.unit",
    ]
    assert tried["blog"]["passed"]
    # The type stands in the way of the second deploy, at its place in the script.
    (problem,) = tried["shop"]["problems"]
    assert (problem["step"], problem["file"], problem["line"]) == (
        "deploy again",
        "modules/shop/deploy/lines.sql",
        1,
    )
    text = workspace.run("--full-cycle")
    assert text.exit_code == 5
    assert "shop: after the revert, type public.unit: was not there" in text.stdout
    assert workspace.databases() == set()


def test_second_deploy_that_fails_is_told(workspace: Workspace) -> None:
    """What no catalog of a database shows, such as a role, shows when all is deployed again."""
    workspace.write(BASE)
    workspace.write(
        {"modules/base/deploy/accounts.sql": "create table accounts ();\n\ncreate role left_behind;\n"}
    )
    row = workspace.tried(code=5)["base"]
    (problem,) = row["problems"]
    assert row["left_behind"] == []
    assert (problem["step"], problem["file"], problem["line"]) == (
        "deploy again",
        "modules/base/deploy/accounts.sql",
        3,
    )
    assert workspace.databases() == set()


def test_second_deploy_that_makes_something_else_is_told(workspace: Workspace) -> None:
    """A revert that keeps what a deploy depends on is found out by comparing both deploys."""
    workspace.write(BASE)
    script = (
        "create table accounts ();\ndo $$ begin\n"
        "  if to_regrole('seen_before') is null then create role seen_before;\n"
        "  else create table more (); end if;\nend $$;\n"
    )
    workspace.write(
        {
            "modules/base/deploy/accounts.sql": script,
            "modules/base/revert/accounts.sql": "drop table accounts;\ndrop table if exists more;\n",
        }
    )
    row = workspace.tried(code=5)["base"]
    assert [found["object"] for found in row["differs"]] == ["table public.more"]


@pytest.mark.parametrize(
    ("files", "step", "words"),
    [
        ({"modules/base/deploy/accounts.sql": "select 1/0;\n"}, "deploy", "division by zero"),
        ({"modules/base/verify/accounts.sql": "select 1/0;\n"}, "deploy", "division by zero"),
        ({"modules/base/revert/accounts.sql": "drop table nosuch;\n"}, "revert", "nosuch"),
    ],
)
def test_script_that_fails_is_told_with_its_place(
    workspace: Workspace, files: Files, step: str, words: str
) -> None:
    """Step, file and line are named, for deploy, verify and revert scripts; the database is gone."""
    workspace.write(BASE, files)
    (problem,) = workspace.tried(code=5)["base"]["problems"]
    assert (problem["step"], problem["file"], problem["line"]) == (step, *files, 1)
    assert words in problem["message"]
    assert workspace.databases() == set()


def test_change_that_a_later_one_breaks_fails_to_verify(workspace: Workspace) -> None:
    """All is verified once all is deployed."""
    workspace.write(tables("a", "b", project="base"))
    workspace.write(
        {
            "modules/base/verify/a.sql": "select name from a;\n",
            "modules/base/deploy/b.sql": "alter table a drop column name;\n",
            "modules/base/revert/b.sql": "alter table a add column name text not null;\n",
        }
    )
    (problem,) = workspace.tried(code=5)["base"]["problems"]
    assert (problem["step"], problem["file"]) == ("verify", "modules/base/verify/a.sql")


def test_change_without_a_revert_script_is_told(workspace: Workspace) -> None:
    """Nothing can be compared then; without the full cycle nobody asks for one."""
    workspace.write(tables("accounts", project="base", without_revert=["accounts"]))
    (problem,) = workspace.tried(code=5)["base"]["problems"]
    assert problem["step"] == "revert"
    assert "'base:accounts'" in problem["message"]
    assert workspace.run().exit_code == 0
    assert workspace.databases() == set()


def test_missing_requirement_is_told_before_anything_runs(workspace: Workspace) -> None:
    """A requirement on a module that is not there blocks those that have it, and no other."""
    workspace.write(SHOP, BLOG)
    tried = workspace.tried(code=5)
    assert tried["blog"]["passed"]
    (problem,) = tried["shop"]["problems"]
    assert (problem["step"], "'base:accounts'" in problem["message"]) == ("prepare", True)


def test_one_module_is_tested_with_what_it_requires(workspace: Workspace) -> None:
    """Its requirements come from the folder of modules."""
    workspace.write(BASE, SHOP, BLOG)
    result = CliRunner().invoke(
        app,
        ["module", "test", "--output", "json", "--dsn-env", "TEST_DSN", str(workspace.root / "modules/shop")],
        env={"TEST_DSN": workspace.server.text()},
    )
    assert result.exit_code == 0, result.output
    assert [row["modules"] for row in json.loads(result.stdout)["modules"]] == [["base", "shop"]]


def test_server_that_cannot_be_reached_says_nothing_of_modules(workspace: Workspace) -> None:
    """That is an error, and no failed module."""
    workspace.write(BASE)
    workspace.server = Server(port=free_port(), bin_dir=workspace.root, data_dir=workspace.root)
    row = workspace.tried(code=1)["base"]
    assert all(problem["unknown"] for problem in row["problems"])
    assert row["problems"]


def test_too_slow_module_is_ended(workspace: Workspace) -> None:
    """A script that never ends does not keep the test, nor its database."""
    workspace.write(BASE, {"modules/base/deploy/accounts.sql": "select pg_sleep(1000);\n"})
    (problem,) = workspace.tried("--timeout", "1", code=5)["base"]["problems"]
    assert problem["message"] == "not done within 1 s"
    assert workspace.databases() == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_test_that_is_ended_leaves_no_database(workspace: Workspace, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM drop what was made before the program ends."""
    workspace.write(BASE, SHOP, BLOG)
    # Others do the same on this server: a signal that comes while the program still starts is another matter.
    sleep = f"pg_sleep(1{os.getpid()})"
    workspace.write({"modules/base/deploy/accounts.sql": f"select {sleep};\n"})
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "module", "test", "--dsn-env", "TEST_DSN"],
        cwd=workspace.root,
        env={**os.environ, "TEST_DSN": workspace.server.text()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    asleep = (
        f"select 1 from pg_stat_activity where query like '%{sleep}%' and state = 'active' "
        "and pid <> pg_backend_pid()"
    )
    try:
        until(lambda: workspace.server.run(asleep), "the script to run")
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
    assert workspace.databases() == set()


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that every account may pass through."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_without_a_server_an_embedded_one_is_made_and_removed(workspace: Workspace, temporary: Path) -> None:
    """Nothing of it stays."""
    workspace.write(BASE)
    result = CliRunner().invoke(app, ["module", "test", "--full-cycle", str(workspace.root / "modules")])
    assert result.exit_code == 0, result.output
    assert "base: ok after" in result.stdout
    assert list(temporary.iterdir()) == []


def test_declared_roles_are_there_on_the_embedded_server(workspace: Workspace, temporary: Path) -> None:
    """A module may name them; one that names another role fails, and is told where roles are declared."""
    workspace.write(BASE, BLOG)
    grant = "create table {0} ();\ngrant select on {0} to {1};\n"
    workspace.write(
        {
            "environments/production.yaml": SPEC_WITH_ROLES,
            "modules/base/deploy/accounts.sql": grant.format("accounts", "eu_admin"),
            "modules/blog/deploy/posts.sql": grant.format("posts", "nobody_declared"),
        }
    )
    asked = ["module", "test", "--workspace", str(workspace.root), "--output", "json"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 5, result.output
    rows = {row["project"]: row for row in json.loads(result.stdout)["modules"]}
    assert rows["base"]["passed"]
    (problem,) = rows["blog"]["problems"]
    assert 'role "nobody_declared" does not exist' in problem["message"]
    assert "`roles:` of the Database component" in problem["hint"]
    assert list(temporary.iterdir()) == []


def test_variables_of_scripts_are_given(workspace: Workspace) -> None:
    """`--set` gives values; a folder without modules is refused."""
    workspace.write(BASE)
    workspace.write({"modules/base/deploy/accounts.sql": 'create table :"table" ();\n'})
    assert workspace.run("--full-cycle", "--set", "table=accounts").exit_code == 0
    refused = CliRunner().invoke(app, ["module", "test", str(workspace.root)])
    assert refused.exit_code == 1
    assert "there is no module in" in refused.output


def test_what_is_beside_a_module_is_found(workspace: Workspace) -> None:
    """Wherever the module is; a module that is the whole repository is refused, as no spec can name it."""
    workspace.write({f"extra/{name}": text for name, text in {**BASE, **SHOP}.items()})
    named = ("module", "test", "--output", "json", "--dsn-env", "TEST_DSN")
    environ = {"TEST_DSN": workspace.server.text()}
    beside = CliRunner().invoke(app, [*named, str(workspace.root / "extra/modules/shop")], env=environ)
    assert beside.exit_code == 0, beside.output
    assert [row["modules"] for row in json.loads(beside.stdout)["modules"]] == [["base", "shop"]]
    workspace.write({name.removeprefix("modules/base/"): text for name, text in BASE.items()})
    whole = CliRunner().invoke(app, [*named, str(workspace.root)], env=environ)
    assert whole.exit_code == 1
    assert "is a module itself" in whole.output
