"""Compare a declared database with its record and with what is really there."""

from collections.abc import Iterable
from typing import Literal

from reconciler.catalog.identifier import quote_identifier
from reconciler.catalog.model import CatalogObject, ObjectKind
from reconciler.catalog.standing import Standing, standing
from reconciler.diff import catalog
from reconciler.diff.model import (
    DatabaseDiff,
    DatabaseNeed,
    Divergence,
    DivergencePolicy,
    DivergenceSort,
    Drift,
)
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredDatabase
from reconciler.state.live import LiveDatabase
from reconciler.state.tracked import BaseLine, TrackedDatabase


@frozen
class Versions:
    """What this program installs and computes; a record made by another is brought up to it."""

    tracking: int
    fingerprint_algorithm: int


@frozen
class DatabaseContext:
    """What a database is compared under.

    `intended`: a creation of ours was begun and not finished. `made`: an operation made or adopted a database
    of this name before. `resuming`: the operation that left the base line moving is the one that plans now,
    and will settle it. `adopt_copies`: a copy may be adopted. `can_seal`: there is a key to keep passwords
    with.
    """

    versions: Versions
    drift: Literal["ignore", "warn", "heal"]
    intended: bool = False
    made: bool = False
    resuming: bool = False
    adopt_copies: bool = False
    can_seal: bool = True


def unknown(desired: DesiredDatabase, why: str) -> DatabaseDiff:
    """A database on a service that was applied and does not answer: it may hold anything."""
    assert desired.on is not None
    service = desired.on.service
    return DatabaseDiff(
        desired=desired,
        blocked=(f"nobody knows what is in it: service '{service}', on which it lives: {why}",),
    )


def compare(
    desired: DesiredDatabase,
    tracked: TrackedDatabase,
    live: LiveDatabase,
    context: DatabaseContext,
    *,
    required: Iterable[str] = (),
) -> DatabaseDiff:
    """Say what the database needs, which extensions it lacks, and what was changed by hand.

    `required` are extensions that modules ask for.
    """
    need, reason = _need(tracked, live, context)
    drift = _drift(desired, tracked, live, context)
    dropped = _dropped_extensions({*desired.extensions, *required}, tracked, live, need)
    missing = _missing_extensions(desired, live, set(dropped), context)
    available = live.available_extensions
    unavailable = [name for name, _why in missing if available and name not in available]
    blocked = [
        f"extension '{name}' is not available on the server; install its package there"
        for name in unavailable
    ]
    if tracked.version > context.versions.tracking:
        blocked.append(
            f"its tracking schema is of version {tracked.version}, newer than this program's "
            f"{context.versions.tracking}; run a program at least as new as the one that installed it"
        )
    diverged: tuple[Divergence, ...] = ()
    if need is DatabaseNeed.ADOPT_COPY:
        policy = DivergencePolicy.WARN if context.adopt_copies else DivergencePolicy.FAIL
        diverged = (
            Divergence(
                component=desired.component,
                identity=f"database {desired.database}",
                sort=DivergenceSort.COPY,
                policy=policy,
                detail=reason,
            ),
        )
        if not context.adopt_copies:
            blocked.append(f"{reason}; allow hazard ADOPTS_DATABASE_COPY to adopt it")
    return DatabaseDiff(
        desired=desired,
        need=need,
        reason=reason,
        extensions=missing,
        drift=() if context.drift == "ignore" else drift,
        diverged=diverged,
        blocked=tuple(blocked),
        dropped={} if context.drift == "heal" else dropped,
        standing=_standing(tracked, live, need),
        left_moving=need is None and not blocked and context.resuming and _unsettled(tracked),
    )


def gone(databases: Iterable[DatabaseDiff]) -> str | None:
    """Why nobody knows what is deployed: databases that were managed and are not there."""
    names = [f"'{part.desired.database}'" for part in databases if part.need is DatabaseNeed.RECREATE]
    if not names:
        return None
    one = len(names) == 1
    return (
        f"database{'' if one else 's'} {', '.join(names)} {'does' if one else 'do'} not exist any more, "
        f"and {'was' if one else 'were'} managed before"
    )


def _standing(tracked: TrackedDatabase, live: LiveDatabase, need: DatabaseNeed | None) -> dict[str, Standing]:
    """Drift as objects; none where the base line is not one to measure from."""
    base_line = tracked.base_line
    if need is not None or base_line is None or base_line.moving:
        return {}
    if base_line.objects is None or live.catalog is None:
        return {}
    return standing(base_line.objects, live.catalog.objects)


