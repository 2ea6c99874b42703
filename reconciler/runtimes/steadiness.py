"""When a new instance has been healthy for long enough, and when it never will be; it only decides."""

from dataclasses import replace
from enum import Enum

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import Health, Observed, ServiceState

_AT_LEAST_S = 0.001
_SOON_S = 0.05
_LATE = 0.03


class Verdict(Enum):
    """What is known so far."""

    WAIT = "wait"
    STEADY = "steady"
    FAILED = "failed"


@frozen
class Steadiness:
    """What was seen of one instance since its start was asked for; times are the caller's, in seconds."""

    health: Health
    begun: float
    healthy_since: float | None = None
    starts: int | None = None
    crashes: int = 0
    last_exit: int | None = None
    reason: str = "nothing was seen of it yet"
    is_over: bool = False

    def seen(self, at: float, observed: Observed, why_unhealthy: str | None) -> "Steadiness":
        """The same with one more look at it, and what its check says: None where it is healthy."""
        started_anew = 0 if self.starts is None else max(0, observed.starts - self.starts)
        is_healthy = why_unhealthy is None and observed.state is ServiceState.HEALTHY
        since = self.healthy_since if started_anew == 0 else None
        return replace(
            self,
            healthy_since=(at if since is None else since) if is_healthy else None,
            starts=observed.starts,
            crashes=self.crashes + started_anew,
            reason=why_unhealthy or observed.reason or self.reason,
            last_exit=observed.exit_status,
            is_over=observed.state in {ServiceState.EXITED, ServiceState.ABSENT},
        )

    def pause_s(self, now: float) -> float:
        """How long until the next look: soon at first, and no later than what is waited for is over."""
        interval_s = self.health.interval_s
        if self.healthy_since is not None:
            return min(interval_s, max(_AT_LEAST_S, self.healthy_since + self.health.steady_s - now))
        left_s = self.begun + self.health.deadline_s - now
        return min(interval_s, max(_SOON_S, now - self.begun), max(_AT_LEAST_S, left_s))

    def glance_s(self, now: float) -> float:
        """How long until it is only asked again, where that costs next to nothing.

        What took long to start is asked less often: it is found late by no more than a part of what it took.
        """
        return min(self.health.interval_s, max(_SOON_S, (now - self.begun) * _LATE))

    def verdict(self, now: float) -> tuple[Verdict, str]:
        """What is known at a time, and why."""
        if self.is_over:
            return Verdict.FAILED, self.reason
        if self.crashes > self.health.crashes_max:
            # Between two looks it may have come up again: how it ended says more than how it is.
            why = self.reason if self.last_exit is None else f"it ended with {self.last_exit}"
            return Verdict.FAILED, f"it was started {self.crashes + 1} times and does not stay up: {why}"
        if self.healthy_since is not None and now - self.healthy_since >= self.health.steady_s:
            return Verdict.STEADY, ""
        if self.healthy_since is None and now - self.begun >= self.health.deadline_s:
            return Verdict.FAILED, f"it is not healthy within {self.health.deadline_s:g} s: {self.reason}"
        if now - self.begun >= self.health.deadline_s + self.health.steady_s:
            return Verdict.FAILED, f"it does not stay healthy for {self.health.steady_s:g} s: {self.reason}"
        return Verdict.WAIT, self.reason
