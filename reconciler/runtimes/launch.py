"""Making one process out of a definition: its session, limits, user, folder and environment.

The supervisor imports this: the standard library only, and little of it. Between fork and exec there is one
thread and nothing else is going on.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Mapping
from typing import Any, NamedTuple

from reconciler.runtimes.processes import MARK

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SAID_MAX = 1024
_UMASK = 0o022


class Started(NamedTuple):
    """A process that runs, and where it can be heard."""

    pid: int
    stdout: int
    stderr: int


class NotStarted(Exception):
    """It could not be started; the message says why."""


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def inherit_orphans() -> None:
    """Become the parent of whatever a descendant leaves behind, however it went away from its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start(definition: Mapping[str, Any]) -> Started:
    """Start what a definition says; raises NotStarted where the program never ran."""
    (out, out_end), (err, err_end), (said, say) = os.pipe(), os.pipe(), os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        for each in (out, out_end, err, err_end, said, say):
            os.close(each)
        raise NotStarted(f"no process can be made: {(error.strerror or '').lower()}") from error
    if pid == 0:
        _become(definition, parent, (out_end, err_end, say))
    for each in (out_end, err_end, say):
        os.close(each)
    with os.fdopen(said, "rb") as file:
        why = file.read(_SAID_MAX).decode("utf-8", "replace")
    if not why:
        return Started(pid=pid, stdout=out, stderr=err)
    os.waitpid(pid, 0)
    os.close(out)
    os.close(err)
    raise NotStarted(why)


def _become(definition: Mapping[str, Any], parent: int, ends: tuple[int, int, int]) -> None:
    """In the child: turn into the program, or say why not. It never comes back."""
    out_end, err_end, say = ends
    doing = "preparing its process"
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out_end, 1), (err_end, 2)):
            os.dup2(source, target)
        os.umask(_UMASK)
        doing = "limiting its open files"
        _limit(definition)
        doing = "becoming its user"
        _as_user(definition)
        doing = "tying it to its supervisor"
        # After the change of user, which takes it back: where the supervisor dies, so does the service.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(127)
        if definition["cwd"] is not None:
            doing = f"entering its working directory '{definition['cwd']}'"
            os.chdir(definition["cwd"])
        doing = f"running '{definition['argv'][0]}'"
        os.execvpe(definition["argv"][0], definition["argv"], environment(definition))
    except OSError as error:
        os.write(say, f"{doing}: {(error.strerror or '').lower()}".encode()[:_SAID_MAX])
    except BaseException as error:  # noqa: BLE001 - nothing of the parent may go on in the child
        os.write(say, f"{doing}: {type(error).__name__}".encode()[:_SAID_MAX])
    finally:
        os._exit(127)


def _limit(definition: Mapping[str, Any]) -> None:
    wanted = definition["open_files"]
    if wanted is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))


def _as_user(definition: Mapping[str, Any]) -> None:
    if definition["user"] is not None:
        uid, gid, groups = definition["user"]
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)


def environment(definition: Mapping[str, Any]) -> dict[str, str]:
    """The whole environment of a service: what its definition says, and the mark it is known by."""
    return {MARK: definition["token"], **definition["env"]}
