"""Assertions: live names in a query are told where the objects stand, and nothing else is touched."""

import pytest

from reconciler.errors import InvalidInput
from reconciler.objects.assertions import check, staged_query
from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Placement, plan
from reconciler.objects.model import BuiltObject, Production, Project
from reconciler.objects.project import compile_project

FILES = {
    "sales/daily.sql": "CREATE VIEW daily AS SELECT 1 AS total",
    "sales/Odd É.sql": 'CREATE VIEW "Odd É" AS SELECT 1 AS total',
    "sales/rate.sql": "CREATE FUNCTION rate() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "other/kept.sql": "CREATE VIEW kept AS SELECT 1 AS total",
}


def compiled() -> Project:
    made = compile_project("objects", FILES, variables={}, externals=())
    assert made.project is not None, made.problems
    return made.project


def placement(project: Project) -> Placement:
    """Of a generation in which `sales` is built, and `other` stays as it is."""
    built = {
        name: BuiltObject(name=name, sort=one.sort, hash=one.hash, metadata_hash=one.metadata_hash)
        for name, one in project.objects.items()
        if name.schema == "other"
    }
    live = Production(objects=built, schemas={"other": False})
    return Placement.of(plan(project, live, dirty(project, live), key="k"))


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("SELECT 1 FROM sales.daily WHERE total < 0", "SELECT 1 FROM {sales}.daily WHERE total < 0"),
        (
            'SELECT sales."Odd É".total /* sales.daily */ FROM sales."Odd É"',
            'SELECT {sales}."Odd É".total /* sales.daily */ FROM {sales}."Odd É"',
        ),
        (
            "-- first\nWITH daily AS (TABLE sales.daily) SELECT 'sales.daily' FROM daily, other.kept;",
            "WITH daily AS (TABLE {sales}.daily) SELECT 'sales.daily' FROM daily, other.kept",
        ),
        (
            "SELECT sales.rate(), 'sales.daily'::regclass FROM public.orders",
            "SELECT {sales}.rate(), '{sales}.daily'::regclass FROM public.orders",
        ),
        ("VALUES (1)", "VALUES (1)"),
    ],
    ids=["relation", "odd-names", "hidden-by-with", "called", "values"],
)
def test_an_assertion_reads_what_is_staged_and_else_what_is_live(written: str, sent: str) -> None:
    """Mentions of what is built name its staging schema; strings, comments and the rest stay as written."""
    project = compiled()
    place = placement(project)

    assert check(project, "a", written) == ()
    assert staged_query(project, place, "a", written) == sent.format(sales=place.staging["sales"])


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("SELECT 1; SELECT 2", "is not one query"),
        ("DELETE FROM sales.daily", "is not one query"),
        ("SELECT 1 INTO sales.gone", "is not one query"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1 FROM sales.gone", "which is not in the project"),
        ('SELECT 1 FROM U&"s\\0061les".daily', "written with escapes"),
    ],
    ids=["two", "writes", "makes-a-table", "no-sql", "gone", "escaped"],
)
def test_what_is_wrong_with_an_assertion_is_told_before_it_runs(written: str, told: str) -> None:
    """An assertion is one query over objects that are in the project, or outside of its schemas."""
    project = compiled()
    problem = check(project, "no-gaps", written)[0]

    assert told in problem.message
    assert "no-gaps" in problem.message
    with pytest.raises(InvalidInput):
        staged_query(project, placement(project), "no-gaps", written)
