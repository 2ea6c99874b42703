"""Services are rolled: the new instance first, then the old one's end, or everything as it was."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from reconciler.errors import (
    Conflict,
    LeaseLost,
    PermanentError,
    Refused,
    RuntimeUnavailable,
    StepFailed,
)
from reconciler.execution import program_steps, services
from reconciler.execution.interference import Interference
from reconciler.execution.register import Made
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import ServiceState
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.programs import DesiredPort, DesiredService, OutputType, RuntimeName
from tests.plugins.rolling import HTTP, Rolling, rolling, route, service
from tests.plugins.services import API, FOR_EVER, bench

__all__ = ["bench", "rolling"]


@pytest.fixture(autouse=True)
def no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No requests are on their way."""
    monkeypatch.setattr(services, "DRAIN_S", 0.0)


ONE = service(f": one; {FOR_EVER}")
TWO = service(f": two; {FOR_EVER}")


async def test_a_service_is_added_and_replaced(rolling: Rolling) -> None:
    """The new instance is the only one in the end, healthy, and what the register has."""
    for wanted in (ONE, TWO):
        await rolling.carry_out(rolling.roll(wanted), wanted)
        found = await rolling.there()
        assert [(each.instance, each.state) for each in found] == [(wanted.instance, ServiceState.HEALTHY)]
        recorded = rolling.register.components["api"]
        assert (recorded.instance, recorded.applying) == (wanted.instance, None)


@pytest.mark.parametrize("in_place", [False, True], ids=["beside", "in-place"])
async def test_what_does_not_stay_up_is_taken_back(rolling: Rolling, in_place: bool) -> None:
    """A crash loop is seen; the old instance serves, and the error says why, with what was said last."""
    old = service(f": one; {FOR_EVER}", in_place=in_place)
    await rolling.carry_out(rolling.roll(old), old)
    broken = service("echo no room for me >&2; exit 3", in_place=in_place)
    with pytest.raises(StepFailed, match=r"does not stay up: it ended with 3; it said last: no room for me"):
        await rolling.carry_out(rolling.roll(broken), broken)
    found = await rolling.there()
    assert [(each.instance, each.state) for each in found] == [(old.instance, ServiceState.HEALTHY)]
    recorded = rolling.register.components["api"]
    assert (recorded.instance, recorded.applying) == (old.instance, None)


POINTS = {
    False: ("noted", "applied", "healthy", "routed", "recorded"),
    True: ("noted", "ended", "applied", "healthy", "routed", "recorded"),
}


@pytest.mark.parametrize(
    ("in_place", "point"),
    [(in_place, point) for in_place, points in POINTS.items() for point in points],
    ids=lambda value: value if isinstance(value, str) else "in-place" if value else "beside",
)
async def test_a_worker_that_dies_anywhere_leaves_one_instance(
    rolling: Rolling, in_place: bool, point: str
) -> None:
    """Whoever comes after it ends with the new instance alone: healthy, routed to, recorded, output kept."""
    shop = route()
    old, new = (service(f": {name}; {FOR_EVER}", in_place=in_place, program=HTTP) for name in ("one", "two"))
    await rolling.carry_out(rolling.roll(old), old)
    await rolling.carry_out(rolling.set_route(shop), shop, old)
    step = rolling.roll(new, routes=("shop",), produces=("api.port",), outputs_hash="h")
    await rolling.until_struck(f"{point} {step.id}", step, new, shop)
    await rolling.carry_out(step, new, shop)
    (found,) = await rolling.there()
    assert (found.instance, found.state) == (new.instance, ServiceState.HEALTHY)
    (endpoint,) = found.endpoints
    assert rolling.proxy.led[-1] == ("shop", (endpoint.host, endpoint.port))
    assert rolling.register.components["api"].instance == new.instance
    assert rolling.register.outputs["api.port"][0].value == endpoint.port


