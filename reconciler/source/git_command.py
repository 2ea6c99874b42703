"""The one door to Git: runs one command, hardened, with a deadline, and leaves nothing behind.

GitPython starts each process that writes and is let go of within the call; one that only reads needs nothing
of it, and a command that looks is spared its import. What this module adds is what a daemon needs: a scrubbed
environment, no configuration but ours, a process group that is killed whole, bounded and redacted output. It
knows nothing of mirrors or sources, and nothing else in the package starts a process.
"""

import base64
import contextlib
import os
import re
import resource
import select
import selectors
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Any

from reconciler.errors import PermanentError, Refused, SourceUnavailable
from reconciler.frozen import frozen
from reconciler.source import ssh_key
from reconciler.source.access import SourceCredentials
from reconciler.source.address import Address, Protocol

STDOUT_BYTES_MAX = 64 * 1024 * 1024
_STDERR_BYTES_MAX = 16 * 1024
_CHUNK_BYTES = 256 * 1024
_FILE_BYTES_MAX = 4 * 1024**3  # of one file a Git process writes; the deadline bounds the rest
_LOOK_UP_S = 0.1  # how soon a cancelled call notices
_GRACE_S = 0.3  # for Git to remove its own temporary files
_UMASK = 0o077
_LANGUAGE: Mapping[str, str] = {"LANGUAGE": "C", "LC_ALL": "C"}

# All else of the daemon's environment stays here: it holds secrets, and what Git would obey.
_ENVIRONMENT_KEPT = frozenset(
    {
        *("PATH", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    }
)
_CONFIGURATION: Mapping[str, str] = {
    "advice.fetchShowForcedUpdates": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.symlinks": "false",
    "core.bigFileThreshold": "16m",
    "core.sshCommand": "false",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "gpg.minTrustLevel": "fully",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.sslVerify": "true",
    "init.defaultBranch": "main",
    "init.templateDir": "",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "pack.threads": "2",
    "pack.windowMemory": "64m",
    "protocol.version": "2",
    "submodule.recurse": "false",
    "transfer.bundleURI": "false",
    "transfer.fsckObjects": "true",
}
_ENVIRONMENT: Mapping[str, str] = {
    "GIT_ASKPASS": "",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_FLUSH": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
}
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]*@")
_HEADER = re.compile(r"(?i)\b(authorization|proxy-authorization|cookie)\s*:.*")


@frozen
class Finished:
    """How a command ended. `stderr` is cut to its last 16 KiB and redacted."""

    status: int
    stdout: bytes
    stderr: str


@frozen
class Limits:
    """How long a call may take, how much it may say, and what ends it early."""

    deadline: float  # of time.monotonic()
    stdout_bytes: int = STDOUT_BYTES_MAX
    cancelled: threading.Event = field(default_factory=threading.Event)

    def left_s(self) -> float:
        """Seconds until the deadline, never below zero."""
        return max(0.0, self.deadline - time.monotonic())


@frozen
class Setting:
    """What one command is given beyond the rest: configuration, environment, and secrets never to relay."""

    configuration: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


PLAIN = Setting()
"""Of a command that needs nothing: it reaches no remote, and gets no secret."""


