"""Read a change module out of the files of a source: plan file, control file and scripts, as values.

It looks only at the files it is given, and reports what is wrong with all of them at once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import field, replace

from reconciler.changes import control_file, plan_file, sqitch_config
from reconciler.changes.plan_model import Change, Flavor, PlanFile
from reconciler.changes.psql import Surroundings, expand
from reconciler.changes.psql_lexer import may_need_psql
from reconciler.changes.reference import closest
from reconciler.changes.script import Script
from reconciler.changes.sqitch_config import ScriptPlaces
from reconciler.changes.unread import HINT, NOTHING, why_unread
from reconciler.errors import InvalidInput, PlanFileError, Problem
from reconciler.frozen import frozen

SCRIPT_MAX = 8 * 1024 * 1024
"""Bytes of one script."""

_PROBLEMS_MAX = 200
_SUGGESTIONS_MAX = 20
_BOM = b"\xef\xbb\xbf"
_KINDS = ("deploy", "revert", "verify")


@frozen
class ModuleChange:
    """A change with its scripts; `script_hash` is the SHA-1 of the deploy script's bytes, as in Sqitch."""

    change: Change
    deploy: Script
    revert: Script | None
    verify: Script | None
    script_hash: str


@frozen
class Module:
    """A change module; `requires` names modules and extensions, as its control file writes them."""

    path: str
    project: str
    uri: str | None
    plan: PlanFile
    changes: tuple[ModuleChange, ...]
    control: control_file.ControlFile | None = None
    requires: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    decoded: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of `sqitch.conf`, by kind of script: deploy, revert, verify."""
    unread: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def with_values(self, change: "ModuleChange", values: Mapping[str, str]) -> "ModuleChange":
        """A change with its scripts turned into SQL; `values` go before those of `sqitch.conf`."""
        scripts = (change.deploy, change.revert, change.verify)
        if not any(script is not None and may_need_psql(script.text) for script in scripts):
            return change

        def made(kind: str, script: Script) -> Script:
            merged = {**self.variables.get(kind, {}), **values}
            around = Surroundings(
                root=_directory(self.path),
                texts=self.files,
                values=merged,
                decoded=self.decoded,
                unread=self.unread,
            )
            return Script(script.path, script.text, expand(script.path, script.text, around))

        return replace(
            change,
            deploy=made("deploy", change.deploy),
            revert=made("revert", change.revert) if change.revert is not None else None,
            verify=made("verify", change.verify) if change.verify is not None else None,
        )


def module_places(path: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the folders and files that the module in the directory `path` is read from, and nothing else.

    A place is a path from the root of the source without a slash at its end, '' for the root itself.
    """
    directory = _directory(path)
    reading = _Reading(directory=directory, files=files)
    where = reading.places()
    named = (*where.directories.values(), *where.reworked_directories.values(), where.plan_file)
    found = {directory, *("" if place == "." else place for place in named)}
    return tuple(
        sorted(
            place for place in found if not any(_is_below(place, other) for other in found if other != place)
        )
    )


def _directory(path: str) -> str:
    return "" if path.strip("/") in ("", ".") else path.strip("/").removeprefix("./")


def _is_below(path: str, place: str) -> bool:
    return not place or path == place or path.startswith(f"{place}/")


