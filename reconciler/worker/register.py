"""The register of one operation: what it does to services, jobs, routes and outputs, in the control database.

Sensitive values are sealed here before they are kept, and opened when they are used; nothing else opens them.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Protocol

from reconciler.control import programs
from reconciler.control.claims import Claim
from reconciler.control.programs import Definition, RouteClaim, StoredOutput
from reconciler.errors import NotFound, Refused
from reconciler.execution.register import Applying, KeptOutput, Made
from reconciler.spec.values import OutputReference
from reconciler.worker.lease import ControlAccess

PASSWORD_BYTES = 24
"""Of chance, in a generated password."""


class Sealer(Protocol):
    """Seals values for a key of the daemon's settings, and keeps them out of logs."""

    def seal(self, text: str) -> str:
        """A text sealed. Raises Refused where there is no key for that."""
        ...

    def unseal(self, sealed: str) -> str:
        """The text again. Raises NotFound and Refused."""
        ...

    def forbid(self, value: str) -> None:
        """No log shows this value from now on."""
        ...


def opened(sealer: Sealer, sealed: str, what: str) -> str:
    """What is in a sealed text; raises Refused, which says of what."""
    try:
        return sealer.unseal(sealed)
    except (NotFound, Refused) as error:
        raise Refused(f"opening {what}: {error.message}", hint=error.hint) from error


class ControlRegister:
    """The record of one deployment, written under the lease of one operation."""

    def __init__(self, claim: Claim, control: ControlAccess, sealer: Sealer) -> None:
        self._claim = claim
        self._control = control
        self._sealer = sealer

    async def applying(self, what: Applying) -> None:
        """Note what is about to be there."""
        async with self._control.connection() as connection:
            await programs.applying(connection, self._claim, _definition(what))

    async def applied(self, what: Applying, *, healed: bool = False) -> None:
        """Note that it is live in place of what was before."""
        async with self._control.connection() as connection:
            await programs.applied(connection, self._claim, _definition(what), healed=healed)

    async def rolled_back(self, component: str) -> None:
        """Note that nothing of what was being applied is there any more."""
        async with self._control.connection() as connection:
            await programs.rolled_back(connection, self._claim, component)

    async def removed(self, component: str) -> None:
        """Forget a component with its outputs."""
        async with self._control.connection() as connection:
            await programs.removed(connection, self._claim, component)

    async def stopped(self, component: str) -> None:
        """Note that no instance of a service runs."""
        async with self._control.connection() as connection:
            await programs.stopped(connection, self._claim, component)

    async def output(self, reference: OutputReference) -> KeptOutput:
        """The value of an output; raises NotFound where it is not kept."""
        async with self._control.connection() as connection:
            found = await programs.read_output(connection, self._claim, reference.component, reference.output)
        if found is None:
            raise NotFound(
                f"the output '{reference}' is not there",
                hint=f"'{reference.component}' has to be rolled out before what takes its outputs",
            )
        if found.sealed is None:
            return KeptOutput(value=found.value, sensitive=False, inputs_hash=found.inputs_hash)
        value = json.loads(opened(self._sealer, found.sealed, f"output '{reference}'"))
        self._forbid(value)
        return KeptOutput(value=value, sensitive=True, inputs_hash=found.inputs_hash)

    async def keep(self, component: str, inputs_hash: str, outputs: Sequence[Made]) -> None:
        """Keep all outputs of a component, in place of those it had."""
        stored = [self._stored(made) for made in outputs]
        async with self._control.connection() as connection:
            await programs.keep_outputs(connection, self._claim, component, inputs_hash, stored)

    async def password(self, component: str, role: str) -> str:
        """The password of a role: the one that is kept for it, else a new one, kept before it is returned."""
        async with self._control.connection() as connection:
            sealed = await programs.read_password(connection, self._claim, component, role)
        if sealed is None:
            made = self._sealer.seal(secrets.token_urlsafe(PASSWORD_BYTES))
            async with self._control.connection() as connection:
                sealed = await programs.keep_password(connection, self._claim, component, role, made)
        password = opened(self._sealer, sealed, f"the password of role '{role}' of '{component}'")
        self._sealer.forbid(password)
        return password

    async def job_began(self, component: str, trigger: str, inputs_hash: str, instance: str) -> int:
        """Note that a job starts, and return the number of this attempt."""
        async with self._control.connection() as connection:
            return await programs.job_began(
                connection,
                self._claim,
                component,
                trigger=trigger,
                inputs_hash=inputs_hash,
                instance=instance,
            )

    async def job_ended(
        self, component: str, instance: str, *, exit_status: int | None, error: str | None
    ) -> None:
        """Note how an attempt ended; without an error the job is done for its inputs."""
        async with self._control.connection() as connection:
            await programs.job_ended(
                connection, self._claim, component, instance, exit_status=exit_status, error=error
            )

    async def claim_route(self, component: str, proxy: str, host: str, path: str) -> None:
        """Take a host and path of a proxy for a component; raises Conflict with whose they are."""
        wanted = RouteClaim(component=component, proxy=proxy, host=host, path=path)
        async with self._control.connection() as connection:
            await programs.claim_route(connection, self._claim, wanted)

    def _stored(self, made: Made) -> StoredOutput:
        if not made.sensitive:
            return StoredOutput(name=made.name, type=made.type.value, value=made.value)
        self._forbid(made.value)
        sealed = self._sealer.seal(json.dumps(made.value, ensure_ascii=False))
        return StoredOutput(name=made.name, type=made.type.value, sealed=sealed)

    def _forbid(self, value: object) -> None:
        """A text as it is; of anything else there is no one form that a log would show."""
        if isinstance(value, str):
            self._sealer.forbid(value)


def _definition(what: Applying) -> Definition:
    return Definition(
        component=what.component,
        kind=what.kind,
        stage=what.stage,
        definition_hash=what.definition_hash,
        definition=what.definition,
        place=what.place,
        instance=what.instance,
    )