class GitDoor:
    """Runs Git for one source: its protocol, its home folder and nothing more."""

    def __init__(self, *, place: Address, credentials: Callable[[], SourceCredentials], home: Path) -> None:
        self._place = place
        self._home = home
        self._credentials = credentials
        self._environment = {**_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": place.protocol.value, "HOME": str(home)}

    def access(self) -> Setting:
        """Look up what opens the remote, now; only commands that reach it are given this."""
        credentials = self._credentials()
        is_ssh = self._place.protocol is Protocol.SSH
        if is_ssh and credentials.ssh_key_file is not None:
            ssh_key.check(credentials.ssh_key_file)
        return Setting(
            configuration=_access_configuration(self._place, credentials),
            environment=_ssh_environment(credentials) if is_ssh else {},
            secrets=_secrets(self._place, credentials),
        )

    def prepare(self) -> None:
        """Make the home folder and the one configuration file Git reads from it.

        Ownership exceptions count only in such a file: the process that serves a local repository is given no
        other configuration.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = ["[safe]", "\tdirectory ="]
        if self._place.path is not None:
            served = (self._place.path, f"{self._place.path}/.git")
            lines += [f"\tdirectory = {_quoted(path)}" for path in served]
        text = "\n".join(lines) + "\n"
        file = self._home / "gitconfig"
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)

    def run(
        self,
        arguments: Sequence[str],
        *,
        git_dir: Path,
        limits: Limits,
        stdin: bytes = b"",
        record: Path | None = None,
        setting: Setting = PLAIN,
    ) -> Finished:
        """Run `git ARGUMENTS` on a repository; what the command says comes back whatever its status.

        `record` names a file that holds the process while it runs, so that a successor can end it: whatever
        writes has one.
        """
        environment = self._environment_for(git_dir, limits, setting)
        start = _by_ourselves if record is None else _by_library
        process = start(["git", *arguments], environment, stdin, self._home)
        return self._ended(process, limits, " ".join(["git", *arguments[:1]]), record, setting.secrets)

    def run_gpg(
        self, program: str, arguments: Sequence[str], *, home: Path, limits: Limits, stdin: bytes
    ) -> Finished:
        """Run GnuPG on a home folder of ours, as bounded as Git."""
        environment = {"HOME": str(home), "GNUPGHOME": str(home), "TMPDIR": str(home)}
        command = [program, *arguments]
        process = _by_library(command, environment, stdin, self._home)
        return self._ended(process, limits, " ".join(command[:2]), None, ())

    def _ended(
        self, process: Popen[bytes], limits: Limits, verb: str, record: Path | None, secrets: Sequence[str]
    ) -> Finished:
        """Wait for the end of a process, and leave none behind."""
        try:
            _bound(process)
            if record is not None:
                record.write_text(f"{process.pid} {start_time_of(process.pid)}\n")
            stdout, stderr = _collect(process, limits, verb)
            return Finished(status=process.returncode, stdout=stdout, stderr=redact(stderr, secrets))
        finally:
            _end(process)
            if record is not None:
                with contextlib.suppress(OSError):
                    record.unlink()

    def _environment_for(self, git_dir: Path, limits: Limits, setting: Setting) -> dict[str, str]:
        slow_s = str(max(1, min(30, int(limits.left_s()))))
        configuration = {**_CONFIGURATION, "http.lowSpeedTime": slow_s, **setting.configuration}
        environment = {
            **self._environment,
            **setting.environment,
            "GIT_DIR": str(git_dir),
            "GIT_CONFIG_GLOBAL": str(self._home / "gitconfig"),
            "GIT_CONFIG_COUNT": str(len(configuration)),
        }
        for index, (key, value) in enumerate(configuration.items()):
            environment[f"GIT_CONFIG_KEY_{index}"] = key
            environment[f"GIT_CONFIG_VALUE_{index}"] = value
        return environment


def redact(text: bytes | str, secrets: Sequence[str]) -> str:
    """Return text of Git without secrets: ours wherever they stand, others where they usually stand."""
    plain = text.decode(errors="replace") if isinstance(text, bytes) else text
    for secret in secrets:
        plain = plain.replace(secret, "***")
    return _HEADER.sub(r"\1: ***", _USERINFO.sub("", plain))


def start_time_of(pid: int) -> str:
    """Return what tells a process from a later one of the same id, '' where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def kill_group(pid: int) -> None:
    """Kill a process group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _by_library(
    command: Sequence[str], environment: Mapping[str, str], stdin: bytes, home: Path
) -> Popen[bytes]:
    """Start a command with GitPython."""
    library = _library()
    unwanted = sorted(set(os.environ) - _ENVIRONMENT_KEPT - set(environment) - {""})
    # GitPython can add to the environment but not take away, so `env` takes away by name.
    scrubbed = ["env", *(f"--unset={name}" for name in unwanted), *command]
    with _given(stdin) as given:
        try:
            handle = library.Git(str(home)).execute(
                scrubbed,
                istream=given,
                as_process=True,
                env=dict(environment),
                shell=False,
                start_new_session=True,
                umask=_UMASK,
            )
        except (library.GitCommandNotFound, OSError) as error:
            raise _not_started(command) from error
    process: Popen[bytes] = handle.proc
    handle.proc = None  # ours to end from here; the library's handle must not signal it later
    return process


def _by_ourselves(
    command: Sequence[str], environment: Mapping[str, str], stdin: bytes, home: Path
) -> Popen[bytes]:
    """Start a Git that only reads in the same surroundings, without the library."""
    kept = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT_KEPT}
    with _given(stdin) as given:
        try:
            return Popen(
                command,
                env={**kept, **_LANGUAGE, **environment},
                cwd=home if os.access(home, os.X_OK) else None,
                stdin=DEVNULL if given is None else given,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
                umask=_UMASK,
            )
        except FileNotFoundError as error:
            raise _not_installed() from error
        except OSError as error:
            raise _not_started(command) from error


def _bound(process: Popen[bytes]) -> None:
    """Bound what a process may write to the disk."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        limit = _lower(resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[0], _FILE_BYTES_MAX)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))


def _not_started(command: Sequence[str]) -> SourceUnavailable:
    return SourceUnavailable(f"running {command[0]} {command[1]}: the process did not start")


def _not_installed() -> PermanentError:
    return PermanentError("running git: git is not installed", hint="install git 2.31 or newer")


def _library() -> Any:
    """Load GitPython at first use: it costs a tenth of a second, and fails where Git is not installed."""
    try:
        import git
    except ImportError as error:
        raise _not_installed() from error
    return git


def _access_configuration(place: Address, credentials: SourceCredentials) -> dict[str, str]:
    if place.protocol not in (Protocol.HTTPS, Protocol.HTTP):
        return {}
    configuration = {}
    header = _authorization(place, credentials)
    if header is not None:
        configuration[f"http.{place.url}.extraHeader"] = f"Authorization: {header}"
    if credentials.tls_ca_file is not None:
        configuration["http.sslCAInfo"] = credentials.tls_ca_file
    return configuration


def _authorization(place: Address, credentials: SourceCredentials) -> str | None:
    if credentials.bearer is not None:
        return f"Bearer {_one_line(credentials.bearer)}"
    password = credentials.password if credentials.password is not None else place.password
    username = credentials.username if credentials.username is not None else place.username
    if password is None and username is None:
        return None
    # A host that takes tokens takes any user beside them.
    pair = f"{_one_line(username or 'git')}:{_one_line(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _one_line(secret: str) -> str:
    if any(character in secret for character in "\r\n\0"):
        raise Refused("reading the credentials of a source: they hold a line break")
    return secret


def _secrets(place: Address, credentials: SourceCredentials) -> tuple[str, ...]:
    header = _authorization(place, credentials)
    known = [credentials.password, credentials.bearer, place.password]
    known.append(header.partition(" ")[2] if header else None)
    return tuple(sorted({secret for secret in known if secret}, key=len, reverse=True))


def _ssh_environment(credentials: SourceCredentials) -> dict[str, str]:
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": credentials.ssh_known_hosts_file or "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": credentials.ssh_key_file or "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "10",
        "LogLevel": "ERROR",
    }
    # ssh splits the value of a file option at spaces unless it is in double quotes.
    words = ["ssh", "-F", "/dev/null"]
    for key, value in options.items():
        if any(character in value for character in '"\\%\n'):
            raise Refused(f"reading the credentials of a source: the path for {key} holds odd characters")
        words += ["-o", f'{key}="{value}"' if key.endswith("File") else f"{key}={value}"]
    return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _lower(current: int, ours: int) -> int:
    return ours if current == resource.RLIM_INFINITY else min(current, ours)


