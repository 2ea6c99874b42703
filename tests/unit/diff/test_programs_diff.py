"""Services, jobs and routes: what is pending, what drifted, what is in the way."""

from dataclasses import replace

import pytest

from reconciler.diff.compare import compare
from reconciler.diff.model import Diff, JobDiff, RouteDiff, ServiceAction, ServiceDiff
from reconciler.diff.programs import ProgramContext
from reconciler.state.desired import DesiredState
from reconciler.state.live import LiveInstance, LivePrograms
from reconciler.state.programs import DesiredData, DesiredOutput, DesiredServer, RuntimeName, Trigger
from tests.plugins.programs_model import (
    CONTEXT,
    World,
    accessible,
    applied,
    edited,
    environment,
    instance_of,
    job,
    nothing,
    output,
    planned,
    program,
    route,
    service,
    stopped,
)

HEAL = ProgramContext(drift="heal")


def diff_of(wanted: DesiredState, world: World, context: ProgramContext | None = None) -> Diff:
    contexts = {part.database: CONTEXT for part in wanted.databases}
    return compare(wanted, *world, contexts, context or ProgramContext())


def one_service(wanted: DesiredState, world: World, context: ProgramContext | None = None) -> ServiceDiff:
    (part,) = [part for part in diff_of(wanted, world, context).programs if isinstance(part, ServiceDiff)]
    return part


def one_job(wanted: DesiredState, world: World) -> JobDiff:
    (part,) = [part for part in diff_of(wanted, world).programs if isinstance(part, JobDiff)]
    return part


def one_route(wanted: DesiredState, world: World, context: ProgramContext | None = None) -> RouteDiff:
    (part,) = [part for part in diff_of(wanted, world, context).programs if isinstance(part, RouteDiff)]
    return part


def rolled_out(wanted: DesiredState) -> World:
    """What there is once a spec was rolled out."""
    return applied(wanted, planned(wanted, nothing()), nothing())


def with_live(world: World, **more: object) -> World:
    tracked, live = world
    return tracked, replace(live, programs=replace(live.programs, **more))  # type: ignore[arg-type]


def with_tracked(world: World, component: str, **more: object) -> World:
    tracked, live = world
    one = replace(tracked.programs.components[component], **more)  # type: ignore[arg-type]
    components = {**tracked.programs.components, component: one}
    return replace(tracked, programs=replace(tracked.programs, components=components)), live


def test_service_that_was_never_started_is_added() -> None:
    """And one that is as it should be has nothing pending and no drift."""
    wanted = environment(service("api"))
    part = one_service(wanted, nothing())
    assert (part.action, part.reason) == (ServiceAction.ADD, "it was never started here")
    assert part.pending[0].identity == "service api"
    after = diff_of(wanted, rolled_out(wanted))
    assert (after.pending, after.drift, after.blocked, after.diverged) == ((), (), (), ())


def test_change_says_what_changed_and_no_value() -> None:
    """In the words of specs; of what is consumed only that it changed."""
    before = service("api", program(env={"MODE": "old"}, user="one"))
    wanted = environment(service("api", program(env={"MODE": "new"}, user="two")))
    part = one_service(wanted, rolled_out(environment(before)))
    assert (part.action, part.reason) == (ServiceAction.CHANGE, "changed: env MODE, user")
    assert part.replaces == before.instance
    assert part.pending[0].action.value == "change"


def test_change_of_what_is_consumed_is_told() -> None:
    """The definition is the same, and its hash is not."""
    own = program(uses=("shop-db.url",))
    db = accessible("shop-db", "url")
    world = rolled_out(environment(service("api", own, version="1"), databases=[db]))
    wanted = environment(service("api", own, version="2"), databases=[db])
    assert one_service(wanted, world).reason == "changed: what it consumes (shop-db.url)"


@pytest.mark.parametrize(
    ("before", "after", "beside"),
    [
        ({"ports": (None,)}, {"ports": (None,)}, True),
        ({"ports": (8080,)}, {"ports": (8080,)}, False),
        ({"ports": (8080,)}, {"ports": (8081,)}, True),
        ({"ports": (None,)}, {"ports": (8080,)}, True),
        ({"runtime": "container", "ports": (8080,)}, {"runtime": "container", "ports": (8080,)}, True),
        ({"runtime": "process", "ports": (8080,)}, {"runtime": "container", "ports": (8080,)}, True),
        ({"runtime": "process", "ports": (8080,)}, {"runtime": "systemd", "ports": (8080,)}, False),
    ],
    ids=["chosen", "same-number", "other-number", "new-number", "container", "to-container", "to-systemd"],
)
def test_new_instance_stands_beside_the_old_one_unless_both_want_one_port(
    before: dict[str, object], after: dict[str, object], beside: bool
) -> None:
    """Ports inside of containers are their own."""
    world = rolled_out(environment(service("api", program(**before))))  # type: ignore[arg-type]
    part = one_service(environment(service("api", program(**after), version="2")), world)  # type: ignore[arg-type]
    assert (part.action, part.beside) == (ServiceAction.CHANGE, beside)


