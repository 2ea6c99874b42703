"""The record of services, jobs, routes and outputs, in a real control database, under leases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from reconciler.control import environments, install, programs, stops
from reconciler.control.claims import Claim
from reconciler.control.gauges import read_gauges
from reconciler.control.programs import FoundState, RouteClaim
from reconciler.daemon import age
from reconciler.daemon.secrets import Secrets
from reconciler.errors import Conflict, LeaseLost, NotFound, Refused
from reconciler.execution.register import Applying, Made
from reconciler.postgres.connection import Connections, Dsn
from reconciler.secret_settings import SecretValue
from reconciler.spec.values import OutputReference
from reconciler.state.healing import FIRST_WAIT_S
from reconciler.state.programs import OutputType
from reconciler.state.tracked import TrackedOutput, TrackedPrograms
from reconciler.worker.lease import ControlAccess
from reconciler.worker.register import ControlRegister
from tests.plugins.control import Control


class Registers:
    """A control database, and registers of operations that a worker claimed in it."""

    def __init__(self, control: Control, connections: Connections) -> None:
        self.control = control
        self.access = ControlAccess(control.dsn, connections, timeout_s=30)
        self.forbidden: list[str] = []
        key = SecretValue.model_validate(age.new_key().secret)
        self.secrets = Secrets({}, self.forbidden.append, [key])

    async def claims(self, *deployments: str, environment: str = "production") -> list[Claim]:
        """Operations of a rollout, claimed."""
        await self.control.observe(name=environment)
        await self.control.record(*deployments, environment=environment)
        worker = await self.control.worker()
        return [await self.control.must_claim(worker) for _ in deployments]

    def of(self, claim: Claim, secrets: Secrets | None = None) -> ControlRegister:
        """The register of an operation."""
        return ControlRegister(claim, self.access, secrets or self.secrets)

    async def tracked(self, deployment: str = "eu", environment: str = "production") -> TrackedPrograms:
        """What a planner reads of it."""
        return await programs.read_tracked(self.control.connection, environment, deployment)

    async def ended(self, claim: Claim) -> None:
        """The operation is over."""
        await self.control.connection.execute(
            "UPDATE reconciler_control.operations SET state = 'completed', lease_token = NULL, worker = NULL,"
            " finished_at = clock_timestamp(), error = NULL WHERE id = %s",
            [int(claim.operation)],
        )


@pytest.fixture
async def registers(control_database: Dsn) -> AsyncIterator[Registers]:
    """A control database with its schema, and registers in it."""
    async with AsyncExitStack() as stack:
        control = Control(control_database, stack)
        control.connection = await control.connect()
        await install.install(control.connection)
        connections = Connections()
        stack.push_async_callback(connections.close)
        yield Registers(control, connections)


def service(version: str = "1", **changes: Any) -> Applying:
    """A service as it is applied, in some version."""
    given: dict[str, Any] = {
        "component": "api",
        "kind": "Service",
        "stage": "services",
        "definition_hash": version * 64,
        "definition": {"program": {"argv": ["bin/api", version]}},
        "place": "one",
        "instance": version * 16,
    }
    return Applying(**{**given, **changes})


def made(name: str, value: object, *, sensitive: bool = False, kind: OutputType = OutputType.STRING) -> Made:
    return Made(name=name, type=kind, sensitive=sensitive, value=value)


async def test_service_is_noted_before_and_after_it_is_there(registers: Registers) -> None:
    """Until it is live what was there before stays noted, with what is being put in its place beside it."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    await register.applying(service("1"))
    first = (await registers.tracked()).components["api"]
    assert (first.definition_hash, first.instance, first.applying) == ("", None, "1" * 16)
    assert first.definition["program"]["argv"] == ["bin/api", "1"]
    for _ in range(2):
        await register.applied(service("1"))
    live = (await registers.tracked()).components["api"]
    assert (live.definition_hash, live.instance, live.applying) == ("1" * 64, "1" * 16, None)
    assert (live.place, live.commit, live.kind, live.stage) == ("one", "a" * 40, "Service", "services")
    await register.applying(service("2"))
    both = (await registers.tracked()).components["api"]
    assert (both.definition_hash, both.instance, both.applying) == ("1" * 64, "1" * 16, "2" * 16)
    assert both.definition["program"]["argv"] == ["bin/api", "1"]
    await register.rolled_back("api")
    assert (await registers.tracked()).components["api"] == live


