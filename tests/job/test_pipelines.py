"""What views say is what their steps compute: through the worker's own map and reduce attempts."""

from __future__ import annotations

import itertools
import math
import os
import random
import re
import shutil
import subprocess
import sys
import weakref
from collections import Counter
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytxmr
from pytxmr.client import JobOptions, make_specs
from pytxmr.errors import AttemptFailed, BadInput, PeerBroke
from pytxmr.job import context, pipeline
from pytxmr.job.operations import Input
from pytxmr.job.pipeline import View
from pytxmr.job.steps import Step, compile_views
from pytxmr.model import FileRange, InputSplit, JobCode, JobSpec, Segment
from pytxmr.records import folds
from pytxmr.records.attempt import bind_sample
from pytxmr.records.codec import one_nan, pack_column, unpack_column
from pytxmr.records.columns import Groups, WithoutParts
from pytxmr.records.mapping import map_to_part, run_map
from pytxmr.records.order import sort_key
from pytxmr.records.pairfile import PairReader, PairWriter
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.readers import Reading
from pytxmr.records.reducing import run_reduce
from pytxmr.sampling import sample_of
from pytxmr.storage.output import OutputDirectory
from pytxmr.submission import plan_job
from pytxmr.worker import bind_sides

REDUCERS = 2


def done(fraction: float) -> None:
    """Nobody wants to know."""


SPLIT_BYTES = 40
MEMORY_BYTES = 2 << 20


def run_stage(
    stage, directory: Path, inputs: dict[str | None, Path], last: bool, split_bytes: int
) -> None:
    """Run a step as workers do; its parts are in ``directory/NUMBER``."""
    place = directory / str(stage.number)
    place.mkdir()
    partitions = REDUCERS if stage.reducers is None else stage.reducers
    segments: list[list[Segment]] = [[] for _ in range(partitions)]
    maps = itertools.count()
    sides = [str(directory / str(number)) for number in stage.sides]
    bind_sides(stage.functions[0], sides, MEMORY_BYTES)
    read = [
        (at, str(path))
        for at, source in enumerate(stage.sources)
        for path in (
            [inputs[source.of.name]]
            if isinstance(source.of, Input)
            else sorted((directory / str(source.of)).glob("part-*"))
        )
    ]
    functions = replace(stage.functions[0], sources=stage.functions)
    if isinstance(functions.partitioner, RangePartitioner):
        inputs_read = [(path, source) for source, path in read]
        bind_sample(functions, unpack_column(sample_of(functions, inputs_read)))
    for number, functions in enumerate(stage.functions):
        if last and functions.writer is None:
            functions = replace(functions, writer=PairWriter())
        for path in (path for at, path in read if at == number):
            size = os.path.getsize(path)
            for start in range(0, size, split_bytes):
                split = InputSplit((FileRange(path, start, min(size, start + split_bytes)),))
                task = next(maps)
                if not partitions:
                    map_to_part(functions, split, str(place / f"part-{task:05}"), done)
                    continue
                spill = str(place / f"_spill{task}")
                outcome = run_map(functions, split, spill, partitions, 1 << 20, done)
                for partition, part in enumerate(outcome.ranges):
                    segments[partition].append(Segment(spill, part.offset, part.length))
    functions = stage.functions[0]
    if last and functions.writer is None:
        functions = replace(functions, writer=PairWriter())
    for number, of_partition in enumerate(segments):
        part = str(place / f"part-{number:05}")
        run_reduce(functions, of_partition, part, str(place / "_scratch"), done)


def pairs_of(part: Path) -> list[Any]:
    blocks = PairReader().blocks(FileRange(str(part), 0, part.stat().st_size), Reading())
    return [pair for block in blocks for pair in block.raw]


def pairs(directory: Path) -> list[Any]:
    """What the parts of a step have, in order."""
    return [pair for part in sorted(directory.glob("part-*")) for pair in pairs_of(part)]


