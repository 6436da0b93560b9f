"""Merging gives what sorting and grouping everything at once would, in bounded memory."""

from __future__ import annotations

import os
import random
import tempfile
import tracemalloc
from itertools import islice

import pytest
from carried import blocks_of, keys, shape, steady, texts, write_spill
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.errors import SpillDamaged
from pytxmr.model import Segment
from pytxmr.records import merge as merging
from pytxmr.records.codec import one_nan
from pytxmr.records.columns import Groups
from pytxmr.records.merge import SegmentMerge, merge
from pytxmr.records.order import order_of, sort_key
from pytxmr.records.reducing import Calls
from pytxmr.records.spill import Block, SpillWriter, open_spill, read_blocks


def grouped(pairs):
    """The reference: keys in order, each with its values; of equal keys the first one stands."""
    groups: dict = {}
    for key, (_, value) in zip(one_nan([key for key, _ in pairs]), pairs, strict=True):
        groups.setdefault(key, []).append(value)
    return [(key, groups[key]) for key in sorted(groups, key=sort_key)]


def reducing(merged):
    """Groups as a reducer gets them, one at a time: ``pairs()`` gives ``(key, values)``."""
    return Calls(merged, lambda key, values: [(key, values)])


def groups_of(merged):
    return reducing(merged).pairs()


def blocks(groups, pairs_per_block):
    """A run: blocks of at most so many pairs, as a spill would have them."""
    taken: list = []
    for key, values in groups:
        for at in range(0, len(values), pairs_per_block):
            part = values[at : at + pairs_per_block]
            if taken and sum(len(some) for _, some in taken) + len(part) > pairs_per_block:
                yield block(taken)
                taken = []
            taken.append((key, part))
    if taken:
        yield block(taken)


def block(groups):
    names = [key for key, _ in groups]
    counts = [len(values) for _, values in groups]
    values = [value for _, some in groups for value in some]
    return Block(names, counts if max(counts) > 1 else None, values, order_of(names))


runs_of_pairs = st.one_of(
    *(
        st.lists(st.lists(st.tuples(kind, st.integers(0, 99)), max_size=12), max_size=6)
        for kind in (keys, texts, st.integers(0, 5), st.sampled_from([1, 1.0, True, "1", None]))
    )
)


@steady(max_examples=250)
@given(runs_of_pairs, st.integers(1, 5))
def test_merged_runs_are_what_sorting_everything_gives(runs, pairs_per_block):
    merged = merge([blocks(grouped(run), pairs_per_block) for run in runs])
    found = [(key, list(values)) for key, values in groups_of(merged)]
    expected = grouped([pair for run in runs for pair in run])
    assert [shape(key) for key, _ in found] == [shape(key) for key, _ in expected]
    assert [sorted(values) for _, values in found] == [sorted(values) for _, values in expected]