async def test_what_never_was_is_forgotten_as_it_is_taken_back(registers: Registers) -> None:
    """A service whose first instance failed leaves no row."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    await register.applying(service())
    await register.rolled_back("api")
    assert not (await registers.tracked()).components


async def test_stopped_service_keeps_what_it_was(registers: Registers) -> None:
    """Only its instance is gone, until it is removed with all there is of it."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    await register.applied(service())
    await register.keep("api", "h1", [made("port", 80, kind=OutputType.NUMBER)])
    await register.stopped("api")
    found = await registers.tracked()
    assert found.components["api"].instance is None
    assert found.components["api"].definition_hash == "1" * 64
    assert found.outputs == {"api.port": TrackedOutput(component="api", name="port", inputs_hash="h1")}
    await register.removed("api")
    found = await registers.tracked()
    assert not found.components
    assert not found.outputs


async def test_putting_back_is_counted_once_per_operation(registers: Registers) -> None:
    """What is put back again and again is waited for longer each time; anything else done to it ends that."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    await register.applied(service())
    for _ in range(2):
        await register.applied(service(), healed=True)
    found = await registers.tracked()
    healed = found.components["api"]
    assert healed.heals == 1
    assert healed.heal_after is not None
    assert found.read_at is not None
    assert 0 < healed.heal_after - found.read_at <= FIRST_WAIT_S
    await registers.ended(claim)
    (claim,) = await registers.claims("eu")
    await registers.of(claim).applied(service(), healed=True)
    assert (await registers.tracked()).components["api"].heals == 2
    await registers.of(claim).applied(service("2"))
    reset = (await registers.tracked()).components["api"]
    assert (reset.heals, reset.heal_after) == (0, None)


async def test_outputs_come_back_as_they_were(registers: Registers) -> None:
    """Any JSON value does; those that the component does not make any more are gone with the next ones."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    values = ["", " text\n", 0, 1.5, False, None, {"a": [1, {"b": None}]}]
    given = [made(f"o{i}", value, kind=OutputType.JSON) for i, value in enumerate(values)]
    given += [made(f"s{i}", value, kind=OutputType.JSON, sensitive=True) for i, value in enumerate(values)]
    await register.keep("seed", "h1", given)
    for i, value in enumerate(values):
        for prefix, sensitive in (("o", False), ("s", True)):
            kept = await register.output(OutputReference(component="seed", output=f"{prefix}{i}"))
            assert (kept.value, kept.sensitive, kept.inputs_hash) == (value, sensitive, "h1")
    await register.keep("seed", "h2", given[:1])
    assert set((await registers.tracked()).outputs) == {"seed.o0"}
    with pytest.raises(NotFound, match=r"'seed\.o1' is not there"):
        await register.output(OutputReference(component="seed", output="o1"))


