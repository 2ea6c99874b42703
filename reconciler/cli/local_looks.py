"""Looking at the databases themselves, where no daemon answers; a command that only looks imports no more.

Coroutines run on one loop that lives as long as the command; between calls it stands still.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from reconciler.cli.backend import Json
from reconciler.daemon.local_readers import Opened, open_readers
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.reconcile.looking import Looking
from reconciler.settings import Settings
from reconciler.state.module_requests import LogRequest, VerifyRequest
from reconciler.web.values import to_json

What = TypeVar("What")
T = TypeVar("T")


class LocalLooks(Generic[What]):
    """Calls what looks, in this process."""

    local = True

    def __init__(
        self, opening: AbstractAsyncContextManager[What], looking: Callable[[What], Looking]
    ) -> None:
        """Open what is given, until it is closed; `looking` is found in that."""
        # Reads that are given up because the command is refused are nothing to tell people of.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        self._runner = asyncio.Runner()
        self._opening = opening
        try:
            self.opened: What = self._runner.run(self._enter())
        except BaseException:
            self._runner.close()
            raise
        self._looking = looking(self.opened)

    async def _enter(self) -> What:
        return await self._opening.__aenter__()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        found: list[T] = []

        async def run() -> None:
            found.append(await coroutine)

        # Nothing is returned through the runner: behind every run it writes out its task with its result, in
        # an error that nobody sees, and that of a rollout is long.
        self._runner.run(run())
        return found[0]

    def diff(
        self,
        name: str,
        *,
        ref: str | None,
        deployment: str | None,
        scope: str | None,
        spec: bytes | None = None,
        redeploy: Sequence[str] = (),
    ) -> Json:
        """The dry run."""
        plan = self._run(
            self._looking.preview(
                name, ref=ref, deployment=deployment, scope=scope, posted=spec, redeploy=frozenset(redeploy)
            )
        )
        return plan_to_json(plan)

    def module_status(self, name: str, *, deployment: str | None, module: str | None = None) -> Json:
        """What is deployed, pending and diverged of every module."""
        return as_object(self._run(self._looking.module_status(name, deployment=deployment, module=module)))

    def module_log(self, name: str, request: LogRequest, *, deployment: str | None) -> Json:
        """What was deployed and what failed."""
        return as_object(self._run(self._looking.module_log(name, request, deployment=deployment)))

    def module_verify(self, name: str, request: VerifyRequest, *, deployment: str | None) -> Json:
        """Run the verify scripts of what is deployed."""
        return as_object(self._run(self._looking.module_verify(name, request, deployment=deployment)))

    def close(self) -> None:
        """Close everything that was opened."""
        try:
            self._run(self._leave())
        finally:
            self._runner.close()

    async def _leave(self) -> None:
        await self._opening.__aexit__(None, None, None)


def open_looks(settings: Settings, environ: Mapping[str, str]) -> LocalLooks[Opened]:
    """Open what looks; nothing is started or written."""
    opening = open_readers(settings, environ, needs_control=False)
    return LocalLooks(opening, lambda opened: opened.readers.looking)


def as_object(value: Any) -> Json:
    """A value as the HTTP API gives it out."""
    found: Json = to_json(value)
    return found
