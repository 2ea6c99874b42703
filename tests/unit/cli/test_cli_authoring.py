"""`reconciler module add|rework|tag`: plan files and scripts on this machine, without any database."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.changes.module import read_module
from reconciler.cli.main import app
from reconciler.state.program import Purpose, compile_script

PLAN = "%syntax-version=1.0.0\n%project=shop\n\n"
PLANNER = ("--planner", "Ada <ada@example.org>")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["module", *arguments])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "modules" / "shop"
    folder.mkdir(parents=True)
    (folder / "sqitch.plan").write_text(PLAN)
    return folder


def add(folder: Path, name: str, *more: str) -> Result:
    return run("add", name, "--module", str(folder), *PLANNER, *more)


def test_added_changes_are_a_module_that_deploys(shop: Path) -> None:
    """Every built-in template gives scripts that parse, and a plan with note and dependencies."""
    for name, template, more in (
        ("schemas/app", "create-schema", ()),
        ("orders", "create-table", ("--requires", "schemas/app", "--note", "What was bought.")),
        ("paid", "create-view", ("--requires", "orders", "--conflicts", "unpaid", "--set", "schema=app")),
        ("total", "create-function", ()),
        ("orders_idx", "create-index", ("--set", "table=orders", "--set", "column=id")),
        ("more", "change", ()),
    ):
        result = add(shop, name, "--template", template, *more)
        assert result.exit_code == 0, result.output
    found = read_module("", files_of(shop))
    changes = {one.change.name: one for one in found.changes}
    assert list(changes) == ["schemas/app", "orders", "paid", "total", "orders_idx", "more"]
    assert changes["orders"].change.note == "What was bought."
    assert (changes["paid"].change.requires, changes["paid"].change.conflicts) == (("orders",), ("unpaid",))
    for one in found.changes:
        assert one.revert is not None
        assert one.verify is not None
        assert compile_script(one.deploy, purpose=Purpose.DEPLOY).transactional == (
            one.change.name != "orders_idx"
        )
        compile_script(one.revert, purpose=Purpose.REVERT)
        compile_script(one.verify, purpose=Purpose.VERIFY)
    assert "CREATE VIEW app.paid AS" in changes["paid"].deploy.text


@pytest.mark.parametrize("template", ["create-table", "create-view", "create-function", "create-index"])
@pytest.mark.parametrize(
    ("schema", "written"), [("1", '"1"'), ("order", '"order"'), ('"My O\'x"', '"My O\'x"'), ("app", "app")]
)
def test_names_that_are_given_are_names(shop: Path, template: str, schema: str, written: str) -> None:
    """Whatever is given for a name is written as SQL writes it, also within a string."""
    given = ("--set", f"schema={schema}", "--set", "table=2", "--set", "column=desc")
    assert add(shop, "Top-10", "--template", template, *given).exit_code == 0
    (change,) = read_module("", files_of(shop)).changes
    assert change.revert is not None
    assert change.verify is not None
    scripts = {
        Purpose.DEPLOY: change.deploy,
        Purpose.REVERT: change.revert,
        Purpose.VERIFY: change.verify,
    }
    for purpose, script in scripts.items():
        compile_script(script, purpose=purpose)
        text = script.text.replace("''", "'") if purpose is Purpose.VERIFY else script.text
        assert f'{written}."Top-10"' in text or f'"Top-10" ON {written}."2" ("desc")' in text


def test_a_list_of_columns_stays_one(shop: Path) -> None:
    """What is given for a column may be several, or an expression."""
    given = ("--set", "table=t", "--set", "column=lower(a), b DESC")
    assert add(shop, "i", "--template", "create-index", *given).exit_code == 0
    assert "ON public.t (lower(a), b DESC)" in (shop / "deploy" / "i.sql").read_text()


def test_what_can_be_no_name_is_refused(shop: Path) -> None:
    """A name that is empty or that PostgreSQL would cut writes nothing."""
    for schema in ("", "s" * 64):
        refused = add(shop, "t", "--template", "create-table", "--set", f"schema={schema}")
        assert refused.exit_code == 1
        assert "--set schema=" in refused.stderr
    assert not (shop / "deploy").exists()


def test_nothing_is_overwritten(shop: Path) -> None:
    """Where a script is there already nothing is written, not even the line of the plan."""
    (shop / "verify").mkdir()
    (shop / "verify" / "orders.sql").write_text("mine")
    before = files_of(shop)
    result = add(shop, "orders")
    assert result.exit_code == 1
    assert "verify/orders.sql" in result.stderr
    assert files_of(shop) == before


def test_nothing_is_written_outside_of_the_module(shop: Path) -> None:
    """A name that climbs out, or a folder that links out, is refused."""
    assert add(shop, "a/../../../x").exit_code == 1
    (shop / "deploy").symlink_to(shop.parent)
    result = add(shop, "orders")
    assert "outside of the module" in result.stderr
    assert sorted(path.name for path in shop.parent.iterdir()) == ["shop"]


def test_own_templates_and_what_they_are_given(shop: Path) -> None:
    """A module's template is used as it is; what nobody gave is an error with its line."""
    (shop / "templates" / "deploy").mkdir(parents=True)
    (shop / "templates" / "deploy" / "audit.tmpl").write_text("SELECT '$${x}';\nSELECT '${change} ${who}';\n")
    missing = add(shop, "log", "--template", "audit")
    assert "audit':2" in missing.stderr
    assert "--set who=" in missing.stderr
    assert add(shop, "log", "--template", "audit", "--set", "who=me").exit_code == 0
    assert (shop / "deploy" / "log.sql").read_text() == "SELECT '${x}';\nSELECT 'log me';\n"
    unknown = add(shop, "other", "--template", "nosuch")
    assert "audit, change, create-function" in unknown.stderr


