"""Limits of working, as one value; every wait and every retry of a worker is in it."""

from dataclasses import field

from reconciler.execution.session import Limits
from reconciler.frozen import frozen


@frozen
class WorkerLimits:
    """Limits of working, in seconds and counts.

    After `lease_s` without a heartbeat nothing more is started. `stop_grace_s` is how long a stop waits for
    safe points before it cancels what runs; `outcome_patience_s`, how long recording an outcome is tried.
    What is under way for longer than `slow_s` counts apart, up to `slow_in_parallel`, and leaves its place.
    No server has more than `operations_per_server` operations at once, of all workers together.
    An operation at which `crashes` workers died in a row, while no step of it got done, is not resumed again.
    Each heartbeat says whether there is anything to claim; `poll_s` is the most that passes without a look.
    """

    operations_in_parallel: int = 4
    slow_s: float = 10.0
    slow_in_parallel: int = 12
    operations_per_server: int = 16
    lease_s: float = 10.0
    heartbeat_s: float = 2.0
    poll_s: float = 30.0
    attempts: int = 5
    crashes: int = 5
    retry_base_s: float = 1.0
    retry_ceiling_s: float = 60.0
    stop_grace_s: float = 20.0
    outcome_patience_s: float = 60.0
    writes: Limits = field(default_factory=Limits)
