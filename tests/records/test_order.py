"""Keys stand in their natural order; of different types, by type first; NaN is one of them."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from carried import keys, steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.records.order import descending, key_function, order_of, sort_key

ORDERED = [
    None,
    -math.inf,
    -(2**80),
    -1.5,
    False,
    0.5,
    True,
    2,
    10,
    2**70,
    float(2**71),
    math.inf,
    math.nan,
    "",
    "10",
    "9",
    "B",
    "a",
    "é",
    "\udcff",
    "\U0001f600",
    b"",
    b"a",
    b"\xff",
    (),
    (None,),
    (1,),
    (1, None),
    (1, 2),
    (1, "a"),
    (2,),
    (math.nan,),
    ("a",),
    (b"a",),
    ((),),
    ((1,), 0),
]


def test_mixed_keys_sort_by_type_and_then_naturally():
    for seed in range(20):
        shuffled = random.Random(seed).sample(ORDERED, len(ORDERED))
        assert repr(sorted(shuffled, key=sort_key)) == repr(ORDERED)


def test_descending_keys_sort_the_other_way_round():
    for seed in range(20):
        shuffled = random.Random(seed).sample(ORDERED, len(ORDERED))
        turned = sorted(shuffled, key=lambda key: sort_key(descending(key)))
        assert repr(turned[::-1]) == repr(ORDERED)


def test_nan_comes_after_all_other_numbers_and_equals_itself():
    assert sort_key(math.nan) == sort_key(-float("nan"))
    assert sort_key(math.inf) < sort_key(math.nan) < sort_key("")


def test_numbers_that_are_equal_have_one_place():
    assert sort_key(1) == sort_key(1.0) == sort_key(True)
    assert sort_key((2**70, 0)) == sort_key((float(2**70), False))


@steady(max_examples=150)
@given(st.lists(keys, max_size=12))
def test_sort_key_orders_any_keys_at_all(mixed):
    ordered = sorted(mixed, key=sort_key)
    for one, two in itertools.pairwise(ordered):
        assert sort_key(one) <= sort_key(two)
        assert not sort_key(two) < sort_key(one)


real = st.one_of(st.booleans(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False))
text = st.text(st.characters(), max_size=4)
HOMOGENEOUS = st.one_of(
    st.lists(real),
    st.lists(text),
    st.lists(st.binary(max_size=4)),
    st.lists(st.tuples(real, text)),
    st.lists(st.tuples(text, st.tuples(real, st.binary(max_size=2)))),
    st.lists(st.lists(real, max_size=3).map(tuple)),
)


@steady(max_examples=150)
@given(HOMOGENEOUS)
def test_sort_key_agrees_with_the_built_in_order(alike):
    assert list(map(repr, sorted(alike, key=sort_key))) == list(map(repr, sorted(alike)))


@steady(max_examples=200)
@given(st.one_of(HOMOGENEOUS, st.lists(keys, max_size=8)))
def test_where_the_built_in_order_is_said_to_do_it_does(column):
    kind = order_of(column)
    if kind is not None:
        assert list(map(repr, sorted(column))) == list(map(repr, sorted(column, key=sort_key)))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([], "number"),
        ([1, 2.5, True], "number"),
        ([1, math.nan], None),
        (["a", "b"], "str"),
        ([b"a"], "bytes"),
        (["a", b"a"], None),
        ([None], None),
        ([(1, "a"), (2.0, "b")], ("number", "str")),
        ([(1, "a"), ("a", 1)], None),
        ([(1, math.nan)], None),
        ([(1,), (1, 2)], None),
        ([[1]], None),
    ],
    ids=ascii,
)
def test_the_kind_of_a_block_of_keys(column, kind):
    assert order_of(column) == kind


def test_blocks_of_one_kind_compare_by_the_built_in_order_and_others_by_sort_key():
    assert key_function({"str"}) is None
    assert key_function({("number", "str")}) is None
    assert key_function({"str", "number"}) is sort_key
    assert key_function({None}) is sort_key
    assert key_function({None, "str"}) is sort_key
