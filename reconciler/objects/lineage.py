"""What an object is made from, what is made from it, and why it is built anew, for people and programs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.catalog.identifier import quote_qualified
from reconciler.errors import NotFound
from reconciler.frozen import frozen
from reconciler.objects.dirty import Dirty, by_name, names_of
from reconciler.objects.generation import Generation
from reconciler.objects.model import ObjectName, Project, SqlObject
from reconciler.objects.words import meant

LINES_MAX = 500
"""Lines of one direction that are shown; JSON has all."""

EXTERNAL = "external"


@frozen
class Relative:
    """An object on the way up or down: `depth` is the number of steps on the shortest way to it."""

    name: ObjectName
    sort: str
    depth: int


@frozen
class Lineage:
    """One object with all that it is made from and all that is made from it, nearest first."""

    wanted: SqlObject
    reads: Mapping[ObjectName, Sequence[ObjectName]]
    """What each object on the way up reads or calls, in the order of names."""
    read_by: Mapping[ObjectName, Sequence[ObjectName]]
    upstream: tuple[Relative, ...]
    downstream: tuple[Relative, ...]


def find(text: str, project: Project) -> ObjectName:
    """Return the object that a person names, in SQL or as it is, without a schema if only one has it."""
    if known := _named(text, project):
        return known
    names = [quote_qualified(name.schema, name.name) for name in project.objects]
    parts = names_of(text)
    same = [] if parts is None else [name for name in project.objects if name.name == parts[-1]]
    hint = "several schemas have it: " + ", ".join(
        quote_qualified(name.schema, name.name) for name in same[:12]
    )
    raise NotFound(
        f"no object '{text[:140]}' in the project",
        hint=hint if len(same) > 1 else meant(text, names) or f"the project has {len(names)} objects",
    )


def lineage(project: Project, name: ObjectName) -> Lineage:
    """Return where an object comes from and what comes from it."""
    reads: dict[ObjectName, Sequence[ObjectName]] = {}
    read_by: dict[ObjectName, list[ObjectName]] = {}
    for other, wanted in project.objects.items():
        needs = sorted({*wanted.depends_on, *wanted.externals}, key=by_name)
        reads[other] = needs
        for need in needs:
            read_by.setdefault(need, []).append(other)
    for readers in read_by.values():
        readers.sort(key=by_name)
    return Lineage(
        wanted=project.objects[name],
        reads=reads,
        read_by=read_by,
        upstream=_relatives(project, name, reads),
        downstream=_relatives(project, name, read_by),
    )


def lines(
    of: Lineage, project: Project, found: Dirty | None = None, generation: Generation | None = None
) -> tuple[str, ...]:
    """Write a lineage as two trees, and why the object is built anew where that is known."""
    name = of.wanted.name
    told = [of.wanted.identity, f"  {of.wanted.path}"]
    for title, edges in (("reads", of.reads), ("read by", of.read_by)):
        tree = list(_tree(name, edges, lambda one: f"{_sort(project, one)} {_shown(one)}"))
        told += ["", title if tree else f"{title} nothing", *tree[:LINES_MAX]]
        if len(tree) > LINES_MAX:
            told.append("  and more")
    if found is None:
        return tuple(told)
    if name not in found.reasons:
        return (*told, "", "not rebuilt")
    work = generation.objects.get(name) if generation is not None else None
    done = f" ({work.action.value})" if work is not None else ""
    return (*told, "", f"rebuilt{done}", *(f"  {line}" for line in found.explained(name)))


def document(of: Lineage, found: Dirty | None = None, generation: Generation | None = None) -> dict[str, Any]:
    """Return a lineage as JSON, all of it; `rebuilt` is null where nothing is, or nobody looked."""
    name = of.wanted.name
    return {
        "object": _shown(name),
        "sort": of.wanted.sort.value,
        "path": of.wanted.path,
        "reads": [_shown(one) for one in of.reads[name]],
        "read_by": [_shown(one) for one in of.read_by.get(name, ())],
        "upstream": [_relative(one) for one in of.upstream],
        "downstream": [_relative(one) for one in of.downstream],
        "tests": [test.name for test in of.wanted.tests],
        "rebuilt": _rebuilt(name, found, generation),
    }


def _rebuilt(name: ObjectName, found: Dirty | None, generation: Generation | None) -> dict[str, Any] | None:
    if found is None or name not in found.reasons:
        return None
    work = generation.objects.get(name) if generation is not None else None
    return {
        "action": work.action.value if work is not None else None,
        "because": found.because(name),
        "chain": [{"object": _shown(one), "because": found.because(one)} for one in found.chain(name)],
    }


def _relative(one: Relative) -> dict[str, Any]:
    return {"object": _shown(one.name), "sort": one.sort, "depth": one.depth}


def _named(text: str, project: Project) -> ObjectName | None:
    schema, dot, name = text.partition(".")
    if dot and (exact := ObjectName(schema, name)) in project.objects:
        return exact
    parts = names_of(text)
    if parts is None or len(parts) > 2:
        return None
    found = [one for one in project.objects if (one.schema, one.name)[-len(parts) :] == parts]
    return found[0] if len(found) == 1 else None


def _relatives(
    project: Project, name: ObjectName, edges: Mapping[ObjectName, Sequence[ObjectName]]
) -> tuple[Relative, ...]:
    """Walk level by level, each object once."""
    seen, relatives = {name}, list[Relative]()
    level: Sequence[ObjectName] = [name]
    depth = 0
    while level:
        depth += 1
        following = sorted({one for each in level for one in edges.get(each, ())} - seen, key=by_name)
        seen.update(following)
        relatives += [Relative(name=one, sort=_sort(project, one), depth=depth) for one in following]
        level = following
    return tuple(relatives)


def _tree(
    name: ObjectName, edges: Mapping[ObjectName, Sequence[ObjectName]], shown: Callable[[ObjectName], str]
) -> Iterator[str]:
    """Write what is reached as a tree; what was written before with more below it is only named again."""
    seen: set[ObjectName] = set()
    pending = [(1, one) for one in reversed(edges.get(name, ()))]
    while pending:
        depth, one = pending.pop()
        below = edges.get(one, ())
        again = one in seen and bool(below)
        yield f"{'  ' * depth}{shown(one)}{' (see above)' if again else ''}"
        if one not in seen:
            seen.add(one)
            pending += [(depth + 1, each) for each in reversed(below)]


def _sort(project: Project, name: ObjectName) -> str:
    wanted = project.objects.get(name)
    return wanted.sort.value if wanted is not None else EXTERNAL


def _shown(name: ObjectName) -> str:
    return quote_qualified(name.schema, name.name)
