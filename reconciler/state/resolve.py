"""Resolve a spec and the files of a commit into the desired state of one deployment."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from reconciler.changes.folders import module_folders
from reconciler.changes.module import ModuleChange, read_module
from reconciler.changes.plan_model import PlanFile
from reconciler.changes.psql_lexer import names_in
from reconciler.changes.specifier import target_index
from reconciler.changes.unread import NOTHING
from reconciler.errors import Conflict, InvalidInput, NotFound, PlanFileError, Problem, SpecError
from reconciler.frozen import frozen
from reconciler.spec.components import ModuleSpec
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.variables import for_deployment, script_values
from reconciler.state.cycles import find_cycle
from reconciler.state.desired import (
    DesiredChange,
    DesiredDatabase,
    DesiredModule,
    DesiredObjects,
    DesiredState,
    TransactionMode,
)
from reconciler.state.gate import desired_gate
from reconciler.state.globs import expanded
from reconciler.state.objects import Projects, ReadObjects, desired_objects
from reconciler.state.program import Purpose, judge
from reconciler.state.programs import DesiredPrograms
from reconciler.state.roles import desired_roles
from reconciler.state.services import Wanted, desired_programs, desired_servers
from reconciler.state.source_files import PlainFiles, SourceFiles
from reconciler.state.together import not_together
from reconciler.state.verdicts import Verdicts


@frozen
class ModuleContent:
    """A module up to a target, apart from whoever deploys it: the same for the same files.

    `problems` are those of its scripts; the module can then not be deployed.
    """

    plan_file: str
    project: str
    uri: str | None
    requires: tuple[str, ...]
    changes: tuple[DesiredChange, ...]
    beyond_target: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...] = ()
    control_name: str | None = None


ReadContent = Callable[[str, str | None, Mapping[str, str]], ModuleContent]
"""Gives the module of a folder up to a target (None: all of it), its scripts with values for variables.

Raises InvalidInput where there is none.
"""

Folders = Callable[[], Mapping[str, str]]
"""Gives the folders with plan files, with the projects these name."""


@frozen
class Readers:
    """What gives the files of components: modules, SQL objects, and the folders that globs look through."""

    module: ReadContent | None
    """None: modules are left out."""
    objects: ReadObjects
    folders: Folders
    source: SourceFiles | None = None
    """None: services, jobs and routes are left out."""


@frozen
class _Context:
    databases: Mapping[str, DesiredDatabase]
    projects: Mapping[str, str]
    """Projects by what control files may call them: their name, or their control file's."""


def resolve(
    spec: EnvironmentSpec,
    deployment: str,
    commit: str,
    files: Mapping[str, bytes],
    *,
    unread: Mapping[str, str] = NOTHING,
) -> DesiredState:
    """Say everything one deployment should be at a commit.

    `files` are the files of the source by path, `unread` those left out, with the reason. Raises SpecError
    with all problems of all modules.
    """
    return resolve_with(spec, deployment, commit, readers_of(files, unread))


def readers_of(files: Mapping[str, bytes], unread: Mapping[str, str] = NOTHING) -> Readers:
    """What gives components their files from those of a source, by path."""
    return Readers(
        module=lambda path, target, values: read_content(path, target, files, values, unread=unread),
        objects=Projects(files, unread).read,
        folders=lambda: module_folders(files, unread),
        source=PlainFiles(files, unread),
    )


def resolve_with(
    spec: EnvironmentSpec,
    deployment: str,
    commit: str,
    read: Readers,
    *,
    target: tuple[str, str] | None = None,
) -> DesiredState:
    """The same, with the files taken from elsewhere; `target` puts another one in for a component."""
    written = for_deployment(spec, deployment)
    roles = desired_roles(written)
    own = written
    if read.module is not None:
        own = _by_paths(written, read.folders, target, len(spec.deployments))
    place = next(part for part in own.deployments if part.name == deployment)
    stages = own.stages_of()
    places = _places(written)
    problems: list[Problem] = []
    programs = _programs(own, read, places, problems)
    servers = desired_servers(own)
    databases = {
        part.name: DesiredDatabase(
            component=part.name,
            stage=stages[part.name],
            database=part.database,
            extensions=tuple(dict.fromkeys(part.extensions)),
            after=tuple(part.after),
            roles=roles[part.name],
            skip=part.skip,
            on=servers.get(part.name),
            access=programs.access.get(part.name),
        )
        for part in own.databases
    }
    waves = spec.waves
    asked = own.rollout.waves.gate
    gate = desired_gate(
        own,
        databases.get(asked.database) if asked is not None else None,
        wave=waves[deployment],
        last=max(waves.values()),
    )
    modules, objects = _of_files(own, databases, read, places, problems)
    return DesiredState(
        environment=own.name,
        deployment=deployment,
        commit=commit,
        postgres=place.postgres.dsn,
        stages=tuple(stage.name for stage in own.stages),
        databases=tuple(databases.values()),
        modules=modules,
        objects=objects,
        gate=gate,
        wave=waves[deployment],
        programs=programs.programs,
        provision_postgres=place.postgres.provision_dsn,
    )


