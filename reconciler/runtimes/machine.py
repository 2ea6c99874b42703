"""What there is to run services on for one daemon: its runtimes and proxies, by name."""

from collections.abc import Mapping
from dataclasses import field

from reconciler.frozen import frozen
from reconciler.runtimes.proxy import Proxy
from reconciler.runtimes.runtime import Runtime


@frozen
class Machine:
    """Runtimes by their names in specs, proxies by their names in the settings.

    `place` names this machine to other daemons: what was started in one place is not looked for in another.
    """

    place: str
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
