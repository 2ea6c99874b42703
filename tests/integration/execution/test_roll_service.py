"""Services are rolled: the new instance first, then the old one's end, or everything as it was."""

import pytest

from reconciler.errors import StepFailed
from reconciler.runtimes.runtime import ServiceState
from tests.plugins.rolling import Rolling, rolling, service
from tests.plugins.services import FOR_EVER, bench

__all__ = ["bench", "rolling"]

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
