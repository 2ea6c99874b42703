"""One attempt at one operation: plan from what is there, carry it out, record what became of it."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from reconciler.control import approvals, claims, intents, transitions
from reconciler.control.approvals import Approval
from reconciler.errors import (
    FenceTaken,
    LeaseLost,
    NotFound,
    PermanentError,
    Refused,
    RuntimeUnavailable,
    StateMoved,
    TemporaryError,
)
from reconciler.events import LeaseLost as LeaseLostEvent
from reconciler.events import OperationMoved, TaskFailed
from reconciler.execution.course import Parked
from reconciler.execution.objects.dropping import Surprised
from reconciler.execution.objects.switching import Overtaken
from reconciler.execution.resources import Resources
from reconciler.execution.run import run
from reconciler.frozen import frozen
from reconciler.plan.check import check
from reconciler.plan.encode import deployment_from_json, deployment_to_json
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.steps import RollService
from reconciler.planner.planner import Assessment, PlanRequest
from reconciler.planner.steps import steps_of
from reconciler.planner.view import SourceView
from reconciler.postgres.connection import is_transient
from reconciler.rollout.retry import decide, wait_again
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState
from reconciler.state.task import ModuleTask
from reconciler.worker.agreeing import (
    approved_hazards,
    done_before,
    how_to_consent,
    is_agreed_rest,
    is_out_of_sight,
    is_rest,
    put_back,
    shown_reverts,
)
from reconciler.worker.describe import describe
from reconciler.worker.equipment import equip
from reconciler.worker.journal import Journal
from reconciler.worker.lease import Interrupted, Running
from reconciler.worker.tools import Tools

OUTCOME_PAUSE_S = 0.25
WAIT_MOST_S = 15.0
"""Longest pause before an operation looks again whether its database is free."""
REPLANS_MAX = 20
"""How often an attempt may be planned anew because others wrote; then it is tried again later."""
REST_PATIENCE_S = 1.0
"""How long an attempt waits for another writer before it plans; the fence waits longer."""
REST_PAUSE_S = 0.1
CRASHES_BESIDE_OTHERS = 10
"""How many times as often workers may die at an operation that most likely is not what they die of."""
OUTCOME_PAUSE_MOST_S = 5.0
"""Pauses between tries to record an outcome; they double."""


@frozen
class _Outcome:
    """What became of an attempt; without an event, the operation is handed back as it is."""

    event: OperationEvent | None
    reason: str
    error: dict[str, Any] | None = None
    delay_s: float | None = None
    waits: bool = False


_INTERRUPTIONS = {
    "cancel": _Outcome(event=OperationEvent.CANCEL, reason="cancelled by an operator at a safe point"),
    "stop": _Outcome(event=OperationEvent.STOP, reason="stopped by an operator at a safe point"),
    "superseded": _Outcome(
        event=OperationEvent.SUPERSEDE, reason="a newer commit took its place at a safe point"
    ),
    "shutdown": _Outcome(event=None, reason="the worker stops"),
}


class _CommitAway(Exception):
    """The commit of the operation is not here, and cannot be fetched now; never leaves this module."""

    def __init__(self, why: TemporaryError) -> None:
        super().__init__(str(why))
        self.why = why


class _OutOfSight(RuntimeUnavailable):
    """Nothing is known of what is left to be done; never leaves this module."""


class _NotApproved(Exception):
    """What is to be done is not what a person agreed to; never leaves this module."""


class Attempt:
    """One attempt; made for one claim and used once."""

    def __init__(self, running: Running, tools: Tools) -> None:
        self._running = running
        self._claim = running.claim
        self._tools = tools
        self._journal = Journal(running, tools.control, tools.emit)
        self._approval: Approval | None = None
        self._remarks: list[str] = []

    async def run(self) -> bool:
        """Do it. False where nobody recorded what became of it, and it may still be ours.

        Raises nothing but CancelledError: every error becomes a state of the operation.
        """
        flush = asyncio.create_task(self._journal.flush_regularly())
        try:
            try:
                outcome = await self._outcome()
            finally:
                flush.cancel()
                await asyncio.wait({flush})
            return await self._record(outcome)
        except LeaseLost:
            claim = self._claim
            self._tools.emit(
                LeaseLostEvent(
                    environment=claim.environment,
                    deployment=claim.deployment,
                    operation=claim.operation,
                    worker=self._tools.name,
                )
            )
            # By our clock; by the database's it may be ours for another moment, and then for ever.
            return False

    async def _outcome(self) -> _Outcome:
        try:
            if self._claim.state is OperationState.REVERTING:
                return await self._gone_back()
            plan = await self._carry_out_planned_anew()
            until = await self._journal.promotions.window()
        except LeaseLost:
            raise
        except Interrupted as asked:
            return _INTERRUPTIONS[asked.why]
        except Parked as parked:
            # Whoever decides about the promotion should know what came up so far.
            return _Outcome(event=OperationEvent.PARK, reason="; ".join([str(parked), *self._remarks]))
        except _NotApproved as moved:
            return self._not_approved(moved)
        except _CommitAway as away:
            # Our trouble, not the operation's: whoever has the commit goes on, and no attempt is spent.
            if not self._tools.leave_to_others(self._claim.source):
                return self._judge(away.why)
            return _Outcome(event=None, reason=str(away.why))
        except Exception as error:  # noqa: BLE001 - the boundary of an operation
            return self._judge(error)
        done = f"done as far as may be: {'; '.join(plan.blocked)}" if plan.blocked else "all stages done"
        event = OperationEvent.OPEN_REVERT_WINDOW if until is not None else OperationEvent.DONE
        return _Outcome(event=event, reason="; ".join([done, *self._remarks]))

    def _not_approved(self, moved: _NotApproved) -> _Outcome:
        """It makes place for what is to be agreed to; once it was let go live, it ends and says why."""
        if self._journal.promotions.state is OperationState.PROMOTING:
            return self._judge(Refused(str(moved), hint="apply the newest commit, and approve its plan"))
        return _Outcome(event=OperationEvent.SUPERSEDE, reason=str(moved))

    def _judge(self, error: Exception) -> _Outcome:
        """Whether a failed attempt is made again, and what people are told."""
        limits = self._tools.limits
        told = describe(error, self._journal.broken or self._journal.current)
        if isinstance(error, FenceTaken | _OutOfSight):
            for_what = "its database is free" if isinstance(error, FenceTaken) else "what it needs answers"
            if (waiting := self._wait(told, for_what)) is not None:
                return waiting
        transient = is_transient(error)
        decision = decide(
            transient=transient,
            attempts=self._claim.attempts,
            budget=limits.attempts,
            jitter=random.random(),  # noqa: S311 - jitter, not a secret
            base_s=limits.retry_base_s,
            ceiling_s=limits.retry_ceiling_s,
        )
        if decision.retry:
            return _Outcome(
                event=OperationEvent.RETRY, reason=told["why"], error=told, delay_s=decision.delay_s
            )
        if transient:
            told = {**told, "next": f"{decision.reason}; mend the cause, then retry"}
        return _Outcome(event=OperationEvent.FAIL, reason=told["why"], error=told)

    def _wait(self, told: dict[str, Any], for_what: str) -> _Outcome | None:
        """Wait for what others have to do first, but not in a place here; None where it was enough."""
        delay_s = wait_again(
            waits=self._claim.waits,
            jitter=random.random(),  # noqa: S311 - jitter, not a secret
            ceiling_s=min(WAIT_MOST_S, self._tools.limits.retry_ceiling_s),
        )
        if delay_s is None:
            return None
        reason = f"waits until {for_what}: {told['why']}"
        return _Outcome(event=OperationEvent.RETRY, reason=reason, error=told, delay_s=delay_s, waits=True)

    async def _carry_out_planned_anew(self) -> DeploymentPlan:
        """Carry it out; where another wrote between plan and fence, plan anew at once: no attempt failed."""
        for _ in range(REPLANS_MAX):
            with suppress(StateMoved):
                return await self._carry_out()
            # What ends it later is told with the step that it ends in.
            self._journal.broken = None
        return await self._carry_out()

    async def _assess_at_rest(self) -> Assessment:
        """Plan while nobody else is writing to our databases, waiting for that a bounded time."""
        deadline = time.monotonic() + REST_PATIENCE_S
        while True:
            assessment = await self._assess()
            tracked = assessment.tracked.databases.values() if assessment.tracked is not None else ()
            at_rest = not any(database.busy for database in tracked)
            # What an attempt before this one left is ours to end; nobody else will.
            if at_rest or not self._claim.first or time.monotonic() > deadline:
                return assessment
            self._running.checkpoint()
            await asyncio.sleep(REST_PAUSE_S)

    async def _carry_out(self) -> DeploymentPlan:
        claim = self._claim
        async with self._tools.control.connection() as connection:
            asked = await claims.interruption(connection, claim)
        if asked is not None:
            self._running.interrupt(asked)
        self._running.checkpoint()
        self._check_crashes()
        assessment = await self._assess_at_rest()
        plan = await self._agree(assessment)
        if not claim.first:
            await self._journal.done_before(done_before(deployment_from_json(claim.plan()), plan))
        self._running.checkpoint()
        resources = await equip(assessment, self._running, self._tools, self._journal.said)
        try:
            await self._reopen(assessment, resources)
            if not claim.first:
                recorded = deployment_from_json(claim.plan())
                await self._journal.promotions.catch_up(recorded, plan, resources)
            await run(plan, resources, self._journal)
            await self._reopen(assessment, resources, behind=True)
            await resources.finish()
            self._remarks = resources.remarks
        except (LeaseLost, asyncio.CancelledError):
            raise
        except Parked:
            # What is staged is ours, and no drift for whoever looks while it waits.
            await resources.finish()
            self._remarks = resources.remarks
            raise
        except Exception:
            with suppress(Exception):
                # What went wrong before is what is told; a base line left moving is taken anew.
                await resources.finish()
            raise
        finally:
            await resources.abandon()
        return plan

    async def _gone_back(self) -> _Outcome:
        """Go back; where something is in the way of all of it, the window stays open for another try."""
        try:
            await self._go_back()
        except (Surprised, Overtaken) as error:
            if await self._journal.promotions.window() is None:
                raise
            return _Outcome(
                event=OperationEvent.OPEN_REVERT_WINDOW,
                reason=f"not taken back: {error.message} ({error.hint}; then revert it again)",
            )
        return _Outcome(event=OperationEvent.DONE, reason="what was before is live again")

    async def _go_back(self) -> None:
        """Make what was before live again; nothing is planned for it, and drift hinders nothing."""
        self._check_crashes()
        assessment = await self._assess_at_rest()
        resources = await equip(assessment, self._running, self._tools, self._journal.said)
        try:
            await self._reopen(assessment, resources)
            await self._journal.promotions.go_back(resources)
            await self._reopen(assessment, resources, behind=True)
            await resources.finish()
        except (LeaseLost, asyncio.CancelledError):
            raise
        except Exception:
            with suppress(Exception):
                await resources.finish()
            raise
        finally:
            await resources.abandon()

    def _check_crashes(self) -> None:
        """Refuse what workers died of again and again: nobody is left to record any other end of it."""
        claim, most = self._claim, self._tools.limits.crashes
        if claim.crashed_at is None or not claim.crashed_alone:
            # All was done but the note of its end, or others were under way each time: most likely it stood
            # beside what workers die of.
            most *= CRASHES_BESIDE_OTHERS
        if claim.crashes >= most:
            at = f"while it was at {claim.crashed_at}" if claim.crashed_at else "when nothing was left to do"
            raise PermanentError(
                f"operation {claim.operation} on '{claim.deployment}': the worker died {claim.crashes} times "
                f"in a row {at}",
                hint="see why in the log of the daemon and of its machine (memory, signals); then retry",
            )

    async def _reopen(self, assessment: Assessment, resources: Resources, *, behind: bool = False) -> None:
        """Settle what an interrupted attempt of this operation left moving, also where no step is left.

        Where the service that a database lives on is rolled, that is done `behind` all steps: no session
        outlives its server.
        """
        rolled = {step.component for step in assessment.plan.steps if isinstance(step, RollService)}
        for part in assessment.diff.databases if assessment.diff is not None else ():
            on = part.desired.on
            if part.left_moving and (on is not None and on.service in rolled) is behind:
                name = part.desired.database
                await resources.session(name)
                self._journal.retaken(name, "an attempt of the operation was interrupted")

    async def _assess(self) -> Assessment:
        claim = self._claim
        try:
            view = await self._tools.planner.view(claim.source, claim.commit)
        except TemporaryError as error:
            raise _CommitAway(error) from error
        asked, declared_at = self._asked()
        spec, desired = await self._desired(view, asked.task, declared_at)
        async with self._tools.control.connection() as connection:
            intended = await intents.intended_databases(connection, claim.environment, claim.deployment)
            ran = asked.ran
            if asked.removal is not None and not claim.first:
                ran = await intents.ran_for_removal(connection, claim.operation)

        async def made() -> frozenset[str]:
            async with self._tools.control.connection() as connection:
                return await intents.made_databases(connection, claim.environment, claim.deployment)

        request = replace(asked, intended=intended, made=made, ran=ran)
        assessment = await self._tools.planner.assess(spec, desired, request)
        if assessment.plan.unavailable is not None:
            raise TemporaryError(assessment.plan.unavailable)
        return assessment

    def _asked(self) -> tuple[PlanRequest, str | None]:
        """What the recorded plan was asked for, and the commit that declared what left; not the plan."""
        claim = self._claim
        recorded = deployment_from_json(claim.plan())
        request = PlanRequest(
            scope=Scope(claim.scope),
            resuming=not claim.first,
            allow_hazards=frozenset(claim.allow_hazards) | approved_hazards(claim, recorded),
            task=recorded.task,
            only=shown_reverts(recorded),
            gate_due=recorded.gated,
            forced=recorded.asked.redeploy,
            operation=claim.operation,
            keep_failed=recorded.asked.keep_failed,
            removal=recorded.removal,
            healing=put_back(recorded),
        )
        return request, recorded.prune_from

    async def _desired(
        self, view: SourceView, task: ModuleTask | None, declared_at: str | None
    ) -> tuple[EnvironmentSpec, DesiredState]:
        claim, planner = self._claim, self._tools.planner
        spec, states = await planner.desired(view, claim.environment, task=task)
        if declared_at is not None:
            return spec, await self._left(view, declared_at)
        desired = next((state for state in states if state.deployment == claim.deployment), None)
        if desired is None:
            raise NotFound(
                f"deployment '{claim.deployment}' of environment '{claim.environment}' is not declared "
                f"at commit {claim.commit[:12]}"
            )
        return spec, desired

    async def _left(self, view: SourceView, declared_at: str) -> DesiredState:
        """What is to be of a deployment that left; Refused where it did not, or its databases are in use."""
        claim, planner = self._claim, self._tools.planner
        doing = f"taking back what is deployed on '{claim.deployment}' of environment '{claim.environment}'"
        async with self._tools.control.connection() as connection:
            left = await intents.is_left(connection, claim.environment, claim.deployment)
            head = await intents.followed(connection, claim.environment)
        if not left:
            raise Refused(f"{doing}: it is not among those that left the spec any more")
        desired = await planner.left(view, claim.environment, claim.deployment, declared_at)
        try:
            await planner.check_left(view, desired)
            if head not in (None, claim.commit, declared_at):
                # A newer one that no rollout was recorded for yet, perhaps because it is broken. The one that
                # has it still is followed where a person applied a commit before a pass saw it.
                await planner.check_left(await planner.view(claim.source, head), desired)
        except PermanentError as refused:
            raise Refused(f"{doing}: {refused}", hint=f"reconciler diff {claim.environment}") from refused
        return desired

    async def _agree(self, assessment: Assessment) -> DeploymentPlan:
        """The plan to carry out: the recorded one if it still holds, else the one made from what is there."""
        claim, fresh = self._claim, assessment.plan
        if not fresh.steps and is_out_of_sight(fresh.blocked, claim.blocked, assessment.running):
            raise _OutOfSight("; ".join(fresh.blocked))
        if claim.approved is not None:
            return await self._agree_as_approved(deployment_from_json(claim.plan()), fresh)
        if fresh.refused:
            raise Refused(
                "the state moved since the plan was made, and it now needs consent: "
                + "; ".join(fresh.refused),
                hint=how_to_consent(claim, fresh, assessment.allowed),
            )
        if not fresh.steps and fresh.blocked:
            raise Refused("; ".join(fresh.blocked), hint="look at the diff again")
        problems = check(fresh)
        if problems:
            raise PermanentError("the plan contradicts itself: " + "; ".join(problems))
        if claim.first:
            same = fresh.digest == claim.plan_digest
        else:
            same = is_rest(deployment_from_json(claim.plan()), fresh)
        same = same and fresh.blocked == claim.blocked
        if not same:
            async with self._tools.control.connection() as connection:
                await transitions.replace_plan(
                    connection, claim, deployment_to_json(fresh), fresh.digest, steps_of(fresh)
                )
        return fresh

    async def _agree_as_approved(self, recorded: DeploymentPlan, fresh: DeploymentPlan) -> DeploymentPlan:
        """Exactly the plan that a person agreed to, or the rest of it; what else is to be done asks anew."""
        claim, control = self._claim, self._tools.control
        if self._approval is None:
            async with control.connection() as connection:
                self._approval = await approvals.read(connection, claim.operation)
        approval = self._approval
        same = fresh.digest == approval.plan_digest
        if approval.used:
            # It began before. Whole steps are compared: a danger that came since was not agreed to.
            same = same or is_agreed_rest(recorded, fresh)
        if not same or fresh.blocked != recorded.blocked:
            raise _NotApproved(
                f"the state moved since {approval.approved_by} approved {approval.plan_digest}: "
                + (
                    f"what is to be done now is {fresh.digest}, which asks for approval"
                    if fresh.steps
                    else "nothing of that plan is left to be done"
                )
            )
        if not approval.used:
            async with control.connection() as connection:
                await approvals.use(connection, claim.operation, claim.lease_token)
        return fresh

    async def _record(self, outcome: _Outcome) -> bool:
        """Record the outcome for as long as the operation is ours, within a bound.

        The control database may be away for a while: what was done stands in the tracking schema, and
        whoever claims the operation next finds it there.
        """
        deadline = time.monotonic() + self._tools.limits.outcome_patience_s
        pause, unsure = OUTCOME_PAUSE_S, False
        while True:
            try:
                self._running.check_lease()
                await self._journal.flush()
                await self._write(outcome)
            except LeaseLost:
                if unsure and not self._running.lost and self._running.lease.good:
                    # Only the answer to an earlier try was lost: the outcome is recorded.
                    return True
                raise
            except Exception as error:  # noqa: BLE001 - an outcome is recorded whatever happens to one try
                if not is_transient(error):
                    task = f"recording the outcome of operation {self._claim.operation}"
                    self._tools.emit(TaskFailed(task=task, error=str(error)))
                if time.monotonic() > deadline:
                    return False
                unsure = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, OUTCOME_PAUSE_MOST_S)
            else:
                return True

    async def _write(self, outcome: _Outcome) -> None:
        claim = self._claim
        async with self._tools.control.connection() as connection:
            if outcome.event is None:
                await claims.hand_back(connection, claim, outcome.reason)
                return
            state = await transitions.transition(
                connection,
                claim,
                outcome.event,
                reason=outcome.reason,
                error=outcome.error,
                delay_s=outcome.delay_s,
                waits=outcome.waits,
            )
        self._tools.emit(
            OperationMoved(
                environment=claim.environment,
                deployment=claim.deployment,
                rollout=claim.rollout,
                operation=claim.operation,
                before=self._journal.promotions.state.value,
                after=state.value,
                worker=self._tools.name,
                attempts=claim.attempts,
                reason=outcome.reason,
            )
        )
