"""Drift that stands while we write."""

from reconciler.catalog.model import CatalogObject, ObjectKind
from reconciler.catalog.standing import base_line_after, but_of, standing
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


def test_what_was_dropped_of_a_schema_that_is_gone_is_no_drift() -> None:
    """Removed by hand from a schema that went for good: nothing is missing; what was made there is told."""
    base = {**one("gone.a"), **one('"Gone É".b'), **one("gone_too.c"), **one("d")}
    before = {**one("gone.mine")}
    drift = standing(base, before)
    kept = but_of(drift, {"gone", "Gone É"})
    assert {was.base.name for was in kept.values() if was.base is not None} == {"gone_too.c", "d"}
    assert [was.live.name for was in kept.values() if was.live is not None] == ["gone.mine"]
    assert but_of(drift, ()) is drift
