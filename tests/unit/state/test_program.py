"""Programs: what of a script is sent, in which kind of transaction, and with which dangers."""

import pytest

from reconciler.changes.psql import Surroundings, expand
from reconciler.changes.script import Script
from reconciler.errors import ScriptError
from reconciler.state import program
from reconciler.state.program import Program, Purpose, compile_script


def compiled(text: str, purpose: Purpose = Purpose.DEPLOY) -> Program:
    """Compile a text as a script."""
    return compile_script(Script(path="deploy/a.sql", text=text), purpose=purpose)


def sent(text: str, purpose: Purpose = Purpose.DEPLOY) -> list[str]:
    """Return the statements that are sent."""
    return [statement.text for statement in compiled(text, purpose).statements]


def problems_of(text: str, purpose: Purpose = Purpose.DEPLOY) -> list[str]:
    """Return the problems of a script as text, without file name."""
    with pytest.raises(ScriptError) as caught:
        compiled(text, purpose)
    assert all(problem.file == "deploy/a.sql" for problem in caught.value.problems)
    return [str(problem).removeprefix("deploy/a.sql:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        "-- Deploy shop:a to pg\n-- requires: b\n\nBEGIN;\n\nSELECT 1;\nSELECT 2;\n\nCOMMIT;\n",
        "start transaction; SELECT 1; SELECT 2; end",
        "SELECT 1; SELECT 2",
    ],
)
@pytest.mark.parametrize("purpose", [Purpose.DEPLOY, Purpose.REVERT])
def test_the_outermost_transaction_is_left_out(text: str, purpose: Purpose) -> None:
    """A script with Sqitch's `BEGIN … COMMIT` is the same program as one without."""
    assert sent(text, purpose) == ["SELECT 1", "SELECT 2"]
    made = compiled(text, purpose)
    assert (made.transactional, made.hazards, made.reasons) == (True, (), ())


def test_settings_may_stand_outside_the_transaction() -> None:
    """What psql scripts set up before `BEGIN` is kept."""
    text = "SET client_min_messages = warning; BEGIN; SELECT 1; COMMIT; RESET client_min_messages"
    assert sent(text) == [
        "SET client_min_messages = warning",
        "SELECT 1",
        "RESET client_min_messages",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 2; COMMIT",
            "the script controls transactions itself: BEGIN (line 1)",
        ),
        ("SELECT 1; BEGIN; SELECT 2; COMMIT", "the script controls transactions itself: BEGIN (line 1)"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT", "BEGIN (line 1)"),
        ("BEGIN; SELECT 1; ROLLBACK", "ROLLBACK (line 1)"),
        ("SELECT 1;\nCOMMIT", "COMMIT (line 2)"),
        (
            "\nCREATE INDEX CONCURRENTLY i ON t (a)",
            "CREATE INDEX CONCURRENTLY cannot run inside a transaction (line 2)",
        ),
        ("VACUUM t", "VACUUM cannot run inside a transaction (line 1)"),
        ("-- transaction: none\nSELECT 1", "the header says 'transaction: none' (line 1)"),
        (
            "\n-- Deploy a\n--  Transaction: NONE\r\nBEGIN; SELECT 1; COMMIT",
            "the header says 'transaction: none' (line 3)",
        ),
    ],
)
def test_other_transaction_control_makes_a_script_non_transactional(text: str, reason: str) -> None:
    """Such a script is sent as it is, statement by statement, and says why."""
    made = compiled(text)
    assert not made.transactional
    assert made.hazards == (program.NOT_TRANSACTIONAL,)
    assert reason in made.reasons[0]
    assert "".join(each.text for each in made.statements).replace(" ", "") in text.replace(";", "").replace(
        " ", ""
    ).replace("\n", "").replace("\r", "")


