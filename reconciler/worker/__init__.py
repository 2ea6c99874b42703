"""Works on operations: claims them, keeps their leases, runs their plans and records what became of them.

It does not know what a step does, and decides nothing that `rollout` or `plan` can decide.
"""

from reconciler.worker.limits import WorkerLimits
from reconciler.worker.loop import Worker, WorkerHooks

__all__ = ["Worker", "WorkerHooks", "WorkerLimits"]
