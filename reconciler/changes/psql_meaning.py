"""A hash of what a script for psql says, whatever its layout and whatever the values of its variables."""

import hashlib
import posixpath
from collections.abc import Iterator, Mapping

from reconciler.changes.expansion import SourceText
from reconciler.changes.psql_lexer import Kind, Scanner, tokens_of

PREFIX = "psql1:"
"""Hashes of another prefix do not compare with these."""
_DEPTH_MAX = 30
_FILES_MAX = 1000
_INCLUDES = {"i": False, "include": False, "ir": True, "include_relative": True}


def meaning(script: SourceText, root: str, texts: Mapping[str, bytes]) -> str:
    """Hash a script with what it includes, also in the branches that are not taken now.

    A value is no part of it: a variable that gets another one is no edit of the script. A file whose path
    holds a variable is no part either.
    """
    digest = hashlib.sha256()
    for token in _Walk(root, texts).tokens(script, (script.path,)):
        digest.update(token.encode("utf-8", "surrogatepass") + b"\0")
    return PREFIX + digest.hexdigest()


class _Walk:
    def __init__(self, root: str, texts: Mapping[str, bytes]) -> None:
        self._root, self._texts, self._left = root, texts, _FILES_MAX

    def tokens(self, source: SourceText, within: tuple[str, ...]) -> Iterator[str]:
        scanner = Scanner(source.text)
        while (piece := scanner.next()) is not None:
            text = source.text[piece.start : piece.end]
            if piece.kind is Kind.COMMAND:
                written = scanner.skip_arguments().strip()
                yield " ".join([text, *written.split()])
                yield from self._included(piece.name, written, source, within)
            elif piece.kind is Kind.SQL:
                yield from tokens_of(text)
            elif piece.kind is not Kind.SPACE:
                yield text
            if piece.kind is Kind.END:
                data = scanner.data()
                if data is not None:
                    yield source.text[data.start : data.end]

    def _included(
        self, command: str, written: str, source: SourceText, within: tuple[str, ...]
    ) -> Iterator[str]:
        relative = _INCLUDES.get(command)
        if relative is None or self._left <= 0 or len(within) >= _DEPTH_MAX:
            return
        here = posixpath.dirname(source.path) if relative else self._root
        path = posixpath.normpath(posixpath.join(here, written.strip("'")))
        content = self._texts.get(path)
        if content is None or path in within:
            return
        self._left -= 1
        text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
        yield from self.tokens(SourceText(path, text), (*within, path))
