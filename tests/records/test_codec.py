"""Columns: what goes in comes out, types included, or is refused by name."""

from __future__ import annotations

import enum
import math
import string
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal

import msgpack
import pytest
from carried import keys, scalars, shape, steady, values
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.errors import SpillDamaged, Uncarryable
from pytxmr.records.codec import (
    MOST_NESTED,
    NAN,
    check_key,
    check_value,
    one_nan,
    pack_column,
    unpack_column,
)

Point = namedtuple("Point", "x y")


class Scalar(float):
    """As numpy.float64 is: a float, and yet more than one."""


class Odd(Decimal):
    """A number of the standard library, and yet more than one."""


@dataclass
class Whole:
    part: int


class Colour(enum.IntEnum):
    RED = 1


def there_and_back(column: list) -> list:
    return unpack_column(pack_column(column))


@steady(max_examples=150)
@given(st.lists(values, max_size=6))
def test_any_values_come_back_as_they_went(column):
    assert shape(there_and_back(column)) == shape(column)


@steady(max_examples=80)
@given(st.one_of(*(st.lists(kind, max_size=8) for kind in (scalars, keys))))
def test_any_keys_come_back_as_they_went(column):
    assert shape(there_and_back(column)) == shape(column)


@steady(max_examples=60)
@given(st.lists(st.tuples(scalars, st.tuples(scalars, scalars), values), min_size=1, max_size=6))
def test_tuples_of_one_length_come_back_as_they_went(column):
    assert shape(there_and_back(column)) == shape(column)


@pytest.mark.parametrize(
    "column",
    [
        [],
        [None],
        [1, 1.0, True],
        [0, 0.0, -0.0, False],
        [math.nan, math.inf, -math.inf],
        [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1],
        ["", "a\x00b", "\udcff", "\ud800", "\U0001f600"],
        [b"", b"\xff", "\xff"],
        [()],
        [(), (1,)],
        [((),), ((),)],
        [(1, "a"), (2, "b")],
        [(1, "a"), (2, "b", None)],
        [((1, (2, (3, (4, (5,))))),)],
        [[1, (2, [3, (4,)])]],
        [{(1, 2): [{(3,): (4,)}]}],
        [{1: "int", "1": "str", b"1": "bytes", None: None}],
        [{frozenset({1, (2,)}): {3}}],
        [set(), frozenset(), {1, "a", None}],
        ["\udcff", (2**100, "\ud800"), {"\udc80": 2**-5}],
        [1, (2,)],
    ],
)
def test_special_values_come_back_as_they_went(column):
    assert shape(there_and_back(column)) == shape(column)


def test_ints_too_long_to_write_in_decimal_are_carried():
    assert there_and_back([10**5000, -(10**5000)]) == [10**5000, -(10**5000)]


def test_dicts_keep_their_order():
    column = [dict.fromkeys("zaqx", 1)]
    assert list(there_and_back(column)[0]) == ["z", "a", "q", "x"]


def test_a_column_can_be_read_from_a_memoryview():
    for column in ([1, 2], [(1, "a")], [[1]]):
        assert unpack_column(memoryview(pack_column(column))) == column


UNCARRYABLE = [
    (Point(1, 2), "Point", "yield tuple(value) instead"),
    (Counter("aab"), "collections.Counter", "yield dict(value) instead"),
    (OrderedDict(a=1), "collections.OrderedDict", "yield dict(value) instead"),
    (defaultdict(int), "collections.defaultdict", "yield dict(value) instead"),
    (deque([1]), "collections.deque", "instead"),
    (object(), "a object", "instead"),
    (Scalar(1), "Scalar", "yield float(value) instead"),
    (Colour.RED, "Colour", "yield int(value) instead"),
    (Odd(1), "Odd", "instead"),
    (Whole(1), "Whole", "codecs = [Whole]"),
    (bytearray(b"x"), "bytearray", "yield bytes(value) instead"),
    (memoryview(b"x"), "memoryview", "yield bytes(value) instead"),
    (range(3), "range", "instead"),
    ({}.keys(), "dict_keys", "instead"),
    ((one for one in [1]), "generator", "instead"),
    (string.capwords, "function", "instead"),
    (int, "a type", "instead"),
    (msgpack.ExtType(1, b""), "ExtType", "instead"),
    (msgpack.Timestamp(1), "Timestamp", "instead"),
]


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda bad: bad, id="bare"),
        pytest.param(lambda bad: [1, [bad]], id="list"),
        pytest.param(lambda bad: (1, bad), id="tuple"),
        pytest.param(lambda bad: ((((("deep", bad),),),),), id="deep tuple"),
        pytest.param(lambda bad: {"a": {"b": bad}}, id="dict"),
    ],
)
@pytest.mark.parametrize(
    ("bad", "name", "advice"), UNCARRYABLE, ids=[one[1] for one in UNCARRYABLE]
)
def test_what_cannot_travel_is_refused_by_the_name_of_its_type(bad, name, advice, wrap):
    for column in ([wrap(bad)], [1, wrap(bad)], [(1,), wrap(bad)]):
        with pytest.raises(Uncarryable) as caught:
            pack_column(column)
        assert name in caught.value.message
        assert advice in caught.value.message
        assert caught.value.details["final"] is True
    with pytest.raises(Uncarryable, match=name.rpartition(".")[2]):
        check_value(wrap(bad))


