"""Change modules: plan, control file and scripts out of the files of a source."""

import hashlib

import pytest

from reconciler.changes import module
from reconciler.changes.module import module_places, read_module
from reconciler.changes.plan_file import Flavor
from reconciler.errors import PlanFileError

WHO = "2026-01-31T12:00:00Z Ann Example <ann@example.com>"
PLAN = f"%project=shop\n\nbase {WHO}\norders/table [base] {WHO}\n@v1 {WHO}\nbase [base@v1] {WHO}\n".encode()
SCRIPTS = {
    "m/deploy/base.sql": b"SELECT 2;\r\n",
    "m/deploy/base@v1.sql": b"SELECT 1;\n",
    "m/deploy/orders/table.sql": b"\xef\xbb\xbfSELECT 3;\n",
    "m/revert/base.sql": b"SELECT -2;\n",
    "m/revert/base@v1.sql": b"SELECT -1;\n",
    "m/verify/orders/table.sql": b"SELECT 33;\n",
}
FILES = {"m/sqitch.plan": PLAN, **SCRIPTS, "other/deploy/base.sql": b"SELECT 4;"}


def problems_of(files: dict[str, bytes], path: str = "m") -> list[str]:
    """Return the problems of a module as text."""
    with pytest.raises(PlanFileError) as caught:
        read_module(path, files)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", ["m", "m/", "./m"])
def test_a_module_is_read(path: str) -> None:
    """Each change gets its own scripts, the older instance of a rework those of its tag."""
    found = read_module(path, FILES)
    assert (found.project, found.uri, found.requires) == ("shop", None, ())
    assert [(each.change.instance, each.deploy.path) for each in found.changes] == [
        ("base@v1", "m/deploy/base@v1.sql"),
        ("orders/table", "m/deploy/orders/table.sql"),
        ("base", "m/deploy/base.sql"),
    ]
    first, second, third = found.changes
    assert first.revert is not None
    assert first.revert.text == "SELECT -1;\n"
    assert (first.verify, second.revert) == (None, None)
    assert third.deploy.text == "SELECT 2;\r\n"


def test_script_hashes_are_of_the_bytes() -> None:
    """The hash is Sqitch's, over the file as it is; a byte order mark is no part of the SQL."""
    second = read_module("m", FILES).changes[1]
    assert second.script_hash == hashlib.sha1(SCRIPTS["m/deploy/orders/table.sql"]).hexdigest()
    assert second.deploy.text == "SELECT 3;\n"


def test_a_module_may_be_the_whole_source() -> None:
    """The root of the source is a directory like any other."""
    files = {name.removeprefix("m/"): content for name, content in FILES.items() if name.startswith("m/")}
    assert read_module(".", files).changes[0].deploy.path == "deploy/base@v1.sql"


def test_a_pgpm_module_is_read() -> None:
    """The plan of pgpm and its control file make a module."""
    files = {
        "m/pgpm.plan": b"%project=pets\nschema\n",
        "m/pets.control": b"requires = 'citext, pgpm-verify'\n",
        "m/deploy/schema.sql": b"CREATE SCHEMA pets;",
    }
    found = read_module("m", files)
    assert found.plan.flavor is Flavor.PGPM
    assert found.requires == ("citext", "pgpm-verify")


def test_settings_of_sqitch_are_followed() -> None:
    """A sqitch.conf in the module says where things are."""
    files = {
        "m/sqitch.conf": b"[core]\n\ttop_dir = db\n\tverify_dir = checks\n\textension = ddl\n",
        "m/db/sqitch.plan": f"%project=p\n\na {WHO}\n".encode(),
        "m/db/deploy/a.ddl": b"SELECT 1",
        "m/checks/a.ddl": b"SELECT 2",
    }
    change = read_module("m", files).changes[0]
    assert change.verify is not None
    assert change.verify.path == "m/checks/a.ddl"


def test_two_different_plans_are_a_problem() -> None:
    """Which of two plans counts is not guessed; the same plan twice is fine."""
    assert "differ, and only one can be the plan" in problems_of({**FILES, "m/pgpm.plan": b"%project=x\n"})[0]
    assert read_module("m", {**FILES, "m/pgpm.plan": PLAN}).plan.flavor is Flavor.SQITCH


def test_missing_scripts_are_named_all_at_once() -> None:
    """Each missing deploy script is a problem at the line of its change; missing others are none."""
    problems = problems_of({"m/sqitch.plan": PLAN, "m/deploy/orders/tables.sql": b""})
    missing = "the deploy script of change"
    assert [problem.partition(" (")[0] for problem in problems] == [
        f"m/sqitch.plan:3: {missing} 'base@v1' is missing: 'm/deploy/base@v1.sql'",
        f"m/sqitch.plan:4: {missing} 'orders/table' is missing: 'm/deploy/orders/table.sql'",
        f"m/sqitch.plan:6: {missing} 'base' is missing: 'm/deploy/base.sql'",
    ]
    assert "(write it, or remove 'base' from the plan)" in problems[0]
    assert "(did you mean 'm/deploy/orders/tables.sql'?)" in problems[1]


def test_a_directory_without_a_plan_is_a_problem() -> None:
    """A path that leads to no module says what was looked for."""
    assert "no plan file: neither 'n/sqitch.plan' nor 'n/pgpm.plan' is there" in problems_of(FILES, "n")[0]


