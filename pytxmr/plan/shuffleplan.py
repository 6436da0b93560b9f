"""Where each partition is reduced, and which map outputs have arrived there.

A partition has a *home*: the tracker that fetches its segments and will run its reduce. Homes are
given out when the first map ends, so that trackers which join until then share in. A partition
moves when its home is lost, when its reduce failed there, or to even out the load on a tracker that
joined late; whatever had been fetched for it is then fetched again by its new home.

While its reduce runs at its home, and is slow, a partition may have a *second home*, which fetches
the same for a backup attempt. It takes the place of the first if the attempt there ends in vain. It
is given up as soon as anything is wrong with it: no map ever runs again for its sake, since the
first has all that the partition needs.

If two attempts of one map arrive for a partition, the later arrival counts, here as on the tracker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytxmr.model import AttemptId, MapOutput
from pytxmr.plan.policy import least_loaded

#: Trackers that could not fetch an output, from which on it counts as lost; and how often one
#: tracker alone may fail to. One that cannot reach another says little: either may be cut off.
TRACKERS_TO_FAIL = 3
ROUNDS_TO_FAIL = 3

Wanted = tuple[tuple[MapOutput, tuple[int, ...]], ...]


@dataclass(slots=True)
class SecondHome:
    """Where a partition is to be reduced once more, what has arrived there, and what it was not
    told of yet."""

    tracker: str
    untold: dict[int, MapOutput]
    arrived: dict[int, AttemptId] = field(default_factory=dict)


class ShufflePlan:
    """Partitions and maps by their index.

    ``home[p]`` is the tracker of a partition, ``arrived[p]`` the attempt that it has of each map,
    ``outputs[m]`` the output of a map that can be fetched. ``whole``: the partitions of which
    every map has arrived; ``done``: those that are reduced, which need nothing any more.
    ``second``: the second homes, by partition.
    """

    def __init__(self, maps: int, partitions: int) -> None:
        self.home: list[str | None] = [None] * partitions
        self.arrived: list[dict[int, AttemptId]] = [{} for _ in range(partitions)]
        self.outputs: dict[int, MapOutput] = {}
        self.whole: set[int] = set()
        self.done: set[int] = set()
        self.second: dict[int, SecondHome] = {}
        self._maps = maps
        self._untold: list[dict[int, MapOutput]] = [{} for _ in range(partitions)]
        self._failed: dict[int, dict[str, int]] = {}

    # ---- homes

    def load(self) -> Counter[str]:
        """How many partitions each tracker has yet to reduce."""
        homes = enumerate(self.home)
        load = Counter(home for p, home in homes if home is not None and p not in self.done)
        load.update(second.tracker for second in self.second.values())
        return load

    def settle(self, workers: Mapping[str, int]) -> None:
        """Give every partition that needs a home, and has none, one of these trackers."""
        homeless = [p for p, home in enumerate(self.home) if home is None and p not in self.done]
        load = self.load() if homeless else Counter()
        for partition in homeless:
            chosen = least_loaded(load, workers)
            if chosen is not None:
                self.move(partition, chosen)
                load[chosen] += 1

    def move(self, partition: int, home: str | None) -> None:
        """Change the home, and have no second. Nothing has arrived there, and it has been told of
        nothing."""
        self.second.pop(partition, None)
        self.home[partition] = home
        self.arrived[partition] = {}
        self._untold[partition] = dict(self.outputs)
        self._recount(partition)

    def share_with(self, newcomer: str, workers: Mapping[str, int], movable: Iterable[int]) -> None:
        """Move partitions from the fullest trackers to this one while that evens the load.

        Of one tracker those with the highest numbers go: the others are nearer their reduce.
        """
        load = self.load()
        by_home: dict[str, list[int]] = {}
        for partition in movable:
            home = self.home[partition]
            if home is not None and home in workers and home != newcomer:
                by_home.setdefault(home, []).append(partition)
        while by_home:
            fullest = max(by_home, key=lambda home: load[home] / workers[home])
            if load[fullest] / workers[fullest] <= (load[newcomer] + 1) / workers[newcomer]:
                return
            self.move(by_home[fullest].pop(), newcomer)
            load[fullest] -= 1
            load[newcomer] += 1
            if not by_home[fullest]:
                del by_home[fullest]

    # ---- second homes

    def back_up(self, partition: int, tracker: str) -> None:
        """Give the partition a second home, other than its first."""
        self.second[partition] = SecondHome(tracker, dict(self.outputs))

    def promote(self, partition: int) -> bool:
        """The second home, with what has arrived there, takes the place of the first. Is there
        one?"""
        second = self.second.pop(partition, None)
        if second is None:
            return False
        self.home[partition] = second.tracker
        self.arrived[partition] = second.arrived
        self._untold[partition] = second.untold
        self._recount(partition)
        return True

    def give_up_seconds(self, tracker: str, lacking: int | None = None) -> None:
        """The tracker is no second home any more; or not of partitions that lack this map there."""
        for partition, second in list(self.second.items()):
            if second.tracker == tracker and lacking not in second.arrived:
                del self.second[partition]

    def arrived_at(self, partition: int, tracker: str) -> dict[int, AttemptId]:
        """The attempt that this home of the partition, the first or the second, has of each map."""
        if self.home[partition] == tracker:
            return self.arrived[partition]
        return self.second[partition].arrived

    def whole_at_second(self) -> list[tuple[int, str]]:
        """The partitions of which every map has arrived at their second home, and where that is."""
        return sorted(
            (partition, second.tracker)
            for partition, second in self.second.items()
            if len(second.arrived) == self._maps
        )

    # ---- what a home lacks

    def lacking(self, home: str, index: int) -> list[int]:
        """The partitions that are to be reduced there, and have nothing of that map yet."""
        return [
            partition
            for partition, its in enumerate(self.home)
            if its == home and partition not in self.done and index not in self.arrived[partition]
        ]

    def tell_again(self, home: str) -> None:
        """What a tracker was told of, and has not got, counts as untold."""
        for partition, its in enumerate(self.home):
            if its == home and partition not in self.done:
                arrived = self.arrived[partition]
                lacking = {i: out for i, out in self.outputs.items() if i not in arrived}
                self._untold[partition].update(lacking)
        for second in self.second.values():
            if second.tracker == home:
                lacking = {i: o for i, o in self.outputs.items() if i not in second.arrived}
                second.untold.update(lacking)

    def tell_of(self, partition: int, index: int) -> None:
        """Wherever the partition is to be reduced is to be told of that output, once more."""
        self._untold[partition][index] = self.outputs[index]

    # ---- outputs

    def add(self, output: MapOutput) -> None:
        """An output can be fetched, by every partition that lacks it."""
        index = output.attempt.task.index
        self.outputs[index] = output
        for partition, untold in enumerate(self._untold):
            if partition not in self.done and index not in self.arrived[partition]:
                untold[index] = output
        for second in self.second.values():
            if index not in second.arrived:
                second.untold[index] = output

    def lose(self, index: int) -> None:
        """The output of a map cannot be fetched any more. What has arrived of it stays."""
        del self.outputs[index]
        self._failed.pop(index, None)
        for untold in self._untold:
            untold.pop(index, None)
        for second in self.second.values():
            second.untold.pop(index, None)

    def cannot_fetch(self, tracker: str, index: int, rounds: int) -> bool:
        """A tracker told of an output could not get it, for the ``rounds``-th time. Is it lost?

        It is once `TRACKERS_TO_FAIL` trackers have failed, or as many as lack it, but two at the
        least, or one of them `ROUNDS_TO_FAIL` times. Else that tracker counts as untold.
        """
        failed = self._failed.setdefault(index, {})
        failed[tracker] = max(rounds, failed.get(tracker, 0))
        lacking = set(failed)
        for partition, home in enumerate(self.home):
            if home is None or partition in self.done or index in self.arrived[partition]:
                continue
            lacking.add(home)
            if home == tracker:
                self.tell_of(partition, index)
        return (
            len(failed) >= min(TRACKERS_TO_FAIL, max(2, len(lacking)))
            or failed[tracker] >= ROUNDS_TO_FAIL
        )

    def needs(self, index: int) -> bool:
        """Is there a partition to reduce that has no output of this map yet?"""
        return any(
            index not in arrived
            for partition, arrived in enumerate(self.arrived)
            if partition not in self.done
        )

    def to_ask(self) -> dict[str, Wanted]:
        """What each home has yet to be told of. It counts as told from now on."""
        wanted: dict[str, dict[int, tuple[MapOutput, list[int]]]] = {}
        homes = [*zip(range(len(self.home)), self.home, self._untold, strict=True)]
        homes += [(p, second.tracker, second.untold) for p, second in self.second.items()]
        for partition, home, untold in homes:
            if home is None or not untold:
                continue
            by_output = wanted.setdefault(home, {})
            for index, output in untold.items():
                by_output.setdefault(index, (output, []))[1].append(partition)
            untold.clear()
        return {
            home: tuple((output, tuple(parts)) for output, parts in by_output.values())
            for home, by_output in wanted.items()
        }

    # ---- arrivals

    def fetched(self, tracker: str, attempt: AttemptId, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if (
                partition in range(len(self.home))
                and self.home[partition] == tracker
                and partition not in self.done
            ):
                self.arrived[partition][attempt.task.index] = attempt
                self._untold[partition].pop(attempt.task.index, None)
                self._recount(partition)
            second = self.second.get(partition)
            if second is not None and second.tracker == tracker:
                second.arrived[attempt.task.index] = attempt
                second.untold.pop(attempt.task.index, None)

    def holding(self, index: int) -> list[int]:
        """The partitions at whose homes an output of this map has arrived, also if done."""
        return [partition for partition, its in enumerate(self.arrived) if index in its]

    def forget(self, partition: int, index: int) -> None:
        """What has arrived of a map is no good: the home is to be told of the map's output anew,
        and a partition that is done is so no more."""
        self.done.discard(partition)
        del self.arrived[partition][index]
        if index in self.outputs:
            self._untold[partition][index] = self.outputs[index]
        self._recount(partition)

    def finish(self, partition: int, tracker: str) -> None:
        """The partition is reduced, by that home."""
        if self.home[partition] != tracker:
            self.promote(partition)
        self.second.pop(partition, None)
        self.done.add(partition)
        self._untold[partition].clear()
        self.whole.discard(partition)

    def _recount(self, partition: int) -> None:
        if self.home[partition] is not None and len(self.arrived[partition]) == self._maps:
            self.whole.add(partition)
        else:
            self.whole.discard(partition)