@pytest.mark.parametrize("in_place", [False, True], ids=["beside", "in-place"])
async def test_a_worker_that_dies_going_back_is_followed(rolling: Rolling, in_place: bool) -> None:
    """The next one finds what is not healthy, and goes back to the end: the old instance alone serves."""
    old = service(f": one; {FOR_EVER}", in_place=in_place)
    broken = service("exit 3", in_place=in_place)
    await rolling.carry_out(rolling.roll(old), old)
    step = rolling.roll(broken)
    await rolling.until_struck(f"back {step.id}", step, broken)
    with pytest.raises(StepFailed, match="does not stay up"):
        await rolling.carry_out(step, broken)
    assert await rolling.serving() == [old.instance]
    assert rolling.register.components["api"].instance == old.instance


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"program": {"user": "nobody-of-that-name"}}, "there is none of that name"),
        (
            {"program": HTTP, "health": {"check": "http", "port": "http", "deadline_s": 0.3}},
            "not healthy within",
        ),
        (
            {
                "program": {**HTTP, "argv": ("/bin/sleep", "1000")},
                "health": {
                    "check": "command",
                    "argv": ("/bin/sleep", "1000"),
                    "check_timeout_s": 0.1,
                    "deadline_s": 0.3,
                },
            },
            "no answer within",
        ),
    ],
    ids=["cannot-start", "never-healthy", "check-hangs"],
)
async def test_nothing_unhealthy_takes_the_place_of_what_serves(
    rolling: Rolling, wrong: dict[str, Any], why: str
) -> None:
    """Whatever is wrong with the new instance, the old one goes on and is routed to, and nothing is left."""
    shop = route()
    old = service(FOR_EVER, program=HTTP)
    await rolling.carry_out(rolling.roll(old), old)
    await rolling.carry_out(rolling.set_route(shop), shop, old)
    new = service(f": new; {FOR_EVER}", **wrong)
    with pytest.raises(PermanentError, match=why):
        await rolling.carry_out(rolling.roll(new, routes=("shop",)), new, shop)
    assert await rolling.serving() == [old.instance]
    assert len(rolling.proxy.led) == 1


async def test_a_port_that_is_taken_leaves_the_old_one_running(rolling: Rolling) -> None:
    """With a number of its own it is replaced in place: the old one is started again where the new cannot."""
    with socket.socket() as taken, socket.socket() as free:
        for each in (taken, free):
            each.bind(("127.0.0.1", 0))
        taken.listen()
        number = free.getsockname()[1]
        free.close()
        old = _on(number)
        await rolling.carry_out(rolling.roll(old), old)
        new = _on(taken.getsockname()[1])
        with pytest.raises(PermanentError, match="is taken"):
            await rolling.carry_out(rolling.roll(new), new)
    assert await rolling.serving() == [old.instance]


def _on(number: int) -> DesiredService:
    return service(FOR_EVER, in_place=True, program={"ports": (DesiredPort(name="http", number=number),)})


async def test_a_proxy_that_is_away_begins_nothing(rolling: Rolling) -> None:
    """Where routes could not be switched, no second instance is started; later it goes on by itself."""
    shop = route()
    old, new = (service(f": {name}; {FOR_EVER}", program=HTTP) for name in ("one", "two"))
    await rolling.carry_out(rolling.roll(old), old)
    await rolling.carry_out(rolling.set_route(shop), shop, old)
    step = rolling.roll(new, routes=("shop",))
    rolling.proxy.is_away = RuntimeUnavailable("the proxy does not answer")
    with pytest.raises(RuntimeUnavailable):
        await rolling.carry_out(step, new, shop)
    assert await rolling.serving() == [old.instance]
    rolling.proxy.is_away = None
    # It takes the change, and its answer is lost: whether it did is not known, and both go on.
    rolling.proxy.fails = [RuntimeUnavailable("no answer")]
    with pytest.raises(RuntimeUnavailable):
        await rolling.carry_out(step, new, shop)
    assert await rolling.serving() == sorted([old.instance, new.instance])
    await rolling.carry_out(step, new, shop)
    assert await rolling.serving() == [new.instance]


