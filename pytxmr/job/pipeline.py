"""A job of several steps, written as a graph of views.

A view is a collection of elements: lines, numbers, pairs ``(key, value)``, whatever can be carried.
A job module makes views of views, and calls the last one ``output``::

    from pytxmr import pipeline

    lines = pipeline.input()
    words = lines.flat_map(str.split)
    counts = words.count()
    output = counts.top(10)

Nothing is computed while the module is imported; `job.steps` makes MapReduce steps of the graph.
An operation is either *narrow*, made of each element by itself, or a *shuffle*, which brings
elements together by key: only shuffles cost a step. Functions are called with one element, which of
a view of pairs is the pair. They have to give the same for the same element each time, since an
element may come again when a machine fails.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any, NoReturn

from pytxmr.job.names import nearest
from pytxmr.records import folds
from pytxmr.records.batch import batch_form
from pytxmr.records.codec import pack_column, unpack_column
from pytxmr.records.columns import Groups
from pytxmr.records.folds import Fold
from pytxmr.records.formats import Reader, Writer

Function = Callable[..., Any]
Pair = tuple[Any, Any]

_NOTHING = "got None, not something to iterate over; lacks it a yield?"
HOWS = ("inner", "left", "right", "outer")


def input(  # noqa: A001  (it is called pipeline.input)
    name: str | None = None, pattern: str | None = None, *, reader: Function | None = None
) -> View:
    """The lines of the command line's INPUTs, or, with a reader, the values of its records.

    With a ``name``, those INPUTs that are given as ``NAME=PATTERN``; if there are none,
    ``pattern``, a file, directory or glob.
    """
    for text in (name, pattern):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"input() takes a name and a pattern, as str, not {_kind(text)}")
    if pattern is not None and name is None:
        raise TypeError("input() with a pattern has a name, too")
    if reader is not None:
        _callable(reader, "input", "reader")
    return View((), Input(name, pattern, reader))


@dataclass(frozen=True, eq=False)
class View:
    """Elements that a job reads or computes."""

    parents: tuple[View, ...]
    op: Input | Narrow | Union | Shuffle

    # ---- narrow

    def map(self, function: Function) -> View:
        """What the function makes of each element."""
        return View((self,), Map(_callable(function, "map")))

    def flat_map(self, function: Function) -> View:
        """All that the function yields for each element."""
        return View((self,), FlatMap(_callable(function, "flat_map")))

    def filter(self, function: Function) -> View:
        """The elements for which the function gives something true."""
        return View((self,), Filter(_callable(function, "filter")))

    def sample(self, fraction: float, seed: int = 0) -> View:
        """About that fraction of the elements, the same ones each time; elements that are the same
        are all taken, or none."""
        if not isinstance(fraction, float | int) or not 0 <= fraction <= 1:
            raise ValueError(f"sample({fraction!r}): the fraction is a number from 0 to 1")
        return View((self,), Sample(fraction, seed))

    def key_by(self, function: Function) -> View:
        """Pairs ``(function(element), element)``."""
        return View((self,), KeyBy(_callable(function, "key_by")))

    def map_values(self, function: Function) -> View:
        """Of pairs: the key as it is, and what the function makes of the value."""
        return View((self,), MapValues(_callable(function, "map_values")))

    def keys(self) -> View:
        """Of pairs: the keys, as often as they are there."""
        return View((self,), Part(0))

    def values(self) -> View:
        """Of pairs: the values."""
        return View((self,), Part(1))

    def union(self, *others: View) -> View:
        """The elements of all the views; what is in several comes several times."""
        return View((self, *_views(others, "union")), Union())

    # ---- shuffles

    def stored(self) -> View:
        """The same elements, stored by a step of its own for those that use them. Only what is made
        of an input by narrow operations, and used by several steps, is computed again otherwise."""
        return View((self,), Stored())

    def count(self) -> View:
        """Pairs ``(element, n)``: how often each is there. Elements are what keys can be."""
        return View((self,), Count())

    def distinct(self) -> View:
        """Each element once. Elements are what keys can be."""
        return View((self,), Distinct())

    def top(self, n: int, by: Function | None = None) -> View:
        """The ``n`` largest elements, largest first, in one part.

        They are compared by ``by(element)``, and then by themselves; without it pairs that pytxmr
        has made (by `count`, `reduce_by_key`, `join`, ...) by their values, others by themselves.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"top({n!r}): it takes a number from 1 up")
        if by is not None:
            _callable(by, "top", "by")
        return View((self,), Top(n, by, by or (itemgetter(1) if self._paired() else None)))

    def reduce_by_key(self, function: Function) -> View:
        """Of pairs: each key once, and its values folded into one: by a fold such as `folds.sum`,
        or by a function of two values whose order does not matter."""
        return View((self,), ReduceByKey(_callable(function, "reduce_by_key")))

    def group(
        self,
        reducer: Function | None = None,
        *,
        combiner: Function | None = None,
        sort_by: Function | None = None,
    ) -> View:
        """Of pairs: what ``reducer(key, values)`` yields for each key, called as a job's reducer;
        without one, pairs of the key and the list of its values.

        With ``sort_by`` the values arrive sorted by ``sort_by(value)``, which is what a key can be,
        without being held in memory. ``combiner`` is a job's combiner.
        """
        for role, function in (("reducer", reducer), ("combiner", combiner), ("sort_by", sort_by)):
            if function is not None:
                _callable(function, "group", role)
        if isinstance(reducer, Fold):
            raise TypeError(f"group(folds.{reducer.name}): say reduce_by_key(folds.{reducer.name})")
        if combiner is not None and (reducer is None or sort_by is not None):
            raise TypeError("group() takes a combiner with a reducer, and without sort_by")
        return View((self,), Group(reducer, combiner, sort_by))

    def join(self, other: View, how: str = "inner") -> View:
        """Of pairs: ``(key, (mine, other's))`` for each two with that key; where a left, right or
        outer join has none on one side, None.

        What is held in memory is the other view's values of one key.
        """
        if how not in HOWS:
            raise ValueError(f"join(how={how!r}): it is one of {', '.join(HOWS)}{_near(how)}")
        return View((self, *_views((other,), "join")), Join(how))

    def cogroup(self, *others: View) -> View:
        """Of pairs: ``(key, (list of my values, list of the next view's, ...))`` for each key that
        any of the views has. A key's values have to fit in memory."""
        return View((self, *_views(others, "cogroup")), CoGroup(1 + len(others)))

    # ----

    def _paired(self) -> bool:
        """Is it known that the elements are pairs?"""
        if self.op.paired is None:
            return bool(self.parents) and all(parent._paired() for parent in self.parents)
        return self.op.paired

    def __getattr__(self, name: str) -> NoReturn:
        hint = "" if name.startswith("_") else nearest(name, dir(View))
        raise AttributeError(f"a view has no {name}{hint}")


