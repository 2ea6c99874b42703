"""One commit of one source, parsed and resolved by content; it reads no database and writes nowhere.

What is made from a text is kept under what it was made from, so that a commit costs what it changed.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

from reconciler.catalog.text_cache import TextCache
from reconciler.errors import InvalidInput, Problem, SpecError
from reconciler.frozen import frozen
from reconciler.objects.project import Compiled
from reconciler.planner.inputs import PlaceInputs, TreeInputs, declared_digest, inputs_of, lists_of
from reconciler.source.tree import SourceTree
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.listing import ReadFile, Unread
from reconciler.spec.parse import ParsedEnvironment, ParsedFile, parse_spec_file, put_together
from reconciler.state.contents import Remembered, Resolved
from reconciler.state.desired import DesiredState
from reconciler.state.objects import object_variables, read_objects, used_values
from reconciler.state.resolve import ModuleContent, Readers, read_content, resolve_with, variable_names

SPEC_SUFFIXES = (".yaml", ".yml")
SLICE_FILES = 50
"""Spec files that are parsed in one go, about 20 ms: others get their turn in between."""
STATES_MAX = 16384
"""Desired states kept, of all sources: two generations of each deployment at most."""
_GENERATIONS = 2
_SPEC_WEIGHT = 20
"""A parsed spec takes about so many times its text."""
_CHANGE_WEIGHT = 1000
_PROJECT_WEIGHT = 4
"""A compiled project takes about so many times its texts."""

Restrict = Callable[[str, tuple[ParsedEnvironment, ...]], tuple[ParsedEnvironment, ...]]
"""Adds a problem to every environment of a source that uses what the source may not."""


@dataclass(slots=True, kw_only=True)
class SourceView:
    """One commit of one source, parsed: its environments by name.

    `inputs` has for each environment a digest of all that it is made from, its own document included: equal
    ones at two commits mean equal desired states, apart from the commit.
    """

    source: str
    commit: str
    environments: Mapping[str, ParsedEnvironment]
    nameless: tuple[ParsedEnvironment, ...]
    inputs: Mapping[str, str]
    tree: TreeInputs
    weight: int
    places: dict[str, PlaceInputs] = field(default_factory=dict)

    def place_inputs(self, spec: EnvironmentSpec, deployment: str) -> str:
        """The same digest for one deployment: what the others of its environment are does not move it."""
        known = self.places.get(spec.name)
        if known is None or known.spec is not spec:
            known = self.places[spec.name] = PlaceInputs(self.tree, spec)
        return known.digest(deployment)

    def alike(self, before: "SourceView", environment: str) -> frozenset[str]:
        """The deployments that are made from the same at another commit; none where one is broken."""
        here, there = self._spec_of(environment), before._spec_of(environment)
        if here is None or there is None:
            return frozenset()
        names = {place.name for place in here.deployments} & {place.name for place in there.deployments}
        return frozenset(
            name for name in names if self.place_inputs(here, name) == before.place_inputs(there, name)
        )

    def _spec_of(self, environment: str) -> EnvironmentSpec | None:
        parsed = self.environments.get(environment)
        return parsed.spec if parsed is not None and not parsed.problems else None


@frozen
class _Specs:
    """A spec file as its source may have it, with a digest of what each of its documents says.

    `lists` are the blobs of the other files that it is made from, by path, or why one was left out; None
    where there is no such file.
    """

    parsed: ParsedFile
    declared: tuple[bytes, ...]
    lists: tuple[tuple[str, str | None], ...] = ()


class Parsing:
    """Parses the spec files of commits, each content once. Calls may come from several threads."""

    def __init__(self, *, restrict: Restrict, weight_max: int = 64 * 1024 * 1024) -> None:
        self._restrict = restrict
        self._specs: TextCache[_Specs] = TextCache(weight_max=weight_max)

    def slices(self, source: str, tree: SourceTree, folder: str) -> Iterator[Sequence[str]]:
        """The spec files below a folder that are not known yet, in pieces that take a moment each."""
        unknown = [path for path in _spec_paths(tree, folder) if self._known(source, tree, path) is None]
        return (unknown[start : start + SLICE_FILES] for start in range(0, len(unknown), SLICE_FILES))

    def parse(self, source: str, tree: SourceTree, paths: Sequence[str]) -> None:
        """Parse some files, to be there when the view is made."""
        for path in paths:
            self._file(source, tree, path)

    def view(self, source: str, tree: SourceTree, folder: str) -> SourceView:
        """Put a commit together."""
        files = [self._file(source, tree, path) for path in _spec_paths(tree, folder)]
        declared = {
            id(environment): digest
            for file in files
            for environment, digest in zip(file.parsed.environments, file.declared, strict=True)
        }
        parsed = put_together(file.parsed for file in files)
        inputs = TreeInputs(tree)
        return SourceView(
            source=source,
            commit=tree.commit,
            environments={item.name: item for item in parsed if item.name is not None},
            nameless=tuple(item for item in parsed if item.name is None and item.problems),
            inputs=inputs_of(inputs, parsed, declared),
            tree=inputs,
            weight=tree.size,
        )

    def posted(
        self, source: str, text: bytes, *, file: str, files: ReadFile
    ) -> tuple[ParsedEnvironment, ...]:
        """Parse a text that stands in no commit, beside the files of one; nothing of it is kept."""
        return self._restrict(source, put_together([parse_spec_file(file, text, files)]))

    def _known(self, source: str, tree: SourceTree, path: str) -> _Specs | None:
        known = self._specs.get(_key(source, path, tree))
        if known is not None and all(_stamp(tree, other) == stamp for other, stamp in known.lists):
            return known
        return None

    def _file(self, source: str, tree: SourceTree, path: str) -> _Specs:
        known = self._known(source, tree, path)
        if known is None:
            content = tree.files[path]
            parsed = parse_spec_file(path, content, lists_of(tree))
            parsed = replace(parsed, environments=self._restrict(source, parsed.environments))
            known = _Specs(
                parsed=parsed,
                declared=tuple(declared_digest(environment) for environment in parsed.environments),
                lists=tuple((other, _stamp(tree, other)) for other in parsed.lists),
            )
            size = len(content) + sum(len(tree.files.get(other, b"")) for other in parsed.lists)
            slot = f"{source}\0{path}".encode("utf-8", "surrogatepass")
            self._specs.put(_key(source, path, tree), known, weight=_SPEC_WEIGHT * size, slot=slot)
        return known


def _stamp(tree: SourceTree, path: str) -> str | None:
    """What tells one content of a path from another, and from none."""
    found = lists_of(tree)(path)
    return found.why if isinstance(found, Unread) else tree.blobs.get(path)


class Resolving:
    """Resolves environments, each content once; modules are shared between those that deploy them."""

    def __init__(
        self,
        *,
        weight_max: int = 64 * 1024 * 1024,
        states_max: int = STATES_MAX,
        remembered: Remembered | None = None,
    ) -> None:
        """`remembered` is what is known from before, where anything is."""
        self._verdicts = remembered.verdicts if remembered is not None else None
        self._contents = remembered.contents if remembered is not None else None
        self._modules: TextCache[ModuleContent | tuple[Problem, ...]] = TextCache(weight_max=weight_max)
        self._names: TextCache[frozenset[str]] = TextCache(weight_max=weight_max // 16)
        self._projects: TextCache[Compiled] = TextCache(weight_max=weight_max)
        self._states: OrderedDict[tuple[str, str, str], list[_Kept]] = OrderedDict()
        self._states_max = states_max
        self._guard = Lock()

    def known(self, view: SourceView, spec: EnvironmentSpec) -> list[DesiredState] | None:
        """The desired states of an environment where all of them are known; raises SpecError as `states`."""
        found = []
        for place in spec.deployments:
            kept = self._known(view, spec, place.name)
            if kept is None:
                return None
            found.append(_usable(kept, view, spec))
        return found

    def states(self, view: SourceView, spec: EnvironmentSpec) -> list[DesiredState]:
        """The desired states of an environment in rollout order; raises SpecError with all that is wrong."""
        found = []
        for place in spec.deployments:
            kept = self._known(view, spec, place.name)
            if kept is None:
                made = self._resolve(view, spec, place.name)
                kept = _Kept(view.place_inputs(spec, place.name), made)
                self._keep((view.source, spec.name, place.name), kept)
            found.append(_usable(kept, view, spec))
        return found

    def unkept(
        self, view: SourceView, spec: EnvironmentSpec, *, target: tuple[str, str] | None = None
    ) -> list[DesiredState]:
        """The same of a spec that stands in no commit, against the files of one; only modules are kept.

        `target` puts another one in for a component.
        """
        resolved = [self._resolve(view, spec, place.name, target) for place in spec.deployments]
        return [_usable(_Kept("", each), view, spec) for each in resolved]

    def _known(self, view: SourceView, spec: EnvironmentSpec, deployment: str) -> "_Kept | None":
        key = (view.source, spec.name, deployment)
        inputs = view.place_inputs(spec, deployment)
        with self._guard:
            kept = self._states.get(key, ())
            if kept:
                self._states.move_to_end(key)
            return next((each for each in kept if each.inputs == inputs), None)

    def _keep(self, key: tuple[str, str, str], made: "_Kept") -> None:
        with self._guard:
            others = [each for each in self._states.pop(key, ()) if each.inputs != made.inputs]
            self._states[key] = [*others[1 - _GENERATIONS :], made]
            while len(self._states) > self._states_max:
                self._states.popitem(last=False)

    def _resolve(
        self,
        view: SourceView,
        spec: EnvironmentSpec,
        deployment: str,
        target: tuple[str, str] | None = None,
    ) -> DesiredState | tuple[Problem, ...]:
        def read(path: str, target: str | None, values: Mapping[str, str]) -> ModuleContent:
            return self._module(view, path, target, values)

        def read_project(path: str, externals: Sequence[str], values: Mapping[str, str]) -> Compiled:
            return self._project(view, path, externals, values)

        readers = Readers(
            module=read, objects=read_project, folders=view.tree.module_folders, source=view.tree
        )
        try:
            return resolve_with(spec, deployment, view.commit, readers, target=target)
        except SpecError as error:
            return error.problems

    def _module(
        self, view: SourceView, path: str, target: str | None, values: Mapping[str, str]
    ) -> ModuleContent:
        place = f"{view.source}\0{path}\0{target or ''}"
        files = view.tree.module(path)
        before = self._contents.get(place, files) if self._contents is not None else None
        names = self._variables(view, path, before)
        digest = hashlib.sha256(files)
        for name, value in sorted(values.items()):
            # Those that it may use: deployments that differ in others share it.
            if name in names:
                digest.update(f"{name}\0{value}\0".encode("utf-8", "surrogatepass"))
        key = b"\0".join([digest.digest(), b"" if target is None else b"to " + target.encode()])
        found = self._modules.get(key)
        if found is None:
            if before is not None and before.key == key:
                found = before.content
            else:
                used = {name: value for name, value in values.items() if name in names}
                found = self._read(view, path, target, used)
                if isinstance(found, ModuleContent) and self._contents is not None:
                    self._contents.put(place, Resolved(files=files, names=names, key=key, content=found))
            slot = place.encode("utf-8", "surrogatepass")
            self._modules.put(key, found, weight=_weight(found), slot=slot)
        if isinstance(found, ModuleContent):
            return found
        raise SpecError(found)

    def _read(
        self, view: SourceView, path: str, target: str | None, values: Mapping[str, str]
    ) -> ModuleContent | tuple[Problem, ...]:
        files = view.tree.module_files(path)
        try:
            unread = view.tree.module_unread(path)
            return read_content(path, target, files, values, self._verdicts, unread=unread)
        except InvalidInput as error:
            return tuple(error.problems)

    def _project(
        self, view: SourceView, path: str, externals: Sequence[str], values: Mapping[str, str]
    ) -> Compiled:
        """SQL objects, compiled once for all deployments that want the same of the same files."""
        files = view.tree.objects(path)
        names = self._names.get(files)
        if names is None:
            names = object_variables(view.tree.object_files(path))
            self._names.put(files, names, weight=sum(len(name) for name in names))
        used = used_values(values, names)
        digest = hashlib.sha256(files)
        digest.update(repr((tuple(externals), used)).encode("utf-8", "surrogatepass"))
        key = digest.digest()
        found = self._projects.get(key)
        if found is None:
            texts = view.tree.object_files(path)
            found = read_objects(path, texts, externals, used, unread=view.tree.object_unread(path))
            slot = f"{view.source}\0{path}".encode("utf-8", "surrogatepass")
            weight = _PROJECT_WEIGHT * sum(map(len, texts.values()))
            self._projects.put(key, found, weight=weight, slot=slot)
        return found

    def _variables(self, view: SourceView, path: str, before: Resolved | None) -> frozenset[str]:
        """The names of the variables that a module may use."""
        key = view.tree.module(path)
        names = self._names.get(key)
        if names is None:
            names = before.names if before is not None else variable_names(view.tree.module_files(path))
            self._names.put(key, names, weight=sum(len(name) for name in names))
        return names


def _weight(found: ModuleContent | tuple[Problem, ...]) -> int:
    if not isinstance(found, ModuleContent):
        return _CHANGE_WEIGHT * len(found)
    scripts = (script for change in found.changes for script in (change.deploy, change.revert, change.verify))
    texts = sum(len(script.text) for script in scripts if script is not None)
    return texts + _CHANGE_WEIGHT * len(found.changes)


@dataclass(frozen=True, slots=True)
class _Kept:
    inputs: str
    state: DesiredState | tuple[Problem, ...]


def _usable(kept: _Kept, view: SourceView, spec: EnvironmentSpec) -> DesiredState:
    """What is kept, at a commit. An error is made anew: one that is raised again and again would grow.

    Lines of the spec are put in here: they may move where nothing else does.
    """
    state = kept.state
    if not isinstance(state, DesiredState):
        parsed = view.environments.get(spec.name)
        mine = parsed is not None and parsed.spec is spec
        raise SpecError(parsed.placed(state) if parsed is not None and mine else state)
    return state if state.commit == view.commit else replace(state, commit=view.commit)


def _spec_paths(tree: SourceTree, folder: str) -> list[str]:
    root = folder.strip("/")
    prefix = f"{root}/" if root and root != "." else ""
    return sorted(path for path in tree.files if path.startswith(prefix) and path.endswith(SPEC_SUFFIXES))


def _key(source: str, path: str, tree: SourceTree) -> bytes:
    return f"{source}\0{path}\0{tree.blobs[path]}".encode("utf-8", "surrogatepass")
