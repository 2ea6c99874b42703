"""A log file of bounded size, with a bounded number of older ones beside it; it never stops who writes.

The supervisor imports this: the standard library only, and little of it.
"""

import os
from contextlib import suppress
from pathlib import Path


class LogFile:
    """`path` is the newest; `path.1` is the one before, and so on, `files` of them in all.

    What a full disk does not take is lost and counted: a service must not stand still for its log.
    """

    def __init__(self, path: Path, *, bytes_max: int, files: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._files = files
        self._handle: int | None = None
        self._size = 0

    def write(self, data: bytes) -> int:
        """Append; returns how many bytes were lost."""
        view = memoryview(data)
        try:
            if self._handle is None:
                self._open()
            while view and self._handle is not None:
                if self._size and self._size + len(view) > self._bytes_max:
                    self._rotate()
                written = os.write(self._handle, view[: self._bytes_max])
                self._size += written
                view = view[written:]
        except OSError:
            # Opened anew next time: the file may be on another disk by then.
            self.close()
        return len(view)

    def _open(self) -> None:
        self._handle = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600
        )
        self._size = os.fstat(self._handle).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files - 1, 0, -1):
            older = self._named(number)
            with suppress(FileNotFoundError):
                self._named(number - 1).replace(older)
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        self._open()

    def _named(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        """Give the file back; the next write opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
