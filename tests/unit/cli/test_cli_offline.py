"""Commands that need no daemon: init, validate and schema, each in a folder of its own."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.settings import Settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who never configured Git."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    return tmp_path


@pytest.fixture
def repository(home: Path) -> Path:
    folder = home / "shop"
    assert run("init", str(folder)).exit_code == 0
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30
    ).stdout


def test_init_writes_a_repository_that_is_valid(repository: Path) -> None:
    """What init writes is committed, complete and free of problems, without any Git configuration."""
    assert git(repository, "log", "--format=%s") == "Declare the production environment\n"
    assert git(repository, "branch", "--show-current") == "main\n"
    assert git(repository, "status", "--porcelain") == ""
    result = run("validate", str(repository))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "environments: production\nmodules: modules/shop\nno problems found\n"
    for kind in ("deploy", "verify", "revert"):
        assert len(list((repository / "modules/shop" / kind).iterdir())) == 3


def test_init_refuses_a_folder_that_is_not_empty(home: Path) -> None:
    """Nobody's files are mixed with ours by accident; --force adds what is missing and overwrites nothing."""
    (home / "shop").mkdir()
    (home / "shop" / "README.md").write_text("mine")
    refused = run("init", str(home / "shop"))
    assert refused.exit_code == 1
    assert "is not empty" in refused.stderr
    assert [path.name for path in (home / "shop").iterdir()] == ["README.md"]
    assert run("init", str(home / "shop"), "--force").exit_code == 0
    assert (home / "shop" / "README.md").read_text() == "mine"
    assert (home / "shop" / "environments/production.yaml").exists()


def test_init_follows_no_link_out_of_its_folder(home: Path) -> None:
    """A file that is a link is somebody's and stays as it is."""
    (home / "shop").mkdir()
    (home / "shop" / "README.md").symlink_to(home / "elsewhere")
    assert run("init", str(home / "shop"), "--force").exit_code == 0
    assert not (home / "elsewhere").exists()


def test_settings_of_init_load(repository: Path) -> None:
    """The settings that init writes are valid, and their paths are meant from where they stand."""
    from reconciler.cli.settings_file import load

    settings = load(str(repository / "reconciler.yaml"), {})
    assert settings.state_dir == str(repository / ".reconciler")
    assert settings.sources[0].url == str(repository)


def test_validate_names_every_bad_file(repository: Path) -> None:
    """All problems of all files come at once, each with its file: broken, undecodable and missing ones."""
    (repository / "environments/broken.yaml").write_text("kind: Environment\n  bad: [\n")
    (repository / "environments/binary.yaml").write_bytes(b"\xff\xfe\x00")
    (repository / "environments/latin.yaml").write_bytes(b"metadata: {name: \xe9\xe9}\n")
    text = (repository / "environments/production.yaml").read_text()
    (repository / "environments/elsewhere.yaml").write_text(
        text.replace("name: production", "name: elsewhere").replace(
            "path: modules/shop", "path: modules/shoop"
        )
    )
    (repository / "modules/shop/deploy/orders.sql").unlink()
    (repository / "modules/shop/deploy/customers.sql").write_bytes(b"SELECT '\xff';")
    (repository / "modules/spare").mkdir()
    (repository / "modules/spare/sqitch.plan").write_text("%project=spare\nno date at all\n")
    result = run("validate", str(repository / "modules"))
    assert result.exit_code == 1
    for name in (
        "broken.yaml",
        "binary.yaml",
        "latin.yaml",
        "modules/shoop",
        "orders.sql",
        "customers.sql",
        "spare",
    ):
        assert name in result.stderr, result.stderr
    assert result.stderr.splitlines()[0].endswith(" problems")
    assert len(set(result.stderr.splitlines())) == len(result.stderr.splitlines())


