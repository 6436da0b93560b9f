"""A table of compiled code has what a dict would have, whatever comes through the stream."""

from __future__ import annotations

import gc
import os
import random
import struct
import sys
import tempfile
import tracemalloc
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import pytest
from carried import keys as any_keys
from carried import shape, steady
from hypothesis import example, given
from hypothesis import strategies as st

from pytxmr.records import folds, gather
from pytxmr.records.gather import Folded, Grouped
from pytxmr.records.sortbuffer import SortBuffer

pytestmark = pytest.mark.skipif(
    gather.Table is None and os.environ.get("CI") != "true",
    reason="pytxmr was installed without a C compiler",
)

LARGEST = 2**63 - 1


class Text(str):
    """A str that is more than one."""


texts = st.text(st.characters(), max_size=3)
words = st.sampled_from(["", "a", "b", "\xe9", "\u0103", "\U0001f600", "\ud800", "a" * 300])
sums = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([LARGEST, LARGEST - 1, -LARGEST, -LARGEST - 1, 2**62, -(2**62)]),
)
numbers = st.one_of(st.integers(-3, 3), st.sampled_from([LARGEST, -LARGEST - 1, 97, 98]))
raw = st.one_of(words.map(lambda word: word.encode("utf-8", "replace")), st.binary(max_size=3))
fit = st.tuples(st.one_of(words, texts, numbers, raw), sums)
odd = st.one_of(
    st.tuples(st.one_of(words, any_keys, texts.map(Text)), st.one_of(sums, st.booleans())),
    st.tuples(words, st.one_of(st.floats(allow_nan=False), st.integers(-(2**70), 2**70))),
    st.tuples(words, sums).map(list),
)
streams = st.tuples(
    st.lists(st.one_of(fit, odd), max_size=20),
    st.lists(fit, max_size=200),
    st.lists(st.one_of(fit, odd), max_size=90),
).map(lambda parts: [pair for part in parts for pair in part])
steps = st.lists(st.sampled_from([0, 1, 2, 63, 64, 65, 130, 1000]), min_size=1, max_size=6)


def joined(key, values):
    yield key, sum(values)


HOLDING = {
    "sums": lambda: Folded(folds.sum),
    "counts": lambda: Folded(folds.count),
    "lists": lambda: Grouped(None),
}
any_way = pytest.mark.parametrize("way", HOLDING)


def in_a_table(way: str) -> Any:
    held = HOLDING[way]()
    assert held._table is not None
    return held


def in_a_dict(way: str) -> Any:
    held = HOLDING[way]()
    held._table = None
    return held


def what_is_held(held: Any, pairs: list[Any], sizes: list[int]) -> Any:
    """What it says step by step as it takes pairs, and what it has in the end."""
    stream, said = iter(pairs), []
    for size in islice(cycle([*sizes, 1]), 2 * (len(pairs) + len(sizes))):
        said.append((held.pull(stream, size), held.entries))
    held.take(pairs[:9])
    keys, values = held.columns()
    assert len(keys) == held.entries
    return said, list(map(shape, keys)), list(map(shape, values))


@steady(max_examples=400)
@given(streams, steps, st.sampled_from(list(HOLDING)))
@example([("a", LARGEST), ("b", 1), ("a", 1), ("c", 1), ("a", -5), ("c", 0.5)], [1000], "sums")
@example([("a", -LARGEST - 1), ("a", -1), ("a", 1)], [2], "sums")
@example([("a", LARGEST), ("a", -LARGEST), ("a", -LARGEST), ("a", -2)], [1000], "sums")
@example([("a", 1), ("a", 1 << 63), ("a", 1)], [1000], "sums")
@example([("a", 1), ("a", True), ("b", True)], [1000], "sums")
@example([(1, 1), (True, 1), (1.0, 1), ("1", 1), (b"1", 1)], [1000], "counts")
@example([(1 << 63, 1), (-1 << 63, 2), (1 << 64, 3)], [1000], "lists")
@example([("a", 1), (Text("a"), 2), ("a", 3)], [1000], "lists")
def test_a_table_has_what_a_dict_has(pairs, sizes, way):
    found = what_is_held(in_a_table(way), pairs, sizes)
    assert found == what_is_held(in_a_dict(way), pairs, sizes)