@steady(max_examples=150)
@given(runs_of_pairs, st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_values_left_unread_are_skipped(runs, pairs_per_block, reads):
    merged = merge([blocks(grouped(run), pairs_per_block) for run in runs])
    expected = grouped([pair for run in runs for pair in run])
    seen = []
    groups = reducing(merged)
    for at, (key, values) in enumerate(groups.pairs()):
        seen.append(shape(key))
        assert set(islice(values, reads[at % len(reads)])) <= set(expected[at][1])
    assert seen == [shape(key) for key, _ in expected]
    assert groups.groups_in == len(expected)


def test_no_runs_and_empty_runs_give_nothing():
    assert list(groups_of(merge([]))) == []
    assert list(groups_of(merge([iter(()), iter(())]))) == []


@pytest.mark.parametrize("pairs_per_block", [1, 2, 9])
def test_groups_tell_the_key_at_hand_and_how_many_there_were(pairs_per_block):
    run = [("a", [1]), ("b", [2, 3]), ("c", [4]), ("d", [5])]
    groups = reducing(merge([blocks(run, pairs_per_block)]))
    assert groups.where() == "before the first key"
    for key, _ in groups.pairs():
        assert groups.where() == f"key {key!r}"
    assert groups.groups_in == 4


def test_the_order_of_runs_is_kept_within_a_key():
    runs = [[("k", [f"run{n}"])] for n in range(5)]
    merged = merge([blocks(run, 9) for run in runs])
    assert [list(values) for _, values in groups_of(merged)] == [[f"run{n}" for n in range(5)]]


@steady(max_examples=250)
@given(
    st.lists(st.lists(st.sampled_from([1, True, 1.0, 2, 3, float("nan")]), max_size=9), max_size=5),
    st.integers(1, 4),
)
def test_also_when_the_key_goes_on_in_many_blocks_of_several_runs(runs, pairs_per_block):
    runs = [[(key, (n, at)) for at, key in enumerate(run)] for n, run in enumerate(runs)]
    merged = merge([blocks(grouped(run), pairs_per_block) for run in runs])
    found = [(shape(key), list(values)) for key, values in groups_of(merged)]
    expected = grouped([pair for run in runs for pair in run])
    assert found == [(shape(key), values) for key, values in expected]


def counted(run, pulled):
    for one in run:
        pulled[0] += 1
        yield one


@pytest.mark.parametrize("runs", [1, 2, 7])
def test_one_key_larger_than_memory_streams_block_by_block(runs):
    pulled = [0]
    lots = [("a", [0]), ("k", list(range(2000))), ("z", [0])]
    merged = merge([counted(blocks(lots, 10), pulled) for _ in range(runs)])
    for key, values in groups_of(merged):
        if key != "k":
            continue
        for read, _ in enumerate(values, 1):
            assert pulled[0] <= read / 10 + 3 * runs
        assert read == 2000 * runs


def test_many_keys_stream_block_by_block():
    pulled = [0]
    runs = [[(n, [n]) for n in range(start, 6000, 3)] for start in range(3)]
    merged = merge([counted(blocks(run, 10), pulled) for run in runs])
    for read, (key, values) in enumerate(groups_of(merged)):
        assert key == read
        assert list(values) == [key]
        assert pulled[0] <= read / 10 + 7


@pytest.mark.parametrize(
    "value_of", [lambda n: n, lambda n: None, lambda n: (n, "a"), lambda n: [n], lambda n: {n}]
)
def test_a_merge_of_as_many_runs_as_there_may_be_fits_beside_a_small_sort_buffer(
    tmp_path, value_of
):
    runs, opened = 4, []
    for run in range(runs):
        keys = list(range(run, 20_000 * runs, runs))
        writer = SpillWriter(str(tmp_path / f"{run}"), 1)
        writer.write(0, Groups(keys, None, list(map(value_of, keys))))
        writer.close()
        opened.append(open_spill(writer.path))
    tracemalloc.start()
    try:
        for _ in merge([read_blocks(fd, part.offset, part.length) for fd, (part,) in opened]):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        for fd, _ in opened:
            os.close(fd)
    assert peak / runs * merging.FAN_IN < 150 << 20


def test_damage_swallowed_by_a_reducer_comes_up_all_the_same():
    def run():
        yield block([("a", [1]), ("b", [1, 2])])
        raise SpillDamaged("on purpose")

    seen = []

    def swallow():
        for key, values in groups_of(merge([iter(run())])):
            seen.append(key)
            try:
                list(values)
            except Exception:
                pass

    # The run's next block is read as soon as one is used up, before the first group is given out.
    with pytest.raises(SpillDamaged, match="on purpose"):
        swallow()


def test_damage_within_a_group_comes_up_after_it_even_if_swallowed():
    batches = iter([Groups(["a", "b"], None, [1, 2])])

    def failing():
        yield from batches
        raise SpillDamaged("on purpose")

    seen = []

    def swallow():
        for key, values in groups_of(failing()):
            try:
                seen.append((key, list(values)))
            except SpillDamaged:
                seen.append((key, "swallowed"))

    with pytest.raises(SpillDamaged, match="on purpose"):
        swallow()
    assert seen == [("a", [1]), ("b", "swallowed")]


def segments_of(directory, runs):
    made = []
    for number, run in enumerate(runs):
        path = write_spill(os.path.join(directory, f"in{number}"), [[("skipped", [0])], run])
        fd, (_, part) = open_spill(path)
        os.close(fd)
        made.append(Segment(path, part.offset, part.length))
    return made


def some_runs(number, seed=5):
    drawn = random.Random(seed)
    return [
        [(drawn.choice("abcdefgh") * drawn.randrange(1, 4), drawn.randrange(50)) for _ in range(20)]
        for _ in range(number)
    ]


@pytest.mark.parametrize(("fan_in", "number"), [(64, 70), (64, 64), (3, 30), (2, 9), (3, 3)])
def test_more_segments_than_are_merged_at_once_are_merged_in_passes(
    tmp_path, monkeypatch, fan_in, number
):
    monkeypatch.setattr(merging, "FAN_IN", fan_in)
    runs = some_runs(number)
    with blocks_of(7):
        segments = segments_of(tmp_path, map(grouped, runs))
        before = set(os.listdir(tmp_path)), len(os.listdir("/dev/fd"))
        merged = SegmentMerge(segments, str(tmp_path / "scratch"))
        found = [(key, sorted(values)) for key, values in groups_of(merged)]
        made = {name for name in os.listdir(tmp_path) if name.startswith("scratch")}
        assert bool(made) == (number > fan_in)
        merged.close()
    expected = grouped([pair for run in runs for pair in run])
    assert found == [(key, sorted(values)) for key, values in expected]
    assert (set(os.listdir(tmp_path)), len(os.listdir("/dev/fd"))) == before


def test_passes_open_no_more_files_than_are_merged_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "FAN_IN", 3)
    segments = segments_of(tmp_path, map(grouped, some_runs(20)))
    merged = SegmentMerge(segments, str(tmp_path / "scratch"))
    for _ in merged:
        assert len(merged._fds) <= 3
    merged.close()


