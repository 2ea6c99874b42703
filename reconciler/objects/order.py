"""An order in which objects can be made, and the cycles that leave none; pure graphs of names."""

import heapq
from collections import deque
from collections.abc import Collection, Mapping

from reconciler.objects.model import ObjectName

CYCLES_MAX = 20
"""Cycles that are told; breaking one often breaks others."""

Needs = Mapping[ObjectName, Collection[ObjectName]]
"""What each item needs, all of which are items too."""


def in_order(needs: Needs) -> tuple[ObjectName, ...]:
    """Return items so that each stands behind what it needs; among those free to go, the least name first.

    Items in cycles, and what needs them, are left out.
    """
    items = sorted(needs, key=lambda item: (item.schema, item.name))
    ranks = {item: rank for rank, item in enumerate(items)}
    waits = [0] * len(items)
    needed_by: list[list[int]] = [[] for _ in items]
    for rank, item in enumerate(items):
        needed = needs[item]
        waits[rank] = len(needed)
        for each in needed:
            needed_by[ranks[each]].append(rank)
    free = [rank for rank, count in enumerate(waits) if count == 0]  # in order, which makes it a heap
    ordered: list[ObjectName] = []
    while free:
        rank = heapq.heappop(free)
        ordered.append(items[rank])
        for later in needed_by[rank]:
            waits[later] -= 1
            if waits[later] == 0:
                heapq.heappush(free, later)
    return tuple(ordered)


def cycles(needs: Needs) -> tuple[tuple[ObjectName, ...], ...]:
    """Return cycles that share no item, each from its least name, every item needing the next one."""
    found: list[tuple[ObjectName, ...]] = []
    rest = _without(needs, in_order(needs))
    while rest and len(found) < CYCLES_MAX:
        cycle = _shortest_through(_on_a_cycle(rest), rest)
        least = cycle.index(min(cycle))
        found.append((*cycle[least:], *cycle[:least]))
        rest = _without(rest, cycle)
        rest = _without(rest, in_order(rest))
    return tuple(found)


def _without(needs: Needs, gone: Collection[ObjectName]) -> dict[ObjectName, list[ObjectName]]:
    left = needs.keys() - set(gone)
    return {item: sorted(left.intersection(needs[item])) for item in sorted(left)}


def _on_a_cycle(needs: Needs) -> ObjectName:
    """Walk along what is needed until an item comes again; each item needs another one here."""
    item = min(needs)
    seen: set[ObjectName] = set()
    while item not in seen:
        seen.add(item)
        item = min(needs[item])
    return item


def _shortest_through(start: ObjectName, needs: Needs) -> list[ObjectName]:
    """Return the shortest cycle through an item that is on one."""
    came_from: dict[ObjectName, ObjectName] = {}
    pending = deque([start])
    while start not in came_from:
        item = pending.popleft()
        for each in needs[item]:
            if each not in came_from:
                came_from[each] = item
                pending.append(each)
    cycle = [came_from[start]]
    while cycle[-1] != start:
        cycle.append(came_from[cycle[-1]])
    cycle.reverse()
    return cycle
