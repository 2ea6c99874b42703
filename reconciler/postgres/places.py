"""Who may have a connection: bounds and turns, as bookkeeping; it opens nothing.

Servers that did not answer the last time share a few places, and those nobody asked yet share half: however
many of them there are, those that answer never wait for them.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

from reconciler.errors import DatabaseUnavailable

_OF_UNPROVEN = 2
"""Places of one server that is not known to answer."""
_SHARES = {"silent": 4, "unknown": 2}
"""All servers of a standing have one place in so many together."""
_REMEMBERED = 10_000
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Place:
    """What a place is for: a database (however it is named), and its server."""

    database: Hashable
    server: str


@dataclass(slots=True, eq=False)
class _Waiter:
    place: Place
    granted: asyncio.Future[None]


class Places:
    """Places for connections that are lent, within bounds by database, by server and in all.

    Belongs to one event loop. Whoever waits gets the first place that fits, in order of coming.
    """

    def __init__(self, *, per_database: int, per_server: int, total: int) -> None:
        self.per_database = per_database
        self.per_server = per_server
        self.total = total
        self._taken = 0
        self._by_database: Counter[Hashable] = Counter()
        self._by_server: Counter[str] = Counter()
        self._answered: OrderedDict[str, bool] = OrderedDict()
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self._closed = False

    @property
    def taken(self) -> int:
        """Places taken now."""
        return self._taken

    def taken_of(self, server: str) -> int:
        """Places taken now for a server."""
        return self._by_server[server]

    def try_take(self, place: Place) -> bool:
        """Take a place if there is room now."""
        self._check_open()
        if not self._has_room(place):
            return False
        self._taken += 1
        self._by_database[place.database] += 1
        self._by_server[place.server] += 1
        return True

    async def take(self, place: Place) -> None:
        """Wait for a place."""
        if self.try_take(place):
            return
        waiter = _Waiter(place, asyncio.get_running_loop().create_future())
        self._waiters[waiter] = None
        try:
            await waiter.granted
        except BaseException:
            granted = waiter.granted.done() and not waiter.granted.cancelled()
            if granted and waiter.granted.exception() is None:
                self.give_back(place)
            raise
        finally:
            self._waiters.pop(waiter, None)

    def give_back(self, place: Place) -> None:
        """Give a place back, and others the turn."""
        self._taken -= 1
        _take_one(self._by_database, place.database)
        _take_one(self._by_server, place.server)
        self._grant()

    def heard(self, server: str, *, answers: bool) -> None:
        """Note whether a server answered when a connection was opened."""
        before = self._answered.get(server)
        self._answered[server] = answers
        self._answered.move_to_end(server)
        if len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
        if answers and not before:
            self._grant()

    def _standing(self, server: str) -> str:
        answered = self._answered.get(server)
        return "unknown" if answered is None else "answering" if answered else "silent"

    def close(self) -> None:
        """Let nobody wait or come in any more."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.granted.done():
                waiter.granted.set_exception(_closed())

    def _grant(self) -> None:
        for waiter in list(self._waiters):
            if self._closed or self._taken >= self.total:
                return
            if not waiter.granted.done() and self.try_take(waiter.place):
                del self._waiters[waiter]
                waiter.granted.set_result(None)

    def _has_room(self, place: Place) -> bool:
        if self._taken >= self.total or self._by_database[place.database] >= self.per_database:
            return False
        here = self._by_server[place.server]
        standing = self._standing(place.server)
        if standing == "answering":
            return here < self.per_server
        alike = sum(taken for server, taken in self._by_server.items() if self._standing(server) == standing)
        of_all = max(1, self.total // _SHARES[standing])
        return here < min(_OF_UNPROVEN, self.per_server) and alike < of_all

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()


def _take_one(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _closed() -> DatabaseUnavailable:
    return DatabaseUnavailable("the connections of this process are closed: it is stopping")
