"""Plan the deployments of an environment side by side, by what the control database knows; no writing."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from functools import partial

from reconciler.control import intents
from reconciler.errors import DatabaseUnavailable
from reconciler.events import Event
from reconciler.frozen import frozen
from reconciler.planner.planner import Assessment, Planner, PlanRequest, unread
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.reconcile.turns import in_turns
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState
from reconciler.state.task import ModuleTask

SILENT_PATIENCE_S = 2.0
"""How long those that could not be read the last time are waited for, where others have something to do."""


@frozen
class Before:
    """What is known of deployments before they are planned: databases intended and gates due, read if None.

    `silent` could not be read the last time, and why: they keep nobody else waiting. In a `hurry`, where
    there is something to do on others, they are not waited for either, and are told to be what they were.
    """

    intended: Mapping[str, frozenset[str]] | None = None
    gates_due: Collection[str] | None = None
    silent: Mapping[str, str] = field(default_factory=dict)
    hurry: bool = False


class Assessor:
    """Plans; `control` is None for a dry run where no control database exists yet."""

    def __init__(
        self,
        *,
        control: Dsn | None,
        connections: Connections,
        planner: Planner,
        deployments_in_parallel: int,
        emit: Callable[[Event], None],
    ) -> None:
        self._control = control
        self._connections = connections
        self._planner = planner
        self._parallel = deployments_in_parallel
        self._emit = emit

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection to the control database."""
        if self._control is None:
            raise DatabaseUnavailable(
                "there is no control database yet", hint="start the daemon, or `reconciler control start`"
            )
        async with self._connections.borrow(self._control, role="control") as connection:
            yield connection

    @property
    def has_control(self) -> bool:
        """Whether there is a control database to ask."""
        return self._control is not None

    async def held(self, name: str, commit: str) -> Mapping[str, str]:
        """Deployments on which a rollout of the commit holds, with the reason."""
        if self._control is None:
            return {}
        async with self.connection() as connection:
            return await intents.held(connection, name, commit)

    async def assess(
        self,
        spec: EnvironmentSpec,
        states: Sequence[DesiredState],
        held: Mapping[str, str],
        *,
        resuming: frozenset[str] = frozenset(),
        request: PlanRequest | None = None,
        tasks: Mapping[str, ModuleTask] | None = None,
        before: Before | None = None,
    ) -> list[Assessment]:
        """Plan deployments side by side, within a bound.

        `tasks`, by deployment, is what is asked of modules in place of everything.
        """
        base, before = request or PlanRequest(), before or Before()
        intended, gates_due = before.intended, before.gates_due
        if intended is None:
            intended = await self._intended(states)
        if gates_due is None:
            gates_due = await self.gates_due(states)

        async def made(deployment: str) -> frozenset[str]:
            if self._control is None:
                return frozenset()
            async with self.connection() as connection:
                return await intents.made_databases(connection, states[0].environment, deployment)

        async def one(desired: DesiredState) -> Assessment:
            own = replace(
                base,
                intended=intended.get(desired.deployment, frozenset()),
                made=partial(made, desired.deployment),
                resuming=desired.deployment in resuming,
                held=held.get(desired.deployment),
                task=base.task if tasks is None else tasks[desired.deployment],
                gate_due=desired.deployment in gates_due,
            )
            return await self._planner.assess(spec, desired, own)

        found = await in_turns(
            {desired.deployment: partial(one, desired) for desired in states},
            self._parallel,
            doubtful=before.silent,
            patience_s=_patience if before.hurry else lambda _found: None,
        )
        return [
            found[desired.deployment]
            if desired.deployment in found
            else unread(desired, before.silent[desired.deployment])
            for desired in states
        ]

    async def gates_due(self, states: Sequence[DesiredState]) -> frozenset[str]:
        """Deployments whose gate was not passed when it was asked last; not read where there is no gate."""
        if self._control is None or not any(desired.gate is not None for desired in states):
            return frozenset()
        async with self.connection() as connection:
            return await intents.gates_due(connection, states[0].environment)

    async def _intended(self, states: Sequence[DesiredState]) -> dict[str, frozenset[str]]:
        if self._control is None or not states:
            return {}
        async with self.connection() as connection:
            return await intents.all_intended_databases(connection, states[0].environment)


def _patience(found: Collection[Assessment]) -> float | None:
    return SILENT_PATIENCE_S if any(item.plan.steps for item in found) else None
