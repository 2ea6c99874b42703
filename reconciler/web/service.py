"""What the HTTP API needs of the reconciler: the facade as a list of signatures.

`reconciler.reconcile.Reconciler` is the one the daemon passes; tests pass one that lives in memory.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from reconciler.plan.model import NOTHING_ASKED, ObjectsAsked, Plan
from reconciler.rollout.status import (
    EnvironmentStatus,
    EventRecord,
    JobStatus,
    OutputStatus,
    RequestStatus,
    RolloutStatus,
)
from reconciler.state.module_requests import LogRequest, VerifyRequest
from reconciler.state.task import ModuleTask


class Service(Protocol):
    """Coroutines over values; every one raises errors of `reconciler.errors`."""

    async def environments(self) -> tuple[EnvironmentStatus, ...]:
        """All environments."""
        ...

    async def environment(self, name: str) -> EnvironmentStatus:
        """One environment."""
        ...

    async def preview(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        scope: str | None = None,
        posted: bytes | None = None,
        redeploy: frozenset[str] = frozenset(),
    ) -> Plan:
        """The dry run, of a commit or of the posted spec in its place."""
        ...

    async def apply(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        scope: str | None = None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str] = frozenset(),
        objects: ObjectsAsked = NOTHING_ASKED,
    ) -> RolloutStatus | None:
        """Record one rollout now; None where there is nothing to do."""
        ...

    async def preview_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None = None,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> Plan:
        """The dry run of a deploy or a revert of modules."""
        ...

    async def run_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None = None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> RolloutStatus | None:
        """Record a rollout of a deploy or a revert of modules; None where there is nothing to do."""
        ...

    async def rollouts(self, name: str, *, limit: int = 20) -> tuple[RolloutStatus, ...]:
        """The latest rollouts, newest first."""
        ...

    async def rollout(self, rollout: str, /) -> RolloutStatus:
        """One rollout with its operations and steps."""
        ...

    async def request(
        self,
        rollout: str,
        verb: str,
        *,
        deployment: str | None,
        requested_by: str,
        reason: str = "",
        digest: str | None = None,
    ) -> RequestStatus:
        """Note what an operator asks of a rollout; `digest` names the plan that is agreed to."""
        ...

    async def forget(self, name: str, deployment: str, *, reason: str, requested_by: str) -> None:
        """Stop telling of a deployment that left the spec."""
        ...

    async def preview_removal(self, name: str, databases: Sequence[str] = ()) -> Plan:
        """The dry run of a removal."""
        ...

    async def remove(
        self, name: str, databases: Sequence[str] = (), *, reason: str, requested_by: str
    ) -> RolloutStatus | None:
        """Record the rollout that removes an environment; None where nothing is left of it."""
        ...

    async def stop(self, name: str, *, reason: str, requested_by: str) -> None:
        """Want its services and routes off."""
        ...

    async def start(self, name: str, *, reason: str, requested_by: str) -> None:
        """Want them on again."""
        ...

    async def suspend(self, name: str, *, reason: str, requested_by: str) -> None:
        """Stop reconciling an environment."""
        ...

    async def resume(self, name: str, *, requested_by: str) -> None:
        """Reconcile an environment again."""
        ...

    async def reconcile(self, name: str, *, requested_by: str) -> None:
        """Ask for a pass now."""
        ...

    async def delivered(self, source: str, *, delivery: str | None) -> bool:
        """Wake a source, for a webhook says that it changed; false where the delivery was taken before."""
        ...

    async def outputs(self, name: str, *, deployment: str | None = None) -> tuple[OutputStatus, ...]:
        """What the components of an environment put out, without sensitive values."""
        ...

    async def jobs(self, name: str) -> tuple[JobStatus, ...]:
        """The jobs of an environment that ran or have a schedule, with their last runs and next times."""
        ...

    async def events(
        self,
        *,
        environment: str | None = None,
        rollout: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> tuple[EventRecord, ...]:
        """Events in order of their ids: those after `after`, else the newest."""
        ...

    async def module_status(
        self, name: str, *, deployment: str | None = None, module: str | None = None
    ) -> dict[str, Any]:
        """Per deployment and module: what is deployed, pending and diverged."""
        ...

    async def module_log(
        self, name: str, request: LogRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        """Per deployment and database: what was deployed, and what failed."""
        ...

    async def module_verify(
        self, name: str, request: VerifyRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        """Run the verify scripts of what is deployed."""
        ...

    async def ready(self) -> tuple[bool, str]:
        """Whether requests can be served, and why not."""
        ...