def result(
    output: View,
    directory: Path,
    names: dict[View, str] | None = None,
    split_bytes: int = SPLIT_BYTES,
    **inputs: list[str],
) -> list[Any]:
    """The pairs that the job writes. ``main`` is the input without a name."""
    paths: dict[str | None, Path] = {}
    for name, lines in inputs.items():
        path = directory / f"{name}.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
        paths[None if name == "main" else name] = path
    stages = compile_views(output, names=names)
    for stage in stages:
        run_stage(stage, directory, paths, stage is stages[-1], split_bytes)
    return pairs(directory / str(len(stages)))


def plainly(view: View, **inputs: list[str]) -> list[Any]:
    """The same, from lists, operation by operation."""
    op = view.op
    name = type(op).__name__
    if name == "Input":
        return inputs[op.name or "main"]
    sides = [plainly(parent, **inputs) for parent in view.parents]
    items = sides[0]
    groups: dict[Any, tuple[list[Any], ...]] = {}
    if name in ("ReduceByKey", "Group", "Join", "BroadcastJoin", "CoGroup"):
        for at, side in enumerate(sides):
            for key, value in side:
                groups.setdefault(key, tuple([] for _ in sides))[at].append(value)
    match name:
        case "Map":
            return [op.function(item) for item in items]
        case "FlatMap":
            return [found for item in items for found in op.function(item)]
        case "Filter":
            return [item for item in items if op.function(item)]
        case "KeyBy":
            return [(op.function(item), item) for item in items]
        case "MapValues":
            return [(key, op.function(value)) for key, value in items]
        case "Part":
            return [pair[op.at] for pair in items]
        case "Union":
            return [item for side in sides for item in side]
        case "Count":
            return list(Counter(items).items())
        case "Distinct":
            return list(dict.fromkeys(items))
        case "Sort":
            return sorted(items, key=op.function, reverse=op.reverse)
        case "Top":
            ranked = sorted(items, key=lambda item: (item[1], item), reverse=True)
            return ranked[: op.n]
        case "ReduceByKey":
            return [(key, sum(values)) for key, (values,) in groups.items()]
        case "Group" if op.sort_by:
            return [(key, sorted(values, key=op.sort_by)) for key, (values,) in groups.items()]
        case "Group":
            return [(key, sorted(values)) for key, (values,) in groups.items()]
        case "Join" | "BroadcastJoin":
            missing = {"inner": ([], []), "left": ([], [None]), "right": ([None], [])}
            mine, others = missing.get(op.how, ([None], [None]))
            return [
                (key, both)
                for key, (left, right) in groups.items()
                for both in itertools.product(left or mine, right or others)
            ]
        case "CoGroup":
            return list(groups.items())
    raise AssertionError(name)


# ---- random pipelines over strings and pairs (str, int)


def sizes(values):
    return [(str(key), len(key)) for key in values]


