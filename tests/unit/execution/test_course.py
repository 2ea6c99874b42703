"""Which step of a row runs, and how long each took."""

import pytest

from reconciler.execution.course import Course
from reconciler.execution.interference import Interference
from reconciler.plan.steps import AnyStep, StepKind, TakeBaseLine


class Notes:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    async def started(self, step: AnyStep, *, instead_of: AnyStep | None = None) -> None:
        self.seen.append(("started", step.id, instead_of.id if instead_of is not None else None))

    async def finished(self, step: AnyStep, duration_s: float) -> None:
        self.seen.append(("finished", step.id, duration_s))

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None:
        self.seen.append(("failed", step.id, duration_s))

    async def safe_point(self) -> None: ...


def step(name: str) -> AnyStep:
    return TakeBaseLine(id=name, kind=StepKind.TAKE_BASE_LINE, component=name, identity=name, database="shop")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that it is; the test moves it."""
    now = [100.0]
    monkeypatch.setattr("reconciler.execution.course.time.monotonic", lambda: now[0])
    return now


async def test_each_after_the_other(clock: list[float]) -> None:
    """Each takes the time from the end of the one before it."""
    notes = Notes()
    row = Course([step("a"), step("b")], notes, Interference())
    await row.begin()
    clock[0] += 2
    await row.done()
    clock[0] += 3
    await row.failed(1, RuntimeError())
    assert notes.seen == [
        ("started", "a", None), ("finished", "a", 2), ("started", "b", None), ("failed", "b", 3),
    ]  # fmt: skip


async def test_several_before_the_first_is_done(clock: list[float]) -> None:
    """In one transaction each gets the time in which it was seen to run, and starts in place of another."""
    notes = Notes()
    row = Course([step(name) for name in "abcd"], notes, Interference())
    await row.begin()
    for number, seconds in ((0, 1), (2, 5), (2, 1), (9, 0)):
        await row.runs(number)
        clock[0] += seconds
    for _ in "abcd":
        await row.done()
    assert notes.seen == [
        ("started", "a", None), ("started", "c", "a"),
        ("finished", "a", 1), ("finished", "b", 0), ("finished", "c", 6),
        ("started", "d", None), ("finished", "d", 0),
    ]  # fmt: skip
