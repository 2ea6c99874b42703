"""Look at, start and end instances of services and jobs, each within a bound; it records nothing."""

import asyncio
from collections.abc import Iterable, Sequence

from reconciler.errors import Refused, RuntimeUnavailable
from reconciler.execution.programs import identity_of, machine_of
from reconciler.execution.recorded import check_place
from reconciler.execution.resources import Resources
from reconciler.frozen import frozen
from reconciler.runtimes.health import Outcome, until_steady
from reconciler.runtimes.runtime import Identity, Observed, Runtime, ServiceSpec, ServiceState

LOG_CHARACTERS_MAX = 2000
"""Of what an instance said last, in the error of a rollout that failed."""
START_S = 600.0
"""How long a runtime may take to start something, whatever its own deadlines are."""


@frozen
class Placed:
    """An instance, and the runtime that has it."""

    runtime: Runtime
    observed: Observed


async def look(component: str, resources: Resources, names: Iterable[str]) -> tuple[Placed, ...]:
    """All instances of a component in some runtimes."""
    machine, desired = machine_of(resources), resources.desired
    check_place(component, resources)
    found: list[Placed] = []
    for name in sorted(set(names)):
        runtime = machine.runtimes.get(name)
        if runtime is None:
            raise Refused(
                f"looking for '{component}': it is run by '{name}', which this daemon has not",
                hint="run the daemon where it was applied from, or give it that runtime again",
            )
        seen = await runtime.observe(desired.environment, desired.deployment, component)
        found += [Placed(runtime=runtime, observed=each) for each in seen]
    return tuple(found)


async def start(runtime: Runtime, spec: ServiceSpec, instance: str, resources: Resources) -> Observed:
    """See to it that an instance runs; one that is there and cannot become healthy makes place for itself."""
    identity = spec.identity
    async with resources.starting:
        seen = await runtime.observe(identity.environment, identity.deployment, identity.component)
        there = next((each for each in seen if each.instance == instance), None)
        if there is not None and _is_spent(there, spec):
            await runtime.remove(identity, instance)
        await still_ours(resources)
        try:
            async with asyncio.timeout(START_S):
                return await runtime.apply(spec, instance)
        except TimeoutError:
            raise RuntimeUnavailable(
                f"starting service '{identity}': the runtime '{runtime.name}' took longer than {START_S:g} s"
            ) from None


async def still_ours(resources: Resources) -> None:
    """Raise LeaseLost where another worker goes on with it: one that hung for long touches nothing more."""
    if resources.confirm is not None:
        await resources.confirm()


def _is_spent(there: Observed, spec: ServiceSpec) -> bool:
    if there.definition_hash != spec.definition_hash:
        return True
    return there.state in {ServiceState.UNHEALTHY, ServiceState.UNKNOWN}


async def steady(runtime: Runtime, spec: ServiceSpec, instance: str, resources: Resources) -> Outcome:
    """Wait until an instance is healthy and stays so, or will not be.

    Raises RuntimeUnavailable where in the end its runtime did not answer: then nothing is known of it.
    """

    async def seen() -> Observed | None:
        if resources.urgent is not None:
            resources.urgent()
        try:
            return await _one(runtime, spec.identity, instance)
        except RuntimeUnavailable as error:
            return Observed(
                identity=spec.identity, instance=instance, state=ServiceState.UNKNOWN, reason=error.message
            )

    outcome = await until_steady(spec, seen)
    if outcome.observed is not None and outcome.observed.state is ServiceState.UNKNOWN:
        raise RuntimeUnavailable(f"waiting for service '{spec.identity}': {outcome.reason}")
    return outcome


async def _one(runtime: Runtime, identity: Identity, instance: str) -> Observed | None:
    found = await runtime.observe(identity.environment, identity.deployment, identity.component)
    return next((each for each in found if each.instance == instance), None)


async def end(component: str, found: Sequence[Placed], resources: Resources) -> None:
    """End instances side by side, each in its own grace; all are tried before the first error is raised."""
    identity = identity_of(resources, component)
    done = await asyncio.gather(
        *(each.runtime.remove(identity, each.observed.instance) for each in found), return_exceptions=True
    )
    for error in done:
        if isinstance(error, BaseException):
            raise error


async def last_words(runtime: Runtime, spec: ServiceSpec, instance: str) -> str:
    """The end of what an instance said, for an error; empty where it said nothing."""
    try:
        said = await runtime.log_end(spec, instance)
    except RuntimeUnavailable:
        return ""
    said = said.strip()[-LOG_CHARACTERS_MAX:].strip()
    return f"; it said last: {said}" if said else ""
