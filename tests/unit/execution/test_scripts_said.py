"""What is kept of what scripts say."""

import psycopg
import pytest

from reconciler.changes.script import Script
from reconciler.errors import DatabaseUnavailable, StepFailed
from reconciler.execution.said import BYTES_MAX, said_before, said_by
from reconciler.execution.scripts import ScriptFault
from reconciler.state.program import Purpose, compile_script


def said(*texts: str) -> str:
    return said_by(
        (Script(f"deploy/{number}.sql", text), Purpose.DEPLOY) for number, text in enumerate(texts)
    )


def test_lines_in_their_order() -> None:
    """Every script's words stand in a line each, in the order in which they are run."""
    assert said("\\echo one\nselect 1;\n\\warn two\n", "select 2;", "\\echo three\n") == "one\ntwo\nthree"


def test_silent_scripts_say_nothing() -> None:
    """Nothing is made of a script that only mentions the command."""
    assert said("select '\\echo'; -- \\echo\n", "select 1;") == ""
    assert said_by([(None, Purpose.VERIFY)]) == ""


def test_much_is_cut() -> None:
    """What is kept is bounded in bytes, and says that it was cut."""
    text = said("".join(f"\\echo ä{number} {'ö' * 200}\n" for number in range(100)))
    assert len(text.encode()) <= BYTES_MAX
    assert text.startswith("ä0 ö")
    assert text.endswith("… (cut)")


DEPLOY = Script(
    "deploy/a.sql", "\\echo one\nselect 1;\n\\echo two\nselect 2\n\\echo three\n, 2;\\echo four\n"
)
VERIFY = Script("verify/a.sql", "\\echo five\nselect 3;\n\\echo six\n")
BOTH = ((DEPLOY, Purpose.DEPLOY), (VERIFY, Purpose.VERIFY))


@pytest.mark.parametrize(
    ("script", "purpose", "statement", "told"),
    [
        (DEPLOY, Purpose.DEPLOY, 0, "one"),
        (DEPLOY, Purpose.DEPLOY, 1, "one\ntwo\nthree"),
        (VERIFY, Purpose.VERIFY, 0, "one\ntwo\nthree\nfour\nfive"),
    ],
    ids=["first", "second", "verify"],
)
def test_what_was_said_before_a_failure(script: Script, purpose: Purpose, statement: int, told: str) -> None:
    """What stands before the statement that failed, or in it, was said; what stands behind it was not."""
    program = compile_script(script, purpose=purpose)
    error = StepFailed("failed")
    error.__cause__ = ScriptFault(None, program, statement, psycopg.DataError())
    assert said_before(BOTH, error) == told


def test_what_was_said_where_no_statement_failed() -> None:
    """All of it where the transaction failed at its end, nothing where nobody knows how far it was."""
    assert said_before(BOTH, StepFailed("at the commit")) == said_by(BOTH)
    assert said_before(BOTH, DatabaseUnavailable("gone")) == ""


def test_a_silent_script_that_failed_kept_the_next_from_speaking() -> None:
    """What the verify script says is not told where the deploy script failed."""
    silent = Script("deploy/b.sql", "select 1;")
    error = StepFailed("failed")
    error.__cause__ = ScriptFault(
        None, compile_script(silent, purpose=Purpose.DEPLOY), 0, psycopg.DataError()
    )
    assert said_before(((silent, Purpose.DEPLOY), (VERIFY, Purpose.VERIFY)), error) == ""
