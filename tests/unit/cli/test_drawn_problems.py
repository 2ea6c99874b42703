"""Problems on a terminal: with the line that is meant, where that is known."""

import io

import pytest

from reconciler.cli.command import tell
from reconciler.cli.output import Screen
from reconciler.errors import InvalidInput, Problem


@pytest.mark.parametrize("count", [1, 2])
def test_problems_are_drawn_with_their_line(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Below a problem stands its line with carets; one without a line stays one line."""
    drawn = Problem(
        file="a/v.sql", line=2, column=8, message="no such object", excerpt="SELECT a.b\n       ^^^"
    )
    plain = Problem(file="a/w.sql", message="too deep")
    tell(Screen(out=io.StringIO()), InvalidInput([drawn, plain][:count]))
    lines = capsys.readouterr().err.splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith("a/v.sql:2:8: no such object"))
    line, carets = lines[at + 1 : at + 3]
    assert line.strip() == "SELECT a.b"
    assert carets.index("^") == line.index("a.b")
    assert count == 1 or lines[at + 3].strip() == "a/w.sql: too deep"
