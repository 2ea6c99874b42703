"""Our rules for names of branches and tags never let through what Git itself refuses."""

import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.source import address
from tests.plugins.git import git_environment

_PIECES = [
    "a",
    "main",
    "/",
    ".",
    "..",
    "-",
    "@",
    "{",
    "}",
    "~",
    "^",
    ":",
    " ",
    "\\",
    "*",
    "?",
    "[",
    ".lock",
    "ü",
    "\x7f",
]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map("".join))
def test_what_is_allowed_git_allows(name: str) -> None:
    """A name we take is one that `git check-ref-format` takes."""
    if not address.is_ref_name(name):
        return
    checked = subprocess.run(
        ["git", "check-ref-format", f"refs/heads/{name}"], env=git_environment(), check=False, timeout=30
    )
    assert checked.returncode == 0