# ---- what views are made by


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
    """

    paired: bool | None = False
    reducers: int | None = None
    combiner: Function | None = None
    result: Fold | None = None
    by_part = False

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
            f"{_kind(value)} cannot be compared with others: give numbers, str, tuples or such"
        )
    if rank < 6:
        return (rank, tuple(map(order, value)))
    return (rank, tuple(sorted(map(order, value.items() if rank == 7 else value))))


def _callable(function: Any, method: str, role: str = "function") -> Function:
    if not callable(function):
        raise TypeError(f"{method}(): the {role} is {_kind(function)}, not a function")
    if batch_form(function) is not None:
        raise TypeError(f"{method}(): the {role} takes one element or group, without @batch")
    return function  # type: ignore[no-any-return]


def _views(views: tuple[Any, ...], method: str) -> tuple[View, ...]:
    if not views:
        raise TypeError(f"{method}() takes another view")
    for view in views:
        if not isinstance(view, View):
            raise TypeError(f"{method}() takes another view, not {_kind(view)}")
    return views


def _kind(thing: Any) -> str:
    return f"a {type(thing).__name__}"


def _near(how: object) -> str:
    return nearest(how, HOWS) if isinstance(how, str) else ""


def called(function: Any) -> str:
    """A function as a person would name it."""
    if isinstance(function, Fold):
        return f"folds.{function.name}"
    if isinstance(function, Reader | Writer):
        return function.name
    name = str(getattr(function, "__name__", None) or type(function).__name__)
    code = getattr(function, "__code__", None)
    return f"lambda in line {code.co_firstlineno}" if name == "<lambda>" and code else name
