"""sqitch.conf: where plan and scripts are."""

import pytest

from reconciler.changes import sqitch_config
from reconciler.errors import PlanFileError


def test_defaults_are_those_of_sqitch() -> None:
    """Without a configuration everything stands in the module directory."""
    found = sqitch_config.places("modules/shop")
    assert (found.plan_file, found.extension) == ("modules/shop/sqitch.plan", "sql")
    assert found.directories["deploy"] == found.reworked_directories["deploy"] == "modules/shop/deploy"
    assert sqitch_config.places("").directories["verify"] == "verify"


def test_directories_follow_the_configuration() -> None:
    """`top_dir` moves what is not named itself, and the engine's own settings win."""
    text = """
; ours
[core]
    engine = pg   # the only one
    top_dir = "db dir"
    extension = ddl
    verify_dir = checks
[engine "pg"]
    revert_dir = undo/
    reworked_dir = old
"""
    found = sqitch_config.places("m", sqitch_config.parse(text, "m/sqitch.conf"))
    assert found.plan_file == "m/db dir/sqitch.plan"
    assert found.directories == {"deploy": "m/db dir/deploy", "revert": "m/undo", "verify": "m/checks"}
    assert (found.reworked_directories["deploy"], found.extension) == ("m/old/deploy", "ddl")


def test_git_syntax_is_understood() -> None:
    """Names fold, quotes keep blanks and signs, a backslash joins lines, a bare name is true."""
    text = (
        "[Core] Plan_File = a\\\nb.plan\r\n"
        '[user]\nname = "A # \\"B\\" " ; note\n'
        '[add]\n all\n[target "T.x"]\nuri=db:pg:x\n'
    )
    assert sqitch_config.parse(text, "c") == {
        "core.plan_file": "ab.plan",
        "user.name": 'A # "B" ',
        "add.all": "true",
        "target.T.x.uri": "db:pg:x",
    }


@pytest.mark.parametrize("text", ["a = b\n", "[core\n", '[core]\na = "open\n', "[core]\n= 3\n"])
def test_broken_configurations_are_refused(text: str) -> None:
    """A line that is no setting is named, never skipped."""
    with pytest.raises(PlanFileError, match=r"c:\d: not a setting"):
        sqitch_config.parse(text, "c")


def test_variables_of_scripts_are_ranked_as_in_sqitch() -> None:
    """The engine's go before those of the kind of script, and these before the core's; case is kept."""
    text = (
        '[core.variables]\n  a = 1\n  Name = x\n[deploy "variables"]\n  a = 2\n  b = 2\n'
        '[engine "pg.variables"]\n  b = 3\n[revert.variables]\n  a = 4\n'
    )
    settings = sqitch_config.parse(text, "sqitch.conf")
    assert sqitch_config.variables("deploy", settings) == {"a": "2", "b": "3", "Name": "x"}
    assert sqitch_config.variables("revert", settings) == {"a": "4", "b": "3", "Name": "x"}
    assert sqitch_config.variables("verify", None) == {}
