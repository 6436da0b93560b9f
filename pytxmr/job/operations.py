"""What views are made by: inputs, narrow operations, and shuffles.

A narrow operation says what becomes of each element; a shuffle what brings elements together by
key, and what becomes of those with one key. They know nothing of the views that they make (see
`pipeline`), nor of the steps that do their work (see `steps`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

from pytxmr.records import folds
from pytxmr.records.codec import pack_column, unpack_column
from pytxmr.records.columns import Groups
from pytxmr.records.folds import Fold
from pytxmr.records.formats import Reader, Writer
from pytxmr.records.lookup import Table
from pytxmr.records.order import descending

Function = Callable[..., Any]
Pair = tuple[Any, Any]

#: What is written in C, such as `len` and `str.split`, knows of no counters.
_C_FUNCTIONS = (BuiltinFunctionType, MethodDescriptorType, itemgetter)
_NOTHING = "got None, not something to iterate over; does it lack a yield?"


@dataclass(frozen=True, eq=False)
class Input:
    name: str | None
    pattern: str | None
    reader: Function | None
    paired = False

    def __str__(self) -> str:
        given = [repr(text) for text in (self.name, self.pattern) if text is not None]
        reader = [f"reader={called(self.reader)}"] if self.reader else []
        return f"input({', '.join(given + reader)})"


class Narrow:
    """``run`` is called with some elements, and gives what becomes of them.

    Generators, not `map` and `filter`: these would take a StopIteration out of the user's function
    for the end of their input.
    """

    #: Are the elements pairs? None: if they were before.
    paired: bool | None = False

    @property
    def may_count(self) -> bool:
        """Does it call a function of the user's, which may have counters?"""
        return not isinstance(getattr(self, "function", len), _C_FUNCTIONS)

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Map(Narrow):
    function: Function

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        function = self.function
        for item in items:
            yield function(item)

    def __str__(self) -> str:
        return f"map({called(self.function)})"


@dataclass(frozen=True, eq=False)
class FlatMap(Narrow):
    function: Function

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        function = self.function
        for item in items:
            found = function(item)
            if found is None:
                raise TypeError(f"{self} {_NOTHING}")
            yield from found

    def __str__(self) -> str:
        return f"flat_map({called(self.function)})"


@dataclass(frozen=True, eq=False)
class Filter(Narrow):
    function: Function
    paired = None

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        function = self.function
        for item in items:
            if function(item):
                yield item

    def __str__(self) -> str:
        return f"filter({called(self.function)})"


@dataclass(frozen=True, eq=False)
class Sample(Narrow):
    fraction: float
    seed: int
    paired = None

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        salt = repr(self.seed).encode()
        below = self.fraction * 2.0**64
        for item in items:
            digest = hashlib.blake2b(salt + pack_column([item]), digest_size=8).digest()
            if int.from_bytes(digest, "big") < below:
                yield item

    def __str__(self) -> str:
        return f"sample({self.fraction:g}, seed={self.seed})"


@dataclass(frozen=True, eq=False)
class KeyBy(Narrow):
    function: Function
    paired = True

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        function = self.function
        for item in items:
            yield function(item), item

    def __str__(self) -> str:
        return f"key_by({called(self.function)})"


@dataclass(frozen=True, eq=False)
class MapValues(Narrow):
    function: Function
    paired = True

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        function = self.function
        for key, value in pairs(items, self):
            yield key, function(value)

    def __str__(self) -> str:
        return f"map_values({called(self.function)})"


@dataclass(frozen=True, eq=False)
class Part(Narrow):
    at: int

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        for pair in pairs(items, self):
            yield pair[self.at]

    def __str__(self) -> str:
        return "values()" if self.at else "keys()"


@dataclass(frozen=True, eq=False)
class BroadcastJoin(Narrow):
    """Of two views, the second is stored, and looked up in for each element of the first."""

    how: str
    table: Table
    paired = True

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        found, outer = self.table.lists.get, self.how == "left"
        for key, value in pairs(items, self):
            try:
                others = found(key) or self.table.others(key)
            except TypeError as error:
                kind = kind_of(key)
                raise TypeError(f"{self}: {kind}, as in {key!r:.200}, cannot be a key") from error
            if others:
                for other in others:
                    yield key, (value, other)
            elif outer:
                yield key, (value, None)

    def __str__(self) -> str:
        how = "" if self.how == "inner" else f"how={self.how!r}, "
        return f"join({how}broadcast=True)"


