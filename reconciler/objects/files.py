"""From paths of files to names: a path is the identity of what its file makes; no file is read here."""

from collections.abc import Iterable

from reconciler.catalog.identifier import why_not_a_name
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName

OBJECTS_MAX = 20_000
"""Files of one project."""

_SUFFIX = ".sql"
_LAYOUT = "objects are in SCHEMA/OBJECT.sql, what is about a whole schema in SCHEMA.sql"


@frozen
class Layout:
    """What the files of a project are: of objects and of schemas, each with its key among the files."""

    objects: tuple[tuple[str, ObjectName], ...]
    schemas: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


def is_of_server(schema: str) -> bool:
    """Whether a schema is one that the server brings, in which nobody makes anything."""
    return schema == "information_schema" or schema.startswith("pg_")


def path_of(root: str, key: str) -> str:
    """Return the path of a file from the root of the source."""
    return key if root in ("", ".") else f"{root.rstrip('/')}/{key}"


def layout(root: str, keys: Iterable[str]) -> Layout:
    """Name what files are about, in order; what is no `.sql` file is left alone."""
    objects: list[tuple[str, ObjectName]] = []
    schemas: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for key in sorted(keys):
        if not key.endswith(_SUFFIX):
            if key.lower().endswith(_SUFFIX):
                problems.append(_problem(root, key, f"files end in '{_SUFFIX}', in small letters", _LAYOUT))
            continue
        *folders, name = key.removesuffix(_SUFFIX).split("/")
        if wrong := _why_not(folders, name):
            problems.append(_problem(root, key, *wrong))
        elif folders:
            objects.append((key, ObjectName(folders[0], name)))
        else:
            schemas.append((key, name))
    if len(objects) > OBJECTS_MAX:
        message = f"the project has {len(objects)} objects, more than the limit of {OBJECTS_MAX}"
        return Layout(objects=(), schemas=(), problems=(Problem(file=root, message=message),))
    return Layout(objects=tuple(objects), schemas=tuple(schemas), problems=tuple(problems))


def _why_not(folders: list[str], name: str) -> tuple[str, str | None] | None:
    if len(folders) > 1:
        return "the file is too deep in folders", _LAYOUT
    for each in (*folders, name):
        if reason := why_not_a_name(each):
            return f"the path names no object: {reason}", _LAYOUT
        if "'" in each or not each.isprintable():
            return "the path has a quote or a control character", "give the object a plain name"
    schema = folders[0] if folders else name
    if is_of_server(schema):
        return f"schema '{schema}' is the server's own", "names that begin with 'pg_' are reserved"
    return None


def _problem(root: str, key: str, message: str, hint: str | None) -> Problem:
    return Problem(file=path_of(root, key), message=message, hint=hint)
