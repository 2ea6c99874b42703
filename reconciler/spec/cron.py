"""When a schedule of cron is due, in UTC: the five fields as cron reads them; it knows no clock."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import UTC, date, datetime, timedelta

from reconciler.frozen import frozen
from reconciler.spec.text_rules import Broken

TEXT_MAX = 200
_DAYS_AHEAD_MAX = 366 * 9
"""The 29th of February comes after eight years at most."""
_HINT = 'write minute, hour, day, month and weekday, as in "0 * * * *" or "30 4 * * mon-fri"'
_ITEM = re.compile(
    r"(?P<first>\*|[0-9]{1,2}|[a-z]{3})(-(?P<last>[0-9]{1,2}|[a-z]{3}))?(/(?P<step>[0-9]{1,2}))?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SUNDAY_TOO = 7


@frozen
class _Field:
    what: str
    first: int
    last: int
    names: Mapping[str, int] = field(default_factory=dict)


_FIELDS = (
    _Field(what="minute", first=0, last=59),
    _Field(what="hour", first=0, last=23),
    _Field(what="day", first=1, last=31),
    _Field(what="month", first=1, last=12, names={name: number + 1 for number, name in enumerate(_MONTHS)}),
    _Field(what="weekday", first=0, last=7, names={name: number for number, name in enumerate(_WEEKDAYS)}),
)


class BadSchedule(ValueError):
    """A text is no schedule; the message goes on behind the name of what it is."""


@frozen
class Cron:
    """A schedule; `either`: a day counts that is one of `days` or one of `weekdays`, else it must be both."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """From 0, Sunday."""
    either: bool

    def after(self, moment: datetime) -> datetime:
        """Return the first minute after a moment with a time zone at which it is due, in UTC."""
        start = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        day, earliest = start.date(), (start.hour, start.minute)
        for _ in range(_DAYS_AHEAD_MAX):
            if self._has(day):
                times = ((hour, minute) for hour in self.hours for minute in self.minutes)
                found = next((time for time in times if time >= earliest), None)
                if found is not None:
                    return datetime(day.year, day.month, day.day, *found, tzinfo=UTC)
            day, earliest = day + timedelta(days=1), (0, 0)
        raise BadSchedule("never comes")

    def _has(self, day: date) -> bool:
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_day or by_weekday if self.either else by_day and by_weekday)


def parse(text: str) -> Cron:
    """Read a schedule; raises BadSchedule."""
    words = text.lower().split()
    if len(text) > TEXT_MAX or len(words) != len(_FIELDS):
        raise BadSchedule("has not the five fields of cron")
    numbers = [frozenset(_numbers(word, field)) for word, field in zip(words, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = numbers
    found = Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=frozenset(number % _SUNDAY_TOO for number in weekdays),
        either=not words[2].startswith("*") and not words[4].startswith("*"),
    )
    found.after(datetime(2000, 1, 1, tzinfo=UTC))
    return found


def rule(text: str) -> Broken | None:
    """A text that is a schedule."""
    try:
        parse(text)
    except BadSchedule as error:
        return Broken(f"{error}", _HINT)
    return None


def _numbers(word: str, of: _Field) -> Iterator[int]:
    for item in word.split(","):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise BadSchedule(f"has no {of.what} that cron reads")
        if found["first"] == "*":
            if found["last"] is not None:
                raise BadSchedule(f"has no {of.what} that cron reads")
            first, last = of.first, of.last
        else:
            first = _number(found["first"], of)
            last = first
            if found["last"] is not None:
                last = _number(found["last"], of)
            elif found["step"] is not None:
                last = of.last
        step = int(found["step"] or 1)
        if step == 0 or last < first:
            raise BadSchedule(f"has no {of.what} that ever comes")
        yield from range(first, last + 1, step)


def _number(word: str, of: _Field) -> int:
    if word in of.names:
        return of.names[word]
    if not word.isdecimal() or not of.first <= int(word) <= of.last:
        raise BadSchedule(f"its {of.what} is not from {of.first} to {of.last}")
    return int(word)
