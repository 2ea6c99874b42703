"""SQL stands in .sql files under names; every name is used and every use has a query."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted({path.parent.parent for path in (ROOT / "reconciler").glob("*/queries/*.sql")})
HEADER = re.compile(r"^-- name: (\w+) :(one|many|exec)\s*$", re.MULTILINE)
STATEMENT = re.compile(
    r"^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE (TABLE|SCHEMA|INDEX)|ALTER TABLE|DROP)\s",
    re.IGNORECASE,
)


def names(package: Path) -> list[str]:
    return [name for path in package.glob("queries/*.sql") for name, _ in HEADER.findall(path.read_text())]


def sources(package: Path) -> str:
    return "\n".join(path.read_text() for path in package.rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_query_is_used_by_its_name(package: Path) -> None:
    """A named query that no module of its package names is dead."""
    text = sources(package)
    unused = [name for name in names(package) if f'"{name}"' not in text]
    assert not unused


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_query_says_what_it_is_for(package: Path) -> None:
    """The line under a query's name is a comment."""
    for path in package.glob("queries/*.sql"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if HEADER.match(line):
                assert lines[number + 1].startswith("-- "), f"{path.name}:{number + 1}"


NOT_SENT = frozenset(
    f"reconciler/{name}.py"
    for name in (
        "catalog/sql_facts",
        "catalog/sql_text",
        "changes/scaffold",
        "cli/demo",
        "cli/demo_files",
        "objects/staging_text",
        "objects/unit_test_sql",
        "state/locks",
    )
)
"""Names of statements, for people or to look up; scripts of a sample repository, and of new changes; what is
made of the texts of a project's objects."""


def test_no_sql_in_python_strings() -> None:
    """Statements stand in .sql files, where they are linted and read as a whole."""
    found = []
    for path in sorted((ROOT / "reconciler").rglob("*.py")):
        if str(path.relative_to(ROOT)) in NOT_SENT:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {node.value[:60]!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and STATEMENT.match(node.value)
            and any(word in node.value for word in ("FROM", "INTO", "SET", "TABLE", "SCHEMA"))
        ]
    assert not found
