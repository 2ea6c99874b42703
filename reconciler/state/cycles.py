"""Find modules and changes of them that require each other, over all that one deployment desires.

Within a plan file that is the reader's part; here it is what no single file shows.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.changes import reference
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredModule
from reconciler.state.line import Line, desired_line
from reconciler.state.order import Cycle, topological


@frozen
class _Edge:
    """The change of a module at a place waits for that of a module at another place."""

    module: str
    place: int
    needs: str
    needed_place: int
    source: str
    target: str


def find_cycle(modules: Sequence[DesiredModule]) -> tuple[str, ...] | None:
    """Return changes (`project:change`) and modules that wait for each other, the first one again at the end.

    Of two of one project in a row, the second one stands before the first in its plan file.
    """
    for database in dict.fromkeys(module.database for module in modules):
        found = _Search([module for module in modules if module.database == database]).cycle()
        if found is not None:
            return found
    return None


@dataclass(slots=True)
class _Search:
    """The edges between the modules of one database, those of each module in plan order."""

    modules: Sequence[DesiredModule]
    _edges: dict[str, list[_Edge]] = field(default_factory=dict)

    def cycle(self) -> tuple[str, ...] | None:
        """Return one cycle, if there is any."""
        by_project = {module.project: module for module in self.modules}
        lines: dict[str, Line] = {}
        for module in self.modules:
            edges = [*_of_control(module, by_project), *_of_changes(module, by_project, lines)]
            self._edges[module.project] = sorted(edges, key=lambda edge: edge.place)
        every = [edge for edges in self._edges.values() for edge in edges]
        start, starts = 0, dict[str, int]()
        for project, edges in self._edges.items():
            starts[project], start = start, start + len(edges)
        requires = {str(number): self._waits_for(edge, number, starts) for number, edge in enumerate(every)}
        try:
            topological(list(requires), requires)
        except Cycle as cycle:
            return _named([every[int(name)] for name in cycle.path[:-1]])
        return None

    def _waits_for(self, edge: _Edge, number: int, starts: Mapping[str, int]) -> list[str]:
        """The edges that must be met first: of what is needed, and of what stands before in the same plan."""
        theirs = self._edges[edge.needs]
        before = bisect_right(theirs, edge.needed_place, key=lambda other: other.place)
        needed = [str(starts[edge.needs] + before - 1)] if before else []
        return [*needed, str(number - 1)] if number > starts[edge.module] else needed


def _of_control(module: DesiredModule, by_project: Mapping[str, DesiredModule]) -> Iterable[_Edge]:
    for project in module.requires_modules:
        other = by_project.get(project)
        if other is not None and module.changes and other.changes:
            yield _Edge(
                module=module.project,
                place=0,
                needs=project,
                needed_place=len(other.changes) - 1,
                source=module.project,
                target=project,
            )


def _of_changes(
    module: DesiredModule, by_project: Mapping[str, DesiredModule], lines: dict[str, Line]
) -> Iterable[_Edge]:
    for place, change in enumerate(module.changes):
        for need in change.requires:
            project = need.partition(":")[0]
            wanted = reference.parse(need) if project != need else None
            if wanted is None or project == module.project or project not in by_project:
                continue
            if project not in lines:
                lines[project] = desired_line(by_project[project])
            needed = lines[project].place(wanted)
            if needed is not None:
                yield _Edge(
                    module=module.project,
                    place=place,
                    needs=project,
                    needed_place=needed,
                    source=f"{module.project}:{change.name}",
                    target=f"{project}:{by_project[project].changes[needed].name}",
                )


def _named(edges: Sequence[_Edge]) -> tuple[str, ...]:
    """Write a circle of edges as a path, without those that only stand in one plan file with the next."""
    crossing = [
        edge
        for edge, following in zip(edges, [*edges[1:], edges[0]], strict=True)
        if edge.needs == following.module and (edge.module != following.module or len(edges) == 1)
    ]
    path: list[str] = []
    for edge in crossing:
        path += [name for name in (edge.source, edge.target) if path[-1:] != [name]]
    return tuple(path) if len(path) > 1 and path[-1] == path[0] else (*path, path[0])
