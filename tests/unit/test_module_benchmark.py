"""What the benchmark of modules does without a server: files, who takes part, ratios, goals, tables."""

import argparse
import json
import re

import pytest

from benchmarks import modules, side_by_side
from benchmarks.chain import Chain, pgpm_files, plan, session, sqitch_files
from benchmarks.contestants import spec
from benchmarks.figures import GOALS, INSIDE, Book, Goal, as_json, as_text, growth, ratios
from reconciler.changes import plan_file

CHAIN = Chain(project="chain12", changes=12)


def book(*rows: tuple[str, str, float]) -> Book:
    made = Book()
    for who, verb, seconds in rows:
        made.add(12, who, verb, seconds, peak=1024 * 1024)
    return made


def test_plan_is_one_that_is_read_without_problems() -> None:
    """Every change requires the one before it, and there is a tag every ten."""
    read = plan_file.parse(plan(CHAIN), "sqitch.plan", flavor=plan_file.Flavor.SQITCH)
    assert [change.requires for change in read.changes][:3] == [(), ("t0",), ("t1",)]
    assert [tag.name for change in read.changes for tag in change.tags] == ["v1"]


def test_each_tool_gets_the_same_tables() -> None:
    """Sqitch's scripts have their own transactions, pgpm's have none; what they do is the same."""
    by_sqitch, by_pgpm = sqitch_files(CHAIN), pgpm_files(CHAIN)
    scripts = [name for name in by_sqitch if name.endswith(".sql")]
    assert len(scripts) == 36
    for name in scripts:
        bare = re.sub(r"(BEGIN|COMMIT|ROLLBACK);\n\n?", "", by_sqitch[name])
        assert bare.split() == by_pgpm[name].split()
    assert "BEGIN" not in "".join(by_pgpm.values())


def test_a_session_makes_one_transaction_or_one_for_each() -> None:
    """Reverts go backwards; verify scripts are rolled back."""
    each = session(CHAIN, "revert", together=False)
    assert (each.count("BEGIN;"), each.count("COMMIT;")) == (12, 12)
    assert each.index("chain12_t11;") < each.index("chain12_t0;")
    together = session(CHAIN, "verify", together=True)
    assert (together.count("BEGIN;"), together.count("ROLLBACK;"), together.count("SELECT")) == (1, 1, 12)


@pytest.mark.parametrize("apart", [False, True])
def test_modules_stand_in_one_stage_or_in_one_each(apart: bool) -> None:
    """With a stage for each they run in a row."""
    made = spec(["a", "b"], transaction="change", apart=apart)["spec"]
    assert len(made["stages"]) == (3 if apart else 2)
    assert [part["kind"] for part in made["components"]] == ["Database", "Module", "Module"]


def test_sqitch_is_spared_what_takes_it_minutes() -> None:
    """Beyond 500 changes only on request, beyond 50 in the first round only; all others always."""
    assert modules.takes_part("us, change", 2000, 2, full=False)
    assert modules.takes_part("sqitch", 50, 2, full=False)
    assert modules.takes_part("sqitch", 500, 0, full=False)
    assert not modules.takes_part("sqitch", 500, 1, full=False)
    assert not modules.takes_part("sqitch", 2000, 0, full=False)
    assert modules.takes_part("sqitch", 2000, 1, full=True)


def test_options_are_read() -> None:
    """Sizes are sorted; an unknown peer is refused."""
    options = modules.options_of([*modules.QUICK, "--changes", "500,50", "--without", "sqitch,pgpm"])
    assert options.changes == (50, 500)
    assert options.without == {"sqitch", "pgpm"}
    with pytest.raises(argparse.ArgumentTypeError):
        modules._peers("psql")


def test_ratios_are_of_medians_against_the_fastest() -> None:
    """Of several peers the best counts; what somebody could not do counts for nothing."""
    made = book(
        ("us, change", "deploy", 3.0), ("us, change", "deploy", 1.0), ("us, change", "deploy", 2.0),
        ("psql, change", "deploy", 1.0), ("pgpm, default", "deploy", 8.0), ("pgpm, fast", "deploy", 4.0),
    )  # fmt: skip
    made.fail(12, "sqitch", "deploy", "out of memory")
    found = {ratio.against: ratio for ratio in ratios(made.figures)}
    assert found.keys() == {"psql, change", "pgpm, fast"}
    assert (found["psql, change"].times, found["psql, change"].best) == (2.0, 1.0)
    assert (found["pgpm, fast"].times, found["pgpm, fast"].best) == (2.0, 4.0)


@pytest.mark.parametrize(("changes", "within"), [(500, [True, True]), (2000, [False, True])])
def test_goals_are_for_many_changes(changes: int, within: list[bool]) -> None:
    """With few, starting takes most of the time, and nothing is over."""
    made = Book()
    for who, seconds in (("us, change", 2.0), ("psql, change", 1.0), ("sqitch", 50.0)):
        made.add(changes, who, "deploy", seconds)
    assert [ratio.within for ratio in ratios(made.figures)] == within


def test_every_goal_is_about_somebody_who_is_measured() -> None:
    """Names in goals are those of contestants."""
    known = {
        "us, change",
        "us, module",
        "psql, change",
        "psql, change, verified",
        "psql, module",
        "pgpm, default",
        "pgpm, fast",
        "sqitch",
    }
    sides = {side_by_side.US, side_by_side.US_IN_ROW, side_by_side.PSQL, side_by_side.PSQL_IN_ROW}
    for goals, names in ((GOALS, known), (side_by_side.GOALS, sides)):
        for goal in goals:
            assert {name.removesuffix(INSIDE) for name in (goal.who, *goal.against)} <= names


def test_table_says_what_is_over_its_goal() -> None:
    """A failure shows as one, a figure of several rounds with its spread."""
    made = book(("us, change", "status", 0.4), ("us, change", "status", 0.8), ("psql, change", "deploy", 1.0))
    made.fail(12, "pgpm, default", "revert", "out of shared memory")
    text = as_text(made.figures)
    assert "0.60 (0.40-0.80)" in text
    assert "status: us, change takes 0.60 s; goal at most 0.5 s, OVER" in text
    assert re.search(r"pgpm, default .* fails", text)


def test_json_holds_every_measurement() -> None:
    """It can be read back, with ratios and what failed."""
    made = book(("us, at once", "deploy", 1.0), ("us, in a row", "deploy", 2.0))
    goal = Goal(verbs=("deploy",), who="us, at once", against=("us, in a row",))
    read = json.loads(json.dumps(as_json(made.figures, [goal])))
    assert [figure["seconds"] for figure in read["figures"]] == [[1.0], [2.0]]
    assert [ratio["times"] for ratio in read["ratios"]] == [0.5]


def test_growth_of_memory_is_from_the_fewest_changes_to_the_most() -> None:
    """The peak of all rounds counts."""
    made = Book()
    for changes, peak in ((2000, 120), (50, 90), (50, 100)):
        made.add(changes, "us, change", "verify", 1.0, peak=peak)
    made.fail(5000, "us, change", "verify", "refused")
    assert growth(made.figures, "us, change") == {"verify": 1.2}


def test_sessions_at_once_are_one_command_that_fails_with_any() -> None:
    """The shell waits for each of them."""
    assert side_by_side.at_once([["psql", "a"]]) == ("psql", "a")
    assert side_by_side.at_once([["psql", "a"], ["psql", "b"]])[2] == (
        "psql a & p0=$!; psql b & p1=$!; wait $p0 && wait $p1"
    )
