"""Edit plan files: append changes, tags and reworks, and leave every other byte as it is.

What is written is read again before it is returned, so that nothing comes out that could not be read.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from reconciler.changes import plan_file, reference
from reconciler.changes.plan_file import DEPENDENCY_HINT
from reconciler.changes.plan_lines import BLANKS, BadLine, check_name, trim_note
from reconciler.changes.plan_model import Change, Flavor, PlanFile, Tag
from reconciler.changes.specifier import target_index
from reconciler.changes.sqitch_config import ScriptPlaces
from reconciler.errors import Conflict, NotFound, PlanFileError, Problem
from reconciler.frozen import frozen

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\\": "\\\\"}
_ESCAPED = re.compile(r"[\n\r\\]")
_PLANNER = re.compile(rf"(?=[^{BLANKS}\[])[^<>#\r\n]*[^{BLANKS}<>#\r\n] <[^{BLANKS}<>#\r\n]+>")
_PLANNED_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_URI = re.compile(rf"[^{BLANKS}#\r\n](?:[^#\r\n]*[^{BLANKS}#\r\n])?")
_KINDS = ("deploy", "revert", "verify")


@frozen
class Planned:
    """What stands on a line beside its name: who planned it, as `Name <email>`, when (UTC), and why."""

    planner: str
    planned_at: str
    note: str = ""


@frozen
class NewChange:
    """A change that is to be appended; dependencies as a plan file writes them, conflicts without the `!`."""

    name: str
    planned: Planned
    requires: Sequence[str] = ()
    conflicts: Sequence[str] = ()


@frozen
class Rework:
    """A plan with a change that came again: its scripts so far are to be called `older` from now on."""

    plan: PlanFile
    change: Change
    older: Change
    older_name: str


@frozen
class ScriptCopy:
    """A script that is to be copied, from one path of the source to another."""

    source: str
    target: str


def begin(project: str, file: str, *, flavor: Flavor, uri: str | None = None) -> PlanFile:
    """Make a plan file without changes."""
    if uri is not None and not _URI.fullmatch(uri):
        raise _refused(
            file, f"{uri[:200]!r} cannot stand in a plan file as a URI", "write it in one line, without #"
        )
    pragmas = ["%syntax-version=1.0.0", f"%project={project}", *([] if uri is None else [f"%uri={uri}"])]
    plan = plan_file.parse("".join(f"{line}\n" for line in (*pragmas, "")), file, flavor=flavor)
    if plan.project != project:
        raise _refused(file, f"invalid project name {project[:200]!r}", None)
    return plan


def add_change(plan: PlanFile, change: NewChange) -> PlanFile:
    """Append a change with a name that is not in the plan yet.

    One that is raises `Conflict`; what the plan file's rules refuse raises a `PlanFileError` with all of it.
    """
    if any(each.name == change.name for each in plan.changes):
        raise Conflict(
            f"adding change '{change.name}' to {plan.file}: it is there already",
            hint="choose another name, or rework it",
        )
    return _appended(plan, change)


def add_tag(plan: PlanFile, name: str, planned: Planned, *, change: str | None = None) -> PlanFile:
    """Put a tag on the last change, or on the one that a specifier means, below the tags it has."""
    name = name.removeprefix("@")
    _check(plan, name, planned, is_tag=True)
    if any(tag.name == name for tag in plan.tags):
        raise Conflict(
            f"adding tag '@{name}' to {plan.file}: it is there already", hint="choose another name"
        )
    position = target_index(plan, change)
    if position < 0:
        raise Conflict(
            f"adding tag '@{name}' to {plan.file}: there is no change to put it on", hint="add a change first"
        )
    line = _below(plan, position)
    edited = _with_lines(plan, line, [f"@{name} {_tail(planned)}"])
    tagged = next((tag for tag in edited.changes[position].tags if tag.name == name), None)
    if tagged is None or _planned_of(tagged) != _as_read(planned):
        raise _refused(plan.file, f"tag '@{name}' would not be read as it was written", None)
    return edited


def rework(plan: PlanFile, change: NewChange) -> Rework:
    """Append a change that is in the plan already, after a tag, with a requirement on its older instance.

    Raises `NotFound` where it is not there, `Conflict` where no tag stands between.
    """
    found = [position for position, each in enumerate(plan.changes) if each.name == change.name]
    doing = f"reworking change '{change.name}' of {plan.file}"
    if not found:
        raise NotFound(f"{doing}: it is not there", hint="add it instead")
    tagged = [position for position, each in enumerate(plan.changes) if each.tags]
    if not tagged or tagged[-1] < found[-1]:
        raise Conflict(f"{doing}: no tag stands between", hint="add a tag first")
    older_name = f"{change.name}@{plan.changes[tagged[-1]].tags[0].name}"
    again = NewChange(
        name=change.name,
        planned=change.planned,
        requires=tuple(dict.fromkeys([older_name, *change.requires])),
        conflicts=change.conflicts,
    )
    edited = _appended(plan, again)
    return Rework(
        plan=edited, change=edited.changes[-1], older=edited.changes[found[-1]], older_name=older_name
    )


def script_copies(done: Rework, places: ScriptPlaces) -> tuple[ScriptCopy, ...]:
    """Say which scripts a rework copies: each under the older instance's name, then deploy to revert.

    The new revert script begins as the old deploy script, for reverting a rework goes back to that.
    """
    kept = [
        ScriptCopy(
            source=places.script(kind, done.change, done.change.name),
            target=places.script(kind, done.older, done.older_name),
        )
        for kind in _KINDS
    ]
    return (*kept, ScriptCopy(source=kept[0].source, target=kept[1].source))


def _appended(plan: PlanFile, change: NewChange) -> PlanFile:
    _check(plan, change.name, change.planned, is_tag=False)
    dependencies = [*change.requires, *(f"!{each}" for each in change.conflicts)]
    _check_dependencies(plan, change, dependencies)
    bracket = f"[{' '.join(dependencies)}] " if dependencies else ""
    lines = [f"{change.name} {bracket}{_tail(change.planned)}"]
    last = plan.lines[-1].strip() if plan.lines else ""
    if last and (not plan.changes or plan.changes[-1].tags):
        lines.insert(0, "")
    edited = _with_lines(plan, len(plan.lines), lines)
    made = edited.changes[-1] if len(edited.changes) > len(plan.changes) else None
    if (
        made is None
        or (made.name, made.requires, made.conflicts)
        != (change.name, tuple(change.requires), tuple(change.conflicts))
        or _planned_of(made) != _as_read(change.planned)
    ):
        raise _refused(plan.file, f"change '{change.name}' would not be read as it was written", None)
    return edited


def _check_dependencies(plan: PlanFile, change: NewChange, dependencies: Sequence[str]) -> None:
    """Refuse what would be read as something else, or not be noticed in a plan file of pgpm."""
    for place, each in enumerate(dependencies):
        if reference.parse(each.removeprefix("!") if place >= len(change.requires) else each) is None:
            raise _refused(plan.file, f"{each[:200]!r} is not a valid dependency", DEPENDENCY_HINT)
        if each in dependencies[:place]:
            raise _refused(plan.file, f"duplicate dependency '{each}'", "name it once")


def _with_lines(plan: PlanFile, position: int, lines: Sequence[str]) -> PlanFile:
    """Read the plan with new lines before the line at a position (counted from 0)."""
    end = _line_end(plan, position)
    before, after = list(plan.lines[:position]), plan.lines[position:]
    if before and not before[-1].endswith("\n"):
        before[-1] += end
    text = "".join([*before, *(f"{line}{end}" for line in lines), *after])
    return plan_file.parse(text, plan.file, flavor=plan.flavor)


def _line_end(plan: PlanFile, position: int) -> str:
    """Return how the nearest line above ends, so that a file of Windows stays one."""
    ended = next((line for line in reversed(plan.lines[:position]) if line.endswith("\n")), "\n")
    return "\r\n" if ended.endswith("\r\n") else "\n"


def _below(plan: PlanFile, position: int) -> int:
    """Return the line count down to the last tag that stands under a change, and above the next one."""
    change = plan.changes[position]
    following = plan.changes[position + 1].line if position + 1 < len(plan.changes) else len(plan.lines) + 1
    return max([change.line, *(tag.line for tag in change.tags if change.line < tag.line < following)])


def _check(plan: PlanFile, name: str, planned: Planned, *, is_tag: bool) -> None:
    """Hold what is new to Sqitch's rules, also in a plan file of pgpm, which knows fewer."""
    problems: list[Problem] = []
    try:
        check_name(name, is_tag=is_tag)
    except BadLine as bad:
        problems.append(Problem(message=bad.message, file=plan.file, hint=bad.hint))
    if not _PLANNER.fullmatch(planned.planner):
        message = f"{planned.planner[:200]!r} cannot stand in a plan file as a planner"
        problems.append(Problem(message=message, file=plan.file, hint="write the planner as: Name <email>"))
    if not _is_time(planned.planned_at):
        message = f"{planned.planned_at[:200]!r} is no timestamp of a plan file"
        problems.append(
            Problem(message=message, file=plan.file, hint="write it in UTC, like 2026-01-31T12:00:00Z")
        )
    if problems:
        raise PlanFileError(problems)


def _is_time(text: str) -> bool:
    if not _PLANNED_AT.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _tail(planned: Planned) -> str:
    note = trim_note(planned.note)
    after = f" # {_ESCAPED.sub(lambda match: _ESCAPES[match[0]], note)}" if note else ""
    return f"{planned.planned_at} {planned.planner}{after}"


def _planned_of(line: Change | Tag) -> tuple[str, str, str]:
    return line.planner, line.planned_at, line.note


def _as_read(planned: Planned) -> tuple[str, str, str]:
    return planned.planner, planned.planned_at, trim_note(planned.note)


def _refused(file: str, message: str, hint: str | None) -> PlanFileError:
    return PlanFileError([Problem(message=message, file=file, hint=hint)])