def test_service_with_data_is_replaced_in_place() -> None:
    """Whatever its ports are."""
    own = program(data=(DesiredData(name="main"),))
    world = rolled_out(environment(service("pg", own, in_place=True)))
    part = one_service(environment(service("pg", own, in_place=True, version="2")), world)
    assert not part.beside


GONE = None
STATES = {
    "gone": (GONE, "is not there any more"),
    "exited": (
        LiveInstance(instance="", state="exited", reason="it exited with 1"),
        "has ended: it exited with 1",
    ),
    "unhealthy": (LiveInstance(instance="", state="unhealthy", lasting=True), "is unhealthy"),
    "edited": (LiveInstance(instance="", state="healthy", definition_hash="x"), "with another definition"),
}


@pytest.mark.parametrize("name", STATES)
def test_what_runs_otherwise_is_drift_and_healed_only_where_policy_says_so(name: str) -> None:
    """Told by default, put back with `heal`, not looked at with `ignore`."""
    wanted = environment(service("api"))
    (own,) = wanted.programs.services
    there, words = STATES[name]
    found = replace(there, instance=own.instance) if there is not None else None
    world = edited(rolled_out(wanted), api=found)
    told = one_service(wanted, world)
    assert told.action is None
    assert words in told.drift[0].detail
    healed = one_service(wanted, world, HEAL)
    assert (healed.action, healed.beside, healed.blocked) == (ServiceAction.HEAL, False, ())
    assert healed.replaces == own.instance
    assert one_service(wanted, world, ProgramContext(drift="ignore")).drift == ()


def test_instance_that_is_unhealthy_for_a_moment_is_left_to_its_runtime() -> None:
    """It is told; putting back what is started again anyway would only end it."""
    wanted = environment(service("api"))
    world = edited(rolled_out(wanted), api=instance_of(wanted.programs.services[0], "unhealthy"))
    part = one_service(wanted, world, HEAL)
    assert (part.action, len(part.drift), part.blocked) == (None, 1, ())


def test_healing_waits_and_stops_after_five_times() -> None:
    """Until its time nothing is planned; behind the last time a person is told what to do."""
    wanted = environment(service("api"))
    world = edited(rolled_out(wanted), api=None)
    tracked, live = with_tracked(world, "api", heals=2, heal_after=1000.0)
    early = replace(tracked, programs=replace(tracked.programs, read_at=999.0)), live
    late = replace(tracked, programs=replace(tracked.programs, read_at=1000.0)), live
    waits = one_service(wanted, early, HEAL)
    assert (waits.action, waits.blocked, len(waits.drift)) == (None, (), 1)
    assert one_service(wanted, late, HEAL).action is ServiceAction.HEAL
    over = one_service(wanted, with_tracked(late, "api", heals=5), HEAL)
    assert over.action is None
    assert "put back 5 times" in over.blocked[0]


def test_unknown_blocks_and_nothing_is_planned() -> None:
    """A runtime that does not answer, another machine, or an instance nobody can say anything of."""
    wanted = environment(service("api", version="2"))
    world = rolled_out(environment(service("api")))
    silent = with_live(world, unknown={"api": "it runs on machine 'two'"}, instances={})
    part = one_service(wanted, silent, HEAL)
    assert part.blocked == ("nothing is known of it: it runs on machine 'two'",)
    assert part.drift == ()
    assert planned(wanted, silent).steps == ()
    unclear = edited(world, api=instance_of(environment(service("api")).programs.services[0], "unknown"))
    assert "nothing is known of its instance" in one_service(wanted, unclear).blocked[0]


def test_unfit_runtime_blocks_only_what_is_to_be_done() -> None:
    """What runs already goes on."""
    wanted = environment(service("api"))
    unfit = {"process": "cgroups are missing"}
    assert one_service(wanted, with_live(nothing(), unfit=unfit)).blocked == (
        "runtime 'process' cannot run it: cgroups are missing",
    )
    assert one_service(wanted, with_live(rolled_out(wanted), unfit=unfit)).blocked == ()
    away = with_live(nothing(), unfit=unfit, unknown={"api": "cgroups are missing"})
    assert one_service(wanted, away).blocked == ("runtime 'process' cannot run it: cgroups are missing",)


