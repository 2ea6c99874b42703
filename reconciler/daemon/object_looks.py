"""What commands about SQL objects ask of servers: unit tests, and what is live; nothing of it stays there."""

from collections.abc import Callable, Sequence

from reconciler.daemon.scratch_server import scratch_server, to_its_end
from reconciler.execution.unit_test_runs import UnitTestRun, run_in_live, run_in_scratch
from reconciler.frozen import frozen
from reconciler.objects.model import Production
from reconciler.objects.unit_test_results import UnitTestResult
from reconciler.postgres.connection import DatabaseMissing, Dsn, connect
from reconciler.postgres.migrations import installed_version
from reconciler.tracking.built_objects import OBJECTS_SINCE
from reconciler.tracking.generations import read_production

TRACKING = "reconciler"
NOTHING_LIVE = Production(objects={}, schemas={})


@frozen
class Place:
    """A database of a deployment."""

    server: Dsn
    database: str


@frozen
class Trial:
    """Unit tests, and the live database they run in; None: a scratch one."""

    run: UnitTestRun
    place: Place | None = None


def run_trials(
    server: Dsn | None,
    trials: Sequence[Trial],
    *,
    timeout_s: float,
    told: Callable[[int, UnitTestResult], None],
) -> None:
    """Run trials one after the other and tell each result, with the number of its trial.

    Scratch databases are made on the server that is named, else on an embedded one that goes behind them.
    Raises KeyboardInterrupt where a signal ended it.
    """

    async def one(number: int, trial: Trial, scratch: Dsn | None) -> None:
        async def tell(result: UnitTestResult) -> None:
            told(number, result)

        if trial.place is not None:
            place = trial.place
            await run_in_live(place.server, place.database, trial.run, timeout_s=timeout_s, told=tell)
        else:
            assert scratch is not None
            await run_in_scratch(scratch, trial.run, timeout_s=timeout_s, told=tell)

    async def work() -> None:
        if all(trial.place is not None for trial in trials):
            for number, trial in enumerate(trials):
                await one(number, trial, None)
            return
        async with scratch_server(server) as scratch:
            for number, trial in enumerate(trials):
                await one(number, trial, scratch)

    to_its_end(work)


def live_production(place: Place, *, component: str, environment: str, deployment: str) -> Production:
    """What is live of a component; nothing where its database is not there, or has no record of any."""

    async def read() -> Production:
        try:
            connection = await connect(place.server, database=place.database, role="objects")
        except DatabaseMissing:
            return NOTHING_LIVE
        try:
            if await installed_version(connection, schema=TRACKING) < OBJECTS_SINCE:
                return NOTHING_LIVE
            return await read_production(
                connection, component=component, environment=environment, deployment=deployment
            )
        finally:
            await connection.close()

    return to_its_end(read)
