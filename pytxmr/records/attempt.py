"""One attempt of a task, from input to a finished file: what a worker process does.

Pure and synchronous: nothing here knows of pipes, trackers or Twisted. The user's functions are
driven by C iterators (`chain.from_iterable` over `map`), chunk by chunk, so that the Python work of
ours is per chunk. What is lost by that, the record at hand when something goes wrong, is found
again: from the iterator's length hint if the user's code raised, and by reading the split once
more, record by record, if what it yielded cannot be used (see `_Careful`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, starmap
from operator import length_hint
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError, Uncarryable
from pytxmr.model import InputSplit, JobFunctions, Segment
from pytxmr.records.codec import check_key, check_value
from pytxmr.records.merge import Groups, SegmentMerge, is_pair
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.readers import line_blocks, split_lines, split_text
from pytxmr.records.sortbuffer import SortBuffer
from pytxmr.records.spill import PartitionRange
from pytxmr.records.writers import encoded

#: Called now and then with the fraction done, from 0 to 1.
Progress = Callable[[float], None]


@dataclass(slots=True)
class Outcome:
    """What a finished attempt reports. ``counters`` are pytxmr's own, by name."""

    counters: dict[str, int] = field(default_factory=dict)
    ranges: list[PartitionRange] = field(default_factory=list)
    size_bytes: int = 0
    digest: str = ""


def bind_sample(functions: JobFunctions, sample: list[Any]) -> None:
    """Give the job's `RangePartitioner`, if it has one, the keys of a sample of the input."""
    if isinstance(functions.partitioner, RangePartitioner):
        functions.partitioner.bind(sample)


def sample_keys(functions: JobFunctions, split: InputSplit, most: int) -> list[Any]:
    """The first ``most`` keys at the most that the mapper yields for a split, up to an error.

    An error is not this function's to tell: the job will run into it, and say where.
    """
    keys: list[Any] = []
    try:
        for pair in islice(_Records(split, functions).mapped(), most):
            if is_pair(pair):
                check_key(pair[0])
                keys.append(pair[0])
    except (Exception, SystemExit):
        pass
    return keys


