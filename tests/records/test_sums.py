"""Sums in compiled code are those that a dict would have, whatever comes through the stream."""

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
from pytxmr.records.gather import Folded, Summed
from pytxmr.records.sortbuffer import SortBuffer

pytestmark = pytest.mark.skipif(
    gather.Sums is None and os.environ.get("CI") != "true",
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
fit = st.tuples(st.one_of(words, texts), sums)
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


def held_as(way: Any, fold: folds.Fold, pairs: list[Any], sizes: list[int]) -> Any:
    """What a way of holding pairs says, step by step, and what it has in the end."""
    held, stream, said = way(fold), iter(pairs), []
    for size in islice(cycle([*sizes, 1]), 2 * (len(pairs) + len(sizes))):
        said.append((held.pull(stream, size), held.entries))
    held.take(pairs[:9])
    keys, values = held.columns()
    assert len(keys) == held.entries
    return said, sorted(map(repr, zip(map(shape, keys), map(shape, values), strict=True)))


@steady(max_examples=300)
@given(streams, steps, st.sampled_from([folds.sum, folds.count]))
@example([("a", LARGEST), ("b", 1), ("a", 1), ("c", 1), ("a", -5), ("c", 0.5)], [1000], folds.sum)
@example([("a", -LARGEST - 1), ("a", -1), ("a", 1)], [2], folds.sum)
@example([("a", LARGEST), ("a", -LARGEST), ("a", -LARGEST), ("a", -2)], [1000], folds.sum)
@example([("a", 1), ("a", True), ("b", True)], [1000], folds.sum)
def test_sums_are_those_of_a_dict(pairs, sizes, fold):
    assert held_as(Summed, fold, pairs, sizes) == held_as(Folded, fold, pairs, sizes)


@pytest.mark.parametrize("fold", [folds.sum, folds.count])
@pytest.mark.parametrize("number", [1, 681, 682, 683, 5000, 100_000])
def test_the_table_grows_with_its_keys(fold, number):
    drawn = random.Random(number)
    pairs = [(f"key {drawn.randrange(number)}", drawn.randrange(-9, 9)) for _ in range(2 * number)]
    held, expected = Summed(fold), Folded(fold)
    assert held.pull(iter(pairs), 1 << 40) == expected.pull(iter(pairs), 1 << 40) == len(pairs)
    assert held.entries == expected.entries
    assert dict(zip(*held.columns(), strict=True)) == dict(zip(*expected.columns(), strict=True))


def test_keys_of_one_hash_are_told_apart():
    """With the seed for its first 8 bytes, any key of 16 bytes has the hash 0."""
    seed = struct.unpack("=4H", struct.pack("=q", hash("sums")))
    keys = ["".join(map(chr, seed)) + f"{n:04}" for n in range(150)]
    held = Summed(folds.sum)
    held.take((key, number) for number, key in enumerate(keys * 2))
    found = dict(zip(*held.columns(), strict=True))
    assert found == {key: 2 * number + len(keys) for number, key in enumerate(keys)}


@pytest.mark.parametrize("odd", [("x", 1, 2), ("x",), 7, "x", None, ("x", "1"), ({}, 1)])
@pytest.mark.parametrize("before", [0, 3, 63, 64, 100])
def test_what_cannot_be_added_raises_what_a_dict_raises(odd, before):
    def raised(way):
        held = way(folds.sum)
        with pytest.raises((TypeError, ValueError)) as found:
            held.pull(iter([*[("a", 1)] * before, odd, ("b", 1)]), 1000)
        return found.type, str(found.value)

    assert raised(Summed) == raised(Folded)


@pytest.mark.parametrize("before", [0, 3, 64, 100])
@pytest.mark.parametrize("error", [LookupError("of the user"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_the_stream_comes_through_as_it_is(before, error):
    def stream():
        yield from [("a", 1)] * before
        raise error

    with pytest.raises(type(error)) as found:
        Summed(folds.sum).pull(stream(), 1000)
    assert found.value is error


def test_no_more_is_pulled_than_was_asked_for():
    stream = ((str(n % 7), n) for n in count())
    held = Summed(folds.sum)
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

    held = Summed(folds.sum)
    held.pull(stream(), 1000)
    # At the second pair, a float's, the dict takes over.
    assert len(set(signs)) >= 199


def test_what_is_no_iterator_is_refused():
    with pytest.raises(TypeError, match="list is no iterator"):
        gather.Sums(False).pull([("a", 1)], 1)  # type: ignore[arg-type]


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
    "a float after them": lambda: ((f"key {n}", n if n < 90 else 0.5) for n in range(100)),
    "sums that are too large": lambda: ((f"key {n % 9}", LARGEST >> 2) for n in range(100)),
    "an error": failing,
    "no pair": lambda: iter([("a", 1), None]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_nothing_is_left_behind(name):
    def work():
        held = Summed(folds.sum)
        try:
            held.pull(STREAMS[name](), 1 << 40)
            held.columns()
        except (LookupError, TypeError):
            pass

    assert left_behind(work) < 2000


def test_keys_are_let_go_of_with_the_table():
    keys = [f"key {n}" for n in range(3000)]
    before = [sys.getrefcount(key) for key in keys]
    held = Summed(folds.sum)
    held.take((key, 1) for key in keys * 2)
    del held
    assert [sys.getrefcount(key) for key in keys] == before


@steady(max_examples=30)
@given(streams, st.sampled_from([folds.sum, folds.count]), st.sampled_from([1, 3000, 1 << 30]))
def test_a_spill_is_the_same_without_compiled_code(pairs, fold, limit):
    pairs = [pair for pair in pairs if type(pair[0]) is not Text]

    def spilled() -> bytes:
        with tempfile.TemporaryDirectory() as directory:
            buffer = SortBuffer(f"{directory}/spill", 3, limit, combiner=fold)
            stream = iter(pairs)
            while buffer.fill(stream):
                pass
            buffer.finish()
            return Path(directory, "spill").read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        compiled = spilled()
        patch.setattr(gather, "Sums", None)
        assert spilled() == compiled
