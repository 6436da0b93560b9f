"""Merging sorted runs block by block, with the built-in sort instead of a heap.

A heap costs a Python comparison or more for every record. Instead each step looks only at the
last key of the block that each run has in memory: every key up to the smallest of these, the
*frontier*, is complete in memory but for the frontier itself, which may go on in a next block. All
that the runs have up to the frontier is put one after the other and sorted, which for runs that
are in order is a merge in C (Tim Peters, "listsort.txt", in CPython); if the runs have mostly the
same keys, it is gathered in a dict, and only the distinct keys are sorted. Each step uses up at
least one block, so memory stays at one block a run.

The order of runs is kept within a key: while the frontier goes on in one run, those after it keep
back what they have of it. So equal input gives equal output, whichever run arrived first; and of
keys that are equal (1, 1.0, True) the first run's stands for all.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from pytxmr.errors import SpillDamaged
from pytxmr.model import Segment
from pytxmr.records.columns import Groups, SortKey, groups_of, sort_groups, sort_pairs
from pytxmr.records.combine import Combiner, combined
from pytxmr.records.order import Kind, key_function
from pytxmr.records.spill import (
    Block,
    PartitionRange,
    SpillWriter,
    open_spill,
    read_blocks,
    remove_spill,
)

#: Runs merged at once. More are merged in passes, through files.
FAN_IN = 64
#: With fewer values a key than this it is cheaper to sort pairs than to make lists of values.
_FEW_VALUES = 1.5
#: Keys looked up to find out whether runs share theirs.
_PROBES = 16


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
        self._block = block
        self._key_at = self._value_at = 0
        self.last_key = self._block.keys[-1]
        self.kind: Kind = block.kind

    def take(self, frontier: Any, key: SortKey, through: bool) -> Groups:
        """Take every group up to ``frontier``, which is left unless ``through``; load the next
        block if this one is used up.
        """
        block, start, first = self._block, self._key_at, self._value_at
        target = frontier if key is None else key(frontier)
        bisect = bisect_right if through else bisect_left
        cut = bisect(block.keys, target, lo=start, key=key)
        counts = None if block.counts is None else block.counts[start:cut]
        end = first + (cut - start if counts is None else sum(counts))
        taken = Groups(block.keys[start:cut], counts, block.values[first:end])
        self._key_at, self._value_at = cut, end
        if cut == len(block):
            self._next_block()
        return taken

    def goes_on(self, frontier: Any) -> bool:
        """Does ``frontier``, which has been taken, go on in the block that was loaded then?"""
        # Comparing lists, not keys: identity counts first, so that NaN equals itself.
        return self.alive and not self._key_at and self._block.keys[:1] == [frontier]


def merge(runs: Sequence[Iterator[Block]]) -> Iterator[Groups]:
    """Merge runs of blocks, each sorted, into groups in natural order.

    The last group of a batch may go on as the first of the next.
    """
    live = [run for run in map(_Run, runs) if run.alive]
    while live:
        key = key_function({run.kind for run in live})
        frontier = min((run.last_key for run in live), key=key)
        parts = []
        through = True
        for run in live:
            parts.append(run.take(frontier, key, through))
            through = through and not run.goes_on(frontier)
        yield _joined([part for part in parts if part.keys], key)
        live = [run for run in live if run.alive]


def _joined(parts: list[Groups], key: SortKey) -> Groups:
    if len(parts) == 1:
        return parts[0]
    if _share_keys(parts[0].keys, parts[1].keys, key):
        return _gathered(parts, key)
    entries = sum(map(len, parts))
    values = list(chain.from_iterable([part.values for part in parts]))
    if len(values) < _FEW_VALUES * entries:
        keys = list(chain.from_iterable([part.columns().keys for part in parts]))
        return sort_pairs(keys, values, key)
    keys = list(chain.from_iterable([part.keys for part in parts]))
    return sort_groups(keys, list(chain.from_iterable([part.lists() for part in parts])), key)


def _share_keys(some: list[Any], others: list[Any], key: SortKey) -> bool:
    """Do runs seem to have mostly the same keys? Looks at a few of them."""
    step = len(some) // _PROBES + 1
    found = 0
    for wanted in some[::step]:
        at = bisect_left(others, wanted if key is None else key(wanted), key=key)
        found += others[at : at + 1] == [wanted]
    return found * step * 2 > len(some)


def _gathered(parts: list[Groups], key: SortKey) -> Groups:
    """By a dict: of keys that most runs have, only the distinct ones are sorted."""
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for part in parts:
        if part.counts is None:
            for name, value in zip(part.keys, part.values, strict=True):
                groups[name].append(value)
        else:
            for name, values in part:
                groups[name] += values
    keys = sorted(groups, key=key)
    return groups_of(keys, [groups[name] for name in keys])


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
            for groups in merge(runs):
                into.write(partition, combined(groups, combiner))
    finally:
        for fd, _ in opened:
            os.close(fd)
    for path in paths:
        remove_spill(path)


class SegmentMerge:
    """Merges segments in files, in passes of at most `FAN_IN` runs, through ``scratch`` files.

    Iterate over it once, then `close` it, which also removes the scratch files. `SpillDamaged`
    that arises names the file in ``details["path"]``. ``batches`` counts what was merged so far.
    """

    def __init__(self, segments: list[Segment], scratch: str) -> None:
        self._scratch = scratch
        self._made: list[str] = []
        self._fds: list[int] = []
        self._segments = segments
        self.batches = 0

    def __iter__(self) -> Iterator[Groups]:
        segments = self._segments
        while len(segments) > FAN_IN:
            segments = [
                self._one_pass(segments[at : at + FAN_IN]) for at in range(0, len(segments), FAN_IN)
            ]
        yield from self._merged(segments)

    def _merged(self, segments: list[Segment]) -> Iterator[Groups]:
        for groups in merge([self._open(segment) for segment in segments]):
            self.batches += 1
            yield groups

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
            for groups in self._merged(segments):
                writer.write(0, groups)
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
