"""A bounded cache of what was made from texts; it holds results and never makes any."""

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

from reconciler.frozen import frozen

Made = TypeVar("Made")


def text_key(text: str, *parts: str) -> bytes:
    """Return a key for a text and what is asked of it, without keeping the text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for part in parts:
        digest.update(b"\0" + part.encode("utf-8", "surrogatepass"))
    return digest.digest()


@frozen
class _Entry(Generic[Made]):
    weight: int
    made: Made
    slot: bytes | None


class TextCache(Generic[Made]):
    """Keep the results used last, up to a total weight (characters of the texts they came from)."""

    def __init__(self, *, weight_max: int, generations: int = 4) -> None:
        self._weight_max = weight_max
        self._generations = generations
        self._weight = 0
        self._kept: OrderedDict[bytes, _Entry[Made]] = OrderedDict()
        self._slots: dict[bytes, list[bytes]] = {}
        self._lock = Lock()

    def get(self, key: bytes) -> Made | None:
        """Return what was kept under a key, and count it as used now."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found.made

    def put(self, key: bytes, made: Made, *, weight: int, slot: bytes | None = None) -> None:
        """Keep a result, dropping those used longest ago; one heavier than the whole cache is not kept.

        Of the results of one slot, the newest few are kept: those of a file as it was long ago are of no use.
        """
        weight += 512  # what an entry costs however short its text is
        if weight > self._weight_max:
            return
        with self._lock:
            self._drop(key)
            self._weight += weight
            self._kept[key] = _Entry(weight=weight, made=made, slot=slot)
            if slot is not None:
                keys = self._slots.setdefault(slot, [])
                keys.append(key)
                if len(keys) > self._generations:
                    self._drop(keys[0])
            while self._weight > self._weight_max:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        entry = self._kept.pop(key, None)
        if entry is None:
            return
        self._weight -= entry.weight
        if entry.slot is not None:
            keys = self._slots[entry.slot]
            keys.remove(key)
            if not keys:
                del self._slots[entry.slot]
