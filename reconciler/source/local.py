"""Find the Git folder of a local repository and read one ref of it, without starting a process.

Reads only small files, and never follows what it finds outside refs and packed-refs. Where it cannot tell
(another ref format, a malformed file) it says None, and the caller asks Git.
"""

from pathlib import Path

from reconciler.frozen import frozen
from reconciler.source import address

_REF_BYTES_MAX = 1024
_PACKED_REFS_BYTES_MAX = 32 * 1024 * 1024
_SYMBOLIC_HOPS_MAX = 5


@frozen
class GitFolder:
    """The folder of a repository, and the one its refs and objects are in (another for linked worktrees)."""

    own: Path
    common: Path


def find(path: Path) -> GitFolder | None:
    """Find the Git folder of a work tree, a linked worktree or a bare repository at exactly this path."""
    for candidate in (path / ".git", path):
        folder = _folder(candidate)
        if folder is not None:
            return folder
    return None


def _folder(candidate: Path) -> GitFolder | None:
    if candidate.is_file():
        text = _read(candidate, _REF_BYTES_MAX * 8)
        if text is None or not text.startswith("gitdir:"):
            return None
        candidate = candidate.parent / text.removeprefix("gitdir:").strip()
    if not (candidate / "HEAD").is_file():
        return None
    pointer = _read(candidate / "commondir", _REF_BYTES_MAX * 8)
    common = candidate / pointer.strip() if pointer and pointer.strip() else candidate
    if not (common / "objects").is_dir():
        return None
    return GitFolder(own=candidate.resolve(), common=common.resolve())


def read_ref(common: Path, name: str) -> str | None:
    """Return the id a ref stands at, or None where plain files do not say."""
    for _ in range(_SYMBOLIC_HOPS_MAX):
        text = _read(common / name, _REF_BYTES_MAX)
        if text is None:
            return _packed_ref(common, name)
        value = text.strip()
        if not value.startswith("ref: "):
            return value if address.is_commit_id(value) else None
        name = value.removeprefix("ref: ").strip()
        if not name.startswith("refs/") or not address.is_ref_name(name):
            return None
    return None


def _packed_ref(common: Path, name: str) -> str | None:
    packed = _read(common / "packed-refs", _PACKED_REFS_BYTES_MAX)
    if packed is None:
        return None
    end = f" {name}"
    for line in packed.splitlines():
        if line.endswith(end) and address.is_commit_id(line.removesuffix(end)):
            return line.removesuffix(end)
    return None


def _read(path: Path, bytes_max: int) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
        return content.decode() if len(content) <= bytes_max else None
    except (OSError, UnicodeDecodeError):
        return None
