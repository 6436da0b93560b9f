"""Pairs and groups as columns: lists that C code can walk, where a loop would walk records.

`Columns` is pairs in any order. `Groups` is pairs grouped by key, keys distinct and in natural
order; blocks of a spill, what a merge gives and what a batch reducer gets are all `Groups`. The
functions here sort and group without a Python call or a Python comparison per pair, if the keys
are of one kind (see `order`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, compress, islice, pairwise, repeat
from operator import ne, sub
from typing import Any

#: The ``key=`` of `order.key_function`: None where the built-in order will do.
SortKey = Callable[[Any], Any] | None


@dataclass(slots=True)
class Columns:
    """Pairs: ``values[i]`` belongs to ``keys[i]``."""

    keys: list[Any]
    values: list[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        return zip(self.keys, self.values, strict=True)


def columns(keys: Any, values: Any = None) -> Columns:
    """Many pairs at once, for a batch mapper or reducer to yield.

    ``keys`` and ``values`` are sequences of one length: lists, or columns of numpy, pyarrow or
    polars, which become lists. Without ``values`` every key has None. Raises `ValueError` if the
    lengths differ.
    """
    keys = _as_list(keys)
    values = [None] * len(keys) if values is None else _as_list(values)
    if len(keys) != len(values):
        raise ValueError(f"there are {len(keys)} keys and {len(values)} values")
    return Columns(keys, values)


def _as_list(column: Any) -> list[Any]:
    if type(column) is list:
        return column
    for method in ("to_pylist", "tolist", "to_list"):  # pyarrow, numpy, polars
        if hasattr(column, method):
            return getattr(column, method)()  # type: ignore[no-any-return]
    return list(column)


@dataclass(slots=True)
class Groups:
    """Distinct keys in natural order, and the values of each.

    ``values`` has them key by key; ``counts[i]`` of them belong to ``keys[i]``, or one each if
    ``counts`` is None. Iterating gives ``(key, list of its values)``.
    """

    keys: list[Any]
    counts: list[int] | None
    values: list[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[Any, list[Any]]]:
        return zip(self.keys, self.lists(), strict=True)

    def lists(self) -> Iterator[list[Any]]:
        """The values of each key."""
        if self.counts is None:
            return map(list, zip(self.values, strict=True))
        return map(self.values.__getitem__, _slices(self.counts))

    def iterators(self) -> Iterator[Iterator[Any]]:
        """The values of each key, as iterators."""
        return map(iter, zip(self.values, strict=True) if self.counts is None else self.lists())

    def part(self, start: int, end: int) -> Groups:
        """The groups of ``keys[start:end]``."""
        if start == 0 and end == len(self.keys):
            return self
        if self.counts is None:
            return Groups(self.keys[start:end], None, self.values[start:end])
        counts = self.counts[start:end]
        first = sum(self.counts[:start])
        return Groups(self.keys[start:end], counts, self.values[first : first + sum(counts)])

    def columns(self) -> Columns:
        """The pairs; a key with several values comes several times."""
        if self.counts is None:
            return Columns(self.keys, self.values)
        return Columns(list(chain.from_iterable(map(repeat, self.keys, self.counts))), self.values)


def _slices(counts: list[int]) -> Iterator[slice]:
    ends = list(accumulate(counts))
    return map(slice, chain((0,), ends), ends)


def groups_of(keys: list[Any], lists: list[list[Any]]) -> Groups:
    """`Groups` of keys that are in order, and a list of values for each."""
    values = list(chain.from_iterable(lists))
    return Groups(keys, None if len(values) == len(keys) else list(map(len, lists)), values)


def sort_pairs(keys: list[Any], values: list[Any], key: SortKey) -> Groups:
    """Group single values by key; the order of a key's values is kept. May sort ``keys`` itself."""
    if key is None and values.count(None) == len(values):
        keys.sort()
        marks = keys
    else:
        marks = keys if key is None else list(map(key, keys))
        order = sorted(range(len(keys)), key=marks.__getitem__)
        keys = [keys[at] for at in order]
        values = [values[at] for at in order]
        marks = keys if key is None else [marks[at] for at in order]
    starts = _starts(marks)
    if len(starts) == len(keys):
        return Groups(keys, None, values)
    counts = list(map(sub, chain(islice(starts, 1, None), (len(keys),)), starts))
    return Groups([keys[at] for at in starts], counts, values)


def sort_groups(keys: list[Any], lists: list[list[Any]], key: SortKey) -> Groups:
    """Bring groups in any order into natural order; equal keys become one, its values in order."""
    marks = keys if key is None else list(map(key, keys))
    order = sorted(range(len(keys)), key=marks.__getitem__)
    keys = [keys[at] for at in order]
    lists = [lists[at] for at in order]
    marks = keys if key is None else [marks[at] for at in order]
    counts = list(map(len, lists))
    starts = _starts(marks)
    if len(starts) < len(keys):
        ends = [0, *accumulate(counts)]
        counts = [ends[b] - ends[a] for a, b in pairwise((*starts, len(keys)))]
        keys = [keys[at] for at in starts]
    values = list(chain.from_iterable(lists))
    return Groups(keys, None if len(values) == len(keys) else counts, values)


def _starts(marks: list[Any]) -> list[int]:
    """Where, in a sorted list, each new key begins."""
    if not marks:
        return []
    return [0, *compress(range(1, len(marks)), map(ne, marks, islice(marks, 1, None)))]


def whole(batches: Iterable[Groups]) -> Iterator[Groups]:
    """The same groups, cut so that no group goes on in the next batch."""
    held: Groups | None = None
    for groups in batches:
        if held is not None:
            # Comparing lists, not keys: identity counts first, so that NaN equals itself.
            if held.keys == groups.keys[:1]:
                held.values += groups.part(0, 1).values
                held.counts = [len(held.values)]
                if len(groups) == 1:
                    continue
                groups = groups.part(1, len(groups))
            yield held
        last = len(groups) - 1
        group = groups.part(last, last + 1)
        held = Groups(group.keys, group.counts, list(group.values))
        if last:
            yield groups.part(0, last)
    if held is not None:
        yield held


class WithoutParts:
    """The groups of the keys, of groups whose keys are ``(key, part)``: a key's values are those of
    its first part, then those of its second, and so on.

    Of both, the last group of a batch may go on as the first of the next.
    """

    def __init__(self, batches: Iterable[Groups]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Groups]:
        for groups in self._batches:
            keys: list[Any] = []
            counts: list[int] = []
            for (key, _), count in zip(groups.keys, groups.counts or repeat(1), strict=False):
                # Comparing lists, not keys: identity counts first, so that NaN equals itself.
                if keys[-1:] == [key]:
                    counts[-1] += count
                else:
                    keys.append(key)
                    counts.append(count)
            yield Groups(keys, counts, groups.values)
