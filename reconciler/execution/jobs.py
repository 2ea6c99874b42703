"""Run jobs to their end and keep what they put out; a run survives the worker that started it.

The run of an operation bears its number: who comes after a worker that died waits for that one.
"""

import asyncio
import secrets
import time
from collections.abc import Container
from contextlib import suppress
from typing import Protocol

from reconciler.errors import PermanentError, Refused, RuntimeUnavailable, StepFailed, TemporaryError
from reconciler.execution import instances, job_outputs
from reconciler.execution.programs import machine_of, register_of, runtime_of, spec_of_job
from reconciler.execution.recorded import definition_of, runtimes_of
from reconciler.execution.register import Applying
from reconciler.execution.resources import Resources
from reconciler.plan.steps import ConsumeOutputs, ForgetJob, RunJob
from reconciler.runtimes.runtime import Observed, ServiceSpec, ServiceState
from reconciler.spec.values import OutputReference
from reconciler.state.programs import DesiredJob

LOOK_AGAIN_S = 0.05
LOOK_AGAIN_MOST_S = 1.0
"""Pauses between looks at a run; they double."""


class SafePoints(Protocol):
    """Says, between attempts at a job, whether there may be another one."""

    async def safe_point(self) -> None:
        """Nothing is under way; raises to stop."""


async def run_job(step: RunJob, resources: Resources, journal: SafePoints) -> None:
    """Run a job until it is done with its inputs; raises StepFailed after its last attempt."""
    jobs = (job for job in resources.desired.programs.jobs if job.component == step.component)
    job = next(jobs, None)
    if job is None or job.inputs_hash != step.inputs_hash:
        raise Refused(f"the plan runs another version of job '{step.component}' than the commit holds")
    why: str | None = None
    run = _Run(step, job, await spec_of_job(job, resources), resources)
    for attempt in range(1, step.attempts + 1):
        if attempt > 1:
            await journal.safe_point()
        why = await run.once()
        if why is None:
            return
    times = f" in {step.attempts} attempts" if step.attempts > 1 else ""
    raise StepFailed(
        f"running job '{step.component}' with the runtime '{step.runtime}'{times}: {why}",
        hint="mend what it needs and retry, or push a new commit",
    )


async def clear(resources: Resources, planned: Container[str]) -> None:
    """Remove runs that a worker was about to remove when it died; jobs that are planned see to theirs."""
    for component in sorted(resources.left_runs):
        if component not in planned:
            found = await instances.look(component, resources, runtimes_of(component, resources))
            await instances.end(component, found, resources)


async def forget(step: ForgetJob, resources: Resources) -> None:
    """End what may be left of its runs, and forget it with its outputs."""
    found = await instances.look(step.component, resources, runtimes_of(step.component, resources))
    resources.interference.at(f"inside {step.id}")
    await instances.end(step.component, found, resources)
    await register_of(resources).removed(step.component)


async def consume(step: ConsumeOutputs, resources: Resources) -> None:
    """See to it that outputs are kept whose consumers are left out; raises NotFound where one is not."""
    for name in step.consumes:
        component, _, output = name.partition(".")
        await register_of(resources).output(OutputReference(component=component, output=output))


def _check_exit(ended: Observed) -> None:
    if ended.exit_status is None:
        raise _Failed(ended.reason or "how it ended is not known")
    if ended.exit_status != 0:
        raise _Failed(f"it exited with {ended.exit_status}", ended.exit_status)