async def test_sensitive_values_stand_nowhere_in_the_clear(registers: Registers) -> None:
    """They are sealed in every table, and no log shows them once they were seen."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    await register.keep("seed", "h1", [made("token", "hunter2-hunter2", sensitive=True)])
    password = await register.password("shop", "shop_owner")
    tables = await registers.control.rows(
        "SELECT c.oid::regclass::text FROM pg_class AS c"
        " WHERE c.relnamespace = 'reconciler_control'::regnamespace AND c.relkind = 'r'"
    )
    for (table,) in tables:
        text = str(await registers.control.rows(f"SELECT t::text FROM {table} AS t"))
        assert "hunter2" not in text
        assert password not in text
    assert {"hunter2-hunter2", password} <= set(registers.forbidden)


async def test_nothing_sensitive_is_kept_without_a_key(registers: Registers) -> None:
    """The refusal says what to do, and what is not sensitive is not kept either: it is one transaction."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim, Secrets({}, registers.forbidden.append))
    with pytest.raises(Refused, match="name no key to seal it with") as refused:
        await register.keep("seed", "h1", [made("url", "http://x"), made("token", "t", sensitive=True)])
    assert refused.value.hint is not None
    assert "secrets.age_keys" in refused.value.hint
    with pytest.raises(Refused):
        await register.password("shop", "shop_owner")
    assert not (await registers.tracked()).outputs


async def test_password_of_a_role_stays_what_it_is(registers: Registers) -> None:
    """Whoever asks again, also in the next operation, is told the same; another role has another."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    owner = await register.password("shop", "shop_owner")
    assert len(owner) >= 32
    assert await register.password("shop", "shop_reader") != owner
    await register.keep("shop", "h1", [])
    await registers.ended(claim)
    (claim,) = await registers.claims("eu")
    assert await registers.of(claim).password("shop", "shop_owner") == owner
    await registers.of(claim).removed("shop")
    assert await registers.of(claim).password("shop", "shop_owner") != owner


async def test_job_is_done_for_the_inputs_it_ended_well_with(registers: Registers) -> None:
    """Attempts are counted within an operation; one whose end nobody told is told to be unknown."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    assert await register.job_began("seed", "change", "h1", "i1") == 1
    assert await register.job_began("seed", "change", "h1", "i2") == 2
    await register.job_ended("seed", "i2", exit_status=3, error="it ended with 3")
    assert not (await registers.tracked()).jobs
    assert await register.job_began("seed", "change", "h1", "i3") == 3
    for _ in range(2):
        await register.job_ended("seed", "i3", exit_status=0, error=None)
    assert (await registers.tracked()).jobs == {"seed": "h1"}
    assert await register.job_began("seed", "change", "h2", "i4") == 1
    await register.job_ended("seed", "i4", exit_status=1, error="")
    assert (await registers.tracked()).jobs == {"seed": "h1"}
    rows = await registers.control.rows("SELECT error FROM reconciler_control.job_runs ORDER BY id")
    assert [row[0] for row in rows] == [
        "how it ended is not known: who ran it was gone",
        "it ended with 3",
        None,
        "no reason is known",
    ]


