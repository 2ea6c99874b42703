"""The databases themselves as a backend: where no daemon answers, this process is the worker."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from reconciler.cli.backend import Json
from reconciler.cli.local_looks import LocalLooks, as_object
from reconciler.control.views import StepsSeen
from reconciler.daemon.local import Local, open_local
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.plan.model import ObjectsAsked
from reconciler.settings import Settings
from reconciler.state.registry import RegistryKind
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.web.values import to_json

REQUESTED_BY = "command line"
LOOK_EVERY_S = 0.2
LOOK_SHARE = 20
"""How many times as long as a look takes we wait for the next one, within bounds."""
LOOK_EVERY_MOST_S = 2.0


class LocalBackend(LocalLooks[Local]):
    """Calls the reconciler of this process."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], *, needs_control: bool) -> None:
        super().__init__(
            open_local(settings, environ, needs_control=needs_control), lambda local: local.reconciler
        )

    @property
    def _local(self) -> Local:
        return self.opened

    def environments(self) -> list[Json]:
        """All environments, as they are now: no daemon has looked for us."""
        self._run(self._local.look())
        return [to_json(status) for status in self._run(self._local.reconciler.environments())]

    def environment(self, name: str) -> Json:
        """One environment, as it is now."""
        self._run(self._local.look())
        return as_object(self._run(self._local.reconciler.environment(name)))

    def apply(
        self,
        name: str,
        *,
        ref: str | None,
        deployment: str | None,
        scope: str | None,
        reason: str,
        allow_hazards: list[str],
        redeploy: Sequence[str] = (),
        keep_failed: bool = False,
    ) -> Json | None:
        """Record a rollout; None where there is nothing to do."""
        recorded = self._run(
            self._local.reconciler.apply(
                name,
                ref=ref,
                deployment=deployment,
                scope=scope,
                reason=reason,
                requested_by=REQUESTED_BY,
                allow_hazards=frozenset(allow_hazards),
                objects=ObjectsAsked(redeploy=frozenset(redeploy), keep_failed=keep_failed),
            )
        )
        return as_object(recorded) if recorded is not None else None

    def rollouts(self, name: str, *, limit: int) -> list[Json]:
        """The latest rollouts, newest first."""
        return [to_json(status) for status in self._run(self._local.reconciler.rollouts(name, limit=limit))]

    def rollout(self, rollout: str) -> Json:
        """One rollout with its steps."""
        return as_object(self._run(self._local.reconciler.rollout(rollout)))

    def request(
        self, rollout: str, verb: str, *, deployment: str | None, reason: str = "", digest: str | None = None
    ) -> Json:
        """Ask something of a rollout."""
        return as_object(
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
        elif verb == "stop":
            self._run(reconciler.stop(name, reason=reason, requested_by=REQUESTED_BY))
        elif verb == "start":
            self._run(reconciler.start(name, reason=reason, requested_by=REQUESTED_BY))
        else:
            self._run(reconciler.reconcile(name, requested_by=REQUESTED_BY))
        return self.environment(name)

    def removal(self, name: str, databases: Sequence[str]) -> Json:
        """The dry run of removing an environment that left its source."""
        return plan_to_json(self._run(self._local.reconciler.preview_removal(name, databases)))

    def remove(self, name: str, databases: Sequence[str], *, reason: str) -> Json | None:
        """Record the rollout that removes it."""
        why = reason or "removed on the command line"
        reconciler = self._local.reconciler
        recorded = self._run(reconciler.remove(name, databases, reason=why, requested_by=REQUESTED_BY))
        return as_object(recorded) if recorded is not None else None

    def forget(self, name: str, deployment: str, *, reason: str) -> Json:
        """Stop telling of a deployment that left."""
        reconciler = self._local.reconciler
        self._run(reconciler.forget(name, deployment, reason=reason, requested_by=REQUESTED_BY))
        return self.environment(name)

    def outputs(self, name: str, *, deployment: str | None) -> list[Json]:
        """What its components put out."""
        found = self._run(self._local.reconciler.outputs(name, deployment=deployment))
        return [to_json(row) for row in found]

    def jobs(self, name: str) -> list[Json]:
        """Its jobs."""
        return [to_json(row) for row in self._run(self._local.reconciler.jobs(name))]

    def events(self, name: str, *, after: int | None, limit: int) -> list[Json]:
        """Events of an environment by rising id."""
        reconciler = self._local.reconciler
        return [
            to_json(row) for row in self._run(reconciler.events(environment=name, after=after, limit=limit))
        ]

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
        rollout = self._run(
            self._local.reconciler.record_module(
                name,
                _task(module, verb, asked),
                deployment=asked["deployment"],
                reason=asked["reason"] or f"module {verb} on the command line",
                requested_by=REQUESTED_BY,
                allow_hazards=frozenset(asked["allow_hazards"]),
            )
        )
        if rollout is None:
            return None
        return as_object(self._run(self._local.reconciler.rollout(rollout, steps=False)))

    def watch(self, rollout: str) -> Iterator[Json]:
        """Work on the rollout, and show it meanwhile; leaving the loop early hands the work back."""
        task, seen = self._run(self._start(rollout)), StepsSeen()
        try:
            pause = LOOK_EVERY_S
            while True:
                ended = self._run(self._look(task, pause))
                began = time.monotonic()
                yield as_object(self._run(self._local.reconciler.progress(rollout, seen)))
                # The work waits meanwhile: a rollout that takes long to tell is looked at less often.
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
