"""The four ways from groups to output: the same counters, and the key at fault, for each."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from attempts import failed_reduce, functions, map_all, run, splits_of, whole
from carried import blocks_of

import pytxmr
from pytxmr.records import folds, reducing
from pytxmr.records.reducing import run_reduce


def each(key, values):
    return [(key, value) for value in values]


def counted(key, values):
    yield key, sum(1 for _ in values)


WAYS = {
    "a function": counted,
    "a fold": folds.count,
    "the identity": folds.identity,
    "batches": pytxmr.batch(lambda g: [pytxmr.columns(g.keys, map(len, g.lists()))]),
}


def one_a_line(key, line):
    word, _, value = line.partition(" ")
    return [(word, value)]


def reduced(tmp_path, lines, reducer, maps=1, **roles):
    """The outcome of a reduce over the output of some maps, and what it wrote."""
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    job = functions(mapper=one_a_line, reducer=reducer, **roles)
    size = path.stat().st_size // maps + 1
    (segments,), _ = map_all(job, splits_of([path], size), tmp_path)
    part = str(tmp_path / "part")
    outcome = run_reduce(job, segments, part, str(tmp_path / "scratch"), lambda done: None)
    return outcome, Path(part).read_text()


def words(number, seed=1):
    drawn = random.Random(seed)
    return [f"w{int(drawn.paretovariate(0.7)) % 40} {n}" for n in range(number)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pairs_per_block", [1, 3, 1000])
@pytest.mark.parametrize("maps", [1, 3])
def test_groups_and_records_are_counted_whatever_the_reducer_is(
    tmp_path, way, pairs_per_block, maps
):
    lines = words(200)
    expected = Counter(line.split()[0] for line in lines)
    # Without a combiner, so that the groups of a fold go on in several blocks as well.
    with blocks_of(pairs_per_block):
        outcome, text = reduced(tmp_path, lines, WAYS[way], maps)
    records = 200 if way == "the identity" else len(expected)
    assert outcome.counters == {
        "reduce input groups": len(expected),
        "reduce output records": records,
        "reduce output bytes": len(text),
    }
    assert text.count("\n") == records
    if way != "the identity":
        assert text == "".join(f"{word}\t{n}\n" for word, n in sorted(expected.items()))


@pytest.mark.parametrize("way", WAYS)
def test_nothing_in_gives_nothing_out(tmp_path, way):
    outcome, text = reduced(tmp_path, [], WAYS[way])
    assert text == ""
    assert set(outcome.counters.values()) == {0}


@pytest.mark.parametrize("pairs_per_block", [1, 4, 1000])
@pytest.mark.parametrize("maps", [1, 5])
def test_the_identity_hands_on_every_pair_in_the_order_of_keys_and_of_input(
    tmp_path, pairs_per_block, maps
):
    lines = words(300) * 2
    with blocks_of(pairs_per_block):
        _, text = reduced(tmp_path, lines, folds.identity, maps)
    pairs = sorted((line.split() for line in lines), key=lambda pair: pair[0])
    assert text == "".join(f"{key}\t{value}\n" for key, value in pairs)


@pytest.mark.parametrize("reducer", [folds.identity, each, folds.collect])
@pytest.mark.parametrize("pairs_per_block", [1, 2, 1000])
def test_a_group_has_the_first_of_keys_that_are_equal(tmp_path, reducer, pairs_per_block):
    equal = {"bool": True, "int": 1, "float": 1.0}
    paths = [tmp_path / kind for kind in equal]
    for path in paths:
        path.write_text(f"{path.name}\n" * 3)
    job = functions(mapper=lambda key, line: [(equal[line], line)], reducer=reducer)
    with blocks_of(pairs_per_block):
        for splits in (splits_of(paths, 100), [whole(*paths)]):
            (part,) = run(job, splits, tmp_path)
            assert {line.split(b"\t")[0] for line in part.splitlines()} == {b"True"}


def test_the_identity_is_what_a_reducer_that_hands_on_would_be(tmp_path):
    lines = words(300)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert reduced(tmp_path / "one", lines, folds.identity) == reduced(
        tmp_path / "other", lines, each
    )


NUMBERS = [f"{n:04}" for n in range(3000)]


@pytest.mark.parametrize("at", [0, 1, 700, 1023, 1024, 1500, 2998, 2999])
@pytest.mark.parametrize("pairs_per_block", [256, 100_000])
@pytest.mark.parametrize("bad", ["ab", None, (1, 2, 3)])
def test_what_is_no_pair_is_shown_with_its_key_wherever_in_a_chunk(
    tmp_path, at, pairs_per_block, bad
):
    calls: Counter = Counter()

    def reducer(key, values):
        calls[key] += 1
        yield bad if key == NUMBERS[at] else (key, 1)

    lines = "".join(f"{number}\n" for number in NUMBERS).encode()
    with blocks_of(pairs_per_block):
        error = failed_reduce(tmp_path, functions(reducer=reducer), lines)
    assert error.message == f"the reducer yielded {bad!r}: not a pair (key, value)"
    assert error.details == {"where": f"key '{NUMBERS[at]}'", "final": True}
    assert max(calls.values()) == 2


@pytest.mark.parametrize("at", [0, 1, 1500, 2998, 2999])
@pytest.mark.parametrize("pairs_per_block", [1, 256, 100_000])
@pytest.mark.parametrize("read_first", [False, True])
def test_a_stop_iteration_is_shown_with_its_key_wherever_in_a_batch(
    tmp_path, at, pairs_per_block, read_first
):
    def reducer(key, values):
        if read_first:
            list(values)
        return [(key, next(iter([] if key == NUMBERS[at] else [1])))]

    lines = "".join(f"{number}\n" for number in NUMBERS).encode()
    with blocks_of(pairs_per_block):
        error = failed_reduce(tmp_path, functions(reducer=reducer), lines)
    assert error.message == "the reducer raised StopIteration"
    assert error.details == {"where": f"key '{NUMBERS[at]}'"}


@pytest.mark.parametrize("writer", [None, lambda pairs: (f"{key}\n" for key, _ in pairs)])
@pytest.mark.parametrize(
    "reducer", [lambda key, values: None, lambda key: [], lambda key, values: 7]
)
def test_a_reducer_that_returns_or_takes_the_wrong_thing_is_told_so(tmp_path, reducer, writer):
    error = failed_reduce(tmp_path, functions(reducer=reducer, writer=writer))
    assert error.message.startswith("the reducer cannot be called, or returned no pairs (")
    assert error.details == {"where": "key 'four'", "final": True}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["before", "three", "after"])
def test_an_error_of_the_writer_is_said_to_be_its(tmp_path, way, when):
    def fail_if(at):
        if at == when:
            raise ValueError("on purpose")

    def writer(pairs):
        fail_if("before")
        for key, _ in pairs:
            fail_if(key)
            yield key
        fail_if("after")

    error = failed_reduce(tmp_path, functions(reducer=WAYS[way], writer=writer))
    assert error.message == "the writer raised ValueError: on purpose"
    assert error.details == {}


@pytest.mark.parametrize("writer", [lambda pairs: None, lambda: [], lambda pairs, more: []])
def test_a_writer_that_returns_or_takes_the_wrong_thing_is_told_so(tmp_path, writer):
    error = failed_reduce(tmp_path, functions(writer=writer))
    assert error.message.startswith("the writer cannot be called, or returned no text (")
    assert error.details == {"final": True}


@pytest.mark.parametrize("way", ["a function", "batches"])
def test_an_error_of_the_reducer_below_a_writer_is_said_to_be_its(tmp_path, way):
    def writer(pairs):
        for key, _ in pairs:
            yield key

    def raising(*arguments):
        raise ValueError("on purpose")

    reducer = pytxmr.batch(raising) if way == "batches" else raising
    error = failed_reduce(tmp_path, functions(reducer=reducer, writer=writer))
    assert error.message == "the reducer raised ValueError: on purpose"
    assert error.details["where"].startswith("key")


@pytest.mark.parametrize("way", WAYS)
def test_progress_is_told_chunk_by_chunk(tmp_path, way, monkeypatch):
    monkeypatch.setattr(reducing, "_CHUNK_PAIRS", 10)
    path = tmp_path / "in.txt"
    path.write_text("\n".join(words(500)))
    job = functions(mapper=one_a_line, reducer=WAYS[way])
    with blocks_of(20):
        (segments,), _ = map_all(job, [whole(path)], tmp_path)
        told: list = []
        part = str(tmp_path / "part")
        run_reduce(job, segments, part, str(tmp_path / "scratch"), told.append)
    assert told
    assert all(0 <= done <= 1 for done in told)
