"""Read `.control` files, written as PostgreSQL's extension control files are; it installs nothing."""

import re

from reconciler.errors import PlanFileError, Problem
from reconciler.frozen import frozen

CONTROL_MAX = 64 * 1024

_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=?[ \t]*('(?:[^'\\]|\\.|'')*'|[^\s'#=]*)[ \t]*(?:#.*)?")
_ESCAPE = re.compile(r"''|\\([0-7]{1,3}|.)", re.DOTALL)
_NAME = re.compile(r'\s*+(?:"((?:[^"]|"")+)"|([^\s",]+))\s*+(?:(,)|\Z)')
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@frozen
class ControlFile:
    """A control file: the module's name is the file's; `requires` names modules and extensions as written."""

    file: str
    name: str
    default_version: str | None = None
    comment: str | None = None
    requires: tuple[str, ...] = ()


def parse(text: str, file: str) -> ControlFile:
    """Read a control file; one with problems raises a `PlanFileError` that holds all of them."""
    if len(text) > CONTROL_MAX:
        message = f"the control file has {len(text)} characters, more than the limit of {CONTROL_MAX}"
        raise PlanFileError([Problem(message=message, file=file)])
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            hint = "a line is: name = 'value'"
            problems.append(
                Problem(message="not a setting of a control file", file=file, line=number, hint=hint)
            )
        else:
            values[match[1].lower()] = _unquoted(match[2])
    requires = _names(values.get("requires", ""))
    if requires is None:
        message = f"'requires' is not a list of names: {values['requires'][:200]!r}"
        problems.append(Problem(message=message, file=file, hint="separate the names by commas"))
    if problems:
        raise PlanFileError(problems)
    return ControlFile(
        file=file,
        name=file.rsplit("/", 1)[-1].removesuffix(".control"),
        default_version=values.get("default_version"),
        comment=values.get("comment"),
        requires=requires or (),
    )


def _unquoted(value: str) -> str:
    if not value.startswith("'"):
        return value
    return _ESCAPE.sub(_character, value[1:-1])


def _character(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped is None:
        return "'"
    if escaped[0] in "01234567":
        return chr(int(escaped, 8) % 256)
    return _LETTERS.get(escaped, escaped)


def _names(text: str) -> tuple[str, ...] | None:
    """Read a comma list of names, which may stand in double quotes; None where it is none."""
    names: list[str] = []
    position = 0 if text.strip() else -1
    while position >= 0:
        match = _NAME.match(text, position)
        if match is None:
            return None
        names.append(match[1].replace('""', '"') if match[1] else match[2])
        position = match.end() if match[3] else -1
    return tuple(dict.fromkeys(names))