@st.composite
def views(draw, left: int = 5, wanted: str = ""):
    """A view, and what its elements are: ``text``, or ``pairs`` of str and int."""
    kind = wanted or draw(st.sampled_from(["text", "pairs"]))
    if left <= 0:
        view = draw(st.sampled_from(SOURCES))
        return view if kind == "text" else view.map(lambda line: (line[:1], len(line)))
    if kind == "text":
        ways = ["flat_map", "filter", "distinct", "keys", "union", "input"]
    else:
        ways = ["count", "sum", "max", "map_values", "filter", "group", "sorted", "top", "join"]
        ways += ["cogroup", "union", "function", "key_by", "twice", "broadcast", "sort"]
    way = draw(st.sampled_from(ways))
    if kind == "text":
        if way == "keys":
            return draw(views(left - 1, "pairs")).keys()
        view = draw(st.sampled_from(SOURCES)) if way == "input" else draw(views(left - 1, "text"))
        match way:
            case "flat_map":
                return view.flat_map(str.split)
            case "filter":
                return view.filter(lambda text: "a" in text)
            case "distinct":
                return view.distinct()
            case "union":
                return view.union(draw(views(left - 3, "text")))
        return view
    if way == "count":
        return draw(views(left - 1, "text")).count()
    if way == "key_by":
        return draw(views(left - 1, "text")).key_by(lambda text: text[-1:]).map_values(len)
    view = draw(views(left - 1, "pairs"))
    match way:
        case "sum":
            return view.reduce_by_key(folds.sum)
        case "max":
            return view.map_values(lambda n: n % 3).reduce_by_key(folds.sum)
        case "function":
            return view.reduce_by_key(lambda a, b: a + b)
        case "map_values":
            return view.map_values(lambda n: n + 1)
        case "filter":
            return view.filter(lambda pair: pair[1] % 2)
        case "group":
            return view.group().map_values(len)
        case "sorted":
            return view.group(sort_by=lambda n: -n).map(lambda pair: (pair[0], pair[1][0]))
        case "sort":
            return view.sort_by(itemgetter(1), reverse=draw(st.booleans()))
        case "top":
            return view.top(3, by=lambda pair: pair[1])
        case "union":
            return view.union(draw(views(left - 3, "pairs")))
        case "twice":
            return view.join(view).map_values(lambda both: both[0] - both[1])
    other = draw(views(left - 3, "pairs"))
    if way in ("join", "broadcast"):
        broadcast = way == "broadcast"
        how = draw(st.sampled_from(pipeline.BROADCAST_HOWS if broadcast else pipeline.HOWS))
        joined = view.join(other, how, broadcast=broadcast)
        return joined.map_values(lambda both: 2 * (both[0] or 0) - (both[1] or 0))
    return view.cogroup(other).map_values(lambda both: sum(both[0]) - 3 * sum(both[1]))


SOURCES = [pipeline.input(), pipeline.input("other")]
LINES = st.lists(st.text("ab c", max_size=6), max_size=8)


@settings(max_examples=50, deadline=None)
@given(views(), LINES, LINES)
def test_steps_compute_what_the_views_say(tmp_path_factory, output, main, other):
    directory = tmp_path_factory.mktemp("job")
    found = result(output, directory, main=main, other=other)
    expected = plainly(output, main=main, other=other)
    as_pairs = [item if isinstance(item, tuple) else (item, None) for item in expected]
    assert Counter(map(repr, found)) == Counter(map(repr, as_pairs))
    shutil.rmtree(directory)


def steps_of(output: View) -> list[tuple[list[object], str, list[str]]]:
    """What each step reads, how it shuffles, and what its reducer does after that."""
    return [
        (
            [
                source.of if isinstance(source.of, int) else str(source.of)
                for source in stage.sources
            ],
            type(stage.shuffled.op).__name__,
            [str(op).partition("(")[0] for op in stage.after],
        )
        for stage in compile_views(output)
    ]


def test_narrow_operations_run_in_the_mapper_or_the_reducer_beside_them():
    words = pipeline.input().flat_map(str.split).filter(len)
    counts = words.count().filter(itemgetter(1)).keys().map(len)
    assert steps_of(counts) == [(["input()"], "Count", ["filter", "keys", "map"])]
    assert steps_of(counts.distinct().map(str)) == [
        (["input()"], "Count", ["filter", "keys", "map"]),
        ([1], "Distinct", ["map"]),
    ]


def test_a_view_that_is_used_twice_is_stored_once():
    counts = pipeline.input().count()
    large = counts.filter(lambda pair: pair[1] > 2)
    assert steps_of(large.join(counts)) == [
        (["input()"], "Count", []),
        ([1], "Join", []),
    ]
    kept = pipeline.input().map(len).stored()
    assert steps_of(kept.count().join(kept.key_by(str))) == [
        (["input()"], "Stored", []),
        ([1], "Count", []),
        ([2, 1], "Join", []),
    ]


