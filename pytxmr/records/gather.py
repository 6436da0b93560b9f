"""How pairs wait in memory for their spill: three ways, each the cheapest for some jobs.

- `Folded`: a dict from keys to partials, for a combiner that is a fold.
- `Grouped`: a dict from keys to lists of values, for everything else.
- `Listed`: two lists, for keys that hardly repeat: a dict entry and a list for each of them would
  cost more time and memory than they save.

In the dicts, a pair costs what it costs in a loop written by hand. Where compiled code can do it,
for sums and lists by keys of the usual types, pairs wait in a table of it (see ``gather.c``), which
takes half of that, until one comes that is not for the table.

All three have ``entries``, how many keys or pairs they hold, and the methods of `Grouped`. What
they take is estimated from a sample of the pairs that go in, and of what is left when that was
compacted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, compress, islice, repeat
from operator import length_hint
from sys import getsizeof, maxsize
from typing import Any

from pytxmr.records.columns import Groups, SortKey, groups_of, sort_groups, sort_pairs
from pytxmr.records.combine import Combiner, combine_groups
from pytxmr.records.folds import Fold, Pair

try:
    from pytxmr.records._gather import Table
except ImportError:  # pytxmr was installed where there is no C compiler
    Table = None  # type: ignore[assignment,misc]

#: What an entry costs beside key and values, in CPython 3.11: a dict entry with a list or set, or
#: with another partial; places in two lists, with what sorting them takes.
_GROUP_BYTES = 190
_PARTIAL_BYTES = 100
_SLOT_BYTES = 64
#: What a place in a list costs beside the value, and one in a set, just after it has grown.
_ITEM_BYTES = 8
_MEMBER_BYTES = 80

_FLAT = frozenset({type(None), bool, int, float, str, bytes})
_CONTAINERS = frozenset({tuple, list, dict, set, frozenset})
#: Objects that are looked at for an average, and items of a container; and how deep.
_SAMPLE = 64
_ITEMS = 8
_DEPTH = 3


def average_bytes(objects: Collection[Any]) -> float:
    """About what the objects take on average, from some of them, evenly spread; 0 for none."""
    sample = list(islice(objects, 0, None, len(objects) // _SAMPLE + 1))
    return _total_bytes(sample) / max(1, len(sample))


def _total_bytes(objects: list[Any]) -> float:
    if _FLAT.issuperset(map(type, objects)):
        return sum(map(getsizeof, objects))
    return sum(map(_deep_bytes, objects))


def _deep_bytes(thing: Any, depth: int = _DEPTH) -> float:
    """About what an object takes with all that is in it."""
    taken: float = getsizeof(thing)
    if depth and thing and type(thing) in _CONTAINERS:
        items = islice(thing.items() if type(thing) is dict else thing, _ITEMS)
        inside = [_deep_bytes(item, depth - 1) for item in items]
        taken += sum(inside) * len(thing) / len(inside)
    elif depth and hasattr(thing, "__dict__"):
        taken += _deep_bytes(vars(thing), depth - 1)
    return taken


class _Streamed:
    """Pairs are taken from a stream as far as that is wanted."""

    _ticks = repeat(True, 0)

    def take(self, pairs: Iterable[Pair]) -> None:
        raise NotImplementedError

    def pull(self, stream: Iterator[Pair], most: int) -> int:
        """Take up to ``most`` pairs; return how many: fewer than that if the stream has ended."""
        # An `islice` that can be asked how far it came: the pairs it gave, `ticks` has less.
        ticks = self._ticks = repeat(True, most + 1)
        self.take(islice(compress(stream, ticks), most))
        return most + 1 - length_hint(ticks)

    def sign(self) -> int:
        """Differs whenever a pair has been pulled, also in the middle of a step."""
        return length_hint(self._ticks)


class _ByKey(_Streamed):
    """In a table of compiled code up to the first pair that is not for it, and then in a dict."""

    _held: dict[Any, Any]
    _table: Table | None

    def _begin(self, held: dict[Any, Any], kind: str | None) -> None:
        """Hold nothing yet; ``kind`` of a table: see `Table`, and None is for none."""
        self._held = held
        self._table = Table(kind) if kind and Table is not None else None

    @property
    def entries(self) -> int:
        return len(self._held) if self._table is None else len(self._table)

    def take(self, pairs: Iterable[Pair]) -> None:
        pairs = iter(pairs)
        if self._table is not None:
            self._into_table(self._table, pairs, maxsize)
        self._into_dict(pairs)

    def pull(self, stream: Iterator[Pair], most: int) -> int:
        taken = 0 if self._table is None else self._into_table(self._table, stream, most)
        return taken if self._table is not None else taken + super().pull(stream, most - taken)

    def _into_table(self, table: Table, stream: Iterator[Pair], most: int) -> int:
        taken, unfit = table.pull(stream, most)
        if unfit:
            # Not the dict's own `update`: that of a Counter would count the pairs.
            dict.update(self._held, zip(*table.columns(), strict=True))
            self._table = None
            self._into_dict(unfit)
        return taken

    def _into_dict(self, pairs: Iterable[Pair]) -> None:
        raise NotImplementedError

    def sign(self) -> int:
        return super().sign() if self._table is None else -self._table.pulled

    def extend(self, keys: list[Any], values: list[Any]) -> None:
        self.take(zip(keys, values, strict=True))

    def columns(self) -> tuple[list[Any], list[Any]]:
        """The keys, and what belongs to each of them; unsorted."""
        if self._table is not None:
            return self._table.columns()
        return list(self._held), list(self._held.values())

    def finds(self, key: SortKey) -> bool:
        """Whether `sort` needs no items, as it finds them by their keys."""
        return key is None

    def sort(self, keys: list[Any], items: list[Any], key: SortKey) -> Groups:
        """Groups of what `columns` gave, or of a selection from it. Sorts ``keys`` itself."""
        if not self.finds(key):
            return self._sort_items(keys, items, key)
        # No two of them are equal. To sort them alone takes half as long as with their items.
        keys.sort()
        return self._group(keys, self._values(keys))

    def _values(self, keys: list[Any]) -> list[Any]:
        if self._table is not None:
            return self._table.values(keys)
        return list(map(self._held.__getitem__, keys))

    #: Groups of keys and items in any order.
    _sort_items: Callable[[list[Any], list[Any], SortKey], Groups]
    #: Groups of keys that are sorted, and their items.
    _group: Callable[[list[Any], list[Any]], Groups]


class Grouped(_ByKey):
    """Lists of values by key; ``combiner`` is a job's own, or None."""

    _sort_items = staticmethod(sort_groups)
    _group = staticmethod(groups_of)

    def __init__(self, combiner: Combiner | None) -> None:
        self._combiner = combiner
        self._begin(defaultdict(list), "lists")

    def _into_dict(self, pairs: Iterable[Pair]) -> None:
        groups = self._held
        for key, value in pairs:
            groups[key].append(value)

    def compact(self) -> float | None:
        """Combine what is held; return an estimate of its bytes, or None if it stays as it is."""
        if self._combiner is None:
            return None
        keys, lists = self.columns()
        kept = combine_groups(zip(keys, lists, strict=True), self._combiner)
        self._begin(defaultdict(list), "lists" if self._table is not None else None)
        self.take(_pairs(kept, kept.values()))
        # All of it, not a sample: a combiner may make a few values that are larger than the rest.
        values = list(chain.from_iterable(kept.values()))
        value_bytes = _total_bytes(values) / max(1, len(values))
        return self.cost(len(values), self.entries, value_bytes, average_bytes(kept))

    @staticmethod
    def cost(values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        """An estimate, in bytes, of what so many more values, in so many new entries, take."""
        return values * (value_bytes + _ITEM_BYTES) + entries * (key_bytes + _GROUP_BYTES)

    def listed(self) -> Listed:
        """The same, as `Listed`."""
        listed = Listed(None, [], [])
        listed.take(_pairs(*self.columns()))
        return listed


def _pairs(keys: Iterable[Any], lists: Iterable[list[Any]]) -> Iterator[Pair]:
    return chain.from_iterable(map(zip, map(repeat, keys), lists))


class Folded(_ByKey):
    """Partials by key."""

    _sort_items = staticmethod(sort_pairs)
    _group = staticmethod(lambda keys, partials: Groups(keys, None, partials))

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._begin(fold.start(), fold.table)

    def _into_dict(self, pairs: Iterable[Pair]) -> None:
        self._fold.fold(self._held, pairs)

    def compact(self) -> float | None:
        if not self._fold.grows:
            return None
        left = self._fold.compact(self._held)
        members = [member for partial in self._held.values() for member in islice(partial, 1)]
        key_bytes = average_bytes(self._held)
        return self.cost(left, self.entries, average_bytes(members), key_bytes)

    def cost(self, values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        if self._fold.grows:
            return values * (value_bytes + _MEMBER_BYTES) + entries * (key_bytes + _GROUP_BYTES)
        return entries * (key_bytes + value_bytes + _PARTIAL_BYTES)

    def columns(self) -> tuple[list[Any], list[Any]]:
        self._fold.compact(self._held)
        return super().columns()

    def listed(self) -> Listed:
        return Listed(self._fold, *self.columns())


class Listed(_Streamed):
    """Pairs, one after the other; with a fold, of keys and partials."""

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

    def compact(self) -> float | None:
        return None

    def cost(self, values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        slot = _SLOT_BYTES if self._fold is None or not self._fold.grows else _GROUP_BYTES
        return entries * (key_bytes + value_bytes + slot)

    def columns(self) -> tuple[list[Any], list[Any]]:
        return self._keys, self._values

    def finds(self, key: SortKey) -> bool:
        return False

    def sort(self, keys: list[Any], items: list[Any], key: SortKey) -> Groups:
        return sort_pairs(keys, items, key)

    def listed(self) -> Listed:
        return self
