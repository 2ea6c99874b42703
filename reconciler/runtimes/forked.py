"""Has supervisors forked from one program, which is started when one is wanted; it knows no services."""

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from typing_extensions import override

_BEGIN_S = 20.0
_SEND_S = 5.0
_WORD_BYTES_MAX = 256


class Forker:
    """One such program at a time; it ends when this is forgotten, or has nothing to do for a while."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str]) -> None:
        self._argv = list(argv)
        self._environment = environment
        self._channel: socket.socket | None = None
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if self._channel is not None:
            self._channel.close()

    @override
    def __repr__(self) -> str:
        return f"Forker({self._argv!r})"

    def start(self, folder: Path, complaints: Path, timeout_s: float) -> str | None:
        """Have the supervisor of an instance started; gives its word, None where it said none in time.

        The word is empty where there was nobody to say it: then it was not started.
        """
        answer, said = os.pipe2(os.O_CLOEXEC)
        try:
            wrong = os.open(complaints, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                is_told = self._tell(os.fsencode(folder), (said, wrong))
            finally:
                os.close(wrong)
                os.close(said)
            return _word(answer, timeout_s) if is_told else ""
        finally:
            os.close(answer)

    def _tell(self, folder: bytes, handles: Sequence[int]) -> bool:
        with self._lock:
            for _ in range(2):
                try:
                    if self._channel is None:
                        self._channel = self._begin()
                    socket.send_fds(self._channel, [folder], list(handles))
                except (OSError, subprocess.TimeoutExpired):
                    # It ends by itself when it has nothing to do.
                    if self._channel is not None:
                        self._channel.close()
                        self._channel = None
                else:
                    return True
        return False

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_SEND_S)
        try:
            with (
                theirs,
                subprocess.Popen(
                    self._argv,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=self._environment,
                    start_new_session=True,
                ) as process,
            ):
                try:
                    process.wait(_BEGIN_S)
                except BaseException:
                    process.kill()
                    raise
        except BaseException:
            ours.close()
            raise
        return ours


def _word(answer: int, timeout_s: float) -> str | None:
    """What is said until the other end is let go."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    heard = b""
    while (left_s := deadline - time.monotonic()) > 0:
        with suppress(InterruptedError):
            if poll.poll(left_s * 1000):
                said = os.read(answer, _WORD_BYTES_MAX)
                if not said or len(heard) > _WORD_BYTES_MAX:
                    return heard.decode("utf-8", "replace").strip()
                heard += said
    return None
