"""Turn a script in the language of psql into SQL: variables, conditions, includes, data and messages.

It works on texts it is given: it reads no file of the machine, runs no program and sends nothing. What of
psql changes nothing here is passed over, and anything else is a problem with its place.
"""

import hashlib
import posixpath
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from difflib import get_close_matches

from reconciler.changes.expansion import CopyData, Expansion, Message, Origin, Place, SourceText, position
from reconciler.changes.psql_conditions import Conditions, NotAllowed, as_boolean
from reconciler.changes.psql_lexer import BadArgument, Form, Kind, Piece, Scanner, may_need_psql
from reconciler.changes.psql_meaning import meaning
from reconciler.changes.psql_words import IGNORED, Refusal, quoted, refusal, setting_refused
from reconciler.changes.unread import HINT, NOTHING, why_unread
from reconciler.errors import Problem
from reconciler.frozen import frozen

TEXT_MAX = 8 * 1024 * 1024
"""Characters of SQL that a script may become."""
DATA_MAX = 64 * 1024 * 1024
"""Characters of data of all its `COPY`."""
VALUE_MAX = 256 * 1024
"""Characters that variables may bring into the arguments of one command."""
DEPTH_MAX = 30
"""Files that include one another, and values that use one another."""
INCLUDES_MAX = 1000
"""Files that one script may include."""
PROBLEMS_MAX = 100
_SUGGEST_AMONG = 5000

_IDENTIFIER_START = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")


@frozen
class Surroundings:
    """What a script finds: the texts it may include, by path, and the values of variables.

    `root` is the folder that `\\i` starts from, as psql does from where it was started. `decoded` keeps texts
    that were read, for all who share it. `unread` are paths that were left out, with the reason.
    """

    root: str = ""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    decoded: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    unread: Mapping[str, str] = field(default_factory=lambda: NOTHING)


def expand(path: str, text: str, around: Surroundings) -> Expansion | None:
    """Turn a script into SQL; None where it holds nothing that only psql understands."""
    if not may_need_psql(text):
        return None
    run = _Run(path, text, around)
    run.script()
    return run.result() if run.changed else None


class _Stop(Exception):
    """A limit is reached, or a file is not to be read any further."""


