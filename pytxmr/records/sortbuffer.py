"""The sort buffer: where a map's pairs wait in memory until they are spilled.

Pairs are pulled from the mapper's stream some thousands at a time and gathered by key (see
`gather`), so each distinct key is hashed to its partition, sorted and packed once, however many
values it has. Where keys hardly repeat, gathering gives up and pairs are only listed. When the
estimated size passes the limit, what is held is combined; what still fills more than half the limit
goes to disk as a sorted run. At the end the runs are merged into the one spill file of the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.records.codec import check_key, one_nan
from pytxmr.records.columns import Groups
from pytxmr.records.combine import Combiner, combined, is_pair
from pytxmr.records.folds import Fold, Pair
from pytxmr.records.gather import Folded, Grouped, Listed, average_bytes
from pytxmr.records.merge import FAN_IN, merge_spills
from pytxmr.records.order import key_function, order_of
from pytxmr.records.partition import RangePartitioner, partition_keys, stable_partition
from pytxmr.records.spill import PartitionRange, SpillWriter, remove_spill

#: Pairs looked at, for their size, in every step; and the most that a step takes.
_SAMPLE = 64
_MOST_PAIRS_PER_STEP = 16384
#: About what a pair takes beside its key and value.
_ENTRY_BYTES = 100
#: Gathering gives up if, after so many pairs, more than this part of them have keys of their own.
_PROBE_PAIRS = 32768
_GIVE_UP = 0.7


class SortBuffer:
    """Collects pairs and writes them as one sorted, partitioned spill at ``path``.

    ``limit_bytes`` bounds the memory, by an estimate from a sample of each step. Call `fill` until
    it returns False, or `add` any number of times, then `finish`; or `abort`, which removes every
    file. A combiner that is a fold makes the spill one of partials.
    """

    def __init__(
        self,
        path: str,
        partitions: int,
        limit_bytes: int,
        partitioner: Callable[[Any, int], int] = stable_partition,
        combiner: Combiner | None = None,
        codec: str = "none",
    ) -> None:
        self._path = path
        self._partitions = partitions
        self._limit = limit_bytes
        self._partitioner = partitioner
        self._combiner = combiner
        self._codec = codec
        self._held: Folded | Grouped | Listed = self._empty()
        self._held_pairs = 0
        self._bytes = 0.0
        self._runs: list[str] = []
        self._writer: SpillWriter | None = None
        self._head: list[Pair] = []
        self.pairs_in = 0
        self.spilled_pairs = 0
        #: Of the spill that was written last (see `SpillWriter`).
        self.digest = ""

    def _empty(self) -> Folded | Grouped:
        combiner = self._combiner
        return Folded(combiner) if isinstance(combiner, Fold) else Grouped(combiner)

    # ---- pairs in

    def fill(self, stream: Iterator[Pair]) -> bool:
        """Take some thousands of pairs from ``stream``; False if it has ended.

        `TypeError` or `ValueError` that arise here: something in the stream is not a pair.
        """
        head = self._head = []
        head += islice(stream, _SAMPLE)
        if not head:
            return False
        if not all(map(is_pair, head)):  # unpacking would take a str of two characters for one
            raise TypeError("something in the stream is not a pair")
        keys, values = zip(*head, strict=True)
        key_bytes, value_bytes = average_bytes(keys), average_bytes(values)
        wanted = self._step(key_bytes + value_bytes) - len(head)
        before = self._held.entries
        self._held.take(head)
        taken = len(head) + self._held.pull(stream, wanted)
        self._taken(taken, self._held.entries - before, value_bytes, key_bytes)
        return True

    def add(self, keys: list[Any], values: list[Any]) -> None:
        """Take pairs as two columns."""
        at = 0
        while at < len(keys):
            key_bytes = average_bytes(keys[at : at + _SAMPLE])
            value_bytes = average_bytes(values[at : at + _SAMPLE])
            end = at + self._step(key_bytes + value_bytes)
            before = self._held.entries
            some = keys[at:end]
            self._held.extend(some, values[at:end])
            self._taken(len(some), self._held.entries - before, value_bytes, key_bytes)
            at = end

    def _step(self, pair_bytes: float) -> int:
        wanted = int(self._limit / 16 / (pair_bytes + _ENTRY_BYTES))
        return min(_MOST_PAIRS_PER_STEP, max(_SAMPLE, wanted))

    def _taken(self, pairs: int, entries: int, value_bytes: float, key_bytes: float) -> None:
        held = self._held
        self.pairs_in += pairs
        self._held_pairs += pairs
        self._bytes += held.cost(pairs, entries, value_bytes, key_bytes)
        unique = held.entries > _GIVE_UP * self._held_pairs and self._held_pairs > _PROBE_PAIRS
        if unique and not isinstance(held, Listed):
            held = self._held = held.listed()
            self._bytes = held.cost(held.entries, held.entries, value_bytes, key_bytes)
        if self._bytes > self._limit:
            left = held.compact()
            self._bytes = self._bytes if left is None else left
            if self._bytes > self._limit / 2:
                self._spill(self._new_run())

    def signs(self) -> tuple[int, ...]:
        """Differs whenever a pair has come in, or some went out: also in the middle of a step."""
        writer = self._writer
        written = 0 if writer is None else writer.pairs
        taken = (self.pairs_in, len(self._head), self._held.sign())
        return (*taken, self.spilled_pairs, written)

    # ---- spills out

    def finish(self) -> list[PartitionRange]:
        """Write the spill file and its index; return where each partition lies."""
        if not self._runs:
            return self._spill(self._path)
        if self._held.entries:
            self._spill(self._new_run())
        runs = list(self._runs)
        while len(runs) > FAN_IN:
            runs = [self._merge_run(runs[at : at + FAN_IN]) for at in range(0, len(runs), FAN_IN)]
        return self._merge(runs, self._path)

    def _new_run(self) -> str:
        self._runs.append(f"{self._path}.run{len(self._runs)}")
        return self._runs[-1]

    def _merge_run(self, runs: list[str]) -> str:
        path = self._new_run()
        self._merge(runs, path)
        return path

    def _merge(self, runs: list[str], path: str) -> list[PartitionRange]:
        self._writer = SpillWriter(path, self._partitions, codec=self._codec)
        merge_spills(runs, self._writer, self._partitions, self._combiner)
        return self._close_writer()

    def _close_writer(self) -> list[PartitionRange]:
        writer, self._writer = self._writer, None
        assert writer is not None
        self.spilled_pairs += writer.pairs
        ranges = writer.close()
        self.digest = writer.digest
        return ranges

    def _spill(self, path: str) -> list[PartitionRange]:
        """Sort what is held, and write it to ``path``."""
        average = self._bytes / max(1, self._held_pairs)
        held, self._held = self._held, self._empty()
        self._bytes, self._held_pairs = 0.0, 0
        self._writer = SpillWriter(path, self._partitions, average, self._codec)
        for partition, groups in self._sorted(held):
            self._writer.write(partition, combined(groups, self._combiner))
        return self._close_writer()

    def _sorted(self, held: Folded | Grouped | Listed) -> Iterator[tuple[int, Groups]]:
        keys, items = held.columns()
        kind = order_of(keys)
        if kind is None:
            for key in keys:
                check_key(key)
            keys = one_nan(keys)
        key = key_function({kind})
        if held.finds(key):
            items = []
        partitioner = self._partitioner
        if type(partitioner) is RangePartitioner:
            groups = held.sort(keys, items, key)
            cuts = [0, *partitioner.cuts(groups.keys, self._partitions), len(groups)]
            for partition, (start, end) in enumerate(pairwise(cuts)):
                yield partition, groups.part(start, end)
        elif self._partitions == 1 and partitioner is stable_partition:
            yield 0, held.sort(keys, items, key)
        else:
            numbers = self._numbers(keys)
            parts = [self._parts(numbers, keys), self._parts(numbers, items)]
            for partition, (some, theirs) in enumerate(zip(*parts, strict=True)):
                yield partition, held.sort(some, theirs, key)

    def _parts(self, numbers: list[int], column: list[Any]) -> list[list[Any]]:
        """What belongs to each partition, of a column that may be left out."""
        parts: list[list[Any]] = [[] for _ in range(self._partitions)]
        for number, thing in zip(numbers, column, strict=False):
            parts[number].append(thing)
        return parts

    def _numbers(self, keys: list[Any]) -> list[int]:
        count = self._partitions
        if self._partitioner is stable_partition:
            return partition_keys(keys, count)
        numbers: list[int] = []
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
        return numbers

    def abort(self) -> None:
        """Remove every file written so far."""
        if self._writer is not None:
            self._writer.abort()
        for path in (*self._runs, self._path):
            remove_spill(path)
