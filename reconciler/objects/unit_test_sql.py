"""The SQL of a unit test of an object: what stands for what it reads, the object itself, and the comparison.

All of it is made in scratch schemas, in one transaction that is rolled back. It sends nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from reconciler.catalog.identifier import quote_identifier, quote_literal, quote_qualified
from reconciler.errors import InvalidInput, NotFound, Problem
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName, ObjectSort, Project, Rows, SqlObject, UnitTest
from reconciler.objects.stable import Column
from reconciler.objects.staging_text import renamed

ROWS_MAX = 100
"""Differing rows that are read of one test; one more is asked for, to know whether there are more."""

MISSING = "MISSING"
UNEXPECTED = "UNEXPECTED"

_WITHOUT_EQUALITY = {"json": "jsonb", "xml": "text"}
"""Types that PostgreSQL does not compare, and what is compared in their place."""


@frozen
class SetupText:
    """One statement that a test needs, and what it makes, to say what did not work."""

    makes: str
    text: str


@frozen
class UnitTestTexts:
    """What runs one test: `setup`, then the columns of `actual` and `expected`, then `compare`.

    `compare` returns a label and every column as text for each row that differs; none is a pass. `mocked` are
    the relations that stand for others, whose columns can be held against those of the live ones.
    """

    name: ObjectName
    test: str
    setup: tuple[SetupText, ...]
    actual: ObjectName
    expected: ObjectName
    compare: str
    mocked: Mapping[ObjectName, ObjectName]


def selected(project: Project, filters: Sequence[str] = ()) -> tuple[tuple[SqlObject, UnitTest], ...]:
    """Return the tests that match any of some filters (`schema.object#test`, with `*`), all without one.

    A filter that matches nothing is an error: whoever mistyped it would take silence for a pass.
    """
    every = [
        (f"{wanted.name.schema}.{wanted.name.name}", test.name, wanted, test)
        for wanted in project.objects.values()
        for test in wanted.tests
    ]
    matched = set[int]()
    for each in filters:
        of_object, _, of_test = each.partition("#")
        found = {
            number
            for number, (name, test_name, _, _) in enumerate(every)
            if fnmatchcase(name, of_object) and fnmatchcase(test_name, of_test or "*")
        }
        if not found:
            raise NotFound(
                f"no unit test matches '{each}'",
                hint=f"of {len(every)} unit tests; write schema.object#test, with * for any letters",
            )
        matched |= found
    return tuple(
        (wanted, test)
        for number, (_, _, wanted, test) in enumerate(every)
        if not filters or number in matched
    )


def check(project: Project) -> tuple[Problem, ...]:
    """Return what is wrong with the unit tests of a project, as far as that shows without running them."""
    return tuple(
        problem
        for wanted in project.objects.values()
        for test in wanted.tests
        for problem in _problems(wanted, test, _called(wanted, project))
    )


def texts(wanted: SqlObject, test: UnitTest, project: Project, *, scratch: str) -> UnitTestTexts:
    """Return what runs a test; `scratch` begins the names of its schemas. Raises all problems at once.

    Relations keep their names in schemas of their own: a query may name a column by its relation.
    """
    called = _called(wanted, project)
    problems = tuple(_problems(wanted, test, called))
    if problems:
        raise InvalidInput(problems)
    names = _scratch_names(wanted, test, called, scratch)
    rows = f"{scratch}_rows"
    actual, expected = ObjectName(rows, "actual"), ObjectName(rows, "expected")
    mocked = {mock.relation: names[mock.relation] for mock in test.mocks if mock.relation is not None}
    return UnitTestTexts(
        name=wanted.name,
        test=test.name,
        setup=(
            *_schemas(names, rows),
            *_mocks(test, names),
            *_objects((*called, wanted), names),
            SetupText(makes="the result", text=_actual(actual, names[wanted.name], wanted, test)),
            SetupText(makes="the rows that are expected", text=_view(expected, test.expected)),
        ),
        actual=actual,
        expected=expected,
        compare=_compare(actual, expected, test.expected),
        mocked=mocked,
    )


def _schemas(names: Mapping[ObjectName, ObjectName], rows: str) -> Iterator[SetupText]:
    for schema in (*sorted({name.schema for name in names.values()}), rows):
        yield SetupText(makes="a scratch schema", text=f"CREATE SCHEMA {quote_identifier(schema)}")


def _mocks(test: UnitTest, names: Mapping[ObjectName, ObjectName]) -> Iterator[SetupText]:
    for mock in test.mocks:
        if mock.relation is not None:
            shown = quote_qualified(mock.relation.schema, mock.relation.name)
            yield SetupText(makes=f"the mock of {shown}", text=_view(names[mock.relation], mock))


def _objects(made: Sequence[SqlObject], names: Mapping[ObjectName, ObjectName]) -> Iterator[SetupText]:
    for one in made:
        for statement in one.creates:
            yield SetupText(makes=one.identity, text=renamed(statement, names))


def result_problems(
    wanted: SqlObject, test: UnitTest, actual: Sequence[Column], expected: Sequence[Column]
) -> tuple[Problem, ...]:
    """Hold the columns of a result against those expected, types without their modifiers; all must agree."""
    has, wants = _types(actual), _types(expected)
    return tuple(
        _problem(wanted, test, message)
        for message in (
            *(f"column {quote_identifier(name)} is not in the result" for name in wants if name not in has),
            *(f"column {quote_identifier(name)} is not expected" for name in has if name not in wants),
            *_other_types("the result has", has, wants),
        )
    )


def mock_problems(
    wanted: SqlObject, test: UnitTest, relation: ObjectName, live: Sequence[Column], mock: Sequence[Column]
) -> tuple[Problem, ...]:
    """Hold the columns of a mock against those of the live relation; it may have fewer."""
    has, wants = _types(live), _types(mock)
    shown = quote_qualified(relation.schema, relation.name)
    gone = (f"{shown} has no column {quote_identifier(name)}" for name in wants if name not in has)
    messages = (*gone, *_other_types(f"{shown} has", has, wants))
    return tuple(_problem(wanted, test, f"in its mock, {message}") for message in messages)


def _called(wanted: SqlObject, project: Project) -> tuple[SqlObject, ...]:
    """Return the routines that an object calls, and those that they call, in dependency order.

    Nothing stands for a routine: it is made as it is.
    """
    found: set[ObjectName] = set()
    pending = [wanted]
    while pending:
        for name in pending.pop().depends_on:
            need = project.objects.get(name)
            if need is not None and need.sort.is_routine and name not in found:
                found.add(name)
                pending.append(need)
    return tuple(one for name, one in project.objects.items() if name in found and name != wanted.name)


def _reads(wanted: SqlObject, called: Sequence[SqlObject]) -> dict[ObjectName, SqlObject]:
    """Return the relations that have to be mocked, each with who reads it first."""
    routines = {wanted.name, *(one.name for one in called)}
    reads: dict[ObjectName, SqlObject] = {}
    for reader in (wanted, *called):
        for name in sorted({*reader.depends_on, *reader.externals} - routines):
            reads.setdefault(name, reader)
    return reads


def _problems(wanted: SqlObject, test: UnitTest, called: Sequence[SqlObject]) -> Iterator[Problem]:
    if wanted.sort is ObjectSort.PROCEDURE:
        yield _problem(wanted, test, "a procedure has no result that could be compared")
    if test.arguments and not wanted.sort.is_routine:
        yield _problem(wanted, test, f"a {wanted.sort.value} is called with nothing")
    reads = _reads(wanted, called)
    mocks = [mock.relation for mock in test.mocks if mock.relation is not None]
    for name, reader in reads.items():
        if name not in mocks:
            shown = quote_qualified(name.schema, name.name)
            who = "it" if reader is wanted else f"{reader.identity}, which it calls,"
            yield _problem(
                wanted,
                test,
                f"nothing stands for {shown}, which {who} reads",
                hint=f"add MOCK {shown}(column type, …) AS (query)",
            )
    for name in dict.fromkeys(mocks):
        shown = quote_qualified(name.schema, name.name)
        if name not in reads:
            yield _problem(wanted, test, f"{shown} is mocked, and it does not read it", hint="take it out")
        if mocks.count(name) > 1:
            yield _problem(wanted, test, f"{shown} is mocked twice", hint="keep one of them")


def _problem(wanted: SqlObject, test: UnitTest, message: str, *, hint: str | None = None) -> Problem:
    return Problem(
        message=f"unit test '{test.name}' of {wanted.identity}: {message}",
        file=wanted.path,
        line=test.line,
        hint=hint,
    )


def _scratch_names(
    wanted: SqlObject, test: UnitTest, called: Sequence[SqlObject], scratch: str
) -> dict[ObjectName, ObjectName]:
    """Give every object of a test its name again, in a schema that stands for its own."""
    mocks = (mock.relation for mock in test.mocks if mock.relation is not None)
    every = sorted({wanted.name, *(one.name for one in called), *mocks})
    numbers = {schema: number for number, schema in enumerate(dict.fromkeys(name.schema for name in every))}
    return {name: ObjectName(f"{scratch}_{numbers[name.schema]}", name.name) for name in every}


def _view(name: ObjectName, rows: Rows) -> str:
    """Write rows as a view of the columns that are declared.

    A union with as many empty columns makes the server refuse a query that has more or fewer of them.
    """
    alias = "given"
    columns = ", ".join(quote_identifier(column) for column, _ in rows.columns)
    casts = ", ".join(
        f"CAST({alias}.{quote_identifier(column)} AS {type_name}) AS {quote_identifier(column)}"
        for column, type_name in rows.columns
    )
    nothing = ", ".join("NULL" for _ in rows.columns)
    return (
        f"CREATE VIEW {quote_qualified(name.schema, name.name)} AS SELECT {casts} "
        f"FROM (SELECT {nothing} WHERE false UNION ALL (\n{rows.query}\n)) AS {alias} ({columns})"
    )


def _actual(actual: ObjectName, made: ObjectName, wanted: SqlObject, test: UnitTest) -> str:
    source = quote_qualified(made.schema, made.name)
    if wanted.sort.is_routine:
        columns = ", ".join(quote_identifier(column) for column, _ in test.expected.columns)
        source += f"(\n{test.arguments}\n) AS result ({columns})"
    return f"CREATE VIEW {quote_qualified(actual.schema, actual.name)} AS SELECT * FROM {source}"


def _compare(actual: ObjectName, expected: ObjectName, rows: Rows) -> str:
    """Subtract both ways, keeping duplicates; each side is computed once, for it may be volatile."""
    columns = [quote_identifier(column) for column, _ in rows.columns]
    listed = ", ".join(columns)
    compared = ", ".join(
        f"CAST({quoted} AS {other}) AS {quoted}"
        if (other := _WITHOUT_EQUALITY.get(type_name.strip().lower()))
        else quoted
        for quoted, (_, type_name) in zip(columns, rows.columns, strict=True)
    )
    as_text = ", ".join(f"CAST({column} AS text)" for column in columns)
    order = ", ".join(str(number) for number in range(1, len(columns) + 2))
    sides = [
        f"{side} AS MATERIALIZED (SELECT {compared} FROM {quote_qualified(name.schema, name.name)})"
        for side, name in (("actual", actual), ("expected", expected))
    ]
    differences = [
        f"SELECT {quote_literal(label)}, {as_text} FROM "
        f"(SELECT {listed} FROM {one} EXCEPT ALL SELECT {listed} FROM {other}) AS differing"
        for label, one, other in ((MISSING, "expected", "actual"), (UNEXPECTED, "actual", "expected"))
    ]
    return f"WITH {', '.join(sides)} {' UNION ALL '.join(differences)} ORDER BY {order} LIMIT {ROWS_MAX + 1}"


def _types(columns: Sequence[Column]) -> dict[str, str]:
    return {column.name: column.type for column in columns}


def _other_types(what: str, has: Mapping[str, str], wants: Mapping[str, str]) -> Iterator[str]:
    for name, type_name in wants.items():
        if has.get(name, type_name) != type_name:
            yield f"{what} column {quote_identifier(name)} as {has[name]}, declared is {type_name}"
