"""What a command imports, for start-up time counts: no more than it needs."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from reconciler.cli import main, module
from reconciler.cli.exit_codes import ExitCode

SERVERS = ("fastapi", "starlette", "uvicorn", "apscheduler", "prometheus_client", "watchfiles", "structlog")
WRITING = (
    "reconciler.worker",
    "reconciler.reconcile.passes",
    "reconciler.reconcile.facade",
    "reconciler.execution.session",
    "reconciler.execution.run",
    "reconciler.control.rollouts",
    "reconciler.control.requests",
)
UNASKED = (
    "http.client",
    "rich",
    "reconciler.cli.http_backend",
    "reconciler.cli.module_tasks",
    "reconciler.cli.module_edit",
    "reconciler.cli.module_test",
)
PROGRAM = """
import json, sys
from reconciler.cli.main import main
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
SPEC = """
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments: [{name: one, postgres: {dsn: {env: NOBODY_DSN}}}]
  components:
    - {name: data, kind: Database, database: shop}
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, timeout=30)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with an environment on a server that is not there, and no control database."""
    folder = tmp_path_factory.mktemp("imports")
    repository = folder / "repository"
    (repository / "environments").mkdir(parents=True)
    (repository / "environments/shop.yaml").write_text(SPEC)
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "first")
    file = folder / "reconciler.yaml"
    file.write_text(
        f"state_dir: {folder / 'state'}\nlisten: 127.0.0.1:1\n"
        f"sources: [{{name: shop, url: {json.dumps(str(repository))}, branch: main}}]\n"
    )
    return file


def imported(settings: Path, *arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command, and the modules that it has imported."""
    environ = {"NOBODY_DSN": "host=127.0.0.1 port=1 dbname=postgres", "RECONCILER_CONFIG": str(settings)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **environ}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("module status shop", ExitCode.FAILED), ("diff shop", ExitCode.OK)],
    ids=["status", "diff"],
)
def test_a_command_that_looks_imports_nothing_that_serves_or_writes(
    settings: Path, arguments: str, expected: ExitCode
) -> None:
    """Neither the daemon's libraries nor worker, passes and writing belong to a look."""
    code, modules = imported(settings, *arguments.split())
    assert code == expected
    assert "reconciler.planner.planner" in modules
    assert not modules & {*SERVERS, *WRITING, *UNASKED}


def test_a_plan_by_hand_imports_nothing_that_works_it_off(settings: Path) -> None:
    """Neither the daemon's libraries nor what claims and carries out are there before there is work."""
    code, modules = imported(settings, "module", "deploy", "shop", "--dry-run")
    assert code == ExitCode.ERROR
    assert "reconciler.reconcile.module_tasks" in modules
    assert not modules & {
        *SERVERS,
        "rich",
        "http.client",
        "reconciler.worker.loop",
        "reconciler.execution.run",
    }
    assert not modules & {"reconciler.cli.waiting", "reconciler.cli.http_backend", "reconciler.web.app"}


def test_a_source_that_stands_still_is_read_without_the_library(settings: Path) -> None:
    """Only what writes to the mirror starts Git with GitPython."""
    imported(settings, "diff", "shop")
    code, modules = imported(settings, "diff", "shop")
    assert code == ExitCode.OK
    assert "reconciler.source.git_command" in modules
    assert "git" not in modules


def test_the_version_costs_no_library(settings: Path) -> None:
    """No driver, no Git and no model is imported, and no command but that."""
    code, modules = imported(settings, "--version")
    assert code == 0
    assert not modules & {*SERVERS, *WRITING, "psycopg", "git", "pydantic", "yaml", "reconciler.cli.module"}


def test_every_module_adds_the_commands_that_the_table_says() -> None:
    """A command that the table lacks would be found too, but only by importing all of them."""
    for name, commands in main.MODULES.items():
        app = typer.Typer()
        import_module(f"reconciler.cli.{name}").add(app)
        added = [
            *(each.name for each in app.registered_commands),
            *(each.name for each in app.registered_groups),
        ]
        assert tuple(added) == commands


def test_every_part_of_the_group_adds_the_commands_that_its_table_says() -> None:
    """A command that stands at another part would be taken for one that is not there."""
    for name, commands in module.PARTS.items():
        group = typer.Typer()
        import_module(f"reconciler.cli.{name}").add(group)
        assert tuple(each.name for each in group.registered_commands) == commands


def test_of_a_group_only_the_part_with_the_command_is_made() -> None:
    """The second word decides where it is a command's name; else all of the group is there."""
    everything = sum(len(names) for names in module.PARTS.values())
    for second, made in (("status", 4), ("test", 1), ("--help", everything), (None, everything)):
        root = typer.main.get_command(main.program("module", second))
        group = getattr(root, "commands")["module"]  # noqa: B009 - of a group
        assert len(group.commands) == made


def test_the_first_word_decides_what_is_made() -> None:
    """A command is made alone only where nothing stands before it; options may have values of any kind."""
    alone = typer.main.get_command(main.program("diff"))
    everything = typer.main.get_command(main.program("--config"))
    assert set(getattr(alone, "commands")) == {"demo", "diff"}  # noqa: B009 - of a group
    assert len(getattr(everything, "commands")) > len(main.MODULES)  # noqa: B009
