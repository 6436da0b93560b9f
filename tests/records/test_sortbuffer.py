"""However small the buffer, and however many runs: the same groups, and no file left behind."""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter, defaultdict, namedtuple
from itertools import count

import pytest
from carried import blocks_of, keys, read_spill, shape, steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.errors import AttemptFailed, Uncarryable
from pytxmr.records import folds, sortbuffer
from pytxmr.records.codec import one_nan
from pytxmr.records.order import sort_key
from pytxmr.records.partition import stable_partition
from pytxmr.records.sortbuffer import SortBuffer

TINY, BIG = 1, 1 << 30


def add_up(key, numbers):
    yield key, sum(numbers)


def spilled(path, pairs, limit_bytes, partitions=3, **options):
    """Put the pairs through a buffer; returns it and the groups of each partition."""
    buffer = SortBuffer(str(path), partitions, limit_bytes, **options)
    stream = iter(pairs)
    try:
        while buffer.fill(stream):
            pass
        ranges = buffer.finish()
    except BaseException:
        buffer.abort()
        raise
    parts = [one_group_a_key(part) for part in read_spill(path)]
    assert [part.pairs for part in ranges] == [sum(len(vs) for _, vs in part) for part in parts]
    return buffer, parts


def one_group_a_key(groups):
    """Groups that go on in further blocks joined; keys must be in order."""
    found: list = []
    for key, some in groups:
        if found and sort_key(found[-1][0]) == sort_key(key):
            found[-1][1].extend(some)
        else:
            assert not found or sort_key(found[-1][0]) < sort_key(key)
            found.append((key, list(some)))
    return found


def words(number, seed=1):
    drawn = random.Random(seed)
    return [(f"w{int(drawn.paretovariate(0.6)) % 500}", drawn.randrange(9)) for _ in range(number)]


def unordered(parts):
    return [[(shape(key), sorted(map(repr, vs))) for key, vs in part] for part in parts]


@pytest.mark.parametrize("combiner", [None, add_up])
@pytest.mark.parametrize("pairs", [0, 1, 63, 64, 65, 640, 6000])
def test_a_tiny_buffer_gives_what_a_big_one_does(tmp_path, pairs, combiner):
    _, big = spilled(tmp_path / "big", words(pairs), BIG, combiner=combiner)
    _, tiny = spilled(tmp_path / "tiny", words(pairs), TINY, combiner=combiner)
    if combiner is None:
        assert unordered(tiny) == unordered(big)
    sums: Counter = Counter()
    for key, number in words(pairs):
        sums[key] += number
    for parts in (big, tiny):
        assert {key: sum(vs) for part in parts for key, vs in part} == sums
        for number, part in enumerate(parts):
            assert all(stable_partition(key, 3) == number for key, _ in part)


def test_more_runs_than_are_merged_at_once_are_merged_in_passes(tmp_path, monkeypatch):
    passes = []
    merge_spills = sortbuffer.merge_spills
    monkeypatch.setattr(
        sortbuffer,
        "merge_spills",
        lambda paths, *rest: (passes.append(len(paths)), merge_spills(paths, *rest)),
    )
    buffer, tiny = spilled(tmp_path / "tiny", words(64 * 70), TINY)
    assert passes == [64, 6, 2]
    assert buffer.spilled_pairs == 3 * 64 * 70
    passes.clear()
    monkeypatch.setattr(sortbuffer, "FAN_IN", 3)
    _, narrow = spilled(tmp_path / "narrow", words(64 * 70), TINY)
    assert max(passes) == 3
    assert len(passes) == 24 + 8 + 3 + 1
    _, big = spilled(tmp_path / "big", words(64 * 70), BIG)
    assert unordered(tiny) == unordered(narrow) == unordered(big)


def test_a_combiner_shrinks_what_is_spilled(tmp_path):
    pairs = [(n % 10, 1) for n in range(5000)]
    buffer, parts = spilled(tmp_path / "spill", pairs, 40_000, combiner=add_up)
    assert buffer.spilled_pairs == 10
    assert sorted(group for part in parts for group in part) == [(n, [500]) for n in range(10)]


def test_a_combiner_may_drop_a_key(tmp_path):
    def even_only(key, values):
        return [(key, 0)] if key % 2 == 0 else []

    for limit in (TINY, BIG):
        pairs = [(n % 10, 1) for n in range(500)]
        _, parts = spilled(tmp_path / f"spill{limit}", pairs, limit, combiner=even_only)
        assert sorted(key for part in parts for key, _ in part) == [0, 2, 4, 6, 8]


def test_a_combiner_is_not_called_for_a_single_value(tmp_path):
    def refuse(key, values):
        raise AssertionError("called")

    _, parts = spilled(tmp_path / "spill", [(n, n) for n in range(500)], TINY, combiner=refuse)
    assert sorted(group for part in parts for group in part) == [(n, [n]) for n in range(500)]


