"""The program that supervisors are forked from: what they import is imported once, and shared by all of them.

`python -m reconciler.runtimes.forker`, with a socket as standard input: each message is the folder of an
instance, with what is to be the supervisor's standard output and standard error. It ends with whoever has the
other end, or when nothing is asked for a while; supervisors live on. It imports the standard library only.
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from reconciler.runtimes import supervisor

IDLE_S = 5.0
_FOLDER_BYTES_MAX = 8192
_HANDLES = 2


def main() -> int:
    """Fork supervisors; in each of these it returns when its service has ended for good."""
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    if os.fork() != 0:
        # A child of nobody in particular, as its supervisors are.
        os._exit(0)
    os.setsid()
    os.chdir("/")
    # Nobody here asks how they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    channel.settimeout(IDLE_S)
    # What is there already is not looked at again, and so stays shared.
    gc.collect()
    gc.freeze()
    while True:
        try:
            told, handles, _, _ = socket.recv_fds(channel, _FOLDER_BYTES_MAX, _HANDLES)
        except OSError:
            return 0
        if not told or len(handles) != _HANDLES:
            return 0
        if _is_child():
            channel.close()
            return _supervise(Path(os.fsdecode(told)), handles)
        for each in handles:
            os.close(each)


def _is_child() -> bool:
    try:
        return os.fork() == 0
    except OSError:
        # Whoever asked sees that nobody answers, and starts it itself or says why not.
        return False


def _supervise(folder: Path, handles: Sequence[int]) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for source, target in zip(handles, (1, 2), strict=True):
        os.dup2(source, target)
        os.close(source)
    os.setsid()
    return supervisor.supervise(folder)


if __name__ == "__main__":
    sys.exit(main())
