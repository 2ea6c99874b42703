"""Hashes of what objects mean: layout, comments in the text and spelling of names do not move them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from reconciler.catalog import sql_text
from reconciler.catalog.identifier import quote_qualified
from reconciler.objects.drafts import Draft
from reconciler.objects.model import Mention, SqlStatement


def splice(text: str, pieces: Iterable[tuple[int, int, str]]) -> str:
    """Replace pieces of a text, which are in order and do not overlap."""
    parts: list[str] = []
    copied = 0
    for start, end, by in pieces:
        parts += (text[copied:start], by)
        copied = end
    parts.append(text[copied:])
    return "".join(parts)


def qualified(mention: Mention) -> str:
    """Return the full name of what is mentioned."""
    name = mention.target.name if mention.index is None else mention.index
    return quote_qualified(mention.target.schema, name)


def statement_hash(draft: Draft, statement: SqlStatement) -> str:
    """Hash a statement with every name in full, and without what the hash leaves out."""
    named = sorted((*statement.mentions, *statement.outside), key=lambda each: each.start)
    pieces = [(each.start, each.end, qualified(each)) for each in named if not each.in_body]
    pieces += [(start, end, " ") for start, end in draft.unhashed]
    body = draft.body
    if body is None:
        return sql_text.parse_hash(splice(draft.text, sorted(pieces)))
    pieces.append((*body.literal, "''"))
    inside = [
        (each.start - body.start, each.end - body.start, qualified(each)) for each in named if each.in_body
    ]
    text = splice(draft.text[body.start : body.end], inside)
    if body.doubled:
        text = text.replace("''", "'")
    hashed = sql_text.parse_hash(text) if body.is_sql else hashlib.sha256(_bytes(text)).hexdigest()
    return f"{sql_text.parse_hash(splice(draft.text, sorted(pieces)))} {hashed}"


def metadata_statement_hash(draft: Draft, statement: SqlStatement) -> str:
    """Hash a grant or a comment; the object's own name is left out, which makes most of them alike."""
    named = sorted((*statement.mentions, *statement.outside), key=lambda each: each.start)
    own = {(each.start, each.end) for each in draft.own if each.index is None}
    pieces = [
        (each.start, each.end, "own" if (each.start, each.end) in own else qualified(each)) for each in named
    ]
    return sql_text.parse_hash(splice(draft.text, pieces))


def definition_hash(creates: Iterable[str], indexes: Iterable[str]) -> str:
    """Hash an object from the hashes of its statements; their order is no part of it."""
    return _joined([*sorted(creates), "indexes", *sorted(indexes)])


def metadata_hash(
    grants: Sequence[tuple[str, bool]], comments: Iterable[str], options: Mapping[str, str]
) -> str:
    """Hash what can be changed in place; grants are hashes with whether they take away.

    The order of grants counts only where one takes away what another gives.
    """
    hashes = [hashed for hashed, _ in grants]
    if not any(takes for _, takes in grants):
        hashes.sort()
    stated = [f"{name}={value}" for name, value in sorted(options.items())]
    return _joined([*hashes, "comments", *sorted(comments), "options", *stated])


def _joined(parts: Iterable[str]) -> str:
    digest = hashlib.sha256(_bytes("\n".join(parts)))
    return f"{sql_text.GRAMMAR}:{digest.hexdigest()}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
