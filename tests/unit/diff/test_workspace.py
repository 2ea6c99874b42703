"""Which modules of a folder are tried, and with what."""

import pytest

from reconciler.diff.workspace import covering, read_workspace
from reconciler.errors import InvalidInput

DATE = "2026-01-01T00:00:00Z Ada <ada@example.org>"


def files(**requires: list[str]) -> dict[str, bytes]:
    """A module of one change `made` for each name; `requires` are its requirements in the plan file."""
    found: dict[str, bytes] = {}
    for name, needs in requires.items():
        plan = f"%syntax-version=1.0.0\n%project={name}\n\nmade [{' '.join(needs)}] {DATE} # made\n"
        found[f"modules/{name}/sqitch.plan"] = plan.replace("[] ", "").encode()
        found[f"modules/{name}/deploy/made.sql"] = b"select 1;\n"
    return found


def groups(given: dict[str, bytes], *wanted: str) -> dict[str, list[str]]:
    folders = sorted({name.rpartition("/")[0] for name in given if name.endswith(".plan")})
    desired = read_workspace(folders, given, {})
    chosen = [f"modules/{name}" for name in wanted] or folders
    return {
        group.module.project: [module.project for module in group.desired.modules]
        for group in covering(desired, chosen)
        if not group.blocked
    }


def test_fewest_modules_cover_all() -> None:
    """One that another requires, over however many, is not tried by itself; requirements come first."""
    given = files(a=["b:made"], b=["c:made"], c=[], d=["c:made"], e=[])
    assert groups(given) == {"a": ["c", "b", "a"], "d": ["c", "d"], "e": ["e"]}


def test_only_what_was_asked_for_is_covered() -> None:
    """What requires it is left out, what it requires is not."""
    given = files(a=["b:made"], b=["c:made"], c=[])
    assert groups(given, "b", "c") == {"b": ["c", "b"]}


def test_control_files_count() -> None:
    """A module may be required as a whole, by the name of its control file."""
    given = files(a=[], b=[])
    given["modules/a/a.control"] = b"default_version = '1'\nrequires = 'the-b'\n"
    given["modules/b/the-b.control"] = b"default_version = '1'\n"
    assert set(groups(given)) == {"a"}


def test_change_may_be_required_by_its_id() -> None:
    """Whichever module it is in."""
    given = files(b=[])
    (change,) = read_workspace(["modules/b"], given, {}).modules[0].changes
    assert groups({**given, **files(a=[change.change_id])}) == {"a": ["b", "a"]}


def test_modules_that_require_each_other_are_refused() -> None:
    """The circle is named."""
    with pytest.raises(InvalidInput, match="require each other"):
        groups(files(a=["b:made"], b=["a:made"]))


def test_modules_that_wait_for_each_other_are_one_group_and_blocked() -> None:
    """Each is deployed whole, so that neither can be first; it is told once and not lost."""
    given = files(a=["b:made"], b=[])
    plan = given["modules/b/sqitch.plan"].decode()
    given["modules/b/sqitch.plan"] = (plan + f"more [a:made] {DATE} # more\n").encode()
    given["modules/b/deploy/more.sql"] = b"select 1;\n"
    desired = read_workspace(["modules/a", "modules/b"], given, {})
    (group,) = covering(desired, ["modules/a", "modules/b"])
    assert "wait for each other" in group.blocked[0]


def test_broken_modules_are_named_with_their_files() -> None:
    """All problems of all modules, and none of a spec that nobody wrote."""
    given = files(a=[], b=[])
    del given["modules/a/deploy/made.sql"]
    given["modules/b/deploy/made.sql"] = b"select from from;\n"
    with pytest.raises(InvalidInput) as caught:
        groups(given)
    assert {problem.file for problem in caught.value.problems} == {
        "modules/a/sqitch.plan",
        "modules/b/deploy/made.sql",
    }
