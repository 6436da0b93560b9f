"""Tasks that wait for a worker, so that finding the next one costs the same however many wait."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heappop, heappush


class PendingTasks:
    """Indices of tasks, grouped by the trackers to avoid: one question answers for a whole group.

    Nearly all tasks are in the group that avoids none.
    """

    def __init__(self) -> None:
        self._groups: dict[frozenset[str], list[int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, index: int, avoid: Collection[str] = ()) -> None:
        """Take in a task, which must not be here already."""
        self._count += 1
        heappush(self._groups.setdefault(frozenset(avoid), []), index)

    def take(self, choose: Callable[[frozenset[str]], str | None]) -> tuple[int, str] | None:
        """Take out the lowest index for which ``choose(avoid)`` gives a tracker; both, or None."""
        found: tuple[int, str, frozenset[str]] | None = None
        for avoid, waiting in self._groups.items():
            if found is None or waiting[0] < found[0]:
                tracker = choose(avoid)
                if tracker is not None:
                    found = waiting[0], tracker, avoid
        if found is None:
            return None
        index, tracker, avoid = found
        self._count -= 1
        heappop(self._groups[avoid])
        if not self._groups[avoid]:
            del self._groups[avoid]
        return index, tracker
