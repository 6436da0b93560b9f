"""How pairs wait in memory for their spill: four ways, each the cheapest for some jobs.

- `Folded`: a dict from keys to partials, for a combiner that is a fold. A pair costs what it costs
  in a loop written by hand.
- `Summed`: a table of compiled code (see ``sums.c``) instead of the dict, for the folds that add
  ints up, as long as keys are str. A pair costs a quarter of that.
- `Grouped`: a dict from keys to lists of values, for everything else.
- `Listed`: two lists, for keys that hardly repeat: a dict entry and a list for each of them would
  cost more time and memory than they save.

All have ``entries``, how many keys or pairs they hold, and the methods of `Held` and `Grouped`.
What they take is estimated from a sample of the pairs that go in, and of what is left when that was
compacted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, compress, islice, repeat
from operator import length_hint
from sys import getsizeof, maxsize
from typing import Any

from pytxmr.records.columns import Groups, SortKey, sort_groups, sort_pairs
from pytxmr.records.combine import Combiner, combine_groups
from pytxmr.records.folds import Fold, Pair

try:
    from pytxmr.records._sums import Sums
except ImportError:  # pytxmr was installed where there is no C compiler
    Sums = None  # type: ignore[assignment,misc]

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


class Held:
    """What all ways have in common."""

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


class Grouped(Held):
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

    def compact(self) -> float | None:
        """Combine what is held; return an estimate of its bytes, or None if it stays as it is."""
        if self._combiner is None:
            return None
        self._groups = defaultdict(list, combine_groups(self._groups.items(), self._combiner))
        # All of it, not a sample: a combiner may make a few values that are larger than the rest.
        values = list(chain.from_iterable(self._groups.values()))
        value_bytes = _total_bytes(values) / max(1, len(values))
        return self.cost(len(values), self.entries, value_bytes, average_bytes(self._groups))

    @staticmethod
    def cost(values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        """An estimate, in bytes, of what so many more values, in so many new entries, take."""
        return values * (value_bytes + _ITEM_BYTES) + entries * (key_bytes + _GROUP_BYTES)

    def columns(self) -> tuple[list[Any], list[Any]]:
        """The keys, and what belongs to each of them; unsorted."""
        return list(self._groups), list(self._groups.values())

    def listed(self) -> Listed:
        """The same, as `Listed`."""
        lists = list(self._groups.values())
        keys = chain.from_iterable(map(repeat, self._groups, map(len, lists)))
        return Listed(None, list(keys), list(chain.from_iterable(lists)))


class Folded(Held):
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

    def compact(self) -> float | None:
        if not self._fold.grows:
            return None
        left = self._fold.compact(self._partials)
        members = [member for partial in self._partials.values() for member in islice(partial, 1)]
        key_bytes = average_bytes(self._partials)
        return self.cost(left, self.entries, average_bytes(members), key_bytes)

    def cost(self, values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        if self._fold.grows:
            return values * (value_bytes + _MEMBER_BYTES) + entries * (key_bytes + _GROUP_BYTES)
        return entries * (key_bytes + value_bytes + _PARTIAL_BYTES)

    def columns(self) -> tuple[list[Any], list[Any]]:
        self._fold.compact(self._partials)
        return list(self._partials), list(self._partials.values())

    def listed(self) -> Listed:
        return Listed(self._fold, *self.columns())


class Summed(Folded):
    """Sums by key: in compiled code up to the first pair that this cannot take, and then in a dict.

    Sums of floats, of other keys, or of ints that 64 bits do not hold are a dict's from there on.
    """

    def __init__(self, fold: Fold) -> None:
        super().__init__(fold)
        self._sums: Sums | None = Sums(fold.counts)

    @property
    def entries(self) -> int:
        return super().entries if self._sums is None else len(self._sums)

    def take(self, pairs: Iterable[Pair]) -> None:
        pairs = iter(pairs)
        if self._sums is not None:
            self._pull(self._sums, pairs, maxsize)
        super().take(pairs)

    def pull(self, stream: Iterator[Pair], most: int) -> int:
        taken = 0 if self._sums is None else self._pull(self._sums, stream, most)
        return taken if self._sums is not None else taken + super().pull(stream, most - taken)

    def _pull(self, sums: Sums, stream: Iterator[Pair], most: int) -> int:
        taken, unfit = sums.pull(stream, most)
        if unfit:
            # Not its own `update`: that of a Counter would count the pairs.
            dict.update(self._partials, zip(*sums.columns(), strict=True))
            self._sums = None
            super().take(unfit)
        return taken

    def sign(self) -> int:
        return super().sign() if self._sums is None else -self._sums.pulled

    def columns(self) -> tuple[list[Any], list[Any]]:
        return super().columns() if self._sums is None else self._sums.columns()


class Listed(Held):
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

    def compact(self) -> float | None:
        return None

    def cost(self, values: int, entries: int, value_bytes: float, key_bytes: float) -> float:
        slot = _SLOT_BYTES if self._fold is None or not self._fold.grows else _GROUP_BYTES
        return entries * (key_bytes + value_bytes + slot)

    def columns(self) -> tuple[list[Any], list[Any]]:
        return self._keys, self._values

    def listed(self) -> Listed:
        return self


def gathering(combiner: Combiner | None) -> Folded | Grouped:
    """What pairs are gathered in, at first, for a job with this combiner."""
    if not isinstance(combiner, Fold):
        return Grouped(combiner)
    return Summed(combiner) if Sums is not None and combiner.adds else Folded(combiner)
