"""Merging sorted runs block by block, with the built-in sort instead of a heap.

A heap costs a Python comparison or more for every record. Instead each step looks only at the
last key of the block that each run has in memory: every key up to the smallest of these, the
*frontier*, is complete in memory but for the frontier itself, which may go on in a next block. All
groups up to the frontier are put into one dict, and its keys sorted. Each step uses up at least
one block, so memory stays at one block a run, and the Python work is per distinct key.

The order of runs is kept within a key, so equal input gives equal output, whichever run arrived
first; and of keys that are equal (1, 1.0, True) the first run's stands for all.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, SpillDamaged
from pytxmr.model import Segment
from pytxmr.records.order import Kind, key_function
from pytxmr.records.spill import (
    Block,
    PartitionRange,
    SpillWriter,
    open_spill,
    read_blocks,
    remove_spill,
)

#: Keys in order, and the values of each. The last key may go on as the first of the next batch.
Batch = tuple[list[Any], dict[Any, list[Any]]]
Combiner = Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]]

#: Runs merged at once. More are merged in passes, through files.
FAN_IN = 64


class _Run:
    """A run with one block in memory and how far it has been taken."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self.alive = True
        self._next_block()

    def _next_block(self) -> None:
        block = next(self._blocks, None)
        if block is None:
            self.alive = False
            return
        self.keys, self.counts, self.values = block.keys, block.counts, block.values
        self.kind: Kind = block.kind
        self._key_at = 0
        self._value_at = 0

    def take(self, frontier: Any, key: Callable[[Any], Any] | None, into: dict[Any, Any]) -> None:
        """Move every group up to ``frontier`` into ``into``; load the next block if used up."""
        start, at = self._key_at, self._value_at
        target = frontier if key is None else key(frontier)
        cut = bisect_right(self.keys, target, lo=start, key=key)
        if self.counts is None:
            for name, value in zip(
                self.keys[start:cut], self.values[at : at + cut - start], strict=True
            ):
                if name in into:
                    into[name].append(value)
                else:
                    into[name] = [value]
            at += cut - start
        else:
            for name, count in zip(self.keys[start:cut], self.counts[start:cut], strict=True):
                end = at + count
                if name in into:
                    into[name] += self.values[at:end]
                else:
                    into[name] = self.values[at:end]
                at = end
        self._key_at, self._value_at = cut, at
        if cut == len(self.keys):
            self._next_block()


def merge(runs: Sequence[Iterator[Block]]) -> Iterator[Batch]:
    """Merge runs of blocks, each sorted, into batches in natural order."""
    live = [run for run in map(_Run, runs) if run.alive]
    while live:
        key = key_function({run.kind for run in live})
        frontier = min((run.keys[-1] for run in live), key=key)
        groups: dict[Any, list[Any]] = {}
        for run in live:
            run.take(frontier, key, groups)
        yield (list(groups) if len(live) == 1 else sorted(groups, key=key)), groups
        live = [run for run in live if run.alive]


