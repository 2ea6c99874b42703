"""Parts of a program outside of transactions, and where to go on with one that was begun."""

from dataclasses import replace

import pytest

from reconciler.changes.script import Script
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.state.tracked import Unfinished
from reconciler.state.units import How, left_of, resumption, settings, units

LEFT = Unfinished(change_id="1", project="shop", name="a", script_hash=None, words="X at a.sql:1")


def compiled(text: str) -> Program:
    """Compile a deploy script."""
    return compile_script(Script("a.sql", text), purpose=Purpose.DEPLOY)


def test_a_program_is_cut_into_parts() -> None:
    """Transactions of the script, statements in one of ours, and statements in none."""
    text = "SET a.b = 1; BEGIN; SELECT 1; SELECT 2; COMMIT; VACUUM t; CALL p();"
    text += "DO $$BEGIN COMMIT; END$$; DO $$BEGIN END$$"
    made = compiled(text)
    parts = units(made)
    assert [(part.first, part.last, part.how) for part in parts] == [
        (0, 0, How.WRAPPED),
        (1, 4, How.BLOCK),
        (5, 5, How.ALONE),
        (6, 6, How.ALONE),
        (7, 7, How.ALONE),
        (8, 8, How.WRAPPED),
    ]
    assert [part.recognisable(made) for part in parts] == [True, True, True, False, False, True]
    assert parts[2].words == "VACUUM at a.sql:1"
    assert len({part.hash for part in parts}) == len(parts)
    assert settings(made, 5) == (0,)
    assert settings(compiled("SET LOCAL a.b = 1; VACUUM; SET ROLE x"), 3) == (2,)


def test_data_are_part_of_what_was_done() -> None:
    """Other data below a COPY make another part."""
    one, two = (units(compiled(f"VACUUM t;\nCOPY t FROM stdin;\n{n}\n\\.\n"))[1].hash for n in (1, 2))
    assert one != two


@pytest.mark.parametrize(
    ("before", "running", "expected"),
    [
        ("", None, (0, False, None)),
        ("VACUUM t", None, (1, False, None)),
        ("VACUUM t", "CLUSTER", (1, True, None)),
        ("VACUUM t; CLUSTER", "CALL p()", (2, False, "X at a.sql:1 was interr")),
        ("VACUUM u", None, (0, False, "1 statement of another version")),
        ("VACUUM t", "VACUUM u", (1, False, "another version of the script was interrupted")),
        ("VACUUM t; CLUSTER; CALL p(); VACUUM u", None, (0, False, "4 statements of another")),
    ],
)  # fmt: skip
def test_where_to_go_on(before: str, running: str | None, expected: tuple[int, bool, str | None]) -> None:
    """Behind what is done, at what is recognised, or not without a person."""
    made = compiled("VACUUM t; CLUSTER; CALL p()")
    done = tuple(part.hash for part in units(compiled(f"-- transaction: none\n{before}")))
    now = units(compiled(f"-- transaction: none\n{running}"))[0].hash if running else None
    found = resumption(made, units(made), replace(LEFT, done=done, running=now))
    assert (found.start, found.running) == expected[:2]
    assert (found.doubt or "").startswith(expected[2] or "")
    assert (found.doubt is None) == (expected[2] is None)


def test_nothing_noted_begins_at_the_beginning() -> None:
    """A change that nobody began; one whose id moved is known by its name."""
    made = compiled("VACUUM t")
    assert resumption(made, units(made), None).start == 0
    assert left_of({"1": LEFT}, ("1", "b"), "shop") is LEFT
    assert left_of({"1": LEFT}, ("2", "a"), "shop") is LEFT
    assert left_of({"1": LEFT}, ("2", "a"), "blog") is None
    assert left_of({}, ("1", "a"), "shop") is None
