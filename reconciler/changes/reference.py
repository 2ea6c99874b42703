"""Names of changes as plan files and people write them, and what they mean in a plan."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from reconciler.changes.plan_lines import is_name
from reconciler.changes.plan_model import Change, PlanFile
from reconciler.errors import Conflict, NotFound

_ID = re.compile(r"[0-9a-f]{40}")
_SUGGEST_AMONG = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`[project:](name[@tag] | @tag | id)`, taken apart."""

    project: str | None = None
    name: str | None = None
    tag: str | None = None
    id: str | None = None

    @property
    def key(self) -> str:
        """The reference without its project."""
        return self.id or (self.name or "") + (f"@{self.tag}" if self.tag is not None else "")


def parse(text: str) -> Reference | None:
    """Take a reference apart; None where it is not well-formed."""
    before, colon, after = text.partition(":")
    project, rest = (before, after) if colon else (None, text)
    if project is not None and not is_name(project):
        return None
    if _ID.fullmatch(rest):
        return Reference(project=project, id=rest)
    name, at, tag = rest.partition("@")
    if (name and not is_name(name)) or (at and not is_name(tag)) or not rest:
        return None
    return Reference(project=project, name=name or None, tag=tag if at else None)


def closest(wanted: str, known: list[str]) -> str | None:
    """Return the name that was most likely meant."""
    found = get_close_matches(wanted, known[:_SUGGEST_AMONG], n=1)
    return found[0] if found else None


def target_index(plan: PlanFile, to: str | None) -> int:
    """Return the index of the last change to deploy: for `name`, `@tag`, `name@tag`, an id, `@HEAD`, `@ROOT`.

    None means the end of the plan, -1 comes from a plan without changes. What is not in the plan raises
    `NotFound`, a bare name that stands for several instances `Conflict`.
    """
    last = len(plan.changes) - 1
    if to is None or (not plan.changes and to in ("@HEAD", "HEAD")):
        return last
    reference = parse(to.strip())
    if reference is None:
        raise NotFound(
            f"'{to}' is no reference to a change of project '{plan.project}'",
            hint="write a change, @tag, change@tag or an id",
        )
    if reference.project not in (None, plan.project):
        raise NotFound(
            f"'{to}' names project '{reference.project}', but {plan.file} is of project '{plan.project}'"
        )
    found = _index(plan, reference)
    if found is None:
        raise NotFound(f"there is no '{reference.key}' in {plan.file}", hint=_suggestion(plan, reference))
    return found


def required_index(plan: PlanFile, index: int, dependency: str) -> int | None:
    """Return the index of the change that a dependency of the change at `index` means.

    That is the newest instance before it. None where the dependency is on another project or an unknown id.
    """
    reference = parse(dependency)
    if reference is None or reference.project not in (None, plan.project):
        return None
    if reference.name is not None and reference.tag is None:
        names = (
            position for position in range(index - 1, -1, -1) if plan.changes[position].name == reference.name
        )
        return next(names, None)
    return _index(plan, reference)


def _index(plan: PlanFile, reference: Reference) -> int | None:
    if not plan.changes:
        return None
    if reference.id is not None:
        return _first(plan, lambda change: reference.id in (change.id, *(tag.id for tag in change.tags)))
    if reference.name is None:
        return _tag_index(plan, reference.tag or "")
    instances = [index for index, change in enumerate(plan.changes) if change.name == reference.name]
    if reference.tag is not None:
        limit = _tag_index(plan, reference.tag)
        return max((index for index in instances if limit is not None and index <= limit), default=None)
    if len(instances) > 1:
        names = ", ".join(_tagged_name(plan.changes[index]) for index in reversed(instances))
        raise Conflict(
            f"'{reference.name}' stands for {len(instances)} changes of {plan.file}",
            hint=f"say which: {names}",
        )
    if instances:
        return instances[0]
    return {"HEAD": len(plan.changes) - 1, "ROOT": 0}.get(reference.name)


def _tag_index(plan: PlanFile, tag: str) -> int | None:
    if tag in ("HEAD", "ROOT"):
        return len(plan.changes) - 1 if tag == "HEAD" else 0
    return _first(plan, lambda change: any(each.name == tag for each in change.tags))


def _tagged_name(change: Change) -> str:
    if change.instance != change.name:
        return change.instance
    return f"{change.name}@{change.tags[0].name if change.tags else 'HEAD'}"


def _first(plan: PlanFile, matches: Callable[[Change], bool]) -> int | None:
    return next((index for index, change in enumerate(plan.changes) if matches(change)), None)


def _suggestion(plan: PlanFile, reference: Reference) -> str | None:
    known = [change.instance for change in plan.changes] + [f"@{tag.name}" for tag in plan.tags]
    likely = closest(reference.key, known)
    return f"did you mean '{likely}'?" if likely else None
