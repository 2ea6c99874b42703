"""Compare the three states of one deployment."""

from collections.abc import Mapping
from dataclasses import replace

from reconciler.diff import databases, modules, requirements, skipping
from reconciler.diff.access import with_access
from reconciler.diff.databases import DatabaseContext
from reconciler.diff.model import DatabaseDiff, Diff, ModuleDiff, ProgramDiff
from reconciler.diff.programs import ProgramContext, compare_programs
from reconciler.diff.roles import with_roles
from reconciler.diff.settling import settled, why_server_blocked
from reconciler.state.access import Whose
from reconciler.state.desired import DesiredDatabase, DesiredModule, DesiredState, TransactionMode
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.locks import forecast
from reconciler.state.program import Purpose, compile_script
from reconciler.state.tracked import TrackedDatabase, TrackedState


def compare(
    desired: DesiredState,
    tracked: TrackedState,
    live: LiveState,
    contexts: Mapping[str, DatabaseContext],
    programs: ProgramContext | None = None,
) -> Diff:
    """Say what is pending, drifting and diverged; `contexts` are by database name.

    Without a context for `programs` nothing is said of services, jobs and routes.
    """
    running, left = compare_programs(desired, tracked, live, programs) if programs is not None else ((), ())
    programs_by_name = {part.desired.component: part for part in running}
    found = tuple(
        _database(database, desired, (tracked, live), contexts[database.database])
        for database in desired.databases
    )
    found = tuple(_on_service(part, programs_by_name) for part in found)
    by_component = {part.desired.component: part for part in found}
    parts = [_module(module, tracked, live, by_component) for module in desired.modules]
    deploying = requirements.check(found, parts, tracked, desired.stages)
    diff = Diff(databases=found, modules=deploying, programs=running, left=left)
    return settled(diff, desired, tracked.programs)


def _database(
    database: DesiredDatabase,
    desired: DesiredState,
    states: tuple[TrackedState, LiveState],
    context: DatabaseContext,
) -> DatabaseDiff:
    tracked, live = states
    if _is_silent(database, live):
        assert database.on is not None
        why = live.silent.get(database.on.service, "it does not answer")
        return skipping.database(databases.unknown(database, why))
    part = databases.compare(
        database,
        tracked.databases.get(database.database, TrackedDatabase()),
        live.databases.get(database.database, LiveDatabase()),
        context,
        required=[
            name
            for module in desired.modules
            if module.database == database.database
            for name in module.requires_extensions
        ],
    )
    server = live.server(database.on)
    roles = server.roles if server is not None else {}
    part = with_roles(part, roles, drift=context.drift != "ignore", known=server is not None)
    whose = Whose(environment=desired.environment, deployment=desired.deployment, database=database.database)
    part = with_access(part, tracked.programs.outputs, roles, whose, context)
    return skipping.database(part)


def _on_service(part: DatabaseDiff, programs: Mapping[str, ProgramDiff]) -> DatabaseDiff:
    """A database that lives on a service does not go before it."""
    if part.desired.on is None:
        return part
    why = why_server_blocked(part.desired.on, programs)
    return replace(part, blocked=(*part.blocked, *why)) if why else part


def _is_silent(database: DesiredDatabase, live: LiveState) -> bool:
    """Whether it lives on a service that was applied and does not answer."""
    on = database.on
    return on is not None and on.service in live.servers and live.servers[on.service] is None


def _module(
    module: DesiredModule, tracked: TrackedState, live: LiveState, found: Mapping[str, DatabaseDiff]
) -> ModuleDiff:
    owner = found[module.database_component]
    if _is_silent(owner.desired, live):
        # What is deployed there is not known, and so is not what is left to be.
        return skipping.module(ModuleDiff(desired=module, blocked=(skipping.why_not(owner),)))
    recorded = tracked.databases.get(module.database, TrackedDatabase())
    there = live.databases.get(module.database, LiveDatabase())
    server = live.server(owner.desired.on)
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
    available = there.available_extensions or (server.available_extensions if server is not None else ())
    blocked = list(part.blocked)
    blocked += [
        f"extension '{name}', required by module '{module.project}', is not available on the server, and no "
        "module of the environment is called so"
        for name in missing
        if available and name not in available
    ]
    if owner.blocked:
        blocked.append(skipping.why_not(owner))
    blocked += _too_many_locks(part, server.lock_capacity if server is not None else None)
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
