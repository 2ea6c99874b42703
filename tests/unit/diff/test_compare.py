"""The three states of a deployment together: what one part means for another."""

import dataclasses

import pytest

from reconciler.catalog.model import ObjectKind
from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import Diff
from reconciler.state.desired import DesiredModule
from reconciler.state.tracked import TrackedDatabase
from tests.plugins.states import (
    base_line,
    catalog,
    catalog_object,
    change,
    desired,
    live_database,
    module,
    states,
    tracked_database,
    tracked_of,
)

A = change("a")
CITEXT = base_line(catalog_object(ObjectKind.EXTENSION, "citext"))


def diff(wanted: DesiredModule, tracked: TrackedDatabase, drift: str = "warn") -> Diff:
    context = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift=drift)  # type: ignore[arg-type]
    both = states(tracked, live_database(probe="other", catalog=catalog()))
    return compare(desired(wanted), *both, {"shop": context})


@pytest.mark.parametrize(("drift", "pending"), [("warn", []), ("heal", ["extension citext"])])
def test_extension_of_a_module_dropped_by_hand_is_drift(drift: str, pending: list[str]) -> None:
    """Nothing is left to deploy, so nothing needs it now: it is put back only where drift is healed."""
    wanted = module(A, requires_extensions=("citext",))
    found = diff(wanted, tracked_database(tracked_of(A), base_line=CITEXT), drift)
    assert [row.identity for row in found.pending] == pending
    assert [row.identity for row in found.drift] == ["extension citext"]


def test_extension_dropped_by_hand_is_put_back_for_changes_that_are_to_come() -> None:
    """A module that is about to deploy gets what it requires."""
    wanted = module(A, change("b"), requires_extensions=("citext",))
    found = diff(wanted, tracked_database(tracked_of(A), base_line=CITEXT))
    assert [row.identity for row in found.pending] == ["extension citext", "change b"]


def test_blocked_database_blocks_its_modules() -> None:
    """Nothing is deployed to a database in which nothing may be done."""
    found = diff(module(A), tracked_database(version=2))
    assert "is blocked" in found.modules[0].blocked[0]


def test_module_that_needs_what_a_blocked_one_has_pending_waits() -> None:
    """What a diverged module will not deploy is not about to be there, for its users and theirs."""
    base = module(change("b1"), change("b2"), component="base", project="base")
    app = module(change("a1", requires=["base:b2"]), component="app", project="app")
    top = module(change("t1", requires=["app:a1"]), component="top", project="top")
    other = module(change("o1"), component="other", project="other")
    gone = dataclasses.replace(tracked_of(change("b0"), change("b1")), project="base")
    context = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")
    both = states(tracked_database(gone), live_database())
    found = compare(desired(top, app, base, other), *both, {"shop": context})
    blocked = {part.desired.component: part.blocked for part in found.modules}
    assert "'b0' missing" in blocked["base"][0]
    why = "missing required changes: '{}' (component '{}', which deploys it, is blocked)"
    assert blocked["app"] == (why.format("base:b2", "base"),)
    assert blocked["top"] == (why.format("app:a1", "app"),)
    assert blocked["other"] == ()


def test_every_extension_that_the_server_lacks_is_named_before_anything_runs() -> None:
    """Extensions of control files are looked for first; what is there is made in their order."""
    wanted = module(A, requires_extensions=("Pg-Odd", "pg_trgm", "postgis", "citext", "plpgsql"))
    found = diff(wanted, tracked_database())
    assert [why.split(",")[0] for why in found.modules[0].blocked] == [
        "extension 'Pg-Odd'",
        "extension 'postgis'",
    ]
    fine = diff(module(A, requires_extensions=("pg_trgm", "plpgsql", "citext")), tracked_database())
    assert [row.identity for row in fine.pending] == ["extension pg_trgm", "extension citext", "change a"]
