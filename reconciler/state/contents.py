"""Modules as they were resolved before, by what they were made from; it resolves nothing and opens no file.

What is kept says the same as resolving again, or nothing: a module with problems, or one whose scripts are
written for psql, is resolved every time.
"""

import hashlib
import marshal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.changes.script import Script
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredChange
from reconciler.state.resolve import ModuleContent
from reconciler.state.verdicts import Verdicts

FORMAT = f"module 1 {sys.implementation.cache_tag} {marshal.version}"
"""To be changed with what a module is, or how it is written down."""


@frozen
class Resolved:
    """A module, and what tells that it is still the same.

    `files` is a digest of all that it is read from, `names` those that its scripts may use as variables,
    `key` a digest of all that it was resolved from, values of these variables and target included.
    """

    files: bytes
    names: frozenset[str]
    key: bytes
    content: ModuleContent


@frozen
class Remembered:
    """What is known from before of scripts and of modules; it takes in what is found."""

    verdicts: Verdicts | None = None
    contents: "Contents | None" = None


class Contents:
    """Resolved modules by place, one for each; calls may come from several threads."""

    def __init__(self, read: Callable[[str], bytes | None], made_by: str) -> None:
        """`read` gives what was written down of a place, `made_by` says what program may have written it."""
        self._read = read
        self._made_by = made_by
        self._known: dict[str, Resolved | None] = {}
        self._learnt: dict[str, Resolved] = {}

    def get(self, place: str, files: bytes) -> Resolved | None:
        """What is known of a module that is read from these files; None where nothing is."""
        if place not in self._known:
            written = self._read(place)
            self._known[place] = decode(written, self._made_by) if written is not None else None
        known = self._known[place]
        return known if known is not None and known.files == files else None

    def put(self, place: str, resolved: Resolved) -> None:
        """Remember a module, where it may be kept."""
        if is_plain(resolved.content):
            self._known[place] = self._learnt[place] = resolved

    def written(self) -> Iterator[tuple[str, bytes]]:
        """What came anew, place by place, as it is to be kept."""
        for place, resolved in self._learnt.items():
            yield place, encode(resolved, self._made_by)


def is_plain(content: ModuleContent) -> bool:
    """Whether a module is sound, and the same wherever its files are: none of its scripts is for psql."""
    return not content.problems and not any(
        script is not None and script.expansion is not None
        for change in content.changes
        for script in (change.deploy, change.revert, change.verify)
    )


def encode(resolved: Resolved, made_by: str) -> bytes:
    """Write a module down; `made_by` says what program resolved it."""
    content = resolved.content
    body = marshal.dumps(
        (
            (resolved.files, resolved.key, tuple(sorted(resolved.names))),
            (
                *(content.plan_file, content.project, content.uri, content.requires),
                *(content.beyond_target, content.control_name),
            ),
            [_row(change) for change in content.changes],
        )
    )
    return f"{FORMAT} {made_by} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def decode(written: bytes, made_by: str) -> Resolved | None:
    """Read what was written down; None where another program did, or where it is damaged.

    Nothing of it is looked at before the digest is: what is not to be trusted must not be written there.
    """
    end = written.find(b"\n") + 1
    body = memoryview(written)[end:]
    if written[:end] != f"{FORMAT} {made_by} {hashlib.sha256(body).hexdigest()}\n".encode():
        return None
    try:
        known = marshal.loads(body)  # noqa: S302 - by its digest it is what this program wrote
        (files, key, names), (plan_file, project, uri, requires, beyond, control), rows = known
        return Resolved(
            files=files,
            key=key,
            names=frozenset(names),
            content=ModuleContent(
                plan_file=plan_file,
                project=project,
                uri=uri,
                requires=requires,
                changes=tuple([_change(row) for row in rows]),
                beyond_target=beyond,
                control_name=control,
            ),
        )
    except (ValueError, TypeError, EOFError):
        return None


def _row(change: DesiredChange) -> tuple[Any, ...]:
    """A change as plain values, in the order of `_change`."""
    return (
        *(change.change_id, change.name, change.requires, change.conflicts, change.tags, change.note),
        *(change.planned_at, change.planner, change.script_hash, change.parse_hash, change.hazards),
        *(change.late, change.transactional),
        *(_plain(change.deploy), _plain(change.revert), _plain(change.verify)),
    )


def _plain(script: Script | None) -> tuple[str, str] | None:
    return (script.path, script.text) if script is not None else None


def _change(row: tuple[Any, ...]) -> DesiredChange:
    change_id, name, requires, conflicts, tags, note, planned_at, planner, *rest = row
    script_hash, parse_hash, hazards, late, transactional, deploy, revert, verify = rest
    return DesiredChange(
        change_id=change_id,
        name=name,
        requires=requires,
        conflicts=conflicts,
        tags=tags,
        note=note,
        planned_at=planned_at,
        planner=planner,
        deploy=Script(*deploy),
        revert=Script(*revert) if revert is not None else None,
        verify=Script(*verify) if verify is not None else None,
        script_hash=script_hash,
        parse_hash=parse_hash,
        hazards=hazards,
        late=late,
        transactional=transactional,
    )
