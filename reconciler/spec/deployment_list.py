"""Lists of deployments in files of their own, CSV or YAML, as values with every problem at its place.

A row is a name and variables, perhaps a wave; what all have in common stands in the spec, secrets above all.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.spec import text_rules, yaml_text
from reconciler.spec.environment import DEPLOYMENTS_MAX, WAVES_MAX
from reconciler.spec.fields import VARIABLES_MAX
from reconciler.spec.words import did_you_mean, shown
from reconciler.spec.yaml_text import Document, MappingNode, Mark, ScalarNode, SequenceNode

PROBLEMS_MAX = 100
SUFFIXES = (".csv", ".yaml", ".yml")
OWN_COLUMNS = ("name", "wave")
_SECRET_COLUMNS = frozenset({"postgres", "dsn", "provisionDsn", "password"})
_WAVE = re.compile(r"[0-9]{1,4}")
_EMPTY_HINT = "a list is never empty, so that nothing looks as if everybody had left; remove deploymentsFrom"


@frozen
class Listed:
    """One deployment of a list; `marks` says where each of its columns stands."""

    name: str
    variables: Mapping[str, str]
    wave: int | None
    mark: Mark
    marks: Mapping[str, Mark] = field(default_factory=dict)


@frozen
class DeploymentList:
    """What a file lists, in its order; where there are problems, as much as is sound."""

    file: str
    rows: tuple[Listed, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Row:
    """A row as it is written: cells by column, each with its place."""

    mark: Mark
    cells: Mapping[str, tuple[object, Mark]]


class _Problems:
    """Collects what is wrong with one file, within a bound."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[Problem] = []
        self._more = 0

    def add(self, mark: Mark, message: str, hint: str | None = None) -> None:
        """Note a problem at its place."""
        if len(self._found) >= PROBLEMS_MAX:
            self._more += 1
            return
        self._found.append(
            Problem(file=self._file, line=mark.line, column=mark.column, message=message, hint=hint)
        )

    def told(self) -> tuple[Problem, ...]:
        """All of them; what is beyond the bound is counted."""
        if not self._more:
            return tuple(self._found)
        return (*self._found, Problem(file=self._file, message=f"and {self._more} more problems"))


def read_list(file: str, content: bytes) -> DeploymentList:
    """Read a list; bad text never raises, and takes bounded time and memory."""
    if not file.endswith(SUFFIXES):
        hint = "give it a name that ends in .csv or .yaml"
        return DeploymentList(
            file=file, rows=(), problems=(Problem(file=file, message="is no CSV or YAML file", hint=hint),)
        )
    problems = _Problems(file)
    if file.endswith(".csv"):
        text, problem = yaml_text.decoded(file, content, "a CSV file")
        if problem is not None:
            return DeploymentList(file=file, rows=(), problems=(problem,))
        rows = list(_csv_rows(text, problems))
    else:
        loaded = yaml_text.load(file, content)
        if loaded.problems:
            return DeploymentList(file=file, rows=(), problems=loaded.problems)
        rows = list(_yaml_rows(loaded.documents, problems))
    found = _judged(rows, problems)
    return DeploymentList(file=file, rows=tuple(found), problems=problems.told())


def _csv_rows(text: str, problems: _Problems) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: Sequence[str] | None = None
    rows = 0
    while True:
        mark = Mark(reader.line_num + 1, 1)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problems.add(Mark(max(reader.line_num, 1), 1), f"is not CSV: {error}", "quote it as CSV does")
            return
        if cells is None:
            break
        if not cells:
            continue
        if columns is None:
            columns = cells
            if not _are_columns(columns, mark, problems):
                return
            continue
        rows += 1
        if rows > DEPLOYMENTS_MAX:
            problems.add(mark, f"lists more than {DEPLOYMENTS_MAX} deployments", "split the environment")
            return
        if len(cells) != len(columns):
            problems.add(mark, f"has {len(cells)} cells, and there are {len(columns)} columns")
            continue
        pairs = zip(columns, cells, strict=True)
        # An empty cell says nothing: what all have in common holds.
        yield _Row(mark=mark, cells={column: (cell, mark) for column, cell in pairs if cell})
    if not rows:
        problems.add(Mark(1, 1), "lists no deployments", _EMPTY_HINT)


