"""`reconciler stage …`: spec files of a work tree are shown, edited, and committed alone."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli import spec_files, work_tree
from reconciler.cli.main import app
from reconciler.errors import Conflict

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  stages:   # in run order
    - name: databases
    - name: migrations   # nightly
      description: change modules
    - name: idle
  deployments: [{name: eu, postgres: {dsn: {env: EU_DSN}}}]
  components:
    - {name: data, kind: Database, database: shop}
    - {name: schema, kind: Module, database: {from: data}, path: modules/shop}
    - {name: b, kind: Module, after: [schema], database: {from: data}, path: modules/b}
    - {name: a, kind: Module, after: [b], database: {from: data}, path: modules/a}
"""


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, timeout=30, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A work tree with a spec and a file beside it, both committed."""
    folder = tmp_path / "repository"
    (folder / "environments/north").mkdir(parents=True)
    (folder / "environments/north/shop.yaml").write_text(SPEC)
    (folder / "environments/other.yaml").write_text(SPEC.replace("name: shop}", "name: shop-two}", 1))
    (folder / "README.md").write_text("shops\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "Ada"), ("user.email", "ada@example.org"), ("commit.gpgsign", "false")):
        git(folder, "config", key, value)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def stage(repository: Path, command: str, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(
        app, ["stage", command, *arguments, "--repo", str(repository / "environments")]
    )
    assert result.exit_code == code, result.output
    return result


def text_of(repository: Path) -> str:
    return (repository / "environments/north/shop.yaml").read_text()


def test_stages_are_listed_in_run_order(repository: Path) -> None:
    """The list has each stage with who is in it, in the same order as text and as JSON."""
    lines = stage(repository, "list", "shop").stdout.splitlines()
    assert lines[1].split() == ["1", "databases", "data"]
    assert lines[2].split(maxsplit=2)[2] == "schema, b, a  change modules"
    assert lines[3].split() == ["3", "idle", "-"]
    told = json.loads(stage(repository, "list", "shop", "--output", "json").stdout)
    assert told["file"] == "environments/north/shop.yaml"
    assert [row["number"] for row in told["stages"]] == [1, 2, 3]
    assert [[each["name"] for each in row["components"]] for row in told["stages"]] == [
        ["data"], ["schema", "b", "a"], []
    ]  # fmt: skip


def test_every_command_edits_the_file_and_keeps_its_comments(repository: Path) -> None:
    """Stages are added, renamed, described, put elsewhere, filled and removed; the mode of the file stays."""
    file = repository / "environments/north/shop.yaml"
    file.chmod(0o640)
    stage(repository, "create", "shop", "late", "--description", "at night", "--before", "idle")
    stage(repository, "edit", "shop", "late", "--name", "last", "--description", "")
    stage(repository, "move", "shop", "last", "--after", "idle")
    stage(repository, "move", "shop", "schema", "b", "a", "--to", "last")
    stage(repository, "delete", "shop", "idle")
    told = stage(repository, "delete", "shop", "migrations").stdout
    assert told == "wrote environments/north/shop.yaml: delete stage 'migrations'\n"
    assert "  stages:   # in run order\n    - name: databases\n    - name: last\n  deployments" in text_of(
        repository
    )
    assert "kind: Module, stage: last, database" in text_of(repository)
    assert file.stat().st_mode & 0o777 == 0o640
    assert git(repository, "status", "--short").split() == ["M", "environments/north/shop.yaml"]
    assert stage(repository, "move", "shop", "last", "--after", "databases").stdout.endswith(
        "nothing to do\n"
    )


def test_components_are_skipped_until_they_are_moved(repository: Path) -> None:
    """The flag is set and taken away by command, shown in the list, and lost by a move to another stage."""
    stage(repository, "skip", "shop", "data", "schema")
    assert "kind: Database, skip: true, database: shop}" in text_of(repository)
    lines = stage(repository, "list", "shop").stdout.splitlines()
    assert lines[2].split(maxsplit=2)[2] == "schema (skipped), b, a  change modules"
    told = json.loads(stage(repository, "list", "shop", "-o", "json").stdout)["stages"][0]
    assert told["components"] == [{"name": "data", "kind": "Database", "skipped": True}]
    assert stage(repository, "skip", "shop", "data").stdout.endswith("nothing to do\n")
    stage(repository, "move", "shop", "schema", "--to", "migrations")
    assert text_of(repository).count("skip: true") == 2
    stage(repository, "move", "shop", "schema", "b", "a", "--to", "idle")
    assert text_of(repository).count("skip: true") == 1
    stage(repository, "move", "shop", "schema", "b", "a", "--to", "migrations")
    stage(repository, "unskip", "shop", "data", "schema")
    assert text_of(repository).replace(", stage: migrations", "") == SPEC


def test_a_dry_run_prints_the_difference(repository: Path) -> None:
    """With --dry-run the lines are shown as a patch, and the file stays."""
    told = stage(repository, "delete", "shop", "idle", "--dry-run").stdout
    assert told.startswith("--- a/environments/north/shop.yaml\n+++ b/environments/north/shop.yaml\n")
    assert "\n-    - name: idle\n" in told
    as_json = stage(repository, "delete", "shop", "idle", "--dry-run", "-o", "json").stdout
    value = json.loads(as_json)
    assert value.pop("diff") == told.removesuffix("\n")
    assert (value["changed"], value["written"], value["commit"]) == (True, False, None)
    assert text_of(repository) == SPEC


def test_a_commit_has_the_file_alone(repository: Path) -> None:
    """With --commit the file is committed, and what else is staged stays staged."""
    (repository / "README.md").write_text("mine\n")
    git(repository, "add", "README.md")
    told = stage(repository, "delete", "shop", "idle", "--commit").stdout
    head = git(repository, "log", "-1", "--format=%H %an %s", "--name-only").split("\n")
    assert told.splitlines()[-1] == f"committed as {head[0][:12]}"
    assert head[0].split(" ", 2)[1:] == ["Ada", "Delete stage 'idle' of environment 'shop'"]
    assert head[2:] == ["environments/north/shop.yaml", ""]
    assert git(repository, "status", "--short") == "M  README.md\n"
    stage(repository, "create", "shop", "late", "--commit", "-m", "Later")
    assert git(repository, "log", "-1", "--format=%s") == "Later\n"


def test_a_name_is_no_pattern(repository: Path) -> None:
    """A file whose name would also match another one is committed without that."""
    git(repository, "mv", "environments/north/shop.yaml", "environments/north/[so]*.yaml")
    (repository / "environments/north/other.yaml").write_text("---\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "second")
    (repository / "environments/north/other.yaml").write_text("--- # mine\n")
    stage(repository, "delete", "shop", "idle", "--commit")
    assert git(repository, "status", "--short") == " M environments/north/other.yaml\n"


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "edited"])
def test_changes_of_others_are_not_committed(repository: Path, staged: bool) -> None:
    """Where the file has changes that are not committed, --commit is refused and nothing is written."""
    mine = SPEC.replace("# nightly", "# weekly")
    (repository / "environments/north/shop.yaml").write_text(mine)
    if staged:
        git(repository, "add", "--all")
    told = stage(repository, "delete", "shop", "idle", "--commit", code=1).stderr
    assert "has changes that are not committed" in told
    assert text_of(repository) == mine
    stage(repository, "delete", "shop", "idle")


def test_a_commit_that_git_refuses_leaves_nothing_behind(repository: Path) -> None:
    """Where a hook says no, its words are told and the file is as it was."""
    hook = repository / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    told = stage(repository, "delete", "shop", "idle", "--commit", code=1).stderr
    assert "git did not commit" in told
    assert "not on a Friday" in told
    assert text_of(repository) == SPEC
    assert git(repository, "status", "--short") == ""


def test_without_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a work tree, and without git, --commit is refused before anything is written."""
    (repository / ".git").rename(repository / "gone")
    result = CliRunner().invoke(
        app, ["stage", "delete", "shop", "idle", "--commit", "--repo", str(repository)]
    )
    assert "is not in a Git work tree" in result.stderr
    monkeypatch.setattr(work_tree.shutil, "which", lambda _name: None)
    result = CliRunner().invoke(
        app, ["stage", "delete", "shop", "idle", "--commit", "--repo", str(repository)]
    )
    assert "git is not installed" in result.stderr
    assert text_of(repository) == SPEC