@pytest.mark.parametrize(
    "text",
    [
        "SAVEPOINT a; SELECT 1; ROLLBACK TO a; RELEASE a",
        "SAVEPOINT a; SAVEPOINT A; ROLLBACK TO a; ROLLBACK TO a; RELEASE a; RELEASE a",
        "SAVEPOINT a; SELECT 1",
    ],
)
@pytest.mark.parametrize("around", ["{}", "BEGIN; {}; COMMIT"])
def test_savepoints_of_a_script_stay_in_its_transaction(text: str, around: str) -> None:
    """A script may set savepoints and go back to its own: the change is one transaction all the same."""
    made = compiled(around.format(text))
    assert (made.transactional, made.hazards) == (True, ())
    assert "; ".join(each.text for each in made.statements) == text


def test_a_header_stands_before_the_first_statement() -> None:
    """Later comments are only comments, and so is what only looks like a header."""
    assert compiled("SELECT 1;\n-- transaction: none").transactional
    assert compiled("-- transaction: none of these\nSELECT 1").transactional
    assert compiled("-- a note\n\n  -- transaction: none\nSELECT 1").transactional is False


def test_an_unknown_header_is_a_problem() -> None:
    """A slip in the header is not taken for none."""
    assert problems_of("-- transaction: off\nSELECT 1") == [
        "1: unknown value 'off' in the header 'transaction' (the one value is 'none')"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "BEGIN;\nCREATE INDEX CONCURRENTLY i ON t (a);\nCOMMIT;",
            "2:1: CREATE INDEX CONCURRENTLY cannot run inside the BEGIN … COMMIT of the script (remove",
        ),
        (
            "SELECT 1;\n BEGIN;\nSELECT 2;",
            "2:2: BEGIN without COMMIT: the script would leave a transaction open (end",
        ),
        ("BEGIN; SELECT 1; COMMIT AND CHAIN; SELECT 2", "1:1: BEGIN without COMMIT"),
        ("VACUUM t;\nSAVEPOINT a;", "2:1: SAVEPOINT outside of BEGIN … COMMIT (put"),
        ("BEGIN; SAVEPOINT a; COMMIT;\nRELEASE a; VACUUM t", "2:1: RELEASE SAVEPOINT outside of BEGIN"),
        ("SELECT 1;\nROLLBACK TO a;", "2:1: ROLLBACK TO SAVEPOINT of 'a', which the script has not set"),
        ("SAVEPOINT a; RELEASE A;\nROLLBACK TO a", "2:1: ROLLBACK TO SAVEPOINT of 'a', which"),
        ("SAVEPOINT a; SAVEPOINT b; ROLLBACK TO a;\nRELEASE b", "2:1: RELEASE SAVEPOINT of 'b', which"),
    ],
)
def test_what_the_server_would_refuse_is_refused_before(text: str, problem: str) -> None:
    """A script that cannot work as it stands never starts."""
    assert problems_of(text)[0].startswith(problem)


@pytest.mark.parametrize(
    "text",
    [
        "-- Verify shop:a on pg\nBEGIN;\nSELECT 1;\nROLLBACK;",
        "BEGIN; SELECT 1; COMMIT;",
        "BEGIN READ ONLY; SELECT 1; ROLLBACK;",
        "SELECT 1",
    ],
)
def test_verify_scripts_may_carry_a_transaction(text: str) -> None:
    """A verify script is rolled back in any case, so how its pair ends does not matter."""
    made = compiled(text, Purpose.VERIFY)
    assert [each.text for each in made.statements] == ["SELECT 1"]
    assert (made.transactional, made.writes) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN; SELECT 1; ROLLBACK; SELECT 2",
        "SAVEPOINT a",
        "VACUUM t",
        "-- transaction: none\nSELECT 1",
        "BEGIN; SELECT 1",
    ],
)
def test_verify_scripts_may_not_escape_theirs(text: str) -> None:
    """A verify script that could change anything for good is refused."""
    assert "rolled back" in problems_of(text, Purpose.VERIFY)[0]


