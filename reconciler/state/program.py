"""Turn a script of a change into a program: what to send, in which kind of transaction, with which dangers.

It refuses what cannot run before anything runs, and keeps the place of each statement in its file. It never
sends anything and never asks for consent: hazards are codes and reasons, judged by `plan`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconciler.catalog import sql_text
from reconciler.catalog.sql_text import Statement, SyntaxProblem
from reconciler.catalog.text_cache import TextCache, text_key
from reconciler.changes.expansion import CopyData, Expansion, Message, Place
from reconciler.changes.psql import Surroundings, expand
from reconciler.changes.psql_lexer import may_need_psql
from reconciler.changes.script import Script
from reconciler.errors import Problem, ScriptError
from reconciler.frozen import frozen
from reconciler.state.verdicts import Verdict, Verdicts

DELETES_DATA = "DELETES_DATA"
REWRITES_TABLE = "REWRITES_TABLE"
NOT_TRANSACTIONAL = "NOT_TRANSACTIONAL"

_FROM_CLIENT = "COPY … FROM stdin"
_STRINGS_OTHERWISE = re.compile(r"(?:=|\bto)\s*'?(?:off|false|no|0)\b", re.IGNORECASE)
_HEADER = re.compile(r"--[ \t]*(?:(verify):[ \t]*(writes)|((?i:transaction)):[ \t]*(\S+))[ \t]*\r?$")
_CLOSES = frozenset({"COMMIT", "ROLLBACK"})
_BEHIND_SAVEPOINT = {"RELEASE SAVEPOINT": 0, "ROLLBACK TO SAVEPOINT": 1}


class Purpose(StrEnum):
    """What a script is run for."""

    DEPLOY = "deploy"
    VERIFY = "verify"
    REVERT = "revert"


@frozen
class Program:
    """A script that can be run.

    Where `transactional` is true, the statements run in one transaction of ours and the script's own
    outermost `BEGIN … COMMIT` is left out; else they are all there is in the script and run one by one, each
    on its own. `writes` is true for a verify script that asks to write (it is rolled back all the same).
    `reasons` say for each code of `hazards` why, with lines. `copies` are the data that stand in the script,
    by the offset of the statement that takes them.
    """

    script: Script
    purpose: Purpose
    statements: tuple[Statement, ...]
    transactional: bool = True
    writes: bool = False
    hazards: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    expansion: Expansion | None = None
    copies: Mapping[int, CopyData] = field(default_factory=dict)

    @property
    def parse_hash(self) -> str:
        """A hash of the script that layout, comments and the case of keywords do not move."""
        if self.expansion is not None:
            return self.expansion.meaning
        return sql_text.parse_hash(self.script.text)

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the script says."""
        return self.expansion.messages if self.expansion is not None else ()

    def data_of(self, statement_index: int) -> CopyData | None:
        """The data that a statement takes, where they stand in the script."""
        return self.copies.get(self.statements[statement_index].offset) if self.copies else None

    def place(self, statement_index: int, position_in_statement: int = 1) -> Place:
        """The place of a server's error position (1-based) in a statement, also in an included file."""
        statement = self.statements[statement_index]
        offset = statement.offset + min(max(position_in_statement - 1, 0), len(statement.text))
        return _Source(self.script, self.expansion).place(offset)


@dataclass(frozen=True, slots=True)
class _Source:
    """The SQL of a script, and where it is from."""

    script: Script
    expansion: Expansion | None

    @property
    def text(self) -> str:
        return self.script.text if self.expansion is None else self.expansion.text

    def place(self, offset: int) -> Place:
        if self.expansion is not None:
            return self.expansion.place(offset)
        return Place(self.script.path, *sql_text.position(self.script.text, offset))

    def problem(self, offset: int, message: str, *, hint: str | None = None) -> Problem:
        """A problem at a place; its file is put in later where it is the script itself."""
        place = self.place(offset)
        file = place.file if self.expansion is not None else None
        return Problem(message=message, file=file, line=place.line, column=place.column, hint=hint)

    def line(self, statement: Statement) -> str:
        """The place of a statement in words."""
        if self.expansion is None:
            return f"line {statement.line}"
        place = self.expansion.place(statement.offset)
        where = "" if place.file == self.script.path else f" of {place.file}"
        return f"line {place.line}{where}"


