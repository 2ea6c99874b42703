"""Edits of a spec's stages as text: comments and layout stay, and what comes out is a sound spec.

It reads and writes no file.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

from reconciler.errors import Conflict, NotFound, Problem, Refused, SpecError
from reconciler.frozen import frozen
from reconciler.spec import text_rules, yaml_edit, yaml_text
from reconciler.spec.components import AnyComponent, needed
from reconciler.spec.environment import DEFAULT_STAGES, EnvironmentSpec
from reconciler.spec.listing import ReadFile
from reconciler.spec.parse import parse_file
from reconciler.spec.words import did_you_mean
from reconciler.spec.yaml_edit import (
    CannotEdit,
    Change,
    DropItem,
    DropKey,
    InsertItem,
    MoveItem,
    SetKey,
)

_STAGES = ("spec", "stages")


@frozen
class Beside:
    """Next to which stage: before it, or after it."""

    stage: str
    after: bool


@frozen
class CreateStage:
    """Add a stage, the last one unless a place is named."""

    name: str
    description: str | None = None
    place: Beside | None = None


@frozen
class EditStage:
    """Give a stage another name, description (empty: none) or place; who is in it stays in it."""

    name: str
    new_name: str | None = None
    description: str | None = None
    place: Beside | None = None


@frozen
class DeleteStage:
    """Take a stage out that nothing is in."""

    name: str


@frozen
class MoveComponents:
    """Put components into a stage; who is skipped no longer is."""

    names: tuple[str, ...]
    stage: str


@frozen
class SkipComponents:
    """Leave components out of rollouts, or no longer."""

    names: tuple[str, ...]
    skip: bool


Edit = CreateStage | EditStage | DeleteStage | MoveComponents | SkipComponents


@frozen
class SpecFile:
    """A file of specs, and what gives the lists that it refers to."""

    name: str
    content: bytes
    read_file: ReadFile | None = None


def declared(file: SpecFile) -> tuple[str, ...]:
    """The names of the environments that a file declares, however broken these are."""
    parsed = parse_file(file.name, file.content, file.read_file)
    return tuple(each.name for each in parsed if each.name is not None)


def spec_of(file: SpecFile, environment: str) -> EnvironmentSpec:
    """The spec of an environment that a file declares; raises SpecError with all that is wrong there."""
    parsed = parse_file(file.name, file.content, file.read_file)
    if problems := [problem for each in parsed for problem in each.problems]:
        raise SpecError(problems)
    found = [each.spec for each in parsed if each.name == environment and each.spec is not None]
    if not found:
        raise NotFound(f"'{file.name}' does not declare environment '{environment}'")
    if len(found) > 1:
        raise Refused(f"'{file.name}' declares environment '{environment}' more than once")
    return found[0]


def edited(file: SpecFile, environment: str, edit: Edit) -> bytes:
    """The text of a file after an edit; the same text where there is nothing to do.

    Raises SpecError where the file is no sound spec before or after it, NotFound, Conflict and Refused where
    the edit cannot be made, and then says why.
    """
    spec = spec_of(file, environment)
    content = file.content
    for changes in _steps(spec, edit):
        if changes:
            content = _carried_out(SpecFile(name=file.name, content=content), environment, changes)
    if content != file.content:
        spec_of(SpecFile(name=file.name, content=content, read_file=file.read_file), environment)
    return content


def _carried_out(file: SpecFile, environment: str, changes: Sequence[Change]) -> bytes:
    try:
        return yaml_edit.edit(file.content, _document(file.content, environment), changes)
    except CannotEdit as error:
        problem = Problem(
            file=file.name,
            line=error.line,
            message=f"environment '{environment}' cannot be edited by command: {error.message}",
            hint="edit it by hand, or write out what an anchor stands for",
        )
        raise SpecError([problem]) from None


def _document(content: bytes, environment: str) -> int:
    for number, document in enumerate(yaml_text.load("", content).documents):
        data = document.plain()
        if isinstance(data, dict) and data["metadata"]["name"] == environment:
            return number
    raise NotFound(f"environment '{environment}' is not declared")


def _steps(spec: EnvironmentSpec, edit: Edit) -> Iterator[Sequence[Change]]:
    """What an edit changes, one after another; each part names places as they are after those before."""
    match edit:
        case CreateStage():
            yield _written_out(spec)
            yield _create(spec, edit)
        case EditStage():
            _index(spec, edit.name)
            place = _place(spec, edit)
            renamed = [*_rename(spec, edit), *_describe(spec, edit)]
            if place or renamed:
                yield _written_out(spec)
            yield renamed
            yield place
        case DeleteStage():
            changes = _delete(spec, edit.name)
            yield _written_out(spec)
            yield changes
        case MoveComponents():
            _index(spec, edit.stage)
            yield [each for name in _once(edit.names) for each in _move(spec, name, edit.stage)]
        case SkipComponents():
            yield [each for name in _once(edit.names) for each in _skip(spec, name, skip=edit.skip)]


def _once(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _written_out(spec: EnvironmentSpec) -> list[Change]:
    """The default stages in full, where the spec names none: one of them is about to change."""
    if spec.spec.stages is not None:
        return []
    fields = [{"name": name, "description": description} for name, description in DEFAULT_STAGES]
    return [SetKey(path=("spec",), key="stages", value=fields)]


def _create(spec: EnvironmentSpec, edit: CreateStage) -> list[Change]:
    _check_new(spec, edit.name)
    fields: dict[str, str] = {"name": edit.name}
    if edit.description:
        fields["description"] = edit.description
    index = len(spec.stages)
    if edit.place is not None:
        index = _index(spec, edit.place.stage) + int(edit.place.after)
    return [InsertItem(path=_STAGES, index=index, value=fields)]


def _check_new(spec: EnvironmentSpec, name: str) -> None:
    if (broken := text_rules.name(name)) is not None:
        raise SpecError([Problem(message=f"the name of a stage {broken.message}", hint=broken.hint)])
    if any(stage.name == name for stage in spec.stages):
        raise Conflict(f"environment '{spec.name}' already has a stage '{name}'", hint="choose another name")


def _rename(spec: EnvironmentSpec, edit: EditStage) -> Iterator[Change]:
    """Another name, where the stage is declared and in every component that is in it."""
    if edit.new_name is None or edit.new_name == edit.name:
        return
    _check_new(spec, edit.new_name)
    yield SetKey(path=(*_STAGES, _index(spec, edit.name)), key="name", value=edit.new_name)
    for position, component in enumerate(spec.components):
        if spec.stage_of(component) == edit.name:
            yield _in_stage(position, edit.new_name)


def _describe(spec: EnvironmentSpec, edit: EditStage) -> Iterator[Change]:
    index = _index(spec, edit.name)
    path = (*_STAGES, index)
    if edit.description is None or edit.description == (spec.stages[index].description or ""):
        return
    if edit.description:
        yield SetKey(path=path, key="description", value=edit.description, after=("name",))
    else:
        yield DropKey(path=path, key="description")


def _place(spec: EnvironmentSpec, edit: EditStage) -> list[Change]:
    """The stage right beside the other one; nothing where it stands there already."""
    if edit.place is None:
        return []
    if edit.place.stage == edit.name:
        raise Refused(f"stage '{edit.name}' cannot stand beside itself", hint="name another stage")
    index, other = _index(spec, edit.name), _index(spec, edit.place.stage)
    to = other + int(edit.place.after) - int(index < other)
    return [MoveItem(path=_STAGES, index=index, to=to)] if to != index else []


def _delete(spec: EnvironmentSpec, name: str) -> list[Change]:
    index = _index(spec, name)
    inside = [component.name for component in spec.components if spec.stage_of(component) == name]
    if inside:
        listed = ", ".join(f"'{each}'" for each in inside)
        raise Refused(
            f"stage '{name}' of environment '{spec.name}' is not deleted: {listed} would have no stage",
            hint="move them to another stage first: reconciler stage move",
        )
    if len(spec.stages) == 1:
        raise Refused(f"stage '{name}' is the only one of environment '{spec.name}'")
    return [DropItem(path=_STAGES, index=index)]


def _move(spec: EnvironmentSpec, name: str, stage: str) -> Iterator[Change]:
    position, component = _component(spec, name)
    if spec.stage_of(component) == stage:
        return
    yield _in_stage(position, stage)
    if _says_skip(component):
        yield DropKey(path=("spec", "components", position), key="skip")


def _skip(spec: EnvironmentSpec, name: str, *, skip: bool) -> Iterator[Change]:
    position, component = _component(spec, name)
    path = ("spec", "components", position)
    if skip and not component.skip:
        yield SetKey(path=path, key="skip", value=True, after=("name", "kind", "stage"))
    elif not skip and component.skip:
        yield DropKey(path=path, key="skip")


def _says_skip(component: AnyComponent) -> bool:
    return "skip" in component.model_fields_set


def _in_stage(position: int, stage: str) -> Change:
    return SetKey(path=("spec", "components", position), key="stage", value=stage, after=("name", "kind"))


def _index(spec: EnvironmentSpec, stage: str) -> int:
    names = [each.name for each in spec.stages]
    if stage not in names:
        raise NotFound(
            f"environment '{spec.name}' has no stage '{stage}'", hint=did_you_mean(stage, names, "stages")
        )
    return names.index(stage)


def _component(spec: EnvironmentSpec, name: str) -> tuple[int, AnyComponent]:
    for position, component in enumerate(spec.components):
        if component.name == name:
            return position, component
    names = [each.name for each in spec.components]
    raise NotFound(
        f"environment '{spec.name}' has no component '{name}'", hint=did_you_mean(name, names, "components")
    )


def listed(spec: EnvironmentSpec) -> tuple[tuple[str, str | None, tuple[AnyComponent, ...]], ...]:
    """The stages in run order: name, description, and who is in it, behind what each needs, else by name."""
    places = spec.stages_of()
    inside: dict[str, list[AnyComponent]] = {stage.name: [] for stage in spec.stages}
    for each in spec.components:
        inside[places[each.name]].append(each)
    return tuple((stage.name, stage.description, _ordered(inside[stage.name])) for stage in spec.stages)


def _ordered(components: Sequence[AnyComponent]) -> tuple[AnyComponent, ...]:
    """A sound spec has no circle."""
    known = {each.name: each for each in components}
    waiting = {name: {*each.after, *needed(each)} & known.keys() for name, each in known.items()}
    waiters: dict[str, list[str]] = {}
    for name, others in waiting.items():
        for other in others:
            waiters.setdefault(other, []).append(name)
    free = [name for name, others in waiting.items() if not others]
    heapify(free)
    found: list[AnyComponent] = []
    while free:
        done = heappop(free)
        found.append(known[done])
        for name in waiters.get(done, ()):
            waiting[name].discard(done)
            if not waiting[name]:
                heappush(free, name)
    return tuple(found)
