"""Cut unit tests out of the text of a file, and read them; they are no SQL to PostgreSQL's parser.

    EXECUTE UNIT TEST name [FOR routine(arguments)]
      MOCK [schema.]relation(column type, …) AS (query)
      EXPECTED(column type, …) AS (query);

What they name is decided elsewhere.
"""

import re

from reconciler.catalog import sql_lexer, sql_text
from reconciler.catalog.sql_lexer import Token, TokenKind
from reconciler.frozen import frozen
from reconciler.objects.name_text import name_at
from reconciler.objects.words import Finding

_NO_NEWLINE = re.compile(r"[^\n]")
_OPENING = ("execute", "unit", "test")
_SHAPE = "EXECUTE UNIT TEST name MOCK relation(column type, …) AS (query) EXPECTED(column type, …) AS (query)"
_CAST = "SELECT CAST(NULL AS "


@frozen
class WrittenRows:
    """Rows of a test: the relation they stand for as it is written (nothing for what is expected)."""

    start: int
    parts: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    query: str


@frozen
class WrittenTest:
    """A test as it is written; `target` is what it is FOR, `start` the character where it begins."""

    name: str
    start: int
    mocks: tuple[WrittenRows, ...]
    expected: WrittenRows
    target: tuple[str, ...] = ()
    target_start: int = 0
    arguments: str | None = None


@frozen
class Cut:
    """A text without its tests, each character of them a blank; the tests; and what is wrong with them."""

    text: str
    tests: tuple[WrittenTest, ...] = ()
    findings: tuple[Finding, ...] = ()


