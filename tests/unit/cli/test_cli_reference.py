"""The reference pages list the commands, options, exit codes and paths that there are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from reconciler.cli.exit_codes import ExitCode, worst
from reconciler.cli.main import app
from reconciler.web.app import create_app
from tests.plugins.memory_service import MemoryService, no_metrics

DOCS = Path(__file__).resolve().parents[3] / "docs/reference"
SHARED = {"--config", "--server", "--ca", "--output", "-o", "--no-color", "--help"}


def commands() -> Iterator[tuple[str, Any]]:
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            for below, member in command.commands.items():
                yield f"{name} {below}", member
        else:
            yield name, command


def sections() -> dict[str, str]:
    page = (DOCS / "cli.md").read_text()
    below = "status|log|start|stop|deploy|revert|verify|check|add|rework|tag|adopt|test|explain"
    below += "|list|create|edit|move|delete|skip|unskip|keygen|encrypt|remove"
    heading = rf"^### `reconciler ([a-z-]+(?: (?:{below})(?=[ `]))?)[^`]*`\n"
    parts = re.split(heading, page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_is_documented() -> None:
    """The page has a section for each command, and none for one that is not there."""
    assert set(sections()) == {name for name, _ in commands()}


def test_every_option_is_documented() -> None:
    """The section of a command names each of its options."""
    missing = [
        f"{name} {option}"
        for name, command in commands()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in SHARED and f"`{option}" not in sections()[name]
    ]
    assert not missing


def test_every_option_that_is_documented_exists() -> None:
    """The section of a command names no option that it does not take."""
    for name, command in commands():
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"`(--[a-z-]+)", sections()[name])) <= known, name


def test_every_command_says_what_it_does() -> None:
    """The help of each command begins with a sentence."""
    for name, command in commands():
        assert (command.help or "").split("\n")[0].rstrip().endswith((".", ";")), name


def test_exit_codes_are_documented() -> None:
    """The table of exit codes is the one in the code, word for word."""
    page = (DOCS / "exit-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", page, re.MULTILINE)
    assert [(int(code), text) for code, text in rows] == [(code.value, code.meaning) for code in ExitCode]


def test_pending_outranks_drift() -> None:
    """Of several findings the exit code tells the one to act on first."""
    assert worst([]) is ExitCode.OK
    assert worst([ExitCode.DRIFT, ExitCode.PENDING]) is ExitCode.PENDING
    assert worst([ExitCode.PENDING, ExitCode.FAILED, ExitCode.OK]) is ExitCode.FAILED
    assert worst(ExitCode) is ExitCode.ERROR


def test_every_path_is_documented() -> None:
    """The page of the HTTP API lists each path with its method, and none that is not there."""
    page = (DOCS / "http-api.md").read_text()
    documented = set(re.findall(r"^\| `((?:GET|POST) /\S*)` \|", page, re.MULTILINE))
    document = create_app(MemoryService(), metrics_text=no_metrics).openapi()
    there = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert documented == there | {"GET /openapi.json"}


def test_every_status_is_documented() -> None:
    """The page of the HTTP API lists each status that a problem can have, with its type."""
    from reconciler.web.problems import TITLES

    page = (DOCS / "http-api.md").read_text()
    rows = dict(re.findall(r"^\| (\d{3}) \| (.+?) \|", page, re.MULTILINE))
    assert {int(status) for status in rows} == set(TITLES)
    assert all(f"`{kind}`" in rows[str(status)] for status, (kind, _title) in TITLES.items())
