"""One commit of one source, parsed and resolved; it reads no database and writes nowhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.errors import SpecError
from reconciler.source.tree import SourceTree
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import ParsedEnvironment, parse_tree
from reconciler.state.desired import DesiredState
from reconciler.state.resolve import resolve

SPEC_SUFFIXES = (".yaml", ".yml")

Restrict = Callable[[str, tuple[ParsedEnvironment, ...]], tuple[ParsedEnvironment, ...]]
"""Adds a problem to every environment of a source that uses what the source may not."""


@dataclass(slots=True, kw_only=True)
class SourceView:
    """One commit of one source, parsed: its environments by name, and what was resolved from them so far."""

    source: str
    commit: str
    tree: SourceTree
    environments: Mapping[str, ParsedEnvironment]
    nameless: tuple[ParsedEnvironment, ...] = ()
    resolved: dict[tuple[str, str], DesiredState | SpecError] = field(default_factory=dict)


def parse_view(source: str, commit: str, tree: SourceTree, *, folder: str, restrict: Restrict) -> SourceView:
    """Parse the spec files below a folder of a commit, and refuse what the source may not use."""
    root = folder.strip("/")
    prefix = f"{root}/" if root and root != "." else ""
    specs = {
        path: content
        for path, content in tree.files.items()
        if path.startswith(prefix) and path.endswith(SPEC_SUFFIXES)
    }
    parsed = restrict(source, parse_tree(specs))
    return SourceView(
        source=source,
        commit=commit,
        tree=tree,
        environments={item.name: item for item in parsed if item.name is not None},
        nameless=tuple(item for item in parsed if item.name is None and item.problems),
    )


def resolve_or_error(spec: EnvironmentSpec, deployment: str, view: SourceView) -> DesiredState | SpecError:
    """The desired state of a deployment, or what is wrong with it as a value."""
    try:
        return resolve(spec, deployment, view.commit, view.tree.files)
    except SpecError as error:
        return error