def test_stray_instances_are_ended_around_what_runs() -> None:
    """And what was on its way when its worker died is gone on with, or settled where it is not wanted."""
    wanted = environment(service("api"))
    (own,) = wanted.programs.services
    stray = LiveInstance(instance="f" * 16, state="healthy")
    world = with_live(rolled_out(wanted), instances={"api": (instance_of(own), stray)})
    part = one_service(wanted, world)
    assert (part.action, part.strays, part.beside) == (ServiceAction.SETTLE, ("f" * 16,), True)
    left = with_tracked(rolled_out(wanted), "api", applying="f" * 16)
    assert one_service(wanted, left).action is ServiceAction.SETTLE
    newer = environment(service("api", version="2"))
    goes_on = with_tracked(rolled_out(wanted), "api", applying=newer.programs.services[0].instance)
    assert one_service(newer, goes_on).action is ServiceAction.CHANGE


def test_what_is_under_way_is_no_drift() -> None:
    """In place the old one ends before the new one is there; routes are switched before that is recorded."""
    (old, new) = (environment(service("api", version=each), route("edge", "api")) for each in "12")
    there, coming = (instance_of(each.programs.services[0]) for each in (old, new))
    world = with_tracked(rolled_out(old), "api", applying=coming.instance)
    parts = one_service(new, edited(world, api=coming)), one_service(new, edited(world, api=None))
    assert [part.drift for part in parts] == [(), ()]
    both = with_live(world, instances={"api": (there, coming)})
    assert both[1].programs.routes["edge"].to == "{1}:{2}".format(*there.endpoints[0])
    led = replace(both[1].programs.routes["edge"], to="{1}:{2}".format(*coming.endpoints[0]))
    assert one_route(new, with_live(both, routes={"edge": led})).drift == ()
    assert one_route(new, with_live(world, instances={"api": (coming,)})).drift == ()


def test_instance_nobody_recorded_is_replaced() -> None:
    """Where the record was lost, what runs is ours by its labels."""
    wanted = environment(service("api", program(ports=(8080,)), version="2"))
    old = instance_of(environment(service("api", program(ports=(8080,)))).programs.services[0])
    part = one_service(wanted, edited(nothing(), api=old))
    assert (part.action, part.replaces, part.beside) == (ServiceAction.ADD, old.instance, False)


def test_another_kind_of_the_same_name_blocks() -> None:
    """A record is of one thing at a time."""
    world = rolled_out(environment(service("api")))
    part = one_job(environment(job("api")), world)
    assert "a Service of this name runs here" in part.blocked[0]


def test_job_runs_for_its_inputs_once() -> None:
    """Again when they change, and not otherwise."""
    wanted = environment(job("seed"))
    assert one_job(wanted, nothing()).reason == "never ran to its end"
    world = rolled_out(wanted)
    assert one_job(wanted, world).trigger is None
    changed = one_job(environment(job("seed", version="2")), world)
    assert (changed.trigger, changed.reason) == (Trigger.CHANGE, "its inputs changed")


def test_job_runs_again_where_its_outputs_are_gone() -> None:
    """Whatever it runs for: somebody needs them."""
    wanted = environment(
        job("seed", outputs=(DesiredOutput(name="token"),), triggers=frozenset({Trigger.START})),
        service("api", program(uses=("seed.token",))),
    )
    tracked, live = rolled_out(wanted)
    assert one_job(wanted, (tracked, live)).trigger is None
    lost = replace(tracked, programs=replace(tracked.programs, outputs={}))
    assert one_job(wanted, (lost, live)).reason == "of its outputs these are not kept: token"


def test_jobs_of_the_start_and_the_stop_run_once_each() -> None:
    """Also where the rollout in which they ran is made again."""
    on_start = environment(job("warm", triggers=frozenset({Trigger.START})))
    assert one_job(on_start, nothing()).trigger is Trigger.START
    assert one_job(on_start, rolled_out(on_start)).trigger is None
    again = stopped(stopped(rolled_out(on_start)), stop=False)
    assert one_job(on_start, again).trigger is Trigger.START
    assert one_job(on_start, stopped(rolled_out(on_start))).trigger is None