def test_tag_and_rework(shop: Path) -> None:
    """A tag stands where it is asked for; a rework keeps the old scripts, and reverting goes back to them."""
    add(shop, "orders")
    add(shop, "prices")
    tagged = run("tag", "@v1", "--module", str(shop), "--change", "orders", "--note", "first", *PLANNER)
    assert tagged.exit_code == 0, tagged.output
    (shop / "deploy" / "orders.sql").write_text("SELECT 'old';\n")
    reworked = run("rework", "orders", "--module", str(shop), *PLANNER, "--output", "json")
    assert reworked.exit_code == 0, reworked.output
    assert "revert/orders.sql" in json.loads(reworked.stdout)["written"]
    found = read_module("", files_of(shop))
    assert [one.change.instance for one in found.changes] == ["orders@v1", "prices", "orders"]
    assert found.changes[0].change.tags[0].note == "first"
    assert found.changes[0].deploy.text == "SELECT 'old';\n"
    assert found.changes[2].revert is not None
    assert found.changes[2].revert.text == "SELECT 'old';\n"
    again = run("rework", "orders", "--module", str(shop), *PLANNER)
    assert "no tag stands between" in again.stderr


def test_a_plan_keeps_every_other_byte(shop: Path) -> None:
    """Comments, blank lines and the ends of lines stay as they are."""
    text = (
        "%syntax-version=1.0.0\r\n%project=shop\r\n\r\n# why\r\na 2026-01-01T00:00:00Z A <a@example.org>\r\n"
    )
    (shop / "sqitch.plan").write_bytes(text.encode())
    assert add(shop, "b").exit_code == 0
    after = (shop / "sqitch.plan").read_bytes().decode()
    assert after.startswith(text)
    assert after.count("\r\n") == after.count("\n")


def test_the_folder_one_is_in_is_the_module(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --module it is the nearest one around; where there is none, that is said."""
    (shop / "deploy").mkdir()
    monkeypatch.chdir(shop / "deploy")
    assert run("add", "orders", *PLANNER).exit_code == 0
    monkeypatch.chdir(shop.parent)
    outside = run("add", "prices", *PLANNER)
    assert (outside.exit_code, "in no change module" in outside.stderr) == (1, True)


def test_pgpm_scripts_have_no_transaction(tmp_path: Path) -> None:
    """A module of pgpm gets scripts as pgpm writes them."""
    (tmp_path / "pgpm.plan").write_text("%syntax-version=1.0.0\n%project=app\n\n")
    result = add(tmp_path, "orders", "--template", "create-table")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "deploy" / "orders.sql").read_text()
    assert text.startswith("-- Deploy: orders\n")
    assert "BEGIN" not in text


def test_planner_is_who_git_says(shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without --planner it is the user of Git; where Git knows nobody, that is said and nothing done."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    nobody = run("add", "orders", "--module", str(shop))
    assert "Git does not know who you are" in nobody.stderr
    assert (shop / "sqitch.plan").read_text() == PLAN
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Grace\n\temail = grace@example.org\n")
    assert run("add", "orders", "--module", str(shop)).exit_code == 0
    assert "Grace <grace@example.org>" in (shop / "sqitch.plan").read_text()
