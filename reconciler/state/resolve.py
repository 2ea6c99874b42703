"""Resolve a spec and the files of a commit into the desired state of one deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.catalog.sql_text import parse_hash
from reconciler.changes.module import Module, ModuleChange, read_module
from reconciler.changes.plan_file import target_index
from reconciler.errors import InvalidInput, Problem, SpecError
from reconciler.spec.environment import EnvironmentSpec, ModuleSpec
from reconciler.spec.variables import for_deployment
from reconciler.state.desired import (
    DesiredChange,
    DesiredDatabase,
    DesiredModule,
    DesiredState,
    TransactionMode,
)
from reconciler.state.program import Purpose, compile_script


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    files: Mapping[str, bytes]
    databases: Mapping[str, DesiredDatabase]
    projects: frozenset[str]


def resolve(spec: EnvironmentSpec, deployment: str, commit: str, files: Mapping[str, bytes]) -> DesiredState:
    """Say everything one deployment should be at a commit.

    `files` are the files of the source by path. Raises SpecError with all problems of all modules.
    """
    own = for_deployment(spec, deployment)
    place = next(part for part in own.deployments if part.name == deployment)
    databases = {
        part.name: DesiredDatabase(
            component=part.name,
            stage=own.stage_of(part),
            database=part.database,
            extensions=tuple(dict.fromkeys(part.extensions)),
            after=tuple(part.after),
        )
        for part in own.databases
    }
    return DesiredState(
        environment=own.name,
        deployment=deployment,
        commit=commit,
        postgres=place.postgres.dsn,
        stages=tuple(stage.name for stage in own.stages),
        databases=tuple(databases.values()),
        modules=_modules(own, databases, files),
    )


def _modules(
    spec: EnvironmentSpec,
    databases: Mapping[str, DesiredDatabase],
    files: Mapping[str, bytes],
) -> tuple[DesiredModule, ...]:
    problems: list[Problem] = []
    read: list[tuple[ModuleSpec, Module]] = []
    for part in spec.modules:
        try:
            read.append((part, read_module(part.path, files)))
        except InvalidInput as error:
            problems += error.problems
    context = _Context(
        files=files, databases=databases, projects=frozenset(module.project for _part, module in read)
    )
    problems += _same_project_twice(read, context)
    found = []
    for part, module in read:
        try:
            found.append(_module(spec, part, module, context))
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return tuple(found)


def _same_project_twice(read: Sequence[tuple[ModuleSpec, Module]], context: _Context) -> list[Problem]:
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for part, module in read:
        key = (context.databases[part.database.component].database, module.project)
        other = seen.setdefault(key, part.name)
        if other != part.name:
            problems.append(
                Problem(
                    file=module.plan.file,
                    message=f"project '{module.project}' is deployed to database '{key[0]}' by two "
                    f"components, '{other}' and '{part.name}'",
                    hint="give one of them another project name in its plan file",
                )
            )
    return problems


def _module(spec: EnvironmentSpec, part: ModuleSpec, module: Module, context: _Context) -> DesiredModule:
    problems: list[Problem] = []
    changes: list[DesiredChange] = []
    last = target_index(module.plan, part.to)
    for number, change in enumerate(module.changes):
        if number > last:
            break
        try:
            changes.append(_change(change))
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    database = context.databases[part.database.component]
    return DesiredModule(
        component=part.name,
        stage=spec.stage_of(part),
        database_component=database.component,
        database=database.database,
        path=part.path,
        project=module.project,
        uri=module.uri,
        target=part.to,
        changes=tuple(changes),
        beyond_target=tuple(
            (change.change.id, change.change.instance) for change in module.changes[last + 1 :]
        ),
        requires_extensions=tuple(name for name in module.requires if name not in context.projects),
        requires_modules=tuple(name for name in module.requires if name in context.projects),
        transaction=TransactionMode(part.transaction),
        after=tuple(part.after),
    )


def _change(change: ModuleChange) -> DesiredChange:
    program = compile_script(change.deploy, purpose=Purpose.DEPLOY)
    problems = []
    if not program.transactional:
        problems.append(
            Problem(
                file=change.deploy.path,
                message=f"this script cannot run in a transaction: {'; '.join(program.reasons)}",
                hint="non-transactional changes are not carried out by this version; "
                "deploy it without CONCURRENTLY, or by hand",
            )
        )
    if change.verify is not None:
        try:
            compile_script(change.verify, purpose=Purpose.VERIFY)
        except InvalidInput as error:
            problems += error.problems
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
        parse_hash=parse_hash(change.deploy.text),
        hazards=tuple(program.hazards),
    )
