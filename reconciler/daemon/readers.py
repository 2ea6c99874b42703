"""Build what reads from settings: sources, planner, looks; commands that only look need no more than this."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from reconciler.daemon import tree_files
from reconciler.daemon.machine import build_machine
from reconciler.daemon.secrets import Secrets
from reconciler.events import Event
from reconciler.execution.interference import Interference
from reconciler.frozen import frozen
from reconciler.planner.planner import Known, Planner, PlannerLimits
from reconciler.planner.programs import ProgramReader
from reconciler.postgres.connection import Connections, Dsn
from reconciler.reconcile.assess import Assessor
from reconciler.reconcile.heads import Heads
from reconciler.reconcile.looking import Looking
from reconciler.runtimes.machine import Machine
from reconciler.settings import Settings, SourceSettings
from reconciler.source.access import HistoryPolicy, SignaturePolicy, SourceAccess, SourceCredentials
from reconciler.source.repository import Repository
from reconciler.spec.parse import ParsedEnvironment
from reconciler.spec.permissions import restrict
from reconciler.state.contents import Remembered

CONTROL_CONNECTIONS = 8
"""Connections to the control database for passes, the API and metrics, beyond one for each operation."""
OBSERVE_SHARE = 0.25
"""Of the time for reading a deployment, what one runtime or proxy may take: the rest is told in time."""


@frozen
class Hooks:
    """What the parts tell or ask of whoever runs them."""

    emit: Callable[[Event], None]
    ask_pass: Callable[[str], None]
    ask_work: Callable[[], None]
    interference: Interference


@frozen
class Readers:
    """What reads, and the connections that it borrows."""

    connections: Connections
    control_connections: Connections
    repositories: Mapping[str, Repository]
    planner: Planner
    heads: Heads
    looking: Looking
    machine: Machine
    secrets: Secrets

    async def close(self) -> None:
        """End Git processes, and close connections."""
        for repository in self.repositories.values():
            await repository.close()
        await self.connections.close()
        await self.control_connections.close()


def connections_to_control(settings: Settings) -> Connections:
    """Connections to the control database: apart, so that no managed server that hangs keeps it from us."""
    most = settings.workers + CONTROL_CONNECTIONS
    return Connections(per_database=most, per_server=most, total=most)


def build_readers(
    settings: Settings,
    secrets: Secrets,
    control: Dsn | None,
    hooks: Hooks,
    *,
    fetch_first: bool,
    remembered: Remembered | None = None,
    control_connections: Connections | None = None,
    owner: str = "",
) -> Readers:
    """Build what reads; opens nothing yet.

    `remembered` is what is known of scripts and modules from before, and takes in what is found; `owner` is
    what services, containers and routes of ours are marked with.
    """
    connections = Connections(
        per_database=settings.limits.connections_per_database,
        per_server=settings.limits.connections_per_server,
        total=settings.limits.connections_total,
        connect_timeout_s=settings.limits.connect_timeout_s,
    )
    control_connections = control_connections or connections_to_control(settings)
    repositories = {
        source.name: _repository(settings, source, secrets, keeps=remembered is not None)
        for source in settings.sources
    }
    machine = build_machine(settings, owner)
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
        known=Known(
            contents=remembered,
            programs=ProgramReader(
                control=control,
                connections=control_connections,
                machine=machine,
                unseal=secrets.unseal,
                observe_timeout_s=settings.limits.read_timeout_s * OBSERVE_SHARE,
            ),
            can_seal=secrets.can_seal,
        ),
    )
    heads = Heads(
        sources=repositories,
        alerting=frozenset(source.name for source in settings.sources if source.history == "alert"),
        planner=planner,
        emit=hooks.emit,
        fetch_first=fetch_first,
    )
    assessor = Assessor(
        control=control,
        connections=control_connections,
        planner=planner,
        deployments_in_parallel=settings.limits.deployments_in_parallel,
        emit=hooks.emit,
    )
    return Readers(
        connections=connections,
        control_connections=control_connections,
        repositories=repositories,
        planner=planner,
        heads=heads,
        looking=Looking(heads=heads, planner=planner, assessor=assessor, connections=connections),
        machine=machine,
        secrets=secrets,
    )


def _repository(settings: Settings, source: SourceSettings, secrets: Secrets, *, keeps: bool) -> Repository:
    """A source; `keeps` what is read of it in a file for the next command."""
    state_dir = Path(settings.state_dir)
    kept = tree_files.kept(state_dir, source.name) if keeps else None
    return Repository(access(source, secrets), state_dir=state_dir, kept=kept)


def _restrict(
    settings: Settings, name: str, parsed: tuple[ParsedEnvironment, ...]
) -> tuple[ParsedEnvironment, ...]:
    """Hold the environments of a source to what the settings allow it."""
    source = next(source for source in settings.sources if source.name == name)
    return restrict(parsed, source.allow, settings.own_secrets())


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