@frozen
class _Compiled:
    """A program without its script, or what is wrong with it: the same for the same text.

    `needs_psql`: the text is no SQL as it stands, and nothing else is known.
    """

    needs_psql: bool = False

    statements: tuple[Statement, ...] = ()
    transactional: bool = True
    writes: bool = False
    hazards: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    copies: Mapping[int, CopyData] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@frozen
class _Headers:
    """What the comments at the top of a script ask for."""

    transaction_none: int | None = None
    verify_writes: bool = False
    problems: tuple[Problem, ...] = ()


_compiled: TextCache[_Compiled] = TextCache(weight_max=64 * 1024 * 1024)


def compile_script(script: Script, *, purpose: Purpose) -> Program:
    """Make a program of a script; one that cannot run raises a `ScriptError` with every problem."""
    purpose = Purpose(purpose)
    expansion = script.expansion
    made = _known(script, purpose) if expansion is None else None
    if made is not None and made.needs_psql:
        # Nobody gave it files or variables: it has to do without.
        expansion = expand(script.path, script.text, Surroundings())
    if expansion is not None:
        made = _known_expansion(script, expansion, purpose)
    assert made is not None
    if made.problems:
        raise ScriptError([_at(script.path, problem) for problem in made.problems])
    return Program(
        script=script,
        purpose=purpose,
        statements=made.statements,
        transactional=made.transactional,
        writes=made.writes,
        hazards=made.hazards,
        reasons=made.reasons,
        expansion=expansion,
        copies=made.copies,
    )


def judge(script: Script, *, purpose: Purpose, verdicts: Verdicts | None = None) -> Verdict:
    """Say what a script is; one that cannot run raises a `ScriptError` with every problem.

    Plain SQL is always the same for the same text, so what is known of that is not looked at again.
    """
    key = None
    if verdicts is not None and script.expansion is None:
        key = text_key(script.text, purpose.value).hex()
        known = verdicts.get(key)
        if known is not None:
            return known
    program = compile_script(script, purpose=purpose)
    verdict = Verdict(
        parse_hash=program.parse_hash if purpose is Purpose.DEPLOY else "",
        hazards=tuple(program.hazards),
        transactional=program.transactional,
    )
    if verdicts is not None and key is not None and program.expansion is None:
        verdicts.put(key, verdict)
    return verdict


def _known(script: Script, purpose: Purpose) -> _Compiled:
    """What a text is by itself; kept by the text, for the same one comes again and again."""
    key = text_key(script.text, purpose.value)
    made = _compiled.get(key)
    if made is None:
        if may_need_psql(script.text) and expand(script.path, script.text, Surroundings()) is not None:
            made = _Compiled(needs_psql=True)
        else:
            made = _compile(_Source(script, None), purpose)
        _compiled.put(key, made, weight=2 * len(script.text))
    return made


def _known_expansion(script: Script, expansion: Expansion, purpose: Purpose) -> _Compiled:
    key = text_key(script.path, "expansion", expansion.digest.hex(), purpose.value)
    made = _compiled.get(key)
    if made is None:
        made = _compile(_Source(script, expansion), purpose)
        _compiled.put(key, made, weight=2 * len(expansion.text))
    return made


def locate(program: Program, statement_index: int, position_in_statement: int = 1) -> tuple[int, int]:
    """Return line and column of a server's error position (1-based) in a statement."""
    place = program.place(statement_index, position_in_statement)
    return place.line, place.column


def _at(path: str, problem: Problem) -> Problem:
    return problem if problem.file is not None else replace(problem, file=path)


def _compile(source: _Source, purpose: Purpose) -> _Compiled:
    given = source.expansion.problems if source.expansion is not None else ()
    try:
        statements = sql_text.split(source.text)
    except SyntaxProblem as problem:
        return _Compiled(problems=_sorted([*given, source.problem(problem.offset, problem.message_alone)]))
    headers = _headers(source.script.text)
    copies, data_problems = _data(source, statements)
    problems = [*given, *headers.problems, *data_problems, *_strings_otherwise(source, statements)]
    inner = _without_outermost(statements, purpose)
    reasons = tuple(_not_transactional(source, inner if inner is not None else statements, headers))
    if purpose is Purpose.VERIFY:
        problems += _data_in_verify(source, copies)
        problems += _refused_in_verify(source, inner if inner is not None else statements, headers)
    else:
        problems += _misplaced_control(source, statements) if reasons else ()
        problems += _misplaced_savepoints(source, statements, ours=not reasons)
    if problems:
        return _Compiled(problems=_sorted(problems))
    transactional = not reasons
    hazards = _hazards(source, statements, reasons)
    return _Compiled(
        statements=inner if transactional and inner is not None else statements,
        transactional=transactional,
        writes=purpose is Purpose.VERIFY and headers.verify_writes,
        hazards=tuple(code for code, _ in hazards),
        reasons=tuple(reason for _, reason in hazards),
        copies=copies,
    )


