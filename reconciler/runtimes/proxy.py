"""What every reverse proxy does for routes, and the values it is spoken to with: one protocol for all."""

from typing import Protocol

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import Identity


@frozen
class PlacedRoute:
    """A route as it stands in a proxy: requests for `host` below `path` go to `upstream` (host, port).

    `edited`: what stands there is not what `put` made of it.
    """

    identity: Identity
    host: str
    path: str
    upstream: tuple[str, int]
    definition_hash: str
    edited: bool = False


class Proxy(Protocol):
    """A reverse proxy; each call may be made again at any moment, and does no more than what is left."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    async def why_not(self) -> str | None:
        """Why it cannot be used, and what to do about it; None where it can."""
        ...

    async def observe(self, environment: str, deployment: str) -> tuple[PlacedRoute, ...]:
        """Our routes of a deployment, by component. Raises RuntimeUnavailable where nothing can be said."""
        ...

    async def put(self, route: PlacedRoute) -> None:
        """Set it, or lead it elsewhere, in one go that drops no request; the rest of it is left alone.

        Raises Conflict where somebody else's route has the host and path, RuntimeUnavailable where the proxy
        does not answer: whether it was set is then to be observed.
        """
        ...

    async def remove(self, identity: Identity) -> None:
        """Take the route of a component away, if it is there."""
        ...
