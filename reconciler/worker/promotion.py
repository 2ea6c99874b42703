"""What a worker and the control database tell each other about generations of SQL objects.

Whether a switch may be made is decided there; it makes none.
"""

from datetime import datetime

from reconciler.execution.course import Parked
from reconciler.plan.steps import DiscardObjects, PromoteObjects, StageObjects
from reconciler.worker.lease import ControlAccess, Running


class Promotions:
    """Notes of one operation about its generations."""

    def __init__(self, running: Running, control: ControlAccess) -> None:
        self._running = running
        self._control = control

    async def staging(self, step: StageObjects) -> None:
        """A generation is about to be made: from now on something of it may be there."""

    async def discarded(self, step: DiscardObjects) -> None:
        """Nothing of a generation is there any more."""

    async def may_promote(self, step: PromoteObjects) -> None:
        """Return once the promotion may be made at once; raises Parked where it has to wait."""
        raise Parked(step)

    async def promoted(self, step: PromoteObjects, retained_until: datetime | None) -> None:
        """The switch is made; until then what it displaced is kept."""
