"""What came of unit tests, as text for people and as JUnit XML; it runs none."""

import re
from collections.abc import Sequence
from enum import StrEnum
from xml.etree import ElementTree as ET

from reconciler.catalog.identifier import quote_qualified
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName
from reconciler.objects.unit_test_sql import MISSING, ROWS_MAX, UNEXPECTED

VALUE_MAX = 200
"""Characters of one value that are shown."""

TEXT_MAX = 64 * 1024
"""Characters that are written of what came of one test."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Outcome(StrEnum):
    """What came of a test: `failed` has other rows than expected, `error` could not be compared."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


@frozen
class DifferingRow:
    """A row that only one side has: `MISSING` or `UNEXPECTED`, and its values as text."""

    label: str
    values: tuple[str | None, ...]


@frozen
class UnitTestResult:
    """What came of one test; `rows` are at most one more than are shown, `message` says what went wrong."""

    name: ObjectName
    path: str
    line: int
    test: str
    outcome: Outcome
    columns: tuple[str, ...] = ()
    rows: tuple[DifferingRow, ...] = ()
    message: str = ""
    duration_s: float = 0.0

    @property
    def title(self) -> str:
        """Object and test as filters name them: `ops.late#empty`."""
        return f"{quote_qualified(self.name.schema, self.name.name)}#{self.test}"


def difference(result: UnitTestResult) -> tuple[str, ...]:
    """Write the rows that differ as a table, a line each, under the names of the columns."""
    shown = [(row.label, *(_value(value) for value in row.values)) for row in result.rows[:ROWS_MAX]]
    table = [("", *result.columns), *shown]
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table
    ]
    more = ["and more"] if len(result.rows) > ROWS_MAX else []
    return (*(line.rstrip() for line in lines), *more)


def summary(results: Sequence[UnitTestResult]) -> str:
    """Count what came of tests: `3 unit tests: 1 passed, 2 failed`."""
    counts = [
        f"{number} {outcome.value}"
        for outcome in Outcome
        if (number := sum(result.outcome is outcome for result in results))
    ]
    tests = "1 unit test" if len(results) == 1 else f"{len(results)} unit tests"
    return f"{tests}: {', '.join(counts)}" if counts else tests


def junit(results: Sequence[UnitTestResult]) -> str:
    """Write results as JUnit XML: a suite for each object, a case for each of its tests."""
    root = ET.Element("testsuites", _counts(results))
    by_object: dict[ObjectName, list[UnitTestResult]] = {}
    for result in results:
        by_object.setdefault(result.name, []).append(result)
    for name, own in by_object.items():
        title = _clean(quote_qualified(name.schema, name.name))
        suite = ET.SubElement(root, "testsuite", {"name": title, **_counts(own)})
        for result in own:
            _case(suite, title, result)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, title: str, result: UnitTestResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": title,
            "name": _clean(result.test),
            "file": _clean(result.path),
            "line": str(result.line),
            "time": f"{result.duration_s:.3f}",
        },
    )
    if result.outcome is Outcome.PASSED:
        return
    tag = "failure" if result.outcome is Outcome.FAILED else "error"
    told = ET.SubElement(case, tag, {"message": _clean(_headline(result))})
    told.text = _clean("\n".join(difference(result)) if result.rows else result.message)


def _headline(result: UnitTestResult) -> str:
    if not result.rows:
        return result.message.partition("\n")[0]
    shown = result.rows[:ROWS_MAX]
    more = " at least" if len(result.rows) > ROWS_MAX else ""
    counts = [f"{sum(row.label == label for row in shown)} {label}" for label in (MISSING, UNEXPECTED)]
    return f"rows differ:{more} {', '.join(counts)}"


def _counts(results: Sequence[UnitTestResult]) -> dict[str, str]:
    return {
        "tests": str(len(results)),
        "failures": str(sum(result.outcome is Outcome.FAILED for result in results)),
        "errors": str(sum(result.outcome is Outcome.ERROR for result in results)),
        "time": f"{sum(result.duration_s for result in results):.3f}",
    }


def _value(value: str | None) -> str:
    if value is None:
        return "NULL"
    shown = value if len(value) <= VALUE_MAX else f"{value[:VALUE_MAX]}…"
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")


def _clean(text: str) -> str:
    """Leave out what XML cannot hold, and what is too long."""
    shown = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
    return _NOT_XML.sub("�", shown)
