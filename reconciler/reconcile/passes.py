"""Passes: fetch a source, settle whose environments are whose, pass over those that may have changed.

A pass writes to the control database only, and only what changed. Carrying out is the worker's.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from reconciler.control import environments, ownership, workers
from reconciler.control.facts import read_many_facts
from reconciler.control.ownership import Owned
from reconciler.control.wake import wake_source
from reconciler.control.workers import Peer
from reconciler.errors import ReconcilerError, SpecError, TemporaryError
from reconciler.events import Event
from reconciler.frozen import frozen
from reconciler.planner.planner import Planner
from reconciler.planner.view import SourceView
from reconciler.postgres.connection import Connection
from reconciler.reconcile import findings
from reconciler.reconcile.due_verifications import DueVerifications
from reconciler.reconcile.heads import Head, Heads
from reconciler.reconcile.known import Known
from reconciler.reconcile.lanes import Lanes
from reconciler.reconcile.look import Looks, Round
from reconciler.reconcile.record import Recorder
from reconciler.reconcile.refreshing import Refreshing
from reconciler.reconcile.scheduling import Scheduling
from reconciler.reconcile.shares import share
from reconciler.reconcile.verifying import Verifier

PATIENCE_S = 2.0
"""How long a pass of a source waits for its environments. Who takes longer goes on alone, and the next commit
does not wait for it."""


@frozen
class _Moment:
    """A moment by our monotonic clock, and the same or an earlier one by the control database's clock."""

    here: float
    there: datetime


@frozen
class _Share:
    """The environments of a source as one daemon sees them.

    `mine` are to be passed over here, `taken` of them since just now; `refused` belong to other sources.
    """

    mine: frozenset[str]
    taken: frozenset[str]
    refused: Mapping[str, str]
    known: Mapping[str, Owned]