def read_module(path: str, files: Mapping[str, bytes], *, unread: Mapping[str, str] = NOTHING) -> Module:
    """Read the module in the directory `path`, out of all files of a source by POSIX path.

    `unread` are the paths that were left out, with the reason. A module with problems raises a
    `PlanFileError` that holds all of them. No file outside of its places is looked at, so that these decide
    alone what the module is.
    """
    places_read = module_places(path, files)
    exactly, below = frozenset(places_read), tuple(f"{place}/" for place in places_read)
    everything = "" in exactly
    own = {
        file: content
        for file, content in files.items()
        if everything or file.startswith(below) or file in exactly
    }
    left_out = {
        file: why
        for file, why in unread.items()
        if any(_is_below(file, place) or _is_below(place, file) for place in places_read)
    }
    reading = _Reading(directory=_directory(path), files=own, unread=left_out)
    places = reading.places()
    plan = reading.plan(places)
    control = reading.control(plan.project if plan else None)
    changes = reading.changes(plan, places) if plan else ()
    if reading.problems or plan is None:
        problems = reading.problems
        if len(problems) > _PROBLEMS_MAX:
            more = Problem(message=f"and {len(problems) - _PROBLEMS_MAX} more problems", file=path)
            problems = [*problems[:_PROBLEMS_MAX], more]
        raise PlanFileError(problems)
    return Module(
        path=path,
        project=plan.project,
        uri=plan.uri,
        plan=plan,
        changes=changes,
        control=control,
        requires=control.requires if control else (),
        files=own,
        variables={kind: sqitch_config.variables(kind, reading.settings) for kind in _KINDS},
        unread=left_out,
    )


