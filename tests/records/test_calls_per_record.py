"""Beside the user's own functions, no Python function runs once for each record or comparison.

Calls are counted, not timed, so these tests say the same on every machine. A call is each time that
Python code outside of this file begins to run, or goes on: a generator that is resumed and a method
such as ``__lt__`` that C code calls are calls, too.
"""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from attempts import functions, map_all, splits_of

from pytxmr.model import Segment
from pytxmr.records import folds
from pytxmr.records.columns import Groups
from pytxmr.records.merge import SegmentMerge
from pytxmr.records.order import sort_key
from pytxmr.records.reducing import run_reduce
from pytxmr.records.spill import SpillWriter

MAPS = 4
RECORDS = 5000
#: Calls are for steps, blocks, and samples of them, which have thousands of records each.
FEW = 2500


@contextmanager
def counting():
    """Counts, by name, the calls of functions that are not in this file."""
    calls: Counter = Counter()

    def count(frame, event, argument):
        if event == "call" and frame.f_code.co_filename != __file__:
            calls[frame.f_code.co_qualname] += 1

    gc.disable()  # others may have it call them
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        gc.enable()


CHANCE = random.Random(1)
VALUES = [CHANCE.randrange(1000) for _ in range(RECORDS)]
KEYS = {
    "repeated keys": [f"word{CHANCE.randrange(200)}" for _ in range(RECORDS)],
    "distinct keys": [f"word{CHANCE.randrange(1 << 40)}" for _ in range(RECORDS)],
}
EVERY_FOLD = [
    folds.sum, folds.count, folds.min, folds.max, folds.first, folds.last, folds.mean,
    folds.distinct, folds.union, folds.top(1), folds.top(10), folds.collect, folds.identity,
]  # fmt: skip


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("fold", EVERY_FOLD, ids=lambda fold: getattr(fold, "name", "identity"))
def test_a_job_of_a_fold_calls_no_python_for_a_record(tmp_path, fold, keys):
    values = [[value] for value in VALUES] if fold is folds.union else VALUES
    written = 0

    def mapper(offset, line):
        yield from zip(KEYS[keys], values, strict=True)

    def writer(pairs):
        nonlocal written
        written = sum(1 for _ in pairs)
        yield b""

    combiner = fold if getattr(fold, "combines", False) else None
    job = functions(mapper, fold, combiner=combiner, writer=writer)
    path = tmp_path / "in.txt"
    path.write_text("line\n" * MAPS)
    with counting() as calls:
        segments, _ = map_all(job, splits_of([path], 5), tmp_path, buffer_bytes=1 << 30)
        run_reduce(job, *segments, str(tmp_path / "out"), str(tmp_path / "s"), lambda done: None)
    assert written >= len(set(KEYS[keys]))
    assert calls.total() < FEW, calls.most_common(5)


def runs_of(directory, make):
    """Segments of sorted runs with keys of their own, and how many keys there are."""
    chance = random.Random(1)
    segments, count = [], 0
    for number in range(MAPS):
        keys = sorted({make(chance) for _ in range(RECORDS)}, key=sort_key)
        path = str(directory / f"run{number}")
        writer = SpillWriter(path, 1)
        writer.write(0, Groups(keys, None, [1] * len(keys)))
        (part,) = writer.close()
        segments.append(Segment(path, part.offset, part.length))
        count += len(keys)
    return segments, count


def merging(directory, make):
    """The calls of a merge, and how many keys there were."""
    segments, count = runs_of(directory, make)
    with counting() as calls:
        merged = SegmentMerge(segments, str(directory / "scratch"))
        assert sum(sum(groups.values) for groups in merged) == count
    merged.close()
    return calls, count


def a_number(chance):
    return chance.randrange(1 << 40)


def a_moment(chance):
    return datetime(2000, 1, 1) + timedelta(0, chance.randrange(1 << 30))


BUILT_IN = {
    "str": lambda chance: f"key{a_number(chance)}",
    "bytes": lambda chance: chance.randbytes(8),
    "int": a_number,
    "float": lambda chance: chance.random(),
    "tuple": lambda chance: (chance.randrange(10), f"key{a_number(chance)}", chance.random()),
}
#: Keys that are made of something simpler as they are read: a call or more for each of them.
RESTORED = {
    "date": lambda chance: date.fromordinal(chance.randrange(1, 3_000_000)),
    "datetime": a_moment,
    "aware datetime": lambda chance: a_moment(chance).replace(tzinfo=UTC),
    "timedelta": lambda chance: timedelta(0, a_number(chance)),
    "UUID": lambda chance: UUID(int=chance.getrandbits(128)),
    "UUID in a tuple": lambda chance: (UUID(int=chance.getrandbits(128)), a_number(chance)),
}
MIXED = {
    "int and str": lambda chance: chance.choice([a_number, BUILT_IN["str"]])(chance),
    "numbers, and one that is none": lambda chance: chance.randrange(50_000) or float("nan"),
    "tuples of any length": lambda chance: (a_number(chance),) * chance.randrange(3),
    "tuples with None": lambda chance: (chance.choice([None, "a"]), a_number(chance)),
}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_runs_of_one_kind_merge_without_a_call_for_a_key(tmp_path, kind):
    calls, _ = merging(tmp_path, BUILT_IN[kind])
    assert calls.total() < FEW, calls.most_common(5)


@pytest.mark.parametrize("kind", RESTORED | MIXED)
def test_runs_of_any_kind_merge_without_a_python_comparison(tmp_path, kind):
    calls, count = merging(tmp_path, (RESTORED | MIXED)[kind])
    compared = {name: n for name, n in calls.items() if "__" in name and "init" not in name}
    assert sum(compared.values()) < FEW, compared
    # What makes a key comparable is called a fixed number of times for it, whatever it is merged
    # with: of tuples, for each of its members.
    assert calls["sort_key"] < 5 * count, calls.most_common(5)
