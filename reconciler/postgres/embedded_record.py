"""What is remembered of an embedded server: where its data is, its port, its password; one small file."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from reconciler.errors import PermanentError
from reconciler.frozen import frozen
from reconciler.postgres.programs import Account, may_enter

FOLDER = "control"
_FILE = "server.json"
_BYTES_MAX = 64 * 1024
_ELSEWHERE = Path("/var/lib/pg-reconciler")


@frozen
class Record:
    """One embedded server; `home` is a folder of ours that holds `server/`, which is the server's."""

    home: Path
    port: int
    password: str
    note: str | None = None
    initialised: bool = False

    @property
    def server(self) -> Path:
        """The folder that belongs to the user the server runs as."""
        return self.home / "server"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.server / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.server / "server.log"

    def but(self, **changes: Any) -> "Record":
        """The same with other values."""
        return replace(self, **changes)

    @override
    def __repr__(self) -> str:
        return f"<record of the server in {self.home}>"


def read_record(folder: Path) -> Record | None:
    """What is remembered; None where nothing is. Raises PermanentError for a file we cannot read."""
    path = folder / _FILE
    doing = f"reading '{path}', which says where the embedded PostgreSQL is"
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise PermanentError(
            f"{doing}: permission denied", hint="run this as the user that runs the daemon, or as root"
        ) from None
    try:
        given = json.loads(content)
        return Record(
            home=Path(given["home"]),
            port=int(given["port"]),
            password=str(given["password"]),
            note=given.get("note"),
            initialised=bool(given["initialised"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        # The content holds a password, so no piece of it is told.
        raise PermanentError(f"{doing}: it is damaged", hint="restore it from a backup") from None


def write_record(folder: Path, record: Record) -> None:
    """Replace the file as a whole; only its owner can read it."""
    handle, name = tempfile.mkstemp(prefix=f"{_FILE}.", dir=folder)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({**asdict(record), "home": str(record.home)}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / _FILE)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


@contextmanager
def chosen_home(
    state_dir: Path, account: Account | None, elsewhere: Path | None
) -> Iterator[tuple[Path, str | None]]:
    """Where the server's folder goes, with a note where that is not in the state directory.

    What was made for it is gone again where anything fails within the block.
    """
    inside = state_dir / FOLDER
    if account is None or may_enter(inside, account):
        yield inside, None
        return
    made: list[Path] = []
    try:
        home = _outside(state_dir, elsewhere, made)
        _check_within_reach(home, inside, account)
        yield home, f"its data is in '{home}': user '{account.name}' cannot reach '{state_dir}'"
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise


def _check_within_reach(home: Path, inside: Path, account: Account) -> None:
    if not may_enter(home, account):
        raise PermanentError(
            f"making the embedded PostgreSQL: user '{account.name}' can reach neither '{inside}'"
            f" nor '{home}'",
            hint="use a state directory that every user may pass through, such as /var/lib/reconciler",
        )


def _outside(state_dir: Path, elsewhere: Path | None, made: list[Path]) -> Path:
    """A folder of ours that everybody may pass through; it lives as long as the state directory may.

    `made` gains each folder that was not there before.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    if elsewhere is None and state_dir.resolve().is_relative_to(temporary):
        home = Path(tempfile.mkdtemp(prefix="pg-reconciler-", dir=temporary))
        made.append(home)
        home.chmod(0o711)
        return home
    parent = elsewhere or _ELSEWHERE
    made += [folder for folder in reversed((parent, *parent.parents)) if not folder.exists()]
    parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    facts = parent.lstat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise PermanentError(
            f"making the embedded PostgreSQL: others may write to '{parent}'",
            hint="it must belong to the user who runs this, and be writable by nobody else",
        )
    home = parent / hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
    if not home.exists():
        made.append(home)
    home.mkdir(mode=0o711, exist_ok=True)
    home.chmod(0o711)
    return home
