"""Ready-made combiners and reducers that run without a Python call per record.

A job names one as its reducer, its combiner, or both::

    from pytxmr import folds

    reducer = folds.sum

=============  ======================================================================
``sum``        the sum of the values
``count``      how many values there are
``min``        the smallest value
``max``        the largest value
``first``      the first value, in the order of the input
``last``       the last value, in the order of the input
``mean``       the arithmetic mean of the values
``distinct``   the set of the values
``union``      the union of the values, which are sets, lists or tuples
``top(n)``     the list of the ``n`` largest values, largest first
``collect``    the list of all values, in the order of the input
=============  ======================================================================

A fold as reducer combines on the map side by itself, without a combiner being named (but for
``collect``, where there is nothing to combine). A fold as combiner before a reducer of one's own
hands that reducer what it made of the values so far: sums, counts, sets; of ``mean`` pairs
``(sum, count)``, of ``top`` lists. Before a fold as reducer, a combiner of one's own hands on
values.

A fold is also a function like any other reducer, for use in one's own code and tests:
``list(folds.sum("key", [1, 2])) == [("key", 3)]``.
"""

from __future__ import annotations

import builtins
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain, repeat
from operator import add, itemgetter, truediv
from typing import Any, ClassVar

from pytxmr.records.columns import Groups

Pair = tuple[Any, Any]

#: With fewer values, sorting all of them in C beats heapq, a loop in Python that skips most.
_FEW = 500
_key = itemgetter(0)


@dataclass(frozen=True)
class Fold:
    """Values become *partials*, partials are merged, and the last partial is finished.

    ``name`` is how a job calls it. Folds are equal if they do the same.
    """

    name: str

    #: Is there something to do on the map side?
    combines = True
    #: Does a partial grow with the values that are in it?
    grows = False
    #: What partials may wait in instead of a dict: see `gather`.
    table: ClassVar[str | None] = None

    def __call__(self, key: Any, values: Iterable[Any]) -> Iterator[Pair]:
        """Reduce one group."""
        listed = list(values)
        (found,) = self.finished(self.partials(Groups([key], [len(listed)], listed)))
        # Not a generator: an error is to arise in the code that calls this.
        return iter(((key, found),))

    def start(self) -> dict[Any, Any]:
        """What `fold` fills: from keys to partials."""
        return {}

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        """Fold values into the partials."""
        raise NotImplementedError

    def compact(self, into: dict[Any, Any]) -> int:
        """Let partials that grow be as small as they can be; return how many values they hold."""
        return builtins.sum(map(len, into.values())) if self.grows else len(into)

    def partials(self, groups: Groups) -> list[Any]:
        """The partial of each group of values."""
        return self.merged(groups)

    def merged(self, groups: Groups) -> list[Any]:
        """The partial of each group of partials."""
        raise NotImplementedError

    def finished(self, partials: list[Any]) -> list[Any]:
        """What partials are written out as."""
        return partials


class _Sum(Fold):
    table = "sums"

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        get = into.get
        for key, value in pairs:
            into[key] = get(key, 0) + value

    def merged(self, groups: Groups) -> list[Any]:
        values = groups.values
        if groups.counts is not None:
            return list(map(builtins.sum, groups.lists()))
        # A value that stands alone is added to 0 as any other: the sum of True is 1.
        return values if set(map(type, values)) == {int} else list(map(add, repeat(0), values))


class _Count(_Sum):
    table = "counts"

    def start(self) -> dict[Any, Any]:
        return Counter()

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        # A Counter's update counts, and does so in C. Not `map(itemgetter(0), pairs)`, which is no
        # faster and takes anything for a pair.
        into.update([key for key, _ in pairs])

    def partials(self, groups: Groups) -> list[Any]:
        return [1] * len(groups) if groups.counts is None else groups.counts


class _Pick(Fold):
    """One of the values is kept."""

    def merged(self, groups: Groups) -> list[Any]:
        if groups.counts is None:
            return groups.values
        return list(map(self._pick, groups.lists()))

    def _pick(self, values: list[Any]) -> Any:
        raise NotImplementedError


class _Min(_Pick):
    _pick = staticmethod(builtins.min)  # type: ignore[assignment]

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        for key, value in pairs:
            if key not in into or value < into[key]:
                into[key] = value