@contextlib.contextmanager
def _given(content: bytes) -> Iterator[IO[bytes] | None]:
    """A file in memory to be read by a process; None where there is nothing to be read."""
    if not content:
        yield None
        return
    with os.fdopen(os.memfd_create("git-stdin"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


def _collect(process: Popen[bytes], limits: Limits, verb: str) -> tuple[bytes, bytes]:
    """Read both outputs to their ends within the limits, then wait for the process."""
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, stdout)
        selector.register(process.stderr, selectors.EVENT_READ, stderr)
        while selector.get_map():
            _check(limits, verb)
            for key, _ in selector.select(min(_LOOK_UP_S, limits.left_s())):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            if len(stdout) > limits.stdout_bytes:
                raise Refused(f"running {verb}: it said more than {limits.stdout_bytes} bytes")
            del stderr[:-_STDERR_BYTES_MAX]
    _wait(process, limits, verb)
    return bytes(stdout), bytes(stderr)


def _wait(process: Popen[bytes], limits: Limits, verb: str) -> None:
    """Wait for the end of a process that has closed its outputs; as a rule it comes at once."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # a kernel without: wait in growing steps
        descriptor = None
    ended = select.poll()
    if descriptor is not None:
        ended.register(descriptor, select.POLLIN)
    try:
        while True:
            _check(limits, verb)
            left_s = min(_LOOK_UP_S, limits.left_s())
            if descriptor is not None:
                ended.poll(int(left_s * 1000))
                left_s = 0.0
            with contextlib.suppress(TimeoutExpired):
                process.wait(timeout=left_s)
                return
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _check(limits: Limits, verb: str) -> None:
    if limits.cancelled.is_set():
        raise SourceUnavailable(f"running {verb}: it was cancelled")
    if limits.left_s() <= 0:
        raise SourceUnavailable(f"running {verb}: it did not end in time and was killed")


def _end(process: Popen[bytes]) -> None:
    """Leave no process of the group and no open pipe."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        _await_exit(process.pid, time.monotonic() + _GRACE_S)
        # The leader is not reaped yet, so its id cannot mean another group.
        kill_group(process.pid)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _await_exit(pid: int, deadline: float) -> None:
    """Wait until a child has ended, without reaping it."""
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
        time.sleep(0.01)
