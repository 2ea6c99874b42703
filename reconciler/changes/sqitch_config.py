"""Read a module's `sqitch.conf`, as far as it says where plan and scripts are, and variables of scripts."""

import posixpath
import re
from collections.abc import Mapping

from reconciler.changes.plan_model import Change
from reconciler.errors import PlanFileError, Problem
from reconciler.frozen import frozen

CONFIG_MAX = 256 * 1024

_SECTION = re.compile(r'\[[ \t]*([A-Za-z0-9.-]+)(?:[ \t]+"((?:[^"\\]|\\.)*)")?[ \t]*\][ \t]*(.*)')
_SETTING = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)[ \t]*(?:=[ \t]*(.*))?")
_PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"|\\(.)|([#;].*)|([^"\\#;]+)|(.)')
_BACKSLASH = re.compile(r"\\(.)")
_UNEVEN = re.compile(r"/[./]|/$")
_VARIABLES = ".variables"
_LETTERS = {"n": "\n", "t": "\t", "b": "\b"}


@frozen
class ScriptPlaces:
    """Where a module's files are: POSIX paths from the root of the source."""

    plan_file: str
    directories: Mapping[str, str]
    reworked_directories: Mapping[str, str]
    extension: str = "sql"

    def directory(self, kind: str, change: Change) -> str:
        """Return the directory of the deploy, revert or verify scripts, as far as it holds for a change."""
        reworked = change.instance != change.name
        return (self.reworked_directories if reworked else self.directories)[kind]

    def script(self, kind: str, change: Change, name: str) -> str:
        """Return the file of a script of a change under one of its names."""
        directory, file = self.directory(kind, change), f"{name}.{self.extension}"
        if directory not in ("", ".") and not file.startswith(("/", ".")) and not _UNEVEN.search(file):
            # As nearly all are; directories are brought into this form already.
            return f"{directory}/{file}"
        return posixpath.normpath(posixpath.join(directory, file))


def places(module: str, settings: Mapping[str, str] | None = None) -> ScriptPlaces:
    """Return where the files of a module directory are; without settings, Sqitch's own defaults."""
    config = settings or {}

    def value(name: str) -> str | None:
        return config.get(f"engine.pg.{name}", config.get(f"core.{name}"))

    def at(path: str | None, *default: str) -> str:
        return posixpath.normpath(posixpath.join(*((module, path) if path is not None else default)))

    top = at(value("top_dir"), module, ".")
    reworked = at(value("reworked_dir"), top)
    directories = {name: at(value(f"{name}_dir"), top, name) for name in ("deploy", "revert", "verify")}
    again = {
        name: at(
            value(f"reworked_{name}_dir"), *_default(value("reworked_dir"), reworked, directories[name], name)
        )
        for name in directories
    }
    return ScriptPlaces(
        plan_file=at(value("plan_file"), top, "sqitch.plan"),
        directories=directories,
        reworked_directories=again,
        extension=value("extension") or "sql",
    )


def variables(kind: str, settings: Mapping[str, str] | None) -> dict[str, str]:
    """Return the variables that scripts of a kind (deploy, revert, verify) find, as Sqitch ranks them."""
    found: dict[str, str] = {}
    for section in ("core", kind, "engine.pg"):
        prefix = f"{section}{_VARIABLES}."
        found.update(
            (name.removeprefix(prefix), value)
            for name, value in (settings or {}).items()
            if name.startswith(prefix)
        )
    return found


def _default(reworked_dir: str | None, reworked: str, directory: str, name: str) -> tuple[str, ...]:
    return (reworked, name) if reworked_dir is not None else (directory,)


def parse(text: str, file: str) -> dict[str, str]:
    """Read Git's configuration syntax into `section.subsection.name` → value; the last one wins.

    A file with problems raises a `PlanFileError` that holds all of them.
    """
    if len(text) > CONFIG_MAX:
        message = f"the configuration has {len(text)} characters, more than the limit of {CONFIG_MAX}"
        raise PlanFileError([Problem(message=message, file=file)])
    values: dict[str, str] = {}
    problems: list[Problem] = []
    section: str | None = None
    for number, line in _logical_lines(text):
        rest = line.strip()
        heading = _SECTION.fullmatch(rest)
        if heading is not None:
            name = heading[1].lower()
            section = name if heading[2] is None else f"{name}.{_BACKSLASH.sub(_second, heading[2])}"
            rest = heading[3].strip()
        if not rest or rest[0] in "#;":
            continue
        setting = _SETTING.fullmatch(rest)
        read = None if setting is None else _value(setting[2])
        if setting is None or section is None or read is None:
            hint = "a line is: [section], or: name = value"
            problems.append(
                Problem(message="not a setting of sqitch.conf", file=file, line=number, hint=hint)
            )
        else:
            # Names of variables keep their case, as they do in Sqitch.
            name = setting[1] if section.endswith(_VARIABLES) else setting[1].lower()
            values[f"{section}.{name}"] = read
    if problems:
        raise PlanFileError(problems)
    return values


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Join lines that end in a backslash."""
    found: list[tuple[int, str]] = []
    parts: list[str] = []
    for number, ended in enumerate(text.split("\n"), start=1):
        line = ended.removesuffix("\r")
        trailing = len(line) - len(line.rstrip("\\"))
        if trailing % 2:
            parts.append(line[:-1])
        else:
            found.append((number - len(parts), "".join([*parts, line])))
            parts = []
    if parts:
        found.append((text.count("\n") + 1, "".join(parts)))
    return found


def _value(text: str | None) -> str | None:
    """Read a value with its quotes, escapes and comment; None where a quote is not closed."""
    if text is None:
        return "true"
    value = ""
    protected = 0  # blanks at the end count only inside quotes
    for piece in _PIECE.finditer(text):
        quoted, escaped, comment, plain, stray = piece.groups()
        if stray is not None:
            return None
        if plain is not None:
            value += plain
        elif comment is None:
            value += _LETTERS.get(escaped, escaped) if escaped else _BACKSLASH.sub(_letter, quoted)
            protected = len(value)
    return value[:protected] + value[protected:].rstrip()


def _second(match: re.Match[str]) -> str:
    return match[1]


def _letter(match: re.Match[str]) -> str:
    return _LETTERS.get(match[1], match[1])
