"""How often what was altered by hand is put back, and how long is waited in between; it only decides."""

HEALS_MAX = 5
"""So often it is put back, one after the other; then a person has to look."""
FIRST_WAIT_S = 60.0
"""Between the first two times; each further wait is twice as long."""
QUIET_S = 3600.0
"""Found as it should be so long after it was put back, it starts anew."""


def heal_after(heals: int, healed_at: float | None) -> float | None:
    """From when on it may be put back again; None where that was never done."""
    if not heals or healed_at is None:
        return None
    return healed_at + FIRST_WAIT_S * 2.0 ** (min(heals, HEALS_MAX) - 1)


def why_not_healed(heals: int, after: float | None, now: float) -> str | None:
    """Why it is not put back now; None where it may be. Both times are by the control database's clock."""
    if heals >= HEALS_MAX:
        return (
            f"it was put back {heals} times, and altered again each time: it is left as it is until a "
            "rollout brings it something else, or it stays as it should for an hour"
        )
    if after is not None and now < after:
        often = "once" if heals == 1 else f"{heals} times"
        return f"it was put back {often}; it is put back again in {after - now:.0f} s"
    return None