def test_route_is_set_once_and_told_where_it_was_changed() -> None:
    """Lost by its proxy, edited there, or leading to where its service is not."""
    wanted = environment(service("api"), route("edge", "api"))
    assert one_route(wanted, nothing()).pending[0].identity == "route shop.example.com/"
    world = rolled_out(wanted)
    assert diff_of(wanted, world).drift == ()
    there = world[1].programs.routes["edge"]
    for routes, words in (
        ({}, "does not have it any more"),
        ({"edge": replace(there, edited=True)}, "changed in its proxy"),
        ({"edge": replace(there, to="127.0.0.1:1")}, "where service 'api' is not"),
    ):
        drifted = with_live(world, routes=routes)
        told = one_route(wanted, drifted)
        assert told.action is None
        assert words in told.drift[0].detail
        healed = one_route(wanted, drifted, HEAL)
        assert (healed.works, healed.heals) == (True, True)
        fought = with_tracked(drifted, "edge", heals=5)
        assert "put back 5 times" in one_route(wanted, fought, HEAL).blocked[0]


def test_route_takes_no_host_and_path_from_another_of_its_deployment() -> None:
    """One that was renamed, or two that change places: in between nothing would be led anywhere."""
    world = rolled_out(environment(service("api"), route("old", "api")))
    renamed = one_route(environment(service("api"), route("new", "api")), world)
    assert "route 'old' has this host and path now" in renamed.blocked[0]
    lost = with_live(world, routes={})
    assert one_route(environment(service("api"), route("new", "api")), lost).blocked == ()


def test_route_of_somebody_else_blocks_only_the_route() -> None:
    """Whose it is, is told; the service is rolled all the same."""
    wanted = environment(service("api"), route("edge", "api"))
    barred = with_live(nothing(), barred={"edge": "it is of environment 'other'"})
    assert one_route(wanted, barred).blocked == ("it is of environment 'other'",)
    assert [step.component for step in planned(wanted, barred).steps] == ["api", "api"]


def test_routes_are_switched_with_the_service_they_lead_to() -> None:
    """Those that lead there as they were set: changed, moved or gone from the spec, none is left dead."""
    before = environment(
        service("api"),
        service("other"),
        route("edge", "api"),
        route("old", "api", host="old.example.com"),
        route("moves", "api", host="moves.example.com"),
        route("path", "api", host="path.example.com"),
    )
    wanted = environment(
        service("api", version="2"),
        service("other"),
        route("edge", "api"),
        route("moves", "other", host="moves.example.com"),
        route("path", "api", host="path.example.com", path="/new"),
        route("new", "api", host="new.example.com"),
    )
    world = rolled_out(before)
    (part, _other) = [part for part in diff_of(wanted, world).programs if isinstance(part, ServiceDiff)]
    assert part.routes == ("edge", "moves", "old", "path")
    lost = {name: one for name, one in world[1].programs.routes.items() if name != "edge"}
    (part, _other) = [
        part
        for part in diff_of(wanted, with_live(world, routes=lost)).programs
        if isinstance(part, ServiceDiff)
    ]
    assert part.routes == ("moves", "old", "path")


def test_service_is_not_replaced_while_its_route_cannot_be_switched() -> None:
    """Requests would be led to what is gone."""
    before = environment(service("api"), route("edge", "api"))
    world = with_live(rolled_out(before), unknown={"edge": "the proxy does not answer"}, routes={})
    wanted = environment(service("api", version="2"), route("edge", "api"))
    assert one_service(wanted, world).blocked == (
        "route 'edge', which leads to it, cannot be switched now: the proxy does not answer",
    )


def test_consumers_of_what_does_not_come_are_blocked() -> None:
    """Each names what it waits for, over any number of steps between."""
    wanted = environment(
        job("seed", outputs=(DesiredOutput(name="token"),)),
        service("api", program(uses=("seed.token",))),
        service("web", program(uses=("api.port",))),
        route("edge", "web"),
    )
    blocked = diff_of(wanted, with_live(nothing(), unfit={"process": "why"})).blocked
    assert "api: component 'seed', which makes seed.token, is blocked" in blocked
    assert "web: component 'api', which makes api.port, is blocked" in blocked
    assert "edge: service 'web', to which it leads, is blocked" in blocked


def test_skipped_producers_block_unless_their_outputs_are_kept() -> None:
    """What was made before serves on."""
    token = (DesiredOutput(name="token"),)
    wanted = environment(job("seed", outputs=token), service("api", program(uses=("seed.token",))))
    skips = environment(job("seed", outputs=token, skip=True), service("api", program(uses=("seed.token",))))
    assert one_service(skips, nothing()).blocked == ("component 'seed', which makes seed.token, is skipped",)
    changed = environment(
        job("seed", outputs=token, skip=True), service("api", program(uses=("seed.token",)), version="2")
    )
    assert one_service(changed, rolled_out(wanted)).blocked == ()


