"""A key's partition is the same everywhere and for ever; ranges follow the order of keys."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from carried import keys, steady
from hypothesis import given
from hypothesis import strategies as st

import pytxmr
from pytxmr.records.order import sort_key
from pytxmr.records.partition import RangePartitioner, partition_keys, stable_partition

# Never to be changed: spills of one job may have been written by several versions.
PINNED = {
    None: 0,
    True: 583,
    0: 209,
    -1: 962,
    2**63: 887,
    2**70: 757,
    0.5: 469,
    math.inf: 273,
    "": 0,
    "word": 265,
    "é": 326,
    "\udcff": 495,
    b"word": 265,
    (): 0,
    ("a", 1): 647,
    (1, ("a", b"b"), None): 384,
}

PRINT_PARTITIONS = """
import math
from pytxmr.records.partition import partition_keys, stable_partition
keys = ["", "word", "\\udcff", b"word", 1, 2**70, 0.5, math.inf, None, (), ("a", (1, None))]
print([stable_partition(key, 97) for key in keys], partition_keys(["a", "b", "c"], 10**6))
"""


def test_partitions_of_known_keys_never_change():
    assert {key: stable_partition(key, 1000) for key in PINNED} == PINNED


def test_partitions_do_not_depend_on_the_seed_of_hash():
    said = set()
    for seed in ("0", "1", "12345", "random"):
        root = Path(pytxmr.__file__).resolve().parent.parent
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.fspath(root)}
        done = subprocess.run(
            [sys.executable, "-c", PRINT_PARTITIONS],
            env=environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
        said.add(done.stdout)
    assert len(said) == 1


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, True),
        (0, 0.0, -0.0, False),
        (2**70, float(2**70)),
        (-(2**64), float(-(2**64))),
        (2**1000, float(2**1000)),
        ((1, "a"), (1.0, "a"), (True, "a")),
        ((0, (2**70, (False,))), (0.0, (float(2**70), (0,)))),
        (math.nan, float("nan"), -math.nan),
        ((1, math.nan), (1, float("-nan"))),
    ],
    ids=ascii,
)
def test_keys_that_are_one_to_python_go_to_one_place(same):
    for partitions in (2, 7, 1000, 2**31):
        assert len({stable_partition(key, partitions) for key in same}) == 1
        assert len(set(partition_keys(list(same), partitions))) == 1


def other_types(key):
    """An equal key, in which numbers are of another type where one can be."""
    if isinstance(key, tuple):
        return tuple(map(other_types, key))
    if isinstance(key, float) and key.is_integer():
        return int(key)
    if isinstance(key, int) and abs(key) < 2**1000 and int(float(key)) == key:
        return float(key)
    return key


@steady(max_examples=150)
@given(keys)
def test_equal_keys_go_to_one_place(key):
    assert stable_partition(key, 1009) == stable_partition(other_types(key), 1009)


@steady(max_examples=60)
@given(st.integers(-(2**200), 2**200))
def test_a_whole_float_goes_where_its_int_goes(number):
    assert stable_partition(float(number), 10007) == stable_partition(int(float(number)), 10007)


def test_ints_of_any_size_have_a_partition():
    assert 0 <= stable_partition(10**6000, 9) < 9
    assert 0 <= stable_partition(-(10**6000), 9) < 9


@steady(max_examples=100)
@given(
    st.one_of(st.lists(keys), st.lists(st.text(st.characters(), max_size=3))),
    st.integers(1, 50),
)
def test_many_keys_at_once_go_where_each_alone_goes(column, partitions):
    assert partition_keys(column, partitions) == [
        stable_partition(key, partitions) for key in column
    ]


@pytest.mark.parametrize(
    "column",
    [
        range(20_000),
        [f"word{n}" for n in range(20_000)],
        [(n, f"word{n}") for n in range(20_000)],
        [n / 8 for n in range(20_000)],
    ],
    ids=["int", "str", "tuple", "float"],
)
def test_keys_spread_evenly(column):
    sizes = Counter(partition_keys(list(column), 16))
    assert len(sizes) == 16
    assert max(sizes.values()) < 1.2 * 20_000 / 16


@steady(max_examples=100)
@given(st.lists(keys, max_size=12), st.lists(keys, max_size=12), st.integers(1, 6))
def test_ranges_follow_the_order_of_keys_and_never_part_equal_ones(sample, asked, partitions):
    ranges = RangePartitioner(sample)
    numbers = [ranges(key, partitions) for key in sorted(sample + asked, key=sort_key)]
    assert numbers == sorted(numbers)
    assert all(0 <= number < partitions for number in numbers)
    again = RangePartitioner()
    again.bind(sample[::-1])
    for key in asked:
        assert again(key, partitions) == ranges(key, partitions)
        assert ranges(key, partitions) in {
            ranges(other, partitions) for other in asked if sort_key(other) == sort_key(key)
        }


def test_equal_keys_are_in_one_range():
    ranges = RangePartitioner([0, 1, 1.0, True, 2, math.nan])
    for partitions in range(1, 8):
        assert len({ranges(key, partitions) for key in (1, 1.0, True)}) == 1
        assert len({ranges(key, partitions) for key in (math.nan, float("nan"))}) == 1


some_keys = st.one_of(
    st.lists(keys, max_size=12),
    st.lists(st.integers(0, 9), max_size=12),
    st.lists(st.sampled_from([None, 0, False, 1, 1.0, True, math.nan, "", "1", b"1", (1,)])),
)


@steady(max_examples=200)
@given(some_keys, some_keys, st.integers(1, 20))
def test_cuts_of_sorted_keys_are_where_the_ranges_are(sample, asked, partitions):
    ranges = RangePartitioner(sample)
    in_order = sorted(asked + sample[::2], key=sort_key)
    cuts = ranges.cuts(in_order, partitions)
    assert len(cuts) == partitions - 1
    assert cuts == sorted(cuts)
    numbers = [sum(cut <= at for cut in cuts) for at in range(len(in_order))]
    assert numbers == [ranges(key, partitions) for key in in_order]


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_without_a_sample_the_first_range_has_all_keys(partitions):
    assert RangePartitioner().cuts([None, 1, "a"], partitions) == [3] * (partitions - 1)
    assert RangePartitioner().cuts([], partitions) == [0] * (partitions - 1)


def test_cuts_leave_ranges_empty_where_the_sample_has_keys_that_are_not_there():
    ranges = RangePartitioner([0, 10, 20, 30])
    assert ranges.cuts([1, 2, 21], 4) == [0, 2, 2]
    assert ranges.cuts([-10, 0, 0], 4) == [3, 3, 3]
    # More partitions than samples: some have no keys.
    assert ranges.cuts([5, 25, 35], 8) == [0, 1, 1, 3, 3, 3, 3]


@pytest.mark.parametrize(("often", "parts"), [(0, 4), (50, 4), (99, 2)])
def test_a_key_that_is_there_very_often_shares_its_range_with_none_or_few(often, parts):
    sample = [*range(100), *[often] * 900]
    ranges = RangePartitioner(sample)
    sizes = Counter(ranges(key, 4) for key in sample)
    assert len(sizes) == parts
    assert sizes[ranges(often, 4)] == 901
    others = [size for part, size in sizes.items() if part != ranges(often, 4)]
    assert max(others) < {0: 40, 50: 60, 99: 100}[often]


@pytest.mark.parametrize("partitions", [2, 5, 16])
def test_ranges_of_uniform_keys_are_balanced(partitions):
    drawn = random.Random(3)
    ranges = RangePartitioner([drawn.random() for _ in range(2000)])
    sizes = Counter(ranges(drawn.random(), partitions) for _ in range(20_000))
    assert len(sizes) == partitions
    assert max(sizes.values()) < 1.3 * 20_000 / partitions


def test_without_a_sample_all_keys_are_in_the_first_range():
    assert {RangePartitioner()(key, 5) for key in (None, 1, "a", ("b",))} == {0}


def test_a_new_sample_makes_new_ranges():
    ranges = RangePartitioner(list(range(100)))
    assert ranges(60, 2) == 1
    ranges.bind(list(range(1000)))
    assert ranges(60, 2) == 0
