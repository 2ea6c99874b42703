"""One object file while it is read: its text, what it should be about, and what was found wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.catalog import sql_lexer
from reconciler.catalog.identifier import quote_qualified
from reconciler.catalog.sql_lexer import TokenKind
from reconciler.catalog.sql_text import Tree
from reconciler.objects.drafts import Draft
from reconciler.objects.mentions import Reference, references
from reconciler.objects.model import Mention, ObjectName, ObjectSort
from reconciler.objects.name_text import end_of
from reconciler.objects.source_file import SourceFile
from reconciler.objects.words import Finding, shown


@dataclass(slots=True)
class Reading:
    """The file, the name that its path gives, and the findings so far, by characters of the text as read.

    `overloaded` says that its routine is made for several sorts of arguments.
    """

    file: SourceFile
    name: ObjectName
    findings: list[Finding] = field(default_factory=list)
    overloaded: bool = False

    def wrong(self, offset: int, message: str, hint: str | None = None, *, end: int | None = None) -> None:
        """Note a finding."""
        self.findings.append(Finding(offset=offset, message=message, hint=hint, end=end))

    def own(self, tree: Tree, parts: tuple[str, ...], start: int, sort: ObjectSort) -> Mention | None:
        """Return the mention of the object itself; None and a finding where something else is named."""
        if parts not in ((self.name.name,), (self.name.schema, self.name.name)):
            named = f"'{quote_qualified(*parts)}'"
            message, hint = _other(tree, named, self.name)
            self.wrong(start, message, hint, end=end_of(self.file.text, start, parts))
            return None
        end = end_of(self.file.text, start, parts)
        if end is None:
            self.wrong(
                start, "the name is written with escapes", "write it plainly, in double quotes if need be"
            )
            return None
        return Mention(
            start=start - tree.start, end=end - tree.start, target=self.name, routine=sort.is_routine
        )

    def draft(self, tree: Tree, own: Mention, walked: object = None) -> Draft:
        """Make a draft of a statement; names are looked for in `walked`, a part of its tree."""
        found: tuple[Reference, ...] = ()
        if walked is not None:
            found = references(walked, self.file.text, tree.places, shift=tree.start)
        return Draft(
            text=self.file.text[tree.start : tree.end],
            offset=tree.start,
            line=self.file.line(tree.start),
            own=(own,),
            references=tuple(each for each in found if each.start != own.start),
        )


def words_until(text: str, start: int, *wanted: str) -> int | None:
    """Return where some words in a row end that are first found outside of parentheses, or None."""
    depth = matched = 0
    position = start
    while (token := sql_lexer.next_token(text, position)) is not None:
        position = token.end
        mark = text[token.start] if token.kind is TokenKind.OTHER else ""
        if mark == ";" and depth == 0:
            return None
        depth += (mark == "(") - (mark == ")")
        if depth == 0 and token.kind is TokenKind.WORD:
            word = text[token.start : token.end].lower()
            matched = matched + 1 if word == wanted[matched] else int(word == wanted[0])
            if matched == len(wanted):
                return position
        else:
            matched = 0
    return None


def next_start(text: str, position: int) -> int:
    """Return where the next token begins."""
    token = sql_lexer.next_token(text, position)
    return len(text) if token is None else token.start


def strings(items: Any) -> tuple[str, ...]:
    """Return a list of names of a tree."""
    return tuple(str(item.get("String", {}).get("sval", "")) for item in items or ())


def range_parts(relation: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parts of the name of a relation in a tree."""
    keys = ("catalogname", "schemaname", "relname")
    return tuple(str(relation[key]) for key in keys if relation.get(key))


def _other(tree: Tree, named: str, name: ObjectName) -> tuple[str, str]:
    if tree.kind.startswith("CREATE") and tree.kind != "CREATE INDEX":
        hint = "give the object the name of its file, or the file the name of its object"
        return f"the file makes {named}, where its path says {shown(name)}", hint
    return (
        f"{tree.kind} is about {named}, not about {shown(name)}",
        "write it in the file of what it is about",
    )
