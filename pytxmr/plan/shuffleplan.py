"""Where each partition is reduced, and which map outputs have arrived there.

A partition has a *home*: the tracker that fetches its segments and will run its reduce. Homes are
given out when the first map ends, so that trackers which join until then share in. A partition moves
when its home is lost, when its reduce failed there, or to even out the load on a tracker that
joined late; whatever had been fetched for it is then fetched again by its new home.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from pytxmr.model import AttemptId, MapOutput
from pytxmr.plan.policy import least_loaded

Wanted = tuple[tuple[MapOutput, tuple[int, ...]], ...]


class ShufflePlan:
    """``home[p]``: the tracker of partition p. ``arrived[p]``: the attempt that p has of each map."""

    def __init__(self, partitions: int) -> None:
        self.home: list[str | None] = [None] * partitions
        self.arrived: list[dict[int, AttemptId]] = [{} for _ in range(partitions)]
        self._asked: list[set[AttemptId]] = [set() for _ in range(partitions)]

    def settle(self, workers: Mapping[str, int], done: Collection[int]) -> None:
        """Give every partition that is not ``done`` and has no home one of these trackers."""
        load = Counter(home for home in self.home if home is not None)
        for partition, home in enumerate(self.home):
            if home is None and partition not in done:
                chosen = least_loaded(load, workers)
                if chosen is None:
                    return
                self.move(partition, chosen)
                load[chosen] += 1

    def move(self, partition: int, home: str | None) -> None:
        self.home[partition] = home
        self.arrived[partition] = {}
        self._asked[partition] = set()

    def even_out(self, workers: Mapping[str, int], movable: Iterable[int]) -> None:
        """Move partitions from the fullest trackers to the emptiest while that evens the load."""
        load = Counter(home for home in self.home if home is not None)
        for partition in movable:
            here = self.home[partition]
            there = least_loaded(load, workers)
            if here is None or here not in workers or there is None or here == there:
                continue
            if load[here] / workers[here] > (load[there] + 1) / workers[there]:
                load[here] -= 1
                load[there] += 1
                self.move(partition, there)

    def to_ask(self, outputs: Iterable[MapOutput], done: Collection[int]) -> dict[str, Wanted]:
        """What each home has yet to be told of; asking for it now is taken as done."""
        wanted: dict[str, dict[AttemptId, tuple[MapOutput, list[int]]]] = {}
        for output in outputs:
            for partition, home in enumerate(self.home):
                if home is None or partition in done or output.attempt in self._asked[partition]:
                    continue
                if output.attempt.task.index in self.arrived[partition]:
                    continue
                self._asked[partition].add(output.attempt)
                by_output = wanted.setdefault(home, {})
                by_output.setdefault(output.attempt, (output, []))[1].append(partition)
        return {
            home: tuple((output, tuple(parts)) for output, parts in by_output.values())
            for home, by_output in wanted.items()
        }

    def fetched(self, tracker: str, attempt: AttemptId, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if 0 <= partition < len(self.home) and self.home[partition] == tracker:
                self.arrived[partition].setdefault(attempt.task.index, attempt)

    def forget(self, attempt: AttemptId, partition: int | None = None) -> None:
        """The output of ``attempt`` is no good, for one partition or wherever not yet fetched."""
        for number, asked in enumerate(self._asked):
            if partition in (None, number):
                asked.discard(attempt)
        if partition is not None and self.arrived[partition].get(attempt.task.index) == attempt:
            del self.arrived[partition][attempt.task.index]

    def lacks(self, map_index: int, partition: int) -> bool:
        return map_index not in self.arrived[partition]
