"""Build the parts from settings and wire them together; shared by the daemon and by commands without one."""

from collections.abc import Mapping

from reconciler.daemon.readers import Hooks, Readers, build_readers
from reconciler.daemon.secrets import Secrets
from reconciler.execution.verify import VerifyLimits
from reconciler.frozen import frozen
from reconciler.planner.planner import Planner
from reconciler.postgres.connection import Connections, Dsn
from reconciler.reconcile.facade import Reconciler
from reconciler.reconcile.passes import Passes
from reconciler.reconcile.record import Recorder
from reconciler.reconcile.refreshing import Refreshing
from reconciler.reconcile.scheduling import Scheduling
from reconciler.reconcile.verifying import Verifier
from reconciler.runtimes.machine import Machine
from reconciler.settings import Settings
from reconciler.source.repository import Repository


@frozen
class Parts:
    """Everything that was built; `worker` and `passes` need a control database."""

    connections: Connections
    control_connections: Connections
    repositories: Mapping[str, Repository]
    planner: Planner
    passes: Passes
    refreshing: Refreshing
    scheduling: Scheduling
    reconciler: Reconciler
    machine: Machine
    secrets: Secrets

    async def close(self) -> None:
        """End passes and Git processes, and close connections."""
        await self.passes.close()
        for repository in self.repositories.values():
            await repository.close()
        await self.connections.close()
        await self.control_connections.close()


def build(
    settings: Settings,
    secrets: Secrets,
    control: Dsn | None,
    hooks: Hooks,
    *,
    fetch_first: bool,
    shared: bool = False,
    owner: str = "",
) -> Parts:
    """Build everything but the worker; opens nothing yet. `shared`: passes wait to be told of peers."""
    readers = build_readers(settings, secrets, control, hooks, fetch_first=fetch_first, owner=owner)
    return build_around(readers, settings, control, hooks, only_look=fetch_first, shared=shared)


def build_around(
    readers: Readers,
    settings: Settings,
    control: Dsn | None,
    hooks: Hooks,
    *,
    only_look: bool,
    shared: bool = False,
) -> Parts:
    """Build the rest around what reads."""
    recorder = Recorder(
        control=control,
        connections=readers.control_connections,
        planner=readers.planner,
        deployments_in_parallel=settings.limits.deployments_in_parallel,
        emit=hooks.emit,
    )
    refreshing = Refreshing(
        assessor=recorder, planner=readers.planner, connections=readers.connections, emit=hooks.emit
    )
    scheduling = Scheduling(assessor=recorder, emit=hooks.emit)
    passes = Passes(
        heads=readers.heads,
        planner=readers.planner,
        recorder=recorder,
        environments_in_parallel=settings.limits.passes_in_parallel,
        shared=shared,
        only_look=only_look,
        emit=hooks.emit,
        ask_work=hooks.ask_work,
    )
    if not only_look:
        passes.refresh_with(refreshing)
        passes.schedule_with(scheduling)
    verifier = Verifier(planner=readers.planner, connections=readers.connections, limits=VerifyLimits())
    passes.verify_with(verifier)
    return Parts(
        connections=readers.connections,
        control_connections=readers.control_connections,
        repositories=readers.repositories,
        planner=readers.planner,
        passes=passes,
        refreshing=refreshing,
        scheduling=scheduling,
        machine=readers.machine,
        secrets=readers.secrets,
        reconciler=Reconciler(
            heads=readers.heads,
            planner=readers.planner,
            recorder=recorder,
            connections=readers.connections,
            ask_pass=hooks.ask_pass,
            ask_work=hooks.ask_work,
        ),
    )
