"""Turns what a person asks of change modules into desired states and reverts; it reads no database itself."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from reconciler.diff import adoption, reverts
from reconciler.diff.adoption import Sought
from reconciler.diff.model import (
    DatabaseDiff,
    DatabaseNeed,
    Diff,
    Divergence,
    DivergencePolicy,
    DivergenceSort,
    Reverts,
)
from reconciler.diff.reverts import Ground
from reconciler.errors import Refused
from reconciler.plan.tasks import hazards_of_revert
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.registry import Registry, RegistryKind
from reconciler.state.task import ModuleTask, TaskVerb, find_module
from reconciler.state.tracked import Revertible, TrackedDatabase, TrackedModule, TrackedState

ReadStored = Callable[[str], Awaitable[Mapping[str, Revertible]]]
"""Gives what is stored in a database for taking changes back."""

LookUp = Callable[[str, RegistryKind, str | None], Awaitable[Registry | None]]
"""Gives another tool's registry of a database, in a schema or in its usual one."""

_WRITABLE = (None, DatabaseNeed.UPGRADE_TRACKING, DatabaseNeed.TAKE_BASE_LINE)


def check_target(whole: Sequence[DesiredState], chosen: Sequence[DesiredState], task: ModuleTask) -> None:
    """Raise Refused where a target lies beyond the one that the spec has: a pass would call it diverged."""
    for before, after in zip(whole, chosen, strict=True):
        wanted, spec = find_module(after, str(task.module)), find_module(before, str(task.module))
        if len(wanted.changes) > len(spec.changes):
            raise Refused(
                f"'{task.to}' lies beyond '{spec.target}', to which the spec deploys module '{task.module}'",
                hint="move `to:` in the spec",
            )


def narrows(whole: Sequence[DesiredState], chosen: Sequence[DesiredState], task: ModuleTask) -> bool:
    """Whether a deploy leaves out changes that the spec wants of its module."""
    return task.to is not None and any(
        len(find_module(after, str(task.module)).changes) < len(find_module(before, str(task.module)).changes)
        for before, after in zip(whole, chosen, strict=True)
    )


def lacking(diff: Diff, task: ModuleTask) -> dict[str, str]:
    """Why databases are not made for a deploy by hand, by the name of the database."""
    if task.verb is not TaskVerb.DEPLOY or task.createdb:
        return {}
    return {
        part.desired.database: f"database '{part.desired.database}' of the Database component "
        f"'{part.desired.component}' {part.reason}, and --createdb was not given"
        for part in diff.databases
        if part.need in (DatabaseNeed.CREATE, DatabaseNeed.RECREATE)
    }


def deploying(diff: Diff, task: ModuleTask) -> Diff:
    """The diff of a deploy by hand: modules whose database is not there wait, unless it may be made."""
    why = lacking(diff, task)
    if not why:
        return diff
    databases = tuple(
        replace(part, blocked=(*part.blocked, why[part.desired.database]))
        if part.desired.database in why
        else part
        for part in diff.databases
    )
    modules = tuple(
        replace(part, blocked=(*part.blocked, f"its database '{part.desired.database}' is not there"))
        if part.desired.database in why
        else part
        for part in diff.modules
    )
    return replace(diff, databases=databases, modules=modules)


async def reverting(
    states: tuple[DesiredState, TrackedState],
    diff: Diff,
    task: ModuleTask,
    only: frozenset[str] | None,
    read: ReadStored,
) -> Diff:
    """The diff of a revert by hand: what goes, and what its database needs before."""
    desired, tracked = states
    found = reverts.find(desired, tracked, str(task.module))
    if found is None:
        why = f"the spec declares no module '{task.module}', and nothing of such a one is deployed"
        nothing = Reverts(
            component=str(task.module),
            project=str(task.module),
            database="",
            stage=desired.stages[-1],
            blocked=(why,),
        )
        return Diff(databases=(), modules=(), reverts=(nothing,))
    database, project = found
    owner = next(part for part in diff.databases if part.desired.database == database.database)
    recorded = tracked.databases.get(database.database, TrackedDatabase())
    stored = await read(database.database) if recorded.installed else {}
    ground = Ground(desired=desired, database=database, tracked=recorded, stored=stored)
    part = reverts.plan_task(ground, project, task, only)
    why_not = _why_not(owner)
    if part.changes and why_not is not None:
        part = replace(part, changes=(), blocked=(why_not,))
    need = owner.need if part.changes else None
    owner = replace(owner, need=need, roles=(), extensions=(), diverged=(), blocked=())
    return Diff(databases=(owner,), modules=(), reverts=(part,))


