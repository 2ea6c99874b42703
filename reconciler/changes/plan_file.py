"""Read plan files of Sqitch and pgpm into one value, with Sqitch's ids; all problems of a file at once.

It reads text only: where the scripts are, and whether they are there, is `module`'s business.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass, field

from reconciler.changes import plan_ids, reference
from reconciler.changes.plan_lines import (
    BLANKS,
    BadLine,
    ChangeLine,
    TagLine,
    cut_note,
    is_name,
    read_pgpm,
    read_sqitch,
)
from reconciler.changes.plan_model import Change, Flavor, PlanFile, Tag
from reconciler.errors import PlanFileError, Problem

__all__ = ["DEPENDENCY_HINT", "PLAN_MAX", "Change", "Flavor", "PlanFile", "Tag", "parse", "render"]

PLAN_MAX = 4 * 1024 * 1024
"""Characters of one plan file; the largest known real ones have a sixth of it."""

_PROBLEMS_MAX = 200
_SUGGESTIONS_MAX = 20
_CYCLES_MAX = 20
# a rework whose script is named for a tag further back than this is not found
_SCRIPT_NAMES_MAX = 256
DEPENDENCY_HINT = "separate dependencies by blanks; each is change, @tag or change@tag, or project:change"
_PRAGMA = re.compile(
    rf"[{BLANKS}]*%[{BLANKS}]*(?P<name>[A-Za-z0-9_][^{BLANKS}=]*)(?:[{BLANKS}]*=[{BLANKS}]*(?P<value>.+))?\Z"
)


def parse(text: str, file: str, *, flavor: Flavor) -> PlanFile:
    """Read a plan file; one with problems raises a `PlanFileError` that holds all of them."""
    if len(text) > PLAN_MAX:
        problem = Problem(
            message=f"the plan has {len(text)} characters, more than the limit of {PLAN_MAX}", file=file
        )
        raise PlanFileError([problem])
    lines = text.split("\n")
    lines = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    reading = _Reading(file=file, flavor=Flavor(flavor))
    reading.read(lines)
    reading.check()
    if reading.problems:
        raise PlanFileError(_first_problems(reading.problems, file))
    return PlanFile(
        file=file,
        flavor=reading.flavor,
        project=reading.project,
        uri=reading.uri,
        changes=_changes(reading),
        lines=tuple(lines),
    )


def render(plan: PlanFile) -> str:
    """Write a plan file as it was read, byte for byte."""
    return "".join(plan.lines)


def _first_problems(problems: list[Problem], file: str) -> list[Problem]:
    problems = sorted(problems, key=lambda problem: problem.line or 0)
    if len(problems) > _PROBLEMS_MAX:
        more = len(problems) - _PROBLEMS_MAX
        problems = [*problems[:_PROBLEMS_MAX], Problem(message=f"and {more} more problems", file=file)]
    return problems


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A change while the plan is read."""

    entry: ChangeLine
    line: int
    tags: list[tuple[TagLine, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What has been read of a plan so far."""

    file: str
    flavor: Flavor
    project: str = ""
    uri: str | None = None
    drafts: list[_Draft] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _since_tag: dict[str, int] = field(default_factory=dict)
    _tag_lines: dict[str, int] = field(default_factory=dict)
    _positions: dict[str, list[int]] = field(default_factory=dict)
    _suggestions_left: int = _SUGGESTIONS_MAX
    _cycles_left: int = _CYCLES_MAX

    def problem(self, line: int | None, message: str, hint: str | None = None) -> None:
        """Note a problem and go on."""
        self.problems.append(Problem(message=message, file=self.file, line=line, hint=hint))

    def read(self, lines: list[str]) -> None:
        """Read all lines: Sqitch wants its pragmas first and a blank line after them, pgpm does not."""
        in_header = self.flavor is Flavor.SQITCH
        for number, ended in enumerate(lines, start=1):
            line = ended.removesuffix("\n")
            line = line.removesuffix("\r") if ended.endswith("\n") else line
            if in_header:
                in_header = self._header_line(line, number)
            elif self.flavor is Flavor.SQITCH:
                self._body_line(line, number)
            else:
                self._pgpm_line(line, number)
        if not self.project and not any("project name" in problem.message for problem in self.problems):
            hint = "the file begins with: %project=name"
            if any(line.lstrip().startswith("%project") for line in lines):
                hint = "pragmas stand together at the top of the file, before the first blank line"
            self.problem(1, "missing %project pragma", hint)

    def _header_line(self, line: str, number: int) -> bool:
        """Read a line of the header; return whether the header goes on."""
        stripped = line.strip(BLANKS)
        if not stripped:
            return False
        if stripped.startswith("#") and len(line.lstrip(BLANKS)) > 1:
            return stripped not in ("#", "#0")
        if not stripped.startswith("%"):
            self.problem(
                number,
                "invalid pragma; a blank line must come between pragmas and changes",
                "put an empty line before the first change",
            )
            self._body_line(line, number)
            return False
        self._pragma(cut_note(line)[0], number)
        return True

    def _pragma(self, content: str, number: int) -> None:
        match = _PRAGMA.match(content)
        if match is None:
            self.problem(number, "invalid pragma", "a pragma is %name or %name=value")
        elif match["name"] == "project":
            value = (match["value"] or "").strip()
            if is_name(value):
                self.project = value
            else:
                self.problem(
                    number, f"invalid project name {value!r}", "use letters, digits, '_' and '-' inside"
                )
        elif match["name"] == "uri":
            self.uri = match["value"]

    def _body_line(self, line: str, number: int) -> None:
        stripped = line.strip(BLANKS)
        if stripped and not (stripped.startswith("#") and len(line.lstrip(BLANKS)) > 1):
            self._entry(line, number)

    def _pgpm_line(self, line: str, number: int) -> None:
        stripped = line.strip().strip("\ufeff").strip()
        if stripped.startswith("%"):
            self._pragma(stripped, number)
        elif stripped and not stripped.startswith("#"):
            self._entry(stripped, number)

    def _entry(self, line: str, number: int) -> None:
        try:
            entry = read_sqitch(line) if self.flavor is Flavor.SQITCH else read_pgpm(line)
        except BadLine as bad:
            self.problem(number, bad.message, bad.hint)
            return
        if isinstance(entry, TagLine):
            self._tag(entry, number)
        else:
            self._change(entry, number)

    def _tag(self, entry: TagLine, number: int) -> None:
        draft = self.drafts[-1] if self.drafts else None
        if entry.change is not None:
            found = self._positions.get(entry.change)
            if not found:
                message = f"tag '{entry.name}' names the unknown change '{entry.change}'"
                self.problem(number, message, "move it below that change, or correct the name")
                return
            draft = self.drafts[found[-1]]
        if draft is None:
            self.problem(
                number, f"tag '{entry.name}' declared without a preceding change", "move it below a change"
            )
        elif entry.name in self._tag_lines:
            earlier = self._tag_lines[entry.name]
            message = f"tag '{entry.name}' duplicates earlier declaration on line {earlier}"
            self.problem(number, message, "choose another name, or remove one of them")
        else:
            draft.tags.append((entry, number))
            self._tag_lines[entry.name] = number
            self._since_tag.clear()

    def _change(self, entry: ChangeLine, number: int) -> None:
        earlier = self._since_tag.get(entry.name)
        if earlier is not None:
            hint = "a change may come again only after a tag"
            self.problem(
                number, f"change '{entry.name}' duplicates earlier declaration on line {earlier}", hint
            )
            return
        self._since_tag[entry.name] = number
        self._positions.setdefault(entry.name, []).append(len(self.drafts))
        self.drafts.append(_Draft(entry=entry, line=number))

    def check(self) -> None:
        """Check every dependency, once all lines are known."""
        for index, draft in enumerate(self.drafts):
            for dependency in draft.entry.dependencies:
                parsed = reference.parse(dependency.removeprefix("!"))
                if parsed is None:
                    self.problem(draft.line, f"'{dependency}' is not a valid dependency", DEPENDENCY_HINT)
                elif self._is_checked(dependency, parsed):
                    self._check_required(index, draft, parsed)

    def _is_checked(self, dependency: str, parsed: reference.Reference) -> bool:
        """Conflicts, ids and what belongs to other projects cannot be judged from this file."""
        return not dependency.startswith("!") and parsed.id is None and parsed.project in (None, self.project)

    def _check_required(self, index: int, draft: _Draft, required: reference.Reference) -> None:
        positions = self._positions.get(required.name or "", [])
        if required.tag is not None:
            self._check_tagged(draft, required, positions)
        elif positions and positions[0] < index:
            return
        elif required.name == draft.entry.name:
            hint = "remove the requirement; after a tag the change may require its older instance"
            self.problem(draft.line, f"change '{draft.entry.name}' cannot require itself", hint)
        elif positions and (cycle := self._cycle(draft.entry.name, required.name or "")):
            message = f"these changes require each other: {' -> '.join(cycle)}"
            self.problem(draft.line, message, "remove one of these requirements")
        elif positions:
            distance = positions[0] - index
            plural = "" if distance == 1 else "s"
            self.problem(
                draft.line,
                f"change '{draft.entry.name}' planned {distance} change{plural} before required change "
                f"'{required.name}'",
                f"move '{draft.entry.name}' down {distance} line{plural}",
            )
        else:
            self._unknown(draft, required.key, list(self._positions))

    def _cycle(self, start: str, required: str) -> tuple[str, ...] | None:
        """Return the path from a change over one that it requires back to itself, where there is one."""
        if self._cycles_left == 0:
            return None
        self._cycles_left -= 1
        came_from, pending = {required: start}, [required]
        while pending:
            name = pending.pop()
            if name == start:
                path = [start]
                while path[-1] != start or len(path) == 1:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            first = self._positions.get(name, [])[:1]
            for each in (need for position in first for need in self.drafts[position].entry.dependencies):
                bare = each.removeprefix(f"{self.project}:")
                if bare not in came_from:
                    came_from[bare] = name
                    pending.append(bare)
        return None

    def _check_tagged(self, draft: _Draft, required: reference.Reference, positions: list[int]) -> None:
        tag_line = self._tag_lines.get(required.tag or "")
        if tag_line is None:
            self._unknown(draft, required.key, [f"@{tag}" for tag in self._tag_lines])
        elif tag_line > draft.line:
            self.problem(
                draft.line,
                f"change '{draft.entry.name}' is planned before the required '{required.key}'",
                f"tag '@{required.tag}' stands on line {tag_line}",
            )
        elif required.name is not None and not any(
            self.drafts[each].line < tag_line for each in positions[:1]
        ):
            self._unknown(draft, required.key, list(self._positions))

    def _unknown(self, draft: _Draft, key: str, known: list[str]) -> None:
        likely = None
        if self._suggestions_left > 0:
            self._suggestions_left -= 1
            likely = reference.closest(key, known)
        hint = "plan it above, or name the project of another module: project:change"
        hint = f"did you mean '{likely}'?" if likely and likely != key else hint
        self.problem(draft.line, f"unknown change '{key}' required by change '{draft.entry.name}'", hint)


def _changes(reading: _Reading) -> tuple[Change, ...]:
    """Make the changes of a plan without problems, each id on the one before it."""
    head = plan_ids.head_lines(reading.project, reading.uri)
    again = _next_instances(reading.drafts)
    tagged = [index for index, draft in enumerate(reading.drafts) if draft.tags]
    made: list[Change] = []
    for index, draft in enumerate(reading.drafts):
        entry = draft.entry
        requires = tuple(each for each in entry.dependencies if not each.startswith("!"))
        conflicts = tuple(each[1:] for each in entry.dependencies if each.startswith("!"))
        identity = plan_ids.change_id(
            head=head,
            name=entry.name,
            parent=made[-1].id if made else None,
            signature=(entry.planner, entry.planned_at),
            dependencies=(_canonical(requires, reading.project), _canonical(conflicts, reading.project)),
            note=entry.note,
        )
        until = again[index]
        between = [] if until is None else tagged[bisect_left(tagged, index) : bisect_left(tagged, until)]
        made.append(
            Change(
                name=entry.name,
                instance=_instance(reading.drafts, entry.name, between),
                id=identity,
                requires=requires,
                conflicts=conflicts,
                tags=tuple(_tag(head, identity, tag, line) for tag, line in draft.tags),
                note=entry.note,
                planned_at=entry.planned_at,
                planner=entry.planner,
                line=draft.line,
                script_names=_script_names(reading.drafts, entry.name, between),
                reverts=entry.reverts,
            )
        )
    return tuple(made)


def _canonical(dependencies: tuple[str, ...], project: str) -> tuple[str, ...]:
    """Leave out the project where it is the plan's own, as Sqitch does in ids."""
    return tuple(each.removeprefix(f"{project}:") for each in dependencies)


def _tag(head: tuple[str, ...], change: str, entry: TagLine, line: int) -> Tag:
    identity = plan_ids.tag_id(
        head=head,
        name=entry.name,
        change=change,
        signature=(entry.planner, entry.planned_at),
        note=entry.note,
    )
    return Tag(
        name=entry.name,
        id=identity,
        note=entry.note,
        planned_at=entry.planned_at,
        planner=entry.planner,
        line=line,
    )


def _next_instances(drafts: list[_Draft]) -> list[int | None]:
    """Return for each change where the same name comes again."""
    following: dict[str, int] = {}
    found: list[int | None] = [None] * len(drafts)
    for index in range(len(drafts) - 1, -1, -1):
        name = drafts[index].entry.name
        found[index] = following.get(name)
        following[name] = index
    return found


def _instance(drafts: list[_Draft], name: str, between: list[int]) -> str:
    return f"{name}@{drafts[between[0]].tags[0][0].name}" if between else name


def _script_names(drafts: list[_Draft], name: str, between: list[int]) -> tuple[str, ...]:
    """Return what scripts may be called: a reworked change's for one of the tags before it came again.

    The order is Sqitch's: the last tagged change first.
    """
    if not between:
        return (name,)
    names = [
        f"{name}@{tag.name}"
        for index in reversed(between[-_SCRIPT_NAMES_MAX:])
        for tag, _ in drafts[index].tags
    ]
    return tuple(names[:_SCRIPT_NAMES_MAX])