async def test_old_runs_of_a_job_are_forgotten(registers: Registers) -> None:
    """The newest runs are kept, and the last that was done, however long ago that is."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)
    await register.job_began("seed", "schedule", "h0", "i0")
    await register.job_ended("seed", "i0", exit_status=0, error=None)
    await registers.control.connection.execute(
        "INSERT INTO reconciler_control.job_runs"
        " (environment, deployment, component, trigger, inputs_hash, instance, attempt, operation, ended_at,"
        " error)"
        " SELECT 'production', 'eu', 'seed', 'schedule', 'h1', 'x', g, %s, clock_timestamp(), 'no'"
        " FROM generate_series(1, 200) AS g",
        [int(claim.operation)],
    )
    await registers.ended(claim)
    (claim,) = await registers.claims("eu")
    await registers.of(claim).job_began("seed", "schedule", "h1", "i1")
    assert (await registers.tracked()).jobs == {"seed": "h0"}
    (count,) = (await registers.control.rows("SELECT count(*) FROM reconciler_control.job_runs"))[0]
    assert count == programs.RUNS_KEPT + 1


async def test_route_belongs_to_who_claimed_it_first(registers: Registers) -> None:
    """Another deployment is told whose it is, before it plans and as it sets it; a removed one is free."""
    mine, theirs = await registers.claims("eu", "us")
    await registers.of(mine).claim_route("edge", "edge", "Shop.example.com", "/")
    with pytest.raises(Conflict, match="is the route 'edge' of deployment 'eu' of environment 'production'"):
        await registers.of(theirs).claim_route("front", "edge", "shop.example.com", "/")
    wanted = RouteClaim(component="front", proxy="edge", host="shop.example.com", path="/")
    connection = registers.control.connection
    taken = await programs.routes_of_others(connection, "production", "us", [wanted])
    assert taken["front"].startswith("'shop.example.com/' of proxy 'edge' is the route 'edge'")
    assert not await programs.routes_of_others(connection, "production", "eu", [wanted])
    await registers.of(theirs).claim_route("front", "edge", "shop.example.com", "/api")
    await registers.of(mine).removed("edge")
    await registers.of(theirs).claim_route("front", "edge", "shop.example.com", "/")


async def test_route_frees_what_it_had_once_it_is_set_elsewhere(registers: Registers) -> None:
    """Both places are its own until then; one that could not be set gives back the new place only."""
    (claim,) = await registers.claims("eu")
    register = registers.of(claim)

    async def paths() -> list[tuple[str, bool]]:
        return [
            (row[0], row[1])
            for row in await registers.control.rows(
                "SELECT path, is_live FROM reconciler_control.routes ORDER BY path"
            )
        ]

    route = service(component="edge", kind="Route", instance=None, place=None)
    await register.claim_route("edge", "edge", "shop.example.com", "/a")
    await register.applied(route)
    await register.claim_route("edge", "edge", "shop.example.com", "/b")
    assert await paths() == [("/a", True), ("/b", False)]
    await register.rolled_back("edge")
    assert await paths() == [("/a", True)]
    await register.claim_route("edge", "edge", "shop.example.com", "/b")
    await register.applied(route)
    assert await paths() == [("/b", True)]
    await register.claim_route("renamed", "edge", "shop.example.com", "/b")
    await register.removed("edge")
    assert await paths() == [("/b", True)]


async def test_nothing_is_written_for_an_operation_that_is_anothers(registers: Registers) -> None:
    """Every write raises LeaseLost and leaves all as it was."""
    (claim,) = await registers.claims("eu")
    await registers.of(claim).applied(service())
    before = await registers.tracked()
    await registers.ended(claim)
    register = registers.of(claim)
    writes = [
        register.applying(service("2")),
        register.applied(service("2")),
        register.rolled_back("api"),
        register.stopped("api"),
        register.removed("api"),
        register.output(OutputReference(component="api", output="port")),
        register.keep("api", "h2", [made("port", "1")]),
        register.password("api", "owner"),
        register.job_began("seed", "change", "h1", "i1"),
        register.job_ended("seed", "i1", exit_status=0, error=None),
        register.claim_route("edge", "edge", "h", "/"),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            await write
    after = await registers.tracked()
    assert after == before
    assert not after.outputs
    assert not after.jobs


async def test_all_of_an_environment_is_read_at_once(registers: Registers) -> None:
    """Also what is left of deployments that the spec does not name any more."""
    eu, us = await registers.claims("eu", "us")
    await registers.of(eu).applied(service())
    await registers.of(us).keep("shop", "h1", [made("host", "db")])
    found = await programs.read_all(registers.control.connection, "production")
    assert {name: (list(each.components), list(each.outputs)) for name, each in found.items()} == {
        "eu": (["api"], []),
        "us": ([], ["shop.host"]),
    }
    assert await programs.known_environments(registers.control.connection) == {"production"}


async def test_people_are_shown_how_everything_is(registers: Registers) -> None:
    """Services and routes as they were found last, jobs by their last run, outputs without secrets."""
    (claim,) = await registers.claims("eu")
    register, connection = registers.of(claim), registers.control.connection
    await register.applied(service())
    await register.applied(service(component="edge", kind="Route", instance=None, place=None))
    await register.job_began("seed", "change", "h1", "i1")
    await register.job_ended("seed", "i1", exit_status=3, error="it ended with 3")
    await register.keep(
        "seed", "h1", [made("rows", 1, kind=OutputType.NUMBER), made("t", "x", sensitive=True)]
    )

    async def states() -> list[tuple[str, str | None, str | None]]:
        (found,) = await environments.read_environments(connection, ["production"])
        return [(row.component, row.state, row.reason) for row in found.programs]

    seed = ("seed", "failed", "it ended with 3")
    # Until a pass notes the order of the spec: jobs, what runs, and then what leads to it.
    assert await states() == [seed, ("api", "healthy", None), ("edge", "set", None)]
    found = [
        FoundState(component="edge", state="absent", reason="gone", ordinal=0),
        FoundState(component="api", state="exited", ordinal=1),
    ]
    for _ in range(2):
        await programs.note_states(connection, "production", "eu", found)
    assert await states() == [("edge", "absent", "gone"), ("api", "exited", None), seed]
    await register.applying(service("2"))
    await programs.note_states(connection, "production", "eu", [FoundState(component="api", state="absent")])
    assert (await states())[1] == ("api", "exited", None)
    kept = await programs.read_outputs(connection, "production", None)
    assert [(row.name, row.value, row.sensitive) for row in kept] == [("rows", 1, False), ("t", None, True)]
    counted = {(row.kind, row.state): row.count for row in (await read_gauges(connection)).programs}
    assert counted == {("Service", "exited"): 1, ("Route", "absent"): 1, ("Job", "failed"): 1}


async def test_quiet_for_long_counts_anew(registers: Registers) -> None:
    """What was put back is forgotten only where that is long ago."""
    (claim,) = await registers.claims("eu")
    await registers.of(claim).applied(service(), healed=True)
    connection = registers.control.connection
    assert await programs.forget_heals(connection, "production", "eu", ["api"]) == ()
    await connection.execute(
        "UPDATE reconciler_control.programs SET healed_at = healed_at - interval '61 minutes'"
    )
    assert await programs.forget_heals(connection, "production", "eu", ["api"]) == ("api",)
    assert (await registers.tracked()).components["api"].heals == 0


async def test_jobs_for_a_start_or_a_stop_run_once_for_each(registers: Registers) -> None:
    """What ran since somebody stopped or started the environment is known, and what ran before is over."""
    (claim,) = await registers.claims("eu")
    register, connection = registers.of(claim), registers.control.connection

    async def runs(trigger: str) -> None:
        await register.job_began("seed", trigger, "h1", trigger)
        await register.job_ended("seed", trigger, exit_status=0, error=None)

    await runs("start")
    assert (await registers.tracked()).ran == {"seed"}
    await stops.stop(connection, "production", reason="", actor="ada")
    stopped = await registers.tracked()
    assert (stopped.stopped, stopped.ran) == (True, frozenset())
    await runs("stop")
    assert (await registers.tracked()).ran == {"seed"}
    await stops.start(connection, "production", reason="", actor="ada")
    started = await registers.tracked()
    assert (started.stopped, started.started, started.ran) == (False, False, frozenset())


async def test_a_job_that_never_came_to_its_end_is_forgotten_in_time(registers: Registers) -> None:
    """It is told as failed, and counted, until an operation is done in which it has no part any more."""
    (claim,) = await registers.claims("eu")
    register, connection = registers.of(claim), registers.control.connection
    await register.job_began("seed", "change", "h1", "1-a")
    await register.job_ended("seed", "1-a", exit_status=3, error="it exited with 3")

    async def told() -> tuple[list[str | None], int]:
        shown = (await programs.read_statuses(connection, ["production"])).get("production", ())
        return [each.state for each in shown], len((await read_gauges(connection)).programs)

    assert await told() == (["failed"], 1)
    await registers.ended(claim)
    assert await told() == ([], 0)
