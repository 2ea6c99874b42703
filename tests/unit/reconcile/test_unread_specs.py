"""Environments whose spec a commit has as something that is never read."""

import pytest

from reconciler.control.ownership import Owned
from reconciler.planner.view import Parsing
from reconciler.reconcile.findings import unreadable
from reconciler.source.tree import Skipped, SourceTree

REASON = "it is a symbolic link, which is never followed"


@pytest.mark.parametrize(
    ("skipped", "told"),
    [
        ("environments/eu/shop.yaml", True),
        ("environments/eu", True),
        ("environments/us", False),
        ("environments/eu/shop.yaml.orig", False),
    ],
)
def test_a_spec_that_became_a_link_has_not_left_its_source(skipped: str, *, told: bool) -> None:
    """A known environment whose file, or a folder of it, is a link is told as unreadable, with the reason."""
    tree = SourceTree(commit="1" * 40, files={}, blobs={}, skipped=(Skipped(path=skipped, reason=REASON),))
    view = Parsing(restrict=lambda _source, parsed: parsed).view("site", tree, "environments")
    known = Owned(
        name="shop",
        path="environments/eu/shop.yaml",
        head_commit=None,
        head_commit_at=None,
        owner=None,
        owner_is_alive=False,
    )
    found = unreadable(view, [known])
    assert list(found) == (["shop"] if told else [])
    if told:
        path, why = found["shop"]
        assert path == "environments/eu/shop.yaml"
        assert f"'{skipped}'" in why
        assert REASON in why