@pytest.mark.parametrize("read", [0, 1, 3])
def test_closing_early_leaves_no_scratch_file(tmp_path, monkeypatch, read):
    monkeypatch.setattr(merging, "FAN_IN", 2)
    segments = segments_of(tmp_path, map(grouped, some_runs(7)))
    before = set(os.listdir(tmp_path)), len(os.listdir("/dev/fd"))
    merged = SegmentMerge(segments, str(tmp_path / "scratch"))
    list(islice(merged, read))
    merged.close()
    assert (set(os.listdir(tmp_path)), len(os.listdir("/dev/fd"))) == before


@pytest.mark.parametrize("fan_in", [2, 64])
@pytest.mark.parametrize("bad", [0, 3, 6])
def test_a_damaged_segment_is_named_and_no_scratch_file_left(tmp_path, monkeypatch, fan_in, bad):
    monkeypatch.setattr(merging, "FAN_IN", fan_in)
    segments = segments_of(tmp_path, map(grouped, some_runs(7)))
    before = set(os.listdir(tmp_path)), len(os.listdir("/dev/fd"))
    with open(segments[bad].path, "r+b") as file:
        file.seek(segments[bad].offset + 40)
        file.write(b"\xff\xff\xff")
    merged = SegmentMerge(segments, str(tmp_path / "scratch"))
    with pytest.raises(SpillDamaged) as caught:
        list(merged)
    assert caught.value.details["path"] == segments[bad].path
    assert segments[bad].path in caught.value.message
    merged.close()
    assert (set(os.listdir(tmp_path)), len(os.listdir("/dev/fd"))) == before


def test_a_segment_that_is_gone_is_damage_and_named(tmp_path):
    segments = segments_of(tmp_path, map(grouped, some_runs(2)))
    os.unlink(segments[1].path)
    merged = SegmentMerge(segments, str(tmp_path / "scratch"))
    with pytest.raises(SpillDamaged, match="No such file") as caught:
        list(merged)
    assert caught.value.details["path"] == segments[1].path
    merged.close()


@steady(max_examples=40)
@given(runs_of_pairs, st.integers(1, 4))
def test_segments_in_files_give_what_sorting_everything_gives(runs, pairs_per_block):
    with tempfile.TemporaryDirectory() as directory, blocks_of(pairs_per_block):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(merging, "FAN_IN", 2)
            segments = segments_of(directory, map(grouped, runs))
            merged = SegmentMerge(segments, os.path.join(directory, "scratch"))
            found = [(shape(key), sorted(values)) for key, values in groups_of(merged)]
            merged.close()
    expected = grouped([pair for run in runs for pair in run])
    assert found == [(shape(key), sorted(values)) for key, values in expected]