def test_validate_as_json(repository: Path) -> None:
    """Programs get each problem with its place; the code is the same."""
    (repository / "environments/broken.yaml").write_text("apiVersion: reconciler/v1\nkind: Environmint\n")
    result = run("validate", str(repository), "--output", "json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["valid"] is False
    assert found["environments"] == ["production"]
    assert {row["file"] for row in found["problems"]} == {"environments/broken.yaml"}
    assert all(row["line"] >= 1 for row in found["problems"] if "line" in row)


def with_objects(repository: Path, **files: str) -> None:
    """Add a component of SQL objects with some files, a schema's name before `__`."""
    spec = repository / "environments/production.yaml"
    database = re.findall(r"from: ([a-z-]+)", spec.read_text())[0]
    spec.write_text(
        spec.read_text().rstrip("\n")
        + "\n    - name: reports\n      kind: Objects\n"
        + f"      database: {{from: {database}}}\n"
        + "      path: objects/reports\n      externals: [shop.orders]\n"
    )
    for name, text in files.items():
        file = repository / "objects/reports" / f"{name.replace('__', '/')}.sql"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_validate_looks_at_objects(repository: Path) -> None:
    """All that is wrong in their files is drawn with its line; what only looks wrong is no error."""
    with_objects(
        repository,
        reports__daily="CREATE VIEW daily AS\nSELECT * FROM shop.ordres",
        reports__late="CREATE VIEW late AS SELECT FROM WHERE",
    )
    result = run("validate", str(repository))
    assert result.exit_code == 1
    told = result.stderr.splitlines()
    first = next(number for number, line in enumerate(told) if "daily.sql:2:15: undeclared" in line)
    assert [line.strip() for line in told[first + 1 : first + 3]] == ["SELECT * FROM shop.ordres", "^" * 11]
    assert any("objects/reports/reports/late.sql:1:" in line for line in told)
    with_files = {
        "daily": "CREATE VIEW daily AS SELECT 1 AS one",
        "late": "CREATE VIEW late AS SELECT 2 AS two",
    }
    for name, text in with_files.items():
        (repository / f"objects/reports/reports/{name}.sql").write_text(text)
    result = run("validate", str(repository))
    assert result.exit_code == 0
    assert "objects: objects/reports" in result.stdout
    assert "warning: environments/production.yaml:" in result.stderr
    found = json.loads(run("validate", str(repository), "--output", "json").stdout)
    assert (found["valid"], found["objects"], found["problems"]) == (True, ["objects/reports"], [])
    assert [row["path"][-12:] for row in found["warnings"]] == ["externals[0]"]


def test_validate_reads_the_work_tree(repository: Path) -> None:
    """A problem is found before it is committed, from any folder below the top, and links lead nowhere."""
    path = repository / "environments/production.yaml"
    path.write_text(path.read_text() + "nonsense: 1\n")
    result = run("validate", str(repository / "modules/shop/deploy"))
    assert result.exit_code == 1
    assert "environments/production.yaml" in result.stderr
    assert "nonsense" in result.stderr
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert "there are no environment specs" in run("validate", str(repository)).stderr


@pytest.mark.parametrize("place", ["file", "folder", "plan", "spec"])
def test_validate_tells_of_links_that_are_needed(repository: Path, place: str) -> None:
    """No link is followed, as online: one in place of a spec or of what a module needs is told."""
    shop = repository / "modules/shop"
    linked = {"file": min((shop / "verify").iterdir()), "folder": shop / "verify"}
    linked |= {"plan": shop / "sqitch.plan", "spec": min((repository / "environments").iterdir())}
    path = linked[place]
    moved = repository / "moved"
    path.rename(moved)
    path.symlink_to(moved)
    result = run("validate", str(repository))
    assert result.exit_code == 1
    assert str(path.relative_to(repository)) in result.stderr
    assert "it is a symbolic link, which is never followed" in result.stderr


def test_validate_without_git(tmp_path: Path) -> None:
    """Where there is no Git the path itself is the source root; one that is not there is an error."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/a.yaml").write_text("- not a mapping\n")
    result = run("validate", str(tmp_path), "--path", "specs")
    assert result.exit_code == 1
    assert "specs/a.yaml" in result.stderr
    assert "there is no" in run("validate", str(tmp_path / "nowhere")).stderr


def test_schema(repository: Path) -> None:
    """The schemas are JSON Schemas; the one of the repository is what the spec refers to."""
    environment = json.loads(run("schema").stdout)
    assert environment["$schema"].startswith("https://json-schema.org/")
    assert "spec" in environment["properties"]
    assert json.loads((repository / "schemas/environment.schema.json").read_text()) == environment
    settings = json.loads(run("schema", "settings").stdout)
    assert set(settings["properties"]) == set(Settings.model_fields)
    assert run("schema", "nothing").exit_code == 2


@pytest.mark.parametrize("before", [True, False])
def test_an_option_wins_over_its_variable_wherever_it_stands(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable left from other work never decides which daemon is asked where an option names another."""
    monkeypatch.setenv("RECONCILER_CONFIG", str(tmp_path / "of-the-variable.yaml"))
    option = ("--config", str(tmp_path / "of-the-option.yaml"))
    result = run(*option, "status") if before else run("status", *option)
    assert result.exit_code == 1
    assert "of-the-option.yaml" in result.stderr
    assert "of-the-variable.yaml" in run("status").stderr
