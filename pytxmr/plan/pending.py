"""Tasks that wait for a worker, so that finding the next one costs the same however many wait."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush


class PendingTasks:
    """Indices of tasks, grouped by the trackers to avoid: one question answers for a whole group.

    Nearly all tasks are in the group that avoids none.
    """

    def __init__(self) -> None:
        self._groups: dict[frozenset[str], list[int]] = {}
        self._group_of: dict[int, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._group_of)

    def add(self, index: int, avoid: Collection[str] = ()) -> None:
        """Take in a task, which must not be here already."""
        group = self._group_of[index] = frozenset(avoid)
        heappush(self._groups.setdefault(group, []), index)

    def first(self, choose: Callable[[frozenset[str]], str | None]) -> tuple[int, str] | None:
        """The lowest index for which ``choose(avoid)`` gives a tracker, and that; None if none."""
        found: tuple[int, str] | None = None
        for avoid, waiting in self._groups.items():
            if found is None or waiting[0] < found[0]:
                tracker = choose(avoid)
                if tracker is not None:
                    found = waiting[0], tracker
        return found

    def remove(self, index: int) -> None:
        """Take out a task, which is here."""
        group = self._group_of.pop(index)
        waiting = self._groups[group]
        if waiting[0] == index:
            heappop(waiting)
        else:
            waiting.remove(index)
            heapify(waiting)
        if not waiting:
            del self._groups[group]