def test_values_of_any_kind_are_listed_in_the_order_in_which_they_came():
    values = [None, 0.5, "text", [1], {"a": 1}, (), 1 << 90, True]
    held = in_a_table("lists")
    held.take((key, value) for value in values * 9 for key in ("a", 7, b"c"))
    assert dict(zip(*held.columns(), strict=True)) == dict.fromkeys(("a", 7, b"c"), values * 9)
    assert held._table is not None


@any_way
@pytest.mark.parametrize("number", [0, 1, 64, 65, 3000])
def test_what_belongs_to_keys_is_found(way, number):
    keys: list[Any] = [f"key {n}" for n in range(number)] + [b"%d" % n for n in range(9)] + [7]
    held = in_a_table(way)
    held.take((key, n) for n, key in enumerate(keys * 2))
    found = dict(zip(*held.columns(), strict=True))
    random.Random(number).shuffle(keys)
    assert held._table.values(keys) == [found[key] for key in keys]
    assert held._table.values(keys * 9) == [found[key] for key in keys] * 9


@pytest.mark.parametrize("key", ["b", b"a", 1, 1 << 70, 0.5, []])
def test_a_key_that_is_not_there_is_told(key):
    table = gather.Table("sums")
    table.pull(iter([("a", 1), ("c", 2)]), 9)
    with pytest.raises(KeyError) as found:
        table.values(["a", "c", key])
    assert found.value.args == (key,)
    with pytest.raises(TypeError, match="tuple is no list"):
        table.values(("a",))


def test_what_was_combined_goes_on_in_the_table():
    held = Grouped(joined)
    held.take((f"key {n % 700}", n) for n in range(7000))
    assert held.compact() > 0
    held.take((f"key {n % 700}", 1) for n in range(700))
    found = dict(zip(*held.columns(), strict=True))
    assert found == {f"key {n}": [sum(range(n, 7000, 700)), 1] for n in range(700)}
    assert held._table is not None


KEYS = {"texts": "key {}".format, "bytes": lambda n: b"%d" % n, "ints": lambda n: (n - 9) << 40}


@any_way
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("number", [1, 681, 682, 683, 5000, 50_000])
def test_the_table_grows_with_its_keys(way, kind, number):
    drawn, key = random.Random(number), KEYS[kind]
    pairs = [(key(drawn.randrange(number)), drawn.randrange(-9, 9)) for _ in range(2 * number)]
    held, expected = in_a_table(way), in_a_dict(way)
    assert held.pull(iter(pairs), 1 << 40) == expected.pull(iter(pairs), 1 << 40) == len(pairs)
    assert held.entries == expected.entries
    assert dict(zip(*held.columns(), strict=True)) == dict(zip(*expected.columns(), strict=True))


def told_apart(keys: list[Any]) -> bool:
    held = in_a_table("sums")
    held.take((key, number) for number, key in enumerate(keys * 2))
    found = dict(zip(*held.columns(), strict=True))
    return found == {key: 2 * number + len(keys) for number, key in enumerate(keys)}


@pytest.mark.parametrize("char", ["a", "\xe9", "\u0103", "\U0001f600", b"a"])
def test_keys_that_differ_in_one_place_are_told_apart(char):
    other = b"b" if char == b"a" else chr(ord(char) + 1)
    sizes = range(1, 41)
    keys = [char * at + other + char * (size - at - 1) for size in sizes for at in range(size)]
    assert told_apart([*keys, *(char * size for size in range(41))])


def seed(changed: int = 0) -> bytes:
    return struct.pack("=Q", (hash("table") ^ changed) & (1 << 64) - 1)


def wide(data: bytes) -> str:
    """The text that takes these bytes, two for a character."""
    return "".join(map(chr, struct.unpack(f"={len(data) // 2}H", data)))


def test_short_keys_of_one_hash_are_told_apart():
    """With the seed for its first 8 bytes, any key of 8 to 15 bytes has the hash 0."""
    keys = [seed() + b"%d" % n for n in range(999)] + [seed() + b"0" * n for n in range(8)]
    keys += [wide(seed()) + f"{n}" for n in range(150)] + [seed().decode("latin-1"), hash("table")]
    assert told_apart([*dict.fromkeys(keys), 7, struct.pack("=q", 7)])


def test_long_keys_of_one_hash_are_told_apart():
    """With the seed and its size for its first 8 bytes, any key of 16 bytes has the hash of any of
    24 that goes on with the seed."""
    data = [seed(16) + b"%08d" % n for n in range(150)]
    data += [seed(24) + seed() + b"%08d" % n for n in range(150)]
    # Alike as far as the shortest goes: here the other factor is the one that is zero.
    data += [b"0" * 8 + seed(-1) * n for n in (1, 2, 3)]
    keys = [*data, *map(wide, data), *(key.decode("latin-1") for key in data)]
    assert told_apart(keys)


