"""The SQL objects of a work tree that a command is about: by its specs, or a folder alone; it asks nobody."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.cli.validate import NO_COMMIT, SPEC_SUFFIXES, Tree, read_tree, top_of
from reconciler.errors import InvalidInput, NotFound, Problem
from reconciler.frozen import frozen


@frozen
class Asked:
    """Whose objects: of every environment that is not named, the first deployment; or a folder without spec.

    `folder`, `externals` and `values` are for objects that no spec names.
    """

    specs: str
    environment: str | None = None
    deployment: str | None = None
    component: str | None = None
    folder: Path | None = None
    externals: Sequence[str] = ()
    values: Mapping[str, str]


@frozen
class Chosen:
    """A component's objects, as one deployment wants them; of a folder alone the names are empty.

    `service` is the one that its database lives on, where that is not on the server of `dsn`.
    """

    environment: str
    deployment: str
    component: str
    project: Any
    database: str = ""
    dsn: Any = None
    service: str | None = None
    extensions: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Whose they are, for people."""
        whose = "/".join(each for each in (self.environment, self.deployment, self.component) if each)
        return whose or self.project.path


def choose(asked: Asked) -> list[Chosen]:
    """Read what is asked for; equal projects stand once. Raises InvalidInput with all that is wrong."""
    root = top_of(asked.folder or Path())
    tree = read_tree(root)
    if tree.problems:
        raise InvalidInput(tree.problems)
    found = [_of_folder(root, tree, asked)] if asked.folder is not None else list(_of_specs(tree, asked))
    once: dict[int, Chosen] = {}
    for each in found:
        once.setdefault(id(each.project), each)
    return list(once.values())


def _of_folder(root: Path, tree: Tree, asked: Asked) -> Chosen:
    from reconciler.state.objects import Projects

    assert asked.folder is not None
    if not asked.folder.is_dir():
        raise NotFound(f"there is no folder '{asked.folder}'")
    path = asked.folder.resolve().relative_to(root).as_posix()
    files, unread = tree.files, tree.unread
    if path == ".":
        # A spec names a folder below the root; here the root is a folder like others.
        path = root.name
        files = {f"{path}/{name}": content for name, content in files.items()}
        unread = {f"{path}/{name}": why for name, why in unread.items()}
    compiled = Projects(files, unread, judges_tests=False).read(path, tuple(asked.externals), asked.values)
    if compiled.project is None:
        raise InvalidInput(compiled.problems)
    return Chosen(environment="", deployment="", component="", project=compiled.project)


def _of_specs(tree: Tree, asked: Asked) -> Iterator[Chosen]:
    from reconciler.state.objects import Projects
    from reconciler.state.resolve import Readers

    readers = Readers(
        module=None,
        objects=Projects(tree.files, tree.unread, judges_tests=False).read,
        folders=dict,
    )
    problems: list[Problem] = []
    found: list[Chosen] = []
    for parsed in _environments(tree, asked):
        problems += parsed.problems
        if parsed.spec is not None:
            try:
                found += _of_spec(parsed.spec, readers, asked)
            except InvalidInput as error:
                problems += parsed.placed(error.problems)
    if problems:
        raise InvalidInput(problems)
    if not found:
        what = f"component '{asked.component}' of SQL objects" if asked.component else "SQL objects"
        raise NotFound(
            f"no environment has {what}",
            hint="see `kind: Objects` of environments, or name a folder with --folder",
        )
    yield from found


def _environments(tree: Tree, asked: Asked) -> list[Any]:
    from reconciler.spec.parse import parse_tree

    prefix = asked.specs.strip("/")
    prefix = f"{prefix}/" if prefix not in {"", "."} else ""
    specs = {
        name: content
        for name, content in tree.files.items()
        if name.startswith(prefix) and name.endswith(SPEC_SUFFIXES)
    }
    parsed = parse_tree(specs, tree.read)
    if asked.environment is None:
        return list(parsed)
    chosen = [each for each in parsed if each.name == asked.environment]
    if not chosen:
        raise NotFound(
            f"no environment '{asked.environment}' in '{prefix or '.'}'",
            hint="name the folder of the specs with --path",
        )
    return chosen


def _of_spec(spec: Any, readers: Any, asked: Asked) -> Iterator[Chosen]:
    from reconciler.state.resolve import resolve_with

    if not spec.objects or not spec.deployments:
        return
    name = asked.deployment or spec.deployments[0].name
    if spec.deployment(name) is None:
        if asked.environment is None:
            return
        raise NotFound(f"environment '{spec.name}' has no deployment '{name}'")
    desired = resolve_with(spec, name, NO_COMMIT, readers)
    extensions = {each.component: each.extensions for each in desired.databases}
    services = {each.component: each.on.service for each in desired.databases if each.on is not None}
    for part in desired.objects:
        if asked.component in (None, part.component):
            yield Chosen(
                environment=desired.environment,
                deployment=desired.deployment,
                component=part.component,
                project=part.project,
                database=part.database,
                dsn=desired.postgres,
                extensions=extensions[part.database_component],
                service=services.get(part.database_component),
            )