def test_broken_files_are_reported_together() -> None:
    """Plan, control file and configuration are all read, whichever of them is broken."""
    files = {"m/sqitch.plan": b"%project=p\n\n?\n", "m/p.control": b"?\n", "m/sqitch.conf": b"?\n"}
    assert [problem.split(":")[0] for problem in problems_of(files)] == [
        "m/sqitch.conf",
        "m/sqitch.plan",
        "m/p.control",
    ]


def test_bytes_that_are_no_text_are_named_by_line() -> None:
    """A script or plan that is not UTF-8 is refused with the line of the first bad byte."""
    files = {**FILES, "m/deploy/base.sql": b"SELECT 1;\n-- \xe9t\xe9\n"}
    assert problems_of(files) == ["m/deploy/base.sql:2: not UTF-8: byte 0xe9 (save the file as UTF-8)"]
    assert problems_of({"m/sqitch.plan": b"\xff"})[0].startswith("m/sqitch.plan:1: not UTF-8")


def test_scripts_are_bounded() -> None:
    """A script beyond the limit is refused."""
    files = {**FILES, "m/verify/base.sql": b" " * (module.SCRIPT_MAX + 1)}
    assert problems_of(files) == [
        (
            f"m/verify/base.sql: the file has more than the {module.SCRIPT_MAX} bytes that are read "
            "(split it; a script may include files of the module with \\ir)"
        )
    ]


def test_revert_lines_are_refused() -> None:
    """A leftover of Sqitch that nothing writes is not deployed by guess."""
    plan = f"%project=p\n\na {WHO}\n-b {WHO}\n".encode()
    assert problems_of({"m/sqitch.plan": plan, "m/deploy/a.sql": b""})[0].startswith(
        "m/sqitch.plan:4: '-b' is not a change to deploy"
    )


def test_the_control_file_of_the_project_wins() -> None:
    """Of several control files only the project's own can be meant."""
    two = {"m/a.control": b"requires = 'x'", "m/shop.control": b"requires = 'y'"}
    assert read_module("m", {**FILES, **two}).requires == ("y",)
    other = {"m/a.control": b"requires = 'x'", "m/b.control": b"requires = 'y'"}
    assert "more than one control file" in problems_of({**FILES, **other})[0]
    assert read_module("m", {**FILES, "m/a.control": b"requires = 'x'"}).requires == ("x",)


def test_only_the_places_of_a_module_are_read() -> None:
    """Its folder and what its sqitch.conf names are all it is made from; a change name leads nowhere else."""
    files = {
        "m/sqitch.conf": b"[core]\n\tdeploy_dir = ../sql/deploy\n",
        "m/sqitch.plan": (
            b"%syntax-version=1.0.0\n%project=m\n\n"
            b"one 2026-01-01T00:00:00Z A <a@example.org> # n\n"
            b"a/../../../x/two 2026-01-01T00:00:00Z A <a@example.org> # n\n"
        ),
        "sql/deploy/one.sql": b"SELECT 1;",
        "x/two.sql": b"SELECT 2;",
    }
    assert module_places("m", files) == ("m", "sql/deploy")
    assert module_places(".", {}) == ("",)
    with pytest.raises(PlanFileError) as caught:
        read_module("m", files)
    (problem,) = caught.value.problems
    assert "the deploy script of change 'a/../../../x/two' is missing" in problem.message


LINK = "it is a symbolic link, which is never followed"


@pytest.mark.parametrize(
    "path",
    [
        "m/sqitch.plan",
        "m/sqitch.conf",
        "m/shop.control",
        "m/deploy/base.sql",
        "m/deploy/base@v1.sql",
        "m/revert/base.sql",
        "m/verify/base.sql",
        "m/verify/orders",
        "m/verify",
    ],
)
def test_what_was_not_read_is_not_missing(path: str) -> None:
    """A file that was left out of what is read is an error with its path and reason, whatever needs it."""
    files = {
        file: content for file, content in FILES.items() if file != path and not file.startswith(f"{path}/")
    }
    with pytest.raises(PlanFileError) as caught:
        read_module("m", files, unread={path: LINK})
    first = caught.value.problems[0]
    assert f"'{path}" in first.message
    assert first.message.endswith(LINK)
    assert "was not read" in first.message
    assert not [problem for problem in caught.value.problems if "missing" in problem.message]


def test_an_include_that_was_not_read_is_told_as_such() -> None:
    """An include of a link names the link as the reason, at the line of the include."""
    files = {**FILES, "m/deploy/base.sql": b"\\ir part.sql\n"}
    found = read_module("m", files, unread={"m/deploy/part.sql": LINK})
    expansion = found.with_values(found.changes[2], {}).deploy.expansion
    assert expansion is not None
    (problem,) = expansion.problems
    assert (problem.file, problem.line) == ("m/deploy/base.sql", 1)
    assert problem.message == f"'m/deploy/part.sql' was not read: {LINK}"


def test_what_nothing_needs_may_be_a_link() -> None:
    """A link that no change and no include needs is no problem of the module."""
    assert read_module("m", FILES, unread={"m/README": LINK, "n/deploy": LINK}) == read_module("m", FILES)