def _programs(
    own: EnvironmentSpec, read: Readers, places: Mapping[str, str], problems: list[Problem]
) -> Wanted:
    """Services, jobs and routes; what is wrong with them is added to what else is."""
    nothing = Wanted(programs=DesiredPrograms(), access={})
    if read.source is None:
        return nothing
    try:
        return desired_programs(own, read.source, places)
    except SpecError as error:
        problems += error.problems
        return nothing


def _places(written: EnvironmentSpec) -> dict[str, str]:
    """Where the components of a spec stand in its document, by name."""
    return {part.name: f"spec.components[{position}]" for position, part in enumerate(written.components)}


def _of_files(
    own: EnvironmentSpec,
    databases: Mapping[str, DesiredDatabase],
    read: Readers,
    places: Mapping[str, str],
    problems: list[Problem],
) -> tuple[tuple[DesiredModule, ...], tuple[DesiredObjects, ...]]:
    """What components that are files want; raises SpecError with all that is wrong with any component."""
    modules: tuple[DesiredModule, ...] = ()
    objects: tuple[DesiredObjects, ...] = ()
    try:
        modules = _modules(own, databases, read.module) if read.module is not None else ()
    except SpecError as error:
        problems += error.problems
    try:
        objects = desired_objects(own, databases, read.objects, places=places)
    except SpecError as error:
        problems += error.problems
    if problems:
        raise SpecError(problems)
    return modules, objects


def _by_paths(
    own: EnvironmentSpec, folders: Folders, target: tuple[str, str] | None, deployments: int
) -> EnvironmentSpec:
    """The spec of one deployment with every module by its path."""
    if any(part.modules for part in own.modules):
        own = expanded(own, folders(), deployments=deployments)
    if target is None:
        return own
    component, to = target
    parts = tuple(
        part.model_copy(update={"to": to}) if part.name == component else part for part in own.components
    )
    return own.model_copy(update={"spec": own.spec.model_copy(update={"components": parts})})


def variable_names(files: Mapping[str, bytes]) -> frozenset[str]:
    """The names that scripts among some files may use as variables: only these can move what they mean."""
    found: set[str] = set()
    for content in files.values():
        if b":" in content:
            found.update(names_in(content.decode("utf-8", "replace")))
    return frozenset(found)


def read_content(
    path: str,
    target: str | None,
    files: Mapping[str, bytes],
    values: Mapping[str, str] = MappingProxyType({}),
    verdicts: Verdicts | None = None,
    *,
    unread: Mapping[str, str] = NOTHING,
) -> ModuleContent:
    """Read a module and judge the scripts its target reaches; raises InvalidInput where it is broken.

    `values` are those of the variables that scripts may use, `verdicts` what is known of scripts already,
    `unread` the paths that were left out, with the reason.
    """
    module = read_module(path, files, unread=unread)
    last = _last(module.plan, target)
    changes: list[DesiredChange] = []
    problems: list[Problem] = []
    for change in module.changes[: last + 1]:
        try:
            changes.append(_change(module.with_values(change, values), verdicts))
        except InvalidInput as error:
            problems += error.problems
    return ModuleContent(
        plan_file=module.plan.file,
        project=module.project,
        uri=module.uri,
        requires=tuple(module.requires),
        changes=tuple(changes),
        beyond_target=tuple(
            (change.change.id, change.change.instance) for change in module.changes[last + 1 :]
        ),
        problems=tuple(problems),
        control_name=module.control.name if module.control else None,
    )