def _unsettled(tracked: TrackedDatabase) -> bool:
    return tracked.installed and (tracked.base_line is None or tracked.base_line.moving)


def _need(
    tracked: TrackedDatabase, live: LiveDatabase, context: DatabaseContext
) -> tuple[DatabaseNeed | None, str]:
    if not live.exists:
        if context.made:
            return DatabaseNeed.RECREATE, "does not exist any more, and was managed before"
        return DatabaseNeed.CREATE, "does not exist"
    if not tracked.installed:
        if context.intended and live.empty:
            return DatabaseNeed.CREATE, "is not finished, its creation having been begun"
        return DatabaseNeed.ADOPT, "exists and is not managed yet"
    base_line = tracked.base_line
    if base_line is not None and _is_copy(base_line, live):
        return DatabaseNeed.ADOPT_COPY, "is a copy of the database that was managed (restored or cloned)"
    if tracked.version < context.versions.tracking:
        return (
            DatabaseNeed.UPGRADE_TRACKING,
            (
                f"its tracking schema is of version {tracked.version}, "
                f"this program's is {context.versions.tracking}"
            ),
        )
    return _base_line_need(base_line, live, context, busy=tracked.busy)


def _base_line_need(
    base_line: BaseLine | None, live: LiveDatabase, context: DatabaseContext, *, busy: bool
) -> tuple[DatabaseNeed | None, str]:
    if context.resuming:
        return None, ""
    if base_line is None:
        return DatabaseNeed.TAKE_BASE_LINE, "has no base line yet"
    if base_line.moving:
        if busy:
            # Whoever writes settles it; should they die, nobody holds the fence any more.
            return None, ""
        return DatabaseNeed.TAKE_BASE_LINE, "an operation that wrote to it was interrupted"
    if live.identity is not None and base_line.identity.server_major != live.identity.server_major:
        return (
            DatabaseNeed.TAKE_BASE_LINE,
            (
                f"the server went from PostgreSQL {base_line.identity.server_major} "
                f"to {live.identity.server_major}"
            ),
        )
    if base_line.algorithm != context.versions.fingerprint_algorithm:
        return DatabaseNeed.TAKE_BASE_LINE, "its fingerprints are of another version of this program"
    return None, ""


def _is_copy(base_line: BaseLine, live: LiveDatabase) -> bool:
    """Another database under the same record.

    An upgrade of the server in place (pg_upgrade) gives a new system identifier but keeps the oid and raises
    the major version, and is not taken for a copy.
    """
    now, then = live.identity, base_line.identity
    if now is None:
        return False
    if now.server_major != then.server_major and now.database_oid == then.database_oid:
        return False
    return (now.system_identifier, now.database_oid) != (then.system_identifier, then.database_oid)


def _drift(
    desired: DesiredDatabase, tracked: TrackedDatabase, live: LiveDatabase, context: DatabaseContext
) -> tuple[Drift, ...]:
    base_line = tracked.base_line
    if not live.exists or not tracked.installed or base_line is None or live.catalog is None:
        return ()
    if base_line.objects is None or _need(tracked, live, context)[0] is not None or base_line.moving:
        return ()
    return catalog.compare(base_line.objects, live.catalog.objects, desired.component)


def _dropped_extensions(
    names: Iterable[str], tracked: TrackedDatabase, live: LiveDatabase, need: DatabaseNeed | None
) -> dict[str, CatalogObject]:
    """Extensions of the base line that are there no more: dropped by hand, which is drift."""
    base_line = tracked.base_line
    if need is not None or base_line is None or base_line.moving or base_line.objects is None:
        return {}
    found = {}
    for name in sorted(names):
        item = base_line.objects.get(f"{ObjectKind.EXTENSION.value} {quote_identifier(name)}")
        if item is not None and name not in live.extensions:
            found[name] = item
    return found


def _missing_extensions(
    desired: DesiredDatabase, live: LiveDatabase, dropped: set[str], context: DatabaseContext
) -> tuple[tuple[str, str], ...]:
    """Declared extensions that are not there; one dropped by hand is drift, put back only by `heal`."""
    rows = []
    for name in desired.extensions:
        if name in live.extensions:
            continue
        if name not in dropped:
            rows.append((name, "not installed"))
        elif context.drift == "heal":
            rows.append((name, "dropped by hand, and drift is healed"))
    return tuple(rows)