def test_verify_scripts_may_ask_to_write() -> None:
    """The header lets writes through, which are rolled back all the same; pgpm's own header is another."""
    assert compiled("-- verify: writes\nSELECT 1", Purpose.VERIFY).writes
    assert not compiled("-- Verify: writes on pg\nSELECT 1", Purpose.VERIFY).writes
    assert not compiled("-- verify: writes\nSELECT 1", Purpose.DEPLOY).writes


def test_what_of_psql_is_not_carried_out_is_refused_all_at_once() -> None:
    """Each place is named, together with a syntax error beside them, and strings fool nobody."""
    text = (
        "\\set x 1\nSELECT 'a\\b';\nCOPY t FROM stdin;\n1\t\\N\n\\.\n  \\i other.sql\n"
        "SELECT :x;\n\\copy t from 'f'\nSELECT 1 2;\n"
    )
    assert [problem.partition(" (")[0] for problem in problems_of(text)] == [
        "6:3: there is no file 'other.sql' in the module to include",
        "8:1: '\\copy' of psql is not carried out",
        '9:10: syntax error at or near "2"',
    ]


def test_data_for_copy_have_to_stand_in_the_script() -> None:
    """Data that would have to come from elsewhere, or go there, are not to be had."""
    assert problems_of("COPY t TO stdout")[0].startswith("1:1: 'COPY … TO stdout' needs a client")
    assert problems_of("SELECT 1;\nCOPY t FROM stdin")[0].startswith("2:1: the data of 'COPY … FROM stdin'")
    assert sent("COPY t FROM '/f'") == ["COPY t FROM '/f'"]


def test_data_belong_to_their_statements() -> None:
    """Each statement finds its data, and hazards and places are those of the script."""
    made = compiled(
        "BEGIN;\nCOPY a FROM stdin;\n1;\n2\n\\.\nDROP TABLE b;\nCOPY c (d) FROM STDIN;\n\\.\nCOMMIT;\n"
    )
    assert [each.text for each in made.statements] == [
        "COPY a FROM stdin",
        "DROP TABLE b",
        "COPY c (d) FROM STDIN",
    ]
    first, none, last = (made.data_of(index) for index in range(3))
    assert first is not None
    assert last is not None
    assert (b"".join(first.chunks()), none, b"".join(last.chunks())) == (b"1;\n2\n", None, b"")
    assert first.place("COPY a, line 2, column a: x") == ("deploy/a.sql", 4, 1)
    assert made.reasons == ("drops table b (line 6)",)
    assert program.locate(made, 1) == (6, 1)


def test_verify_scripts_bring_no_data() -> None:
    """Nothing of them would stay."""
    text = "-- verify: writes\nCOPY t FROM stdin;\n1\n\\.\n"
    assert problems_of(text, Purpose.VERIFY)[0].startswith(
        "2:1: 'COPY … FROM stdin' cannot stand in a verify"
    )


def test_variables_without_a_value_are_named() -> None:
    """Nothing is sent with a hole in it; what only looks like a variable is left alone."""
    assert problems_of("SELECT :x")[0].startswith("1:8: unknown variable 'x' (declare it in 'variables'")
    assert sent("SELECT a[1:n], ':x', b::int, f(c := 1)") == ["SELECT a[1:n], ':x', b::int, f(c := 1)"]


def test_strings_mean_what_they_meant_when_they_were_read() -> None:
    """A script may not turn off the way its strings were read by."""
    assert problems_of("SET standard_conforming_strings = off;")[0].startswith("1:1: with standard_conf")
    assert sent("SET standard_conforming_strings = on") == ["SET standard_conforming_strings = on"]


def test_a_header_may_follow_settings_of_psql() -> None:
    """Comments between them still stand before the first statement."""
    assert not compiled("\\set ON_ERROR_STOP 1\n-- transaction: none\nSELECT 1;").transactional


