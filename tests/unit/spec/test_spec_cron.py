"""Schedules of cron: what is one, and when it is due."""

from datetime import UTC, datetime

import pytest

from reconciler.spec import cron

FRIDAY = datetime(2026, 1, 30, 23, 59, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("* * * * *", "2026-01-31 00:00"),
        ("0 * * * *", "2026-01-31 00:00"),
        ("*/20 3,5 * * *", "2026-01-31 03:00"),
        ("10-50/20 * * * *", "2026-01-31 00:10"),
        ("30 4 * * mon-fri", "2026-02-02 04:30"),
        ("0 6 * * 1", "2026-02-02 06:00"),
        ("0 6 * * 0", "2026-02-01 06:00"),
        ("0 6 * * 7", "2026-02-01 06:00"),
        ("0 0 1 jan *", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 15 * mon", "2026-02-02 00:00"),
        ("0 0 */15 * mon", "2026-02-16 00:00"),
        ("59 23 * * *", "2026-01-31 23:59"),
        ("  5  4\t* * *", "2026-01-31 04:05"),
        ("0 0 * * SUN", "2026-02-01 00:00"),
    ],
)
def test_a_schedule_is_due_as_cron_has_it(text: str, due: str) -> None:
    """Fields are lists of numbers, names, ranges and steps; Sunday is 0 and 7; day or weekday is enough."""
    assert cron.parse(text).after(FRIDAY) == datetime.fromisoformat(f"{due}+00:00")


def test_every_time_comes_once() -> None:
    """From one time on, the next one is a later one, also over the end of a day."""
    schedule = cron.parse("*/30 23,0 * * *")
    moment, times = FRIDAY, []
    for _ in range(5):
        moment = schedule.after(moment)
        times.append(moment.strftime("%d %H:%M"))
    assert times == ["31 00:00", "31 00:30", "31 23:00", "31 23:30", "01 00:00"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@hourly", "has not the five fields of cron"),
        ("* * * *", "has not the five fields of cron"),
        ("0 " * 200, "has not the five fields of cron"),
        ("60 * * * *", "its minute is not from 0 to 59"),
        ("* 24 * * *", "its hour is not from 0 to 23"),
        ("* * 0 * *", "its day is not from 1 to 31"),
        ("* * * foo *", "its month is not from 1 to 12"),
        ("* * * * 8", "its weekday is not from 0 to 7"),
        ("5-1 * * * *", "has no minute that ever comes"),
        ("*/0 * * * *", "has no minute that ever comes"),
        ("*-5 * * * *", "has no minute that cron reads"),
        ("1,,2 * * * *", "has no minute that cron reads"),
        ("0 0 30 2 *", "never comes"),
    ],
)
def test_what_is_no_schedule_is_told(text: str, message: str) -> None:
    """The field is named, and what one looks like."""
    broken = cron.rule(text)
    assert broken is not None
    assert broken.message == message
    assert "0 * * * *" in (broken.hint or "")
