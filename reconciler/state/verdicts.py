"""What scripts turned out to be, by their text, so that what did not change is not parsed again.

It holds verdicts and judges nothing: what cannot run gets none, and is looked at every time.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from reconciler.frozen import frozen

VERDICTS_MAX = 40_000
"""Verdicts that are kept, those used last: deploy and verify scripts of 20,000 changes."""
FORMAT = "verdicts 1"
"""To be changed with what a verdict says, or how it is written down."""


@frozen
class Verdict:
    """What a script that can run is, as far as a desired state says it."""

    parse_hash: str = ""
    hazards: tuple[str, ...] = ()
    transactional: bool = True


class Verdicts:
    """Verdicts by key; calls may come from several threads."""

    def __init__(
        self, known: Mapping[str, Any] | None = None, *, read: Callable[[], dict[str, Any]] | None = None
    ) -> None:
        """Begin with what is `known`; with `read`, it is asked for when the first script is."""
        self._read = read
        self._kept: dict[str, Any] = dict(known or {})
        self._used: dict[str, Any] = {}
        self._guard = Lock()
        self.learnt = 0
        """How many were added since the beginning."""

    @property
    def _known(self) -> dict[str, Any]:
        if self._read is not None:
            with self._guard:
                if self._read is not None:
                    self._kept, self._read = self._read(), None
        return self._kept

    def get(self, key: str) -> Verdict | None:
        """What was found of a script, None where nothing is known."""
        row = self._used.get(key)
        if row is None:
            row = self._known.get(key)
            if row is None or not _is_row(row):
                return None
            self._used[key] = row
        parse_hash, transactional, *hazards = row
        return Verdict(parse_hash=parse_hash, transactional=transactional, hazards=tuple(hazards))

    def put(self, key: str, verdict: Verdict) -> None:
        """Remember what was found."""
        if len(self._used) < VERDICTS_MAX:
            self._used[key] = [verdict.parse_hash, verdict.transactional, *verdict.hazards]
            self.learnt += 1

    def encode(self, made_by: str) -> bytes:
        """Write them down, those used last for sure; `made_by` says what program found them."""
        used = dict(self._used)
        older = [key for key in self._known if key not in used]
        room = VERDICTS_MAX - len(used)
        kept = {key: self._known[key] for key in older[max(0, len(older) - room) :]} if room > 0 else {}
        body = json.dumps(kept | used, separators=(",", ":")).encode()
        return f"{FORMAT} {made_by} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def decode(content: bytes, made_by: str) -> Verdicts:
    """Read what was written down; none where another program did, or where it is damaged."""
    return Verdicts(rows(content, made_by))


def rows(content: bytes, made_by: str) -> dict[str, Any]:
    """What `decode` makes verdicts of; a row is looked at when it is asked for: most are of other modules."""
    head, _, body = content.partition(b"\n")
    if head != f"{FORMAT} {made_by} {hashlib.sha256(body).hexdigest()}".encode():
        return {}
    try:
        known = json.loads(body)
    except ValueError:
        return {}
    return known if isinstance(known, dict) and len(known) <= VERDICTS_MAX else {}


def _is_row(row: object) -> bool:
    if not isinstance(row, list) or len(row) < 2:  # hash and kind come first
        return False
    if not isinstance(row[0], str) or not isinstance(row[1], bool):
        return False
    return len(row) == 2 or all(isinstance(code, str) for code in row[2:])