def _sorted(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda each: (each.file or "", each.line or 0, each.column or 0)))


def _headers(text: str) -> _Headers:
    """Read the comment lines before the first statement."""
    transaction_none: int | None = None
    verify_writes = False
    problems: list[Problem] = []
    for number, line in enumerate(_leading_comments(text), start=1):
        match = _HEADER.match(line)
        if match is None:
            continue
        if match[2]:
            verify_writes = True
        elif match[4].lower() == "none":
            transaction_none = number
        else:
            message = f"unknown value {match[4]!r} in the header 'transaction'"
            problems.append(Problem(message=message, line=number, hint="the one value is 'none'"))
    return _Headers(transaction_none=transaction_none, verify_writes=verify_writes, problems=tuple(problems))


def _leading_comments(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].lstrip(" \t\ufeff")
        if line.strip() and not line.startswith(("--", "\\")):
            return
        yield line
        start = end + 1


def _data(source: _Source, statements: tuple[Statement, ...]) -> tuple[dict[int, CopyData], list[Problem]]:
    """Give each `COPY … FROM stdin` its data; what else needs a client is a problem."""
    data = list(source.expansion.copies) if source.expansion is not None else []
    takers = [statement for statement in statements if statement.facts.client_data == _FROM_CLIENT]
    problems = [
        source.problem(
            statement.offset,
            f"'{statement.facts.client_data}' needs a client that takes the data",
            hint="write INSERT … SELECT, or let a job fetch the data",
        )
        for statement in statements
        if statement.facts.client_data not in (None, _FROM_CLIENT)
    ]
    if len(takers) != len(data):
        hint = "end it with ';', write the data below it, and a line '\\.' below them"
        message = f"the data of '{_FROM_CLIENT}' are not in the script"
        return {}, [*problems, *(source.problem(each.offset, message, hint=hint) for each in takers)]
    return {taker.offset: each for taker, each in zip(takers, data, strict=True)}, problems


def _data_in_verify(source: _Source, copies: Mapping[int, CopyData]) -> Iterator[Problem]:
    """Refuse to bring data along to where nothing stays."""
    for offset in copies:
        message = f"'{_FROM_CLIENT}' cannot stand in a verify script"
        yield source.problem(offset, message, hint="compare with VALUES (…) instead")


def _strings_otherwise(source: _Source, statements: tuple[Statement, ...]) -> Iterator[Problem]:
    """Refuse a setting under which the server reads strings in another way than they were read here."""
    for statement in statements:
        if statement.facts.sets == "standard_conforming_strings" and _STRINGS_OTHERWISE.search(
            statement.text
        ):
            yield source.problem(
                statement.offset,
                "with standard_conforming_strings off, strings mean something else",
                hint="write strings with backslashes as E'…'",
            )


def _without_outermost(statements: tuple[Statement, ...], purpose: Purpose) -> tuple[Statement, ...] | None:
    """Leave out the one `BEGIN … COMMIT` around everything; None where the script has no such pair.

    Only settings of the session may stand outside the pair. A verify script is rolled back in any case, so
    there the pair may end either way and `BEGIN` may carry a mode.
    """
    control = [index for index, statement in enumerate(statements) if statement.facts.begins_or_ends]
    if len(control) != 2:  # a pair
        return None
    first, last = (statements[index].facts for index in control)
    verifies = purpose is Purpose.VERIFY
    opens = first.transaction == "BEGIN" and (first.bare or verifies)
    closes = last.bare and (last.transaction == "COMMIT" or (verifies and last.transaction == "ROLLBACK"))
    outside = statements[: control[0]] + statements[control[1] + 1 :]
    if not (opens and closes) or any(statement.facts.sets is None for statement in outside):
        return None
    return tuple(statement for index, statement in enumerate(statements) if index not in control)


