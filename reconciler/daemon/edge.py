"""The edge of the daemon made of its settings: who may come in, under which certificates, and the server."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from reconciler.daemon.secrets import Secrets
from reconciler.daemon.tls import Certificates
from reconciler.errors import PermanentError
from reconciler.events import Event
from reconciler.frozen import frozen
from reconciler.settings import RequestSettings, Settings, SourceSettings
from reconciler.web.access import Role, Token
from reconciler.web.app import check_access
from reconciler.web.guard import HEAD_BYTES_MAX
from reconciler.web.limits import RequestLimits
from reconciler.web.protocol import Protocol
from reconciler.web.signatures import Provider
from reconciler.web.webhooks import Webhook


@frozen
class Edge:
    """What the API is opened with; everything in it was looked up and checked."""

    host: str
    port: int
    tokens: tuple[Token, ...]
    webhooks: tuple[Webhook, ...]
    limits: RequestLimits
    certificates: Certificates | None


def edge(settings: Settings, secrets: Secrets, emit: Callable[[Event], None]) -> Edge:
    """Look up and check all of it. Raises what is wrong, before anything else is started."""
    host, _, port = settings.listen.rpartition(":")
    made = Edge(
        host=host.strip("[]"),
        port=int(port),
        tokens=tuple(
            Token(
                name=token.name,
                role=Role[token.role.upper()],
                value=secrets.for_settings(token.value),
                environments=token.environments,
            )
            for token in settings.tokens
        ),
        webhooks=tuple(_webhooks(settings.sources, secrets)),
        limits=_limits(settings.requests),
        certificates=Certificates(settings.tls, emit) if settings.tls is not None else None,
    )
    check_access(made.tokens, made.webhooks, made.host)
    return made


def _webhooks(sources: tuple[SourceSettings, ...], secrets: Secrets) -> Iterator[Webhook]:
    for source in sources:
        if source.webhook is None:
            continue
        values = (source.webhook.secret, source.webhook.previous)
        yield Webhook(
            source=source.name,
            provider=Provider(source.webhook.provider),
            secrets=tuple(secrets.for_settings(value) for value in values if value is not None),
            ref=_followed(source),
        )


def _followed(source: SourceSettings) -> str | None:
    """The full name of what a source follows; None for a commit, which may be pushed under any name."""
    if source.branch is not None:
        return f"refs/heads/{source.branch.removeprefix('refs/heads/')}"
    return f"refs/tags/{source.tag.removeprefix('refs/tags/')}" if source.tag is not None else None


def _limits(settings: RequestSettings) -> RequestLimits:
    return RequestLimits(
        in_parallel=settings.in_parallel,
        dry_runs_in_parallel=settings.dry_runs_in_parallel,
        dry_runs_waiting=settings.dry_runs_waiting,
        writes_per_minute=settings.writes_per_minute,
        failures_per_minute=settings.failures_per_minute,
        webhook_bytes=settings.webhook_bytes,
    )


class Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn would close the API first, and have us stop after that."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Take no more requests and end."""
        self.should_exit = True
        self._ended.set()

    @override
    async def main_loop(self) -> None:
        """Tick once a second, for the date in answers; ten times is what an idle daemon is busiest with."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 10
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), timeout=1.0)

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @override
    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # What uvicorn makes of an address that cannot be listened on, having logged why.
            raise PermanentError(
                f"the API cannot listen on {self.config.host}:{self.config.port}",
                hint="another program may: see the log; choose another address with `listen` or --listen",
            ) from None


def server(app: FastAPI, opened: Edge) -> Server:
    """The server of an application; bounds of connections and of what they send stand in its protocol."""
    certificates = opened.certificates
    config = uvicorn.Config(
        app,
        host=opened.host,
        port=opened.port,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        ssl_context_factory=(lambda _config, _default: certificates.context) if certificates else None,
        lifespan="off",
    )
    return Server(config)
