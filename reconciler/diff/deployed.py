"""Find what people and requirements name among the deployed changes of a module; it reads no plan file."""

from collections.abc import Sequence

from reconciler.changes import reference, specifier
from reconciler.changes.specifier import Instance, Place
from reconciler.diff.matching import plain_name
from reconciler.errors import NotFound
from reconciler.state.tracked import TrackedChange


def index_of(deployed: Sequence[TrackedChange], project: str, to: str) -> int | None:
    """Return the place of the deployed change that a specifier means, None where nothing deployed is meant.

    Raises `Conflict` with the candidates for the bare name of several instances.
    """
    place = Place(project=project, where=f"what is deployed of '{project}'")
    instances = [Instance(id=row.change_id, name=plain_name(row.name), tags=row.tags) for row in deployed]
    try:
        return specifier.index(instances, to, place)
    except NotFound:
        # An older instance may be recorded under a tag that is not recorded itself.
        return next((number for number, row in enumerate(deployed) if row.name == to.strip()), None)


def required_index(deployed: Sequence[TrackedChange], project: str, need: str) -> int | None:
    """Return the place of the deployed change that a requirement means: of several instances the newest."""
    wanted = reference.parse(need)
    if wanted is None or wanted.name is None or wanted.tag is not None:
        return index_of(deployed, project, need)
    named = (number for number, row in enumerate(deployed) if plain_name(row.name) == wanted.name)
    return max(named, default=None)