async def adopting(tracked: TrackedState, diff: Diff, task: ModuleTask, look: LookUp) -> Diff:
    """The diff of an adoption: only what another tool's registry has is recorded, and nothing is run."""
    if task.adopt_from is None:
        raise Refused("nothing says whose registry is to be taken over")
    sought = Sought(kind=task.adopt_from, schema=task.registry, one=task.module is not None)
    owners = {part.desired.database: part for part in diff.databases}
    found: dict[str, Registry | None] = {}
    parts = []
    for part in diff.modules:
        name = part.desired.database
        if name not in found:
            gone = owners[name].need in (DatabaseNeed.CREATE, DatabaseNeed.RECREATE)
            found[name] = None if gone else await look(name, task.adopt_from, task.registry)
        there = tracked.databases.get(name, TrackedDatabase()).modules.get(part.desired.project)
        parts.append(adoption.adopt(part, owners[name], there, found[name], sought))
    written = {part.desired.database for part in parts if part.deploy}
    databases = tuple(
        replace(
            part,
            need=part.need if part.desired.database in written else None,
            roles=(),
            extensions=(),
        )
        for part in diff.databases
    )
    return replace(diff, databases=databases, modules=tuple(parts))


def _why_not(owner: DatabaseDiff) -> str | None:
    if owner.need not in _WRITABLE:
        return f"database '{owner.desired.database}' cannot be written to as it is: {owner.reason}"
    return owner.blocked[0] if owner.blocked else None


async def with_left_behind(
    states: tuple[DesiredState, TrackedState],
    diff: Diff,
    *,
    prune: bool,
    allowed: frozenset[str],
    read: ReadStored,
) -> Diff:
    """Add the modules that left the spec: told of, or taken back where policy and consent say so."""
    desired, tracked = states
    told: list[Divergence] = []
    taken: list[Reverts] = []
    for database, module in reverts.left_behind(desired, tracked):
        why, part = f"policy.prune is off; {_BY_HAND}", None
        if prune and not desired.modules:
            why = f"the spec declares no module at all, and never is everything pruned; {_BY_HAND}"
        elif prune:
            why, part = await _pruned((desired, tracked), (database, module), diff, allowed, read)
        told.append(_told(module, f"{why}{_taken_for(desired, database, module)}"))
        if part is not None:
            taken.append(part)
    return replace(diff, reverts=tuple(taken), left_behind=tuple(told)) if told else diff


async def pruning(states: tuple[DesiredState, TrackedState], diff: Diff, read: ReadStored) -> Diff:
    """The diff of a deployment that left: all that it deployed is taken back, and the databases stay."""
    desired, tracked = states
    owners: list[DatabaseDiff] = []
    taken: list[Reverts] = []
    for owner in diff.databases:
        name = owner.desired.database
        recorded = tracked.databases.get(name, TrackedDatabase())
        part = None
        if recorded.installed and any(module.changes for module in recorded.modules.values()):
            ground = Ground(
                desired=desired, database=owner.desired, tracked=recorded, stored=await read(name)
            )
            part = reverts.plan_place(ground)
        if part is not None and part.changes and (why_not := _why_not(owner)) is not None:
            part = replace(part, changes=(), verify=False, blocked=(why_not,))
        if part is not None:
            taken.append(part)
        need = owner.need if part is not None and part.changes else None
        owners.append(replace(owner, need=need, roles=(), extensions=(), drift=(), diverged=(), blocked=()))
    return Diff(databases=tuple(owners), modules=(), reverts=tuple(taken), left=diff.left)


_BY_HAND = "`reconciler module revert` takes it back by hand"


async def _pruned(
    states: tuple[DesiredState, TrackedState],
    what: tuple[DesiredDatabase, TrackedModule],
    diff: Diff,
    allowed: frozenset[str],
    read: ReadStored,
) -> tuple[str, Reverts | None]:
    """Why a module stays, or that it goes and how."""
    (desired, tracked), (database, module) = states, what
    ground = Ground(
        desired=desired,
        database=database,
        tracked=tracked.databases[database.database],
        stored=await read(database.database),
    )
    part = reverts.plan_all(ground, module.project)
    owner = next(each for each in diff.databases if each.desired.database == database.database)
    reasons = [*part.blocked, *([why] if (why := _why_not(owner)) is not None else [])]
    codes = {code.value for one in part.changes for code, _message in hazards_of_revert(one)}
    if missing := sorted(codes - allowed):
        reasons.append(f"pruning it needs consent to {', '.join(missing)} (policy.allowHazards)")
    if reasons:
        return "; ".join(reasons), None
    return "it is pruned, by its revert scripts", part


def _taken_for(desired: DesiredState, database: DesiredDatabase, left: TrackedModule) -> str:
    """What to say where a module of the spec has the very scripts: then its project was renamed."""
    scripts = {change.script_hash for change in left.changes}
    for module in desired.modules:
        if module.database == database.database and scripts <= {each.script_hash for each in module.changes}:
            return (
                f"; module '{module.project}' has the same scripts, and if that is this one renamed, put "
                f"%project={left.project} back: what is deployed belongs to the project of that name"
            )
    return ""


def _told(module: TrackedModule, why: str) -> Divergence:
    count = len(module.changes)
    return Divergence(
        component=module.component,
        identity=f"module {module.project}",
        sort=DivergenceSort.ORPHANED,
        policy=DivergencePolicy.WARN,
        detail=f"it left the spec, and {count} change{'' if count == 1 else 's'} of it "
        f"{'is' if count == 1 else 'are'} deployed: {why}",
    )
