"""Short ways to fill a control database and to look into it, for tests of what stands on it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from reconciler.control import claims, rollouts, views, workers
from reconciler.control.claims import Claim
from reconciler.control.environments import DeploymentObservation, Observation, observe
from reconciler.control.rollouts import NewOperation, NewRollout, NewStep
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.rollout.states import OperationState
from reconciler.rollout.status import RolloutStatus
from reconciler.rollout.summary import RolloutPolicy

LEASE_S = 30.0
PARALLEL = RolloutPolicy(order="parallel", max_parallel=10)


class Control:
    """One control database, with connections that are closed at the end of the test."""

    def __init__(self, dsn: Dsn, stack: AsyncExitStack) -> None:
        self.dsn = dsn
        self._stack = stack
        self.connection: Connection

    async def connect(self) -> Connection:
        """One more connection."""
        connection = await connect(self.dsn, role="test")
        self._stack.push_async_callback(connection.close)
        return connection

    async def worker(
        self, name: str = "worker", lease_s: float = LEASE_S, *, sources: Collection[str] = ("platform",)
    ) -> workers.Worker:
        """A living worker with a session of its own."""
        return await self.register(await self.connect(), name=name, lease_s=lease_s, sources=sources)

    async def register(
        self,
        session: Connection,
        *,
        name: str,
        lease_s: float = LEASE_S,
        sources: Collection[str] = ("platform",),
        passes: bool = True,
    ) -> workers.Worker:
        """A worker that lives as long as a session does."""
        return await workers.register(session, name=name, sources=sources, passes=passes, lease_s=lease_s)

    async def claim(self, worker: workers.Worker, lease_s: float = LEASE_S) -> Claim | None:
        """What the worker gets to work on."""
        return await claims.claim(self.connection, worker, lease_s=lease_s)

    async def must_claim(self, worker: workers.Worker, lease_s: float = LEASE_S) -> Claim:
        """The same, where there must be something."""
        claim = await self.claim(worker, lease_s)
        assert claim is not None
        return claim

    async def record(
        self,
        *deployments: str,
        environment: str = "production",
        commit: str = "a" * 40,
        policy: RolloutPolicy = PARALLEL,
        **changes: Any,
    ) -> str:
        """Record a rollout of an operation for each deployment."""
        new = new_rollout(*deployments, environment=environment, commit=commit, policy=policy)
        return await rollouts.record(self.connection, replace(new, **changes))

    async def rollout(self, rollout: str) -> RolloutStatus:
        """A rollout as people see it."""
        return await views.read_rollout(self.connection, rollout, steps=True)

    async def states(self, rollout: str) -> dict[str, str]:
        """The states of the operations of a rollout by deployment."""
        return {item.deployment: item.state.value for item in (await self.rollout(rollout)).operations}

    async def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        cursor = await self.connection.execute(statement, parameters or None)  # type: ignore[call-overload]
        return list(await cursor.fetchall()) if cursor.description is not None else []

    async def kinds(self) -> list[str]:
        """The kinds of all events in order."""
        return [row[0] for row in await self.rows("SELECT kind FROM reconciler_control.events ORDER BY id")]

    async def observe(self, *deployments: DeploymentObservation, **changes: Any) -> None:
        """Record a pass over `production`."""
        observation = Observation(
            name="production",
            source="platform",
            path="environments/production.yaml",
            head_commit="a" * 40,
            observed_commit="a" * 40,
            mode="auto",
            deployments=deployments,
        )
        await observe(self.connection, replace(observation, **changes))


def new_rollout(
    *deployments: str,
    environment: str = "production",
    commit: str = "a" * 40,
    policy: RolloutPolicy = PARALLEL,
    initial: OperationState = OperationState.PENDING,
    digest: str = "sha256:1",
) -> NewRollout:
    """A rollout with one step per deployment."""
    return NewRollout(
        environment=environment,
        source="platform",
        commit=commit,
        scope="full",
        policy=policy,
        reason="commit",
        requested_by="reconciler",
        operations=tuple(
            NewOperation(
                deployment=deployment,
                ordinal=ordinal,
                plan={"name": deployment},
                plan_digest=digest,
                initial=initial,
                steps=(
                    NewStep(
                        id="s1",
                        ordinal=0,
                        stage="migrations",
                        kind="deploy-change",
                        component="shop",
                        identity="change one",
                    ),
                    NewStep(
                        id="s2",
                        ordinal=1,
                        stage="migrations",
                        kind="deploy-change",
                        component="shop",
                        identity="change two",
                    ),
                ),
            )
            for ordinal, deployment in enumerate(deployments)
        ),
    )


async def until(condition: Callable[[], Awaitable[bool]], *, deadline_s: float = 60.0) -> None:
    """Poll a condition until it holds."""
    deadline = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        await asyncio.sleep(0.02)
