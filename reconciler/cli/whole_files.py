"""Put a file in the place of another at once; knows nothing of what is in it."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Put content in the place of a file: a crash leaves the one or the other, and its mode stays."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path.resolve())
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
