"""Cut a script into what psql cuts it into: SQL, uses of variables, its own commands, data of `COPY`.

It looks at the text alone: what a variable holds and what a command does are `psql`'s part.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

# Letters of names by what they are not: a range up to the last character takes milliseconds to compile.
_NAME_START = r"[^\x00-@\[-^`{-\x7f]"
_NAME = rf"{_NAME_START}[^\x00-/:-@\[-^`{{-\x7f]*+"
_VARIABLE = (
    rf":(?:(?P<plain>{_NAME})|'(?P<literal>{_NAME})'|\"(?P<identifier>{_NAME})\"|\{{\?(?P<test>{_NAME})\}})"
)
_WORD = rf"{_NAME_START}[^\x00-#%-/:-@\[-^`{{-\x7f]*+"
_SPACE = r"[ \t\n\r\f\v]++"
_LINE_COMMENT = r"--[^\n]*+"
_ESCAPED = r"[eE]'(?:[^'\\]++|\\.|'')*+'"
_STRING = r"(?:[uU]&|[nNbBxX])?'[^']*+'"
_QUOTED = r"(?:[uU]&)?\"[^\"]*+\""
_NUMBER = r"\$?[0-9][A-Za-z0-9_.]*+"
_OPERATOR = r"(?:(?!--|/\*)[-+*/<>=~!@#%^&|`?])++"
_CAST = r"::|:="

_PIECE = re.compile(
    rf"""
      (?P<space>(?:{_SPACE}|{_LINE_COMMENT})+)
    | (?P<comment>/\*)
    | (?P<whole>{_ESCAPED}|{_STRING}|{_QUOTED})
    | (?P<open>[eE]?'|")
    | (?P<dollar>\$(?:{_NAME})?\$)
    | (?P<word>{_WORD})
    | (?P<other>{_NUMBER}|{_CAST}|{_OPERATOR})
    | (?P<variable>{_VARIABLE})
    | (?P<character>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_RUN = re.compile(
    rf"(?:{_SPACE}|{_LINE_COMMENT}|{_ESCAPED}|{_STRING}|{_QUOTED}|{_WORD}|{_NUMBER}|{_CAST}|{_OPERATOR}|[(),.])++",
    re.DOTALL,
)
_IN_RUN = re.compile(
    rf"{_SPACE}|{_LINE_COMMENT}|({_ESCAPED}|{_STRING}|{_QUOTED}|\$[^0-9].*)|({_WORD}|{_NUMBER}|{_CAST}|{_OPERATOR}|.)",
    re.DOTALL,
)
_BLANK = re.compile(rf"(?:{_SPACE}|{_LINE_COMMENT})*+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_FROM_CLIENT = re.compile(r"stdin", re.IGNORECASE)
_DATA_END = re.compile(r"^\\\.\r?$", re.MULTILINE)
_REST_OF_LINE = re.compile(r"[ \t\r\f\v]*+(?:--[^\n]*+)?(?:\n|\Z)")
_COMMAND = re.compile(r"\\([^\s\\]*)")
_ARGUMENT = re.compile(
    rf"(?P<quote>'(?P<inside>(?:[^'\\\n]++|\\.|'')*+)(?P<closed>'?))|(?P<double>\"[^\"\n]*+(?P<ended>\"?))"
    rf"|(?P<run>`)|(?P<variable>{_VARIABLE})|(?P<text>[^\s\\'\"`:]++|:)"
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9A-Fa-f]{1,2}|.)|''", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "b": "\b", "r": "\r", "f": "\f"}
_HINTS = re.compile(rf"\\|(?<!:):(?:{_NAME}|['\"]{_NAME}|\{{\?)|stdin", re.IGNORECASE)
_NAMES = re.compile(rf":(?:['\"]|\{{\?)?({_NAME})")


def may_need_psql(text: str) -> bool:
    """Say whether anything in a text looks as if only psql understood it; false is sure, true is not."""
    # Most scripts begin with a comment like `-- Deploy project:change to pg`, which uses no variable.
    blank = _BLANK.match(text)
    start = blank.end() if blank is not None else 0
    if text.find(":", start) < 0 and text.find("\\", start) < 0 and "stdin" not in text.lower():
        return False
    return _HINTS.search(text, start) is not None


def names_in(text: str) -> frozenset[str]:
    """The names that a text may use as variables, and perhaps others."""
    return frozenset(_NAMES.findall(text))


def tokens_of(sql: str) -> list[str]:
    """The tokens of a piece of SQL, with what is not quoted in small letters."""
    return [quoted or plain.lower() for quoted, plain in _IN_RUN.findall(sql) if quoted or plain]


class Kind(StrEnum):
    """What a piece is; comments count as space."""

    SPACE = "space"
    SQL = "sql"
    END = "end"
    OPEN = "open"
    CLOSE = "close"
    VARIABLE = "variable"
    COMMAND = "command"
    DATA = "data"
    UNCLOSED = "unclosed"
    TRAILING = "trailing"


class Form(StrEnum):
    """How a variable is used: `:x`, `:'x'`, `:"x"` or `:{?x}`."""

    PLAIN = "plain"
    LITERAL = "literal"
    IDENTIFIER = "identifier"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece and where it stands; `name` is that of a variable or command, without what marks it."""

    kind: Kind
    start: int
    end: int
    name: str = ""
    form: Form = Form.PLAIN


class BadArgument(Exception):
    """An argument of a command that psql would not take either, or that runs a program."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


class Scanner:
    """Cuts one text. After a command it stands behind its name: `arguments` reads what follows.

    SQL in which nothing is to be found comes in long pieces.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        # Only a text that speaks of it can hold data, and then each word counts.
        self._runs = _FROM_CLIENT.search(text) is None
        self._first = self._previous = ""
        self._begun = self._copies = False

    def next(self) -> Piece | None:
        """The next piece; none at the end."""
        if self.position >= len(self.text):
            return None
        if self._runs:
            run = _RUN.match(self.text, self.position)
            if run is not None:
                blank = _BLANK.match(self.text, self.position)
                only_blank = blank is not None and blank.end() >= run.end()
                return self._moved(Kind.SPACE if only_blank else Kind.SQL, run.end())
        match = _PIECE.match(self.text, self.position)
        assert match is not None  # a character always matches
        return self._piece(match)

    def _piece(self, match: re.Match[str]) -> Piece:
        group, end = match.lastgroup or "", match.end()
        if group == "space":
            return self._moved(Kind.SPACE, end)
        if group == "comment":
            return self._comment(end)
        if group == "variable":
            form = next(form for form in Form if match[form.value] is not None)
            self._take("")
            return self._moved(Kind.VARIABLE, end, match[form.value], form)
        if group == "open":
            return self._moved(Kind.UNCLOSED, len(self.text))
        if group == "dollar":
            closing = self.text.find(match[0], end)
            if closing < 0:
                return self._moved(Kind.UNCLOSED, len(self.text))
            end = closing + len(match[0])
        elif group == "character":
            return self._character(match[0], end)
        self._take(match[0].lower() if group == "word" else "")
        return self._moved(Kind.SQL, end)

    def _character(self, character: str, end: int) -> Piece:
        if character == "\\":
            command = _COMMAND.match(self.text, self.position)
            assert command is not None
            return self._moved(Kind.COMMAND, command.end(), command[1])
        if character == ";":
            return self._end(end)
        self._take("")
        return self._moved({"[": Kind.OPEN, "]": Kind.CLOSE}.get(character, Kind.SQL), end)

    def _comment(self, position: int) -> Piece:
        depth = 1
        while depth:
            edge = _COMMENT_EDGE.search(self.text, position)
            if edge is None:
                return self._moved(Kind.UNCLOSED, len(self.text))
            depth += 1 if edge[0] == "/*" else -1
            position = edge.end()
        return self._moved(Kind.SPACE, position)

    def _take(self, word: str) -> None:
        """Remember as much of a statement as tells whether data follow it."""
        if not self._begun:
            self._begun, self._first = True, word
        if self._first == "copy" and self._previous == "from" and word == "stdin":
            self._copies = True
        self._previous = word

    def _end(self, end: int) -> Piece:
        copies = self._copies
        self._first = self._previous = ""
        self._begun = False
        # What follows now, if anything, is data.
        self._copies = copies
        return self._moved(Kind.END, end)

    def data(self) -> Piece | None:
        """After an end: the data of a `COPY … FROM stdin`, up to `\\.`; none where there are none."""
        copies, self._copies = self._copies, False
        if not copies:
            return None
        rest = _REST_OF_LINE.match(self.text, self.position)
        if rest is None:
            return Piece(Kind.TRAILING, self.position, self.position)
        start = rest.end()
        end = _DATA_END.search(self.text, start)
        self.position = len(self.text) if end is None else min(end.end() + 1, len(self.text))
        return Piece(Kind.DATA, start, len(self.text) if end is None else end.start())

    def _moved(self, kind: Kind, end: int, name: str = "", form: Form = Form.PLAIN) -> Piece:
        start, self.position = self.position, end
        return Piece(kind, start, end, name, form)

    def skip_arguments(self) -> str:
        """Pass over the arguments of a command, and return them as they stand."""
        start = self.position
        self.arguments(lambda _piece: "", lenient=True)
        return self.text[start : self.position]

    def arguments(self, value: Callable[[Piece], str], *, lenient: bool = False) -> list[str]:
        """Read the arguments of a command up to the end of the line or the next command, as psql does.

        `value` gives what stands for a variable. Raises BadArgument unless it is to be lenient.
        """
        found: list[str] = []
        current: str | None = None
        text = self.text
        while self.position < len(text) and text[self.position] not in "\n\\":
            if text[self.position].isspace():
                if current is not None:
                    found.append(current)
                current = None
                self.position += 1
                continue
            match = _ARGUMENT.match(text, self.position)
            if match is None:
                self.position += 1
                continue
            current = (current or "") + self._part(match, value, lenient=lenient)
            self.position = match.end()
        if current is not None:
            found.append(current)
        if text[self.position : self.position + 2] == "\\\\":
            self.position += 2
        return found

    def _part(self, match: re.Match[str], value: Callable[[Piece], str], *, lenient: bool) -> str:
        if match["variable"] is not None:
            form = next(form for form in Form if match[form.value] is not None)
            return value(Piece(Kind.VARIABLE, match.start(), match.end(), match[form.value], form))
        if match["text"] is not None:
            return match["text"]
        if not lenient:
            if match["run"] is not None:
                raise BadArgument("text between backquotes runs a program", match.start())
            if match["closed"] == "" or match["ended"] == "":
                raise BadArgument("a quote in the arguments is not closed", match.start())
        if match["quote"] is not None:
            return _ESCAPE.sub(_unescaped, match["inside"])
        return match[0]


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code is None:
        return "'"
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _LETTERS.get(code, code)
