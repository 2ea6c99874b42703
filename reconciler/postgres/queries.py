"""Named queries: SQL stands in `.sql` files of the package that sends it, and is looked up by name.

The one place where text becomes a query: what is cast here was shipped, never built from input.
"""

import re
from functools import cache
from importlib import resources
from typing import LiteralString, cast

from psycopg import sql

_HEADER = re.compile(r"^-- name: (?P<name>\w+) :(?P<rows>one|many|exec)[ \t]*$", re.MULTILINE)


class Queries:
    """The named queries of one package."""

    def __init__(self, package: str, queries: dict[str, sql.SQL]) -> None:
        self._package = package
        self._queries = queries

    @classmethod
    def load(cls, package: str) -> "Queries":
        """Read `<package>/queries/*.sql`; once per process. Raises ValueError for a name given twice."""
        return _load(package)

    def __getitem__(self, name: str) -> sql.SQL:
        try:
            return self._queries[name]
        except KeyError:
            raise LookupError(f"package '{self._package}' has no query named '{name}'") from None

    def __contains__(self, name: str) -> bool:
        return name in self._queries


@cache
def _load(package: str) -> Queries:
    queries: dict[str, sql.SQL] = {}
    folder = resources.files(package).joinpath("queries")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            for name, text in split(entry.read_text(encoding="utf-8")):
                if name in queries:
                    raise ValueError(f"query '{name}' stands twice in package '{package}'")
                queries[name] = sql.SQL(cast("LiteralString", text))
    return Queries(package, queries)


def split(text: str) -> list[tuple[str, str]]:
    """Split a file at its `-- name:` headers; comments between header and statement are left out."""
    found = []
    headers = list(_HEADER.finditer(text))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = text[header.end() : following.start() if following else len(text)]
        lines = body.strip().splitlines()
        while lines and (lines[0].startswith("--") or not lines[0].strip()):
            lines.pop(0)
        found.append((header["name"], "\n".join(lines).strip().removesuffix(";")))
    return found