def _not_transactional(
    source: _Source, statements: tuple[Statement, ...], headers: _Headers
) -> Iterator[str]:
    """Say why the statements cannot run in one transaction of ours."""
    if headers.transaction_none is not None:
        yield f"the header says 'transaction: none' (line {headers.transaction_none})"
    for statement in statements:
        what = statement.facts.outside_transaction
        if what:
            yield f"{what} cannot run inside a transaction ({source.line(statement)})"
        elif statement.facts.begins_or_ends:
            control = statement.facts.transaction
            yield f"the script controls transactions itself: {control} ({source.line(statement)})"


def _refused_in_verify(
    source: _Source, statements: tuple[Statement, ...], headers: _Headers
) -> Iterator[Problem]:
    if headers.transaction_none is not None:
        message = "a verify script always runs in a transaction that is rolled back"
        yield Problem(
            message=message, line=headers.transaction_none, hint="remove the header 'transaction: none'"
        )
    for statement in statements:
        what = statement.facts.outside_transaction or statement.facts.transaction
        if what:
            message = (
                f"{what} cannot stand in a verify script, which runs in a transaction that is rolled back"
            )
            hint = "keep at most one BEGIN … ROLLBACK around the whole script"
            yield source.problem(statement.offset, message, hint=hint)


def _misplaced_control(source: _Source, statements: tuple[Statement, ...]) -> Iterator[Problem]:
    """Find what the server would refuse in a script that controls transactions itself."""
    opened: Statement | None = None
    for statement in statements:
        facts = statement.facts
        if facts.transaction == "BEGIN":
            opened = statement
        elif facts.transaction in _CLOSES:
            opened = opened if not facts.bare else None
        elif facts.outside_transaction and opened is not None:
            message = f"{facts.outside_transaction} cannot run inside the BEGIN … COMMIT of the script"
            yield source.problem(statement.offset, message, hint="remove BEGIN and COMMIT around it")
    if opened is not None:
        message = "BEGIN without COMMIT: the script would leave a transaction open"
        yield source.problem(opened.offset, message, hint="end the script with COMMIT")


def _misplaced_savepoints(
    source: _Source, statements: tuple[Statement, ...], *, ours: bool
) -> Iterator[Problem]:
    """Find savepoints that no transaction holds, and uses of one that the script itself has not set.

    What stands before the script in a transaction of `ours` is not its own to take back.
    """
    names: list[str] = []
    inside = ours
    for statement in statements:
        facts, word = statement.facts, statement.facts.transaction or ""
        name = facts.savepoint
        if facts.begins_or_ends and not ours:
            names.clear()
            inside = word == "BEGIN" or (word in _CLOSES and not facts.bare)
        elif name is None:
            continue
        elif not inside:
            hint = "put BEGIN and COMMIT around what it is for"
            yield source.problem(statement.offset, f"{word} outside of BEGIN … COMMIT", hint=hint)
        elif word not in _BEHIND_SAVEPOINT:
            names.append(name)
        elif name not in names:
            message = f"{word} of '{name}', which the script has not set before"
            yield source.problem(statement.offset, message, hint="write SAVEPOINT before it")
        else:
            last = len(names) - 1 - names[::-1].index(name)
            del names[last + _BEHIND_SAVEPOINT[word] :]


def _hazards(
    source: _Source, statements: tuple[Statement, ...], not_transactional: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Return each code once, with its reasons.

    What the script itself has made before holds nothing of anyone else's.
    """
    found: dict[str, list[str]] = {}
    made: set[str] = set()
    for statement in statements:
        facts = statement.facts
        for code, dangers in ((DELETES_DATA, facts.deletes), (REWRITES_TABLE, facts.rewrites)):
            for danger in dangers:
                if danger.relation not in made:
                    found.setdefault(code, []).append(f"{danger.message} ({source.line(statement)})")
        made.update(facts.makes)
        if facts.sets in ("search_path", "all", "role"):
            made.clear()  # the same name may mean another relation from here on
    if not_transactional:
        found[NOT_TRANSACTIONAL] = list(not_transactional)
    return [(code, _few(reasons)) for code, reasons in found.items()]


def _few(reasons: list[str], at_most: int = 5) -> str:
    unique = list(dict.fromkeys(reasons))
    more = f", and {len(unique) - at_most} more" if len(unique) > at_most else ""
    return ", ".join(unique[:at_most]) + more
