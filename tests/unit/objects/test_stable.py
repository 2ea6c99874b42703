"""What the catalog's answers mean for objects of stable schemas."""

from dataclasses import replace

import pytest

from reconciler.objects.model import ObjectSort
from reconciler.objects.stable import (
    SHOWN_MAX,
    Column,
    Signature,
    appended_only,
    column_differences,
    columns_problem,
    result_warning,
    routine_problem,
)
from tests.plugins.object_projects import sql_object

VIEW = sql_object("api.daily")


def columns(text: str) -> tuple[Column, ...]:
    pairs = (part.strip().rsplit(" ", 1) for part in text.split(",") if part.strip())
    return tuple(Column(name=name, type=type_name) for name, type_name in pairs)


@pytest.mark.parametrize(
    ("live", "built", "appended", "told"),
    [
        ("a int, b text", "a int, b text", True, ()),
        ("a int", "a int, b text", True, ("+ b text",)),
        ("a int, b text", "a int", False, ("- b text",)),
        ("a int", "a text", False, ("~ a: int -> text",)),
        ("a int", "b int", False, ("- a int", "+ b int")),
        ("a int, b int", "b int, a int", False, ("~ b stands where a stood", "~ a stands where b stood")),
        ("a int, c int", "a int, b int, c int", False, ("+ b int as column 2",)),
        ("Order int", "Order int, select int", True, ('+ "select" int',)),
    ],
    ids=["same", "appended", "gone", "type", "renamed", "order", "inside", "quoted"],
)
def test_columns_may_only_be_appended(live: str, built: str, appended: bool, told: tuple[str, ...]) -> None:
    """A view is replaced in place only where new columns stand behind those it has; the rest is named."""
    assert appended_only(columns(live), columns(built)) is appended
    assert column_differences(columns(live), columns(built)) == told
    assert (columns_problem(VIEW, columns(live), columns(built)) is None) is appended


def test_refusal_names_the_columns_and_the_way_out() -> None:
    """A refused replacement says which columns differ and what to do instead."""
    problem = columns_problem(VIEW, columns("day date, total int"), columns("day date, total bigint, n int"))
    assert str(problem) == (
        "objects/api/daily.sql: view api.daily is in a stable schema, and its columns may only be added to "
        "at the end: ~ total: int -> bigint; + n int (keep the columns as they are and add new ones behind "
        "them, or make a view of a new name)"
    )


def test_changed_result_is_told_of_once() -> None:
    """Another result type breaks prepared statements, and the warning says so; the same one says nothing."""
    assert result_warning(VIEW, columns("a int"), columns("a int")) is None
    warning = result_warning(VIEW, columns("a int"), columns("a int, b int"))
    assert warning is not None
    assert warning.message == "the result of view api.daily changes: + b int"
    assert "cached plan must not change result type" in str(warning)


def test_many_differences_are_cut() -> None:
    """Of hundreds of columns the first ones are named and the rest counted."""
    many = columns(", ".join(f"c{number} int" for number in range(100)))
    problem = columns_problem(VIEW, many, ())
    assert problem is not None
    assert problem.message.endswith(f"- c{SHOWN_MAX - 1} int; and {100 - SHOWN_MAX} more")


ONE = Signature(types="integer", parameters="n integer", result="numeric", defaults=1)


@pytest.mark.parametrize(
    ("built", "told"),
    [
        ([ONE], None),
        ([ONE, replace(ONE, types="text", parameters="t text")], None),
        ([replace(ONE, defaults=2)], None),
        ([], "- (integer)"),
        ([replace(ONE, result="text")], "~ (integer) returns numeric -> text"),
        ([replace(ONE, parameters="m integer")], "~ (n integer) -> (m integer)"),
        ([replace(ONE, defaults=0)], "~ (integer) has fewer defaults"),
    ],
    ids=["same", "overload", "default more", "gone", "result", "name", "default less"],
)
def test_routine_keeps_its_parameters_and_result(built: list[Signature], told: str | None) -> None:
    """A routine is replaced in place only where PostgreSQL replaces it; overloads may be added."""
    problem = routine_problem(sql_object("api.rate", sort=ObjectSort.FUNCTION), [ONE], built)
    assert (problem is None) is (told is None)
    if problem is not None:
        assert problem.message == (
            f"function api.rate is in a stable schema, and cannot be replaced in place: {told}"
        )