async def test_a_route_that_is_refused_takes_everything_back(rolling: Rolling) -> None:
    """A proxy that says no is no reason to have two: routes lead where they led."""
    shop = route()
    old, new = (service(f": {name}; {FOR_EVER}", program=HTTP) for name in ("one", "two"))
    await rolling.carry_out(rolling.roll(old), old)
    await rolling.carry_out(rolling.set_route(shop), shop, old)
    rolling.proxy.fails = [Conflict("somebody else has it")]
    with pytest.raises(Conflict):
        await rolling.carry_out(rolling.roll(new, routes=("shop",)), new, shop)
    assert await rolling.serving() == [old.instance]
    assert rolling.proxy.led[0] == rolling.proxy.led[-1]


async def test_a_port_is_renamed_together_with_its_route(rolling: Rolling) -> None:
    """The service is rolled first, and what leads to it follows it to the port that the commit names."""
    shop = route()
    old, web = (service(FOR_EVER, program={"ports": (DesiredPort(name=name),)}) for name in ("http", "web"))
    await rolling.carry_out(rolling.roll(old), old)
    await rolling.carry_out(rolling.set_route(shop), shop, old)
    with pytest.raises(PermanentError, match="has no port 'http'"):
        await rolling.carry_out(rolling.roll(web, routes=("shop",)), web, shop)
    assert await rolling.serving() == [old.instance]
    await rolling.carry_out(rolling.roll(web, routes=("shop",)), web, replace(shop, port="web"))
    assert await rolling.serving() == [web.instance]
    assert rolling.proxy.led[0] != rolling.proxy.led[-1]


class Elsewhere(ProcessRuntime):
    """Another runtime, as far as plans are concerned."""

    @property
    @override
    def name(self) -> str:
        return "systemd"


async def test_a_service_goes_to_another_runtime(rolling: Rolling, tmp_path: Path) -> None:
    """What fails there leaves the old one where it was; what is healthy there is the only one."""
    other = Elsewhere(tmp_path / "elsewhere")
    rolling.more_runtimes = {"systemd": other}
    program = {"runtime": RuntimeName.SYSTEMD}
    old = service(FOR_EVER)
    bad, new = (service(script, program=program, in_place=True) for script in ("exit 3", FOR_EVER))
    await rolling.carry_out(rolling.roll(old), old)
    with pytest.raises(StepFailed, match=f"instance {old.instance} runs again"):
        await rolling.carry_out(rolling.roll(bad), bad)
    assert (await rolling.serving(), await other.observe("production", "eu")) == ([old.instance], ())
    try:
        await rolling.carry_out(rolling.roll(new, beside=True), new)
        (there,) = await other.observe("production", "eu")
        assert (there.instance, there.state, await rolling.there()) == (
            new.instance,
            ServiceState.HEALTHY,
            (),
        )
        await rolling.carry_out(rolling.roll(old), old)
        assert await rolling.serving() == [old.instance]
    finally:
        left = await other.observe("production", "eu")
        for each in left:
            await other.remove(each.identity, each.instance)
    assert left == ()


async def test_what_was_stopped_by_hand_is_put_back(rolling: Rolling) -> None:
    """The same instance runs again, and it is counted as put back; one that cannot is left as it is."""
    wanted = service(FOR_EVER)
    await rolling.carry_out(rolling.roll(wanted), wanted)
    await rolling.bench.runtime.remove(API, wanted.instance)
    await rolling.carry_out(rolling.roll(wanted, action="heal"), wanted)
    assert await rolling.serving() == [wanted.instance]
    assert rolling.register.components["api"].heals == 1


async def test_a_service_is_removed_and_forgotten(rolling: Rolling) -> None:
    """All instances are ended, strays too; of an environment that was only stopped the record stays."""
    wanted = service(FOR_EVER)
    for keeps in (True, False):
        await rolling.carry_out(rolling.roll(wanted), wanted)
        step = rolling.remove("api", keeps_record=keeps)
        await rolling.until_struck(f"inside {step.id}", step)
        await rolling.carry_out(step)
        assert await rolling.there() == ()
        assert ("api" in rolling.register.components) is keeps


