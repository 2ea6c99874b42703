"""What commands ask of a reconciler, in a daemon or in this process: the same JSON values from both."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from reconciler.state.module_requests import LogRequest, VerifyRequest

Json = dict[str, Any]


class Looks(Protocol):
    """Answers what is only looked at, with the JSON values of the HTTP API.

    Every method raises errors of `reconciler.errors`.
    """

    local: bool
    """No daemon answered, so this process looks at the databases itself."""

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
        """The dry run, of a commit or of a spec in its place."""
        ...

    def module_status(self, name: str, *, deployment: str | None, module: str | None = None) -> Json:
        """What is deployed, pending and diverged of every module."""
        ...

    def module_log(self, name: str, request: LogRequest, *, deployment: str | None) -> Json:
        """What was deployed and what failed."""
        ...

    def module_verify(self, name: str, request: VerifyRequest, *, deployment: str | None) -> Json:
        """Run the verify scripts of what is deployed."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...


class Backend(Looks, Protocol):
    """Answers everything; where no daemon does, this process works on the databases itself."""

    def environments(self) -> list[Json]:
        """All environments."""
        ...

    def environment(self, name: str) -> Json:
        """One environment."""
        ...

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
        ...

    def rollouts(self, name: str, *, limit: int) -> list[Json]:
        """The latest rollouts, newest first."""
        ...

    def rollout(self, rollout: str) -> Json:
        """One rollout with its steps."""
        ...

    def request(
        self, rollout: str, verb: str, *, deployment: str | None, reason: str = "", digest: str | None = None
    ) -> Json:
        """Ask something of a rollout; `digest` names the plan that is agreed to."""
        ...

    def steer(self, name: str, verb: str, *, reason: str) -> Json:
        """Suspend, resume, reconcile, stop or start an environment; gives it as it is after."""
        ...

    def removal(self, name: str, databases: Sequence[str]) -> Json:
        """The dry run of removing an environment that left its source."""
        ...

    def remove(self, name: str, databases: Sequence[str], *, reason: str) -> Json | None:
        """Record the rollout that removes it; None where nothing was left."""
        ...

    def forget(self, name: str, deployment: str, *, reason: str) -> Json:
        """Stop telling of a deployment that left; gives the environment as it is after."""
        ...

    def outputs(self, name: str, *, deployment: str | None) -> list[Json]:
        """What its components put out, without sensitive values."""
        ...

    def jobs(self, name: str) -> list[Json]:
        """Its jobs, with their last runs and next times."""
        ...

    def events(self, name: str, *, after: int | None, limit: int) -> list[Json]:
        """Events of an environment by rising id."""
        ...

    def module_plan(self, name: str, module: str | None, verb: str, asked: Json) -> Json:
        """The dry run of a deploy or a revert of a module, or of all; `asked` is the body of the API."""
        ...

    def module_run(self, name: str, module: str | None, verb: str, asked: Json) -> Json | None:
        """Record a rollout of one, maybe without steps; None where there is nothing to do."""
        ...

    def watch(self, rollout: str) -> Iterator[Json]:
        """The rollout again and again, for as long as the caller asks; a local one is worked on meanwhile.

        All steps that ended are among those it has at least once.
        """
        ...
