"""Make the scripts of a new change from templates, as text; it reads and writes no file.

A template has `${name}` for what it is given, and `$${` for a `${` that stays.
"""

import posixpath
import re
from collections.abc import Callable, Mapping

from reconciler.changes.plan_model import Flavor
from reconciler.changes.psql_lexer import Form
from reconciler.changes.psql_words import quoted
from reconciler.errors import InvalidInput, NotFound, Problem
from reconciler.frozen import frozen

KINDS = ("deploy", "revert", "verify")
TEMPLATE_MAX = 256 * 1024
"""Characters of one template."""
_WHERE = {"deploy": "to", "revert": "from", "verify": "on"}
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}\n]*)\}?")

BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "change": {
        "deploy": "-- What the change does stands here.\n",
        "revert": "-- What takes it back stands here.\n",
        "verify": "-- What fails unless the change is there stands here.\n",
    },
    "create-schema": {
        "deploy": "CREATE SCHEMA ${object};\n",
        "revert": "DROP SCHEMA ${object};\n",
        "verify": "SELECT pg_catalog.has_schema_privilege(${object as text}, 'USAGE');\n",
    },
    "create-table": {
        "deploy": "CREATE TABLE ${schema}.${object} (\n"
        "    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY\n);\n",
        "revert": "DROP TABLE ${schema}.${object};\n",
        "verify": "SELECT id\nFROM ${schema}.${object}\nWHERE FALSE;\n",
    },
    "create-view": {
        "deploy": "CREATE VIEW ${schema}.${object} AS\nSELECT 1 AS id;\n",
        "revert": "DROP VIEW ${schema}.${object};\n",
        "verify": "SELECT id\nFROM ${schema}.${object}\nWHERE FALSE;\n",
    },
    "create-function": {
        "deploy": "CREATE FUNCTION ${schema}.${object}() RETURNS void\nLANGUAGE sql\nAS $$\n"
        "    SELECT\n$$;\n",
        "revert": "DROP FUNCTION ${schema}.${object}();\n",
        "verify": "SELECT pg_catalog.has_function_privilege(${function as text}, 'EXECUTE');\n",
    },
    "create-index": {
        "deploy": "-- transaction: none\n"
        "CREATE INDEX CONCURRENTLY ${object} ON ${schema}.${table} (${column});\n",
        "revert": "DROP INDEX ${schema}.${object};\n",
        "verify": "SELECT 1 / pg_catalog.count(*)\nFROM pg_catalog.pg_index\n"
        "WHERE indexrelid = ${relation as text}::pg_catalog.regclass AND indisvalid;\n",
    },
}
"""Bodies of scripts by template and kind; a header, and Sqitch's transaction, is put around them.

Names are put in as SQL writes them, `as text` as strings that name the same.
"""
_NAMES = ("object", "schema", "table", "column")
_QUOTED = re.compile(r'"(?:[^"]|"")+"')
_OF_COLUMNS = re.compile(r'[\s,()"]')
"""In what is given for a column: a list or an expression, which stays as it is."""


@frozen
class Scaffold:
    """What scripts are made for: a change of a project, and what the templates are given beside it."""

    project: str
    change: str
    flavor: Flavor
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None

    @property
    def variables(self) -> dict[str, str]:
        """All that templates may refer to; what was given goes before what follows from the name."""
        return {
            "project": self.project,
            "change": self.change,
            "object": posixpath.basename(self.change),
            "schema": "public",
            "requires": " ".join(self.requires),
            "conflicts": " ".join(self.conflicts),
            **(self.values or {}),
        }


@frozen
class Names:
    """How names are written in SQL: `quote` where that is needed, `why_not` says what can be none."""

    quote: Callable[[str], str]
    why_not: Callable[[str], str | None]


def scripts(
    scaffold: Scaffold, template: str, own: Mapping[str, Mapping[str, str]], names: Names
) -> dict[str, str]:
    """The scripts of a change by kind.

    `own` are the templates of the module by name and kind: used as they are, before built-in ones of the same
    name; a kind that one lacks is made as of a plain change. Raises NotFound for a template that is not
    there, InvalidInput for what it refers to and nobody gave.
    """
    if template not in own and template not in BUILT_IN:
        there = ", ".join(sorted({*own, *BUILT_IN}))
        raise NotFound(f"there is no template '{template}'", hint=f"there are: {there}")
    mine = own.get(template, {})
    built_in = BUILT_IN["change" if mine else template]
    made = {}
    for kind in KINDS:
        where = f"{kind} template '{template}'"
        if kind in mine:
            made[kind] = _filled(mine[kind], scaffold.variables, where)
        else:
            written = _as_sql(scaffold.variables, built_in[kind], where, names)
            made[kind] = _framed(scaffold, kind, _filled(built_in[kind], written, where))
    return made


def _as_sql(variables: Mapping[str, str], body: str, where: str, how: Names) -> dict[str, str]:
    """The variables with all that are names written as such; raises InvalidInput for what can be none."""
    names = {name: _name(variables[name]) for name in _NAMES if name in variables}
    problems = [
        Problem(message=f"'{name}': {why}", file=where, hint=f"give another with --set {name}=…")
        for name, value in names.items()
        if "${" + name in body and (why := how.why_not(value)) is not None
    ]
    if problems:
        raise InvalidInput(problems)
    written = {name: how.quote(value) for name, value in names.items()}
    column = variables.get("column", "")
    if _OF_COLUMNS.search(column):
        written["column"] = column
    relation = f"{written['schema']}.{written['object']}"
    texts = {"object": names["object"], "relation": relation, "function": f"{relation}()"}
    return {
        **variables,
        **written,
        **{f"{what} as text": quoted(text, Form.LITERAL) for what, text in texts.items()},
    }


def _name(given: str) -> str:
    """A name as it is meant; one may be given in quotes."""
    return given[1:-1].replace('""', '"') if _QUOTED.fullmatch(given) else given


def _filled(text: str, variables: Mapping[str, str], where: str) -> str:
    problems = []

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = (match[1] or "").strip()
        if name not in variables:
            line = text.count("\n", 0, match.start()) + 1
            hint = f"give it with --set {name}=…" if name else "write $${ for a ${ that stays"
            problems.append(Problem(message=f"'${{{name}}}' is not known", file=where, line=line, hint=hint))
            return ""
        return variables[name]

    filled = _VARIABLE.sub(value, text)
    if problems:
        raise InvalidInput(problems)
    return filled


def _framed(scaffold: Scaffold, kind: str, body: str) -> str:
    """Put the header of the flavor on top, and around the body the transaction that Sqitch expects."""
    change = scaffold.change
    if scaffold.flavor is Flavor.PGPM:
        head = [f"-- {kind.capitalize()}: {change}"]
    else:
        head = [f"-- {kind.capitalize()} {scaffold.project}:{change} {_WHERE[kind]} pg"]
    if kind == "deploy":
        head += [f"-- requires: {name}" for name in scaffold.requires]
        head += [f"-- conflicts: {name}" for name in scaffold.conflicts]
    outside = body.startswith("-- transaction: none\n")
    if outside:
        head.append("-- transaction: none")
        body = body.removeprefix("-- transaction: none\n")
    top = "\n".join(head)
    if scaffold.flavor is Flavor.PGPM or outside:
        return f"{top}\n\n{body}"
    return f"{top}\n\nBEGIN;\n\n{body}\n{'ROLLBACK' if kind == 'verify' else 'COMMIT'};\n"
