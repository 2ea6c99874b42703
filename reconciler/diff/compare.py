"""Compare the three states of one deployment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from reconciler.diff import databases, modules
from reconciler.diff.databases import DatabaseContext
from reconciler.diff.model import DatabaseDiff, Diff, ModuleDiff
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
        )
        for database in desired.databases
    )
    by_component = {part.desired.component: part for part in found}
    parts = [_module(module, tracked, live, by_component) for module in desired.modules]
    return Diff(databases=found, modules=tuple(_with_requirements(parts, tracked)))


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
        f"extension '{name}', required by module '{module.project}', is not available on the server"
        for name in missing
        if available and name not in available
    ]
    if owner.blocked:
        blocked.append(f"its database component '{owner.desired.component}' is blocked")
    blocked += _too_many_locks(part, live.lock_capacity)
    return replace(part, blocked=tuple(blocked))


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


def _with_requirements(parts: Sequence[ModuleDiff], tracked: TrackedState) -> list[ModuleDiff]:
    """Block modules whose pending changes require what is neither deployed nor about to be, or conflict.

    What a blocked module has pending is not about to be, so blocking one may block others.
    """
    blocked = frozenset(part.desired.component for part in parts if part.blocked)
    while True:
        checked = _without(blocked, parts, tracked)
        now = frozenset(part.desired.component for part in checked if part.blocked)
        if now == blocked:
            return checked
        blocked = now


def _without(
    blocked: Collection[str], parts: Sequence[ModuleDiff], tracked: TrackedState
) -> list[ModuleDiff]:
    """Check requirements, where blocked modules bring nothing but to themselves."""
    moving = [part for part in parts if part.desired.component not in blocked]
    known = {
        database: _names(database, moving, tracked)
        for database in {part.desired.database for part in parts if part.deploy}
    }
    checked = []
    for part in parts:
        if not part.deploy:
            checked.append(part)
            continue
        names = known[part.desired.database]
        if part.desired.component in blocked:
            names = names | _names(part.desired.database, [part], tracked)
        checked.append(replace(part, blocked=(*part.blocked, *_unmet(part, names, tracked))))
    return checked


def _unmet(part: ModuleDiff, names: Collection[str], tracked: TrackedState) -> list[str]:
    project = part.desired.project
    missing = sorted(
        {need for change in part.deploy for need in change.requires if _qualified(need, project) not in names}
    )
    unmet = ["missing required changes: " + ", ".join(f"'{name}'" for name in missing)] if missing else []
    if any(change.conflicts for change in part.deploy):
        deployed = _deployed(part.desired.database, tracked)
        unmet += sorted(
            {
                f"'{change.name}' conflicts with deployed '{other}'"
                for change in part.deploy
                for other in change.conflicts
                if _qualified(other, project) in deployed
            }
        )
    return unmet


def _deployed(database: str, tracked: TrackedState) -> set[str]:
    recorded = tracked.databases.get(database, TrackedDatabase())
    names = set()
    for project, module in recorded.modules.items():
        for change in module.changes:
            names.update({f"{project}:{change.name}", change.change_id})
            names.update(f"{project}:@{tag}" for tag in change.tags)
            names.update(f"{project}:{change.name}@{tag}" for tag in change.tags)
    return names


def _names(database: str, parts: Sequence[ModuleDiff], tracked: TrackedState) -> set[str]:
    """Everything a requirement may name in one database: deployed, or desired in this commit."""
    names = _deployed(database, tracked)
    for part in parts:
        if part.desired.database != database:
            continue
        project, seen = part.desired.project, set[str]()
        for change in part.desired.changes:
            plain = change.name.split("@", 1)[0]
            seen.add(plain)
            names.update({f"{project}:{change.name}", f"{project}:{plain}", change.change_id})
            for _tag_id, tag in change.tags:
                names.add(f"{project}:@{tag}")
                names.update(f"{project}:{name}@{tag}" for name in seen)
    return names


def _qualified(name: str, project: str) -> str:
    is_id = len(name) == 40 and all(char in "0123456789abcdef" for char in name)
    return name if ":" in name or is_id else f"{project}:{name}"