def test_several_inputs_are_joined_in_one_step():
    one, other = (pipeline.input(name).key_by(len) for name in ("one", "other"))
    assert steps_of(one.join(other)) == [(["input('one')", "input('other')"], "Join", [])]
    assert steps_of(one.union(other).distinct()) == [
        (["input('one')", "input('other')"], "Distinct", [])
    ]


def test_what_is_not_made_for_the_output_is_not_computed():
    lines = pipeline.input()
    lines.count().top(3)
    assert steps_of(lines.distinct()) == [(["input()"], "Distinct", [])]


def test_a_step_does_once_what_its_sides_have_in_common(tmp_path):
    seen = []

    def pair(line):
        seen.append(line)
        return line[0], line

    pairs = pipeline.input().map(pair)
    mine, others = pairs.filter(lambda pair: True), pairs.map_values(len)
    found = result(mine.cogroup(others), tmp_path, main=["a", "bb"])
    assert found == [("a", (["a"], [1])), ("b", (["bb"], [2]))]
    assert seen == ["a", "bb"]


def test_a_join_holds_the_values_of_the_other_side_alone(tmp_path):
    held = weakref.WeakSet()

    class Held(str):
        pass

    reduce = pipeline.input().join(pipeline.input()).op.reduce

    def values():
        yield False, "other"
        for number in range(5):
            value = Held(number)
            held.add(value)
            yield True, value
            del value

    for number, (_, both) in enumerate(reduce("key", values())):
        assert both == (str(number), "other")
        assert len(held) <= 2


# ---- broadcast joins

KEYS = st.sampled_from([None, True, 1, 2.5, math.nan, "a", b"a", (1, math.nan), (), ("a", 2)])
PAIRS = st.lists(st.tuples(KEYS, st.none() | st.integers(0, 3)), max_size=8)


@settings(max_examples=30, deadline=None)
@given(PAIRS, PAIRS, st.sampled_from(pipeline.BROADCAST_HOWS), st.booleans(), st.booleans())
def test_a_broadcast_join_gives_what_a_shuffle_join_gives(
    tmp_path_factory, mine, others, how, mine_made, others_made
):
    def side(name, pairs, made):
        view = pipeline.input(name).map(lambda line: pairs[int(line)])
        return view.group(lambda key, values: [(key, value) for value in values]) if made else view

    left, right = side("left", mine, mine_made), side("right", others, others_made)
    lines = {"left": map(str, range(len(mine))), "right": map(str, range(len(others)))}
    lines = {name: list(numbers) for name, numbers in lines.items()}
    found = []
    for broadcast in (False, True):
        directory = tmp_path_factory.mktemp("job")
        joined = left.join(right, how, broadcast=broadcast).map_values(str)
        # Of keys that are equal, a shuffle hands on one.
        found.append(
            Counter((str(one_nan([key])), both) for key, both in result(joined, directory, **lines))
        )
        shutil.rmtree(directory)
    same = {"[True]": "[1]"}
    assert len({frozenset(_renamed(one, same).items()) for one in found}) == 1


def _renamed(counts, same):
    renamed = Counter()
    for (key, both), times in counts.items():
        renamed[same.get(key, key), both] += times
    return renamed


def test_a_broadcast_join_shuffles_nothing_and_reads_what_a_step_has_stored(tmp_path):
    table = pipeline.input("table").key_by(len)
    lines = pipeline.input()
    assert steps_of(lines.key_by(len).join(table, broadcast=True)) == [
        (["input('table')"], "Stored", []),
        (["input()"], "Stored", []),
    ]
    counts = lines.map(len).count()
    joined = counts.join(table.distinct(), broadcast=True).map(str)
    assert steps_of(joined) == [
        (["input('table')"], "Distinct", []),
        (["input()"], "Count", ["join", "map"]),
    ]
    assert [stage.sides for stage in compile_views(joined)] == [(), (1,)]
    itself = counts.join(counts, broadcast=True)
    assert [stage.sides for stage in compile_views(itself)] == [(), (1,)]
    assert result(itself, tmp_path, main=["a", "b"]) == [(1, (2, 2))]


