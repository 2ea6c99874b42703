"""Roll services: start the new instance, wait until it is healthy and stays so, switch, end the old one.

Every part of it may have been done already by a worker that died: it is looked at first, and done once.
"""

import asyncio
from collections.abc import Sequence

from reconciler.errors import PermanentError, Refused, StepFailed, TemporaryError
from reconciler.execution import instances, routes
from reconciler.execution.instances import Placed
from reconciler.execution.programs import (
    machine_of,
    register_of,
    runtime_of,
    spec_of_job,
    spec_of_service,
)
from reconciler.execution.recorded import definition_of, runtimes_of, service_before
from reconciler.execution.register import Applying, Made
from reconciler.execution.resources import Resources
from reconciler.plan.steps import PrepareProgram, RemoveService, RollService
from reconciler.runtimes.runtime import Endpoint, Observed, ServiceSpec
from reconciler.state.programs import DesiredService, OutputType

DRAIN_S = 1.0
"""How long an instance runs on after routes were led elsewhere, for requests on their way to it."""


async def prepare(step: PrepareProgram, resources: Resources) -> None:
    """Do what can be done before anything starts; raises PermanentError with all that is wrong."""
    own = resources.desired.programs
    service = next((part for part in own.services if part.component == step.component), None)
    job = next((part for part in own.jobs if part.component == step.component), None)
    if service is not None:
        spec = await spec_of_service(service, resources, preparing=True)
    elif job is not None:
        spec = await spec_of_job(job, resources, preparing=True)
    else:
        raise Refused(f"component '{step.component}' is not in the commit")
    async with resources.starting:
        await runtime_of(resources, step.runtime).prepare(spec)


async def roll(step: RollService, resources: Resources) -> None:
    """Bring a service to its instance of the plan, or back to the one before; raises why it went back."""
    service = desired_service(step.component, resources)
    if service.definition_hash != step.definition_hash or service.instance != step.instance:
        raise Refused(f"the plan rolls another version of service '{step.component}' than the commit holds")
    spec = await spec_of_service(service, resources)
    await _Roll(step, service, spec, resources).carry_out()


def desired_service(component: str, resources: Resources) -> DesiredService:
    """A service of the commit; Refused where it has none of that name."""
    for service in resources.desired.programs.services:
        if service.component == component:
            return service
    raise Refused(f"component '{component}' is not in the commit")


async def remove(step: RemoveService, resources: Resources) -> None:
    """End all instances of a service, and forget it or note that it is off."""
    names = runtimes_of(step.component, resources, step.runtime)
    found = await instances.look(step.component, resources, names)
    resources.interference.at(f"inside {step.id}")
    await instances.still_ours(resources)
    await instances.end(step.component, found, resources)
    register = register_of(resources)
    await (register.stopped if step.keeps_record else register.removed)(step.component)


class _NotSteady(PermanentError):
    """The new instance is not healthy, or does not stay so; never leaves this module."""


