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

from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, NoReturn

from pytxmr.job.names import nearest
from pytxmr.job.operations import (
    BroadcastJoin,
    CoGroup,
    Count,
    Distinct,
    Filter,
    FlatMap,
    Function,
    Group,
    Input,
    Join,
    KeyBy,
    Map,
    MapValues,
    Narrow,
    Part,
    ReduceByKey,
    Sample,
    Shuffle,
    Sort,
    Stored,
    Top,
    Union,
    kind_of,
)
from pytxmr.records.batch import batch_form
from pytxmr.records.folds import Fold
from pytxmr.records.lookup import Table

HOWS = ("inner", "left", "right", "outer")
BROADCAST_HOWS = ("inner", "left")


def input(  # noqa: A001  (it is called pipeline.input)
    name: str | None = None, pattern: str | None = None, *, reader: Function | None = None
) -> View:
    """The lines of the command line's INPUTs, or, with a reader, the values of its records.

    With a ``name``, those INPUTs that are given as ``NAME=PATTERN``; if there are none,
    ``pattern``, a file, directory or glob.
    """
    for text in (name, pattern):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"input() takes a name and a pattern, as str, not {kind_of(text)}")
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

    def sort_by(self, function: Function, *, reverse: bool = False) -> View:
        """The elements in the order of ``function(element)``, which is what a key can be, over all
        parts of the output, one after the other; with ``reverse`` largest first. Elements for which
        it is the same stay in the order of their view."""
        if not isinstance(reverse, bool):
            raise TypeError(f"sort_by(): reverse is True or False, not {kind_of(reverse)}")
        return View((self,), Sort(_callable(function, "sort_by"), reverse))

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

    def join(self, other: View, how: str = "inner", *, broadcast: bool = False) -> View:
        """Of pairs: ``(key, (mine, other's))`` for each two with that key; where a left, right or
        outer join has none on one side, None.

        What is held in memory is the other view's values of one key; with ``broadcast`` all of it,
        in each worker, and this view is not shuffled: for inner and left joins with a small view.
        """
        if how not in HOWS:
            raise ValueError(f"join(how={how!r}): it is one of {', '.join(HOWS)}{_near(how)}")
        if not isinstance(broadcast, bool):
            raise TypeError(f"join(): broadcast is True or False, not {kind_of(broadcast)}")
        if broadcast and how not in BROADCAST_HOWS:
            raise ValueError(
                f"join(how={how!r}, broadcast=True): each worker sees a part of this view alone, "
                f"and cannot know which of the other view's keys no part has; leave out "
                f"broadcast=True, or join from the other view"
            )
        parents = (self, *_views((other,), "join"))
        return View(parents, BroadcastJoin(how, other._table) if broadcast else Join(how))

    def cogroup(self, *others: View) -> View:
        """Of pairs: ``(key, (list of my values, list of the next view's, ...))`` for each key that
        any of the views has. A key's values have to fit in memory."""
        return View((self, *_views(others, "cogroup")), CoGroup(1 + len(others)))

    # ----

    @cached_property
    def _table(self) -> Table:
        """What looks up in it looks up in: one, however many do."""
        return Table()

    def _paired(self) -> bool:
        """Is it known that the elements are pairs?"""
        if self.op.paired is None:
            return bool(self.parents) and all(parent._paired() for parent in self.parents)
        return self.op.paired

    def __getattr__(self, name: str) -> NoReturn:
        hint = "" if name.startswith("_") else nearest(name, dir(View))
        raise AttributeError(f"a view has no {name}{hint}")


def _callable(function: Any, method: str, role: str = "function") -> Function:
    if isinstance(function, Fold) and method not in ("reduce_by_key", "group"):
        raise TypeError(
            f"{method}(): folds.{function.name} folds the values of a key, for reduce_by_key()"
        )
    if not callable(function):
        raise TypeError(f"{method}(): the {role} is {kind_of(function)}, not a function")
    if batch_form(function) is not None:
        raise TypeError(f"{method}(): the {role} takes one element or group, without @batch")
    return function  # type: ignore[no-any-return]


def _views(views: tuple[Any, ...], method: str) -> tuple[View, ...]:
    if not views:
        raise TypeError(f"{method}() takes another view")
    for view in views:
        if not isinstance(view, View):
            raise TypeError(f"{method}() takes another view, not {kind_of(view)}")
    return views


def _near(how: object) -> str:
    return nearest(how, HOWS) if isinstance(how, str) else ""