@dataclass(frozen=True, eq=False)
class Union:
    paired = None

    def __str__(self) -> str:
        return "union()"


class Shuffle:
    """``emit`` gives the pairs that a mapper yields for elements of one side, that is, of one of
    the views; ``reduce`` the elements that come of a key's values.

    ``combiner`` is what a job's combiner is; of a fold, ``reduce`` gets partials. ``result`` is a
    fold that does as the combiner and ``reduce`` do, if there is one. ``by_part``: the keys are
    ``(key, part)``, and ``reduce`` gets the values of each key in the order of the parts.
    ``by_range``: each reducer gets a range of keys.
    """

    paired: bool | None = False
    reducers: int | None = None
    combiner: Function | None = None
    result: Fold | None = None
    by_part = False
    by_range = False

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        raise NotImplementedError

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        raise NotImplementedError

    @property
    def by(self) -> str:
        """What brings elements together."""
        return "key"


@dataclass(frozen=True, eq=False)
class Stored(Shuffle):
    """There is nothing to bring together: a step without reducers."""

    paired = None
    reducers = 0

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        return zip(repeat(None), items)  # noqa: B905  (without end on the left)

    def __str__(self) -> str:
        return "stored()"


@dataclass(frozen=True, eq=False)
class Count(Shuffle):
    paired = True
    combiner = result = folds.count

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        return zip(items, repeat(None))  # noqa: B905  (without end on the right)

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        yield key, sum(values)

    by = "element"

    def __str__(self) -> str:
        return "count()"


@dataclass(frozen=True, eq=False)
class Distinct(Shuffle):
    paired = None
    combiner = folds.first

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        return zip(items, repeat(None))  # noqa: B905  (without end on the right)

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        yield key

    by = "element"

    def __str__(self) -> str:
        return "distinct()"


@dataclass(frozen=True, eq=False)
class Top(Shuffle):
    n: int
    given: Function | None
    key: Function | None
    paired = None
    reducers = 1
    by = "rank"

    @property
    def combiner(self) -> Fold:  # type: ignore[override]
        return folds.top(self.n)

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        # Packed elements can be compared, whatever they are: they decide if nothing else does.
        for item in items:
            rank = order(item)
            first = rank if self.key is None else order(self.key(item))
            yield None, (first, rank, pack_column([item]))

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        for _, _, packed in _merged(folds.top(self.n), key, values):
            yield from unpack_column(packed)

    def __str__(self) -> str:
        by = f", by={called(self.given)}" if self.given else ""
        return f"top({self.n}{by})"


@dataclass(frozen=True, eq=False)
class Sort(Shuffle):
    """Each reducer has a range of keys, by a sample, and hands on what comes in order."""

    function: Function
    reverse: bool
    paired = None
    by_range = True

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        function = self.function
        if self.reverse:
            for item in items:
                yield descending(function(item)), item
        else:
            for item in items:
                yield function(item), item

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        return values

    @property
    def by(self) -> str:
        return f"{called(self.function)}{', largest first' if self.reverse else ''}, in ranges"

    def __str__(self) -> str:
        return f"sort_by({called(self.function)}{', reverse=True' if self.reverse else ''})"


@dataclass(frozen=True, eq=False)
class ReduceByKey(Shuffle):
    function: Function
    paired = True

    @property
    def result(self) -> Fold | None:  # type: ignore[override]
        return self.function if isinstance(self.function, Fold) else None

    @property
    def combiner(self) -> Function | None:  # type: ignore[override]
        if isinstance(self.function, Fold):
            return self.function if self.function.combines else None
        return self._folded

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        return pairs(items, self)

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        if not isinstance(self.function, Fold):
            return self._folded(key, values)
        if not self.function.combines:
            return self.function(key, values)
        return [(key, _merged(self.function, key, values))]

    def _folded(self, key: Any, values: Iterator[Any]) -> Iterator[Pair]:
        yield key, functools.reduce(self.function, values)

    def __str__(self) -> str:
        return f"reduce_by_key({called(self.function)})"


