"""Read the file of one object: which statement is what, and everything that is wrong with them."""

from collections.abc import Iterable

from reconciler.catalog import sql_text
from reconciler.catalog.sql_text import Tree
from reconciler.errors import Problem
from reconciler.objects import companions, creates, unit_test_text
from reconciler.objects.companions import CommentDraft
from reconciler.objects.creates import Created
from reconciler.objects.drafts import Draft, IndexDraft, ObjectDraft
from reconciler.objects.model import ObjectName, ObjectSort
from reconciler.objects.reading import Reading
from reconciler.objects.source_file import SourceFile
from reconciler.objects.unit_test_text import WrittenTest
from reconciler.objects.words import joined, shown

_MODULE = "tables, sequences, types and triggers belong to a Module, whose changes keep what is stored"
_HINTS = {
    "CreateStmt": _MODULE,
    "CreateTableAsStmt": _MODULE,
    "CreateForeignTableStmt": _MODULE,
    "CreateSeqStmt": _MODULE,
    "CreateTrigStmt": _MODULE,
    "CreateEnumStmt": _MODULE,
    "CompositeTypeStmt": _MODULE,
    "CreateDomainStmt": _MODULE,
    "CreateRangeStmt": _MODULE,
    "DefineStmt": "aggregates, operators, types and collations belong to a Module",
    "CreateSchemaStmt": "leave it out: a schema follows from its folder",
    "CreateExtensionStmt": "extensions are named by the Database: extensions: […]",
    "DropStmt": "leave it out: an object goes when its file does",
    "VariableSetStmt": "settings while building are in SCHEMA.sql: SET work_mem = …",
    "TransactionStmt": "leave it out: what is built is built in transactions",
    "AlterOwnerStmt": "the owner of a schema and of its objects is in SCHEMA.sql: ALTER SCHEMA … OWNER TO …",
    "AlterDefaultPrivilegesStmt": "default privileges are in SCHEMA.sql",
    "GrantRoleStmt": "members of roles are not objects",
    "RenameStmt": "rename the file and what it makes",
    "AlterTableStmt": "an object is changed where it is made: write it in its CREATE",
    "AlterFunctionStmt": "an object is changed where it is made: write it in its CREATE",
    "AlterObjectSchemaStmt": "move the file to the folder of the other schema",
    **dict.fromkeys(
        (
            "SelectStmt",
            "InsertStmt",
            "UpdateStmt",
            "DeleteStmt",
            "MergeStmt",
            "CallStmt",
            "DoStmt",
            "CopyStmt",
        ),
        "a file holds definitions, nothing that runs",
    ),
    "RefreshMatViewStmt": "leave it out: materialized views are filled when they are built",
}
_ALLOWED = (
    "a file makes one view, materialized view, function or procedure, with indexes, grants, comments "
    "and unit tests"
)


def read(file: SourceFile, name: ObjectName) -> tuple[ObjectDraft | None, tuple[Problem, ...]]:
    """Read a file; without a draft where it makes nothing that could be used."""
    reading = Reading(file, name)
    cut = unit_test_text.cut(file.text)
    reading.findings.extend(cut.findings)
    try:
        trees = sql_text.trees(cut.text)
    except sql_text.SyntaxProblem as problem:
        reading.wrong(problem.offset, problem.message_alone, _syntax_hint(file.text, problem.offset))
        return None, file.problems(reading.findings)
    draft = _object(reading, trees, cut.tests)
    return draft, file.problems(reading.findings)


def _syntax_hint(text: str, offset: int) -> str | None:
    if text.startswith("\\", offset):
        return "commands of psql are not read here"
    if text[offset : offset + 12].lower() == "materialized" and "replace" in text[:offset].lower()[-20:]:
        return "leave OR REPLACE out: there is none for materialized views, and none is needed"
    return None


