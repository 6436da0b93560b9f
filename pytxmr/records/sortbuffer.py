"""The sort buffer: where a map's pairs wait in memory, grouped by key, until they are spilled.

Pairs are pulled from the mapper's stream some thousands at a time. Keys are grouped by a dict, so
each distinct key is hashed to its partition, sorted and packed once, however many values it has.
When the estimated size passes the limit, the combiner is tried first; what still fills more than
half the limit goes to disk as a sorted run. At the end the runs are merged into the one spill file
of the attempt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from sys import getsizeof
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.records.codec import check_key, one_nan
from pytxmr.records.merge import FAN_IN, Combiner, combine_groups, is_pair, merge_spills
from pytxmr.records.order import key_function, order_of
from pytxmr.records.partition import partition_keys, stable_partition
from pytxmr.records.spill import PartitionRange, SpillWriter, remove_spill

Pair = tuple[Any, Any]

#: What a dict entry with a list of its own costs beside key and values, in CPython 3.11.
_GROUP_BYTES = 190
#: Pairs looked at, for their size, in every step; and the most that a step takes.
_SAMPLE = 64
_MOST_PAIRS_PER_STEP = 16384


class SortBuffer:
    """Collects pairs and writes them as one sorted, partitioned spill at ``path``.

    ``limit_bytes`` bounds the memory, by an estimate from a sample of each step. Call `fill` until
    it returns False, then `finish`; or `abort`, which removes every file.
    """

    def __init__(
        self,
        path: str,
        partitions: int,
        limit_bytes: int,
        partitioner: Callable[[Any, int], int] = stable_partition,
        combiner: Combiner | None = None,
    ) -> None:
        self._path = path
        self._partitions = partitions
        self._limit = limit_bytes
        self._partitioner = partitioner
        self._combiner = combiner
        self._groups: defaultdict[Any, list[Any]] = defaultdict(list)
        self._bytes = 0.0
        self._counted = 0
        self._pairs_before = 0
        self._runs: list[str] = []
        self._writer: SpillWriter | None = None
        self.pairs_in = 0
        self.spilled_pairs = 0

    def fill(self, stream: Iterator[Pair]) -> bool:
        """Take some thousands of pairs from ``stream``; False if it has ended.

        `TypeError` or `ValueError` that arise here: something in the stream is not a pair.
        """
        groups = self._groups
        before = len(groups)
        head = list(islice(stream, _SAMPLE))
        if not head:
            return False
        if not all(map(is_pair, head)):  # unpacking would take a str of two characters for one
            raise TypeError("something in the stream is not a pair")
        value_bytes = sum(getsizeof(value) for _, value in head) / len(head) + 8
        key_bytes = sum(getsizeof(key) for key, _ in head) / len(head) + _GROUP_BYTES
        step = int(self._limit / 16 / (value_bytes + key_bytes))
        step = min(_MOST_PAIRS_PER_STEP, max(_SAMPLE, step))
        for key, value in chain(head, islice(stream, step - len(head))):
            groups[key].append(value)
        self._bytes += step * value_bytes + (len(groups) - before) * key_bytes
        if self._bytes > self._limit:
            self._shrink()
        return True

    def _shrink(self) -> None:
        if self._combiner is not None:
            pairs = self._combine()
            average = self._bytes / max(1, self._pairs_before)
            self._bytes = pairs * (average + 28) + len(self._groups) * (_GROUP_BYTES + 60)
            if self._bytes < self._limit / 2:
                return
        self._spill(self._new_run())

    def _combine(self) -> int:
        """Combine what is in memory; return how many pairs are left."""
        self._pairs_before = self._count()
        assert self._combiner is not None
        self._groups = defaultdict(list, combine_groups(self._groups, self._combiner))
        self._counted = sum(map(len, self._groups.values()))
        return self._counted

    def _count(self) -> int:
        """Count the pairs in memory, and add those that are new to `pairs_in`."""
        pairs = sum(map(len, self._groups.values()))
        self.pairs_in += pairs - self._counted
        self._counted = pairs
        return pairs

    def _new_run(self) -> str:
        self._runs.append(f"{self._path}.run{len(self._runs)}")
        return self._runs[-1]

    def finish(self) -> list[PartitionRange]:
        """Write the spill file and its index; return where each partition lies."""
        if self._combiner is not None:
            self._combine()
        if not self._runs:
            return self._spill(self._path)
        if self._groups:
            self._spill(self._new_run())
        runs = list(self._runs)
        while len(runs) > FAN_IN:
            runs = [self._merge_run(runs[at : at + FAN_IN]) for at in range(0, len(runs), FAN_IN)]
        return self._merge(runs, self._path)

    def _merge_run(self, runs: list[str]) -> str:
        path = self._new_run()
        self._merge(runs, path)
        return path

    def _merge(self, runs: list[str], path: str) -> list[PartitionRange]:
        self._writer = SpillWriter(path, self._partitions)
        merge_spills(runs, self._writer, self._partitions, self._combiner)
        return self._close_writer()

    def _close_writer(self) -> list[PartitionRange]:
        writer, self._writer = self._writer, None
        assert writer is not None
        self.spilled_pairs += writer.pairs
        return writer.close()

    def _spill(self, path: str) -> list[PartitionRange]:
        average = self._bytes / (self._count() or 1)
        self._writer = writer = SpillWriter(path, self._partitions, average)
        groups = self._groups
        keys = list(groups)
        kind = order_of(keys)
        if kind is None and keys:
            groups = self._checked(groups)
            keys = list(groups)
        for partition, members in enumerate(self._by_partition(keys)):
            members.sort(key=key_function({kind}))
            writer.write_groups(partition, members, groups)
        self._groups = defaultdict(list)
        self._bytes, self._counted = 0.0, 0
        return self._close_writer()

    def _checked(self, groups: defaultdict[Any, list[Any]]) -> defaultdict[Any, list[Any]]:
        """Groups of mixed keys: refuse what cannot be a key, and let every NaN be one key."""
        for key in groups:
            check_key(key)
        checked: defaultdict[Any, list[Any]] = defaultdict(list)
        for same, values in zip(one_nan(list(groups)), groups.values(), strict=True):
            checked[same] += values
        return checked

    def _by_partition(self, keys: list[Any]) -> list[list[Any]]:
        count = self._partitions
        if self._partitioner is stable_partition:
            numbers = partition_keys(keys, count)
        else:
            numbers = []
            try:
                for key in keys:
                    numbers.append(self._partitioner(key, count))
            except BaseException as error:
                message = f"the partitioner raised {type(error).__name__}: {error}"
                raise AttemptFailed(message, where=f"key {key!r:.400}") from error
            for key, number in zip(keys, numbers, strict=True):
                if type(number) is not int or not 0 <= number < count:
                    raise AttemptFailed(
                        f"the partitioner gave {number!r} for the key {key!r:.200}: "
                        f"it must give an int from 0 to {count - 1}",
                        final=True,
                    )
        members: list[list[Any]] = [[] for _ in range(count)]
        for key, number in zip(keys, numbers, strict=True):
            members[number].append(key)
        return members

    def abort(self) -> None:
        """Remove every file written so far."""
        if self._writer is not None:
            self._writer.abort()
        for path in (*self._runs, self._path):
            remove_spill(path)
