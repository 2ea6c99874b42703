"""Find what people name among the deployed changes of a module; it looks into no plan file."""

import re
from collections.abc import Callable, Sequence

from reconciler.changes import reference
from reconciler.state.tracked import TrackedChange

_STEPS = re.compile(r"(?P<rest>.*?)(?P<mark>\^|~)(?P<count>[0-9]{1,6})?$", re.DOTALL)
_STEPS_MAX = 20


def index_of(deployed: Sequence[TrackedChange], project: str, to: str) -> int | None:
    """Return the place of a deployed change: name, @tag, name@tag, id, @HEAD, @ROOT; ^ ~ ^N ~N behind it.

    None where nothing deployed is meant.
    """
    rest, offset = to.strip(), 0
    for _ in range(_STEPS_MAX):
        match = _STEPS.fullmatch(rest)
        if match is None:
            break
        count = int(match["count"] or 1)
        offset += count if match["mark"] == "~" else -count
        rest = match["rest"]
    found = _plain(deployed, project, rest)
    if found is None or not 0 <= found + offset < len(deployed):
        return None
    return found + offset


def _plain(deployed: Sequence[TrackedChange], project: str, name: str) -> int | None:
    if name in ("HEAD", "@HEAD"):
        return len(deployed) - 1 if deployed else None
    if name in ("ROOT", "@ROOT"):
        return 0 if deployed else None
    wanted = reference.parse(name)
    if wanted is None or wanted.project not in (None, project):
        return None
    if wanted.id is not None:
        return _first(deployed, lambda row: row.change_id == wanted.id)
    exact = _first(deployed, lambda row: row.name == wanted.key)
    if exact is not None or wanted.tag is None:
        return exact
    tagged = _first(deployed, lambda row: wanted.tag in row.tags)
    if tagged is None or wanted.name is None:
        return tagged
    # The instance of a change that stood when the tag was set.
    return _last(
        deployed[: tagged + 1], lambda row: row.name == wanted.name or row.name.startswith(f"{wanted.name}@")
    )


def _first(rows: Sequence[TrackedChange], wanted: Callable[[TrackedChange], bool]) -> int | None:
    return next((place for place, row in enumerate(rows) if wanted(row)), None)


def _last(rows: Sequence[TrackedChange], wanted: Callable[[TrackedChange], bool]) -> int | None:
    return next((place for place in range(len(rows) - 1, -1, -1) if wanted(rows[place])), None)
