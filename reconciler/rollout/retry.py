"""Whether a failed attempt is made again, and when; the caller brings the chance."""

from reconciler.frozen import frozen

WAITS_MAX = 1000
"""How often in a row an operation gives its worker back at no cost: for hours, and not for ever."""


@frozen
class RetryDecision:
    """Whether to try again, after how many seconds, and why or why not."""

    retry: bool
    delay_s: float
    reason: str


def decide(
    *,
    transient: bool,
    attempts: int,
    budget: int,
    jitter: float,
    base_s: float = 1.0,
    ceiling_s: float = 60.0,
) -> RetryDecision:
    """Decide after attempt number `attempts` (1 is the first) failed; `budget` is how many there may be.

    The delay doubles from `base_s` to `ceiling_s`; `jitter` from 0 to 1 chooses within its upper half, so
    that many operations which failed together do not come back together.
    """
    if not transient:
        return RetryDecision(retry=False, delay_s=0.0, reason="trying again cannot help")
    if attempts >= budget:
        plural = "" if budget == 1 else "s"
        return RetryDecision(
            retry=False, delay_s=0.0, reason=f"the retry budget of {budget} attempt{plural} is spent"
        )
    doublings = min(max(attempts - 1, 0), 60)
    whole_s = min(base_s * 2**doublings, ceiling_s)
    delay_s = whole_s * (0.5 + min(max(jitter, 0.0), 1.0) / 2)
    return RetryDecision(
        retry=True,
        delay_s=delay_s,
        reason=f"attempt {attempts} of {budget} failed for a reason that may pass",
    )


def wait_again(*, waits: int, jitter: float, base_s: float = 0.5, ceiling_s: float = 15.0) -> float | None:
    """Seconds after which an operation looks again whether its database is free; None where it waited enough.

    `waits` is how often in a row it did already. It holds no worker meanwhile and spends no attempt; once it
    waited enough, an attempt that finds the database taken counts as one that failed.
    """
    if waits >= WAITS_MAX:
        return None
    return decide(
        transient=True,
        attempts=waits + 1,
        budget=waits + 2,
        jitter=jitter,
        base_s=base_s,
        ceiling_s=ceiling_s,
    ).delay_s
