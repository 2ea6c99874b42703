"""A pass with nothing to do over a module of many deployed changes, against the bare queries it needs."""

import argparse
import asyncio
import time

import psycopg

from benchmarks import deploy
from benchmarks.setting import database, module, server, table
from reconciler.planner.planner import Planner, PlannerLimits, PlanRequest
from reconciler.postgres.connection import Connections, Dsn
from reconciler.snapshot.database import read_server
from reconciler.snapshot.probe import probe
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.tracking.sql import QUERIES as TRACKING

QUICK = ["--changes", "300", "--rounds", "5"]
LIMITS = (("plan with nothing to do", "bare queries", 2.0),)
SPEC = {
    "apiVersion": "reconciler/v1",
    "kind": "Environment",
    "metadata": {"name": "benchmark"},
    "spec": {
        "deployments": [{"name": "one", "postgres": {"dsn": {"env": "BENCH_DSN"}}}],
        "components": [],
    },
}


def desired(count: int) -> DesiredState:
    wanted = module(count, deploy.NAME)
    return DesiredState(
        environment="benchmark",
        deployment="one",
        commit="0" * 40,
        postgres=SecretReference(env="BENCH_DSN"),
        stages=("databases", "migrations"),
        databases=(DesiredDatabase(component="bench-db", stage="databases", database=deploy.NAME),),
        modules=(wanted,),
    )


async def bare(server_connection: psycopg.AsyncConnection, connection: psycopg.AsyncConnection) -> None:
    """What has to be asked: the server's databases, what is tracked, and the catalog's hash."""
    await read_server(server_connection)
    await (await connection.execute(TRACKING["find_tracking"])).fetchone()
    await (await connection.execute(TRACKING["read_tracked"])).fetchall()
    await probe(connection)


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    taken: dict[str, list[float]] = {name: [] for name in LIMITS[0][:2]}
    spec = EnvironmentSpec.model_validate(SPEC)
    async with server() as dsn, database(dsn, deploy.NAME) as target:
        await deploy.by_us(dsn, options.changes)
        connections = Connections()
        planner = Planner(
            sources={},
            paths={},
            connections=connections,
            resolve_secret=lambda _reference: dsn.reveal(),
            limits=PlannerLimits(),
            emit=lambda _event: None,
        )
        wanted = desired(options.changes)
        async with (
            await psycopg.AsyncConnection.connect(dsn.reveal(), autocommit=True) as on_server,
            await psycopg.AsyncConnection.connect(Dsn(target).reveal(), autocommit=True) as on_database,
        ):
            for number in range(options.rounds + 3):
                began = time.perf_counter()
                await bare(on_server, on_database)
                middle = time.perf_counter()
                found = await planner.assess(spec, wanted, PlanRequest())
                end = time.perf_counter()
                assert found.plan.steps == (), found.plan
                assert found.plan.unavailable is None, found.plan
                if number >= 3:
                    taken[LIMITS[0][1]].append(middle - began)
                    taken[LIMITS[0][0]].append(end - middle)
        await connections.close()
    print(table(f"nothing to do over {options.changes} deployed changes", taken, LIMITS))
    return 0


if __name__ == "__main__":
    asyncio.run(main())
