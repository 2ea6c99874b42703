"""What every attempt of a worker uses; it only holds it."""

from collections.abc import Callable

from reconciler.events import Event
from reconciler.execution.interference import Interference
from reconciler.frozen import frozen
from reconciler.planner.planner import Planner
from reconciler.runtimes.machine import Machine
from reconciler.worker.lease import ControlAccess
from reconciler.worker.limits import WorkerLimits
from reconciler.worker.register import Sealer


@frozen
class Tools:
    """What every attempt of a worker uses.

    Without a `machine` no services can be rolled, and without a `sealer` nothing is recorded of them.
    """

    name: str
    control: ControlAccess
    planner: Planner
    limits: WorkerLimits
    emit: Callable[[Event], None]
    interference: Interference
    leave_to_others: Callable[[str], bool]
    """Told of a source that does not answer; true where operations whose commit is not here are others'."""
    machine: Machine | None = None
    sealer: Sealer | None = None