def test_a_table_that_is_too_large_is_named_with_its_size(tmp_path):
    big = pipeline.input("big").map(lambda line: (line, "x" * 1000))
    joined = pipeline.input().key_by(str).join(big, broadcast=True)
    lines = [str(number) for number in range(2000)]
    with pytest.raises(AttemptFailed) as caught:
        result(joined, tmp_path, names={big: "big"}, main=["1"], big=lines)
    needed, most = map(int, re.findall(r"([0-9]+) MiB", caught.value.message))
    assert 2 <= needed <= 3
    assert most == 1
    assert "big is too large for join(broadcast=True)" in caught.value.message
    assert caught.value.details["final"]


def test_what_cannot_be_looked_up_in_is_named(tmp_path):
    lines = pipeline.input()
    paired = lines.key_by(str)
    for number, (joined, message) in enumerate(
        (
            (paired.join(lines, broadcast=True), "takes pairs (key, value); it has 'ab'"),
            (paired.join(lines.key_by(list), broadcast=True), "a list cannot be a key; it has (["),
            (lines.join(paired, broadcast=True), "takes pairs (key, value), and got 'ab'"),
            (
                lines.key_by(list).join(paired, broadcast=True),
                "a list, as in ['a', 'b'], cannot be a key",
            ),
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(AttemptFailed) as caught:
            result(joined, place, names=dict.fromkeys(joined.parents, "it"), main=["ab"])
        assert "join(broadcast=True)" in caught.value.message
        assert message in caught.value.message


# ---- sorting

SORTED = st.recursive(
    KEYS | st.floats() | st.text("a\0\xff\U0001f600\ud800", max_size=3) | st.binary(max_size=3),
    lambda keys: st.tuples(keys) | st.tuples(keys, keys),
    max_leaves=3,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(SORTED, max_size=12), st.booleans(), st.booleans())
def test_a_view_is_sorted_over_all_parts_and_equal_ones_stay_in_order(
    tmp_path_factory, keys, reverse, made
):
    directory = tmp_path_factory.mktemp("job")
    view = pipeline.input().map(lambda line: (int(line), keys[int(line)]))
    if made:  # what a step stores is in the order of its keys, part by part
        view = view.stored()
    ordered = view.sort_by(itemgetter(1), reverse=reverse).map(itemgetter(0))
    found = [n for n, _ in result(ordered, directory, main=list(map(str, range(len(keys)))))]
    expected = sorted(range(len(keys)), key=lambda n: sort_key(keys[n]), reverse=reverse)
    assert found == expected
    shutil.rmtree(directory)


@pytest.mark.parametrize("numbers", ["in order", "shuffled", "all the same", "few"])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_part_of_a_sorted_view_gets_about_as_much(tmp_path, numbers, reverse):
    lines = {
        "in order": range(20_000),
        "shuffled": random.Random(7).sample(range(20_000), 20_000),
        "all the same": [5] * 1000,
        "few": [1, 2] * 500,
    }[numbers]
    made = pipeline.input().map(int).stored().map(lambda n: n)
    output = made.sort_by(lambda n: n, reverse=reverse)
    lines = list(map(str, lines))
    found = result(output, tmp_path, split_bytes=1 << 20, main=lines)
    assert [n for n, _ in found] == sorted(map(int, lines), reverse=reverse)
    sizes = [len(pairs_of(part)) for part in sorted((tmp_path / "2").glob("part-*"))]
    assert len(sizes) == REDUCERS
    assert max(sizes) <= (1.1 * len(lines) / REDUCERS if numbers != "all the same" else 1000)


def test_a_sorted_view_is_sampled_for_several_parts_when_the_steps_before_have_ended(tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    job = tmp_path / "job.py"
    source = "from pytxmr import pipeline\noutput = pipeline.input(){}.sort_by(len)\n"
    options = JobOptions(str(job), (str(tmp_path / "in.txt"),), str(tmp_path / "out"))
    for reducers, sampled in ((None, True), (2, True), (1, False)):
        job.write_text(source.format(".count()"))
        first, second = make_specs(replace(options, reducers=reducers))
        assert first.key_sample is None
        assert second.key_sample == (b"" if sampled else None)
        job.write_text(source.format(""))
        (only,) = make_specs(replace(options, reducers=reducers))
        assert only.key_sample == (pack_column([1]) if sampled else None)


# ---- counters


def test_what_several_steps_compute_is_counted_in_the_first(tmp_path):
    context.begin_attempt()

    def named(line):
        pytxmr.counter("named")
        yield line[0], line

    def length(pair):
        pytxmr.counter("length")
        return len(pair[1])

    def first(pair):
        pytxmr.counter("first")
        return pair[0]

    pairs = pipeline.input().flat_map(named)
    lengths, firsts = pairs.map(length), pairs.map(first)
    output = lengths.count().join(lengths.key_by(int)).union(firsts.count())
    found = Counter(result(output, tmp_path, main=["a", "bb", "b"]))
    assert found == Counter([(1, (2, 1)), (1, (2, 1)), (2, (1, 2)), ("a", 1), ("b", 2)])
    assert context.counters() == {"named": 3, "length": 3, "first": 3}


def test_sorted_values_of_a_key_come_from_many_spills_and_batches_in_order(tmp_path):
    keyed = pipeline.input().key_by(lambda line: "even" if int(line) % 2 == 0 else "odd")
    keyed = keyed.map_values(int)
    numbers = random.Random(5).sample(range(3000), 3000)
    ordered = keyed.group(sort_by=lambda n: -n)
    found = dict(result(ordered, tmp_path, main=[str(number) for number in numbers]))
    assert found == {"even": list(range(2998, -1, -2)), "odd": list(range(2999, 0, -2))}


def test_top_compares_what_it_can_and_orders_the_rest_by_type(tmp_path):
    values = [None, 2, 2.5, "b", b"b", (1, "x"), [3], {4}, {"k": 1}, True, float("inf")]
    lines = pipeline.input().map(lambda line: values[int(line)])
    found = result(lines.top(20), tmp_path, main=[str(n) for n in range(len(values))])
    assert found == [
        ({"k": 1}, None),
        ({4}, None),
        ([3], None),
        (1, "x"),
        (b"b", None),
        ("b", None),
        (float("inf"), None),
        (2.5, None),
        (2, None),
        (True, None),
        (None, None),
    ]


def test_top_of_counts_is_by_count_and_of_other_elements_by_themselves(tmp_path):
    lines = ["a", "c", "b", "b", "c"]
    words = pipeline.input()
    for output, expected in (
        (words.count().top(2), [("c", 2), ("b", 2)]),
        (words.count().filter(lambda pair: True).top(1), [("c", 2)]),
        (words.count().top(1, by=lambda pair: -pair[1]), [("a", 1)]),
        (words.map(lambda word: (word, ord(word) % 97)).top(1), [("c", 2)]),
        (words.top(3), [("c", None), ("c", None), ("b", None)]),
    ):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        assert result(output, place, main=lines) == expected


def test_a_sample_is_the_same_each_time_and_about_as_large_as_asked(tmp_path):
    lines = [str(number) for number in range(1000)]
    samples = []
    for seed in (0, 0, 1):
        place = tmp_path / str(len(samples))
        place.mkdir()
        sample = pipeline.input().map(int).sample(0.25, seed)
        samples.append({key for key, _ in result(sample, place, main=lines)})
    assert samples[0] == samples[1] != samples[2]
    assert all(200 < len(sample) < 300 for sample in samples)


@pytest.mark.parametrize("fold", [folds.mean, folds.distinct, folds.top(2), folds.collect])
def test_any_fold_reduces_also_with_something_behind_it(tmp_path, fold):
    lines = ["a", "bb", "cc", "a", "a"]
    values = pipeline.input().key_by(len).map_values(ord_of_first)
    expected = [pair for key in (1, 2) for pair in fold(key, [97] * 3 if key == 1 else [98, 99])]
    for number, more in enumerate((lambda view: view, lambda view: view.map(tuple))):
        place = tmp_path / str(number)
        place.mkdir()
        found = result(more(values.reduce_by_key(fold)), place, main=lines)
        assert sorted(found) == expected


def ord_of_first(line):
    return ord(line[0])


# ---- what goes wrong


def failure(output: View, directory: Path, lines: list[str]) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        result(output, directory, main=lines)
    return caught.value


def stops(element):
    raise StopIteration


def test_a_function_that_raises_stop_iteration_does_not_end_the_elements_unnoticed(tmp_path):
    lines = pipeline.input()
    for number, output in enumerate(
        (lines.map(stops), lines.filter(stops), lines.flat_map(stops), lines.count().map(stops))
    ):
        place = tmp_path / str(number)
        place.mkdir()
        assert "generator raised StopIteration" in failure(output.count(), place, ["a"]).message


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda lines: lines.group(), "group() takes pairs (key, value), and got 'ab'"),
        (lambda lines: lines.join(lines), "join() takes pairs (key, value), and got 'ab'"),
        (lambda lines: lines.values(), "values() takes pairs (key, value), and got 'ab'"),
        (lambda lines: lines.flat_map(lambda line: None), "got None, not something to iterate"),
        (lambda lines: lines.map(list).distinct(), "a list cannot be a key"),
        (lambda lines: lines.top(1, by=lambda line: object()), "a object cannot be compared"),
        (lambda lines: lines.sort_by(list), "a list cannot be a key"),
        (lambda lines: lines.sort_by(list, reverse=True), "a list cannot be a key"),
    ],
)
def test_an_element_that_does_not_fit_is_named_with_its_record(tmp_path, view, message):
    error = failure(view(pipeline.input()), tmp_path, ["ab"])
    assert message in error.message
    assert "main.txt, offset 0, record 'ab'" in error.details["where"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda v: v.flatmap(len), "a view has no flatmap; did you mean flat_map?"),
        (
            lambda v: v.join(v, "outr"),
            "it is one of inner, left, right, outer; did you mean outer?",
        ),
        (lambda v: v.join([1]), "join() takes another view, not a list"),
        (lambda v: v.join(v, broadcast=1), "broadcast is True or False, not a int"),
        (lambda v: v.join(v, "right", broadcast=True), "join(how='right', broadcast=True): each"),
        (lambda v: v.join(v, "outer", broadcast=True), "leave out broadcast=True, or join from"),
        (lambda v: v.map(3), "map(): the function is a int, not a function"),
        (lambda v: v.map(pytxmr.batch(stops)), "takes one element or group, without @batch"),
        (lambda v: v.top(0), "it takes a number from 1 up"),
        (lambda v: v.map(folds.sum), "map(): folds.sum folds the values of a key, for reduce_by_"),
        (lambda v: v.sort_by("n"), "sort_by(): the function is a str, not a function"),
        (lambda v: v.sort_by(len, reverse=1), "sort_by(): reverse is True or False, not a int"),
        (lambda v: v.sample(2), "the fraction is a number from 0 to 1"),
        (lambda v: v.group(folds.sum), "say reduce_by_key(folds.sum)"),
        (lambda v: v.group(combiner=len), "takes a combiner with a reducer"),
        (lambda v: pipeline.input(3), "takes a name and a pattern, as str, not a int"),
    ],
)
def test_a_view_that_cannot_be_is_refused_where_it_is_made(build, message):
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        build(pipeline.input())
    assert message in str(caught.value)