def _last(plan: PlanFile, target: str | None) -> int:
    try:
        return target_index(plan, target)
    except (NotFound, Conflict) as error:
        problem = Problem(file=plan.file, message=f"target '{target}': {error.message}", hint=error.hint)
        raise PlanFileError([problem]) from error


def _modules(
    spec: EnvironmentSpec,
    databases: Mapping[str, DesiredDatabase],
    read: ReadContent,
) -> tuple[DesiredModule, ...]:
    problems: list[Problem] = []
    found: list[tuple[ModuleSpec, ModuleContent]] = []
    for part in spec.modules:
        try:
            content = read(part.path or "", part.to, script_values(spec, part))
        except InvalidInput as error:
            problems += error.problems
            continue
        found.append((part, content))
        problems += content.problems
        if TransactionMode(part.transaction) is TransactionMode.MODULE:
            problems += not_together(part.name, content.changes)
    context = _Context(databases=databases, projects=_projects([content for _part, content in found]))
    problems += _same_project_twice(found, context)
    if problems:
        raise SpecError(problems)
    modules = tuple(_module(spec, part, content, context) for part, content in found)
    cycle = find_cycle(modules)
    if cycle is not None:
        message = f"these modules and changes require each other: {' -> '.join(cycle)}"
        hint = "of two changes of one project in a row, the second stands before the first in its plan file"
        file = next(content.plan_file for _part, content in found if content.project in cycle[0].split(":"))
        raise SpecError([Problem(file=file, message=message, hint=hint)])
    return modules


def _projects(contents: Sequence[ModuleContent]) -> dict[str, str]:
    by_control = {content.control_name: content.project for content in contents if content.control_name}
    return by_control | {content.project: content.project for content in contents}


def _same_project_twice(
    found: Sequence[tuple[ModuleSpec, ModuleContent]], context: _Context
) -> list[Problem]:
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for part, content in found:
        key = (context.databases[part.database.component].database, content.project)
        other = seen.setdefault(key, part.name)
        if other != part.name:
            problems.append(
                Problem(
                    file=content.plan_file,
                    message=f"project '{content.project}' is deployed to database '{key[0]}' by two "
                    f"components, '{other}' and '{part.name}'",
                    hint="give one of them another project name in its plan file",
                )
            )
    return problems


def _module(
    spec: EnvironmentSpec, part: ModuleSpec, content: ModuleContent, context: _Context
) -> DesiredModule:
    database = context.databases[part.database.component]
    return DesiredModule(
        component=part.name,
        stage=spec.stage_of(part),
        database_component=database.component,
        database=database.database,
        path=part.path or "",
        project=content.project,
        uri=content.uri,
        target=part.to,
        changes=content.changes,
        beyond_target=content.beyond_target,
        requires_extensions=tuple(name for name in content.requires if name not in context.projects),
        requires_modules=tuple(
            dict.fromkeys(context.projects[name] for name in content.requires if name in context.projects)
        ),
        transaction=TransactionMode(part.transaction),
        after=tuple(part.after),
        skip=part.skip,
        divergence=part.divergence.model_dump(),
    )


def _change(change: ModuleChange, verdicts: Verdicts | None) -> DesiredChange:
    problems: list[Problem] = []
    if change.verify is not None:
        try:
            judge(change.verify, purpose=Purpose.VERIFY, verdicts=verdicts)
        except InvalidInput as error:
            problems += error.problems
    try:
        found = judge(change.deploy, purpose=Purpose.DEPLOY, verdicts=verdicts)
    except InvalidInput as error:
        raise SpecError([*error.problems, *problems]) from error
    if problems:
        raise SpecError(problems)
    planned = change.change
    return DesiredChange(
        change_id=planned.id,
        name=planned.instance,
        requires=tuple(planned.requires),
        conflicts=tuple(planned.conflicts),
        tags=tuple((tag.id, tag.name) for tag in planned.tags),
        note=planned.note,
        planned_at=planned.planned_at,
        planner=planned.planner,
        deploy=change.deploy,
        revert=change.revert,
        verify=change.verify,
        script_hash=change.script_hash,
        parse_hash=found.parse_hash,
        hazards=found.hazards,
        transactional=found.transactional,
    )