def test_what_cannot_be_done_is_told_and_nothing_is_written(repository: Path) -> None:
    """A stage in use, an unknown environment and a spec that would be broken are errors."""
    told = stage(repository, "delete", "shop", "migrations", code=1).stderr
    assert "'schema', 'b', 'a' would have no stage" in told
    assert "did you mean 'shop'?" in stage(repository, "list", "shpo", code=1).stderr
    told = stage(repository, "move", "shop", "b", "--to", "idle", code=1).stderr
    assert "environments/north/shop.yaml:14:" in told
    missing = CliRunner().invoke(app, ["stage", "list", "shop", "--repo", str(repository), "--path", "specs"])
    assert "name the folder of the specs with --path" in missing.stderr
    (repository / "environments/twice.yaml").write_text(SPEC)
    assert "is declared in more than one file" in stage(repository, "list", "shop", code=1).stderr
    assert text_of(repository) == SPEC


@pytest.mark.parametrize(
    "arguments",
    [
        "create shop x --before idle --after idle",
        "create shop x --message only",
        "edit shop idle",
        "move shop idle",
        "move shop idle --to a --before b",
        "move shop idle migrations --before databases",
    ],
)
def test_options_that_contradict_each_other_are_refused(repository: Path, arguments: str) -> None:
    """What does not say one thing is an error of usage."""
    command, *rest = arguments.split()
    stage(repository, command, *rest, code=2)
    assert text_of(repository) == SPEC


def test_a_file_that_somebody_else_changed_is_left_alone(repository: Path) -> None:
    """Between reading and writing nobody's change is lost."""
    opened = spec_files.find(repository, "environments", "shop")
    opened.path.write_text(SPEC + "# theirs\n")
    with pytest.raises(Conflict, match="was changed meanwhile"):
        opened.write(b"mine")
    assert text_of(repository).endswith("# theirs\n")
    assert [path.name for path in opened.path.parent.iterdir()] == ["shop.yaml"]


def test_lists_of_deployments_are_read_from_the_work_tree(repository: Path) -> None:
    """A spec whose deployments stand in a list is edited like any other; a link is not followed."""
    file = repository / "environments/north/shop.yaml"
    listed = SPEC.replace(
        "deployments: [{name: eu, postgres: {dsn: {env: EU_DSN}}}]",
        "deploymentsFrom: {file: lists/shops.csv, postgres: {dsn: {env: EU_DSN}}}",
    )
    file.write_text(listed)
    (repository / "lists").mkdir()
    (repository / "lists/shops.csv").write_text("name\neu\nus\n")
    stage(repository, "delete", "shop", "idle")
    (repository / "lists/shops.csv").rename(repository / "elsewhere.csv")
    (repository / "lists/shops.csv").symlink_to(repository / "elsewhere.csv")
    assert "symbolic link" in stage(repository, "create", "shop", "idle", code=1).stderr
