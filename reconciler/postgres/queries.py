"""Named queries: SQL stands in `.sql` files of the package that sends it, and is looked up by name.

The one place where text becomes a query: what becomes one was shipped, never built from input.
"""

import re
from functools import cache
from importlib import resources

from psycopg import sql

_HEADER = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*) :(?P<rows>one|many|exec)[ \t]*$", re.MULTILINE)
_LIKE_HEADER = re.compile(r"^--\s*name\s*:.*$", re.MULTILINE | re.IGNORECASE)


class Queries:
    """The named queries of one package."""

    def __init__(self, package: str, queries: dict[str, sql.SQL]) -> None:
        self._package = package
        self._queries = queries

    @classmethod
    def load(cls, package: str) -> "Queries":
        """Read `<package>/queries/*.sql`, once per process.

        Raises ValueError for a malformed header, an empty query and a name given twice.
        """
        return _load(package)

    def __getitem__(self, name: str) -> sql.SQL:
        try:
            return self._queries[name]
        except KeyError:
            raise LookupError(f"package '{self._package}' has no query named '{name}'") from None

    def __contains__(self, name: str) -> bool:
        return name in self._queries


def trusted(text: str) -> sql.SQL:
    """Text that this distribution ships, as a query."""
    return sql.SQL(text)


@cache
def _load(package: str) -> Queries:
    queries: dict[str, sql.SQL] = {}
    folder = resources.files(package).joinpath("queries")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".sql"):
            continue
        try:
            found = split(entry.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{package}/queries/{entry.name}: {error}") from None
        for name, text in found:
            if name in queries:
                raise ValueError(f"query '{name}' stands twice in package '{package}'")
            queries[name] = trusted(text)
    return Queries(package, queries)


def split(text: str) -> list[tuple[str, str]]:
    """Split a file at its `-- name:` headers; comments between header and statement are left out."""
    headers = list(_HEADER.finditer(text))
    for like in _LIKE_HEADER.finditer(text):
        if not _HEADER.fullmatch(like[0]):
            raise ValueError(f"'{like[0]}' is not a header: write '-- name: some_name :one|:many|:exec'")
    if _statement(text[: headers[0].start()] if headers else text):
        raise ValueError("a statement stands before the first header")
    found = []
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = _statement(text[header.end() : following.start() if following else len(text)])
        if not body:
            raise ValueError(f"query '{header['name']}' is empty")
        found.append((header["name"], body))
    return found


def _statement(text: str) -> str:
    """Without the comments above it and the semicolon after it."""
    lines = text.strip().splitlines()
    while lines and (lines[0].startswith("--") or not lines[0].strip()):
        lines.pop(0)
    return "\n".join(lines).strip().removesuffix(";").rstrip()
