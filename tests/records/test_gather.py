"""However pairs are held until they are spilled: the same spill, and memory within the limit."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from itertools import chain

import pytest
from carried import keys as any_keys
from carried import read_spill, shape, steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.records import folds, sortbuffer
from pytxmr.records.gather import Folded, Grouped, Listed, average_bytes
from pytxmr.records.partition import RangePartitioner, stable_partition
from pytxmr.records.sortbuffer import SortBuffer

TINY, SMALL, BIG = 1, 60_000, 1 << 30


def own(key, values):
    yield key, max(values)


COMBINERS = {
    "none": None,
    "own": own,
    **{fold.name: fold for fold in (folds.sum, folds.count, folds.mean, folds.distinct)},
    **{fold.name: fold for fold in (folds.first, folds.last, folds.min, folds.top(2))},
}
combined = pytest.mark.parametrize("combiner", COMBINERS.values(), ids=COMBINERS)


def filled(buffer, pairs):
    stream = iter(pairs)
    while buffer.fill(stream):
        yield buffer
    yield buffer


def spill_of(path, pairs, limit, combiner, partitioner=stable_partition):
    """The groups of each partition after `fill`, and the ways in which pairs were held."""
    buffer = SortBuffer(str(path), 2, limit, partitioner, combiner)
    ways = {type(buffer._held) for buffer in filled(buffer, pairs)}
    buffer.finish()
    assert buffer.pairs_in == len(pairs)
    return read_spill(path), ways


def nearly_unique(number):
    """A tenth of the keys come twice, far from each other."""
    drawn = random.Random(4)
    pairs = [(f"key {n % (number * 9 // 10)}", n) for n in range(number)]
    drawn.shuffle(pairs)
    return pairs


@combined
@pytest.mark.parametrize("limit", [SMALL, BIG])
@pytest.mark.parametrize("ranges", [False, True])
def test_listing_keys_that_hardly_repeat_makes_no_difference(
    tmp_path, monkeypatch, combiner, limit, ranges
):
    pairs = nearly_unique(3000)
    partitioner = RangePartitioner([key for key, _ in pairs[:50]]) if ranges else stable_partition
    monkeypatch.setattr(sortbuffer, "_PROBE_PAIRS", 1 << 30)
    expected, ways = spill_of(tmp_path / "held", pairs, limit, combiner, partitioner)
    (way,) = ways
    assert issubclass(way, Folded if isinstance(combiner, folds.Fold) else Grouped)
    monkeypatch.setattr(sortbuffer, "_PROBE_PAIRS", 100)
    found, ways = spill_of(tmp_path / "listed", pairs, limit, combiner, partitioner)
    assert Listed in ways
    assert found == expected


@combined
def test_keys_that_repeat_are_not_listed(tmp_path, monkeypatch, combiner):
    monkeypatch.setattr(sortbuffer, "_PROBE_PAIRS", 100)
    pairs = [(n % 1000, n) for n in range(2000)]
    random.Random(3).shuffle(pairs)
    _, ways = spill_of(tmp_path / "spill", [(n % 9, n) for n in range(200)] + pairs, BIG, combiner)
    assert Listed not in ways


@steady(max_examples=60)
@given(
    st.lists(any_keys, min_size=1, max_size=9),
    st.integers(0, 300),
    st.sampled_from(list(COMBINERS)),
    st.sampled_from([TINY, SMALL, BIG]),
    st.sampled_from([0, 20, 1 << 30]),
    st.lists(st.integers(0, 90), min_size=1, max_size=4),
)
def test_columns_and_streams_give_the_same_spill(
    some_keys, number, name, limit, probe_pairs, sizes
):
    drawn = random.Random(number)
    pairs = [(drawn.choice(some_keys), drawn.randrange(99)) for _ in range(number)]
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sortbuffer, "_PROBE_PAIRS", probe_pairs)
        expected, _ = spill_of(f"{directory}/stream", pairs, limit, COMBINERS[name])
        buffer = SortBuffer(f"{directory}/columns", 2, limit, stable_partition, COMBINERS[name])
        at = turn = 0
        while at < number:
            size = sizes[turn % len(sizes)] + (turn >= len(sizes))
            some = pairs[at : at + size]
            keys, values = [key for key, _ in some], [value for _, value in some]
            buffer.add(keys, values)
            # They are the user's, who may go on with them.
            assert (keys, values) == ([key for key, _ in some], [value for _, value in some])
            at, turn = at + size, turn + 1
        buffer.finish()
        assert buffer.pairs_in == number
        found = read_spill(f"{directory}/columns")
    assert joined(found) == joined(expected)


def joined(partitions):
    """What was spilled, without where blocks begin; and of types and NaN what they look like."""
    found = []
    for groups in partitions:
        lists: dict = {}
        for key, values in groups:
            lists.setdefault(shape(key), []).extend(map(shape, values))
        found.append(list(lists.items()))
    return found


STEP = 100


@pytest.mark.parametrize("length", [*range(60, 70), *range(98, 103), *range(160, 168), 199, 1000])
@pytest.mark.parametrize("combiner", [None, own, folds.sum, folds.top(2)])
def test_as_many_pairs_are_counted_as_were_taken(tmp_path, monkeypatch, length, combiner):
    monkeypatch.setattr(sortbuffer, "_MOST_PAIRS_PER_STEP", STEP)
    pulled = [0]

    def stream():
        for n in range(length):
            pulled[0] += 1
            yield n, n

    buffer = SortBuffer(str(tmp_path / "spill"), 1, BIG, combiner=combiner)
    pairs = stream()
    while buffer.fill(pairs):
        assert buffer.pairs_in == pulled[0] == min(length, -(-pulled[0] // STEP) * STEP)
    assert buffer.pairs_in == pulled[0] == length
    buffer.finish()
    assert buffer.spilled_pairs == length


# Memory

LIMIT = 1 << 20


def texts(number):
    return [f"some text {number}", number, f"more text of it {number}"]


STREAMS = {
    "unique": lambda: ((f"key{n * 7919 % 100_003}", n) for n in range(20_000)),
    "repeated": lambda: ((f"key{n % 3000}", n) for n in range(40_000)),
    "few": lambda: ((f"key{n % 40}", n * 1000) for n in range(40_000)),
    "long": lambda: ((n, "x" * 200 + str(n)) for n in range(8000)),
    "large": lambda: ((n, "y" * 20_000 + str(n)) for n in range(200)),
    "tuples": lambda: ((f"key{n % 500}", tuple(texts(n))) for n in range(15_000)),
    "keys are tuples": lambda: ((tuple(texts(n)), n) for n in range(10_000)),
    "lists": lambda: ((f"key{n % 400}", texts(n) * 4) for n in range(4000)),
    "one key is large": lambda: (
        ("key" if n % 10 else f"key{n % 2000}", texts(n)) for n in range(16_000)
    ),
    "deep": lambda: ((f"key{n % 400}", {"a": [texts(n), (texts(n),)]}) for n in range(4000)),
}


def joining(key, values):
    yield key, list(chain.from_iterable(values))


HELD = [
    *((stream, None) for stream in STREAMS),
    *((stream, own) for stream in ("unique", "repeated", "tuples")),
    ("lists", joining),
    ("one key is large", joining),
    *(
        (stream, fold)
        for fold in (folds.sum, folds.mean, folds.distinct, folds.top(3), folds.top(5000))
        for stream in ("unique", "repeated", "few")
    ),
    *((stream, folds.last) for stream in ("unique", "long", "large", "keys are tuples")),
    *((stream, fold) for stream in ("tuples",) for fold in (folds.distinct, folds.top(5000))),
    *((stream, folds.union) for stream in ("tuples", "lists")),
]


def most_bytes(buffer, pairs):
    """The most that was allocated while the buffer was filled, and spilled."""
    tracemalloc.start()
    try:
        for _ in filled(buffer, pairs):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("stream", "combiner"),
    HELD,
    ids=[f"{s}-{getattr(c, 'name', None) or getattr(c, '__name__', c)}" for s, c in HELD],
)
def test_memory_follows_the_limit(tmp_path, monkeypatch, stream, combiner):
    monkeypatch.setattr(sortbuffer, "_PROBE_PAIRS", 1000)
    buffer = SortBuffer(str(tmp_path / "spill"), 3, LIMIT, combiner=combiner)
    peak = most_bytes(buffer, STREAMS[stream]())
    # To sort and pack what is held takes about as much again; beside it there are a block and a
    # file's buffer.
    assert peak < 2 * LIMIT + (512 << 10)
    # Nor may it be left unused, so that runs are many.
    assert peak > 0.5 * LIMIT or not buffer._runs
    buffer.abort()


@pytest.mark.parametrize(
    ("stream", "combiner"),
    [
        ("few", own),
        ("few", folds.sum),
        ("few", folds.top(3)),
        ("equal", folds.distinct),
        ("equal", folds.union),
    ],
)
def test_what_combining_makes_small_is_not_spilled_in_runs(tmp_path, stream, combiner):
    equal = (("key", (n % 9, 1)) for n in range(40_000))
    pairs = equal if stream == "equal" else STREAMS[stream]()
    buffer = SortBuffer(str(tmp_path / "spill"), 3, LIMIT // 2, combiner=combiner)
    for _ in filled(buffer, pairs):
        assert buffer._runs == []
    buffer.abort()


@pytest.mark.parametrize(
    ("thing", "smaller"),
    [
        ("x" * 100, "x" * 10),
        (["x" * 100], ["x" * 10]),
        (("x" * 100, 1), ("x" * 10, 1)),
        ({"a": "x" * 100}, {"a": "x" * 10}),
        ({"x" * 100: 1}, {"x" * 10: 1}),
        ([[("x" * 100,)]], [[("x" * 10,)]]),
        (["x" * 100] * 2, ["x" * 100]),
        ({f"{n}" for n in range(2000)}, {f"{n}" for n in range(1000)}),
    ],
    ids=range(8),
)
def test_what_is_inside_counts(thing, smaller):
    assert average_bytes([thing]) > average_bytes([smaller]) + 80


def test_what_contains_itself_is_measured_all_the_same():
    cyclic: list = []
    cyclic.append(cyclic)
    assert 0 < average_bytes([cyclic]) < 1000
    assert average_bytes([]) == 0
