"""Say which deployed changes are to be taken back, in which order, and by which scripts; it runs none.

A module is a stack: what was deployed last goes first. What other modules require of it goes before it, where
that was asked for, and else nothing goes.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from reconciler.changes.script import Script
from reconciler.diff.deployed import index_of, required_index
from reconciler.diff.matching import pair
from reconciler.diff.model import Reverts, ToRevert
from reconciler.errors import Conflict, InvalidInput
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredChange, DesiredDatabase, DesiredModule, DesiredState
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.state.task import ModuleTask
from reconciler.state.tracked import Revertible, TrackedChange, TrackedDatabase, TrackedModule, TrackedState
from reconciler.state.units import left_of, resumption, units

NAMED_MAX = 20
"""Changes that one message names."""
MISSING_MAX = 200
"""Revert scripts that are named as missing: whoever writes them wants to see them all."""


@frozen
class Ground:
    """One database that changes are taken back from: what is declared, tracked and stored there."""

    desired: DesiredState
    database: DesiredDatabase
    tracked: TrackedDatabase
    stored: Mapping[str, Revertible]

    def module(self, project: str) -> DesiredModule | None:
        """The module of a project as the commit has it, if it has it."""
        return next(
            (
                module
                for module in self.desired.modules
                if module.project == project and module.database == self.database.database
            ),
            None,
        )


def find(desired: DesiredState, tracked: TrackedState, name: str) -> tuple[DesiredDatabase, str] | None:
    """The database and the project that a name means: of a module of the commit, else of one that left it."""
    for module in desired.modules:
        if name in (module.component, module.project):
            owner = next(part for part in desired.databases if part.component == module.database_component)
            return owner, module.project
    for database in desired.databases:
        for project, recorded in tracked.databases.get(database.database, TrackedDatabase()).modules.items():
            whose = (recorded.environment, recorded.deployment)
            known = whose in ((None, None), (desired.environment, desired.deployment))
            if name in (recorded.component, project) and recorded.changes and known:
                return database, project
    return None


def plan_task(ground: Ground, project: str, task: ModuleTask, only: frozenset[str] | None = None) -> Reverts:
    """What a revert by hand takes back. `only`: what was shown of it; nothing else goes."""
    recorded = ground.tracked.modules.get(project)
    deployed = recorded.changes if recorded is not None else ()
    component = _component(ground, project)
    if only is not None:
        return _as_shown(ground, component, project, only)
    if task.everything:
        first = 0
    elif task.to is None:
        first = max(len(deployed) - 1, 0)
    else:
        try:
            found = index_of(deployed, project, task.to)
        except Conflict as conflict:
            return _nothing(ground, component, project, (str(conflict),))
        if found is None:
            why = f"'{task.to}' is not deployed: nothing of module '{project}' is taken back"
            return _nothing(ground, component, project, (why,))
        first = found + 1
    chosen = {row.change_id for row in deployed[first:]}
    return _with_dependents(ground, (component, project), chosen, others=task.with_dependents)


def plan_all(ground: Ground, project: str) -> Reverts:
    """What taking back a whole module that left the commit means; others that require it stand in its way."""
    recorded = ground.tracked.modules[project]
    chosen = {row.change_id for row in recorded.changes}
    return _with_dependents(ground, (recorded.component, project), chosen, others=False)


def plan_place(ground: Ground) -> Reverts | None:
    """What taking back all of a deployment that left means in one of its databases; None: nothing is there.

    What another environment or deployment brought there, or nobody knows who, stays and stands in the way of
    what it requires.
    """
    whose = (ground.desired.environment, ground.desired.deployment)
    mine = [
        module
        for module in ground.tracked.modules.values()
        if module.changes and (module.environment, module.deployment) == whose
    ]
    if not mine:
        return None
    chosen = {row.change_id for module in mine for row in module.changes}
    return _with_dependents(ground, (mine[0].component, mine[0].project), chosen, others=False)


def _component(ground: Ground, project: str) -> str:
    module = ground.module(project)
    if module is not None:
        return module.component
    recorded = ground.tracked.modules.get(project)
    return recorded.component if recorded is not None else project


def _nothing(ground: Ground, component: str, project: str, blocked: tuple[str, ...]) -> Reverts:
    module = ground.module(project)
    return Reverts(
        component=component,
        project=project,
        database=ground.database.database,
        stage=module.stage if module is not None else ground.desired.stages[-1],
        blocked=blocked,
    )


def _as_shown(ground: Ground, component: str, project: str, only: frozenset[str]) -> Reverts:
    """What is left of a revert that was shown; what was deployed on top of it since stands in its way."""
    chosen = {
        row.change_id
        for recorded in ground.tracked.modules.values()
        for row in recorded.changes
        if row.change_id in only
    }
    found = replace(_with_dependents(ground, (component, project), chosen, others=True), verify=bool(only))
    more = [f"'{one.project}:{one.change.name}'" for one in found.changes if one.change.change_id not in only]
    if not more:
        return found
    why = f"{_few(more)} was deployed since the revert was shown, and would have to go too; ask for it anew"
    return _nothing(ground, component, project, (why,))


def _with_dependents(ground: Ground, named: tuple[str, str], chosen: set[str], *, others: bool) -> Reverts:
    requirements = _Requirements(ground)
    chain = requirements.closure(chosen)
    said = [why for row, why in chain.values() if why is not None and row.change_id not in chosen]
    base = _nothing(ground, *named, ())
    if said and not others:
        why = (
            f"deployed changes of other modules require what would be taken back: {_few(said)}; "
            "take them back first, or with it (--with-dependents)"
        )
        return replace(base, blocked=(why,))
    rows = sorted((row for row, _why in chain.values()), key=lambda row: row.position, reverse=True)
    scripts = _Scripts(ground)
    changes = tuple(scripts.of(requirements.project_of[row.change_id], row) for row in rows)
    missing = [f"'{one.project}:{one.change.name}'" for one in changes if one.script is None]
    blocked = (
        [f"no revert script, neither in the commit nor stored: {_few(missing, MISSING_MAX)}"]
        if missing
        else []
    )
    blocked += scripts.problems
    if blocked:
        return replace(base, blocked=tuple(blocked))
    return replace(base, changes=changes, verify=bool(changes))


class _Requirements:
    """Which deployed changes require which, over all modules of a database."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._modules = ground.tracked.modules
        self.project_of = {
            row.change_id: project for project, module in self._modules.items() for row in module.changes
        }
        self._rows = {row.change_id: row for module in self._modules.values() for row in module.changes}
        self._next = {
            row.change_id: later
            for module in self._modules.values()
            for row, later in pairwise(module.changes)
        }
        self._required_by: dict[str, list[str]] = {}
        for change_id, stored in ground.stored.items():
            if change_id in self.project_of:
                for needed in {*stored.requires_ids, *self._resolved(change_id, stored.requires)}:
                    self._required_by.setdefault(needed, []).append(change_id)

    def _resolved(self, change_id: str, requires: Iterable[str]) -> Iterable[str]:
        """The deployed changes that requirements on other modules mean."""
        own = self.project_of[change_id]
        for need in requires:
            if need in self._rows:
                yield need
            project, colon, rest = need.partition(":")
            if colon and project != own and project in self._modules:
                changes = self._modules[project].changes
                place = required_index(changes, project, rest)
                if place is not None:
                    yield changes[place].change_id

    def closure(self, chosen: set[str]) -> dict[str, tuple[TrackedChange, str | None]]:
        """All that goes, with why where it was not asked for.

        A change of another module goes with everything that was deployed of that module after it.
        """
        found: dict[str, tuple[TrackedChange, str | None]] = {}
        pending: list[tuple[str, str | None]] = [(change_id, None) for change_id in sorted(chosen)]
        while pending:
            change_id, why = pending.pop()
            if change_id in found:
                continue
            row, project = self._rows[change_id], self.project_of[change_id]
            found[change_id] = (row, why)
            later = self._next.get(change_id)
            if later is not None and later.change_id not in found:
                said = f"'{project}:{later.name}' was deployed after '{project}:{row.name}'"
                pending.append((later.change_id, why and said))
            pending += [
                (other, f"'{self._named(other)}' requires '{project}:{row.name}'")
                for other in (*self._required_by.get(change_id, ()), *self._built_on(project, row))
                if other not in found and self.project_of[other] != project
            ]
        return found

    def _built_on(self, project: str, row: TrackedChange) -> Iterable[str]:
        """Changes of modules whose control file requires this one, as far as they were deployed after it."""
        for module in self._ground.desired.modules:
            if module.database != self._ground.database.database or project not in module.requires_modules:
                continue
            recorded = self._modules.get(module.project)
            changes = recorded.changes if recorded is not None else ()
            following = bisect_right(changes, row.position, key=lambda other: other.position)
            if following < len(changes):
                yield changes[following].change_id

    def _named(self, change_id: str) -> str:
        return f"{self.project_of[change_id]}:{self._rows[change_id].name}"


