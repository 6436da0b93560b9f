"""A fold over a stream of pairs takes what a loop written by hand for it takes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from ratios import assert_ratio

from pytxmr import folds
from pytxmr.records.columns import Groups

COUNT = 300_000
CHANCE = random.Random(1)
PAIRS = [(f"word{int(5_000 * CHANCE.random() ** 4)}", CHANCE.randrange(1000)) for _ in range(COUNT)]
SETS = [(key, (value, value + 1)) for key, value in PAIRS]
TOP = 5
#: A Python call for each pair would make it 2 to 3.
AT_MOST = 1.3
#: Sets and lists are copied once as they are merged, which the loop does without.
GROWING_AT_MOST = 2.0

Pairs = list[tuple[str, Any]]


def by_sum(pairs: Pairs) -> Any:
    sums: dict[str, int] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0) + value
    return sums


def by_count(pairs: Pairs) -> Any:
    counts: dict[str, int] = {}
    for key, _ in pairs:
        counts[key] = counts.get(key, 0) + 1
    return counts


def by_min(pairs: Pairs) -> Any:
    least: dict[str, int] = {}
    for key, value in pairs:
        if key not in least or value < least[key]:
            least[key] = value
    return least


def by_max(pairs: Pairs) -> Any:
    most: dict[str, int] = {}
    for key, value in pairs:
        if key not in most or value > most[key]:
            most[key] = value
    return most


def by_first(pairs: Pairs) -> Any:
    first: dict[str, int] = {}
    for key, value in pairs:
        if key not in first:
            first[key] = value
    return first


def by_last(pairs: Pairs) -> Any:
    last: dict[str, int] = {}
    for key, value in pairs:
        last[key] = value
    return last


def by_mean(pairs: Pairs) -> Any:
    sums: dict[str, int] = {}
    counts: dict[str, int] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0) + value
        counts[key] = counts.get(key, 0) + 1
    return {key: sums[key] / counts[key] for key in sums}


def by_distinct(pairs: Pairs) -> Any:
    sets: defaultdict[str, set[int]] = defaultdict(set)
    for key, value in pairs:
        sets[key].add(value)
    return dict(sets)


def by_union(pairs: Pairs) -> Any:
    sets: defaultdict[str, set[int]] = defaultdict(set)
    for key, values in pairs:
        sets[key].update(values)
    return dict(sets)


def by_top(pairs: Pairs) -> Any:
    lists: defaultdict[str, list[int]] = defaultdict(list)
    for key, value in pairs:
        lists[key].append(value)
    return {key: sorted(values, reverse=True)[:TOP] for key, values in lists.items()}


LOOPS: dict[str, tuple[folds.Fold, Callable[[Pairs], Any]]] = {
    "sum": (folds.sum, by_sum),
    "count": (folds.count, by_count),
    "min": (folds.min, by_min),
    "max": (folds.max, by_max),
    "first": (folds.first, by_first),
    "last": (folds.last, by_last),
    "mean": (folds.mean, by_mean),
    "distinct": (folds.distinct, by_distinct),
    "union": (folds.union, by_union),
    "top": (folds.top(TOP), by_top),
}


@pytest.mark.parametrize("name", LOOPS)
def test_folding_against_a_loop(benchmark: Any, name: str) -> None:
    fold, loop = LOOPS[name]
    pairs = SETS if name == "union" else PAIRS

    def folded() -> dict[str, Any]:
        partials = fold.start()
        fold.fold(partials, iter(pairs))
        groups = Groups(list(partials), None, list(partials.values()))
        return dict(zip(partials, fold.finished(fold.merged(groups)), strict=True))

    def by_loop() -> Any:
        return loop(pairs)

    assert folded() == by_loop()
    assert_ratio(benchmark, folded, by_loop, GROWING_AT_MOST if fold.grows else AT_MOST)