def _object(reading: Reading, trees: tuple[Tree, ...], tests: tuple[WrittenTest, ...]) -> ObjectDraft | None:
    made = _created(reading, trees)
    if not made:
        if not reading.findings:
            reading.wrong(0, f"the file makes no object {shown(reading.name)}", _ALLOWED)
        return None
    first = made[0]
    reading.overloaded = len(made) > 1
    indexes, grants, comments = _companions(reading, trees, first.sort)
    _check_tests(reading, tests, first.sort)
    drafts = (
        *(each.draft for each in made), *(each.draft for each in indexes), *grants,
        *(each.draft for each in comments),
    )  # fmt: skip
    return ObjectDraft(
        name=reading.name,
        sort=first.sort,
        creates=tuple(each.draft for each in made),
        indexes=indexes,
        grants=grants,
        comments=tuple(each.draft for each in comments),
        options=first.options,
        tests=tests,
        questions=tuple(dict.fromkeys(one.question for each in drafts for one in each.references)),
        words=frozenset().union(*(each.words for each in made)),
    )


def _created(reading: Reading, trees: Iterable[Tree]) -> list[Created]:
    """Read what the file makes: one object, or overloads of one routine; and refuse what is no part of it."""
    made: list[Created] = []
    signatures: set[tuple[str, ...]] = set()
    for tree in trees:
        sort = creates.sort_of(tree)
        if sort is None:
            if tree.node not in ("IndexStmt", "GrantStmt", "CommentStmt"):
                hint = joined(_HINTS.get(tree.node), None if tree.node in _HINTS else _ALLOWED)
                reading.wrong(tree.start, f"{tree.kind} cannot stand in the file of an object", hint)
            continue
        created = creates.read(reading, tree, sort)
        if created is None:
            continue
        if made and (made[0].sort is not sort or not sort.is_routine):
            message = (
                f"a second object: the file makes the {made[0].sort.value} {shown(reading.name)} already"
            )
            reading.wrong(tree.start, message, "every object has a file of its own")
            continue
        if created.signature in signatures and sort.is_routine:
            message = f"{shown(reading.name)} is made twice with the same arguments"
            reading.wrong(tree.start, message, "overloads differ in the types of their arguments")
            continue
        signatures.add(created.signature)
        made.append(created)
    return made


def _companions(
    reading: Reading, trees: Iterable[Tree], sort: ObjectSort
) -> tuple[tuple[IndexDraft, ...], tuple[Draft, ...], tuple[CommentDraft, ...]]:
    indexes: list[IndexDraft] = []
    grants: list[Draft] = []
    commented: list[Tree] = []
    for tree in trees:
        if tree.node == "IndexStmt" and (found := companions.index(reading, tree, sort)) is not None:
            indexes.append(found)
        elif tree.node == "GrantStmt" and (grant := companions.grant(reading, tree, sort)) is not None:
            grants.append(grant)
        elif tree.node == "CommentStmt":
            commented.append(tree)
    names = frozenset(each.name for each in indexes if each.name)
    if len(names) < sum(bool(each.name) for each in indexes):
        reading.wrong(indexes[-1].draft.offset, "two indexes of the file have one name")
    comments: dict[str, CommentDraft] = {}
    for tree in commented:
        comment = companions.comment(reading, tree, sort, names)
        if comment is not None and comment.key in comments:
            reading.wrong(tree.start, "the same thing is commented on twice", "leave one of the comments")
        elif comment is not None:
            comments[comment.key] = comment
    return tuple(indexes), tuple(grants), tuple(comments.values())


def _check_tests(reading: Reading, tests: Iterable[WrittenTest], sort: ObjectSort) -> None:
    name = reading.name
    for test in tests:
        if test.target and test.target not in ((name.name,), (name.schema, name.name)):
            message = f"unit test '{test.name}' is for another object than {shown(name)}"
            reading.wrong(test.target_start, message, "write it in the file of what it tests")
        elif sort is ObjectSort.PROCEDURE:
            reading.wrong(test.start, "a procedure returns no rows to test", "test a function or a view")
        elif sort is ObjectSort.FUNCTION and test.arguments is None:
            hint = f"write EXECUTE UNIT TEST {test.name} FOR {name.name}(…) …"
            reading.wrong(test.start, f"unit test '{test.name}' does not say what it calls", hint)
        elif not sort.is_routine and test.arguments is not None:
            reading.wrong(
                test.target_start, f"a {sort.value} takes no arguments", "leave the parentheses out"
            )
