"""How pairs wait in memory for their spill: three ways, each the cheapest for some jobs.

- `Folded`: a dict from keys to partials, for a combiner that is a fold. A pair costs what it costs
  in a loop written by hand.
- `Grouped`: a dict from keys to lists of values, for everything else.
- `Listed`: two lists, for keys that hardly repeat: a dict entry and a list for each of them would
  cost more time and memory than they save.

All have ``entries``, how many keys or pairs they hold, and the methods of `Grouped`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any

from pytxmr.records.columns import Groups, SortKey, sort_groups, sort_pairs
from pytxmr.records.combine import Combiner, combine_groups
from pytxmr.records.folds import Fold, Pair

#: What an entry costs beside key and values, in CPython 3.11: a dict entry with a list, or with
#: a partial; places in two lists, with what sorting them takes.
_GROUP_BYTES = 190
_PARTIAL_BYTES = 100
_SLOT_BYTES = 64


class Grouped:
    """Lists of values by key; ``combiner`` is a job's own, or None."""

    #: Makes `Groups` of what `columns` gave, or of a selection from it.
    sort: Callable[[list[Any], list[Any], SortKey], Groups] = staticmethod(sort_groups)

    def __init__(self, combiner: Combiner | None) -> None:
        self._combiner = combiner
        self._groups: defaultdict[Any, list[Any]] = defaultdict(list)

    @property
    def entries(self) -> int:
        return len(self._groups)

    def take(self, pairs: Iterable[Pair]) -> None:
        groups = self._groups
        for key, value in pairs:
            groups[key].append(value)

    def extend(self, keys: list[Any], values: list[Any]) -> None:
        self.take(zip(keys, values, strict=True))

    def compact(self) -> int:
        """Combine what is held, where that can be done; return how many values are left."""
        if self._combiner is not None:
            combined = combine_groups(self._groups.items(), self._combiner)
            self._groups = defaultdict(list, combined)
        return sum(map(len, self._groups.values()))

    @staticmethod
    def cost(values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        """An estimate, in bytes, of what so many more values, in so many new entries, take."""
        return values * (value_bytes + 8) + entries * (key_bytes + _GROUP_BYTES)

    def columns(self) -> tuple[list[Any], list[Any]]:
        """The keys, and what belongs to each of them; unsorted."""
        return list(self._groups), list(self._groups.values())

    def listed(self) -> Listed:
        """The same, as `Listed`."""
        lists = list(self._groups.values())
        keys = chain.from_iterable(map(repeat, self._groups, map(len, lists)))
        return Listed(None, list(keys), list(chain.from_iterable(lists)))


class Folded:
    """Partials by key."""

    sort: Callable[[list[Any], list[Any], SortKey], Groups] = staticmethod(sort_pairs)

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._partials = fold.start()

    @property
    def entries(self) -> int:
        return len(self._partials)

    def take(self, pairs: Iterable[Pair]) -> None:
        self._fold.fold(self._partials, pairs)

    def extend(self, keys: list[Any], values: list[Any]) -> None:
        self.take(zip(keys, values, strict=True))

    def compact(self) -> int:
        return self._fold.compact(self._partials)

    def cost(self, values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        if self._fold.grows:
            return values * (value_bytes + 40) + entries * (key_bytes + _GROUP_BYTES)
        return entries * (key_bytes + value_bytes + _PARTIAL_BYTES)

    def columns(self) -> tuple[list[Any], list[Any]]:
        self.compact()
        return list(self._partials), list(self._partials.values())

    def listed(self) -> Listed:
        return Listed(self._fold, *self.columns())


class Listed:
    """Pairs, one after the other; with a fold, of keys and partials."""

    sort: Callable[[list[Any], list[Any], SortKey], Groups] = staticmethod(sort_pairs)

    def __init__(self, fold: Fold | None, keys: list[Any], values: list[Any]) -> None:
        self._fold = fold
        self._keys = keys
        self._values = values

    @property
    def entries(self) -> int:
        return len(self._keys)

    def take(self, pairs: Iterable[Pair]) -> None:
        keys: list[Any] = []
        values: list[Any] = []
        add_key, add_value = keys.append, values.append
        for key, value in pairs:
            add_key(key)
            add_value(value)
        self.extend(keys, values)

    def extend(self, keys: list[Any], values: list[Any]) -> None:
        if self._fold is not None:
            values = self._fold.partials(Groups(keys, None, values))
        self._keys += keys
        self._values += values

    def compact(self) -> int:
        return len(self._keys)

    @staticmethod
    def cost(values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        return entries * (key_bytes + value_bytes + _SLOT_BYTES)

    def columns(self) -> tuple[list[Any], list[Any]]:
        return self._keys, self._values

    def listed(self) -> Listed:
        return self
