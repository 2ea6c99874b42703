"""Says by digest what each environment of a commit is made from; it parses and resolves nothing itself."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.changes.folders import matches, module_folders
from reconciler.changes.module import module_places
from reconciler.changes.unread import HINT, why_unread
from reconciler.source.tree import SourceTree
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.listing import ReadFile, Unread
from reconciler.spec.parse import ParsedEnvironment
from reconciler.spec.variables import build_paths, input_globs, module_globs, module_paths, object_paths
from reconciler.state.source_files import SourceFile, fixed_folder

_MADE_BY = b"inputs 7"
"""To be changed with what a desired state is made from, so that no digest of before counts as equal."""
_AFTER_SLASH = chr(ord("/") + 1)


def declared_digest(environment: ParsedEnvironment) -> bytes:
    """A digest of what a document says, wherever in its file, and of what is wrong with it."""
    said = environment.spec.model_dump_json(by_alias=True) if environment.spec is not None else ""
    parts = (environment.file, said, *(repr(problem) for problem in environment.problems))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def lists_of(tree: SourceTree) -> ReadFile:
    """Gives the files of a commit that specs refer to, and says of those that were left out why."""

    def read(path: str) -> bytes | Unread | None:
        content = tree.files.get(path)
        if content is not None or not tree.skipped:
            return content
        why = why_unread(path, {each.path: each.reason for each in tree.skipped})
        return Unread(why, HINT) if why is not None else None

    return read


class TreeInputs:
    """The files of one commit by folder, with digests; each is computed once."""

    def __init__(self, tree: SourceTree) -> None:
        self._files = tree.files
        self._read = lists_of(tree)
        self._blobs = tree.blobs
        self._paths = sorted(tree.files)
        self._unread = {each.path: each.reason for each in tree.skipped}
        self._unread_paths = sorted(self._unread)
        self._places: dict[str, bytes] = {}
        self._modules: dict[str, bytes] = {}
        self._folders: Mapping[str, str] | None = None
        self._matching: dict[str, tuple[str, ...]] = {}
        self._matching_files: dict[str, tuple[str, ...]] = {}

    def file(self, path: str) -> bytes | Unread | None:
        """A file of the commit, or why it was left out; None where there is none."""
        return self._read(path)

    def why_unread(self, path: str) -> str | None:
        """Why a path of the commit was not read; None where it was, or is not there."""
        return why_unread(path, self._unread)

    def module(self, path: str) -> bytes:
        """A digest of all files that the module of a folder is read from."""
        known = self._modules.get(path)
        if known is None:
            places = self._module_places(path)
            known = hashlib.sha256(b"".join([path.encode(), b"\0", *map(self._place, places)])).digest()
            self._modules[path] = known
        return known

    def module_files(self, path: str) -> Mapping[str, bytes]:
        """The files that the module of a folder is read from."""
        below = (file for place in self._module_places(path) for file in self._below(place))
        return {file: self._files[file] for file in below}

    def module_unread(self, path: str) -> Mapping[str, str]:
        """Of the places that the module of a folder is read from, what was left out, with the reason."""
        return {
            file: self._unread[file] for place in self._module_places(path) for file in self._left_out(place)
        }

    def objects(self, path: str) -> bytes:
        """A digest of all files below a folder of SQL objects."""
        return self._place(path)

    def object_files(self, path: str) -> Mapping[str, bytes]:
        """The files below a folder of SQL objects."""
        return {file: self._files[file] for file in self._below(path)}

    def object_unread(self, path: str) -> Mapping[str, str]:
        """What was left out below a folder of SQL objects, itself or above it, with the reason."""
        return {file: self._unread[file] for file in self._left_out(path)}

    def below(self, folder: str) -> Sequence[SourceFile]:
        """As `SourceFiles`."""
        return [self._source_file(path) for path in self._below(folder)]

    def matching_files(self, glob: str) -> Sequence[str]:
        """The files that a glob means."""
        known = self._matching_files.get(glob)
        if known is None:
            known = tuple(path for path in self._below(fixed_folder(glob)) if matches(glob, path))
            self._matching_files[glob] = known
        return known

    def matching(self, glob: str) -> Sequence[SourceFile]:
        """As `SourceFiles`."""
        return [self._source_file(path) for path in self.matching_files(glob)]

    def unread(self, place: str) -> Mapping[str, str]:
        """As `SourceFiles`."""
        return {path: self._unread[path] for path in self._left_out(place)}

    def _source_file(self, path: str) -> SourceFile:
        return SourceFile(path=path, hash=self._blobs[path], size=len(self._files[path]))

    def module_folders(self) -> Mapping[str, str]:
        """The folders with plan files, with the projects these name."""
        if self._folders is None:
            self._folders = module_folders(self._files, self._unread)
        return self._folders

    def module_matches(self, glob: str) -> tuple[str, ...]:
        """The folders with plan files that a glob means; many environments share their globs."""
        known = self._matching.get(glob)
        if known is None:
            known = tuple(folder for folder in self.module_folders() if matches(glob, folder))
            self._matching[glob] = known
        return known

    def environment(self, parsed: ParsedEnvironment, declared: bytes) -> str:
        """A digest of everything an environment is made from at this commit."""
        digest = hashlib.sha256(_MADE_BY)
        digest.update(declared)
        for part in self.parts(parsed.spec) if parsed.spec is not None else ():
            digest.update(part)
        return digest.hexdigest()

    def parts(self, spec: EnvironmentSpec) -> Iterator[bytes]:
        """Digests of all files that the components of a spec are read from."""
        yield from map(self.module, self.named(spec))
        yield from map(self.objects, object_paths(spec))
        for context in build_paths(spec):
            yield self._place("" if context == "." else context)
        for glob in input_globs(spec):
            yield self._matched(glob)

    def _matched(self, glob: str) -> bytes:
        digest = hashlib.sha256(f"{glob}\0".encode())
        for file in self.matching_files(glob):
            digest.update(f"{file}\0{self._blobs[file]}\0".encode())
        for file in self._left_out(fixed_folder(glob)):
            digest.update(f"not {file}\0{self._unread[file]}\0".encode("utf-8", "surrogatepass"))
        return digest.digest()

    def named(self, spec: EnvironmentSpec) -> Sequence[str]:
        """The folders of all modules of a spec, also of those that its globs find."""
        paths, globs = module_paths(spec), module_globs(spec)
        if not globs:
            return paths
        # Where none is found, what may be said of it are the folders there are.
        known = self.module_folders() if any(not self.module_matches(glob) for glob in globs) else ()
        return sorted({*paths, *known, *(folder for glob in globs for folder in self.module_matches(glob))})

    def _module_places(self, path: str) -> tuple[str, ...]:
        return module_places(path, self._files)

    def _place(self, place: str) -> bytes:
        known = self._places.get(place)
        if known is None:
            digest = hashlib.sha256(f"{place}\0".encode())
            for file in self._below(place):
                digest.update(f"{file}\0{self._blobs[file]}\0".encode())
            for file in self._left_out(place):
                digest.update(f"not {file}\0{self._unread[file]}\0".encode("utf-8", "surrogatepass"))
            known = self._places[place] = digest.digest()
        return known

    def _below(self, place: str) -> Sequence[str]:
        """A file, or the files below a folder; the paths are sorted, so that these stand side by side."""
        if not place:
            return self._paths
        return (place,) if place in self._files else _inside(place, self._paths)

    def _left_out(self, place: str) -> Sequence[str]:
        """What was not read of a place: below it, itself, or what it would be in."""
        if not place:
            return self._unread_paths
        if not self._unread_paths:
            return ()
        parts = place.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return [*(each for each in above if each in self._unread), *_inside(place, self._unread_paths)]


def _inside(folder: str, paths: Sequence[str]) -> Sequence[str]:
    """Those of sorted paths that lie in a folder."""
    start = bisect_left(paths, f"{folder}/")
    return paths[start : bisect_left(paths, f"{folder}{_AFTER_SLASH}", lo=start)]


class PlaceInputs:
    """Digests of what each deployment of one environment is made from, apart from the others.

    So a deployment that joins a list of a thousand leaves the desired states of the others as they are.
    """

    def __init__(self, tree: TreeInputs, spec: EnvironmentSpec) -> None:
        self.spec = spec
        self._tree = tree
        self._bare = spec.model_copy(update={"spec": spec.spec.model_copy(update={"deployments": ()})})
        self._common = hashlib.sha256(_MADE_BY)
        said = self._bare.model_dump_json(by_alias=True, exclude={"spec": {"deployments_from"}})
        # How many there are has a say in whether what globs find is too much.
        count = len(spec.deployments) if any(part.modules for part in spec.modules) else 0
        self._common.update(f"{count}\0{said}".encode("utf-8", "surrogatepass"))
        self._places = {place.name: place for place in spec.deployments}
        self._waves = spec.waves
        self._last = max(self._waves.values(), default=0)
        self._known: dict[str, str] = {}

    def digest(self, deployment: str) -> str:
        """The digest of a deployment; computed once."""
        known = self._known.get(deployment)
        if known is None:
            known = self._known[deployment] = self._digest(deployment)
        return known

    def _digest(self, deployment: str) -> str:
        place = self._places[deployment]
        alone = self._bare.model_copy(
            update={"spec": self._bare.spec.model_copy(update={"deployments": (place,)})}
        )
        found = self._common.copy()
        wave = (self._waves[deployment], self._last)
        said = f"{wave}\0{place.model_dump_json(by_alias=True)}\0"
        found.update(said.encode("utf-8", "surrogatepass"))
        for part in self._tree.parts(alone):
            found.update(part)
        return found.hexdigest()


def inputs_of(
    tree: TreeInputs, environments: Iterable[ParsedEnvironment], declared: Mapping[int, bytes]
) -> dict[str, str]:
    """The digests of all environments by name; `declared` has those of documents by identity, where known."""
    found: dict[str, list[str]] = {}
    for parsed in environments:
        if parsed.name is not None:
            said = declared.get(id(parsed)) or declared_digest(parsed)
            found.setdefault(parsed.name, []).append(tree.environment(parsed, said))
    # A name that is declared twice is broken twice, and either place may change what is told of it.
    return {
        name: "".join(digests) if len(digests) == 1 else _joined(digests) for name, digests in found.items()
    }


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()