class _Run:
    """The expansion of one script: collects problems and goes on."""

    def __init__(self, path: str, text: str, around: Surroundings) -> None:
        self._around = around
        self._values = dict(around.values)
        self._files = [SourceText(path, text)]
        self._indices = {path: 0}
        self._open_files = [path]
        self._open_values: list[str] = []
        self._includes = 0
        self._data_length = 0
        self._out: list[str] = []
        self._length = 0
        self._origins: list[Origin] = []
        self._copies: list[CopyData] = []
        self._copy_ends: list[int] = []
        self._messages: list[Message] = []
        self._names: set[str] = set()
        self._problems: list[Problem] = []
        self._brackets = 0
        self._begun = False
        self.changed = False

    def script(self) -> None:
        """Go through the script and what it includes."""
        with suppress(_Stop):
            _File(self, 0).run()

    def result(self) -> Expansion:
        """What became of it."""
        text = "".join(self._out)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        digest.update(repr(self._origins).encode())
        digest.update(repr([(copy.source.path, copy.start, copy.end) for copy in self._copies]).encode())
        for source in self._files:
            digest.update(f"\0{source.path}\0".encode() + source.text.encode("utf-8", "surrogatepass"))
        digest.update(repr(self._problems).encode("utf-8", "surrogatepass"))
        digest.update(repr(self._messages).encode("utf-8", "surrogatepass"))
        return Expansion(
            text=text,
            files=tuple(self._files),
            origins=tuple(self._origins),
            meaning=meaning(self._files[0], self._around.root, self._around.texts),
            digest=digest.digest(),
            copies=tuple(self._copies),
            copy_ends=tuple(self._copy_ends),
            messages=tuple(self._messages),
            names=tuple(sorted(self._names)),
            problems=tuple(self._problems),
        )

    def problem(self, file: int, offset: int, message: str, hint: str | None = None) -> None:
        """Note what is wrong at a place of a file."""
        self.changed = True
        source = self._files[file]
        line, column = position(source.text, offset)
        self._problems.append(Problem(message=message, file=source.path, line=line, column=column, hint=hint))
        if len(self._problems) >= PROBLEMS_MAX:
            raise _Stop

    def emit(self, text: str, origin: tuple[int, int, bool]) -> None:
        """Add SQL that comes from a place."""
        if self._length + len(text) > TEXT_MAX:
            file, offset, _verbatim = origin
            self.problem(
                file, offset, f"the script becomes more than {TEXT_MAX} characters of SQL", "split the change"
            )
            raise _Stop
        made = Origin(self._length, *origin)
        last = self._origins[-1] if self._origins else None
        follows = (
            last is not None
            and last.verbatim
            and made.verbatim
            and last.file == made.file
            and made.offset - last.offset == made.start - last.start
        )
        if not follows:
            self._origins.append(made)
        self._out.append(text)
        self._length += len(text)

    def value(self, name: str, file: int, offset: int) -> str | None:
        """The value of a variable; None, with a problem, where it has none."""
        self._names.add(name)
        found = self._values.get(name)
        if found is None:
            self.problem(file, offset, f"unknown variable '{name}'", _meant(name, self._values))
        return found

    def knows(self, name: str) -> bool:
        """Whether a variable has a value."""
        self._names.add(name)
        return name in self._values

    def set(self, name: str, value: str | None) -> None:
        """Give a variable a value, or none."""
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value

    def say(self, text: str, place: Place) -> None:
        """Note a message."""
        self._messages.append(Message(offset=self._length, text=text, place=place))

    def copy(self, data: CopyData, file: int) -> None:
        """Note the data of the statement that just ended."""
        self._data_length += data.end - data.start
        if self._data_length > DATA_MAX:
            self.problem(file, data.start, f"the data of COPY have more than {DATA_MAX} characters")
            raise _Stop
        self._copies.append(data)
        self._copy_ends.append(self._length)

    def source(self, file: int) -> SourceText:
        """A file by its number."""
        return self._files[file]

    @property
    def begun(self) -> bool:
        """Whether a statement is begun and not ended."""
        return self._begun

    def token(self, kind: Kind) -> None:
        """Keep count of brackets and of statements."""
        if kind is Kind.END:
            self._begun, self._brackets = False, 0
        elif kind is not Kind.SPACE:
            self._begun = True
            self._brackets += {Kind.OPEN: 1, Kind.CLOSE: -1}.get(kind, 0)

    def sql(self, piece: Piece, origin: tuple[int, int], frame: "_File | _Value") -> None:
        """Put a use of a variable into the SQL."""
        file, offset = origin
        source = frame.text[piece.start : piece.end]
        if self._brackets > 0 and piece.form is not Form.TEST and not self.knows(piece.name):
            # The bounds of a slice of an array, which psql leaves alone too.
            self.token(Kind.SQL)
            self.emit(source, (file, offset, frame.verbatim))
            return
        self.changed = True
        if piece.form is Form.TEST:
            self.token(Kind.SQL)
            self.emit("TRUE" if self.knows(piece.name) else "FALSE", (file, offset, False))
            return
        value = self.value(piece.name, file, offset)
        if value is None:
            # Something takes its place, so that the rest can be looked at.
            value = piece.name
        if piece.form is not Form.PLAIN:
            self.token(Kind.SQL)
            self.emit(quoted(value, piece.form), (file, offset, False))
            return
        if piece.name in self._open_values or len(self._open_values) >= DEPTH_MAX:
            self.problem(file, offset, f"the value of variable '{piece.name}' uses itself")
            return
        self._open_values.append(piece.name)
        _Value(self, value, origin).run()
        self._open_values.pop()

    def include(self, path: str, origin: tuple[int, int], *, relative: bool) -> None:
        """Go through another file of the module."""
        file, offset = origin
        found = self._included(path, origin, relative=relative)
        if found is None:
            return
        self._includes += 1
        if self._includes > INCLUDES_MAX or len(self._open_files) >= DEPTH_MAX:
            self.problem(
                file,
                offset,
                f"more than {INCLUDES_MAX} files are included, or more than {DEPTH_MAX} one by the other",
            )
            raise _Stop
        index = self._indices.get(found)
        if index is None:
            text = self._decoded(found, origin)
            if text is None:
                return
            index = self._indices[found] = len(self._files)
            self._files.append(SourceText(found, text))
        self._open_files.append(found)
        _File(self, index).run()
        self._open_files.pop()
        if self._begun:
            self.token(Kind.END)
            self.emit("\n;\n", (file, offset, False))

    def _included(self, path: str, origin: tuple[int, int], *, relative: bool) -> str | None:
        file, offset = origin
        here = posixpath.dirname(self._files[file].path) if relative else self._around.root
        found = posixpath.normpath(posixpath.join(here, path))
        texts = self._around.texts
        if path.startswith(("/", "~", "|")) or found.startswith(".."):
            self.problem(file, offset, f"'{path}' lies outside of the module", "include files of the module")
        elif (why := why_unread(found, self._around.unread)) is not None:
            self.problem(file, offset, why, HINT)
        elif found not in texts:
            near = get_close_matches(found, list(texts)[:_SUGGEST_AMONG], n=1)
            hint = f"did you mean '{near[0]}'?" if near else "include files of the module"
            self.problem(file, offset, f"there is no file '{found}' in the module to include", hint)
        elif found in self._open_files:
            cycle = " → ".join([*self._open_files[self._open_files.index(found) :], found])
            self.problem(file, offset, f"files include each other: {cycle}", "take one of the includes out")
        else:
            return found
        return None

    def _decoded(self, path: str, origin: tuple[int, int]) -> str | None:
        known = self._around.decoded.get(path)
        if known is not None:
            return known
        content = self._around.texts[path]
        if len(content) > TEXT_MAX:
            self.problem(*origin, f"'{path}' has {len(content)} bytes, more than the limit of {TEXT_MAX}")
            return None
        try:
            text = self._around.decoded[path] = content.removeprefix(b"\xef\xbb\xbf").decode()
        except UnicodeDecodeError as error:
            self.problem(
                *origin, f"'{path}' is not UTF-8: byte 0x{content[error.start]:02x}", "save it as UTF-8"
            )
            return None
        return text