async def test_secrets_and_outputs_reach_a_service_and_no_error(rolling: Rolling) -> None:
    """Its variables hold what they refer to; what it prints of it is hidden in the error of its rollout."""
    rolling.secrets = {"PASSWORD": "correct horse"}
    await rolling.register.keep(
        "seed", "h", [_made("token", "battery staple", sensitive=True), _made("n", 5)]
    )
    env = (
        ("PASSWORD", SecretReference(env="PASSWORD")),
        ("TOKEN", OutputReference(component="seed", output="token")),
        ("N", OutputReference(component="seed", output="n")),
    )
    wanted = service('echo "$PASSWORD, $TOKEN and $N"; exit 1', program={"env": env})
    with pytest.raises(StepFailed, match="it said last: <hidden>, <hidden> and 5"):
        await rolling.carry_out(rolling.roll(wanted), wanted)
    assert await rolling.there() == ()
    assert rolling.register.components == {}


def _made(name: str, value: object, *, sensitive: bool = False) -> Made:
    return Made(name=name, type=OutputType.STRING, sensitive=sensitive, value=value)


async def test_who_cancels_a_rollout_gets_the_old_one_back(rolling: Rolling) -> None:
    """It need not be waited for until the new instance is healthy, and nothing of that is left."""

    class Asked(Exception):
        """Somebody asked to cancel."""

    old = service(f": one; {FOR_EVER}")
    await rolling.carry_out(rolling.roll(old), old)
    new = service(f": two; {FOR_EVER}", health={"steady_s": 1000.0})
    resources = rolling.resources(new)

    def urgent() -> None:
        raise Asked

    resources.urgent = urgent
    with pytest.raises(Asked):
        await program_steps.carry_out(rolling.roll(new), resources, rolling.journal)
    assert await rolling.serving() == [old.instance]
    assert rolling.register.components["api"].applying is None


async def test_what_runs_on_another_machine_is_left_alone(rolling: Rolling) -> None:
    """From here nobody sees how it is: it is neither replaced nor removed, and told where it is."""
    old, new = (service(f": {name}; {FOR_EVER}") for name in ("one", "two"))
    await rolling.carry_out(rolling.roll(old), old)
    rolling.place = "there"
    for step in (rolling.roll(new), rolling.remove("api")):
        with pytest.raises(Refused, match="'api' runs at 'here', and this is 'there'"):
            await rolling.carry_out(step, new)
    assert await rolling.serving() == [old.instance]


class Hangs(Interference):
    """A worker that hangs at a point for so long that another goes on."""

    active = True
    lost = False

    def __init__(self, point: str) -> None:
        self._point = point

    @override
    def at(self, point: str) -> None:
        self.lost = self.lost or point.startswith(self._point)

    async def confirm(self) -> None:
        if self.lost:
            raise LeaseLost("the operation is another worker's")


@pytest.mark.parametrize(
    ("in_place", "point", "left"),
    [(False, "applied", {"old", "new"}), (True, "applied", {"new"}), (True, "ended", set())],
    ids=["beside", "in place", "between"],
)
async def test_a_worker_that_hung_touches_nothing_more(
    rolling: Rolling, in_place: bool, point: str, left: set[str]
) -> None:
    """Once another goes on, it switches no route, ends nothing and starts nothing, not the old one either."""
    old = service(f": one; {FOR_EVER}", in_place=in_place, program=HTTP)
    await rolling.carry_out(rolling.roll(old), old)
    new = service("exit 3" if in_place else f": two; {FOR_EVER}", in_place=in_place, program=HTTP)
    hangs = Hangs(point)
    resources = rolling.resources(new, route(), interference=hangs)
    resources.confirm = hangs.confirm
    with pytest.raises(LeaseLost):
        await program_steps.carry_out(rolling.roll(new, routes=("shop",)), resources, rolling.journal)
    assert rolling.proxy.led == []
    names = {old.instance: "old", new.instance: "new"}
    assert {names[each.instance] for each in await rolling.there()} == left
