"""Commits, read and parsed once each and kept within bounds; it plans nothing."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from reconciler.errors import NotFound, SourceUnavailable
from reconciler.planner.shared import Shared
from reconciler.planner.view import Parsing, SourceView
from reconciler.source.repository import Repository
from reconciler.source.tree import SourceTree

VIEWS_BESIDE_HEADS = 4
"""Commits kept in memory beyond two for each source: its head and the one before."""
HISTORIES_MAX = 1_000
"""Pairs of commits of which it is kept whether one is in the history of the other."""
VIEWS_BYTES_MAX = 256 * 1024 * 1024
"""What the files of kept commits may have together, beyond one of each source; most they share."""
VIEW_SHARED_S = 600.0
"""A commit is always the same: whoever asks while it is read waits for that."""


class Commits:
    """Views of commits, the newest of every source; `compute` does in a thread what only computes."""

    def __init__(
        self,
        sources: Mapping[str, Repository],
        paths: Mapping[str, str],
        parsing: Parsing,
        compute: Callable[..., Awaitable[Any]],
    ) -> None:
        self._sources = sources
        self._paths = paths
        self._parsing = parsing
        self._compute = compute
        self._views: OrderedDict[tuple[str, str], SourceView] = OrderedDict()
        self._histories: dict[tuple[str, str, str], bool] = {}
        self._making: Shared[tuple[str, str], SourceView] = Shared(
            keep_s=VIEW_SHARED_S, weight_max=0, weigh=lambda _view: 1
        )
        self._views_max = 2 * len(sources) + VIEWS_BESIDE_HEADS

    async def view(self, source: str, commit: str) -> SourceView:
        """A commit, read and parsed once; fetched first where another daemon was quicker to have it."""
        key = (source, commit)
        if key not in self._views:
            if source not in self._sources:
                raise SourceUnavailable(
                    f"source '{source}' is not among those this process knows",
                    hint="name it in the settings of every daemon on this control database",
                )
            began = time.monotonic() - VIEW_SHARED_S
            self._keep(key, await self._making.get(key, partial(self._make, *key), not_before=began))
        else:
            self._views.move_to_end(key)
        return self._views[key]

    def known(self, source: str, commit: str) -> SourceView | None:
        """A commit that was read before and is still in memory."""
        return self._views.get((source, commit))

    async def files(self, source: str, commit: str, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Some files of a commit; those it has not are left out."""
        tree = await self._read(self._sources[source], commit)
        return {path: tree.files[path] for path in paths if path in tree.files}

    async def descends(self, view: SourceView, previous: str) -> bool:
        """Whether a commit is in the history of another."""
        key = (view.source, view.commit, previous)
        if key not in self._histories:
            if len(self._histories) >= HISTORIES_MAX:
                self._histories.clear()
            self._histories[key] = await self._sources[view.source].descends(view.commit, previous)
        return self._histories[key]

    def _keep(self, key: tuple[str, str], view: SourceView) -> None:
        """Keep a view; the newest ones of every source, others while they are few and small."""
        self._views[key] = view
        self._views.move_to_end(key)
        while len(self._views) > len(self._sources) + 1 and (
            len(self._views) > self._views_max
            or sum(each.weight for each in self._views.values()) > VIEWS_BYTES_MAX
        ):
            self._views.popitem(last=False)

    async def _make(self, source: str, commit: str) -> SourceView:
        tree = await self._read(self._sources[source], commit)
        folder = self._paths[source]
        for paths in await self._compute(self._parsing.slices, source, tree, folder):
            await self._compute(self._parsing.parse, source, tree, paths)
        made: SourceView = await self._compute(self._parsing.view, source, tree, folder)
        return made

    async def _read(self, repository: Repository, commit: str) -> SourceTree:
        try:
            return await repository.read(commit)
        except NotFound:
            # Recorded by a daemon that fetched since we did, or gone from our mirror. Who recorded it judged
            # its signature, which may be that of a tag and not to be seen from the commit.
            await repository.resolve(commit)
            return await repository.read(commit)