@pytest.mark.parametrize("limit", [TINY, 20_000, BIG])
@pytest.mark.parametrize("pairs", [0, 1, 64, 65, 1000, 5001])
@pytest.mark.parametrize("combiner", [None, add_up])
def test_pairs_in_is_exact(tmp_path, limit, pairs, combiner):
    buffer, _ = spilled(tmp_path / "spill", words(pairs), limit, combiner=combiner)
    assert buffer.pairs_in == pairs
    assert {path.name for path in tmp_path.iterdir()} == {"spill", "spill.index"}


def test_equal_pairs_give_equal_files(tmp_path):
    for name in ("one", "two"):
        spilled(tmp_path / name, words(3000), TINY)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one.index").read_bytes() == (tmp_path / "two.index").read_bytes()


@pytest.mark.parametrize("fills", range(5))
def test_abort_removes_every_file(tmp_path, fills):
    buffer = SortBuffer(str(tmp_path / "spill"), 2, TINY)
    stream = iter(words(1000))
    for _ in range(fills):
        assert buffer.fill(stream)
    assert len(list(tmp_path.iterdir())) == 2 * fills
    buffer.abort()
    assert list(tmp_path.iterdir()) == []


def test_abort_after_finish_removes_the_spill(tmp_path):
    buffer, _ = spilled(tmp_path / "spill", words(1000), TINY)
    buffer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("calls", range(1, 40, 3))
def test_abort_removes_every_file_also_after_a_failure_in_a_merge(tmp_path, monkeypatch, calls):
    monkeypatch.setattr(sortbuffer, "FAN_IN", 2)
    called = count(1)

    def fragile(key, values):
        if next(called) == calls:
            raise ZeroDivisionError("on purpose")
        return [(key, value) for value in values]

    buffer = SortBuffer(str(tmp_path / "spill"), 2, TINY, combiner=fragile)
    stream = iter([(n % 33, n) for n in range(64 * 5)])

    def fill_and_finish():
        while buffer.fill(stream):
            pass
        buffer.finish()

    with pytest.raises(AttemptFailed, match="the combiner raised ZeroDivisionError: on purpose"):
        fill_and_finish()
    buffer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [TINY, BIG])
@pytest.mark.parametrize(
    ("yielded", "problem"),
    [
        (("another key", 1), "the key 'another key': not the one it was given"),
        ("kv", "yielded 'kv': not a pair"),
        (7, "yielded 7: not a pair"),
        ((1, 2, 3), r"yielded \(1, 2, 3\): not a pair"),
    ],
    ids=ascii,
)
def test_what_a_combiner_must_not_yield_is_refused_at_any_size(tmp_path, limit, yielded, problem):
    def wrong(key, values):
        yield yielded

    with pytest.raises(AttemptFailed, match=problem) as caught:
        spilled(tmp_path / "spill", [("k", 1)] * 200, limit, combiner=wrong)
    assert caught.value.details == {"where": "key 'k'", "final": True}