class _Records:
    """The records of a split, as batches for `map`, remembering which one is at hand."""

    def __init__(self, split: InputSplit, functions: JobFunctions) -> None:
        self._split = split
        self._reader = functions.reader
        self._mapper = functions.mapper
        self._part = split.ranges[0]
        self._offset = 0
        self._data = b""
        self._lines: list[Any] = []
        self._rest: Iterator[Any] = iter(())
        self._record: tuple[Any, Any] | None = None
        self._ended = False
        self.bytes_done = 0
        self.count = 0

    def mapped(self) -> Iterator[Any]:
        """What the mapper yields for all records, one after the other."""
        batches = self._read_batches() if self._reader else self._text_batches()
        return chain.from_iterable(chain.from_iterable(batches))

    def _text_batches(self) -> Iterator[Iterator[Iterable[Any]]]:
        for part in self._split.ranges:
            self._part = part
            for offset, data in line_blocks(part):
                self._offset, self._data = offset, data
                offsets, self._lines = split_text(offset, data)
                self._rest = iter(self._lines)
                yield map(self._mapper, offsets, self._rest)
                # There is an offset more than lines, and `map` takes the offset first.
                if next(offsets, None) is not None:
                    raise self._stopped()
                self.count += len(self._lines)
                self.bytes_done += len(data)

    def _read_batches(self) -> Iterator[Iterator[Iterable[Any]]]:
        assert self._reader is not None
        for part in self._split.ranges:
            self._part = part
            self._ended = False
            yield starmap(self._mapper, self._remembered(self._reader(self._raw_lines())))
            if not self._ended:
                raise self._stopped()

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        for offset, data in line_blocks(self._part):
            self._offset = offset
            yield from zip(*split_lines(offset, data), strict=False)
            self.bytes_done += len(data)

    def _remembered(self, records: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for record in records:
            self._record = record
            self.count += 1
            yield record
        self._ended = True

    def _stopped(self) -> AttemptFailed:
        """`map` takes a StopIteration out of the mapper for the end of its input; it is not."""
        return AttemptFailed("the mapper raised StopIteration", where=self.where())

    def where(self) -> str:
        """File, offset and content of the record that the mapper was last called with."""
        if self._record is not None:
            return f"{self._part.path}, record {self._record!r:.400}"
        at = len(self._lines) - length_hint(self._rest) - 1
        if at < 0:
            return f"{self._part.path}, offset {self._offset}"
        offset = next(islice(split_text(self._offset, self._data)[0], at, None))
        return f"{self._part.path}, offset {offset}, record {self._lines[at]!r:.400}"


def run_map(
    functions: JobFunctions,
    split: InputSplit,
    spill_path: str,
    partitions: int,
    buffer_bytes: int,
    progress: Progress,
) -> Outcome:
    """Map a split into one spill at ``spill_path``.

    Raises `AttemptFailed` with the user's error as its cause and ``where`` naming the record, or
    `Uncarryable`, which has the user's ``yield`` in its own traceback; then no file is left.
    """
    buffer = SortBuffer(
        spill_path, partitions, buffer_bytes, functions.partitioner, functions.combiner
    )
    records = _Records(split, functions)
    total = max(1, split.size_bytes)
    try:
        stream = records.mapped()
        while buffer.fill(stream):
            progress(min(1.0, records.bytes_done / total))
        ranges = buffer.finish()
    except Uncarryable:
        buffer.abort()
        _Careful(functions, split).explain()
        raise
    except PytxmrError:
        buffer.abort()
        raise
    except BaseException as error:
        buffer.abort()
        if not _in_user_code(error):
            if isinstance(error, OSError):
                raise AttemptFailed(f"{spill_path}: {error.strerror}") from error
            _Careful(functions, split).explain()
        message = f"the mapper raised {type(error).__name__}: {error}"
        raise AttemptFailed(message, where=records.where()) from error
    return Outcome(
        counters={
            "map input records": records.count,
            "map input bytes": records.bytes_done,
            "map output records": buffer.pairs_in,
            "spilled records": buffer.spilled_pairs,
            "map output bytes": sum(part.length for part in ranges),
        },
        ranges=ranges,
    )


def _in_user_code(error: BaseException) -> bool:
    """Did the exception arise below a call of ours into the user's code?"""
    link = error.__traceback__
    while link is not None and link.tb_next is not None:
        link = link.tb_next
    return link is not None and os.path.dirname(link.tb_frame.f_code.co_filename) != _HERE


_HERE = os.path.dirname(__file__)


class _Careful:
    """Reads a split record by record to find the one that yields what cannot be used.

    The error is thrown into the mapper at its ``yield``, so the traceback shows the user's line.
    """

    def __init__(self, functions: JobFunctions, split: InputSplit) -> None:
        self._functions = functions
        self._split = split

    def explain(self) -> None:
        """Raise `Uncarryable` naming record, key and type; return if nothing is found.

        The user's code may raise this time: then that is the `AttemptFailed` raised.
        """
        functions = self._functions
        records = _Records(self._split, functions)
        mapper = functions.mapper
        found: list[Any] = []

        def keep(key: Any, value: Any) -> list[Any]:
            found[:] = [mapper(key, value)]
            return found

        records._mapper = keep
        try:
            for result in records.mapped():
                self._check_all(result)
        except Uncarryable as error:
            error.details.update(where=records.where(), final=True)
            raise error from None
        except PytxmrError:
            raise
        except BaseException as error:
            message = f"the mapper raised {type(error).__name__}: {error}"
            raise AttemptFailed(message, where=records.where()) from error

    def _check_all(self, result: Any) -> None:
        try:
            pairs = iter(result)
        except TypeError:
            hint = "; does it lack a yield?" if result is None else ""
            raise Uncarryable(
                f"the mapper returned {type(result).__name__}, not an iterable of pairs{hint}"
            ) from None
        throw = getattr(result, "throw", None)
        for pair in pairs:
            problem = pair_problem(pair, "mapper")
            if problem is None:
                continue
            if throw is not None:
                try:
                    throw(problem)
                except BaseException:
                    pass  # the problem itself, with the user's frame, or what they made of it
            raise problem


def pair_problem(pair: Any, role: str) -> Uncarryable | None:
    """What is wrong with something that a mapper or reducer yielded, if anything."""
    if not is_pair(pair):
        return Uncarryable(f"the {role} yielded {pair!r:.200}: not a pair (key, value)", final=True)
    key, value = pair
    try:
        check_key(key)
        check_value(value)
    except Uncarryable as error:
        return Uncarryable(f"for the key {key!r:.200}: {error.message}", final=True)
    return None


def run_reduce(
    functions: JobFunctions,
    segments: list[Segment],
    output_path: str,
    scratch: str,
    progress: Progress,
) -> Outcome:
    """Merge the segments of one partition, reduce each group, write and fsync ``output_path``.

    Raises `AttemptFailed` with ``where`` naming the key, or `SpillDamaged`; then no file is left.
    """
    merged = SegmentMerge(segments, scratch)
    reducing = _Reducing(functions, merged, segments, progress)
    hasher = hashlib.sha256()
    size = 0
    try:
        with open(output_path, "wb", buffering=1 << 18) as file:
            for piece in encoded(reducing.pairs(), functions.writer):
                hasher.update(piece)
                size += len(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        if os.path.exists(output_path):
            os.unlink(output_path)
        if isinstance(error, PytxmrError):
            raise
        if isinstance(error, OSError) and not _in_user_code(error):
            raise AttemptFailed(f"{output_path}: {error.strerror}") from error
        if isinstance(error, TypeError) and not _in_user_code(error):
            raise AttemptFailed(
                f"the reducer cannot be called, or returned no pairs ({error}); lacks it a yield?",
                where=reducing.where(),
                final=True,
            ) from error
        message = f"the reducer raised {type(error).__name__}: {error}"
        raise AttemptFailed(message, where=reducing.where()) from error
    finally:
        merged.close()
    return Outcome(
        counters={
            "reduce input groups": reducing.groups_in,
            "reduce output records": reducing.pairs_out,
            "reduce output bytes": size,
        },
        size_bytes=size,
        digest=hasher.hexdigest(),
    )


class _Reducing:
    """The reducer over the groups, remembering which key is at hand."""

    def __init__(
        self,
        functions: JobFunctions,
        merged: Iterable[Any],
        segments: list[Segment],
        progress: Progress,
    ) -> None:
        self._reducer = functions.reducer
        self._groups: Groups | None = None
        self._merged = merged
        self._progress = progress
        self.pairs_out = 0

    @property
    def groups_in(self) -> int:
        return self._groups.count if self._groups else 0

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        self._groups = Groups(iter(self._merged))
        stream = chain.from_iterable(starmap(self._reducer, self._groups))
        before = -1
        while self.pairs_out > before:
            before = self.pairs_out
            for pair in islice(stream, 1024):
                if (type(pair) is not tuple or len(pair) != 2) and not is_pair(pair):
                    raise AttemptFailed(
                        f"the reducer yielded {pair!r:.200}: not a pair (key, value)",
                        where=self.where(),
                        final=True,
                    )
                self.pairs_out += 1
                yield pair
            self._progress(0.5)
        if not self._groups.ended:  # `starmap` took it for the end of the groups
            raise AttemptFailed("the reducer raised StopIteration", where=self.where())

    def where(self) -> str:
        if self._groups is None:
            return "before the first key"
        return f"key {self._groups.key!r:.400}"
