"""Which commands and settings of psql are passed over, and which are refused and why; and its quoting."""

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.changes.psql_lexer import Form

IGNORED = frozenset(
    {
        "a", "C", "encoding", "f", "H", "html", "pset", "t", "T", "timing", "x",
    }
)  # fmt: skip
"""Commands that only say how psql shows results, which nobody reads here."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is refused, and what to do instead."""

    message: str
    hint: str


_INSTEAD: Mapping[str, str] = {
    "copy": "write COPY … FROM stdin; with the data below it, ended by a line '\\.'",
    "gset": "a value is known before the script runs: declare a variable, or work in SQL",
    "gexec": "write the statements out, or run them with EXECUTE in a DO block",
    "gdesc": "take it out",
    "g": "end the statement with ';'",
    "gx": "end the statement with ';'",
    ";": "end the statement with ';'",
    "crosstabview": "take it out",
    "watch": "take it out",
    "c": "one change goes to one database: the module's",
    "connect": "one change goes to one database: the module's",
    "!": "no program is run: make it a job",
    "setenv": "no program is run, so that an environment variable means nothing: take it out",
    "getenv": "declare a variable in the spec",
    "prompt": "nobody is there to answer: declare a variable in the spec",
    "password": "a secret never stands in a script",
    "o": "results are not kept: take it out",
    "out": "results are not kept: take it out",
    "w": "results are not kept: take it out",
    "q": "take it out, or put the rest between \\if and \\endif",
    "quit": "take it out, or put the rest between \\if and \\endif",
    "cd": "includes start from the module's folder, \\ir from the file's: take it out",
    ".": "it ends the data of COPY … FROM stdin, and none are open here",
}


def refusal(command: str) -> Refusal:
    """Say why a command is refused, and what to do."""
    hint = _INSTEAD.get(command, "take it out, or write it in SQL")
    return Refusal(f"'\\{command[:40]}' of psql is not carried out", hint)


_FIXED: Mapping[str, tuple[frozenset[str], str]] = {
    "ON_ERROR_STOP": (frozenset({"", "1", "on", "true", "yes"}), "an error always stops a script"),
    "AUTOCOMMIT": (
        frozenset({"", "1", "on", "true", "yes"}),
        "transactions are those that BEGIN and COMMIT make",
    ),
    "ON_ERROR_ROLLBACK": (frozenset({"off", "0", "false", "no"}), "an error always stops a script"),
    "SINGLELINE": (frozenset({"off", "0", "false", "no"}), "a statement ends with ';'"),
}


def setting_refused(name: str, value: str) -> Refusal | None:
    """Say why one of psql's own settings cannot have a value; None for every other variable."""
    taken = _FIXED.get(name)
    if taken is None or value.lower() in taken[0]:
        return None
    return Refusal(f"'\\set {name} {value[:40]}' cannot be followed: {taken[1]}", "take it out")


def quoted(value: str, form: Form) -> str:
    """A value as it is put in: as it stands, as a literal or as an identifier."""
    if form is Form.LITERAL:
        inside = value.replace("'", "''")
        return f"'{inside}'" if "\\" not in inside else " E'" + inside.replace("\\", "\\\\") + "'"
    if form is Form.IDENTIFIER:
        return '"' + value.replace('"', '""') + '"'
    return value
