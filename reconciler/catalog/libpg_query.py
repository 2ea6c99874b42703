"""Call PostgreSQL's own parser, libpg_query; only `sql_text` may use this.

The library comes in the wheel `postgast` (BSD-2). Its Python layer is not used: it turns every tree into
protobuf messages and takes 150 ms to import, while the JSON of the C function is all that is needed here.
The library is loaded at the first call, for start-up time counts. Docs: `docs/adr/0001-sql-parser.md`.
"""

import sys
from collections.abc import Callable
from functools import cache

from reconciler.errors import PermanentError

GRAMMAR = "pg18"
"""The PostgreSQL version whose grammar the library has; trees of different versions do not compare."""


class ParseFailure(Exception):
    """The parser refused a text; `cursor` is the 1-based character, 0 where it is not known."""

    def __init__(self, message: str, cursor: int) -> None:
        super().__init__(message)
        self.message = message
        self.cursor = cursor


def parse_json(text: bytes) -> bytes:
    """Parse UTF-8 SQL without NUL and return the tree as JSON; positions in the tree count bytes."""
    return _parser()(text)


@cache
def _parser() -> Callable[[bytes], bytes]:
    """Load the library and describe the one function that is called."""
    import ctypes

    class Error(ctypes.Structure):
        _fields_ = (
            ("message", ctypes.c_char_p),
            ("funcname", ctypes.c_char_p),
            ("filename", ctypes.c_char_p),
            ("lineno", ctypes.c_int),
            ("cursorpos", ctypes.c_int),
            ("context", ctypes.c_char_p),
        )

    class Result(ctypes.Structure):
        _fields_ = (
            ("parse_tree", ctypes.c_char_p),
            ("stderr_buffer", ctypes.c_char_p),
            ("error", ctypes.POINTER(Error)),
        )

    try:
        library = ctypes.CDLL(library_file())
        parse, free = library.pg_query_parse, library.pg_query_free_parse_result
    except (OSError, AttributeError) as error:
        raise PermanentError(
            "cannot load the PostgreSQL parser of the package 'postgast'",
            hint="reinstall it for this platform: pip install --force-reinstall postgast",
        ) from error
    parse.argtypes, parse.restype = (ctypes.c_char_p,), Result
    free.argtypes, free.restype = (Result,), None

    def call(text: bytes) -> bytes:
        result = parse(text)
        try:
            if result.error:
                error = result.error.contents
                raise ParseFailure(
                    (error.message or b"syntax error").decode("utf-8", "replace"), error.cursorpos
                )
            tree: bytes = result.parse_tree
            return tree
        finally:
            free(result)

    return call


def library_file() -> str:
    """Where the library is."""
    from importlib.util import find_spec

    found = find_spec("postgast")
    if found is None or not found.submodule_search_locations:
        raise PermanentError(
            "cannot find the PostgreSQL parser: the package 'postgast' is not installed",
            hint="pip install postgast",
        )
    name = {"darwin": "libpg_query.dylib", "win32": "pg_query.dll"}.get(sys.platform, "libpg_query.so")
    return f"{found.submodule_search_locations[0]}/{name}"
