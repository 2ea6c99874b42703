"""Laws of schedules: what is due is due by the fields, and nothing is passed over."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.spec import cron

FIRST = datetime(2020, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 12 * 365 * 86400).map(lambda seconds: FIRST + timedelta(seconds=seconds))


def numbers(first: int, last: int) -> st.SearchStrategy[str]:
    """A field: any, a step, a number, a range, or a list of these."""
    number = st.integers(first, last).map(str)
    spans = st.tuples(st.integers(first, last), st.integers(first, last)).map(sorted)
    item = st.one_of(number, spans.map(lambda pair: f"{pair[0]}-{pair[1]}"))
    return st.one_of(
        st.just("*"), st.integers(1, last).map(lambda step: f"*/{step}"),
        st.lists(item, min_size=1, max_size=3).map(",".join),
    )  # fmt: skip


# Days that every month has: a schedule that never comes is no schedule.
FIELDS = (numbers(0, 59), numbers(0, 23), numbers(1, 28), numbers(1, 12), numbers(0, 7))
SCHEDULES = st.tuples(*FIELDS).map(" ".join)


def written(text: str, first: int, last: int) -> set[int]:
    """The numbers of a field, spelled out in another way than the code does."""
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        low, _, high = (f"{first}-{last}" if span == "*" else span).partition("-")
        found |= {
            each for each in range(int(low), int(high or low) + 1) if (each - int(low)) % int(step or 1) == 0
        }
    return found


def is_due(text: str, moment: datetime) -> bool:
    minute, hour, day, month, weekday = text.split()
    by_day = moment.day in written(day, 1, 31)
    by_weekday = moment.isoweekday() % 7 in {each % 7 for each in written(weekday, 0, 7)}
    either = day[0] != "*" and weekday[0] != "*"
    return (
        moment.minute in written(minute, 0, 59)
        and moment.hour in written(hour, 0, 23)
        and moment.month in written(month, 1, 12)
        and (by_day or by_weekday if either else by_day and by_weekday)
    )


def usable(text: str) -> bool:
    """A day and a weekday that both have to be met may still never meet within the years looked at."""
    return cron.rule(text) is None


@given(SCHEDULES.filter(usable), MOMENTS)
def test_what_is_found_is_due_and_later(text: str, moment: datetime) -> None:
    """The next time has every field, and comes behind the moment."""
    found = cron.parse(text).after(moment)
    assert found > moment
    assert (found.second, found.microsecond) == (0, 0)
    assert is_due(text, found)


@given(SCHEDULES.filter(usable), MOMENTS, st.integers(0, 3 * 24 * 60))
def test_nothing_is_passed_over(text: str, moment: datetime, minutes: int) -> None:
    """A minute between a moment and the next time is not due, and leads to the same time."""
    schedule = cron.parse(text)
    found = schedule.after(moment)
    between = (moment + timedelta(minutes=minutes)).replace(second=0, microsecond=0)
    if moment < between < found:
        assert not is_due(text, between)
        assert schedule.after(between) == found