class _Reading:
    """The reading of one module: collects problems and goes on."""

    def __init__(
        self, *, directory: str, files: Mapping[str, bytes], unread: Mapping[str, str] = NOTHING
    ) -> None:
        self._directory = directory
        self._files = files
        self._unread = unread
        self._suggestions_left = _SUGGESTIONS_MAX
        self.problems: list[Problem] = []
        self.settings: Mapping[str, str] | None = None

    def _problem(self, message: str, file: str, *, line: int | None = None, hint: str | None = None) -> None:
        self.problems.append(Problem(message=message, file=file, line=line, hint=hint))

    def _at(self, name: str) -> str:
        return f"{self._directory}/{name}" if self._directory else name

    def _text(self, file: str, *, bytes_max: int) -> str | None:
        """Return the text of a file that is there; None, with a problem, where it is none."""
        content = self._files[file]
        if len(content) > bytes_max:
            # Of what is larger by far, those who hand it over may have read no more than that.
            hint = "split it; a script may include files of the module with \\ir"
            self._problem(f"the file has more than the {bytes_max} bytes that are read", file, hint=hint)
            return None
        try:
            return content.removeprefix(_BOM).decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            hint = "save the file as UTF-8"
            self._problem(f"not UTF-8: byte 0x{content[error.start]:02x}", file, line=line, hint=hint)
            return None

    def places(self) -> ScriptPlaces:
        """Say where the files of the module are."""
        file = self._at("sqitch.conf")
        settings = None
        self._left_out(file, file)
        text = self._text(file, bytes_max=sqitch_config.CONFIG_MAX) if file in self._files else None
        if text is not None:
            try:
                settings = sqitch_config.parse(text, file)
            except InvalidInput as error:
                self.problems += error.problems
        self.settings = settings
        return sqitch_config.places(self._directory, settings)

    def plan(self, places: ScriptPlaces) -> PlanFile | None:
        """Read the one plan file of the module."""
        sqitch, pgpm = places.plan_file, self._at("pgpm.plan")
        has_sqitch, has_pgpm = sqitch in self._files, pgpm in self._files
        wanted = [] if has_sqitch else [sqitch] if has_pgpm else [sqitch, pgpm]
        if any(self._left_out(file, file) for file in wanted):
            return None
        if not (has_sqitch or has_pgpm):
            hint = "a change module is a directory with a sqitch.plan or a pgpm.plan"
            self._problem(
                f"no plan file: neither '{sqitch}' nor '{pgpm}' is there", self._directory or ".", hint=hint
            )
            return None
        if has_sqitch and has_pgpm and sqitch != pgpm and self._files[sqitch] != self._files[pgpm]:
            self._problem(
                f"'{sqitch}' and '{pgpm}' differ, and only one can be the plan",
                pgpm,
                hint="remove one of them",
            )
            return None
        file, flavor = (sqitch, Flavor.SQITCH) if has_sqitch else (pgpm, Flavor.PGPM)
        text = self._text(file, bytes_max=plan_file.PLAN_MAX)
        if text is None:
            return None
        try:
            return plan_file.parse(text, file, flavor=flavor)
        except InvalidInput as error:
            self.problems += error.problems
            return None

    def control(self, project: str | None) -> control_file.ControlFile | None:
        """Read the control file: the one with the project's name, else the only one."""
        prefix = self._at("")
        names = [
            file
            for file in (*self._files, *self._unread)
            if file.startswith(prefix) and file.endswith(".control") and "/" not in file[len(prefix) :]
        ]
        own = self._at(f"{project}.control")
        if own not in names and len(names) > 1:
            hint = f"the control file of a module is called '{own}'" if project else None
            self._problem("more than one control file", self._directory or ".", hint=hint)
            return None
        if not names:
            return None
        file = own if own in names else names[0]
        if self._left_out(file, file):
            return None
        text = self._text(file, bytes_max=control_file.CONTROL_MAX)
        if text is None:
            return None
        try:
            return control_file.parse(text, file)
        except InvalidInput as error:
            self.problems += error.problems
            return None

    def changes(self, plan: PlanFile, places: ScriptPlaces) -> tuple[ModuleChange, ...]:
        """Read the scripts of all changes."""
        found: list[ModuleChange] = []
        for change in plan.changes:
            if change.reverts:
                message, hint = (
                    f"'-{change.name}' is not a change to deploy",
                    "remove the operator '-', or the line",
                )
                self._problem(message, plan.file, line=change.line, hint=hint)
                continue
            files = self._script_files(change, places)
            left_out = [self._left_out(file, plan.file, line=change.line) for file in files.values()]
            if any(left_out):
                continue
            if files["deploy"] not in self._files:
                self._missing(
                    plan, change, files["deploy"], start=len(places.directory("deploy", change)) + 1
                )
                continue
            scripts = {kind: self._script(file) for kind, file in files.items()}
            if scripts["deploy"] is not None:
                content = self._files[files["deploy"]]
                found.append(
                    ModuleChange(
                        change=change,
                        deploy=scripts["deploy"],
                        revert=scripts["revert"],
                        verify=scripts["verify"],
                        script_hash=hashlib.sha1(content, usedforsecurity=False).hexdigest(),
                    )
                )
        return tuple(found)

    def _script_files(self, change: Change, places: ScriptPlaces) -> dict[str, str]:
        """Return the scripts of a change by kind: under its first name whose deploy script is there."""
        if len(change.script_names) == 1:
            (name,) = change.script_names
            return {kind: places.script(kind, change, name) for kind in _KINDS}
        names = {name: places.script("deploy", change, name) for name in change.script_names}
        there = (
            name
            for name, file in names.items()
            if file in self._files or why_unread(file, self._unread) is not None
        )
        name = next(there, change.script_names[0])
        return {kind: places.script(kind, change, name) for kind in _KINDS}

    def _left_out(self, file: str, where: str, *, line: int | None = None) -> bool:
        """Whether a file was not read, which is then a problem: it is not known what it says."""
        if not self._unread:
            return False
        why = why_unread(file, self._unread)
        if why is not None:
            self._problem(why, where, line=line, hint=HINT)
        return why is not None

    def _script(self, file: str) -> Script | None:
        text = self._text(file, bytes_max=SCRIPT_MAX) if file in self._files else None
        return None if text is None else Script(path=file, text=text)

    def _missing(self, plan: PlanFile, change: Change, file: str, *, start: int) -> None:
        """Report a missing script; names are compared from `start`, behind the directory of all scripts."""
        hint = f"write it, or remove '{change.name}' from the plan"
        if self._suggestions_left > 0:
            self._suggestions_left -= 1
            there = [each[start:] for each in self._files if each.startswith(file[:start])]
            likely = closest(file[start:], there)
            hint = f"did you mean '{file[:start]}{likely}'?" if likely else hint
        message = f"the deploy script of change '{change.instance}' is missing: '{file}'"
        self._problem(message, plan.file, line=change.line, hint=hint)