class _Value:
    """The value of a variable, which is read as if it stood in place of its name."""

    verbatim = False

    def __init__(self, run: _Run, text: str, origin: tuple[int, int]) -> None:
        self._run, self.text, self._origin = run, text, origin

    def run(self) -> None:
        scanner = Scanner(self.text)
        while (piece := scanner.next()) is not None:
            match piece.kind:
                case Kind.VARIABLE:
                    self._run.sql(piece, self._origin, self)
                case Kind.COMMAND | Kind.UNCLOSED:
                    what = "a command of psql" if piece.kind is Kind.COMMAND else "an open quote or comment"
                    self._run.problem(*self._origin, f"the value of a variable holds {what}")
                    return
                case _:
                    self._run.token(piece.kind)
                    self._run.emit(self.text[piece.start : piece.end], (*self._origin, False))
                    if piece.kind is Kind.END and scanner.data() is not None:
                        self._run.problem(*self._origin, "the value of a variable holds a COPY from stdin")


class _File:
    """One file, as psql goes through it."""

    verbatim = True

    def __init__(self, run: _Run, index: int) -> None:
        self._run, self._index = run, index
        self.text = run.source(index).text
        self._scanner = Scanner(self.text)
        self._conditions = Conditions()
        self._value_length = 0

    def run(self) -> None:
        while (piece := self._scanner.next()) is not None:
            if piece.kind is Kind.COMMAND:
                self._run.changed = True
                self._command(piece)
            elif piece.kind is Kind.UNCLOSED:
                self._unclosed(piece)
            elif self._conditions.active:
                self._sql(piece)
            elif piece.kind is Kind.END:
                self._scanner.data()
        if self._conditions.open_at is not None:
            self._problem(self._conditions.open_at, "\\if without \\endif", "end it in the same file")

    def _problem(self, at: int, message: str, hint: str | None = None) -> None:
        self._run.problem(self._index, at, message, hint)

    def _unclosed(self, piece: Piece) -> None:
        """Leave to the parser what is wrong with the script itself; a file must not reach into another."""
        if self._index:
            self._problem(piece.start, "a quote or comment is not closed at the end of the file")
        if self._conditions.active:
            self._run.token(Kind.SQL)
            self._run.emit(self.text[piece.start : piece.end], (self._index, piece.start, True))

    def _sql(self, piece: Piece) -> None:
        if piece.kind is Kind.VARIABLE:
            self._run.sql(piece, (self._index, piece.start), self)
            return
        self._run.token(piece.kind)
        self._run.emit(self.text[piece.start : piece.end], (self._index, piece.start, True))
        if piece.kind is Kind.END:
            data = self._scanner.data()
            if data is not None and data.kind is Kind.TRAILING:
                self._run.changed = True
                self._problem(
                    data.start,
                    "something follows COPY … FROM stdin on its line",
                    "begin the data, or the next statement, on a line of its own",
                )
            elif data is not None:
                self._run.changed = True
                self._run.emit("\n", (self._index, piece.start, False))
                self._run.copy(
                    CopyData(source=self._run.source(self._index), start=data.start, end=data.end),
                    self._index,
                )

    def _command(self, piece: Piece) -> None:
        handler = _CONDITIONS.get(piece.name)
        try:
            if handler is not None:
                handler(self, piece)
            elif not self._conditions.active:
                self._scanner.skip_arguments()
            else:
                self._other(piece)
        except (BadArgument, NotAllowed) as error:
            self._problem(getattr(error, "at", piece.start), error.message)
            self._scanner.skip_arguments()

    def _other(self, piece: Piece) -> None:
        match piece.name:
            case "set":
                self._set(piece)
            case "unset":
                for name in self._arguments():
                    self._run.set(name, None)
            case "echo" | "qecho" | "warn":
                words = self._arguments()
                text = " ".join(words[1:] if words[:1] == ["-n"] else words)
                place = Place(self._run.source(self._index).path, *position(self.text, piece.start))
                self._run.say(text, place)
            case "i" | "include" | "ir" | "include_relative":
                self._include(piece)
            case _:
                self._passed_over(piece)

    def _passed_over(self, piece: Piece) -> None:
        refused = refusal(piece.name)
        if piece.name not in IGNORED:
            self._scanner.skip_arguments()
            self._refuse(piece, refused)
            return
        words = self._arguments()
        if (
            piece.name == "encoding"
            and words
            and words[0].lower().replace("-", "") not in ("utf8", "unicode")
        ):
            self._refuse(
                piece, Refusal("'\\encoding' takes UTF8 only: scripts are UTF-8", "save it as UTF-8")
            )

    def _refuse(self, piece: Piece, refused: Refusal) -> None:
        self._problem(piece.start, refused.message, refused.hint)

    def _set(self, piece: Piece) -> None:
        words = self._arguments()
        if not words:
            return
        name, value = words[0], "".join(words[1:])
        if not _is_name(name):
            self._problem(piece.start, f"'{name[:63]}' is not the name of a variable")
            return
        refused = setting_refused(name, value)
        if refused is not None:
            self._refuse(piece, refused)
            return
        self._run.set(name, value)

    def _include(self, piece: Piece) -> None:
        words = self._arguments()
        if self._run.begun:
            self._problem(
                piece.start,
                f"'\\{piece.name}' stands inside a statement",
                "end the statement with ';' before",
            )
        elif len(words) != 1:
            self._problem(piece.start, f"'\\{piece.name}' needs the path of one file")
        else:
            relative = piece.name in ("ir", "include_relative")
            self._run.include(words[0], (self._index, piece.start), relative=relative)

    def _arguments(self) -> list[str]:
        self._value_length = 0
        return self._scanner.arguments(self._value)

    def _value(self, piece: Piece) -> str:
        """What stands for a variable in the arguments of a command."""
        if piece.form is Form.TEST:
            return "TRUE" if self._run.knows(piece.name) else "FALSE"
        value = self._run.value(piece.name, self._index, piece.start)
        self._value_length += len(value or "")
        if self._value_length > VALUE_MAX:
            raise BadArgument(f"the arguments have more than {VALUE_MAX} characters", piece.start)
        return "" if value is None else quoted(value, piece.form)

    def _if(self, piece: Piece) -> None:
        if self._conditions.active:
            self._conditions.begin(piece.start, holds=self._condition(piece))
        else:
            self._conditions.begin(piece.start, holds=False)
            self._scanner.skip_arguments()

    def _elif(self, piece: Piece) -> None:
        if not self._conditions.otherwise_if(lambda: self._condition(piece)):
            self._scanner.skip_arguments()

    def _else(self, _piece: Piece) -> None:
        self._conditions.otherwise()
        self._scanner.skip_arguments()

    def _endif(self, _piece: Piece) -> None:
        self._conditions.end()
        self._scanner.skip_arguments()

    def _condition(self, piece: Piece) -> bool:
        text = " ".join(self._arguments())
        found = as_boolean(text)
        if found is None:
            self._problem(
                piece.start,
                f"'{text[:80]}' is no boolean in '\\{piece.name}'",
                "write true, false, on, off, yes, no, 1 or 0",
            )
        return bool(found)


_CONDITIONS: Mapping[str, Callable[[_File, Piece], None]] = {
    "if": _File._if,
    "elif": _File._elif,
    "else": _File._else,
    "endif": _File._endif,
}


def _is_name(name: str) -> bool:
    return bool(name) and (name[0] in _IDENTIFIER_START or name[0] >= "\x80") and _rest_is_name(name)


def _rest_is_name(name: str) -> bool:
    return all(char in _IDENTIFIER_START or char.isdigit() or char >= "\x80" for char in name)


def _meant(name: str, known: Mapping[str, str]) -> str:
    near = get_close_matches(name, list(known)[:_SUGGEST_AMONG], n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return "declare it in 'variables' of the component or of the deployment, or with \\set"
