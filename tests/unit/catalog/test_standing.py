"""Drift that stands while we write."""

from reconciler.catalog.model import CatalogObject, ObjectKind
from reconciler.catalog.standing import base_line_after, standing
from tests.plugins.states import catalog_object


def one(name: str, definition: str = "{}") -> dict[str, CatalogObject]:
    item = catalog_object(ObjectKind.TABLE, name, definition)
    return {item.identity: item}


def test_untouched_drift_stays_out_of_the_base_line() -> None:
    """Added, changed and removed by hand: each stays drift after we wrote something else."""
    base = {**one("a"), **one("b", "old"), **one("c")}
    before = {**one("a"), **one("b", "by hand"), **one("d")}
    after = {**before, **one("ours")}
    assert base_line_after(after, standing(base, before)) == {**base, **one("ours")}


def test_what_we_altered_is_ours() -> None:
    """A change that rewrites or drops a drifted object ends its drift."""
    base, before = {**one("a", "old"), **one("b")}, {**one("a", "by hand"), **one("x")}
    after = {**one("a", "ours"), **one("b")}
    assert base_line_after(after, standing(base, before)) == after


def test_without_drift_nothing_is_copied() -> None:
    """The common case."""
    live = one("a")
    assert standing(live, dict(live)) == {}
    assert base_line_after(live, {}) is live
