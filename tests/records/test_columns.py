"""Columns sorted and grouped are what a loop over pairs would make of them."""

from __future__ import annotations

import random

import pytest
from carried import keys as any_keys
from carried import shape, steady, texts
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.records.codec import one_nan
from pytxmr.records.columns import (
    Columns,
    Groups,
    columns,
    groups_of,
    sort_groups,
    sort_pairs,
    whole,
)
from pytxmr.records.order import key_function, order_of, sort_key

#: Columns of keys: of one kind, of many, and of keys that are equal without being the same.
key_columns = st.one_of(
    *(
        st.lists(kind, max_size=25)
        for kind in (
            any_keys,
            texts,
            st.binary(max_size=2),
            st.integers(-4, 4),
            st.floats(),
            st.sampled_from([1, 1.0, True, 0, -0.0, False, 2, float("nan")]),
            st.tuples(st.sampled_from("ab"), st.sampled_from([1, 1.0, True, float("nan")])),
            st.sampled_from([None, "1", b"1", 1, (1,), (1, "a"), (True,)]),
        )
    )
)


def as_held(keys):
    """Keys as a sort buffer holds them, and what they are sorted by."""
    kind = order_of(keys)
    return (one_nan(keys) if kind is None else keys), key_function({kind})


def grouped(pairs):
    """The reference: keys in natural order, of equal ones the first; values as they came."""
    marks = [sort_key(key) for key, _ in pairs]
    found = []
    for mark in sorted(set(marks)):
        of_key = [pair for pair, other in zip(pairs, marks, strict=True) if other == mark]
        found.append((of_key[0][0], [value for _, value in of_key]))
    return found


def same(groups, expected):
    """Do the groups, their iterators and their columns say what is expected?"""
    assert [shape(key) for key in groups.keys] == [shape(key) for key, _ in expected]
    lists = [values for _, values in expected]
    assert [values for _, values in groups] == lists
    assert [list(values) for values in groups.iterators()] == lists
    assert list(groups.lists()) == lists
    assert len(groups) == len(expected)
    pairs = [(shape(key), value) for key, value in groups.columns().pairs()]
    assert pairs == [(shape(key), value) for key, values in expected for value in values]
    # Left out where every key has one value, which is what makes such blocks cheap.
    assert (groups.counts is None) == all(len(values) == 1 for values in lists)
    return True


@steady(max_examples=300)
@given(key_columns)
def test_sorted_pairs_are_grouped_by_key_and_the_order_of_values_is_kept(keys):
    keys, key = as_held(keys)
    pairs = [(one, at) for at, one in enumerate(keys)]
    assert same(sort_pairs(list(keys), list(range(len(keys))), key), grouped(pairs))


@steady(max_examples=100)
@given(key_columns)
def test_pairs_without_a_value_are_grouped_alike(keys):
    keys, key = as_held(keys)
    expected = grouped([(one, None) for one in keys])
    assert same(sort_pairs(list(keys), [None] * len(keys), key), expected)


@steady(max_examples=200)
@given(key_columns, st.lists(st.integers(1, 4), min_size=1, max_size=9))
def test_sorted_groups_join_equal_keys_with_their_values_in_order(keys, sizes):
    keys, key = as_held(keys)
    lists = [[(at, n) for n in range(sizes[at % len(sizes)])] for at in range(len(keys))]
    before = [list(values) for values in lists]
    expected = grouped(
        [(one, value) for one, values in zip(keys, lists, strict=True) for value in values]
    )
    assert same(sort_groups(list(keys), lists, key), expected)
    assert lists == before


@pytest.mark.parametrize("same_keys", [(1, 1.0, True), (True, 1, 1.0), (-0.0, 0, False)])
@pytest.mark.parametrize("values", [[1, 2, 3], [None] * 3], ids=["values", "no values"])
def test_of_keys_that_are_equal_the_first_one_stands(same_keys, values):
    for keys in (same_keys, [(key, "x") for key in same_keys]):
        keys, key = as_held(list(keys))
        for groups in (
            sort_pairs(list(keys), values, key),
            sort_groups(list(keys), [[value] for value in values], key),
        ):
            assert [shape(one) for one in groups.keys] == [shape(keys[0])]
            assert groups.values == values