class Groups:
    """Iterates over ``(key, values)`` of merged batches; ``values`` is a one-pass iterator.

    A group may be larger than memory: the values of a batch's last key pull the next batches as
    they are read. Values that the reducer leaves unread are skipped. `key` is the group that was
    handed out last; `ended` is true after all were.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._batch = next(batches, None)
        self._continued = 0
        self._failure: BaseException | None = None
        self.key: Any = None
        self.count = 0
        self.ended = False

    def __iter__(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        while self._batch is not None:
            keys, groups = self._batch
            for key in keys[self._continued : -1]:
                self.key = key
                self.count += 1
                yield key, iter(groups[key])
            self.key = key = keys[-1]
            self.count += 1
            values = self._to_the_end(key, groups[key])
            yield key, values
            for _ in values:
                pass
            if self._failure is not None:
                raise self._failure
        self.ended = True

    def _to_the_end(self, key: Any, values: list[Any]) -> Iterator[Any]:
        while True:
            yield from values
            try:
                self._batch = next(self._batches, None)
            except BaseException as error:
                # A reducer may swallow it, but must not go on as if this were the end.
                self._failure = error
                raise
            self._continued = 0
            # Comparing lists, not keys: identity counts first, so that NaN equals itself.
            if self._batch is None or [self._batch[0][0]] != [key]:
                return
            keys, groups = self._batch
            values = groups[keys[0]]
            if len(keys) > 1:
                self._continued = 1
                yield from values
                return


def is_pair(thing: Any) -> bool:
    """Is it what a mapper, combiner or reducer may yield? A str of two characters is not."""
    return isinstance(thing, (tuple, list)) and len(thing) == 2


def combine_groups(groups: dict[Any, list[Any]], combiner: Combiner) -> dict[Any, list[Any]]:
    """Run the combiner over every key that has several values; the keys' order is kept.

    Raises `AttemptFailed` if the combiner raises, or yields anything but pairs with the key that
    it was given: another key would stand at a wrong place in the order, or in a wrong partition.
    """
    combined: dict[Any, list[Any]] = {}
    key: Any = None
    try:
        for key, values in groups.items():
            if len(values) > 1:
                kept = []
                for pair in combiner(key, iter(values)):
                    if type(pair) is not tuple or len(pair) != 2 or pair[0] is not key:
                        _check_combined(key, pair)
                    kept.append(pair[1])
                values = kept
            if values:
                combined[key] = values
    except PytxmrError:
        raise
    except BaseException as error:
        message = f"the combiner raised {type(error).__name__}: {error}"
        raise AttemptFailed(message, where=f"key {key!r:.400}") from error
    return combined


def _check_combined(key: Any, pair: Any) -> None:
    if not is_pair(pair):
        problem = f"the combiner yielded {pair!r:.200}: not a pair (key, value)"
    elif pair[0] is not key and pair[0] != key:
        problem = f"the combiner yielded the key {pair[0]!r:.200}: not the one it was given"
    else:
        return
    raise AttemptFailed(problem, where=f"key {key!r:.400}", final=True)


def merge_spills(
    paths: list[str], into: SpillWriter, partitions: int, combiner: Combiner | None = None
) -> None:
    """Merge whole spills, partition by partition, combining on the way, and remove them."""
    opened: list[tuple[int, list[PartitionRange]]] = []
    try:
        for path in paths:
            opened.append(open_spill(path))
        for partition in range(partitions):
            runs = [
                read_blocks(fd, ranges[partition].offset, ranges[partition].length)
                for fd, ranges in opened
            ]
            for keys, groups in merge(runs):
                if combiner is not None:
                    groups = combine_groups(groups, combiner)
                    keys = [key for key in keys if key in groups]
                into.write_groups(partition, keys, groups)
    finally:
        for fd, _ in opened:
            os.close(fd)
    for path in paths:
        remove_spill(path)


class SegmentMerge:
    """Merges segments in files, in passes of at most `FAN_IN` runs, through ``scratch`` files.

    Iterate over it once, then `close` it, which also removes the scratch files. `SpillDamaged`
    that arises names the file in ``details["path"]``.
    """

    def __init__(self, segments: list[Segment], scratch: str) -> None:
        self._scratch = scratch
        self._made: list[str] = []
        self._fds: list[int] = []
        self._segments = segments

    def __iter__(self) -> Iterator[Batch]:
        segments = self._segments
        while len(segments) > FAN_IN:
            segments = [
                self._one_pass(segments[at : at + FAN_IN]) for at in range(0, len(segments), FAN_IN)
            ]
        yield from merge([self._open(segment) for segment in segments])

    def _open(self, segment: Segment) -> Iterator[Block]:
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            message = f"{segment.path}: {error.strerror}"
            raise SpillDamaged(message, path=segment.path) from error
        self._fds.append(fd)
        return _named_blocks(fd, segment)

    def _one_pass(self, segments: list[Segment]) -> Segment:
        path = f"{self._scratch}.pass{len(self._made)}"
        self._made.append(path)
        writer = SpillWriter(path, 1)
        try:
            for keys, groups in merge([self._open(segment) for segment in segments]):
                writer.write_groups(0, keys, groups)
        except BaseException:
            writer.abort()
            raise
        self._close_files()
        (whole,) = writer.close()
        return Segment(path, whole.offset, whole.length)

    def _close_files(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def close(self) -> None:
        self._close_files()
        for path in self._made:
            remove_spill(path)


def _named_blocks(fd: int, segment: Segment) -> Iterator[Block]:
    try:
        yield from read_blocks(fd, segment.offset, segment.length)
    except SpillDamaged as error:
        message = f"{segment.path}: {error.message}"
        raise SpillDamaged(message, path=segment.path) from error
