"""Try modules on a server: one that the user names, or an embedded one that goes when the test is done."""

from collections.abc import Sequence

from reconciler.daemon.scratch_server import scratch_server, to_its_end
from reconciler.diff.workspace import Group
from reconciler.execution.full_cycle import Tried, try_modules
from reconciler.execution.roles import NewRole, make_roles
from reconciler.frozen import frozen
from reconciler.postgres.connection import Dsn


@frozen
class How:
    """How modules are tried: with `roles`, which are made on a server of their own and on no other."""

    full: bool
    jobs: int
    timeout_s: float
    roles: Sequence[NewRole] = ()


def run(dsn: Dsn | None, groups: Sequence[Group], how: How) -> list[Tried]:
    """Try modules on a server; without one, on an embedded server that is made for it.

    Raises KeyboardInterrupt where a signal ended it.
    """

    async def work() -> list[Tried]:
        async with scratch_server(dsn) as server:
            if dsn is None:
                await make_roles(server, how.roles)
            return list(
                await try_modules(server, groups, full=how.full, jobs=how.jobs, timeout_s=how.timeout_s)
            )

    return to_its_end(work)
