"""Turn a script of a change into a program: what to send, in which kind of transaction, with which dangers.

It refuses what cannot run before anything runs, and keeps the place of each statement in its file. It never
sends anything and never asks for consent: hazards are codes and reasons, judged by `plan`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from reconciler.catalog import sql_lexer, sql_text
from reconciler.catalog.sql_facts import Danger
from reconciler.catalog.sql_text import Statement, SyntaxProblem
from reconciler.catalog.text_cache import TextCache, text_key
from reconciler.changes.script import Script
from reconciler.errors import Problem, ScriptError

DELETES_DATA = "DELETES_DATA"
REWRITES_TABLE = "REWRITES_TABLE"
NOT_TRANSACTIONAL = "NOT_TRANSACTIONAL"

_PSQL_HINT = "only plain SQL is sent; replace what only psql understands"
_HEADER = re.compile(r"--[ \t]*(?:(verify):[ \t]*(writes)|((?i:transaction)):[ \t]*(\S+))[ \t]*\r?$")
_CLOSES = frozenset({"COMMIT", "ROLLBACK"})


class Purpose(StrEnum):
    """What a script is run for."""

    DEPLOY = "deploy"
    VERIFY = "verify"
    REVERT = "revert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A script that can be run.

    Where `transactional` is true, the statements run in one transaction of ours and the script's own
    outermost `BEGIN … COMMIT` is left out; else they are all there is in the script and run one by one, each
    on its own. `writes` is true for a verify script that asks to write (it is rolled back all the same).
    `reasons` say for each code of `hazards` why, with lines.
    """

    script: Script
    purpose: Purpose
    statements: tuple[Statement, ...]
    transactional: bool = True
    writes: bool = False
    hazards: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def parse_hash(self) -> str:
        """A hash of the script that layout, comments and the case of keywords do not move."""
        return sql_text.parse_hash(self.script.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """A program without its script, or what is wrong with it: the same for the same text."""

    statements: tuple[Statement, ...] = ()
    transactional: bool = True
    writes: bool = False
    hazards: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Headers:
    """What the comments at the top of a script ask for."""

    transaction_none: int | None = None
    verify_writes: bool = False
    problems: tuple[Problem, ...] = ()


_compiled: TextCache[_Compiled] = TextCache(weight_max=64 * 1024 * 1024)


def compile_script(script: Script, *, purpose: Purpose) -> Program:
    """Make a program of a script; one that cannot run raises a `ScriptError` with every problem."""
    purpose = Purpose(purpose)
    key = text_key(script.text, purpose.value)
    made = _compiled.get(key)
    if made is None:
        made = _compile(script.text, purpose)
        _compiled.put(key, made, weight=2 * len(script.text))
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
    )


def locate(program: Program, statement_index: int, position_in_statement: int = 1) -> tuple[int, int]:
    """Return line and column in the script's file of a server's error position (1-based) in a statement."""
    statement = program.statements[statement_index]
    inside = min(max(position_in_statement - 1, 0), len(statement.text))
    return sql_text.position(program.script.text, statement.offset + inside)


def _at(path: str, problem: Problem) -> Problem:
    return Problem(
        message=problem.message, file=path, line=problem.line, column=problem.column, hint=problem.hint
    )


def _compile(text: str, purpose: Purpose) -> _Compiled:
    try:
        statements = sql_text.split(text)
    except SyntaxProblem as problem:
        return _Compiled(problems=tuple(_why_unparsable(text, problem)))
    headers = _headers(text)
    problems = [*headers.problems, *_client_data(text, statements)]
    inner = _without_outermost(statements, purpose)
    reasons = tuple(_not_transactional(inner if inner is not None else statements, headers))
    if purpose is Purpose.VERIFY:
        problems += _refused_in_verify(text, inner if inner is not None else statements, headers)
    elif reasons:
        problems += _misplaced_control(text, statements)
    if problems:
        return _Compiled(
            problems=tuple(sorted(problems, key=lambda each: (each.line or 0, each.column or 0)))
        )
    transactional = not reasons
    hazards = _hazards(statements, reasons)
    return _Compiled(
        statements=inner if transactional and inner is not None else statements,
        transactional=transactional,
        writes=purpose is Purpose.VERIFY and headers.verify_writes,
        hazards=tuple(code for code, _ in hazards),
        reasons=tuple(reason for _, reason in hazards),
    )