class _Scripts:
    """Chooses the script that takes a change back, and collects what is wrong with those chosen.

    The commit's, where the change stands in its plan and its deploy script is what was deployed: so a revert
    script can be mended. Else the one stored when it was deployed, for the commit's may be another change's.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._in_plan: dict[str, Mapping[str, DesiredChange]] = {}
        self.problems: list[str] = []

    def of(self, project: str, row: TrackedChange) -> ToRevert:
        """The change with its script; without one where there is none."""
        change = self._from_commit(project, row)
        kept = self._ground.stored.get(row.change_id, Revertible(script=None))
        script, verify, stored = None, None, False
        if change is not None:
            script, verify = change.revert, change.verify
        elif kept.verify is not None:
            verify = Script(f"{project}:verify/{row.name}.sql (stored)", kept.verify)
        if script is None and kept.script is not None:
            script, stored = Script(f"{project}:revert/{row.name}.sql (stored)", kept.script), True
        program = self._compiled(script) if script is not None else None
        return ToRevert(
            component=_component(self._ground, project),
            project=project,
            change=row,
            script=script,
            stored=stored,
            hazards=program.hazards if program is not None else (),
            doubt=self._doubt(project, row, program) if program is not None else None,
            verify=verify,
        )

    def _compiled(self, script: Script) -> Program | None:
        try:
            return compile_script(script, purpose=Purpose.REVERT)
        except InvalidInput as error:
            self.problems += [str(problem) for problem in error.problems]
            return None

    def _doubt(self, project: str, row: TrackedChange, program: Program) -> str | None:
        """Why nobody but a person knows where to go on, where an earlier revert was interrupted."""
        left = left_of(self._ground.tracked.unfinished, (row.change_id, row.name), project)
        return resumption(program, units(program), left).doubt if left is not None else None

    def _from_commit(self, project: str, row: TrackedChange) -> DesiredChange | None:
        """The change as the commit has it, where that is what was deployed."""
        if project not in self._in_plan:
            self._in_plan[project] = self._paired(project)
        change = self._in_plan[project].get(row.change_id)
        return change if change is not None and _same_script(row, change) else None

    def _paired(self, project: str) -> dict[str, DesiredChange]:
        module, recorded = self._ground.module(project), self._ground.tracked.modules.get(project)
        if module is None or recorded is None:
            return {}
        return {
            one.row.change_id: module.changes[one.place]
            for one in pair(module, recorded.changes)
            if one.place is not None
        }


def _same_script(row: TrackedChange, change: DesiredChange) -> bool:
    if row.script_hash is None or row.script_hash == change.script_hash:
        return True
    return row.parse_hash is not None and row.parse_hash == change.parse_hash


def left_behind(
    desired: DesiredState, tracked: TrackedState
) -> tuple[tuple[DesiredDatabase, TrackedModule], ...]:
    """Modules with deployed changes that this environment deployed here and no longer declares.

    One of which nobody recorded whose it is counts as somebody else's.
    """
    found = []
    for database in desired.databases:
        declared = {module.project for module in desired.modules if module.database == database.database}
        recorded = tracked.databases.get(database.database, TrackedDatabase())
        found += [
            (database, module)
            for project, module in recorded.modules.items()
            if project not in declared
            and module.changes
            and (module.environment, module.deployment) == (desired.environment, desired.deployment)
        ]
    return tuple(found)


def _few(said: Sequence[str], at_most: int = NAMED_MAX) -> str:
    more = f" and {len(said) - at_most} more" if len(said) > at_most else ""
    return ", ".join(said[:at_most]) + more