@pytest.mark.parametrize("limit", [TINY, BIG])
@pytest.mark.parametrize("same", [(1, 1.0, True), (True, 1, 1.0), (0.0, False, -0.0)])
def test_numbers_that_are_equal_are_one_group_under_the_one_seen_first(tmp_path, limit, same):
    pairs = [(same[n // 64], n) for n in range(192)]
    nested = [((key, "x"), value) for key, value in pairs]
    _, parts = spilled(tmp_path / "spill", [*pairs, *nested], limit)
    groups = sorted((group for part in parts for group in part), key=lambda g: sort_key(g[0]))
    assert [shape(key) for key, _ in groups] == [shape(same[0]), shape((same[0], "x"))]
    assert [sorted(vs) for _, vs in groups] == [list(range(192))] * 2


@pytest.mark.parametrize("limit", [TINY, BIG])
def test_every_nan_is_one_group(tmp_path, limit):
    pairs = [(float("nan"), n) for n in range(200)]
    pairs += [((1, float("nan")), n) for n in range(200)]
    _, parts = spilled(tmp_path / "spill", pairs, limit)
    bare, inside = sorted((g for part in parts for g in part), key=lambda g: sort_key(g[0]))
    assert math.isnan(bare[0])
    assert math.isnan(inside[0][1])
    assert sorted(bare[1]) == sorted(inside[1]) == list(range(200))


@steady(max_examples=60)
@given(
    st.lists(keys, min_size=1, max_size=8),
    st.integers(0, 400),
    st.sampled_from([TINY, 30_000, BIG]),
)
def test_mixed_keys_are_grouped_as_a_dict_groups_them(some_keys, pairs, limit):
    drawn = random.Random(pairs)
    stream = [(drawn.choice(some_keys), n) for n in range(pairs)]
    expected = defaultdict(list)
    for key, (_, value) in zip(one_nan([key for key, _ in stream]), stream, strict=True):
        expected[key].append(value)
    with tempfile.TemporaryDirectory() as directory:
        buffer, parts = spilled(f"{directory}/spill", stream, limit, partitions=2)
    assert buffer.pairs_in == pairs
    found = {shape(key): sorted(vs) for part in parts for key, vs in part}
    assert found == {shape(key): vs for key, vs in expected.items()}


def test_values_of_a_key_keep_the_order_in_which_they_came(tmp_path):
    for limit in (TINY, BIG):
        _, parts = spilled(tmp_path / f"spill{limit}", [(n % 7, n) for n in range(1000)], limit)
        for key, vs in (group for part in parts for group in part):
            assert vs == list(range(key, 1000, 7))


def test_they_keep_it_also_where_a_key_fills_many_blocks_of_many_runs(tmp_path):
    with blocks_of(7):
        _, parts = spilled(tmp_path / "spill", [(n % 3, n) for n in range(2000)], TINY)
    for key, vs in (group for part in parts for group in part):
        assert vs == list(range(key, 2000, 3))


def test_a_partitioner_decides_where_a_key_goes(tmp_path):
    _, parts = spilled(
        tmp_path / "spill", words(500), TINY, 4, partitioner=lambda key, n: len(key) % n
    )
    for number, part in enumerate(parts):
        assert all(len(key) % 4 == number for key, _ in part)


@pytest.mark.parametrize("answer", [-1, 3, 10**30, 1.0, True, None, "0"])
def test_a_partition_that_there_is_not_is_refused(tmp_path, answer):
    with pytest.raises(AttemptFailed, match="must give an int from 0 to 2") as caught:
        spilled(tmp_path / "spill", [("k", 1)], BIG, partitioner=lambda key, n: answer)
    assert f"gave {answer!r} for the key 'k'" in caught.value.message
    assert caught.value.details["final"] is True


@pytest.mark.parametrize("bad", ["ab", b"ab", {1, 2}, {1: 2, 3: 4}, 7, None, (1,), (1, 2, 3), [1]])
@pytest.mark.parametrize("at", [0, 5])
def test_what_is_no_pair_is_not_taken_for_one(tmp_path, bad, at):
    stream = iter([("k", 1)] * at + [bad] + [("k", 1)] * 5)
    buffer = SortBuffer(str(tmp_path / "spill"), 1, BIG)
    with pytest.raises((TypeError, ValueError)):
        buffer.fill(stream)


@pytest.mark.parametrize("bad", [7, None, (), (1,), (1, 2, 3), [1], "a", "abc", {1: 2}])
@pytest.mark.parametrize("at", [64, 90, 5000])
@pytest.mark.parametrize("combiner", [None, add_up, folds.sum, folds.count, folds.first])
@pytest.mark.parametrize("listed", [False, True])
def test_nor_is_it_deep_in_a_stream(tmp_path, monkeypatch, bad, at, combiner, listed):
    monkeypatch.setattr(sortbuffer, "_PROBE_PAIRS", 1000 if listed else 1 << 30)
    pairs = [*((n, 1) for n in range(at)), bad, *((n, 1) for n in range(9))]
    buffer = SortBuffer(str(tmp_path / "spill"), 1, 300_000, combiner=combiner)
    stream = iter(pairs)

    def fill():
        while buffer.fill(stream):
            pass

    with pytest.raises((TypeError, ValueError)):
        fill()


def test_lists_and_named_tuples_of_two_are_pairs(tmp_path):
    pair = namedtuple("pair", "key value")
    _, parts = spilled(tmp_path / "spill", [["a", 1], pair("b", 2)], BIG, 1)
    assert parts == [[("a", [1]), ("b", [2])]]


@pytest.mark.parametrize(
    "key", [frozenset({1}), ((((("x", frozenset()),),),),), object()], ids=["set", "deep", "object"]
)
def test_a_hashable_thing_that_is_no_key_is_refused(tmp_path, key):
    for others in ([], [("a", 1)], [(1, 1)]):
        with pytest.raises(Uncarryable, match="cannot be a key"):
            spilled(tmp_path / "spill", [*others, (key, 1)], BIG)


def test_memory_follows_the_limit(tmp_path):
    limit = 200_000
    buffer = SortBuffer(str(tmp_path / "spill"), 1, limit)
    stream = iter([(n, "x" * 100) for n in range(20_000)])
    most = 0
    while buffer.fill(stream):
        most = max(most, buffer._held_pairs)
    assert most * 100 < limit
    buffer.finish()
