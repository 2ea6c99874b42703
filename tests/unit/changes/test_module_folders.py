"""Folders of modules among the files of a source, and the globs that mean them."""

import pytest

from reconciler.changes.folders import matches, module_folders


@pytest.mark.parametrize(
    ("glob", "folder", "means"),
    [
        ("modules/*", "modules/shop", True),
        ("modules/*", "modules/shop/inner", False),
        ("modules/*", "modules", False),
        ("modules/*", "other/shop", False),
        ("modules/s?op", "modules/shop", True),
        ("modules/[st]hop", "modules/shop", True),
        ("modules/shop", "modules/shop", True),
        ("*/*", "extensions/shop", True),
        ("**", "a/b/c", True),
        ("packages/**", "packages/a/b", True),
        ("packages/**", "packages", True),
        ("packages/**/db", "packages/db", True),
        ("packages/**/db", "packages/a/b/db", True),
        ("packages/**/db", "packages/a/b", False),
        ("modules/*", "modules/.hidden", False),
        ("modules/.*", "modules/.hidden", True),
        ("**/shop", ".git/shop", False),
        ("modules/*.sql", "modules/shopxsql", False),
        ("MODULES/*", "modules/shop", False),
    ],
)
def test_a_glob_means_folders_part_by_part(glob: str, folder: str, *, means: bool) -> None:
    """A star stays within its part of a path, two stars go over parts, and dots hide."""
    assert matches(glob, folder) is means


def test_a_long_glob_takes_no_time_to_fail() -> None:
    """A glob made to be tried in endlessly many ways is answered at once."""
    assert not matches("/".join(["**", "a*a*a*a*a*b"] * 20), "/".join(["a" * 60] * 60))


def test_folders_are_those_with_a_plan_file() -> None:
    """Each has the project of its plan; one whose plan names none the folder's name; the root is none."""
    files = {
        "extensions/cart/pgpm.plan": b"%syntax-version=1.0.0\n%project=shop-cart\n",
        "modules/both/pgpm.plan": b"%project=one\n",
        "modules/both/sqitch.plan": b"%project = one\n",
        "modules/broken/sqitch.plan": b"nothing\n",
        "modules/none/deploy/a.sql": b"%project=no\n",
        "sqitch.plan": b"%project=root\n",
    }
    assert module_folders(files) == {
        "extensions/cart": "shop-cart",
        "modules/both": "one",
        "modules/broken": "broken",
    }


def test_a_plan_file_that_was_not_read_makes_a_module() -> None:
    """A module whose plan file is a link has not left: a glob finds its folder, and its reading tells why."""
    files = {"modules/a/sqitch.plan": b"%project=shop\n"}
    found = module_folders(files, ["modules/a/pgpm.plan", "modules/b/sqitch.plan", "modules/c/README"])
    assert found == {"modules/a": "shop", "modules/b": "b"}
