"""Tasks that wait for a worker, so that finding the next one costs the same however many wait."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heappop, heappush
from typing import Any


class PendingTasks:
    """Indices of tasks, grouped by the trackers to avoid: one question answers for a whole group.

    Nearly all tasks are in the group that avoids none. Those that rest, since they have just
    failed, are in groups of their own: they go only where they need not be avoided.
    """

    def __init__(self) -> None:
        self._avoid: dict[int, frozenset[str]] = {}
        # What was taken out stays in a heap until it comes first; the first is always there.
        self._groups: dict[frozenset[str], list[tuple[int]]] = {}
        self._resting: dict[frozenset[str], list[tuple[float, int]]] = {}

    def __len__(self) -> int:
        return len(self._avoid)

    def add(self, index: int, avoid: Collection[str] = (), until: float = 0.0) -> None:
        """Take in a task, which must not be here already. It rests ``until`` then, if at all."""
        group = self._avoid[index] = frozenset(avoid)
        if until:
            heappush(self._resting.setdefault(group, []), (until, index))
        else:
            heappush(self._groups.setdefault(group, []), (index,))

    def first(
        self, choose: Callable[[frozenset[str]], str | None], now: float
    ) -> tuple[int, str] | None:
        """A task for which ``choose(avoid)`` gives a tracker, and that; None if there is none. Of
        those that do not rest it is the one with the lowest index."""
        self._rouse(now)
        found: tuple[int, str] | None = None
        for avoid, waiting in self._groups.items():
            if found is None or waiting[0][0] < found[0]:
                tracker = choose(avoid)
                if tracker is not None:
                    found = waiting[0][0], tracker
        for avoid, resting in self._resting.items():
            if found is None or resting[0][1] < found[0]:
                tracker = choose(avoid)
                if tracker is not None and tracker not in avoid:
                    found = resting[0][1], tracker
        return found

    def remove(self, index: int) -> None:
        """Take out a task, which is here."""
        avoid = self._avoid.pop(index)
        self._drop_gone(self._groups, avoid)
        self._drop_gone(self._resting, avoid)

    def _rouse(self, now: float) -> None:
        for avoid in [avoid for avoid, resting in self._resting.items() if resting[0][0] <= now]:
            while avoid in self._resting and self._resting[avoid][0][0] <= now:
                _, index = heappop(self._resting[avoid])
                heappush(self._groups.setdefault(avoid, []), (index,))
                self._drop_gone(self._resting, avoid)

    def _drop_gone(self, groups: dict[frozenset[str], list[Any]], avoid: frozenset[str]) -> None:
        heap = groups.get(avoid)
        while heap and self._avoid.get(heap[0][-1]) != avoid:
            heappop(heap)
        if heap is not None and not heap:
            del groups[avoid]
