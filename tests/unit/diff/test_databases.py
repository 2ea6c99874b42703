"""A declared database against its record and what is there."""

import dataclasses

from reconciler.catalog.model import DatabaseIdentity, ObjectKind
from reconciler.diff import databases
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import DatabaseNeed
from reconciler.state.live import LiveDatabase
from reconciler.state.tracked import TrackedDatabase
from tests.plugins.states import (
    IDENTITY,
    base_line,
    catalog,
    catalog_object,
    database,
    live_database,
    tracked_database,
)

CONTEXT = DatabaseContext(versions=Versions(tracking=1, fingerprint_algorithm=1), drift="warn")


def test_absent_database_is_created() -> None:
    """A database that is not there is made."""
    found = databases.compare(database(), TrackedDatabase(), LiveDatabase(), CONTEXT)
    assert found.need is DatabaseNeed.CREATE
    assert [row.identity for row in found.pending] == ["database shop"]


def test_existing_database_is_adopted() -> None:
    """One that is there and unmanaged is adopted, never dropped."""
    found = databases.compare(database(), TrackedDatabase(), live_database(), CONTEXT)
    assert found.need is DatabaseNeed.ADOPT


def test_interrupted_creation_is_ours_only_if_empty() -> None:
    """An empty database that matches our intent is ours; one with anything in it is adopted."""
    intended = dataclasses.replace(CONTEXT, intended=True)
    ours = databases.compare(database(), TrackedDatabase(), live_database(empty=True), intended)
    other = databases.compare(database(), TrackedDatabase(), live_database(empty=False), intended)
    assert (ours.need, other.need) == (DatabaseNeed.CREATE, DatabaseNeed.ADOPT)


def test_copy_is_not_written_to() -> None:
    """Another identity under the same record is a copy; it is blocked until adopting it is allowed."""
    elsewhere = DatabaseIdentity(system_identifier="9", database_oid=2, server_major=18)
    live = live_database(identity=elsewhere)
    found = databases.compare(database(), tracked_database(), live, CONTEXT)
    assert found.need is DatabaseNeed.ADOPT_COPY
    assert found.blocked
    allowed = dataclasses.replace(CONTEXT, adopt_copies=True)
    assert databases.compare(database(), tracked_database(), live, allowed).blocked == ()


def test_server_upgrade_takes_the_base_line_anew() -> None:
    """Another major with the same oid is an upgrade in place, and no copy."""
    upgraded = DatabaseIdentity(system_identifier="9", database_oid=2, server_major=19)
    found = databases.compare(database(), tracked_database(), live_database(identity=upgraded), CONTEXT)
    assert found.need is DatabaseNeed.TAKE_BASE_LINE


def test_moving_base_line_is_taken_anew_but_not_by_the_one_that_moves_it() -> None:
    """An interrupted operation leaves the base line moving; only who resumes it leaves that alone."""
    tracked = tracked_database(base_line=base_line(moving=True))
    assert (
        databases.compare(database(), tracked, live_database(), CONTEXT).need is DatabaseNeed.TAKE_BASE_LINE
    )
    resuming = dataclasses.replace(CONTEXT, resuming=True)
    assert databases.compare(database(), tracked, live_database(), resuming).need is None


def test_older_tracking_schema_is_upgraded() -> None:
    """A record of an older version is brought up to this program's."""
    found = databases.compare(database(), tracked_database(version=0), live_database(), CONTEXT)
    assert found.need is DatabaseNeed.UPGRADE_TRACKING


def test_drift_is_no_pending_change() -> None:
    """What a person made by hand is drift, and nothing is done about it."""
    table = catalog_object(ObjectKind.TABLE, "public.by_hand")
    found = databases.compare(
        database(), tracked_database(), live_database(probe="other", catalog=catalog(table)), CONTEXT
    )
    assert [row.identity for row in found.drift] == ["table public.by_hand"]
    assert found.pending == ()
    ignored = databases.compare(
        database(),
        tracked_database(),
        live_database(probe="other", catalog=catalog(table)),
        dataclasses.replace(CONTEXT, drift="ignore"),
    )
    assert ignored.drift == ()


def test_extension_missing_unavailable_and_dropped_by_hand() -> None:
    """A new one is pending, an unavailable one blocks, a dropped one is drift unless healed."""
    wanted = database(extensions=("citext",))
    new = databases.compare(wanted, tracked_database(), live_database(), CONTEXT)
    assert [row.identity for row in new.pending] == ["extension citext"]
    rare = databases.compare(database(extensions=("nosuch",)), tracked_database(), live_database(), CONTEXT)
    assert "nosuch" in rare.blocked[0]
    tracked = tracked_database(base_line=base_line(catalog_object(ObjectKind.EXTENSION, "citext")))
    live = live_database(probe="other", catalog=catalog())
    dropped = databases.compare(wanted, tracked, live, CONTEXT)
    assert dropped.pending == ()
    assert [row.identity for row in dropped.drift] == ["extension citext"]
    healed = databases.compare(wanted, tracked, live, dataclasses.replace(CONTEXT, drift="heal"))
    assert [row.identity for row in healed.pending] == ["extension citext"]


def test_unchanged_database_needs_nothing() -> None:
    """The common case."""
    found = databases.compare(database(), tracked_database(), live_database(), CONTEXT)
    assert (found.need, found.pending, found.drift, found.blocked) == (None, (), (), ())
    assert IDENTITY.server_major == 18


def test_managed_database_that_is_gone_is_no_new_one() -> None:
    """What an operation made before and is not there any more is not simply made again."""
    made = dataclasses.replace(CONTEXT, made=True)
    found = databases.compare(database(), TrackedDatabase(), LiveDatabase(), made)
    assert found.need is DatabaseNeed.RECREATE
    assert "managed before" in found.pending[0].reason


def test_newer_tracking_schema_blocks() -> None:
    """A record made by a newer program is left alone, and said to be the reason."""
    found = databases.compare(database(), tracked_database(version=2), live_database(), CONTEXT)
    assert "newer than this program's" in found.blocked[0]


def test_what_was_dropped_by_hand_stays_in_the_base_line() -> None:
    """So that it is drift after the next rollout as well, and not a pending change; healed, it is neither."""
    item = catalog_object(ObjectKind.EXTENSION, '"uuid-ossp"')
    tracked = tracked_database(base_line=base_line(item))
    live = live_database(probe="other", catalog=catalog(), available_extensions=frozenset({"uuid-ossp"}))
    wanted = database(extensions=("uuid-ossp",))
    assert databases.compare(wanted, tracked, live, CONTEXT).dropped == {"uuid-ossp": item}
    required = databases.compare(database(), tracked, live, CONTEXT, required=["uuid-ossp"])
    assert required.dropped == {"uuid-ossp": item}
    healing = dataclasses.replace(CONTEXT, drift="heal")
    assert databases.compare(wanted, tracked, live, healing).dropped == {}


def test_interrupted_attempt_is_settled_by_its_operation_only_where_it_may_write() -> None:
    """A base line left moving is settled by who resumes; in a copy nothing is written for that."""
    moving = tracked_database(base_line=base_line(moving=True))
    resuming = dataclasses.replace(CONTEXT, resuming=True)
    assert databases.compare(database(), moving, live_database(), resuming).left_moving
    assert not databases.compare(database(), moving, live_database(), CONTEXT).left_moving
    elsewhere = live_database(identity=DatabaseIdentity("9", 2, 18))
    assert not databases.compare(database(), moving, elsewhere, resuming).left_moving