class _Max(_Pick):
    _pick = staticmethod(builtins.max)  # type: ignore[assignment]

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        for key, value in pairs:
            if key not in into or value > into[key]:
                into[key] = value


class _First(_Pick):
    _pick = staticmethod(itemgetter(0))  # type: ignore[assignment]

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        for key, value in pairs:
            if key not in into:
                into[key] = value


class _Last(_Pick):
    _pick = staticmethod(itemgetter(-1))  # type: ignore[assignment]

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        into.update(pairs)


class _Mean(Fold):
    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        get = into.get
        nothing = (0, 0)
        for key, value in pairs:
            total, count = get(key, nothing)
            into[key] = (total + value, count + 1)

    def partials(self, groups: Groups) -> list[Any]:
        counts = repeat(1) if groups.counts is None else groups.counts
        return list(zip(map(builtins.sum, groups.lists()), counts, strict=False))

    def merged(self, groups: Groups) -> list[Any]:
        if groups.counts is None:
            return groups.values
        return [
            (builtins.sum(map(_key, some)), builtins.sum(map(itemgetter(1), some)))
            for some in groups.lists()
        ]

    def finished(self, partials: list[Any]) -> list[Any]:
        return [truediv(total, count) for total, count in partials]


class _Sets(Fold):
    grows = True

    def start(self) -> dict[Any, Any]:
        return defaultdict(set)

    def merged(self, groups: Groups) -> list[Any]:
        return [set().union(*some) for some in groups.lists()]


class _Distinct(_Sets):
    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        for key, value in pairs:
            into[key].add(value)

    def partials(self, groups: Groups) -> list[Any]:
        return list(map(set, groups.lists()))


class _Union(_Sets):
    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        for key, value in pairs:
            into[key].update(value)


@dataclass(frozen=True)
class _Top(Fold):
    n: int

    grows = True

    def start(self) -> dict[Any, Any]:
        return defaultdict(list)

    def fold(self, into: dict[Any, Any], pairs: Iterable[Pair]) -> None:
        for key, value in pairs:
            into[key].append(value)

    def compact(self, into: dict[Any, Any]) -> int:
        full = [key for key, values in into.items() if len(values) > self.n]
        into.update(zip(full, self._of_each(map(into.__getitem__, full)), strict=True))
        return super().compact(into)

    def partials(self, groups: Groups) -> list[Any]:
        return self._of_each(groups.lists())

    def merged(self, groups: Groups) -> list[Any]:
        if groups.counts is None:
            return self._of_each(groups.values)
        return self._of_each(map(list, map(chain.from_iterable, groups.lists())))

    def _of_each(self, lists: Iterable[list[Any]]) -> list[list[Any]]:
        n = self.n
        return [
            sorted(some, reverse=True)[:n] if len(some) < _FEW else self._largest(some)
            for some in lists
        ]

    def _largest(self, values: list[Any]) -> list[Any]:
        if len(values) < _FEW:
            return sorted(values, reverse=True)[: self.n]
        try:
            return nlargest(self.n, values)
        except TypeError as error:
            # Raised from here, or heapq's frames would pass for the job's own.
            raise error.with_traceback(None) from None


class _Collect(Fold):
    combines = False

    def partials(self, groups: Groups) -> list[Any]:
        return list(groups.lists())

    def merged(self, groups: Groups) -> list[Any]:
        return [list(chain.from_iterable(some)) for some in groups.lists()]


class Identity:
    """The reducer that hands on every pair as it came, in the order of the keys."""

    def __call__(self, key: Any, values: Iterable[Any]) -> Iterator[Pair]:
        return zip(repeat(key), values)  # noqa: B905  (without end on the left)


def top(n: int) -> Fold:
    """The list of the ``n`` largest values of each key, largest first."""
    if n < 1:
        raise ValueError(f"top({n}): it takes a number from 1 up")
    return _Top(f"top({n})", n)


sum = _Sum("sum")
count = _Count("count")
min = _Min("min")
max = _Max("max")
first = _First("first")
last = _Last("last")
mean = _Mean("mean")
distinct = _Distinct("distinct")
union = _Union("union")
collect = _Collect("collect")
identity = Identity()
