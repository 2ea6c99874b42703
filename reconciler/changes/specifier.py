"""Specifiers of changes, as people write them: which of a sequence of changes one of them means.

The sequence is a plan file's or what is deployed, in its order. `to:` of a spec and the arguments of the
command line are resolved here, and nowhere else.
"""

import re
from collections.abc import Callable, Sequence

from reconciler.changes import reference
from reconciler.changes.plan_model import PlanFile
from reconciler.changes.reference import Reference
from reconciler.errors import Conflict, NotFound
from reconciler.frozen import frozen

FORMS_HINT = (
    "write a change, @tag, change@tag, an id, @HEAD or @ROOT, where wanted with ^ or ~ and a number after it"
)
# As in Sqitch, a sign after another one is no offset: what stands before it must be able to end a name.
_OFFSET = re.compile(r"(?<![-!\"#$%&'()*+,./:;<=>?@\[\\\]^`{|}~])([~^])(?:(\1)|(\d{1,9}))?\Z", re.ASCII)


@frozen
class Instance:
    """One change of a sequence; `name` may come again, `tags` are names and `tag_ids` their ids."""

    id: str
    name: str
    tags: tuple[str, ...] = ()
    tag_ids: tuple[str, ...] = ()


@frozen
class Specifier:
    """A reference, and how many changes after it (before it, where negative) the meant one stands."""

    reference: Reference
    offset: int = 0


@frozen
class Place:
    """What is searched, for messages: the project, and what its changes stand in."""

    project: str
    where: str


def parse(text: str) -> Specifier | None:
    """Take a specifier apart; None where it is not well-formed."""
    match = _OFFSET.search(text)
    parsed = reference.parse(text[: match.start()] if match else text)
    if parsed is None:
        return None
    if match is None:
        return Specifier(reference=parsed)
    count = int(match[3]) if match[3] else 2 if match[2] else 1
    return Specifier(reference=parsed, offset=-count if match[1] == "^" else count)


def index(instances: Sequence[Instance], text: str, place: Place) -> int:
    """Return the position of the change that a specifier means.

    What is not there raises `NotFound`, a bare name that stands for several instances `Conflict`.
    """
    specifier = parse(text.strip())
    if specifier is None:
        raise NotFound(f"'{text}' is no reference to a change of project '{place.project}'", hint=FORMS_HINT)
    wanted = specifier.reference
    if wanted.project not in (None, place.project):
        raise NotFound(
            f"'{text}' names project '{wanted.project}', but {place.where} is of project '{place.project}'"
        )
    found = _index(instances, wanted, place)
    if found is None:
        raise NotFound(f"there is no '{wanted.key}' in {place.where}", hint=_suggestion(instances, wanted))
    position = found + specifier.offset
    if not 0 <= position < len(instances):
        raise NotFound(_beyond(text.strip(), instances, (found, specifier), place))
    return position


def target_index(plan: PlanFile, to: str | None) -> int:
    """Return the index of the change of a plan that a specifier means.

    None means the end of the plan, -1 comes from a plan without changes. Raises as `index` does.
    """
    if to is None or (not plan.changes and to in ("@HEAD", "HEAD")):
        return len(plan.changes) - 1
    return index(instances_of(plan), to, Place(project=plan.project, where=plan.file))


def instances_of(plan: PlanFile) -> tuple[Instance, ...]:
    """Return the changes of a plan file as what a specifier is looked up in."""
    return tuple(
        Instance(
            id=change.id,
            name=change.name,
            tags=tuple(tag.name for tag in change.tags),
            tag_ids=tuple(tag.id for tag in change.tags),
        )
        for change in plan.changes
    )


def required_index(plan: PlanFile, position: int, dependency: str) -> int | None:
    """Return the index of the change that a dependency of the change at a position means.

    A bare name means the newest instance before it. None where the dependency is on another project or an
    unknown id.
    """
    wanted = reference.parse(dependency)
    if wanted is None or wanted.project not in (None, plan.project):
        return None
    if wanted.name is not None and wanted.tag is None:
        names = (each for each in range(position - 1, -1, -1) if plan.changes[each].name == wanted.name)
        return next(names, None)
    return _index(instances_of(plan), wanted, Place(project=plan.project, where=plan.file))


def _index(instances: Sequence[Instance], wanted: Reference, place: Place) -> int | None:
    if not instances:
        return None
    if wanted.id is not None:
        return _first(instances, lambda each: wanted.id == each.id or wanted.id in each.tag_ids)
    if wanted.name is None:
        return _tag_index(instances, wanted.tag or "")
    named = [position for position, each in enumerate(instances) if each.name == wanted.name]
    if wanted.tag is not None:
        limit = _tag_index(instances, wanted.tag)
        return max((each for each in named if limit is not None and each <= limit), default=None)
    if len(named) > 1:
        names = ", ".join(qualified_name(instances, position) for position in reversed(named))
        raise Conflict(
            f"'{wanted.name}' stands for {len(named)} changes of {place.where}", hint=f"say which: {names}"
        )
    if named:
        return named[0]
    return {"HEAD": len(instances) - 1, "ROOT": 0}.get(wanted.name)


def _tag_index(instances: Sequence[Instance], tag: str) -> int | None:
    found = _first(instances, lambda each: tag in each.tags)
    return {"HEAD": len(instances) - 1, "ROOT": 0}.get(tag) if found is None else found


def qualified_name(instances: Sequence[Instance], position: int) -> str:
    """Return what means only this instance: its name with a tag, or its id where no tag tells it apart."""
    name = instances[position].name
    for each in instances[position:]:
        if each is not instances[position] and each.name == name:
            return instances[position].id
        if each.tags:
            return f"{name}@{each.tags[0]}"
    return f"{name}@HEAD"


def _first(instances: Sequence[Instance], matches: Callable[[Instance], bool]) -> int | None:
    return next((position for position, each in enumerate(instances) if matches(each)), None)


def _beyond(text: str, instances: Sequence[Instance], found: tuple[int, Specifier], place: Place) -> str:
    position, specifier = found
    room = position if specifier.offset < 0 else len(instances) - 1 - position
    side = "before" if specifier.offset < 0 else "after"
    plural = "" if room == 1 else "s"
    return (
        f"'{text}' lies outside of {place.where}: {room} change{plural} {'stands' if room == 1 else 'stand'} "
        f"{side} '{specifier.reference.key}'"
    )


def _suggestion(instances: Sequence[Instance], wanted: Reference) -> str | None:
    known = [each.name for each in instances] + [f"@{tag}" for each in instances for tag in each.tags]
    known += [f"{each.name}@{tag}" for each in instances for tag in each.tags]
    likely = reference.closest(wanted.key, list(dict.fromkeys(known)))
    return f"did you mean '{likely}'?" if likely else None