def test_some_steps_alone_need_what_they_look_up_in(tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    job = tmp_path / "job.py"
    job.write_text(
        "from pytxmr import pipeline\n"
        "lines = pipeline.input().key_by(str)\n"
        "output = lines.join(lines.distinct(), broadcast=True)\n"
    )
    options = JobOptions(str(job), (str(tmp_path / "in.txt"),), str(tmp_path / "out"), from_="2")
    with pytest.raises(BadInput, match="step 2 reads what step 1 has stored, but it is not in"):
        make_specs(options)


# ---- classes


def test_steps_of_a_class_hand_on_pairs():
    def words(key, line):
        for word in line.split():
            yield word, 1

    assert Step(words).mapper is words
    with pytest.raises(TypeError, match="mapper=...\\) is str, not a function"):
        Step("words")
    with pytest.raises(TypeError, match="folds.collect combines nothing"):
        Step(combiner=folds.collect)


# ---- how a step reaches those who run it


def test_splits_are_of_one_source_and_say_of_which(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(f"{name}\n")
    paths = [str(tmp_path / name) for name in ("a", "b", "c")]
    spec = JobSpec("job", JobCode("job.py", b""), tuple(paths), "/out", step=2, steps=2)
    spec = replace(spec, sources=(0, 1, 0))
    assert JobSpec.from_plain(spec.to_plain()) == spec
    splits, _ = plan_job(spec, OutputDirectory(str(tmp_path / "out"), "owner"), 1, 1)
    assert [(split.source, [part.path for part in split.ranges]) for split in splits] == [
        (0, [paths[0], paths[2]]),
        (1, [paths[1]]),
    ]
    for split in splits:
        assert InputSplit.from_plain(split.to_plain()) == split


@pytest.mark.parametrize(
    "wrong", [{"step": 0}, {"step": 2}, {"sources": (0,)}, {"sources": (0, -1)}, {"sides": (1,)}]
)
def test_a_step_that_cannot_be_is_refused(wrong):
    spec = JobSpec("job", JobCode("job.py", b""), ("/a", "/b"), "/out", **wrong)
    with pytest.raises(PeerBroke):
        JobSpec.from_plain(spec.to_plain())


def test_steps_of_views_that_shuffle_nothing_are_done_by_maps(tmp_path):
    lines = pipeline.input()
    stored = lines.map(len).stored()
    (stage,) = compile_views(stored.map(str))
    assert stage.reducers == 0
    assert [functions.reducer for functions in stage.functions] == [None]
    assert [str(op) for op in stage.sources[0].flows[0].ops] == ["map(len)", "map(str)"]
    assert result(stored.map(str), tmp_path, main=["ccc", "a"]) == [("3", None), ("1", None)]


def test_a_job_without_views_does_not_pay_for_them():
    code = (
        "import sys, pytxmr, pytxmr.worker, pytxmr.cli.options, pytxmr.cli.commands\n"
        "from pytxmr.job.loading import load, stages, import_source\n"
        "from pytxmr.model import JobCode\n"
        "job = JobCode('job.py', b'def mapper(k, v): yield k, v\\nreducer = mapper')\n"
        "load(job, {}), stages(import_source(job), job, {})\n"
        "views = {f'pytxmr.job.{name}' for name in ('operations', 'pipeline', 'steps')}\n"
        "print([*views & sys.modules.keys()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(pytxmr.__file__).parent.parent)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"[]\n"


def test_groups_without_their_parts_may_go_on_in_the_next_batch():
    batches = [
        Groups([("a", 1), ("a", 2), ("b", 1)], [1, 2, 1], [1, 2, 3, 4]),
        Groups([("b", 1), ("b", 3)], None, [5, 6]),
    ]
    assert list(WithoutParts(batches)) == [
        Groups(["a", "b"], [3, 1], [1, 2, 3, 4]),
        Groups(["b"], [2], [5, 6]),
    ]