class _Failed(Exception):
    """A run failed, and another attempt may be made; never leaves this module."""

    def __init__(self, why: str, exit_status: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.exit_status = exit_status


class _Run:
    """Attempts at one job."""

    def __init__(self, step: RunJob, job: DesiredJob, spec: ServiceSpec, resources: Resources) -> None:
        self._step = step
        self._job = job
        self._spec = spec
        self._resources = resources
        self._runtime = runtime_of(resources, step.runtime)
        self._register = register_of(resources)
        self._operation = resources.owner.operation

    async def once(self) -> str | None:
        """One attempt, begun now or by a worker before us; returns why it failed."""
        instance, observed = await self._begun()
        try:
            ended = await self._ended(instance, observed)
            _check_exit(ended)
            await self._keep(instance)
        except TemporaryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the attempt is over and is to be ended
            return await self._failed(instance, error)
        step = self._step
        await self._register.job_ended(step.component, instance, exit_status=0, error=None)
        await self._register.applied(self._what(instance))
        self._at("recorded")
        await self._runtime.remove(self._spec.identity, instance)
        return None

    async def _begun(self) -> tuple[str, Observed | None]:
        """The run that is under way for this operation, or a new one; what other operations left is ended."""
        step, prefix = self._step, f"{self._operation}-"
        found = await instances.look(
            step.component, self._resources, runtimes_of(step.component, self._resources, step.runtime)
        )
        ours = next(
            (
                each
                for each in found
                if each.observed.instance.startswith(prefix)
                and each.runtime.name == step.runtime
                and each.observed.definition_hash == step.inputs_hash
            ),
            None,
        )
        await instances.end(step.component, [each for each in found if each is not ours], self._resources)
        if ours is not None:
            return ours.observed.instance, ours.observed
        instance = f"{prefix}{secrets.token_hex(4)}"
        await self._register.applying(self._what(instance))
        await self._register.job_began(step.component, step.trigger, step.inputs_hash, instance)
        self._at("noted")
        return instance, None

    async def _ended(self, instance: str, observed: Observed | None) -> Observed:
        """Wait until a run is over, as long as the job may take."""
        left_s, pause_s = self._step.timeout_s, LOOK_AGAIN_S
        if observed is None or (observed.state is ServiceState.EXITED and not observed.starts):
            async with self._resources.starting:
                observed = await self._runtime.apply(self._spec, instance)
            self._at("applied")
        elif observed.since is not None:
            left_s = min(left_s, max(0.0, left_s - (time.time() - observed.since)))
        deadline = time.monotonic() + left_s
        while observed.state is not ServiceState.EXITED:
            if time.monotonic() >= deadline:
                raise _Failed(f"it did not end within {self._step.timeout_s:g} s, and was ended")
            if self._resources.urgent is not None:
                self._resources.urgent()
            await asyncio.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(pause_s * 2, LOOK_AGAIN_MOST_S)
            seen = await self._observed(instance)
            if seen is None:
                raise _Failed("it is not there any more: somebody removed it")
            observed = seen
        return observed

    async def _observed(self, instance: str) -> Observed | None:
        identity = self._spec.identity
        found = await self._runtime.observe(identity.environment, identity.deployment, identity.component)
        return next((each for each in found if each.instance == instance), None)

    async def _keep(self, instance: str) -> None:
        """Check what it wrote, and keep what is asked for."""
        step = self._step
        if not self._job.outputs:
            return
        made = job_outputs.read_outputs(self._job, await self._runtime.output(self._spec, instance))
        wanted = {name.removeprefix(f"{step.component}.") for name in step.produces}
        await self._register.keep(
            step.component, step.inputs_hash, [each for each in made if each.name in wanted]
        )
        self._at("kept")

    async def _failed(self, instance: str, error: Exception) -> str:
        """Note how an attempt failed, and end it; what another attempt cannot mend is raised."""
        step = self._step
        why = str(error) if not isinstance(error, _Failed) else error.why
        status = error.exit_status if isinstance(error, _Failed) else None
        said = await self._last_words(instance)
        await self._register.job_ended(step.component, instance, exit_status=status, error=f"{why}{said}")
        await self._runtime.remove(self._spec.identity, instance)
        await self._register.rolled_back(step.component)
        if not isinstance(error, _Failed | PermanentError):
            raise error
        return f"{why}{said}"

    async def _last_words(self, instance: str) -> str:
        said = await instances.last_words(self._runtime, self._spec, instance)
        content = None
        if self._job.outputs:
            with suppress(PermanentError, RuntimeUnavailable):
                content = await self._runtime.output(self._spec, instance)
        return job_outputs.without_sensitive(self._job, content, said)

    def _what(self, instance: str) -> Applying:
        job = self._job
        return Applying(
            component=job.component,
            kind="Job",
            stage=job.stage,
            definition_hash=job.inputs_hash,
            definition=definition_of(job),
            place=machine_of(self._resources).place,
            instance=instance,
        )

    def _at(self, point: str) -> None:
        self._resources.interference.at(f"{point} {self._step.id}")
