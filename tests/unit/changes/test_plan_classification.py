"""What each mode accepts and refuses: strict as Sqitch, lenient as pgpm where it can mean something."""

from typing import NamedTuple

import pytest

from reconciler.changes import plan_file
from reconciler.changes.plan_file import Flavor
from reconciler.errors import PlanFileError, Problem

WHO = "2026-01-31T12:00:00Z Ann Example <ann@example.com>"
HEAD = "%syntax-version=1.0.0\n%project=p\n\n"
A, B = f"a {WHO}\n", f"b {WHO}\n"
V1 = f"@v1 {WHO}\n"
NO_BLANK = "invalid pragma; a blank line must come between pragmas and changes"
NO_TIME = "missing timestamp and planner name and email"
SHA = "ab" * 20


class Row(NamedTuple):
    """A plan, and what is said of it: nothing where it is accepted, else the first problem by line."""

    name: str
    text: str
    strict: str | None
    lenient: str | None


def alike(name: str, text: str, problem: str | None) -> Row:
    return Row(name, text, problem, problem)


ROWS = [
    alike("blanks around =", HEAD.replace("=", " = ") + A, None),
    alike("no syntax version", f"%project=p\n\n{A}", None),
    alike("no project", f"%uri=x\n\n{A}", "1: missing %project pragma"),
    Row("no blank line after the pragmas", f"%project=p\n{A}", f"2: {NO_BLANK}", None),
    Row("no timestamp", f"{HEAD}a\n", f"4: {NO_TIME}", None),
    Row("no planner", f"{HEAD}a 2026-01-31T12:00:00Z\n", "4: missing planner name and email", None),
    alike("note with a blank on one side", f"{HEAD}a {WHO}# note\n", None),
    alike("note with a blank on the other side", f"{HEAD}a {WHO} #note\n", None),
    alike("note with blanks", f"{HEAD}a {WHO} # note\n", None),
    Row(
        "offset",
        f"{HEAD}a 2026-01-31T12:00:00+02:00 Ann <a@x>\n",
        "4: missing timestamp",
        "4: expected a timestamp after the name and the dependencies",
    ),
    Row("deploy operator", f"{HEAD}+a {WHO}\n", None, "4: invalid change name '+a'"),
    Row("revert operator", f"{HEAD}-a {WHO}\n", None, "4: invalid change name '-a'"),
    alike("conflict", f"{HEAD}{A}b [!a] {WHO}\n", None),
    alike("itself", f"{HEAD}a [a] {WHO}\n", "4: change 'a' cannot require itself"),
    alike(
        "later change",
        f"{HEAD}a [b] {WHO}\n{B}",
        "4: change 'a' planned 1 change before required change 'b' (move 'a' down 1 line)",
    ),
    alike(
        "much later change",
        f"{HEAD}a [b] {WHO}\nc {WHO}\n{B}",
        "4: change 'a' planned 2 changes before required change 'b' (move 'a' down 2 lines)",
    ),
    alike(
        "cycle",
        f"{HEAD}a [c] {WHO}\nb [p:a] {WHO}\nc [b !a] {WHO}\n",
        "4: these changes require each other: a -> c -> b -> a",
    ),
    alike("unknown", f"{HEAD}a [zz] {WHO}\n", "4: unknown change 'zz' required by change 'a'"),
    alike("unknown tag", f"{HEAD}a [@v9] {WHO}\n", "4: unknown change '@v9' required by change 'a'"),
    alike(
        "later tag",
        f"{HEAD}{A}b [@v1] {WHO}\n{V1}",
        "5: change 'b' is planned before the required '@v1'",
    ),
    Row("dependency twice", f"{HEAD}{A}b [a a] {WHO}\n", "5: duplicate dependency 'a'", None),
    alike("comma", f"{HEAD}{A}{B}c [a, b] {WHO}\n", "6: 'a,' is not a valid dependency"),
    alike("relative dependency", f"{HEAD}{A}{B}c [@HEAD^] {WHO}\n", "6: '@HEAD^' is not a valid dependency"),
    alike("other project", f"{HEAD}a [q:b q:@v1 q:b@v1] {WHO}\n", None),
    alike("twice", f"{HEAD}{A}{A}", "5: change 'a' duplicates earlier declaration on line 4"),
    alike("rework", f"{HEAD}{A}{V1}a [a@v1] {WHO}\n", None),
    alike("tag twice", f"{HEAD}{A}{V1}{V1}", "6: tag 'v1' duplicates earlier declaration on line 5"),
    alike("tag first", f"{HEAD}{V1}{A}", "4: tag 'v1' declared without a preceding change"),
    Row(
        "tag with dependencies",
        f"{HEAD}{A}@v1 [a] {WHO}\n",
        "5: tags may not specify dependencies",
        "5: invalid change name '[a]'",
    ),
    Row("tag names its change", f"{HEAD}{A}{B}@v1 a {WHO}\n", "6: the timestamp is out of its place", None),
    alike("slash in a tag", f"{HEAD}{A}@v/x {WHO}\n", "5: tag 'v/x' contains the illegal character '/'"),
    Row("reserved name", f"{HEAD}HEAD {WHO}\n", "4: 'HEAD' is a reserved name", None),
    Row("like an id", f"{HEAD}{SHA} {WHO}\n", f"4: '{SHA}' could be confused with the id of a change", None),
    Row("nothing in brackets", f"{HEAD}a [] {WHO}\n", "4: empty dependencies", None),
    Row(
        "dependencies after the planner",
        f"{HEAD}{A}b {WHO} [a]\n",
        "5: unexpected text after the planner: '[a]'",
        "5: the planner is not well-formed",
    ),
    alike("indented", f"{HEAD}  {A}", None),
    alike("lines of Windows", f"{HEAD}{A}".replace("\n", "\r\n"), None),
    alike("letters", f"{HEAD}été/größe {WHO} # ☃\n", None),
    alike("no changes", HEAD, None),
    alike("sign with a number", f"{HEAD}a/1 {WHO}\n", "4: invalid change name 'a/1'"),
    alike("colon", f"{HEAD}a:b {WHO}\n", "4: invalid change name 'a:b'"),
    alike("open bracket", f"{HEAD}a [b {WHO}\n", "4: the dependencies are not closed"),
]
"""Every row of what the two programs accept. `strict` is what Sqitch itself says yes and no to."""


