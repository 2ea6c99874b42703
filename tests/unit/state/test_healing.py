"""How often what others alter is put back, and when."""

import pytest

from reconciler.state.healing import FIRST_WAIT_S, HEALS_MAX, heal_after, why_not_healed


def test_each_wait_is_twice_as_long() -> None:
    """The first time at once, then after a minute, two, four and eight."""
    assert heal_after(0, None) is None
    waits = [heal_after(heals, 1000.0) for heals in range(1, HEALS_MAX)]
    assert waits == [1000.0 + FIRST_WAIT_S * factor for factor in (1, 2, 4, 8)]


@pytest.mark.parametrize(
    ("heals", "after", "says"),
    [
        (0, None, None),
        (1, 1060.0, "it was put back once; it is put back again in 60 s"),
        (1, 1000.0, None),
        (HEALS_MAX - 1, 999.0, None),
        (HEALS_MAX, None, "it was put back 5 times, and altered again each time"),
    ],
)
def test_in_between_and_in_the_end_it_is_left(heals: int, after: float | None, says: str | None) -> None:
    """Until the time has come, and for good after so many times."""
    found = why_not_healed(heals, after, 1000.0)
    assert (found is None) == (says is None)
    assert found is None or says is None or found.startswith(says)