def test_dangers_are_named_with_their_lines() -> None:
    """Every code comes once, with a reason that says where."""
    text = "BEGIN;\nDROP TABLE a, b;\nALTER TABLE c ALTER d TYPE int;\nTRUNCATE e;\nCOMMIT;"
    made = compiled(text)
    assert made.hazards == (program.DELETES_DATA, program.REWRITES_TABLE)
    assert made.reasons == (
        "drops table a (line 2), drops table b (line 2), truncates e (line 4)",
        "changes the type of a column of c (line 3)",
    )


def test_many_dangers_are_summed_up() -> None:
    """A reason stays short enough to read."""
    assert compiled("".join(f"DROP TABLE t{i};" for i in range(9))).reasons[0].endswith(", and 4 more")


def test_what_the_script_made_itself_is_no_danger() -> None:
    """A scratch table may be dropped by the script that made it, not one that may have been there."""
    assert compiled("CREATE TEMP TABLE a (b int); TRUNCATE a; DROP TABLE a").hazards == ()
    assert compiled("CREATE TABLE IF NOT EXISTS a (b int); DROP TABLE a").hazards == (program.DELETES_DATA,)
    assert compiled("DROP TABLE a; CREATE TABLE a (b int)").hazards == (program.DELETES_DATA,)
    text = "CREATE TABLE a (b int); SET search_path = other; DROP TABLE a"
    assert compiled(text).hazards == (program.DELETES_DATA,)


def test_a_place_in_a_statement_is_a_place_in_the_file() -> None:
    """The server's position leads to line and column of the script, in characters."""
    made = compiled("-- é\nBEGIN;\n  SELECT 'ü',\n    nosuch\n  FROM t;\nCOMMIT;\n")
    position = made.statements[0].text.index("nosuch") + 1
    assert program.locate(made, 0, position) == (4, 5)
    assert program.locate(made, 0) == (3, 3)
    assert program.locate(made, 0, 10_000) == (5, 9)


def test_the_same_text_elsewhere_is_another_program() -> None:
    """What is remembered of a text does not hold its path or its purpose."""
    one = compile_script(Script(path="a.sql", text="BEGIN; SELECT 1; ROLLBACK"), purpose=Purpose.VERIFY)
    two = compile_script(Script(path="b.sql", text="BEGIN; SELECT 1; ROLLBACK"), purpose=Purpose.DEPLOY)
    three = compile_script(Script(path="c.sql", text="BEGIN; SELECT 1; ROLLBACK"), purpose=Purpose.VERIFY)
    assert (one.script.path, two.script.path, three.script.path) == ("a.sql", "b.sql", "c.sql")
    assert (one.transactional, two.transactional) == (True, False)
    assert one.statements is three.statements
    assert one.parse_hash == two.parse_hash


@pytest.mark.parametrize("text", ["", "-- nothing to do\n", "BEGIN; COMMIT;"])
def test_an_empty_script_is_a_program(text: str) -> None:
    """A change may do nothing."""
    assert compiled(text).statements == ()


@pytest.mark.parametrize(
    ("own", "included", "transactional"),
    [
        ("\\ir part.sql\n", "-- transaction: none\nselect 1;\n", True),
        ("-- transaction: none\n\\ir part.sql\n", "select 1;\n", False),
        ("\\ir part.sql\n-- transaction: none\n", "-- mine\nselect 1;\n", False),
    ],
)
def test_kept_script_asks_for_what_it_asked_for(own: str, included: str, *, transactional: bool) -> None:
    """Headers of the script itself count, also once what it includes stands in it; those of others do not."""
    around = Surroundings(root="m", texts={"m/part.sql": included.encode()})
    script = Script("m/revert.sql", own, expand("m/revert.sql", own, around))
    kept = Script("stored", script.self_contained())
    for each in (script, kept):
        program = compile_script(each, purpose=Purpose.REVERT)
        assert (program.transactional, [one.text for one in program.statements]) == (
            transactional,
            ["select 1"],
        )