ONLY_ALONE = {"tag first", "cycle", "itself", "later change", "much later change"}
"""Rows that are right where the same names stand above them."""


def problems(text: str, flavor: Flavor) -> list[str]:
    """Return the problems of a plan, as people see them, without the name of the file."""
    found = problems_of(text, flavor)
    assert all(problem.file == "p.plan" and problem.line and problem.hint for problem in found)
    return [str(problem).removeprefix("p.plan:") for problem in found]


def problems_of(text: str, flavor: Flavor) -> tuple[Problem, ...]:
    try:
        plan_file.parse(text, "p.plan", flavor=flavor)
    except PlanFileError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("flavor", list(Flavor))
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_is_classified(row: Row, flavor: Flavor) -> None:
    """A `sqitch.plan` is accepted where Sqitch does; a `pgpm.plan` also where pgpm does and it can run."""
    expected = row.strict if flavor is Flavor.SQITCH else row.lenient
    found = problems(row.text, flavor)
    assert (found == []) if expected is None else found[0].startswith(expected)


@pytest.mark.parametrize("flavor", list(Flavor))
def test_all_rows_in_one_file_are_told_at_once(flavor: Flavor) -> None:
    """The problem of every bad row comes from one reading, each with its own line and hint."""
    bad = [
        row.text.removeprefix(HEAD)
        for row in ROWS
        if row.text.startswith(HEAD) and row.strict and row.lenient and row.name not in ONLY_ALONE
    ]
    body = "".join(f"{chunk}@end{number} {WHO}\n" for number, chunk in enumerate(bad))
    lines = {int(problem.split(":")[0]) for problem in problems(f"{HEAD}{A}@v0 {WHO}\n{body}", flavor)}
    first = 6
    for chunk in bad:
        length = chunk.count("\n") + 1
        assert lines & set(range(first, first + length)), chunk
        first += length
