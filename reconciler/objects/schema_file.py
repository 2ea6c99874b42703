"""Read the file of a schema: its owner, grants, default privileges, comment, and settings while building."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from reconciler.catalog import sql_text
from reconciler.catalog.identifier import quote_identifier
from reconciler.catalog.sql_text import Tree
from reconciler.errors import Problem
from reconciler.objects.model import Mention, ObjectName, SqlSchema, SqlStatement
from reconciler.objects.name_text import end_of
from reconciler.objects.reading import next_start, strings, words_until
from reconciler.objects.source_file import SourceFile
from reconciler.objects.words import Finding, meant

SETTINGS = (
    "jit",
    "lock_timeout",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "statement_timeout",
    "work_mem",
)
"""Parameters that may be set while the objects of a schema are built."""

_ALLOWED = (
    "the file of a schema says ALTER SCHEMA … OWNER TO, GRANT … ON SCHEMA, "
    "ALTER DEFAULT PRIVILEGES IN SCHEMA, COMMENT ON SCHEMA, SET api = stable "
    "and SET of settings while building"
)


@dataclass(slots=True)
class _Reading:
    """What was read so far of one file."""

    file: SourceFile
    name: str
    findings: list[Finding] = field(default_factory=list)
    stable: bool = False
    owner: str | None = None
    grants: list[SqlStatement] = field(default_factory=list)
    default_privileges: list[SqlStatement] = field(default_factory=list)
    comment: SqlStatement | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def wrong(self, offset: int, message: str, hint: str | None = None) -> None:
        self.findings.append(Finding(offset=offset, message=message, hint=hint))


def read(file: SourceFile, name: str) -> tuple[SqlSchema, tuple[Problem, ...]]:
    """Read a file; what is wrong is left out of the schema."""
    reading = _Reading(file, name)
    try:
        for tree in sql_text.trees(file.text):
            _statement(reading, tree)
    except sql_text.SyntaxProblem as problem:
        reading.wrong(problem.offset, problem.message_alone)
    schema = SqlSchema(
        name=name,
        path=file.path,
        stable=reading.stable,
        owner=reading.owner,
        grants=tuple(reading.grants),
        default_privileges=tuple(reading.default_privileges),
        comment=reading.comment,
        settings=tuple(sorted(reading.settings.items())),
        metadata_hash=_metadata_hash(reading),
    )
    return schema, file.problems(reading.findings)


def _statement(reading: _Reading, tree: Tree) -> None:
    body = tree.body
    match tree.node:
        case "AlterOwnerStmt" if body.get("objectType") == "OBJECT_SCHEMA":
            _owner(reading, tree)
        case "GrantStmt" if body.get("objtype") == "OBJECT_SCHEMA":
            found = _placed(reading, tree, strings(body.get("objects")), "on", "schema")
            reading.grants.extend(found)
        case "AlterDefaultPrivilegesStmt":
            options = {each["DefElem"]["defname"]: each["DefElem"] for each in body.get("options") or ()}
            items = options.get("schemas", {}).get("arg", {}).get("List", {}).get("items")
            reading.default_privileges.extend(_placed(reading, tree, strings(items), "in", "schema"))
        case "CommentStmt" if body.get("objtype") == "OBJECT_SCHEMA":
            if reading.comment is not None:
                reading.wrong(tree.start, "the schema is commented on twice", "leave one of the comments")
            named = (str(body["object"].get("String", {}).get("sval", "")),)
            reading.comment = next(iter(_placed(reading, tree, named, "on", "schema")), reading.comment)
        case "VariableSetStmt":
            _setting(reading, tree)
        case _:
            reading.wrong(tree.start, f"{tree.kind} cannot stand in the file of a schema", _ALLOWED)


def _owner(reading: _Reading, tree: Tree) -> None:
    role = tree.body.get("newowner") or {}
    named = (str(tree.body["object"].get("String", {}).get("sval", "")),)
    if not _placed(reading, tree, named, "alter", "schema"):
        return
    if role.get("roletype") != "ROLESPEC_CSTRING":
        reading.wrong(tree.start, "the owner of a schema must be named", "who builds may be anybody")
    elif reading.owner is not None:
        reading.wrong(tree.start, "the schema is given an owner twice", "leave one of the statements")
    else:
        reading.owner = str(role["rolename"])


def _placed(reading: _Reading, tree: Tree, named: tuple[str, ...], *before: str) -> tuple[SqlStatement, ...]:
    """Make a statement with the mention of its schema, whose name stands behind some words."""
    if named != (reading.name,):
        schemas = ", ".join(quote_identifier(each) for each in named) or "every schema"
        message = f"{tree.kind} is about {schemas}, not about schema '{reading.name}' alone"
        reading.wrong(tree.start, message, f"write it for schema {quote_identifier(reading.name)}")
        return ()
    text = reading.file.text[tree.start : tree.end]
    behind = words_until(text, 0, *before)
    start = 0 if behind is None else next_start(text, behind)
    end = end_of(text, start, named)
    if end is None:
        reading.wrong(
            tree.start, "the name is written with escapes", "write it plainly, in double quotes if need be"
        )
        return ()
    mention = Mention(start=start, end=end, target=ObjectName(reading.name, ""))
    return (SqlStatement(text=text, line=reading.file.line(tree.start), mentions=(mention,)),)


def _setting(reading: _Reading, tree: Tree) -> None:
    body = tree.body
    name, arguments = str(body.get("name", "")), list(body.get("args") or ())
    if name == "api":
        if [_value(each) for each in arguments] == ["stable"]:
            reading.stable = True
        else:
            reading.wrong(tree.start, "the only api of a schema is stable", "write SET api = stable")
    elif name not in SETTINGS:
        hint = meant(name, SETTINGS) or f"settings while building: {', '.join(SETTINGS)}; SET api = stable"
        reading.wrong(tree.start, f"'{name}' cannot be set for a schema", hint)
    elif body.get("kind") != "VAR_SET_VALUE" or len(arguments) != 1 or body.get("is_local"):
        hint = f"write SET {name} = VALUE: it holds while objects of the schema are built"
        reading.wrong(tree.start, f"'{name}' must be set to one value", hint)
    elif name in reading.settings:
        reading.wrong(tree.start, f"'{name}' is set twice", "leave one of the statements")
    else:
        reading.settings[name] = _value(arguments[0])


def _value(argument: dict[str, Any]) -> str:
    constant = argument.get("A_Const", {})
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    if "boolval" in constant:
        return "on" if constant["boolval"].get("boolval") else "off"
    return str(constant.get("fval", {}).get("fval") or constant.get("ival", {}).get("ival", 0))


def _metadata_hash(reading: _Reading) -> str:
    """Hash what can be changed in place; layout and the order of grants do not move it."""
    statements = [*reading.grants, *reading.default_privileges]
    parts = sorted(sql_text.parse_hash(each.text) for each in statements)
    if any(each.text[:6].lower() == "revoke" for each in reading.grants):
        parts = [sql_text.parse_hash(each.text) for each in statements]
    comment = sql_text.parse_hash(reading.comment.text) if reading.comment else ""
    if not (parts or comment or reading.owner):
        return ""
    digest = hashlib.sha256("\n".join([*parts, comment, reading.owner or ""]).encode("utf-8", "replace"))
    return f"{sql_text.GRAMMAR}:{digest.hexdigest()}"
