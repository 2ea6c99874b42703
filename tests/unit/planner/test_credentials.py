"""Which credentials a deployment is read and written with, and how its databases are found."""

from dataclasses import replace
from functools import partial

import pytest

from reconciler.errors import TemporaryError
from reconciler.planner.planner import Known, Planner, PlannerLimits
from reconciler.planner.servers import NOT_FOLLOWED, find_servers
from reconciler.postgres.connection import Connections
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.desired import DesiredState
from reconciler.state.live import LiveInstance, LivePrograms
from reconciler.state.programs import DesiredServer
from reconciler.state.tracked import TrackedComponent, TrackedPrograms
from tests.plugins.states import database, desired

ON = DesiredServer(
    service="pg", port="sql", user="admin", password=OutputReference(component="keys", output="pg")
)


class Record:
    """What is known of one service, which is live."""

    def __init__(self, live: LivePrograms) -> None:
        self.live = live

    async def read(
        self, _desired: DesiredState, *, not_before: float | None = None
    ) -> tuple[TrackedPrograms, LivePrograms]:
        there = TrackedComponent(
            component="pg", kind="Service", stage="servers", definition_hash="h", instance="a"
        )
        return TrackedPrograms(components={"pg": there}), self.live

    async def output(self, _desired: DesiredState, reference: OutputReference) -> str:
        return f"value of {reference}"


LIVE = LivePrograms(
    instances={"pg": (LiveInstance(instance="a", state="healthy", endpoints=(("sql", "127.0.0.1", 4001),)),)}
)


def planner(live: LivePrograms = LIVE) -> Planner:
    return Planner(
        sources={},
        paths={},
        connections=Connections(),
        resolve_secret=lambda reference: f"host={reference.env} user=me",
        limits=PlannerLimits(),
        emit=lambda _event: None,
        known=Known(programs=Record(live)),
    )


async def test_a_look_connects_to_no_service_that_nobody_follows() -> None:
    """Whoever writes a branch could name a secret of others as its password: one that runs is left alone."""
    own = planner()
    asked: list[str] = []
    secret = replace(ON, password=SecretReference(env="of-others"))
    state = replace(STATE, databases=(database(), database(component="other", database="other", on=secret)))
    servers = await find_servers(
        state,
        own.dsn(state),
        await Record(LIVE).read(state),
        secret=lambda reference: asked.append(str(reference)) or "a-secret",  # type: ignore[func-returns-value]
        output=partial(Record(LIVE).output, state),
        unfollowed=frozenset({"pg"}),
    )
    assert (asked, servers.services, servers.silent) == ([], {}, {"pg": NOT_FOLLOWED})


STATE = replace(
    desired(databases=[database(), database(component="other", database="other", on=ON)]),
    postgres=SecretReference(env="wide"),
    provision_postgres=SecretReference(env="narrow"),
)


async def test_what_only_provisions_has_narrower_credentials() -> None:
    """A provision-only plan uses `provisionDsn`, where there is one, for all it reads and writes."""
    narrowed = replace(STATE, provision_only=True)
    assert planner().dsn(STATE).server == "wide:5432"
    assert planner().dsn(narrowed).server == "narrow:5432"
    assert (await planner().dsn_of(narrowed, "shop")).server == "narrow:5432"
    assert planner().dsn(replace(narrowed, provision_postgres=None)).server == "wide:5432"


async def test_each_database_is_looked_for_on_its_own_server() -> None:
    """One on a service is where that runs, with the user and the output that its component names."""
    assert (await planner().dsn_of(STATE, "shop")).server == "wide:5432"
    found = (await planner().dsn_of(STATE, "other")).parameters()
    assert {name: found[name] for name in ("host", "port", "user", "password", "dbname")} == {
        "host": "127.0.0.1",
        "port": "4001",
        "user": "admin",
        "password": "value of keys.pg",
        "dbname": "postgres",
    }
    assert await planner().place_of(STATE, "other") == (
        "service pg",
        await planner().dsn_of(STATE, "other"),
    )


async def test_nobody_goes_to_another_server_instead() -> None:
    """Where nobody knows where a service is, its database is not looked for on the deployment's server."""
    away = planner(LivePrograms(unknown={"pg": "the engine does not answer"}))
    with pytest.raises(TemporaryError, match="lives on service 'pg': the engine does not answer"):
        await away.dsn_of(STATE, "other")
    servers = await away.servers(STATE)
    assert (servers.services, servers.silent) == ({}, {"pg": "the engine does not answer"})