def _why_unparsable(text: str, problem: SyntaxProblem) -> Iterator[Problem]:
    """Name what only psql understands; what is left is a syntax error."""
    features = sql_lexer.psql_features(text) if len(text) <= sql_text.TEXT_MAX else ()
    for feature in features:
        line, column = sql_text.position(text, feature.start)
        yield Problem(
            message=f"'{feature.name}' is understood by psql only", line=line, column=column, hint=_PSQL_HINT
        )
    left: SyntaxProblem | None = problem
    if features:
        try:
            sql_text.split(sql_lexer.blank(text, features))
            left = None
        except SyntaxProblem as other:
            left = other
    if left is not None:
        variable = left.message_alone.endswith('at or near ":"')
        hint = "variables of psql (:name) are not replaced" if variable else None
        yield Problem(message=left.message_alone, line=left.line, column=left.column, hint=hint)


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
        if line.strip() and not line.startswith("--"):
            return
        yield line
        start = end + 1


def _client_data(text: str, statements: tuple[Statement, ...]) -> Iterator[Problem]:
    for statement in statements:
        if statement.facts.client_data:
            message = f"'{statement.facts.client_data}' needs a client that sends or takes the data"
            yield _problem(text, statement, message, hint=_PSQL_HINT)


def _problem(text: str, statement: Statement, message: str, *, hint: str | None = None) -> Problem:
    line, column = sql_text.position(text, statement.offset)
    return Problem(message=message, line=line, column=column, hint=hint)


def _without_outermost(statements: tuple[Statement, ...], purpose: Purpose) -> tuple[Statement, ...] | None:
    """Leave out the one `BEGIN … COMMIT` around everything; None where the script has no such pair.

    Only settings of the session may stand outside the pair. A verify script is rolled back in any case, so
    there the pair may end either way and `BEGIN` may carry a mode.
    """
    control = [index for index, statement in enumerate(statements) if statement.facts.transaction]
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


def _not_transactional(statements: tuple[Statement, ...], headers: _Headers) -> Iterator[str]:
    """Say why the statements cannot run in one transaction of ours."""
    if headers.transaction_none is not None:
        yield f"the header says 'transaction: none' (line {headers.transaction_none})"
    for statement in statements:
        what = statement.facts.outside_transaction
        if what:
            yield f"{what} cannot run inside a transaction (line {statement.line})"
        elif statement.facts.transaction:
            control = statement.facts.transaction
            yield f"the script controls transactions itself: {control} (line {statement.line})"


def _refused_in_verify(text: str, statements: tuple[Statement, ...], headers: _Headers) -> Iterator[Problem]:
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
            yield _problem(text, statement, message, hint=hint)


def _misplaced_control(text: str, statements: tuple[Statement, ...]) -> Iterator[Problem]:
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
            yield _problem(text, statement, message, hint="remove BEGIN and COMMIT around it")
    if opened is not None:
        message = "BEGIN without COMMIT: the script would leave a transaction open"
        yield _problem(text, opened, message, hint="end the script with COMMIT")


def _hazards(statements: tuple[Statement, ...], not_transactional: tuple[str, ...]) -> list[tuple[str, str]]:
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
                    found.setdefault(code, []).append(_reason(danger, statement))
        made.update(facts.makes)
        if facts.sets in ("search_path", "all", "role"):
            made.clear()  # the same name may mean another relation from here on
    if not_transactional:
        found[NOT_TRANSACTIONAL] = list(not_transactional)
    return [(code, _few(reasons)) for code, reasons in found.items()]


def _reason(danger: Danger, statement: Statement) -> str:
    return f"{danger.message} (line {statement.line})"


def _few(reasons: list[str], at_most: int = 5) -> str:
    unique = list(dict.fromkeys(reasons))
    more = f", and {len(unique) - at_most} more" if len(unique) > at_most else ""
    return ", ".join(unique[:at_most]) + more