def test_what_comes_after_something_blocked_is_blocked() -> None:
    """The edge is there because the other has to be done first."""
    wanted = environment(service("one", program(runtime="container")), service("two", after=("one",)))
    unfit = with_live(nothing(), unfit={RuntimeName.CONTAINER.value: "no engine"})
    assert "two: component 'one', which it comes after, is blocked" in diff_of(wanted, unfit).blocked


def test_database_on_a_service_that_was_never_started_is_made_behind_it() -> None:
    """In one plan; where the service cannot be started, nothing is done in the database."""
    wanted = environment(
        service("pg", program(ports=(5432,)), stage="servers", in_place=True),
        databases=[accessible("shop-db", on="pg")],
    )
    assert [step.id for step in planned(wanted, nothing()).steps] == [
        "pg/prepare-program",
        "pg/roll-service",
        "shop-db/create-database",
    ]
    unfit = with_live(nothing(), unfit={"process": "why"})
    assert "shop-db: service 'pg', on which it lives, is blocked" in diff_of(wanted, unfit).blocked


def test_database_waits_for_who_makes_the_password_of_its_server() -> None:
    """A blocked or skipped job is none that makes it; what is kept serves."""
    token = (DesiredOutput(name="token"),)
    on = DesiredServer(service="pg", port="http", user="postgres", password=output("secret.token"))
    db = replace(accessible("shop-db", on="pg"), on=on)
    pg = service("pg", program(ports=(5432,)), stage="servers", in_place=True)
    secret = job("secret", program(runtime="container", ports=()), stage="servers", outputs=token)
    wanted = environment(pg, secret, databases=[db])
    unfit = with_live(nothing(), unfit={"container": "no engine"})
    why = "shop-db: component 'secret', which makes secret.token, is "
    assert f"{why}blocked" in diff_of(wanted, unfit).blocked
    skips = environment(pg, replace(secret, skip=True), databases=[db])
    assert f"{why}skipped" in diff_of(skips, nothing()).blocked
    assert diff_of(skips, rolled_out(wanted)).blocked == ()


def test_service_that_does_not_answer_blocks_its_databases_alone() -> None:
    """What it holds is not known, which is not nothing; others go on."""
    wanted = environment(
        service("pg", program(ports=(5432,)), stage="servers", in_place=True),
        databases=[accessible("shop-db", on="pg"), accessible("other-db")],
    )
    tracked, live = rolled_out(wanted)
    silent = replace(live, servers={"pg": None}, silent={"pg": "connection refused"})
    found = diff_of(wanted, (tracked, silent))
    assert len(found.blocked) == 1
    assert found.blocked[0].startswith("shop-db: ")


def test_what_left_the_spec_is_told_and_removed_only_with_consent() -> None:
    """It is diverged either way; services with data need consent by their hazard too."""
    before = environment(service("api"), service("old"))
    world = rolled_out(before)
    stays = diff_of(environment(service("api")), world)
    assert (stays.pending, stays.diverged[0].identity) == ((), "service old")
    assert "policy.prune is off" in stays.diverged[0].detail
    goes = diff_of(environment(service("api")), world, ProgramContext(prune=True))
    assert [(row.identity, row.action.value) for row in goes.pending] == [("service old", "remove")]
    silent = with_live(world, unknown={"old": "why"})
    assert diff_of(environment(service("api")), silent, ProgramContext(prune=True)).blocked == (
        "old: nothing is known of it: why",
    )


def test_never_is_everything_pruned() -> None:
    """A spec that declares nothing at all is a mistake more often than a wish."""
    world = rolled_out(environment(service("api")))
    assert diff_of(environment(), world, ProgramContext(prune=True)).pending == ()


def test_nothing_starts_in_an_environment_that_is_stopped() -> None:
    """What runs is to be off, and is recorded on; afterwards nothing is pending."""
    wanted = environment(service("api"), job("seed"), route("edge", "api"))
    world = stopped(rolled_out(environment(service("api"), route("edge", "api"))))
    found = diff_of(wanted, world)
    assert {row.identity for row in found.pending} == {"service api", "route edge"}
    off = applied(wanted, planned(wanted, world), world)
    assert diff_of(wanted, off).pending == ()
    on = diff_of(wanted, stopped(off, stop=False))
    assert {row.reason for row in on.pending} == {
        "it was stopped, and is to run again",
        "never ran to its end",
        "not set yet",
    }


def test_record_of_a_live_program_tells_no_more_than_its_definition() -> None:
    """Without programs in the record and on the machine nothing is said at all."""
    wanted = environment(databases=[accessible()])
    contexts = {"shop-db": CONTEXT}
    tracked, live = nothing()
    assert compare(wanted, tracked, replace(live, programs=LivePrograms()), contexts).programs == ()
