"""The databases themselves as a backend: where no daemon answers, this process is the worker.

Coroutines run on one loop that lives as long as the command; between calls it stands still.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from reconciler.cli.backend import Json
from reconciler.daemon.local import Local, open_local
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.settings import Settings
from reconciler.state.module_requests import LogRequest, VerifyRequest
from reconciler.state.registry import RegistryKind
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.web.values import to_json

REQUESTED_BY = "command line"
LOOK_EVERY_S = 0.2
LOOK_SHARE = 20
"""How many times as long as a look takes we wait for the next one, within bounds."""
LOOK_EVERY_MOST_S = 2.0

T = TypeVar("T")


class LocalBackend:
    """Calls the reconciler of this process."""

    local = True

    def __init__(self, settings: Settings, environ: Mapping[str, str], *, needs_control: bool) -> None:
        self._runner = asyncio.Runner()
        self._opened = open_local(settings, environ, needs_control=needs_control)
        try:
            self._local: Local = self._runner.run(self._enter())
        except BaseException:
            self._runner.close()
            raise

    async def _enter(self) -> Local:
        return await self._opened.__aenter__()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def environments(self) -> list[Json]:
        """All environments, as they are now: no daemon has looked for us."""
        self._run(self._local.look())
        return [to_json(status) for status in self._run(self._local.reconciler.environments())]

    def environment(self, name: str) -> Json:
        """One environment, as it is now."""
        self._run(self._local.look())
        return _object(self._run(self._local.reconciler.environment(name)))

    def diff(
        self,
        name: str,
        *,
        ref: str | None,
        deployment: str | None,
        scope: str | None,
        spec: bytes | None = None,
    ) -> Json:
        """The dry run."""
        reconciler = self._local.reconciler
        plan = self._run(reconciler.preview(name, ref=ref, deployment=deployment, scope=scope, posted=spec))
        return plan_to_json(plan)

    def apply(
        self,
        name: str,
        *,
        ref: str | None,
        deployment: str | None,
        scope: str | None,
        reason: str,
        allow_hazards: list[str],
    ) -> Json | None:
        """Record a rollout; None where there is nothing to do."""
        recorded = self._run(
            self._local.reconciler.apply(
                name,
                ref=ref,
                deployment=deployment,
                scope=scope,
                reason=reason or "applied on the command line",
                requested_by=REQUESTED_BY,
                allow_hazards=frozenset(allow_hazards),
            )
        )
        return _object(recorded) if recorded is not None else None

    def rollouts(self, name: str, *, limit: int) -> list[Json]:
        """The latest rollouts, newest first."""
        return [to_json(status) for status in self._run(self._local.reconciler.rollouts(name, limit=limit))]

    def rollout(self, rollout: str) -> Json:
        """One rollout with its steps."""
        return _object(self._run(self._local.reconciler.rollout(rollout)))

    def request(
        self, rollout: str, verb: str, *, deployment: str | None, reason: str = "", digest: str | None = None
    ) -> Json:
        """Ask something of a rollout."""
        return _object(
            self._run(
                self._local.reconciler.request(
                    rollout,
                    verb,
                    deployment=deployment,
                    requested_by=REQUESTED_BY,
                    reason=reason,
                    digest=digest,
                )
            )
        )

    def steer(self, name: str, verb: str, *, reason: str) -> Json:
        """Suspend, resume or reconcile an environment."""
        reconciler = self._local.reconciler
        if verb == "suspend":
            why = reason or "suspended on the command line"
            self._run(reconciler.suspend(name, reason=why, requested_by=REQUESTED_BY))
        elif verb == "resume":
            self._run(reconciler.resume(name, requested_by=REQUESTED_BY))
        else:
            self._run(reconciler.reconcile(name, requested_by=REQUESTED_BY))
        return self.environment(name)

    def events(self, name: str, *, after: int | None, limit: int) -> list[Json]:
        """Events of an environment by rising id."""
        reconciler = self._local.reconciler
        return [
            to_json(row) for row in self._run(reconciler.events(environment=name, after=after, limit=limit))
        ]

    def module_status(self, name: str, *, deployment: str | None, module: str | None = None) -> Json:
        """What is deployed, pending and diverged of every module."""
        reconciler = self._local.reconciler
        return _object(self._run(reconciler.module_status(name, deployment=deployment, module=module)))

    def module_log(self, name: str, request: LogRequest, *, deployment: str | None) -> Json:
        """What was deployed and what failed."""
        return _object(self._run(self._local.reconciler.module_log(name, request, deployment=deployment)))

    def module_verify(self, name: str, request: VerifyRequest, *, deployment: str | None) -> Json:
        """Run the verify scripts of what is deployed."""
        return _object(self._run(self._local.reconciler.module_verify(name, request, deployment=deployment)))

    def module_plan(self, name: str, module: str | None, verb: str, asked: Json) -> Json:
        """The dry run of a deploy or a revert of a module, or of all."""
        plan = self._run(
            self._local.reconciler.preview_module(
                name,
                _task(module, verb, asked),
                deployment=asked["deployment"],
                allow_hazards=frozenset(asked["allow_hazards"]),
            )
        )
        return plan_to_json(plan)

    def module_run(self, name: str, module: str | None, verb: str, asked: Json) -> Json | None:
        """Record a rollout of one; None where there is nothing to do."""
        recorded = self._run(
            self._local.reconciler.run_module(
                name,
                _task(module, verb, asked),
                deployment=asked["deployment"],
                reason=asked["reason"] or f"module {verb} on the command line",
                requested_by=REQUESTED_BY,
                allow_hazards=frozenset(asked["allow_hazards"]),
            )
        )
        return _object(recorded) if recorded is not None else None

    def watch(self, rollout: str) -> Iterator[Json]:
        """Work on the rollout, and show it meanwhile; leaving the loop early hands the work back."""
        task = self._run(self._start(rollout))
        try:
            pause = LOOK_EVERY_S
            while True:
                ended = self._run(self._look(task, pause))
                began = time.monotonic()
                yield self.rollout(rollout)
                # The work waits meanwhile: a rollout of many steps is looked at less often.
                pause = max(LOOK_EVERY_S, min(LOOK_SHARE * (time.monotonic() - began), LOOK_EVERY_MOST_S))
                if ended:
                    task.result()
                    return
        finally:
            self._run(self._end(task))

    async def _start(self, rollout: str) -> "asyncio.Task[Any]":
        return asyncio.create_task(self._local.work(rollout))

    @staticmethod
    async def _look(task: "asyncio.Task[Any]", pause: float) -> bool:
        await asyncio.wait({task}, timeout=pause)
        return task.done()

    @staticmethod
    async def _end(task: "asyncio.Task[Any]") -> None:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task

    def close(self) -> None:
        """Close everything that was opened."""
        try:
            self._run(self._leave())
        finally:
            self._runner.close()

    async def _leave(self) -> None:
        await self._opened.__aexit__(None, None, None)


def _object(value: Any) -> Json:
    found: Json = to_json(value)
    return found


def _task(module: str | None, verb: str, asked: Json) -> ModuleTask:
    return ModuleTask(
        verb=TaskVerb(verb),
        module=module,
        to=asked.get("to"),
        everything=asked.get("all", False),
        with_dependents=asked.get("with_dependents", False),
        log_only=asked.get("log_only", False),
        adopt_from=RegistryKind(asked["adopt_from"]) if "adopt_from" in asked else None,
        registry=asked.get("registry"),
        createdb=asked.get("createdb", False),
    )
