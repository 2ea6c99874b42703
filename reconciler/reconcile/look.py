"""One pass over one environment: plan it, record a rollout where one is needed, record what was found.

It is the boundary where an environment's errors end: each becomes the environment's own.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from reconciler.control import environments, left, rollouts
from reconciler.control.environments import DeploymentObservation
from reconciler.control.facts import Facts
from reconciler.errors import Conflict, LeaseLost, ReconcilerError, TemporaryError
from reconciler.events import CommitApplied, DriftFound, Event, PassFinished, PassResult
from reconciler.frozen import frozen
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.planner.planner import Assessment, Planner, PlanRequest
from reconciler.planner.view import SourceView
from reconciler.reconcile import findings
from reconciler.reconcile.assess import Before
from reconciler.reconcile.due_verifications import Due, DueVerifications, due_of, is_due
from reconciler.reconcile.findings import BY_ITSELF, Outcome
from reconciler.reconcile.heads import Head
from reconciler.reconcile.known import Known
from reconciler.reconcile.leaving import Ground, Leavers, ready, whys
from reconciler.reconcile.record import Recorder, RolloutRequest
from reconciler.reconcile.refreshing import Refreshing
from reconciler.reconcile.scheduling import Scheduling
from reconciler.reconcile.sparing import Sparing
from reconciler.reconcile.watching import Watching
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState

SLOW_S = 1.0
"""From when on an environment that cannot be read counts as one that makes others wait."""


@frozen
class Round:
    """What the environments passed over together share.

    `owner` is the worker that must still be theirs when something is written; `not_before` is when what is
    read of databases may have been read at the earliest, `planned_from` the same or before by the clock of
    the control database; `tell` takes failures of the control database, and whose look they ended.
    """

    view: SourceView
    head: Head
    known: Known
    owner: str | None
    not_before: float
    planned_from: datetime
    tell: Callable[[str, TemporaryError], None]


class Looks:
    """Passes over environments one at a time each, and tells what is news."""

    def __init__(
        self,
        *,
        planner: Planner,
        recorder: Recorder,
        only_look: bool,
        verifications: DueVerifications,
        emit: Callable[[Event], None],
        ask_work: Callable[[], None],
    ) -> None:
        self._planner = planner
        self._recorder = recorder
        self._only_look = only_look
        self._verifications = verifications
        self.refreshing: Refreshing | None = None
        self.scheduling: Scheduling | None = None
        self._leavers = Leavers(planner=planner, assessor=recorder)
        self._emit = emit
        self._ask_work = ask_work
        self._applied: dict[str, str | None] = {}
        self._drift: dict[tuple[str, str], frozenset[str]] = {}
        self._unchanged: set[str] = set()
        self._only_checks: set[str] = set()
        self._sparing = Sparing(planner=planner, assessor=recorder)
        self._watching = Watching(planner=planner, assessor=recorder)

    def forget(self, name: str) -> None:
        """An environment is another daemon's, or left its source."""
        self._sparing.forget(name)
        self._watching.forget(name)
        if self.refreshing is not None:
            self.refreshing.forget(name)
        if self.scheduling is not None:
            self.scheduling.forget(name)
        self._applied.pop(name, None)
        for key in [key for key in self._drift if key[0] == name]:
            del self._drift[key]

    def is_to_watch(self, name: str, view: SourceView) -> bool:
        """Whether an environment that a commit left alone is to be looked at for what runs of it."""
        return self._watching.is_due(view.environments[name].spec)

    def carried(self, names: Sequence[str] | frozenset[str], commit: str) -> None:
        """A commit left environments as they were: that it is applied there is no news."""
        self._applied.update(dict.fromkeys(names, commit))

    async def flush(self) -> None:
        """Note the passes that found nothing new, all at once."""
        names, self._unchanged = self._unchanged, set()
        if names:
            async with self._recorder.connection() as connection:
                await environments.touch(connection, names)

    async def look(self, name: str, round_: Round, *, full: bool) -> bool:
        """Pass over an environment; every error becomes its own, and counts.

        Not `full`: what is known to be in sync is left as it is, and what an operation is bringing there too.
        True where somebody did not answer. A deployment that cannot be read is no error of the pass, so one
        that may pass is the control database's: it is told.
        """
        began = time.monotonic()
        outcome = Outcome(result=PassResult.FAILED)
        failure: tuple[str, str] | None = None
        try:
            outcome = await self._pass(name, round_, full=full)
        except LeaseLost:
            # Another daemon's by now: it looks, and says what it found.
            return False
        except ReconcilerError as error:
            failure = (str(error), type(error).__name__)
            if isinstance(error, TemporaryError):
                round_.tell(name, error)
        except Exception as error:  # noqa: BLE001 - the boundary of a pass
            failure = (f"internal error: {error!r}", "InternalError")
        finally:
            self._only_checks.discard(name)
        if failure is not None:
            await self.report(name, round_, failure, path=round_.view.environments[name].file)
        self._finished(name, round_.view, began, outcome, failure)
        return bool(outcome.unavailable) and time.monotonic() - began > SLOW_S

    def only_checks(self, name: str) -> bool:
        """Whether a look is just reading an environment at a commit that was planned there before."""
        return name in self._only_checks

    async def report(self, name: str, round_: Round, why: tuple[str, str], *, path: str) -> None:
        """Record why a pass came to nothing, if the control database lets us; what is applied stays."""
        observation = findings.failed(round_.view, round_.head, name, why, path=path)
        with suppress(ReconcilerError):
            async with self._recorder.connection() as connection:
                await environments.observe(connection, observation, owner=round_.owner)

    async def report_stale(self, name: str, round_: Round) -> None:
        """Record that nothing is done, for somebody saw a newer commit than we can fetch."""
        why = (
            f"the newest commit of source '{round_.view.source}' that this daemon could fetch is "
            f"{round_.view.commit[:12]}, and a newer one was seen before; nothing is done until it can be "
            f"fetched: {round_.head.error}"
        )
        observation = findings.failed(
            round_.view,
            None,
            name,
            (why, round_.head.error_reason or "SourceUnavailable"),
            path=round_.view.environments[name].file,
        )
        with suppress(ReconcilerError):
            async with self._recorder.connection() as connection:
                await environments.observe(connection, observation, owner=round_.owner)
        self.refused(name, round_.view, why)

    def refused(self, name: str, view: SourceView, why: str) -> None:
        """Tell of an environment that could not be passed over at all."""
        self._finished(
            name,
            view,
            time.monotonic(),
            Outcome(result=PassResult.FAILED),
            (why, ""),
        )

    def _finished(
        self, name: str, view: SourceView, began: float, outcome: Outcome, failure: tuple[str, str] | None
    ) -> None:
        self._emit(
            PassFinished(
                environment=name,
                result=outcome.result,
                duration_s=time.monotonic() - began,
                source=view.source,
                commit=view.commit,
                pending=outcome.pending,
                drift=outcome.drift,
                diverged=outcome.diverged,
                held=outcome.held,
                unavailable=outcome.unavailable,
                rollout=outcome.rollout,
                error=failure[0] if failure is not None else None,
            )
        )

    async def _pass(self, name: str, round_: Round, *, full: bool) -> Outcome:
        view, head = round_.view, round_.head
        facts = await round_.known.of(name)
        self._tell_applied(name, facts)
        if facts is not None and facts.row["suspended"]:
            await self._observe(facts, findings.looked_at(view, head, name), round_)
            return Outcome(result=PassResult.SUSPENDED)
        spec, states = await self._planner.desired(view, name)
        self._declare(spec, states, round_.owner)
        under_way = findings.under_way(facts, view.commit)
        active = under_way.deployments.get(view.commit, frozenset())
        held: Mapping[str, str] = facts.row["held"] if facts is not None else {}
        if findings.keeps(facts, spec, under_way, view.commit) and not self._only_look:
            # What is about to be taken back there is kept before anything is read, which takes its time.
            async with self._recorder.connection() as connection:
                await rollouts.supersede(
                    connection, name, view.commit, reason="it keeps what had left", owner=round_.owner
                )
        scope = Scope(spec.policy.scope)
        request = PlanRequest(scope=scope, not_before=round_.not_before, due_reads=full)
        gates_due = await self._recorder.gates_due(states)
        known: Mapping[str, DeploymentObservation] = {}
        if not full:
            moved = await self._watching.find(spec, states, not_before=round_.not_before)
            asked = {*gates_due, *_to_be_verified(spec, facts), *(moved - under_way.everywhere)}
            known = await self._sparing.find(facts, spec, view, under_way, asked)
        if full and facts is not None and facts.row["observed_commit"] == view.commit:
            self._only_checks.add(name)
        found = await self._recorder.assess(
            spec,
            [state for state in states if state.deployment not in known],
            held,
            # What waits for approval has left nothing moving.
            resuming=active - under_way.waiting.keys(),
            request=request,
            before=Before(
                intended=findings.intended(facts),
                gates_due=gates_due,
                silent=findings.silent(facts),
                # Who looks everywhere has the time to see who is back.
                hurry=not full,
            ),
        )
        self._only_checks.discard(name)
        await self._watching.note(
            name, found, busy=under_way.everywhere, afresh=full, only_seen=self._only_look
        )
        await self._end_outdated(name, found, under_way, round_)
        waits = self._out_of_turn(spec, found, under_way, view.commit)
        recorded = await self._record_pending(spec, found, under_way, round_, waits)
        if recorded is None and under_way.older_by_itself and not self._only_look:
            # What is under way for older commits ends, where this one needs no rollout of its own.
            async with self._recorder.connection() as connection:
                await rollouts.supersede(connection, name, view.commit, owner=round_.owner)
        plans = [item.plan for item in found]
        mode = spec.policy.mode
        seen = {plan.name: findings.observed(plan, active, mode, waits.get(plan.name)) for plan in plans}
        deployments = tuple({**known, **seen}[state.deployment] for state in states)
        await self._observe(facts, findings.planned(view, head, name, mode, deployments), round_)
        self._note_read(name, plans, known, round_)
        if findings.has_left(facts, spec):
            ground = Ground(view=view, spec=spec, held=held, request=request)
            busy = recorded is not None or any(plan.pending or plan.unavailable is not None for plan in plans)
            recorded = await self._take_back(ground, under_way, round_, busy=busy) or recorded
        if recorded:
            self._ask_work()
        self._tell_drift(name, plans)
        if recorded is None:
            await self._verify(spec, facts, found, round_)
        rows = [facts.deployments[deployment] for deployment in known] if facts is not None else ()
        return findings.outcome_of(plans, recorded, rows)

    def _declare(self, spec: EnvironmentSpec, states: Sequence[DesiredState], owner: str | None) -> None:
        """Say what the spec wants done by schedules."""
        if self.refreshing is not None:
            self.refreshing.declare(spec.name, states, owner)
        if self.scheduling is not None:
            self.scheduling.declare(spec, states, owner)

    def _note_read(
        self,
        name: str,
        plans: Sequence[DeploymentPlan],
        known: Mapping[str, DeploymentObservation],
        round_: Round,
    ) -> None:
        """Keep in mind that deployments are since the beginning of a look as it found them."""
        read = [plan.name for plan in plans if plan.unavailable is None]
        read += [deployment for deployment, found in known.items() if found.in_sync]
        left = [deployment for deployment, found in known.items() if not found.in_sync]
        self._sparing.note(name, read, left, round_.planned_from)

    async def _verify(
        self, spec: EnvironmentSpec, facts: Facts | None, found: Sequence[Assessment], round_: Round
    ) -> None:
        """Have verify scripts run where the spec asks for it and they are due; no pass waits for them."""
        if self._only_look:
            return
        known = facts.row["verifications"] if facts is not None else {}
        if spec.policy.verify is None:
            if known:
                await self._verifications.forget(spec.name, round_.owner)
            return
        busy = findings.under_way(facts, round_.view.commit).everywhere
        quiet = [item for item in found if item.desired.deployment not in busy]
        due = due_of(spec.policy.verify.interval_s, known, quiet)
        commit = round_.view.commit
        self._verifications.ask(Due(environment=spec.name, commit=commit, found=due, owner=round_.owner))

    async def _observe(
        self, facts: Facts | None, observation: environments.Observation, round_: Round
    ) -> None:
        if not environments.is_news(facts, observation):
            self._unchanged.add(observation.name)
            return
        async with self._recorder.connection() as connection:
            await environments.observe(connection, observation, owner=round_.owner)

    async def _end_outdated(
        self, name: str, found: Sequence[Assessment], under_way: findings.UnderWay, round_: Round
    ) -> None:
        """Ask nobody to approve what is done already."""
        gone = findings.outdated([item.plan for item in found], under_way.waiting)
        if gone and not self._only_look:
            async with self._recorder.connection() as connection:
                await rollouts.supersede_moved(connection, name, round_.view.commit, gone, owner=round_.owner)

    def _out_of_turn(
        self,
        spec: EnvironmentSpec,
        found: Sequence[Assessment],
        under_way: findings.UnderWay,
        commit: str,
    ) -> dict[str, str]:
        """Deployments of later waves that no rollout is recorded for yet, and what they wait for."""
        active = under_way.deployments.get(commit, frozenset())
        plans = [item.plan for item in found]
        goes_on = spec.rollout.on_failure == "continue"
        waits = findings.out_of_turn(plans, spec.waves, active, goes_on=goes_on)
        return {name: why for name, why in waits.items() if name not in active}

    async def _record_pending(
        self,
        spec: EnvironmentSpec,
        found: Sequence[Assessment],
        under_way: findings.UnderWay,
        round_: Round,
        waits: Mapping[str, str],
    ) -> str | None:
        """Record a rollout for the deployments that have something to do and may do it by themselves.

        A plan that waits for approval and is not what is to be done any more is recorded anew. `waits` are
        those whose wave is not next.
        """
        if self._only_look or spec.policy.mode == "observe":
            return None
        active = under_way.deployments.get(round_.view.commit, frozenset())
        waiting, asks = under_way.waiting, spec.policy.mode == "approve"
        to_record = [
            item
            for item in found
            if item.plan.steps
            and item.plan.held is None
            and item.plan.name not in waits
            and (asks or not item.plan.refused)
            and _is_to_record(item.plan, active, waiting)
        ]
        if not to_record:
            return None
        reason = findings.reason_of(to_record)
        request = RolloutRequest(scope=Scope(spec.policy.scope), reason=reason, requested_by=BY_ITSELF)
        try:
            return await self._recorder.record(
                round_.view,
                spec,
                [item.plan for item in to_record],
                request,
                owner=round_.owner,
                planned_from=round_.planned_from,
            )
        except Conflict:
            # Held or done since we looked; the next pass says so.
            return None

    async def _take_back(
        self, ground: Ground, under_way: findings.UnderWay, round_: Round, *, busy: bool
    ) -> str | None:
        """Say what becomes of deployments that left; take back what they deployed once all else is done."""
        spec, commit = ground.spec, round_.view.commit
        leavers = await self._leavers.known(spec.name, spec)
        leaving = await self._leavers.look(ground, leavers)
        asks = spec.policy.mode == "approve"
        todo = ready(leaving, asks=asks)
        names = {place.name for place in spec.deployments}
        waits: str | None = None
        if spec.policy.mode == "observe":
            waits = "it waits, for policy.mode is observe"
        elif busy or not names.isdisjoint(under_way.everywhere):
            waits = "it waits until the deployments of the spec carry the commit"
        told = whys(leaving, waits=waits, names={plan.name for plan in todo})
        news = {each.name: told[each.name] for each in leavers if each.why != told[each.name]}
        if news:
            async with self._recorder.connection() as connection:
                await left.tell_why(connection, spec.name, news)
        active = under_way.deployments.get(commit, frozenset())
        todo = [plan for plan in todo if _is_to_record(plan, active, under_way.waiting)]
        if waits is not None or not todo or self._only_look:
            return None
        reason = "prune of deployments that left the spec"
        request = RolloutRequest(
            scope=ground.request.scope, reason=reason, requested_by=BY_ITSELF, narrowed=True
        )
        with suppress(Conflict):
            # Held, done or forgotten since we looked; the next pass says so.
            return await self._recorder.record(
                round_.view, spec, todo, request, owner=round_.owner, planned_from=round_.planned_from
            )
        return None

    def _tell_applied(self, name: str, facts: Facts | None) -> None:
        """Tell once that a commit is applied everywhere; a restart tells nothing again."""
        row = facts.row if facts is not None else {}
        commit = row.get("applied_commit")
        before = self._applied.get(name)
        first = name not in self._applied
        self._applied[name] = commit
        if commit is None or first or commit == before:
            return
        if row["head_commit_at"] is None or row["applied_at"] is None or row["head_commit"] != commit:
            return
        self._emit(
            CommitApplied(
                environment=name,
                commit=commit,
                committed_at=row["head_commit_at"],
                seconds=max(0.0, (row["applied_at"] - row["head_commit_at"]).total_seconds()),
            )
        )

    def _tell_drift(self, name: str, plans: Sequence[DeploymentPlan]) -> None:
        """Tell drift when it is new, not on every pass."""
        for plan in plans:
            if plan.unavailable is not None:
                continue
            now = frozenset(row.identity for row in plan.drift)
            if now and now != self._drift.get((name, plan.name)):
                self._emit(
                    DriftFound(
                        environment=name,
                        deployment=plan.name,
                        objects=len(now),
                        examples=tuple(sorted(now)[:5]),
                    )
                )
            self._drift[name, plan.name] = now


def _is_to_record(plan: DeploymentPlan, active: Collection[str], waiting: Mapping[str, str]) -> bool:
    """Whether nothing brings it there yet, or what waits for approval is not what is to be done."""
    return plan.name not in active or waiting.get(plan.name, plan.digest) != plan.digest


def _to_be_verified(spec: EnvironmentSpec, facts: Facts | None) -> set[str]:
    """Deployments whose verify scripts are due; what is to be verified is read first."""
    if spec.policy.verify is None:
        return set()
    known = facts.row["verifications"] if facts is not None else {}
    names = {place.name for place in spec.deployments}
    return {name for name in names if is_due(spec.policy.verify.interval_s, known, name)}
