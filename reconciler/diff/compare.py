"""Compare the three states of one deployment."""

from collections.abc import Mapping
from dataclasses import replace

from reconciler.diff import databases, modules, requirements, skipping
from reconciler.diff.databases import DatabaseContext
from reconciler.diff.model import DatabaseDiff, Diff, ModuleDiff
from reconciler.diff.roles import with_roles
from reconciler.state.desired import DesiredModule, DesiredState, TransactionMode
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.locks import forecast
from reconciler.state.program import Purpose, compile_script
from reconciler.state.tracked import TrackedDatabase, TrackedState


def compare(
    desired: DesiredState,
    tracked: TrackedState,
    live: LiveState,
    contexts: Mapping[str, DatabaseContext],
) -> Diff:
    """Say what is pending, drifting and diverged; `contexts` are by database name."""
    found = tuple(
        _database(
            databases.compare(
                database,
                tracked.databases.get(database.database, TrackedDatabase()),
                live.databases.get(database.database, LiveDatabase()),
                contexts[database.database],
                required=[
                    name
                    for module in desired.modules
                    if module.database == database.database
                    for name in module.requires_extensions
                ],
            ),
            live,
            contexts[database.database],
        )
        for database in desired.databases
    )
    by_component = {part.desired.component: part for part in found}
    parts = [_module(module, tracked, live, by_component) for module in desired.modules]
    return Diff(databases=found, modules=requirements.check(found, parts, tracked, desired.stages))


def _database(part: DatabaseDiff, live: LiveState, context: DatabaseContext) -> DatabaseDiff:
    return skipping.database(with_roles(part, live.roles, drift=context.drift != "ignore"))


def _module(
    module: DesiredModule, tracked: TrackedState, live: LiveState, found: Mapping[str, DatabaseDiff]
) -> ModuleDiff:
    recorded = tracked.databases.get(module.database, TrackedDatabase())
    there = live.databases.get(module.database, LiveDatabase())
    owner = found[module.database_component]
    coming = {name for name, _why in owner.extensions}
    missing = [
        name
        for name in module.requires_extensions
        if name not in there.extensions and name not in coming and name != "plpgsql"
    ]
    part = modules.compare(module, recorded.modules.get(module.project), extensions=missing)
    if not part.deploy and any(name in owner.dropped for name in missing):
        # Nothing is about to need it: dropped by hand is drift, whoever asked for the extension.
        missing = [name for name in missing if name not in owner.dropped]
        part = replace(part, extensions=tuple(missing))
    available = there.available_extensions or live.available_extensions
    blocked = list(part.blocked)
    blocked += [
        f"extension '{name}', required by module '{module.project}', is not available on the server, and no "
        "module of the environment is called so"
        for name in missing
        if available and name not in available
    ]
    if owner.blocked:
        blocked.append(skipping.why_not(owner))
    blocked += _too_many_locks(part, live.lock_capacity)
    return skipping.module(replace(part, blocked=tuple(blocked)))


def _too_many_locks(part: ModuleDiff, capacity: int | None) -> list[str]:
    """Refuse a module in one transaction that the server's table of locks may have no room for."""
    if part.desired.transaction is not TransactionMode.MODULE or capacity is None:
        return []
    locks = sum(
        forecast(compile_script(change.deploy, purpose=Purpose.DEPLOY).statements) for change in part.deploy
    )
    if locks <= capacity:
        return []
    why = (
        f"deploying {len(part.deploy)} changes in one transaction may take {locks} locks, and the server "
        f"surely has room for {capacity}: use transaction: change, go there in parts with `to:`, or raise "
        f"max_locks_per_transaction to {-(-locks // capacity)} times what it is"
    )
    return [why]