@pytest.mark.parametrize("odd", [("x", 1, 2), ("x",), 7, "x", None, ("x", "1"), ({}, 1)])
@pytest.mark.parametrize("before", [0, 3, 63, 64, 100])
def test_what_cannot_be_added_raises_what_a_dict_raises(odd, before):
    def raised(held):
        with pytest.raises((TypeError, ValueError)) as found:
            held.pull(iter([*[("a", 1)] * before, odd, ("b", 1)]), 1000)
        return found.type, str(found.value)

    assert raised(in_a_table("sums")) == raised(in_a_dict("sums"))


@pytest.mark.parametrize("before", [0, 3, 64, 100])
@pytest.mark.parametrize("error", [LookupError("of the user"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_the_stream_comes_through_as_it_is(before, error):
    def stream():
        yield from [("a", 1)] * before
        raise error

    with pytest.raises(type(error)) as found:
        in_a_table("sums").pull(stream(), 1000)
    assert found.value is error


def test_no_more_is_pulled_than_was_asked_for():
    stream = ((str(n % 7), n) for n in count())
    held = in_a_table("lists")
    assert held.pull(stream, 100) == 100
    assert held.pull(stream, 0) == 0
    assert next(stream) == ("2", 100)


@pytest.mark.parametrize("value", [1, 0.5])
def test_each_pair_shows_while_the_next_is_made(value):
    signs = []

    def stream():
        for n in range(200):
            signs.append(held.sign())
            yield str(n % 3), value

    held = in_a_table("sums")
    held.pull(stream(), 1000)
    # At the second pair, a float's, the dict takes over.
    assert len(set(signs)) >= 199


def test_what_is_no_iterator_or_kind_is_refused():
    with pytest.raises(TypeError, match="list is no iterator"):
        gather.Table("sums").pull([("a", 1)], 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sums, counts or lists, and not means"):
        gather.Table("means")


def left_behind(work) -> int:
    """How many bytes more are allocated after some calls than after the first few."""
    for _ in range(3):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def failing():
    yield from ((f"key {n}", n) for n in range(100))
    raise LookupError


STREAMS = {
    "texts": lambda: ((f"key {n % 900}", n << 40) for n in range(1500)),
    "ints": lambda: ((n % 900 << 40, n << 40) for n in range(1500)),
    "a float after them": lambda: ((f"key {n}", n if n < 90 else 0.5) for n in range(100)),
    "sums that are too large": lambda: ((f"key {n % 9}", LARGEST >> 2) for n in range(100)),
    "an error": failing,
    "no pair": lambda: iter([("a", 1), None]),
}


@any_way
@pytest.mark.parametrize("name", STREAMS)
def test_nothing_is_left_behind(name, way):
    def work():
        held = in_a_table(way)
        try:
            held.pull(STREAMS[name](), 1 << 40)
            keys, _ = held.columns()
            held.sort(keys, [], None)
            gather.Table("sums").values(keys)
        except (LookupError, TypeError):
            pass

    assert left_behind(work) < 2000


@any_way
def test_keys_and_values_are_let_go_of_with_the_table(way):
    things = [f"key {n}" for n in range(3000)]
    before = list(map(sys.getrefcount, things))
    held = HOLDING[way]()
    held.take((key, 1 if way == "sums" else key) for key in things * 2)
    columns = held.columns()
    del held, columns
    assert list(map(sys.getrefcount, things)) == before


@steady(max_examples=40)
@given(
    streams,
    st.sampled_from([folds.sum, folds.count, joined, None]),
    st.sampled_from([1, 3000, 1 << 30]),
)
def test_a_spill_is_the_same_without_compiled_code(pairs, combiner, limit):
    pairs = [pair for pair in pairs if type(pair[0]) is not Text]

    def spilled() -> bytes:
        with tempfile.TemporaryDirectory() as directory:
            buffer = SortBuffer(f"{directory}/spill", 3, limit, combiner=combiner)
            stream = iter(pairs)
            while buffer.fill(stream):
                pass
            buffer.finish()
            return Path(directory, "spill").read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        compiled = spilled()
        patch.setattr(gather, "Table", None)
        assert spilled() == compiled
