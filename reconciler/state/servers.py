"""Says where the service is that a database lives on; it asks nobody."""

from reconciler.frozen import frozen
from reconciler.state.live import LiveInstance, LivePrograms
from reconciler.state.programs import DesiredServer
from reconciler.state.tracked import TrackedComponent, TrackedPrograms


@frozen
class Address:
    """Where the server of a service listens."""

    host: str
    port: int


def server_name(on: DesiredServer) -> str:
    """What such a server is called in records, wherever it listens just now."""
    return f"service {on.service}"


def address_of(on: DesiredServer, tracked: TrackedPrograms, live: LivePrograms) -> Address | str | None:
    """Where the server is; None where its service was never applied, a text that says why nobody knows.

    What was never applied holds no database. What was applied and cannot be seen may hold any.
    """
    there = tracked.components.get(on.service)
    if there is None or (there.instance is None and not there.definition_hash):
        return None
    if there.instance is None:
        return "it was stopped"
    if on.service in live.unknown:
        return live.unknown[on.service]
    current = _current(there, live.instances.get(on.service, ()))
    if current is None:
        return f"its instance {there.instance} is not there"
    for port, host, number in current.endpoints:
        if port == on.port:
            return Address(host=host, port=number)
    return f"its instance {current.instance} is {current.state} and has no port '{on.port}'"


def _current(there: TrackedComponent, instances: tuple[LiveInstance, ...]) -> LiveInstance | None:
    """The instance that is live, or the one that was taking its place when whoever put it there died."""
    by_name = {one.instance: one for one in instances}
    for name in (there.instance, there.applying):
        if name is not None and name in by_name and by_name[name].endpoints:
            return by_name[name]
    return by_name.get(there.instance or "")
