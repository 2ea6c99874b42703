"""What is kept of what scripts say."""

from reconciler.changes.script import Script
from reconciler.execution.said import BYTES_MAX, said_by
from reconciler.state.program import Purpose


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