def test_every_nan_is_one_key_the_last_of_numbers():
    nans = [float("nan"), 1.0, float("-nan"), 2, float("inf")]
    keys, key = as_held(nans)
    groups = sort_pairs(keys, [0, 1, 2, 3, 4], key)
    assert list(map(repr, groups.keys)) == ["1.0", "2", "inf", "nan"]
    assert list(groups.lists()) == [[1], [3], [4], [0, 2]]


def some_groups(number, seed):
    drawn = random.Random(seed)
    lists = [[drawn.randrange(99) for _ in range(drawn.randrange(1, 4))] for _ in range(number)]
    if seed % 3 == 0:
        lists = [values[:1] for values in lists]
    return groups_of(list(range(number)), lists), lists


@pytest.mark.parametrize("number", [1, 2, 7])
@pytest.mark.parametrize("seed", range(6))
def test_parts_are_the_groups_in_a_range_of_keys(number, seed):
    groups, lists = some_groups(number, seed)
    for start in range(number + 1):
        for end in range(start, number + 1):
            part = groups.part(start, end)
            assert part.keys == list(range(start, end))
            assert list(part.lists()) == lists[start:end]
            assert [v for _, v in part.columns().pairs()] == sum(lists[start:end], [])


def cut_into_batches(groups, sizes):
    """The groups as a merge gives them: a batch may end, and the next begin, within a group."""
    pairs = [(key, value) for key, values in groups for value in values]
    at = turn = 0
    while at < len(pairs):
        size = sizes[turn % len(sizes)]
        some = grouped(pairs[at : at + size])
        yield groups_of([key for key, _ in some], [values for _, values in some])
        at, turn = at + size, turn + 1


@steady(max_examples=200)
@given(key_columns, st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_whole_groups_are_those_that_were_cut(keys, sizes):
    expected = grouped([(key, at) for at, key in enumerate(one_nan(keys))])
    batches = list(cut_into_batches(expected, sizes))
    before = [[list(values) for values in groups.lists()] for groups in batches]
    found = list(whole(batches))
    assert [[*groups.lists()] for groups in batches] == before
    assert [(shape(key), values) for groups in found for key, values in groups] == [
        (shape(key), values) for key, values in expected
    ]
    assert all(len(groups) for groups in found)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_group_of_nan_is_whole_as_well(size):
    (nan,) = one_nan([float("nan")])
    found = list(whole(cut_into_batches([(1, [0, 1]), (nan, [2, 3, 4, 5])], [size])))
    assert [values for groups in found for _, values in groups] == [[0, 1], [2, 3, 4, 5]]


def test_whole_groups_come_as_soon_as_they_are_complete():
    pulled = []

    def batches():
        for number in range(5):
            pulled.append(number)
            yield Groups([number, number + 1], None, ["first", "last"])

    found = whole(batches())
    assert list(next(found)) == [(0, ["first"])]
    assert pulled == [0]
    assert list(next(found)) == [(1, ["last", "first"])]
    assert pulled == [0, 1]


# What a batch function yields


class Arrow:
    """Like a pyarrow array, which has all three: `tolist` of some versions gives scalars."""

    def __init__(self, items):
        self._items = items

    def __iter__(self):
        raise AssertionError("scalars, not Python values")

    def to_pylist(self):
        return list(self._items)

    def tolist(self):
        raise AssertionError("scalars, not Python values")


class Array:
    """Like a numpy array: iterating gives scalars of its own type."""

    def __init__(self, items):
        self._items = items

    def __iter__(self):
        raise AssertionError("scalars, not Python values")

    def tolist(self):
        return list(self._items)


class Series(Array):
    """Like a polars column."""

    to_list = Array.tolist
    tolist = property()


@pytest.mark.parametrize("kind", [list, tuple, iter, Arrow, Array, Series])
def test_columns_of_any_library_become_lists(kind):
    made = columns(kind([1, 2, 3]), kind("abc"))
    assert (made.keys, made.values) == ([1, 2, 3], ["a", "b", "c"])
    assert list(made.pairs()) == [(1, "a"), (2, "b"), (3, "c")]
    assert len(made) == 3
    assert columns(kind("abc")) == Columns(["a", "b", "c"], [None] * 3)


@pytest.mark.parametrize(("keys", "values"), [([1], []), ([], [1]), ("ab", range(3))])
def test_columns_of_unequal_length_are_refused(keys, values):
    message = f"there are {len(keys)} keys and {len(values)} values"
    with pytest.raises(ValueError, match=message):
        columns(keys, values)
