"""Places for connections: bounded by database, server and in all, in order of coming."""

import asyncio

import pytest

from reconciler.errors import DatabaseUnavailable
from reconciler.postgres.places import Place, Places


def test_bounds_by_database_by_server_and_in_all() -> None:
    """No bound is ever passed, and what is given back can be taken."""
    places = Places(per_database=2, per_server=3, total=4)
    for server in ("one", "two"):
        places.heard(server, answers=True)
    a, b, other = Place("a", "one"), Place("b", "one"), Place("c", "two")
    assert [places.try_take(a) for _ in range(3)] == [True, True, False]
    assert [places.try_take(b) for _ in range(2)] == [True, False]
    assert [places.try_take(other) for _ in range(2)] == [True, False]
    places.give_back(a)
    assert places.try_take(b)
    assert (places.taken, places.taken_of("one"), places.taken_of("two")) == (4, 3, 1)


async def test_those_who_wait_come_in_order_and_past_those_who_do_not_fit() -> None:
    """A place that one cannot use goes to the next who can."""
    places = Places(per_database=1, per_server=9, total=9)
    places.heard("one", answers=True)
    came: list[str] = []

    async def take(name: str, place: Place) -> None:
        await places.take(place)
        came.append(name)

    a, b = Place("a", "one"), Place("b", "one")
    assert places.try_take(a)
    assert places.try_take(b)
    waiting = [asyncio.create_task(take(name, place)) for name, place in (("a1", a), ("a2", a), ("b1", b))]
    await asyncio.sleep(0)
    places.give_back(b)
    places.give_back(a)
    places.give_back(a)
    await asyncio.gather(*waiting)
    assert came == ["b1", "a1", "a2"]


async def test_who_gives_up_waiting_leaves_no_place_taken() -> None:
    """Also where the place was granted in the same moment."""
    places = Places(per_database=1, per_server=1, total=1)
    place = Place("a", "one")
    assert places.try_take(place)
    waiting = asyncio.create_task(places.take(place))
    await asyncio.sleep(0)
    places.give_back(place)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert places.taken == 0
    assert places.try_take(place)


async def test_servers_that_do_not_answer_leave_room_for_those_that_do() -> None:
    """However many of them there are, and however often they are asked."""
    places = Places(per_database=4, per_server=8, total=8)
    places.heard("alive", answers=True)
    for number in range(4):
        places.heard(f"dead {number}", answers=True)
        places.heard(f"dead {number}", answers=False)
    taken = sum(
        places.try_take(Place((number, again), f"dead {number}")) for number in range(8) for again in range(4)
    )
    assert taken == 2 + 4, "a quarter for those that failed, half for those that nobody knows"
    assert sum(places.try_take(Place(number, "alive")) for number in range(8)) == 2


async def test_server_that_answers_again_has_its_places_back() -> None:
    """Those who wait for it come in at once."""
    places = Places(per_database=4, per_server=4, total=8)
    places.heard("one", answers=False)
    waiting = [asyncio.create_task(places.take(Place("a", "one"))) for _ in range(4)]
    await asyncio.sleep(0)
    assert places.taken == 2
    places.heard("one", answers=True)
    await asyncio.gather(*waiting)
    assert places.taken == 4


async def test_closing_ends_all_waiting() -> None:
    """Nobody waits for places that will never come."""
    places = Places(per_database=1, per_server=1, total=1)
    assert places.try_take(Place("a", "one"))
    waiting = asyncio.create_task(places.take(Place("b", "one")))
    await asyncio.sleep(0)
    places.close()
    with pytest.raises(DatabaseUnavailable, match="stopping"):
        await waiting
    with pytest.raises(DatabaseUnavailable, match="stopping"):
        places.try_take(Place("c", "two"))
    places.give_back(Place("a", "one"))
    assert places.taken == 0
