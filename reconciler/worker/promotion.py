"""What a worker and the control database tell each other about generations of SQL objects.

Whether a switch may be made is decided there. It makes none; it takes those back that it is told to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from typing_extensions import override

from reconciler.control import promotions
from reconciler.control.promotions import Promoted
from reconciler.execution.course import Parked
from reconciler.execution.interference import Interference
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import Policy, live_until, revert
from reconciler.execution.resources import Resources
from reconciler.plan.model import DeploymentPlan
from reconciler.plan.steps import DiscardObjects, PromoteObjects, StageObjects
from reconciler.rollout.states import OperationState
from reconciler.state.desired import DesiredObjects
from reconciler.worker.lease import ControlAccess, Running


class Promotions:
    """Notes of one operation about its generations; `state` is where it is, as far as we know."""

    def __init__(self, running: Running, control: ControlAccess) -> None:
        self._claim = running.claim
        self._control = control
        self.state = running.claim.state

    async def staging(self, step: StageObjects, server: str) -> None:
        """A generation is about to be made: from now on something of it may be there."""
        async with self._control.connection() as connection:
            await promotions.note_staging(
                connection,
                self._claim,
                component=step.component,
                generation=step.generation,
                server=server,
                database=step.database,
            )

    async def discarded(self, step: DiscardObjects) -> None:
        """Nothing of a generation is there any more."""
        async with self._control.connection() as connection:
            await promotions.discarded(
                connection,
                self._claim,
                component=step.component,
                generation=step.generation,
                database=step.database,
            )

    async def may_promote(self, step: PromoteObjects) -> None:
        """Return once the promotion may be made at once; raises Parked where it has to wait."""
        async with self._control.connection() as connection:
            may = await promotions.begin_promotion(
                connection, self._claim, component=step.component, generation=step.generation
            )
        if not may:
            self.state = OperationState.RUNNING
            raise Parked(step)
        self.state = OperationState.PROMOTING

    async def promoted(self, step: PromoteObjects, retained_until: datetime | None) -> None:
        """The switch is made; until then what it displaced is kept."""
        async with self._control.connection() as connection:
            await promotions.promoted(
                connection,
                self._claim,
                component=step.component,
                generation=step.generation,
                database=step.database,
                retained_until=retained_until if step.retain_s > 0 else None,
            )
        self.state = OperationState.RUNNING

    async def catch_up(self, recorded: DeploymentPlan, plan: DeploymentPlan, resources: Resources) -> None:
        """Note the switches that an attempt before this one made and could not note any more."""
        left = {step.id for step in plan.steps}
        for step in recorded.steps:
            if isinstance(step, PromoteObjects) and step.id not in left:
                session = await resources.session(step.database)
                until = await live_until(session, step.generation)
                if until is not None:
                    await self.promoted(step, until)

    async def window(self) -> datetime | None:
        """Until when what the operation made live can be taken back; None where it cannot."""
        async with self._control.connection() as connection:
            return await promotions.revert_window(connection, self._claim.operation)

    async def go_back(self, resources: Resources) -> None:
        """Take back what the operation made live, the newest first; again, goes on where it was left."""
        async with self._control.connection() as connection:
            made = await promotions.promoted_by(connection, self._claim.operation)
        wanted = {one.component: one for one in resources.desired.objects}
        for one in made:
            await _take_back(one, wanted, resources)
            async with self._control.connection() as connection:
                await promotions.reverted(
                    connection,
                    self._claim,
                    component=one.component,
                    generation=one.generation,
                    database=one.database,
                )
            resources.interference.at(f"reverted {one.component}")


async def _take_back(one: Promoted, wanted: Mapping[str, DesiredObjects], resources: Resources) -> None:
    session = await resources.session(one.database)
    said = wanted.get(one.component)
    policy = Policy()
    if said is not None:
        policy = Policy.said(dependents=said.dependents, hand_made=said.hand_made, altered=said.altered)
    manner = Manner(interference=_Reverting(one.component, resources.interference))
    # It was asked for in time; what is to be taken back is kept until that is over.
    await revert(session, one.generation, policy=policy, in_window=False, manner=manner)


@dataclass
class _Reverting(Interference):
    """The points of one switch back: `revert COMPONENT: POINT`."""

    component: str
    outer: Interference

    def __post_init__(self) -> None:
        self.active = self.outer.active

    @override
    def at(self, point: str) -> None:
        self.outer.at(f"revert {self.component}: {point}")
