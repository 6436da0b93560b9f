"""Which reducer a key goes to: the same on every machine, in every process, on every run.

The built-in ``hash`` is not used: it differs between processes for str and bytes. CRC-32 of a
canonical form is stable, and fast enough to be called once per distinct key of a sort buffer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import groupby
from typing import Any
from zlib import crc32

from pytxmr.records.kinds import canonical
from pytxmr.records.order import sort_key


def stable_partition(key: Any, partitions: int) -> int:
    """The default partitioner. Keys that are equal in Python (1, 1.0, True) go to one place."""
    return crc32(_canonical(key)) % partitions


def partition_keys(keys: list[Any], partitions: int) -> list[int]:
    """`stable_partition` of every key."""
    if partitions == 1:
        return [0] * len(keys)
    if set(map(type, keys)) == {str}:
        try:
            return [code % partitions for code in map(crc32, map(str.encode, keys))]
        except UnicodeEncodeError:
            pass
    return [crc32(_canonical(key)) % partitions for key in keys]


def _canonical(key: Any) -> bytes:
    kind = type(key)
    if kind is str:
        return key.encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]
    if kind is bytes:
        return key  # type: ignore[no-any-return]
    if kind is float:
        if not key.is_integer():
            return repr(key).encode()
        key, kind = int(key), int
    if kind is int or kind is bool:
        # Hexadecimal: linear in the size, where decimal is quadratic and refused over 4300 digits.
        return b"%x" % key if abs(key) >> 64 else b"%d" % key
    if kind is tuple:
        return b"\x00".join(map(_canonical, key))
    return b"" if key is None else canonical(key)


class RangePartitioner:
    """Gives each reducer a range of keys, so that the parts, in order, are globally sorted.

    A job module says ``partitioner = pytxmr.RangePartitioner()``. Before the job starts, the
    mapper runs over a sample of the input; the quantiles of the keys it yields are the
    boundaries (TeraSort's method: O'Malley, "TeraByte Sort on Apache Hadoop", 2008).
    """

    def __init__(self, sample: list[Any] | None = None) -> None:
        self._sample = sorted(sample or [], key=sort_key)
        self._boundaries: dict[int, list[Any]] = {}

    def bind(self, sample: list[Any]) -> None:
        """Take the keys of a sample of the input. A worker does this before its first attempt."""
        self._sample = sorted(sample, key=sort_key)
        self._boundaries.clear()

    @property
    def sample(self) -> list[Any]:
        """The keys that it goes by, in order."""
        return self._sample

    def __call__(self, key: Any, partitions: int) -> int:
        """The number of the range, in [0, partitions), that ``key`` falls in."""
        return bisect_left(self._bounds(partitions), sort_key(key))

    def cuts(self, keys: list[Any], partitions: int) -> list[int]:
        """For keys in natural order: where each range but the first begins."""
        bounds = self._bounds(partitions)
        ends = [bisect_right(keys, bound, key=sort_key) for bound in bounds]
        return ends + [len(keys)] * (partitions - 1 - len(ends))

    def _bounds(self, partitions: int) -> list[Any]:
        bounds = self._boundaries.get(partitions)
        if bounds is None:
            bounds = self._boundaries[partitions] = _cut(self._sample, partitions)
        return bounds


def _cut(sample: list[Any], partitions: int) -> list[Any]:
    """The last key of each range but the last, so that about as much of a sorted sample is in each.

    A key that is there more often than a range has keys gets one of its own, and those before and
    behind it the others.
    """
    bounds: list[Any] = []
    left, held, last = len(sample), 0, None
    for key, same in groupby(map(sort_key, sample)):
        count = len(list(same))
        # What is left is for the ranges that are left.
        if held and 2 * held + count > 2 * left / (partitions - len(bounds)):
            bounds.append(last)
            left, held = left - held, 0
        if len(bounds) == partitions - 1:
            break
        held, last = held + count, key
    return bounds