def _are_columns(columns: Sequence[str], mark: Mark, problems: _Problems) -> bool:
    if "name" not in columns:
        hint = "the first line names the columns, separated by commas; one of them is name"
        problems.add(mark, "has no column 'name'", hint)
        return False
    if len(columns) > VARIABLES_MAX + len(OWN_COLUMNS):
        problems.add(mark, f"has more than {VARIABLES_MAX} columns of variables")
        return False
    seen: set[str] = set()
    sound = True
    for column in columns:
        if column in seen:
            problems.add(mark, f"column {shown(column)} stands there twice")
            sound = False
        seen.add(column)
        sound = _is_column(column, mark, problems) and sound
    return sound


def _is_column(column: str, mark: Mark, problems: _Problems) -> bool:
    if column in OWN_COLUMNS:
        return True
    if column in _SECRET_COLUMNS:
        hint = "it stands in deploymentsFrom of the spec, as a reference; columns are variables for it"
        problems.add(mark, f"column '{column}' is not for a list: it holds no secrets", hint)
        return False
    if column.lower() in OWN_COLUMNS or column.strip() in OWN_COLUMNS:
        problems.add(mark, f"unknown column {shown(column)}", did_you_mean(column, OWN_COLUMNS, "columns"))
        return False
    broken = text_rules.variable_name(column)
    if broken is not None:
        problems.add(mark, f"column {shown(column)} {broken.message}", broken.hint)
        return False
    return True


def _yaml_rows(documents: Sequence[Document], problems: _Problems) -> Iterator[_Row]:
    root = documents[0].root if documents else None
    if len(documents) > 1:
        problems.add(documents[1].root.mark, "a list is one document", "remove the others")
    if not isinstance(root, SequenceNode):
        mark = root.mark if root is not None else Mark(1, 1)
        problems.add(mark, "must be a list of deployments", "write it as in - {name: acme, region: eu}")
        return
    if not root.items:
        problems.add(root.mark, "lists no deployments", _EMPTY_HINT)
    if len(root.items) > DEPLOYMENTS_MAX:
        problems.add(root.mark, f"lists more than {DEPLOYMENTS_MAX} deployments", "split the environment")
        return
    told: set[str] = set()
    for item in root.items:
        if not isinstance(item, MappingNode):
            problems.add(item.mark, "must be a mapping", "write it as in - {name: acme, region: eu}")
            continue
        cells: dict[str, tuple[object, Mark]] = {}
        for key, value in item.entries.items():
            if key not in told and not _is_column(key, item.keys.get(key, item.mark), problems):
                told.add(key)
            if key not in told:
                plain = value.value if isinstance(value, ScalarNode) else value
                cells[key] = (plain, value.mark)
        yield _Row(mark=item.mark, cells=cells)


def _judged(rows: Sequence[_Row], problems: _Problems) -> Iterator[Listed]:
    first: dict[str, Mark] = {}
    for row in rows:
        name, mark = row.cells.get("name", (None, row.mark))
        if not isinstance(name, str) or not name:
            problems.add(mark, "has no name" if name is None else "a name must be text, in quotes")
            continue
        broken = text_rules.name(name)
        if broken is not None:
            problems.add(mark, f"name {shown(name)} {broken.message}", broken.hint)
            continue
        if name in first:
            problems.add(
                mark, f"duplicate deployment '{name}'", f"the first one is in line {first[name].line}"
            )
            continue
        first[name] = mark
        yield Listed(
            name=name,
            variables=dict(_variables(row, problems)),
            wave=_wave(row, problems),
            mark=row.mark,
            marks={column: mark for column, (_cell, mark) in row.cells.items()},
        )


def _variables(row: _Row, problems: _Problems) -> Iterator[tuple[str, str]]:
    for column, (cell, mark) in row.cells.items():
        if column in OWN_COLUMNS:
            continue
        if not isinstance(cell, str):
            hint = "put it in quotes" if isinstance(cell, bool | int | float) else None
            problems.add(mark, f"'{column}' must be text", hint)
            continue
        broken = text_rules.short_text(cell)
        if broken is not None:
            problems.add(mark, f"'{column}' {broken.message}", broken.hint)
            continue
        yield column, cell


def _wave(row: _Row, problems: _Problems) -> int | None:
    cell, mark = row.cells.get("wave", (None, row.mark))
    if cell is None:
        return None
    number = int(cell) if isinstance(cell, str) and _WAVE.fullmatch(cell) else cell
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= WAVES_MAX:
        problems.add(mark, f"'wave' must be a whole number from 0 to {WAVES_MAX}")
        return None
    return number
