"""Build the parts from settings and wire them together; shared by the daemon and by commands without one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reconciler.control.workers import Peer
from reconciler.daemon.secrets import Secrets
from reconciler.events import Event
from reconciler.execution.interference import Interference
from reconciler.execution.session import Limits
from reconciler.execution.verify import VerifyLimits
from reconciler.planner.planner import Planner, PlannerLimits
from reconciler.postgres.connection import Connections, Dsn
from reconciler.reconcile.facade import Reconciler
from reconciler.reconcile.heads import Heads
from reconciler.reconcile.passes import Passes
from reconciler.reconcile.record import Recorder
from reconciler.reconcile.verifying import Verifier
from reconciler.settings import Settings, SourceSettings
from reconciler.source.access import HistoryPolicy, SignaturePolicy, SourceAccess, SourceCredentials
from reconciler.source.repository import Repository
from reconciler.spec.parse import ParsedEnvironment
from reconciler.spec.permissions import restrict
from reconciler.state.verdicts import Verdicts
from reconciler.worker import Worker, WorkerHooks, WorkerLimits

CONTROL_CONNECTIONS = 8
"""Connections to the control database for passes, the API and metrics, beyond one for each operation."""
SLOW_PLACES = 3
"""Places for operations that take long, for each of those for all, so that they keep nobody waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the parts tell or ask of whoever runs them."""

    emit: Callable[[Event], None]
    ask_pass: Callable[[str], None]
    ask_work: Callable[[], None]
    interference: Interference


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that was built; `worker` and `passes` need a control database."""

    connections: Connections
    control_connections: Connections
    repositories: Mapping[str, Repository]
    planner: Planner
    passes: Passes
    reconciler: Reconciler

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
    verdicts: Verdicts | None = None,
) -> Parts:
    """Build everything but the worker; opens nothing yet. `shared`: passes wait to be told of peers.

    `verdicts` are what is known of scripts from before, and take in what is found.
    """
    connections = Connections(
        per_database=settings.limits.connections_per_database,
        per_server=settings.limits.connections_per_server,
        total=settings.limits.connections_total,
        connect_timeout_s=settings.limits.connect_timeout_s,
    )
    # Apart, so that no managed server which hangs ever keeps the control database from us.
    to_control = settings.workers + CONTROL_CONNECTIONS
    control_connections = Connections(per_database=to_control, per_server=to_control, total=to_control)
    repositories = {
        source.name: Repository(access(source, secrets), state_dir=Path(settings.state_dir))
        for source in settings.sources
    }
    planner = Planner(
        sources=repositories,
        paths={source.name: source.path for source in settings.sources},
        restrict=partial(_restrict, settings),
        connections=connections,
        resolve_secret=secrets.for_spec,
        limits=PlannerLimits(
            read_timeout_s=settings.limits.read_timeout_s,
            full_read_interval_s=settings.limits.full_read_interval_s,
        ),
        emit=hooks.emit,
        verdicts=verdicts,
    )
    heads = Heads(
        sources=repositories,
        alerting=frozenset(source.name for source in settings.sources if source.history == "alert"),
        planner=planner,
        emit=hooks.emit,
        fetch_first=fetch_first,
    )
    recorder = Recorder(
        control=control,
        connections=control_connections,
        planner=planner,
        deployments_in_parallel=settings.limits.deployments_in_parallel,
        emit=hooks.emit,
    )
    passes = Passes(
        heads=heads,
        planner=planner,
        recorder=recorder,
        environments_in_parallel=settings.limits.passes_in_parallel,
        shared=shared,
        only_look=fetch_first,
        emit=hooks.emit,
        ask_work=hooks.ask_work,
    )
    passes.verify_with(Verifier(planner=planner, connections=connections, limits=VerifyLimits()))
    reconciler = Reconciler(
        heads=heads,
        planner=planner,
        recorder=recorder,
        connections=connections,
        ask_pass=hooks.ask_pass,
        ask_work=hooks.ask_work,
    )
    return Parts(
        connections=connections,
        control_connections=control_connections,
        repositories=repositories,
        planner=planner,
        passes=passes,
        reconciler=reconciler,
    )


def _restrict(
    settings: Settings, name: str, parsed: tuple[ParsedEnvironment, ...]
) -> tuple[ParsedEnvironment, ...]:
    """Hold the environments of a source to what the settings allow it."""
    source = next(source for source in settings.sources if source.name == name)
    return restrict(parsed, source.allow, settings.own_secrets())


def build_worker(
    settings: Settings,
    parts: Parts,
    control: Dsn,
    name: str,
    hooks: Hooks,
    *,
    passes: bool,
    on_peers: Callable[[str | None, tuple[Peer, ...]], None] | None = None,
) -> Worker:
    """Build a worker of the control database; `passes` says whether this process runs passes too."""
    limits = settings.limits
    return Worker(
        name=name,
        control=control,
        connections=parts.control_connections,
        planner=parts.planner,
        limits=WorkerLimits(
            operations_in_parallel=settings.workers,
            slow_in_parallel=settings.workers * SLOW_PLACES,
            lease_s=limits.lease_s,
            heartbeat_s=limits.heartbeat_s,
            attempts=limits.attempts,
            retry_base_s=limits.retry_base_s,
            retry_ceiling_s=limits.retry_ceiling_s,
            stop_grace_s=limits.stop_grace_s,
            writes=Limits(
                lock_timeout_s=limits.lock_timeout_s,
                statement_timeout_s=limits.statement_timeout_s,
                connect_timeout_s=limits.connect_timeout_s,
            ),
        ),
        sources=frozenset(source.name for source in settings.sources),
        passes=passes,
        hooks=WorkerHooks(
            emit=hooks.emit,
            on_peers=on_peers,
            interference=hooks.interference,
        ),
    )


def access(source: SourceSettings, secrets: Secrets) -> SourceAccess:
    """How to reach a source; its secrets are looked up at each fetch."""
    return SourceAccess(
        name=source.name,
        url=source.url,
        branch=source.branch,
        tag=source.tag,
        commit=source.commit,
        fetch_timeout_s=source.fetch_timeout_s,
        history=HistoryPolicy(source.history),
        credentials=partial(_credentials, source, secrets),
        signatures=_signatures(source),
    )


def _signatures(source: SourceSettings) -> SignaturePolicy | None:
    given = source.signatures
    if given is None:
        return None
    return SignaturePolicy(
        gpg_key_files=given.gpg_keys,
        ssh_keys=given.ssh_keys,
        ssh_allowed_signers_file=given.ssh_allowed_signers,
    )


def _credentials(source: SourceSettings, secrets: Secrets) -> SourceCredentials:
    auth = source.auth
    if auth is None:
        return SourceCredentials()
    return SourceCredentials(
        username=auth.username,
        password=secrets.for_settings(auth.password) if auth.password is not None else None,
        bearer=secrets.for_settings(auth.token) if auth.token is not None else None,
        ssh_key_file=auth.ssh_key,
        ssh_known_hosts_file=auth.known_hosts,
        tls_ca_file=auth.ca,
    )
