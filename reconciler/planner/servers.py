"""The servers that the databases of a deployment live on: its own, and services of its environment."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from reconciler.errors import ReconcilerError, TemporaryError
from reconciler.frozen import frozen
from reconciler.postgres.connection import Dsn
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LivePrograms
from reconciler.state.programs import DesiredServer, Value
from reconciler.state.servers import Address, address_of
from reconciler.state.tracked import TrackedPrograms

CONNECT_TIMEOUT_S = "10"
"""A service that is there and takes no connection keeps nobody waiting for longer."""

NOT_FOLLOWED = "the commit that is followed does not declare it, so a look does not connect to it"
NOTHING_RUNS = "this process knows of no services"

OpenOutput = Callable[[OutputReference], Awaitable[str]]
"""Gives the value of an output that is kept; raises NotFound."""


class ProgramsRecord(Protocol):
    """What is known of the services, jobs, routes and outputs of deployments."""

    async def read(
        self, desired: DesiredState, *, not_before: float | None = None
    ) -> tuple[TrackedPrograms, LivePrograms]:
        """What is tracked and live of a deployment; what was read of many since `not_before` may serve."""
        ...

    async def output(self, desired: DesiredState, reference: OutputReference) -> str:
        """The value of an output as a text; raises NotFound where it is not kept."""
        ...


@frozen
class Servers:
    """Where databases of a deployment are.

    `services` are those that live on services, by database name; one whose service was never applied is in
    neither. `silent` says of services that were applied why nobody knows where they are.
    """

    own: Dsn
    services: Mapping[str, Dsn] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)

    def of(self, desired: DesiredState, database: str) -> Dsn:
        """The server of a database by its name; raises TemporaryError where that cannot be told now.

        A name that is not declared is one that was, on the deployment's own server.
        """
        on = next((part.on for part in desired.databases if part.database == database), None)
        if on is None:
            return self.own
        if database in self.services:
            return self.services[database]
        why = self.silent.get(on.service, "it was never started")
        raise TemporaryError(
            f"connecting to database '{database}', which lives on service '{on.service}': {why}",
            hint=f"roll out the environment, so that '{on.service}' runs",
        )


def on_services(desired: DesiredState) -> Sequence[DesiredDatabase]:
    """The databases of a deployment that live on services of its environment."""
    return [part for part in desired.databases if part.on is not None]


def services_of(desired: DesiredState) -> Sequence[str]:
    """The services that databases of a deployment live on, each once."""
    return list(dict.fromkeys(part.on.service for part in desired.databases if part.on is not None))


async def find_servers(
    desired: DesiredState,
    own: Dsn,
    states: tuple[TrackedPrograms, LivePrograms],
    *,
    secret: Callable[[SecretReference], str],
    output: OpenOutput,
    unfollowed: frozenset[str] = frozenset(),
) -> Servers:
    """Find out where each database is; what cannot be told of one hinders no other.

    Nothing is resolved for a service that is `unfollowed`: who looks may not be who may see its secrets.
    """
    services: dict[str, Dsn] = {}
    silent: dict[str, str] = {}
    for part in on_services(desired):
        assert part.on is not None
        address = address_of(part.on, *states)
        if address is None:
            continue
        if part.on.service in unfollowed:
            silent[part.on.service] = NOT_FOLLOWED
            continue
        if isinstance(address, str):
            silent[part.on.service] = address
            continue
        try:
            services[part.database] = await _dsn(part.on, address, secret, output)
        except ReconcilerError as error:
            silent[part.on.service] = str(error)
    return Servers(own=own, services=services, silent=silent)


async def _dsn(
    on: DesiredServer,
    address: Address,
    secret: Callable[[SecretReference], str],
    output: OpenOutput,
) -> Dsn:
    async def text(value: Value) -> str:
        if isinstance(value, SecretReference):
            return secret(value)
        return await output(value) if isinstance(value, OutputReference) else value

    return Dsn.of(
        host=address.host,
        port=str(address.port),
        user=await text(on.user),
        password=await text(on.password) if on.password is not None else None,
        dbname=on.maintenance_database,
        connect_timeout=CONNECT_TIMEOUT_S,
    )
