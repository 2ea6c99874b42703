"""The newest good commits of the sources, and where an environment is found in them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches

from reconciler.errors import (
    NotFound,
    ReconcilerError,
    Refused,
    SignatureRefused,
    SourceUnavailable,
    SpecError,
)
from reconciler.events import Event, HistoryRewritten, SignatureRejected, SourceFetched
from reconciler.frozen import frozen
from reconciler.planner.planner import Planner
from reconciler.planner.view import SourceView
from reconciler.source.repository import Repository
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredState
from reconciler.state.programs import DesiredServer

SILENT_S = 10.0
"""How long the first fetch of a source may take before readiness no longer waits for it."""


@frozen
class Head:
    """The newest good commit of a source; `error` says why a newer one could not be had, or not be used."""

    commit: str
    committed_at: datetime
    error: str | None = None
    error_reason: str | None = None


@frozen
class Found:
    """An environment at a commit, with the desired states asked for, in rollout order.

    What was read of its databases since `read_since` (monotonic) is new enough for whoever asked; None where
    nothing was read for it. `head` is the commit that is followed, where the view is of another. `unfollowed`
    are services that databases live on and the followed commit does not declare: nobody connects to them.
    """

    view: SourceView
    spec: EnvironmentSpec
    states: tuple[DesiredState, ...]
    read_since: float | None = None
    head: SourceView | None = None
    unfollowed: frozenset[str] = frozenset()


class Heads:
    """Fetches sources and finds environments in them.

    With `fetch_first`, every look at a source fetches it: what a command without a daemon needs.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Repository],
        alerting: frozenset[str] = frozenset(),
        planner: Planner,
        emit: Callable[[Event], None],
        fetch_first: bool = False,
    ) -> None:
        self._sources = sources
        self._alerting = alerting
        self._planner = planner
        self._emit = emit
        self._fetch_first = fetch_first
        self._heads: dict[str, Head] = {}
        self._began: dict[str, float] = {}
        self._attempted: set[str] = set()
        self._refused: dict[str, str] = {}
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources, in the order of the settings."""
        return tuple(self._sources)

    @property
    def tried(self) -> bool:
        """Every source was fetched once, with whatever outcome, or does not answer for a while."""
        silent = {source for source, began in self._began.items() if time.monotonic() - began > SILENT_S}
        return self._attempted | silent >= set(self._sources)

    async def fetch(self, source: str) -> Head:
        """Fetch a source; on failure keep the last good commit. Raises where there never was one."""
        began = time.monotonic()
        self._began.setdefault(source, began)
        repository = self._sources[source]
        try:
            result = await repository.fetch()
            self._attempted.add(source)
        except ReconcilerError as error:
            self._attempted.add(source)
            self._emit(
                SourceFetched(source=source, ok=False, duration_s=time.monotonic() - began, error=str(error))
            )
            self._tell_refused(source, error)
            good = repository.last_good()
            if good is None:
                raise
            head = Head(
                commit=good.id,
                committed_at=good.committed_at,
                error=str(error),
                error_reason=type(error).__name__,
            )
        else:
            self._emit(
                SourceFetched(
                    source=source,
                    ok=True,
                    duration_s=time.monotonic() - began,
                    commit=result.commit,
                    changed=result.changed,
                )
            )
            if result.rewritten and source in self._alerting:
                self._emit(
                    HistoryRewritten(
                        source=source, before=result.previous or "", after=result.commit, policy="alert"
                    )
                )
            self._refused.pop(source, None)
            head = Head(commit=result.commit, committed_at=result.committed_at)
        self._heads[source] = head
        return head

    def _tell_refused(self, source: str, error: ReconcilerError) -> None:
        """Tell a commit that is refused for its signature once, not at every fetch."""
        if isinstance(error, SignatureRefused) and self._refused.get(source) != error.commit:
            self._refused[source] = error.commit
            self._emit(SignatureRejected(source=source, commit=error.commit, reason=error.why))

    def known(self, source: str) -> Head | None:
        """The newest good commit of a source as of the last fetch, if there was one."""
        return self._heads.get(source)

    async def head(self, source: str) -> Head:
        """The newest good commit of a source, fetched if none is known yet or every look is to be fresh."""
        if self._fetch_first or source not in self._heads:
            return await self.fetch(source)
        return self._heads[source]

    async def look_up(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        posted: bytes | None = None,
        to_plan: bool = False,
    ) -> Found:
        """Find an environment at a reference (its source's head if None), and the deployments asked for.

        A posted spec stands in for the one at that reference. Where it is looked up `to_plan` and every look
        is fresh, the databases are read meanwhile.
        """
        head_view = await self.find(name)
        if to_plan and self._fetch_first and ref is None and posted is None:
            return await self._look_up_reading(head_view, name, deployment)
        view = head_view
        if ref is not None:
            commit = await self._sources[head_view.source].resolve(ref)
            view = await self._planner.view(head_view.source, commit.id)
        if posted is None:
            spec, states = await self._planner.desired(view, name)
        else:
            spec, states = await self._planner.posted(view, name, posted)
        unfollowed: frozenset[str] = frozenset()
        if posted is not None or view.commit != head_view.commit:
            followed = await self._followed(head_view, name)
            check_connections(name, states, followed)
            unfollowed = _served(states) - _declared(followed)
        other = head_view if view.commit != head_view.commit else None
        chosen = _chosen(name, states, deployment)
        return Found(view=view, spec=spec, states=chosen, head=other, unfollowed=unfollowed)

    async def _look_up_reading(self, view: SourceView, name: str, deployment: str | None) -> Found:
        """Find an environment at its head, and begin to read its databases before its modules are read."""
        began = time.monotonic()
        reading = asyncio.create_task(self._planner.read_ahead(view, name, deployment), name="read ahead")
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        try:
            spec, states = await self._planner.desired(view, name)
            chosen = _chosen(name, states, deployment)
        except BaseException:
            reading.cancel()
            await asyncio.wait({reading})
            raise
        return Found(view=view, spec=spec, states=chosen, read_since=began)

    async def check_may_apply(self, found: Found, ref: str | None) -> None:
        """Raise SignatureRefused where a commit carries no signature that its source asks for.

        A head is good already; any other commit may be looked at, and is not applied.
        """
        if ref is not None:
            await self._sources[found.view.source].verify(found.view.commit, ref=ref)

    async def find(self, name: str) -> SourceView:
        """The head of the source that declares an environment."""
        names: list[str] = []
        errors: list[str] = []
        # Those whose head is known answer at once: nobody waits for a source that hangs unless it may be it.
        for source in sorted(self._sources, key=lambda source: source not in self._heads):
            try:
                head = await self.head(source)
                view = await self._planner.view(source, head.commit)
            except ReconcilerError as error:
                errors.append(str(error))
                continue
            if name in view.environments:
                return view
            names += view.environments
        if errors:
            # It may stand in one of these.
            raise SourceUnavailable(f"environment '{name}' was not found, and: {'; '.join(errors)}")
        raise no_environment(name, names)

    async def _followed(self, head_view: SourceView, name: str) -> Sequence[DesiredState]:
        """The desired states at the head commit; none where it is broken."""
        try:
            _spec, states = await self._planner.desired(head_view, name)
        except SpecError:
            return ()
        return states


def _chosen(name: str, states: Sequence[DesiredState], deployment: str | None) -> tuple[DesiredState, ...]:
    if deployment is None:
        return tuple(states)
    chosen = tuple(state for state in states if state.deployment == deployment)
    if not chosen:
        raise NotFound(
            f"environment '{name}' has no deployment '{deployment}'",
            hint=f"it has: {', '.join(state.deployment for state in states)}",
        )
    return chosen


def no_environment(name: str, names: Sequence[str]) -> NotFound:
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(names)[:20]) or 'none'}"
    return NotFound(f"environment '{name}' does not exist", hint=hint)


def check_connections(name: str, states: Sequence[DesiredState], followed: Sequence[DesiredState]) -> None:
    """A look at anything but the commit that is followed connects through nothing that this one does not.

    Nobody connects to a service that it does not declare, whether or not one runs. Raises Refused.
    """
    known, servers = _references(followed), _servers(followed)
    there = _declared(followed)
    strange = {str(each) for each in _references(states) - known}
    strange |= {
        f"service '{each.service}' on another port or as somebody else"
        for each in _servers(states) - servers
        if each.service in there
    }
    if strange:
        raise Refused(
            f"environment '{name}' would connect through {', '.join(sorted(strange))}, "
            "which the commit that is followed does not use",
            hint="connection references are resolved once they stand in the branch the daemon follows",
        )


def _declared(states: Sequence[DesiredState]) -> frozenset[str]:
    return frozenset(service.component for state in states for service in state.programs.services)


def _served(states: Sequence[DesiredState]) -> frozenset[str]:
    """The services that databases live on."""
    return frozenset(server.service for server in _servers(states))


def _references(states: Sequence[DesiredState]) -> set[SecretReference]:
    both = (each for state in states for each in (state.postgres, state.provision_postgres))
    return {each for each in both if each is not None}


def _servers(states: Sequence[DesiredState]) -> set[DesiredServer]:
    return {part.on for state in states for part in state.databases if part.on is not None}
