"""Changes of one project in their order, desired or deployed, and where a reference points in them."""

from collections.abc import Iterable, Mapping
from typing import Self

from reconciler.changes.reference import Reference
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredModule
from reconciler.state.tracked import TrackedModule


@frozen
class Line:
    """Where each name comes first, and where each tag and each id is."""

    names: Mapping[str, int]
    tags: Mapping[str, int]
    ids: Mapping[str, int]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, Iterable[str]]]) -> Self:
        """Make it from (id, name, tags) of each change; an older instance of a rework is `name@tag`."""
        names: dict[str, int] = {}
        tags: dict[str, int] = {}
        ids: dict[str, int] = {}
        for place, (change_id, name, own_tags) in enumerate(rows):
            names.setdefault(name.split("@", 1)[0], place)
            tags.update(dict.fromkeys(own_tags, place))
            ids[change_id] = place
        return cls(names=names, tags=tags, ids=ids)

    def place(self, wanted: Reference) -> int | None:
        """Return where the first of what is meant stands; a change as of a tag is at or before the tag."""
        if wanted.id is not None:
            return self.ids.get(wanted.id)
        if wanted.tag is None:
            return self.names.get(wanted.name or "")
        limit = self.tags.get(wanted.tag)
        if limit is None or wanted.name is None:
            return limit
        place = self.names.get(wanted.name)
        return place if place is not None and place <= limit else None

    def has(self, wanted: Reference) -> bool:
        """Say whether what is meant is among these."""
        return self.place(wanted) is not None


NOTHING = Line(names={}, tags={}, ids={})


def desired_line(module: DesiredModule) -> Line:
    """The changes of a plan file up to its target."""
    return Line.of(
        (change.change_id, change.name, (name for _id, name in change.tags)) for change in module.changes
    )


def deployed_line(module: TrackedModule | None) -> Line:
    """The deployed changes of a module."""
    if module is None:
        return NOTHING
    return Line.of((row.change_id, row.name, row.tags) for row in module.changes)
