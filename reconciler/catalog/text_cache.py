"""A bounded cache of what was made from texts; it holds results and never makes any."""

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")


def text_key(text: str, *parts: str) -> bytes:
    """Return a key for a text and what is asked of it, without keeping the text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for part in parts:
        digest.update(b"\0" + part.encode())
    return digest.digest()


class TextCache(Generic[Made]):
    """Keep the results used last, up to a total weight (characters of the texts they came from)."""

    def __init__(self, *, weight_max: int) -> None:
        self._weight_max = weight_max
        self._weight = 0
        self._kept: OrderedDict[bytes, tuple[int, Made]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: bytes) -> Made | None:
        """Return what was kept under a key, and count it as used now."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def put(self, key: bytes, made: Made, *, weight: int) -> None:
        """Keep a result, dropping those used longest ago; one heavier than the whole cache is not kept."""
        weight += 512  # what an entry costs however short its text is
        if weight > self._weight_max:
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._weight += weight - (before[0] if before else 0)
            self._kept[key] = (weight, made)
            while self._weight > self._weight_max:
                _, (dropped, _) = self._kept.popitem(last=False)
                self._weight -= dropped