class Passes:
    """Runs passes; `ask_work` is called when a pass recorded something to work on.

    With `shared`, environments are spread over the daemons that `set_peers` tells of, and nothing is passed
    over before the first telling. With `only_look` a pass records what it found and no rollout: what a
    command without a daemon does.
    """

    def __init__(
        self,
        *,
        heads: Heads,
        planner: Planner,
        recorder: Recorder,
        environments_in_parallel: int,
        shared: bool,
        only_look: bool = False,
        emit: Callable[[Event], None],
        ask_work: Callable[[], None],
    ) -> None:
        self._heads = heads
        self._planner = planner
        self._recorder = recorder
        self._lanes = Lanes(environments_in_parallel)
        self._shared = shared
        self._only_look = only_look
        self._me: str | None = None
        self._leaving: dict[str, str] = {}
        self._given: set[str] = set()
        self._told: dict[str, str | None] = {}
        self._looking: dict[str, str] = {}
        self._unlooked: set[str] = set()
        self._owed: set[str] = set()
        self._to_read: set[str] = set()
        self._gave_way: set[str] = set()
        self._peers: tuple[Peer, ...] = ()
        self._unread: set[tuple[str, str]] = set()
        self._verifications = DueVerifications(recorder=recorder, emit=emit)
        self._looks = Looks(
            planner=planner,
            recorder=recorder,
            only_look=only_look,
            verifications=self._verifications,
            emit=emit,
            ask_work=ask_work,
        )

    def verify_with(self, verifier: Verifier) -> None:
        """Have verify scripts run where specs ask for it; before this is called, nobody runs any."""
        self._verifications.verifier = verifier

    def refresh_with(self, refreshing: Refreshing) -> None:
        """Tell somebody which groups of views specs ask to refresh; before this is called, nobody knows."""
        self._looks.refreshing = refreshing

    def schedule_with(self, scheduling: Scheduling) -> None:
        """Tell somebody which jobs have schedules; before this is called, nobody knows."""
        self._looks.scheduling = scheduling

    def set_peers(self, me: str | None, peers: Collection[Peer]) -> None:
        """Who is alive, by what this process' worker heard; None while it is not registered."""
        self._me = me
        self._peers = tuple(peers)

    async def pass_source(self, source: str, *, full: bool = True) -> None:
        """Fetch a source and pass over this daemon's environments of it; none stops or delays another.

        `full` passes over all of them, to see what changed in databases; otherwise those that a new commit
        left as they were, and that were in sync, are only carried to it. Raises what came between us and the
        control database, so that the pass is tried again soon.
        """
        owner = self._me
        if full:
            # Owed until it is done, also where we are not registered now and the next wake asks for less.
            self._owed.add(source)
        if self._shared and owner is None:
            # The telling of peers wakes us again.
            await self._heads.fetch(source)
            return
        began = await self._now()
        fetched_at = began.there
        try:
            head = await self._heads.fetch(source)
        except ReconcilerError as error:
            await self._note_readable(source, owner, readable=False)
            await self._tell_nothing_fetched(source, owner, error)
            raise
        await self._note_readable(source, owner, readable=True)
        view = await self._planner.view(source, head.commit)
        share_ = await self._settle_shares(view, owner)
        if head.error is None and _is_elsewhere(share_, share_.taken, head):
            # Somebody saw another commit: look again before going back to ours.
            fetched_at = (await self._now()).there
            head = await self._heads.fetch(source)
            view = await self._planner.view(source, head.commit)
            share_ = await self._settle_shares(view, owner)
        if head.error is None:
            present = {*view.environments, *findings.unreadable(view, share_.known.values())}
            async with self._recorder.connection() as connection:
                await environments.retire_missing(
                    connection,
                    source,
                    sorted(present - set(share_.refused)),
                    owner=owner,
                    fetched_at=fetched_at if self._shared else None,
                )
        await self._pass_over(view, head, share_, owner=owner, full=source in self._owed, began=began)
        self._owed.discard(source)

    async def pass_environments(self, names: Mapping[str, bool]) -> None:
        """Pass over environments at the heads that are known, as far as they are this daemon's.

        Where True stands beside a name, all of its databases are looked at; otherwise those that are not
        known to be in sync. Raises what came between us and the control database.
        """
        owner = self._me
        if self._shared and owner is None:
            return
        async with self._recorder.connection() as connection:
            facts = await read_many_facts(connection, list(names), commit="")
        sources: dict[str, list[str]] = {}
        for name, found in sorted(facts.items()):
            if not self._shared or found.row["owner"] == owner:
                sources.setdefault(found.row["source"], []).append(name)
        failures: list[TemporaryError] = []
        for source in sources.keys() & set(self._heads.sources):
            began = await self._now()
            head = await self._heads.head(source)
            view = await self._planner.view(source, head.commit)
            declared = [name for name in sources[source] if name in view.environments]
            behind = {name for name in declared if _is_behind(facts[name].row, head)}
            round_ = self._round(view, head, declared, failures, owner=owner, began=began)
            for name in sorted(behind) if head.error is not None else ():
                await self._looks.report_stale(name, round_)
            # Without an error the pass of the source is about to tell whether ours is the newest by now.
            chosen = [
                name
                for name in declared
                if name not in behind or (head.error is None and self._lanes.has(name))
            ]
            await self._wait(
                {name: self._ask(name, round_, urgent=True, full=names[name]) for name in chosen}
            )
        await self._looks.flush()
        if failures:
            raise failures[0]

    async def close(self) -> None:
        """End the passes that are under way."""
        await self._lanes.close()
        await self._verifications.close()

    async def _note_readable(self, source: str, owner: str | None, *, readable: bool) -> None:
        """Tell the other daemons when we cannot do our share of a source, and when we can again."""
        if owner is None or readable is ((owner, source) not in self._unread):
            return
        async with self._recorder.connection() as connection:
            await workers.note_readable(connection, owner, source, readable=readable)
            if not readable:
                # Nobody takes what a living worker owns.
                mine = [
                    row.name
                    for row in (await ownership.read_owned(connection, source)).values()
                    if row.owner == owner
                ]
                await ownership.give_up(connection, owner, mine)
        if readable:
            self._unread.discard((owner, source))
        else:
            self._unread.add((owner, source))

    async def _tell_nothing_fetched(self, source: str, owner: str | None, error: ReconcilerError) -> None:
        """Say on the environments known from before that nobody has a commit of their source to use."""
        if any(peer.id != owner and peer.passes and source in peer.sources for peer in self._peers):
            return
        async with self._recorder.connection() as connection:
            for row in (await ownership.read_owned(connection, source)).values():
                if owner is not None and row.owner_is_alive and row.owner != owner:
                    continue
                observation = environments.Observation(
                    name=row.name,
                    source=source,
                    path=row.path,
                    error=str(error),
                    error_reason=type(error).__name__,
                )
                await environments.observe(connection, observation)

    async def _now(self) -> _Moment:
        async with self._recorder.connection() as connection:
            there = await ownership.database_now(connection)
        return _Moment(here=time.monotonic(), there=there)

    async def _settle_shares(self, view: SourceView, owner: str | None) -> _Share:
        """Claim names, give up what is another's by now, and take what nobody alive has."""
        async with self._recorder.connection() as connection:
            return await self._settle(connection, view, owner)

    async def _settle(self, connection: Connection, view: SourceView, owner: str | None) -> _Share:
        known = await ownership.read_owned(connection, view.source)
        names = set(view.environments)
        refused = await environments.claim_names(connection, names - set(known), view.source)
        names -= set(refused)
        if owner is None:
            return _Share(mine=frozenset(names), taken=frozenset(), refused=refused, known=known)
        everyone = {owner, *(peer.id for peer in self._peers if peer.passes and view.source in peer.sources)}
        mine = share(names | set(known), owner, everyone)
        await self._give_up(
            connection,
            view.source,
            owner,
            {name for name, row in known.items() if row.owner == owner and name not in mine},
        )
        free = {name for name in mine if name not in known or not known[name].owner_is_alive}
        taken = await ownership.own(connection, owner, view.source, free)
        had = {name for name in mine if name in known and known[name].owner == owner}
        self._given -= taken | had
        return _Share(mine=frozenset(taken | had), taken=taken, refused=refused, known=known)

    async def _give_up(self, connection: Connection, source: str, owner: str, names: set[str]) -> None:
        """Let others take environments; those that are just passed over follow when that has ended."""
        busy = {name for name in names if self._lanes.is_busy(name)}
        others = {name: other for name, other in self._leaving.items() if other != source}
        self._leaving = {**others, **dict.fromkeys(busy, source)}
        # Before others may take them: a look that still waits its turn would be beside one of theirs.
        self._given |= names - busy
        given = await ownership.give_up(connection, owner, names - busy)
        for name in given:
            self._looks.forget(name)
        if given:
            await wake_source(connection, source)

    async def _pass_over(
        self,
        view: SourceView,
        head: Head,
        share_: _Share,
        *,
        owner: str | None,
        full: bool,
        began: _Moment,
    ) -> None:
        for name, why in share_.refused.items():
            self._looks.refused(name, view, why)
        failures: list[TemporaryError] = []
        broken = findings.unreadable(view, [row for name, row in share_.known.items() if name in share_.mine])
        names = sorted(share_.mine & set(view.environments))
        stale = _is_elsewhere(share_, frozenset(names), head) if head.error is not None else frozenset()
        quiet = await self._carry(view, head, self._leisurely(names, view) - stale, owner=owner)
        urgent = [name for name in names if name not in quiet and name not in stale]
        # A look that still waits its turn is asked for anew, so that it is one at this commit.
        later = [
            name
            for name in names
            if name in quiet and (full or self._lanes.is_asked(name) or self._looks.is_to_watch(name, view))
        ]
        round_ = self._round(view, head, [*urgent, *later], failures, owner=owner, began=began)
        for name, (path, why) in broken.items():
            await self._looks.report(name, round_, (why, SpecError.__name__), path=path)
            self._looks.refused(name, view, why)
        for name in sorted(stale):
            await self._looks.report_stale(name, round_)
        ends = {name: self._ask(name, round_, urgent=True, full=full) for name in urgent}
        ends |= {name: self._ask(name, round_, urgent=False, full=full) for name in later}
        await self._wait(ends)
        await self._looks.flush()
        if failures:
            raise failures[0]

    def _leisurely(self, names: Collection[str], view: SourceView) -> set[str]:
        """Environments that may be carried to a commit without a look at them.

        Not those that are just looked at as of another commit, which may have a rollout of it recorded yet,
        and those whose last look came to nothing.
        """
        return {
            name
            for name in names
            if name not in self._unlooked and self._looking.get(name, view.commit) == view.commit
        }

    async def _wait(self, ends: "Mapping[str, asyncio.Future[None]]") -> None:
        """Wait for looks for a while; who was slow the last time is not waited for again."""
        awaited = [end for name, end in ends.items() if self._only_look or not self._lanes.is_slow(name)]
        if awaited:
            await asyncio.wait(awaited, timeout=None if self._only_look else PATIENCE_S)

    async def _carry(self, view: SourceView, head: Head, names: set[str], *, owner: str | None) -> set[str]:
        """Carry environments that a commit leaves as they are to it; gives those with nothing to look at."""
        told = self._told.get(view.source)
        errors = {error for error in (told, head.error) if error is not None}
        self._told[view.source] = head.error
        async with self._recorder.connection() as connection:
            found = await ownership.settled(
                connection,
                {name: view.inputs[name] for name in names if name in view.inputs},
                commit=view.commit,
                owner=owner,
                errors=errors,
            )
            behind = {name for name, row in found.items() if row.is_behind and row.error is None}
            carried: frozenset[str] = frozenset()
            if head.error is None:
                carried = await ownership.advance(
                    connection, behind, commit=view.commit, committed_at=head.committed_at, owner=owner
                )
        self._looks.carried(carried, view.commit)
        return {
            name
            for name, row in found.items()
            if row.error == head.error and (name in carried or not row.is_behind)
        }

    def _round(
        self,
        view: SourceView,
        head: Head,
        names: list[str],
        failures: list[TemporaryError],
        *,
        owner: str | None,
        began: _Moment,
    ) -> Round:
        def tell(name: str, error: TemporaryError) -> None:
            # Whoever waits raises it; if nobody does any more, the next pass looks again.
            failures.append(error)
            self._unlooked.add(name)

        return Round(
            view=view,
            head=head,
            known=Known(self._recorder.connection, names, commit=view.commit),
            owner=owner,
            not_before=began.here,
            planned_from=began.there,
            tell=tell,
        )

    def _ask(self, name: str, round_: Round, *, urgent: bool, full: bool) -> "asyncio.Future[None]":
        if full or self._only_look:
            # Whichever of the looks that are asked for comes about.
            self._to_read.add(name)
        end = self._lanes.ask(name, partial(self._look, name, round_), urgent=urgent)
        newer = self._looking.get(name, round_.view.commit) != round_.view.commit
        if newer and self._looks.only_checks(name) and name not in self._gave_way:
            # A thousand databases are read to see what others altered: a commit does not wait for that.
            self._gave_way.add(name)
            self._lanes.give_way(name)
        return end

    async def _look(self, name: str, round_: Round) -> bool:
        """Look at an environment at the newest commit there is when its turn comes, if it is still ours."""
        if name in self._given:
            self._forgo(name)
            return False
        head = self._heads.known(round_.view.source) or round_.head
        self._looking[name] = head.commit
        self._unlooked.discard(name)
        waited, full = False, name in self._to_read
        self._to_read.discard(name)
        owed = name in self._gave_way and not full
        try:
            if head.commit != round_.view.commit:
                round_ = await self._newer_round(name, round_, head)
            if name in round_.view.environments:
                waited = await self._looks.look(name, round_, full=full)
        except ReconcilerError:
            # The newest commit cannot be read now: the pass of the source says so, and looks again.
            self._unlooked.add(name)
        finally:
            del self._looking[name]
            if full and name in self._unlooked:
                self._to_read.add(name)
        if owed:
            # What gave way to this look follows, and gives way to no other.
            _ = self._ask(name, round_, urgent=False, full=True)
        elif name not in self._to_read:
            self._gave_way.discard(name)
        await self._leave(name, round_)
        return waited

    def _forgo(self, name: str) -> None:
        """Leave a look to whom the environment was given; should it come back to us, it is read first."""
        self._to_read.discard(name)
        self._gave_way.discard(name)
        self._unlooked.add(name)

    async def _newer_round(self, name: str, round_: Round, head: Head) -> Round:
        """A round of its own for an environment whose turn came when its round was overtaken."""
        view = await self._planner.view(round_.view.source, head.commit)
        began = await self._now()
        return self._round(view, head, [name], [], owner=round_.owner, began=began)

    async def _leave(self, name: str, round_: Round) -> None:
        """Give an environment up that was to be, once nothing is under way there."""
        source = self._leaving.pop(name, None)
        if source is not None and round_.owner is not None:
            self._given.add(name)
            with suppress(ReconcilerError):
                async with self._recorder.connection() as connection:
                    await ownership.give_up(connection, round_.owner, [name])
                    await wake_source(connection, source)
            self._looks.forget(name)


def _is_elsewhere(share_: _Share, names: frozenset[str], head: Head) -> frozenset[str]:
    """Environments that somebody saw at a commit newer than ours."""
    return frozenset(
        name
        for name in names
        if (row := share_.known.get(name)) is not None
        and _is_newer(row.head_commit, row.head_commit_at, head)
    )


def _is_behind(row: Mapping[str, Any], head: Head) -> bool:
    """Whether somebody saw an environment at a commit newer than ours."""
    return _is_newer(row["head_commit"], row["head_commit_at"], head)


def _is_newer(commit: str | None, committed_at: datetime | None, head: Head) -> bool:
    return (
        commit not in (None, head.commit) and committed_at is not None and committed_at >= head.committed_at
    )
