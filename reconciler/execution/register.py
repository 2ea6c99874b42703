"""What execution asks of the register: the record of services, jobs, routes and outputs of one deployment.

The worker implements it over the control database, each write under the lease of its operation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from reconciler.frozen import frozen
from reconciler.spec.values import OutputReference
from reconciler.state.programs import OutputType


@frozen
class Made:
    """An output that was made; a sensitive `value` is sealed before it is kept, and shown nowhere."""

    name: str
    type: OutputType
    sensitive: bool
    value: Any


@frozen
class Applying:
    """A component that is about to be applied; `definition` is as `state.programs_json` writes it."""

    component: str
    kind: str
    stage: str
    definition_hash: str
    definition: Mapping[str, Any]
    place: str | None = None
    instance: str | None = None


@frozen
class KeptOutput:
    """An output with its value, opened where it was sealed."""

    value: Any
    sensitive: bool
    inputs_hash: str


class Register(Protocol):
    """The record of one deployment; every write raises LeaseLost where the operation is not ours any more."""

    async def applying(self, what: Applying) -> None:
        """Note what is about to be there, before the first thing is done that leaves anything behind."""
        ...

    async def applied(self, what: Applying, *, healed: bool = False) -> None:
        """Note that it is live in place of what was before, which may be there still.

        `healed`: it was only put back; the next time that happens it is waited longer.
        """
        ...

    async def rolled_back(self, component: str) -> None:
        """Note that nothing of what was being applied is there any more."""
        ...

    async def removed(self, component: str) -> None:
        """Forget a component with its outputs."""
        ...

    async def stopped(self, component: str) -> None:
        """Note that no instance of a service runs, by a person's wish; the rest is kept."""
        ...

    async def output(self, reference: OutputReference) -> KeptOutput:
        """The value of an output; raises NotFound where it is not kept."""
        ...

    async def keep(self, component: str, inputs_hash: str, outputs: Sequence[Made]) -> None:
        """Keep all outputs of a component, in place of those it had, in one transaction.

        Raises Refused where one is sensitive and the daemon has no key to seal it with.
        """
        ...

    async def password(self, component: str, role: str) -> str:
        """The password of a role: the one that is kept for it, else a new one, kept before it is returned."""
        ...

    async def job_began(self, component: str, trigger: str, inputs_hash: str, instance: str) -> int:
        """Note that a job starts, and return the number of this attempt among those with the same inputs."""
        ...

    async def job_ended(
        self, component: str, instance: str, *, exit_status: int | None, error: str | None
    ) -> None:
        """Note how an attempt ended; without an error the job is done for its inputs."""
        ...

    async def claim_route(self, component: str, proxy: str, host: str, path: str) -> None:
        """Take a host and path of a proxy for a component; raises Conflict with whose they are."""
        ...