class _Roll:
    """One service on its way to another instance."""

    def __init__(
        self, step: RollService, service: DesiredService, spec: ServiceSpec, resources: Resources
    ) -> None:
        self._step = step
        self._service = service
        self._spec = spec
        self._resources = resources
        self._register = register_of(resources)
        self._runtime = runtime_of(resources, step.runtime)
        self._before = service_before(step.component, resources)
        self._tracked = resources.programs.components.get(step.component)
        self._switched: list[str] = []
        self._what = Applying(
            component=step.component,
            kind="Service",
            stage=service.stage,
            definition_hash=step.definition_hash,
            definition=definition_of(service),
            place=machine_of(resources).place,
            instance=step.instance,
        )

    async def carry_out(self) -> None:
        """All of it; what a worker before us did is found there."""
        step = self._step
        await routes.reach(step.routes, self._resources)
        others = await self._others()
        await self._register.applying(self._what)
        self._at("noted")
        try:
            if not step.beside:
                await instances.end(step.component, others, self._resources)
                self._at("ended")
            observed = await self._started()
            await instances.still_ours(self._resources)
            await self._switch(observed)
        except TemporaryError:
            # Nothing is taken back on a guess: it is gone on with when what is away answers again.
            raise
        except Exception as error:
            await self._go_back(error, others)
            raise
        await self._keep_outputs(observed)
        await self._register.applied(self._what, healed=step.action == "heal")
        self._at("recorded")
        if others and step.beside:
            if step.routes:
                await asyncio.sleep(DRAIN_S)
            await instances.still_ours(self._resources)
            await instances.end(step.component, others, self._resources)

    async def _others(self) -> tuple[Placed, ...]:
        """What there is of it beside the instance of the plan, also where it was run by another runtime."""
        step = self._step
        names = runtimes_of(step.component, self._resources, step.runtime)
        found = await instances.look(step.component, self._resources, names)
        return tuple(
            each
            for each in found
            if each.observed.instance != step.instance or each.runtime.name != step.runtime
        )

    async def _started(self) -> Observed:
        """The new instance, once it is healthy and stayed so for a while."""
        instance = self._step.instance
        await instances.start(self._runtime, self._spec, instance, self._resources)
        self._at("applied")
        outcome = await instances.steady(self._runtime, self._spec, instance, self._resources)
        if not outcome.is_steady or outcome.observed is None:
            raise _NotSteady(outcome.reason)
        self._at("healthy")
        return outcome.observed

    async def _switch(self, observed: Observed) -> None:
        for component in self._step.routes:
            # Noted before: whether a proxy took it is not known where it does not answer.
            self._switched.append(component)
            await routes.lead(component, observed.endpoints, self._resources)
        if self._step.routes:
            self._at("routed")

    async def _keep_outputs(self, observed: Observed) -> None:
        step = self._step
        if not step.produces:
            return
        named = [name.removeprefix(f"{step.component}.") for name in step.produces]
        made = [_output(name, self._service, observed.endpoints) for name in named]
        await self._register.keep(step.component, step.outputs_hash, made)

    def _at(self, point: str) -> None:
        self._resources.interference.at(f"{point} {self._step.id}")

    # ---- going back

    async def _go_back(self, error: Exception, others: Sequence[Placed]) -> None:
        """Take the new instance away and have the old one as it was; raises what people are told of it."""
        step = self._step
        await instances.still_ours(self._resources)
        said = await instances.last_words(self._runtime, self._spec, step.instance)
        is_same = self._tracked is not None and self._tracked.instance == step.instance
        if not is_same:
            back = await self._old_again(others)
            await self._runtime.remove(self._spec.identity, step.instance)
        else:
            # It was live before, and is what there is: its runtime goes on trying.
            back = "it is left as it is"
        self._at("back")
        await self._register.rolled_back(step.component)
        if isinstance(error, _NotSteady):
            raise StepFailed(
                f"rolling service '{step.component}' to instance {step.instance} with the runtime"
                f" '{step.runtime}': {error.message}{said}; {back}",
                hint="mend the service or its health check, or give it longer (health.timeout), and push a"
                " new commit",
            ) from error

    async def _old_again(self, others: Sequence[Placed]) -> str:
        """See to it that requests are served by what was there before; says what that is."""
        step, before, tracked = self._step, self._before, self._tracked
        if before is None or tracked is None or tracked.instance is None:
            return "nothing of it was there before"
        if step.beside:
            old = next((each for each in others if each.observed.instance == tracked.instance), None)
            if old is None:
                return f"the instance before it, {tracked.instance}, is not there any more"
            for component in self._switched:
                await routes.lead(component, old.observed.endpoints, self._resources)
            return f"instance {tracked.instance} goes on"
        # It may hold the data, or the port, that the old one needs.
        await self._runtime.remove(self._spec.identity, step.instance)
        runtime = runtime_of(self._resources, before.program.runtime.value)
        spec = await spec_of_service(before, self._resources)
        try:
            await instances.start(runtime, spec, tracked.instance, self._resources)
            outcome = await instances.steady(runtime, spec, tracked.instance, self._resources)
        except PermanentError as error:
            return f"instance {tracked.instance} does not start again: {error.message}"
        if not outcome.is_steady or outcome.observed is None:
            return f"instance {tracked.instance} was started again and is not healthy: {outcome.reason}"
        for component in step.routes:
            await routes.lead(component, outcome.observed.endpoints, self._resources)
        return f"instance {tracked.instance} runs again"


def _output(name: str, service: DesiredService, endpoints: Sequence[Endpoint]) -> Made:
    """The address of a service: of the port that is named, or of its only one."""
    kind, _, port = name.partition(".")
    wanted = port or service.program.ports[0].name
    found = next((each for each in endpoints if each.name == wanted), None)
    if found is None:
        raise PermanentError(
            f"making the outputs of service '{service.component}': it has no port '{wanted}'"
        )
    if kind == "host":
        return Made(name=name, type=OutputType.STRING, sensitive=False, value=found.host)
    return Made(name=name, type=OutputType.NUMBER, sensitive=False, value=found.port)