class _Wrong(Exception):
    """A test does not read on."""

    def __init__(self, offset: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.finding = Finding(offset=offset, message=message, hint=hint)


def cut(text: str) -> Cut:
    """Take all unit tests out of a text; places in what is left are those of the text."""
    if "unit" not in text.lower():
        return Cut(text=text)
    tests: list[WrittenTest] = []
    findings: list[Finding] = []
    parts: list[str] = []
    copied = 0
    for tokens, end in _test_statements(text):
        start = tokens[0].start
        parts += (text[copied:start], _NO_NEWLINE.sub(" ", text[start:end]))
        copied = end
        try:
            test = _Reader(text, tokens, end).test()
        except _Wrong as wrong:
            findings.append(wrong.finding)
            continue
        tests.append(test)
    parts.append(text[copied:])
    names: set[str] = set()
    for test in tests:
        if test.name in names:
            findings.append(Finding(offset=test.start, message=f"unit test '{test.name}' stands twice"))
        names.add(test.name)
    return Cut(text="".join(parts), tests=tuple(tests), findings=tuple(findings))


def _test_statements(text: str) -> list[tuple[list[Token], int]]:
    """Return the tokens of each statement that opens a test, and where it ends, its semicolon included."""
    found: list[tuple[list[Token], int]] = []
    statement: list[Token] = []
    depth = 0
    for token in sql_lexer.tokens(text):
        mark = text[token.start] if token.kind is TokenKind.OTHER else ""
        depth = max(0, depth + (mark == "(") - (mark == ")"))
        if mark == ";" and depth == 0:
            if _opens(text, statement):
                found.append((statement, token.end))
            statement = []
        else:
            statement.append(token)
    if _opens(text, statement):
        found.append((statement, len(text)))
    return found


def _opens(text: str, tokens: list[Token]) -> bool:
    return tuple(text[token.start : token.end].lower() for token in tokens[:3]) == _OPENING


class _Reader:
    """Reads the tokens of one test from left to right."""

    def __init__(self, text: str, tokens: list[Token], end: int) -> None:
        self._text = text
        self._tokens = tokens
        self._end = end
        self._at = len(_OPENING)

    def test(self) -> WrittenTest:
        name, _ = self._name("the name of the test")
        if len(name) != 1:
            raise _Wrong(self._place(), "the name of a unit test has one part", f"write {_SHAPE}")
        target, target_start, arguments = self._target() if self._takes("for") else ((), 0, None)
        mocks: list[WrittenRows] = []
        while self._takes("mock"):
            parts, start = self._name("the relation that is mocked")
            mocks.append(self._rows(parts, start))
            self._takes(",")
        if not self._takes("expected"):
            raise self._expected("MOCK or EXPECTED")
        expected = self._rows((), self._place())
        if self._at < len(self._tokens):
            raise self._expected("';'")
        return WrittenTest(
            name=name[0],
            start=self._tokens[0].start,
            mocks=tuple(mocks),
            expected=expected,
            target=target,
            target_start=target_start,
            arguments=arguments,
        )

    def _target(self) -> tuple[tuple[str, ...], int, str | None]:
        parts, start = self._name("what is tested")
        arguments = None
        if self._word() == "(":
            inside = self._parentheses()
            arguments = self._of(inside)
            if inside:
                self._check(f"SELECT f({arguments})", inside[0].start - len("SELECT f("))
        self._takes(",")
        return parts, start, arguments

    def _rows(self, parts: tuple[str, ...], start: int) -> WrittenRows:
        columns = self._columns(self._parentheses())
        if not self._takes("as"):
            raise self._expected("AS (query)")
        place = self._place()
        inside = self._parentheses()
        query = self._of(inside)
        self._check(query, inside[0].start if inside else place, select=True)
        return WrittenRows(start=start, parts=parts, columns=columns, query=query)

    def _columns(self, inside: list[Token]) -> tuple[tuple[str, str], ...]:
        columns: list[tuple[str, str]] = []
        column: list[Token] = []
        depth = 0
        for token in inside:
            mark = self._text[token.start] if token.kind is TokenKind.OTHER else ""
            depth += (mark in ("(", "[")) - (mark in (")", "]"))
            if mark == "," and depth == 0:
                columns.append(self._column(column, token.start))
                column = []
            else:
                column.append(token)
        columns.append(self._column(column, self._place()))
        if len({name for name, _ in columns}) < len(columns):
            raise _Wrong(inside[0].start, "two columns have one name")
        return tuple(columns)

    def _column(self, tokens: list[Token], end: int) -> tuple[str, str]:
        name = name_at(self._text, tokens[0].start) if tokens else None
        rest = [token for token in tokens if name is not None and token.start >= name.end]
        if name is None or len(name.parts) != 1 or not rest:
            place = tokens[0].start if tokens else end
            raise _Wrong(place, "a column is a name and a type", f"write {_SHAPE}")
        written = self._of(rest)
        self._check(f"{_CAST}{written})", rest[0].start - len(_CAST))
        return name.parts[0], written

    def _of(self, tokens: list[Token]) -> str:
        """The text from the first to the last of some tokens, without the comments around."""
        return self._text[tokens[0].start : tokens[-1].end] if tokens else ""

    def _check(self, query: str, start: int, *, select: bool = False) -> None:
        """Parse a piece of SQL, one statement; `start` is where its first character stands in the text."""
        try:
            trees = sql_text.trees(query)
        except sql_text.SyntaxProblem as problem:
            place = max(start + problem.offset, self._tokens[0].start)
            raise _Wrong(min(place, self._end), problem.message_alone) from problem
        if len(trees) != 1 or trees[0].node != "SelectStmt" or (select and "intoClause" in trees[0].body):
            raise _Wrong(max(start, 0), "must be one query", "a SELECT, VALUES or TABLE of its own")

    def _parentheses(self) -> list[Token]:
        """Return the tokens within the parentheses that come next."""
        if self._word() != "(":
            raise self._expected("'('")
        first, depth = self._at + 1, 0
        for number in range(self._at, len(self._tokens)):
            token = self._tokens[number]
            if token.kind is TokenKind.OTHER:
                mark = self._text[token.start]
                depth += (mark == "(") - (mark == ")")
                if depth == 0:
                    self._at = number + 1
                    return self._tokens[first:number]
        raise _Wrong(self._place(), "the parenthesis is never closed")

    def _name(self, what: str) -> tuple[tuple[str, ...], int]:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        name = name_at(self._text, token.start) if token else None
        if token is None or name is None:
            raise self._expected(what)
        while self._at < len(self._tokens) and self._tokens[self._at].start < name.end:
            self._at += 1
        return name.parts, name.start

    def _takes(self, word: str) -> bool:
        if self._word() != word:
            return False
        self._at += 1
        return True

    def _word(self) -> str:
        if self._at >= len(self._tokens):
            return ""
        token = self._tokens[self._at]
        return self._text[token.start : token.end].lower()

    def _place(self) -> int:
        return self._tokens[self._at].start if self._at < len(self._tokens) else self._end

    def _expected(self, what: str) -> _Wrong:
        found = f"'{self._word()[:40]}'" if self._word() else "the end"
        return _Wrong(
            self._place(), f"unit test does not read on: expected {what}, found {found}", f"write {_SHAPE}"
        )
