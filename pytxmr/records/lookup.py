"""A small collection of pairs, held in memory by key, for a join that looks up in it.

It is what an earlier step has stored, all of it, and is read once by each process that needs it.
How much memory it takes is reckoned from some of the pairs, and is limited: a view that is not
small is told by its name, before the machine swaps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from sys import getsizeof
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records.codec import one_nan
from pytxmr.records.formats import blocks_of
from pytxmr.records.pairfile import PairReader
from pytxmr.records.readers import Reading

#: One pair in so many is weighed.
_WEIGHED = 16
#: What a key costs beside itself and its values: its place in the dict, a list.
_KEY_BYTES = 150
_NONE: tuple[Any, ...] = ()
#: Who looks up, as messages say.
_JOIN = "join(broadcast=True)"


class Table:
    """The values of each key."""

    def __init__(self) -> None:
        self._name = ""
        self._are_pairs = False
        self.files: Sequence[FileRange] = ()
        self._most_bytes = 0
        #: The values of each key, once it is loaded.
        self.lists: dict[Any, list[Any]] = {}
        self._loaded = False

    def name(self, name: str, are_pairs: bool) -> None:
        """Say what the view is called, and whether its elements are stored as pairs; otherwise
        they are the values of pairs."""
        self._name, self._are_pairs = name, are_pairs

    def __reduce__(self) -> tuple[Any, ...]:
        """What it is before it is bound: what is in the files is another matter."""
        return Table, (), (self._name, self._are_pairs)

    def bind(self, files: Sequence[FileRange], most_bytes: int) -> None:
        """Say in which files it is, and what it may take; 0: no limit."""
        self.files, self._most_bytes = files, most_bytes
        self.lists, self._loaded = {}, False

    def load(self) -> None:
        """Read it, unless that is done. Raises `AttemptFailed`."""
        if self._loaded:
            return
        lists: defaultdict[Any, list[Any]] = defaultdict(list)
        total = sum(file.end for file in self.files)
        taken = read = 0
        for elements, size in self._stored():
            if set(map(type, elements)) != {tuple} or set(map(len, elements)) != {2}:
                self._find(elements)
            try:
                for key, value in elements:
                    lists[key].append(value)
            except TypeError:
                self._find(elements)
                raise
            read += size
            taken += _WEIGHED * sum(map(_weight, chain.from_iterable(elements[::_WEIGHED])))
            held = taken + _KEY_BYTES * len(lists)
            if self._most_bytes and held > self._most_bytes:
                needed = held if read >= total else held * total // max(1, read)
                raise AttemptFailed(
                    f"{self._name} is too large for {_JOIN}: it needs about "
                    f"{needed >> 20:,} MiB in each worker, and may take {self._most_bytes >> 20:,} "
                    f"MiB, half of --memory; give more, or leave out broadcast=True, so that both "
                    f"views are shuffled",
                    traceback="",
                    final=True,
                )
        for key in [key for key in lists if type(key) in (float, tuple)]:
            (same,) = one_nan([key])
            if same is not key and same != key:
                lists[same] += lists.pop(key)
        lists.default_factory = None
        self.lists, self._loaded = lists, True

    def others(self, key: Any) -> Sequence[Any]:
        """The values of a key that is not there as it is: NaN equals nothing, and is one key."""
        if type(key) is float or type(key) is tuple:
            return self.lists.get(one_nan([key])[0], _NONE)
        return _NONE

    def _stored(self) -> Iterator[tuple[list[Any], int]]:
        for file in self.files:
            for block in blocks_of(PairReader(), file, Reading()):
                raw = block.raw
                yield raw if self._are_pairs else [value for _, value in raw], block.size

    def _find(self, elements: list[Any]) -> None:
        """Raise `AttemptFailed` for the element that is no pair, or whose key can be none."""
        for element in elements:
            problem = f"{_JOIN} takes pairs (key, value)"
            if type(element) is tuple and len(element) == 2:
                try:
                    hash(element[0])
                    continue
                except TypeError:
                    problem = f"{_JOIN}: a {type(element[0]).__name__} cannot be a key"
            raise AttemptFailed(
                f"{problem}; {self._name} has {element!r:.200}", traceback="", final=True
            )


def _weight(value: Any, depth: int = 0) -> int:
    """About how many bytes a value takes, with what is in it."""
    kind = type(value)
    if value is None or kind is bool or depth > 20:
        return 0
    weight = getsizeof(value)
    if kind is str or kind is bytes or kind is int or kind is float:
        return weight
    within: Any = value
    if kind is dict:
        within = [*value, *value.values()]
    elif not isinstance(value, tuple | list | set | frozenset):
        within = getattr(value, "__dict__", {}).values()
    return weight + sum([_weight(part, depth + 1) for part in within])