@dataclass(frozen=True, eq=False)
class Group(Shuffle):
    reducer: Function | None
    combiner: Function | None = None
    sort_by: Function | None = None

    @property
    def paired(self) -> bool:  # type: ignore[override]
        return self.reducer is None

    @property
    def by_part(self) -> bool:  # type: ignore[override]
        return self.sort_by is not None

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        found = pairs(items, self)
        return found if self.sort_by is None else self._with_parts(found, self.sort_by)

    @staticmethod
    def _with_parts(found: Iterator[Pair], sort_by: Function) -> Iterator[Pair]:
        for key, value in found:
            yield (key, sort_by(value)), value

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        if self.reducer is None:
            return [(key, list(values))]
        found: Iterable[Any] | None = self.reducer(key, values)
        if found is None:
            raise TypeError(f"{self} {_NOTHING}")
        return found

    @property
    def by(self) -> str:
        return f"key, then {called(self.sort_by)}" if self.sort_by else "key"

    def __str__(self) -> str:
        roles = {"combiner": self.combiner, "sort_by": self.sort_by}
        given = [called(self.reducer)] if self.reducer else []
        given += [f"{role}={called(function)}" for role, function in roles.items() if function]
        return f"group({', '.join(given)})"


@dataclass(frozen=True, eq=False)
class Join(Shuffle):
    """The other side's values come first, and are held while mine pass by."""

    how: str
    paired = True
    by_part = True

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        mine = side == 0
        for key, value in pairs(items, self):
            yield (key, mine), (mine, value)

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        others: list[Any] = []
        met = False
        for is_mine, value in values:
            if not is_mine:
                others.append(value)
                continue
            met = True
            if others:
                yield from ((key, (value, other)) for other in others)
            elif self.how in ("left", "outer"):
                yield key, (value, None)
        if not met and self.how in ("right", "outer"):
            yield from ((key, (None, other)) for other in others)

    def __str__(self) -> str:
        return "join()" if self.how == "inner" else f"join(how={self.how!r})"


@dataclass(frozen=True, eq=False)
class CoGroup(Shuffle):
    sides: int
    paired = True

    def emit(self, side: int, offset: Any, items: Iterable[Any]) -> Iterator[Pair]:
        for key, value in pairs(items, self):
            yield key, (side, value)

    def reduce(self, key: Any, values: Iterator[Any]) -> Iterable[Any]:
        lists: tuple[list[Any], ...] = tuple([] for _ in range(self.sides))
        for side, value in values:
            lists[side].append(value)
        yield key, lists

    def __str__(self) -> str:
        return "cogroup()"


def _merged(fold: Fold, key: Any, partials: Iterable[Any]) -> Any:
    """What a fold gives for a key of which there are partials."""
    held = list(partials)
    (found,) = fold.finished(fold.merged(Groups([key], [len(held)], held)))
    return found


def pairs(items: Iterable[Any], wanted_by: object) -> Iterator[Pair]:
    """The elements, which have to be pairs. Raises `TypeError` for one that is not."""
    for item in items:
        if type(item) is not tuple or len(item) != 2:
            raise TypeError(f"{wanted_by} takes pairs (key, value), and got {item!r:.200}")
        yield item


_RANK = {tuple: 4, list: 5, set: 6, frozenset: 6, dict: 7}


def order(value: Any) -> tuple[Any, ...]:
    """A tuple by which all that can be carried compares: as Python does where it can, otherwise by
    type first: None, numbers, str, bytes, tuples, lists, sets, dicts. NaN is the largest number."""
    kind: Any = type(value)
    if kind is str:
        return (2, value)
    if kind is int or kind is float or kind is bool:
        return (1, 1, 0) if value != value else (1, 0, value)
    if value is None:
        return (0,)
    if kind is bytes:
        return (3, value)
    rank = _RANK.get(kind)
    if rank is None:
        raise TypeError(
            f"{kind_of(value)} cannot be compared with others: give numbers, str, tuples or such"
        )
    if rank < 6:
        return (rank, tuple(map(order, value)))
    return (rank, tuple(sorted(map(order, value.items() if rank == 7 else value))))


def kind_of(thing: Any) -> str:
    """Its type as a message names it."""
    return f"a {type(thing).__name__}"


def called(function: Any) -> str:
    """A function as a person would name it."""
    if isinstance(function, Fold):
        return f"folds.{function.name}"
    if isinstance(function, Reader | Writer):
        return function.name
    name = str(getattr(function, "__name__", None) or type(function).__name__)
    code = getattr(function, "__code__", None)
    return f"lambda in line {code.co_firstlineno}" if name == "<lambda>" and code else name