def test_what_cannot_travel_is_refused_as_a_key_of_a_dict_and_in_a_set():
    for bad in ({Point(1, 2): 1}, {Colour.RED}, {1: {frozenset({Scalar(1)})}}):
        with pytest.raises(Uncarryable):
            pack_column([bad])


def nested(kind, depth):
    value = kind()
    for _ in range(depth - 1):
        value = kind([value])
    return value


@pytest.mark.parametrize("kind", [list, tuple, frozenset])
def test_nesting_is_carried_up_to_the_limit_and_refused_beyond(kind):
    deepest = nested(kind, MOST_NESTED)
    assert there_and_back([deepest]) == [deepest]
    assert there_and_back([0, deepest]) == [0, deepest]
    for depth in (MOST_NESTED + 1, 1000, 5000):
        with pytest.raises(Uncarryable, match=f"a {kind.__name__} nested more than {MOST_NESTED}"):
            pack_column([0, nested(kind, depth)])


def test_what_contains_itself_is_refused_however_it_does():
    alone: list = []
    alone.append(alone)
    twice: list = []
    twice += [twice, twice]
    in_dict: dict = {}
    in_dict["me"] = in_dict
    through_tuple: list = []
    through_tuple.append((through_tuple, {1: through_tuple}))
    for bad in (alone, twice, in_dict, through_tuple):
        with pytest.raises(Uncarryable, match="contains itself"):
            pack_column([bad])
        with pytest.raises(Uncarryable, match="contains itself"):
            pack_column([(1, bad)])


@steady(max_examples=60)
@given(keys)
def test_scalars_and_tuples_of_them_are_keys(key):
    check_key(key)


@pytest.mark.parametrize(
    "key",
    [[1], {}, frozenset(), Point(1, 2), (1, [2]), (1, (2, Scalar(3))), Colour.RED, object()],
    ids=lambda key: type(key).__name__,
)
def test_anything_else_is_no_key(key):
    with pytest.raises(Uncarryable, match="cannot be a key") as caught:
        check_key(key)
    assert caught.value.details["final"] is True


def test_a_key_nested_too_deep_is_refused():
    check_key(nested(tuple, MOST_NESTED))
    with pytest.raises(Uncarryable, match="nested more than"):
        check_key(nested(tuple, 5000))


def test_every_nan_becomes_the_one_nan_also_inside_tuples():
    first, second = float("nan"), float("nan")
    bare, inside, other = one_nan([first, (1, (second,)), "x"])
    assert bare is NAN
    assert inside[1][0] is NAN
    assert other == "x"
    assert {bare: 1}[NAN] == 1
    assert {inside: 1}[(1, (NAN,))] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x03\x90",
        b"\x03\x93\x05\xa0\xc4\x03\x00\x91\xa0",
        b"\x05\x90",
        b"\x05\x93\x03\x91\x01\xc4\x03\x00\x91\x01",
        b"\x05\x93\x00\x91\x02\xc4\x03\x00\x91\x01",
        b"\x05\x93\x00\x92\x02\xff\xc4\x03\x00\x91\x01",
        b"\x05\x93\x00\x91\xa0\xc4\x03\x00\x91\x01",
        b"\x05\x93\x01\x91\x01\xc4\x04\x00\x91\x91\x01",
        b"\x06\x90",
        b"\x00",
        b"\x00\xc1",
        b"\x00\x92\x01",
        b"\x00\x90\x90",
        b"\x00\x91\xa1\xff",
        b"\x01\x91\x01",
        b"\x01\x01",
        b"\x02\x91\xd4\x63\x00",
        b"\x02\x91\xd4\x03\x01",
    ],
    ids=ascii,
)
def test_a_column_that_was_not_written_here_is_damaged(data):
    with pytest.raises(SpillDamaged):
        unpack_column(data)


def test_the_packed_forms_never_change():
    assert pack_column([1, "a", None]).hex() == "00" + msgpack.packb([1, "a", None]).hex()
    columns = [b"\x00" + msgpack.packb([1, 2]), b"\x00" + msgpack.packb(["a", "b"])]
    assert pack_column([(1, "a"), (2, "b")]) == b"\x01" + msgpack.packb(columns)
    numbers = b"\x00" + msgpack.packb([1, 2, 3])
    assert pack_column([[1, 2], [], [3]]) == b"\x05" + msgpack.packb([0, [2, 0, 1], numbers])
    assert pack_column([{1}, {2}, {3}]) == b"\x05" + msgpack.packb([1, [1, 1, 1], numbers])
    assert pack_column([frozenset({1})])[1:3] == msgpack.packb([2, 0, 0])[:2]
    assert pack_column([(), [2**64], {1}]).hex() == (
        "0293" + "d40190" + "91c70902" + "01" + "00" * 8 + "d5039101"
    )
