"""Batch mappers and reducers: what they get, what they may yield, and what is said if they err."""

from __future__ import annotations

from collections import Counter, OrderedDict, UserDict, namedtuple
from itertools import islice

import pytest
from attempts import (
    failed_map,
    failed_reduce,
    functions,
    loaded,
    map_all,
    run,
    shown,
    splits_of,
    whole,
)
from carried import blocks_of

import pytxmr
from pytxmr.errors import AttemptFailed, Uncarryable
from pytxmr.model import FileRange, InputSplit
from pytxmr.records import batch as batches
from pytxmr.records import folds, mapcalls, readers
from pytxmr.records.batch import as_columns, batch_form
from pytxmr.records.columns import Columns, columns
from pytxmr.records.mapping import sample_keys
from pytxmr.records.partition import RangePartitioner

TEXTS = {
    "plain": b"one\ntwo\n\nthree\n",
    "no newline at the end": b"one\ntwo",
    "CRLF": b"one\r\ntwo\r\n\r\nthree",
    "mixed": b"a\nb\r\nlone \r in it\nends in two\r\r\n\n",
    "not UTF-8": b"\xff\xfe\nna\xc3\xafve\n\x80",
    "only newlines": b"\n\r\n\n",
    "a long line": b"x" * 300 + b"\nshort\n",
    "empty": b"",
}


def lines_of(data):
    """Each line with its end, without it, and its offset."""
    offset = 0
    for line in data.split(b"\n")[: None if not data.endswith(b"\n") and data else -1]:
        end = data[offset + len(line) : offset + len(line) + 1]
        bare = line[:-1] if end and line.endswith(b"\r") else line
        yield line + end, bare, offset
        offset += len(line) + 1


def got_by(form, splits, chunk_bytes=1 << 20, buffer_bytes=1 << 25):
    """What a batch mapper of that form is called with."""
    calls: list = []

    @pytxmr.batch(form)
    def mapper(offset, records):
        calls.append((offset, records))
        return []

    made = functions(mapper=mapper)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(mapcalls, "BUFFER_BYTES", buffer_bytes)
        for split in splits:
            records = mapcalls.MapCalls(split, made)
            assert list(records.mapped()) == []
            yield records, calls[:]
            calls.clear()


# What a mapper gets


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("form", ["lines", "bytes", "buffer"])
@pytest.mark.parametrize("size_read", [1, 7, 1 << 20])
def test_splits_of_any_size_give_every_line_once(tmp_path, name, form, size_read):
    path = tmp_path / "in"
    path.write_bytes(TEXTS[name])
    expected = list(lines_of(TEXTS[name]))
    for size in range(1, len(TEXTS[name]) + 2):
        lines, count, done = [], 0, 0
        for records, calls in got_by(form, splits_of([path], size), size_read, size_read):
            for offset, some in calls:
                assert len(some) > 0
                assert offset == expected[len(lines)][2]
                if form == "buffer":
                    assert type(some) is bytes
                    lines += [line for line, _, _ in lines_of(some)]
                else:
                    assert type(some) is list
                    assert {type(line) for line in some} == {str if form == "lines" else bytes}
                    lines += some
            count += records.count
            done += records.bytes_done
        if form == "buffer":
            assert lines == [line for line, _, _ in expected]
        elif form == "bytes":
            assert lines == [line for _, line, _ in expected]
        else:
            assert lines == [line.decode("utf-8", "surrogateescape") for _, line, _ in expected]
        assert count == len(expected)
        assert done == len(TEXTS[name])


def test_a_buffer_is_all_of_a_split_that_is_not_too_large(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"ten bytes\n" * 400_000)
    ((_, calls),) = got_by("buffer", [whole(path)])
    assert [(offset, len(data)) for offset, data in calls] == [(0, 4_000_000)]
    ((_, calls),) = got_by("buffer", [whole(path)], buffer_bytes=1_000_005)
    assert [len(data) for _, data in calls] == [1_000_000] * 4


def test_each_file_of_a_split_comes_by_itself(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(f"in {path.name}\n" * 2)
    split = InputSplit((FileRange(str(paths[0]), 5, 10), *whole(*paths[1:]).ranges))
    for form, records in (("buffer", b"in b\nin b\n"), ("bytes", [b"in b"] * 2)):
        ((_, calls),) = got_by(form, [split])
        assert [offset for offset, _ in calls] == [5, 0, 0]
        assert calls[1][1] == records


# What it may yield


WORDS = "a b a\nc a\n\nb\n"
Pair = namedtuple("Pair", "key value")


class Scalars:
    """A column of another library."""

    def __init__(self, items):
        self._items = items

    def tolist(self):
        return list(self._items)


def counted(lines):
    return Counter(" ".join(lines).split())


WAYS = {
    "a Counter": lambda lines: [counted(lines)],
    "a dict": lambda lines: [dict(counted(lines))],
    "another mapping": lambda lines: [UserDict(counted(lines)), OrderedDict()],
    "columns": lambda lines: [columns(counted(lines), counted(lines).values())],
    "columns of a library": lambda lines: [
        columns(Scalars(counted(lines)), Scalars(counted(lines).values()))
    ],
    "pairs": lambda lines: counted(lines).items(),
    "lists and named tuples": lambda lines: [
        Pair(*pair) if n % 2 else list(pair) for n, pair in enumerate(counted(lines).items())
    ],
    "all of it": lambda lines: [
        *((word, 0) for word in " ".join(lines).split()),
        counted(lines),
        ("a", 0),
        columns(["b"], [0]),
        {},
        columns([], []),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("most", [1, 2, 4096])
@pytest.mark.parametrize("combiner", [None, folds.sum])
def test_pairs_mappings_and_columns_are_taken(tmp_path, monkeypatch, way, most, combiner):
    monkeypatch.setattr(batches, "_PAIRS", most)
    path = tmp_path / "in"
    path.write_text(WORDS)
    mapper = pytxmr.batch(lambda offset, lines: iter(WAYS[way](lines)))
    reducer = pytxmr.batch(
        lambda groups: WAYS[way]([k for k, vs in groups for _ in range(sum(vs))])
    )
    expected = b"a\t3\nb\t2\nc\t1\n"
    for split_bytes in (1, 6, 100):
        job = functions(mapper=mapper, reducer=folds.sum, combiner=combiner)
        assert run(job, splits_of([path], split_bytes), tmp_path) == [expected]
    job = functions(mapper=mapper, reducer=reducer)
    (part,) = run(job, [whole(path)], tmp_path)
    sums: Counter = Counter()
    for line in part.decode().splitlines():
        key, value = line.split("\t")
        sums[key] += int(value)
    assert sums == {"a": 3, "b": 2, "c": 1}


def test_what_is_yielded_keeps_its_order():
    items = [("a", 1), ["b", 2], {"c": 3, "d": 4}, ("e", 5), columns(["f", "g"]), ("h", 6)]
    pairs = [pair for some in as_columns(items, "the mapper") for pair in some.pairs()]
    assert pairs == [*zip("abcde", range(1, 6), strict=True), ("f", None), ("g", None), ("h", 6)]


def test_single_pairs_are_handed_on_before_they_are_too_many():
    pulled = [0]

    def many():
        for _ in range(10 * batches._PAIRS):
            pulled[0] += 1
            yield "key", pulled[0]

    found = list(islice(as_columns(many(), "the mapper"), 3))
    assert pulled[0] == 3 * batches._PAIRS
    assert [value for some in found for value in some.values] == list(range(1, pulled[0] + 1))


def test_counters_of_a_batch_mapper_are_those_of_the_data(tmp_path):
    path = tmp_path / "in"
    path.write_text(WORDS)
    for form in ("lines", "bytes", "buffer"):
        mapper = pytxmr.batch(form)(lambda offset, records: [{"key": 1, offset: 2}, ("x", 3)])
        told: list = []
        _, (outcome,) = map_all(
            functions(mapper=mapper), [whole(path)], tmp_path, progress=told.append
        )
        assert outcome.counters["map input records"] == 4
        assert outcome.counters["map input bytes"] == len(WORDS)
        assert outcome.counters["map output records"] == 3
        assert told
        assert all(0 <= done <= 1 for done in told)


def test_a_class_may_take_batches(tmp_path):
    path = tmp_path / "in"
    path.write_text(WORDS)
    job = loaded(
        """
        import collections
        import pytxmr

        class Count(pytxmr.MapReduce):
            @pytxmr.batch("buffer")
            def map(self, offset, data):
                assert type(data) is bytes
                yield collections.Counter(data.decode().split())

            @pytxmr.batch
            def reduce(self, groups):
                yield pytxmr.columns(groups.keys, map(sum, groups.lists()))
        """,
        class_name="Count",
    )
    assert run(job, splits_of([path], 4), tmp_path) == [b"a\t3\nb\t2\nc\t1\n"]


# The mark


def test_a_function_is_marked_with_what_it_takes():
    for mark, form in (
        (pytxmr.batch, "lines"),
        (pytxmr.batch(), "lines"),
        (pytxmr.batch("lines"), "lines"),
        (pytxmr.batch("bytes"), "bytes"),
        (pytxmr.batch("buffer"), "buffer"),
    ):
        marked = mark(lambda offset, records: [])
        assert batch_form(marked) == form
        assert marked(0, []) == []
    assert batch_form(lambda offset, records: []) is None


@pytest.mark.parametrize("form", ["line", "", None, 7, b"lines"])
def test_a_form_that_there_is_not_is_refused_with_those_there_are(form):
    with pytest.raises(ValueError, match="it takes one of 'lines', 'bytes', 'buffer'") as caught:
        pytxmr.batch(form)
    assert str(caught.value).startswith(f"batch({form!r})")


# Samples


@pytest.mark.parametrize("way", ["a Counter", "columns", "pairs", "all of it"])
def test_a_sample_of_keys_is_taken_of_a_batch_mapper_too(tmp_path, way):
    path = tmp_path / "in"
    path.write_text("c b\na b\n" * 10)
    job = functions(mapper=pytxmr.batch(lambda offset, lines: WAYS[way](lines)))
    keys = sample_keys(job, whole(path), 1000)
    assert set(keys) == {"a", "b", "c"}
    assert sample_keys(job, whole(path), 2) == keys[:2]


def test_a_sample_goes_up_to_an_error_and_no_further(tmp_path):
    path = tmp_path / "in"
    path.write_text("a\nb\nc\n")

    def wrong(offset, lines):
        yield {"a": 1}
        yield columns(["b", ["c"], "d"])

    assert sample_keys(functions(mapper=pytxmr.batch(wrong)), whole(path), 9) == ["a", "b"]
    for nothing in (lambda offset, lines: None, lambda offset, lines: 1 / 0, lambda: []):
        assert sample_keys(functions(mapper=pytxmr.batch(nothing)), whole(path), 9) == []


def test_ranges_of_a_batch_mapper_are_sorted_over_all_parts(tmp_path):
    path = tmp_path / "in"
    numbers = [n * 7919 % 1000 for n in range(1000)]
    path.write_text("".join(f"{n:03}\n" for n in numbers))
    ranges = RangePartitioner()
    mapper = pytxmr.batch("bytes")(lambda offset, lines: [columns(lines)])
    job = functions(mapper=mapper, reducer=folds.identity, partitioner=ranges)
    ranges.bind(sample_keys(job, whole(path), 200))
    parts = run(job, splits_of([path], 500), tmp_path, partitions=4)
    assert b"".join(parts) == b"".join(b"%03d\n" % n for n in range(1000))
    assert min(map(len, parts)) > 500


# What is wrong with a mapper


MAPPER = """
    import pytxmr
    from pytxmr import columns, folds

    @pytxmr.batch({form!r})
    def mapper(offset, records):
        yield columns(["a", "b"], [1, 2])
        yield "k", 1
        if "three" in str(records):
            {bad}

    def reducer(key, values):
        yield key, sum(values)
"""
LINES = b"one\ntwo\nthree\nfour\n"


def failing(bad, form="lines"):
    return loaded(MAPPER.format(form=form, bad=bad))


@pytest.fixture(params=[1, 1 << 20], ids=["small chunks", "one chunk"])
def offset(request, monkeypatch):
    """Where the batch begins that has the third line, or as a buffer the whole of it."""
    monkeypatch.setattr(readers, "CHUNK_BYTES", request.param)
    monkeypatch.setattr(mapcalls, "BUFFER_BYTES", request.param)
    return 8 if request.param == 1 else 0


@pytest.mark.parametrize("form", ["lines", "bytes", "buffer"])
def test_a_batch_mapper_that_raises_is_shown_with_file_and_offset(tmp_path, form, offset):
    error = failed_map(tmp_path, failing("raise KeyError('no such field')", form), LINES)
    assert error.message == "the mapper raised KeyError: 'no such field'"
    assert error.details["where"] == f"{tmp_path}/in.txt, offset {offset}"
    assert "final" not in error.details
    assert "raise KeyError('no such field')" in shown(error)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("columns([1], [1, 2])", "ValueError: there are 1 keys and 2 values"),
        ("columns([1], 7)", "TypeError: 'int' object is not iterable"),
        ("from folds.sum('k', [1, 'x'])", "TypeError: unsupported operand"),
    ],
)
def test_what_the_mapper_calls_of_ours_raises_in_its_name(tmp_path, bad, problem, offset):
    error = failed_map(tmp_path, failing(f"yield {bad}"), LINES)
    assert error.message.startswith(f"the mapper raised {problem}")
    assert error.details["where"].endswith(f"offset {offset}")
    assert "final" not in error.details
    assert f"yield {bad}" in shown(error)


@pytest.mark.parametrize(
    "bad", ["'ab'", "b'ab'", "7", "None", "(1, 2, 3)", "('k',)", "[('k', 1)]", "{1, 2}", "records"]
)
def test_what_is_no_pair_mapping_or_columns_is_refused(tmp_path, bad, offset):
    error = failed_map(tmp_path, failing(f"yield {bad}"), LINES)
    assert isinstance(error, Uncarryable)
    assert error.message.startswith("the mapper yielded ")
    assert error.message.endswith(
        ": not a pair (key, value), a mapping or pytxmr.columns(keys, values)"
    )
    assert error.details["final"] is True
    assert error.details["where"] == f"{tmp_path}/in.txt, offset {offset}"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("columns(['a', ['b']])", "for the key ['b']: a list cannot be a key"),
        ("columns(['a', 'b'], [1, object()])", "for the key 'b': a object cannot be carried"),
        ("{'a': 1, frozenset(): 2}", "for the key frozenset(): a frozenset cannot be a key"),
        ("{'a': bytearray()}", "for the key 'a': a bytearray cannot be carried"),
        ("'k', object()", "for the key 'k': a object cannot be carried"),
        ("[1], 2", "for the key [1]: a list cannot be a key"),
    ],
)
@pytest.mark.parametrize("buffer_bytes", [1, 1 << 20])
def test_what_cannot_be_carried_is_named_with_its_key(tmp_path, bad, problem, buffer_bytes, offset):
    error = failed_map(tmp_path, failing(f"yield {bad}"), LINES, buffer_bytes)
    assert isinstance(error, Uncarryable)
    assert error.message.startswith(problem)
    assert error.details["final"] is True
    assert error.details["where"] == f"{tmp_path}/in.txt, offset {offset}"


@pytest.mark.parametrize(
    "mapper",
    [
        lambda offset, records: None,
        lambda offset, records: 7,
        lambda records: [],
        lambda offset, records, more: [],
    ],
)
def test_a_batch_mapper_that_returns_or_takes_the_wrong_thing_is_told_so(tmp_path, mapper):
    error = failed_map(tmp_path, functions(mapper=pytxmr.batch(mapper)), LINES)
    assert error.message.startswith("the mapper cannot be called, or returned no pairs (")
    assert error.details == {"where": f"{tmp_path}/in.txt, offset 0", "final": True}


def test_a_stop_iteration_does_not_pass_for_the_end_of_the_input(tmp_path, offset):
    def plain(at, lines):
        return [(line, 1) for line in lines] if at != offset else next(iter([]))

    error = failed_map(tmp_path, functions(mapper=pytxmr.batch(plain)), LINES)
    assert "StopIteration" in error.message
    assert error.details["where"].endswith(f"offset {offset}")


def test_a_value_that_a_fold_cannot_take_is_shown_with_its_batch(tmp_path, offset):
    made = failing("yield columns(['k', 'k'], [1, 'x'])")
    with_fold = functions(mapper=made.mapper, reducer=folds.sum, combiner=folds.sum)
    error = failed_map(tmp_path, with_fold, LINES)
    assert error.message.startswith("folds.sum cannot take the value 'x': TypeError")
    assert error.details == {"where": f"{tmp_path}/in.txt, offset {offset}", "final": True}


# Reducers


@pytest.mark.parametrize("pairs_per_block", [1, 2, 7, 1000])
@pytest.mark.parametrize("maps", [1, 4])
def test_a_batch_reducer_gets_whole_groups(tmp_path, pairs_per_block, maps):
    path = tmp_path / "in"
    words = [f"w{n % 7}" for n in range(70)] + ["often"] * 200
    path.write_text("\n".join(words))
    seen: Counter = Counter()

    def reducer(groups):
        assert len(groups) > 0
        for key, values in groups:
            assert key not in seen
            seen[key] = len(values)
        yield columns(groups.keys, map(len, groups.lists()))

    job = functions(reducer=pytxmr.batch(reducer))
    with blocks_of(pairs_per_block):
        (part,) = run(job, splits_of([path], -(-path.stat().st_size // maps)), tmp_path)
    assert seen == Counter(words)
    assert part.decode().splitlines() == [f"{key}\t{n}" for key, n in sorted(seen.items())]


@pytest.mark.parametrize("bad", ["'ab'", "7", "None", "(1, 2, 3)"])
def test_a_batch_reducer_that_yields_no_pair_is_told_so_with_its_keys(tmp_path, bad):
    job = loaded(
        f"""
        import pytxmr
        def mapper(key, value):
            yield value, 1
        @pytxmr.batch
        def reducer(groups):
            yield from zip(groups.keys, groups.values)
            if "one" in groups.keys:
                yield {bad}
        """
    )
    with blocks_of(2):
        error = failed_reduce(tmp_path, job)
    assert error.message.startswith(f"the reducer yielded {bad}: not a pair")
    assert error.details["where"] == "keys 'one' to 'one'"
    assert error.details["final"] is True


def test_a_batch_reducer_that_raises_is_shown_with_its_keys(tmp_path):
    def reducer(groups):
        if "three" in groups.keys:
            raise ValueError("no")
        return []

    error = failed_reduce(tmp_path, functions(reducer=pytxmr.batch(reducer)))
    assert error.message == "the reducer raised ValueError: no"
    assert error.details["where"] == "keys 'four' to 'three'"
    error = failed_reduce(tmp_path, functions(reducer=pytxmr.batch(lambda groups: next(iter([])))))
    assert "StopIteration" in error.message


@pytest.mark.parametrize("reducer", [lambda groups: None, lambda key, values: [], lambda: []])
def test_a_batch_reducer_that_returns_or_takes_the_wrong_thing_is_told_so(tmp_path, reducer):
    error = failed_reduce(tmp_path, functions(reducer=pytxmr.batch(reducer)))
    assert error.message.startswith("the reducer cannot be called, or returned no pairs (")
    assert error.details["final"] is True
    assert error.details["where"].startswith("keys 'four' to ")


@pytest.mark.parametrize(
    "reducer",
    [
        lambda groups: [columns(groups.keys, 7)],
        lambda groups: folds.sum("k", ["x"]),
    ],
)
def test_what_the_reducer_calls_of_ours_raises_in_its_name(tmp_path, reducer):
    error = failed_reduce(tmp_path, functions(reducer=pytxmr.batch(reducer)))
    assert error.message.startswith("the reducer raised TypeError: ")
    assert "final" not in error.details
    error = failed_reduce(
        tmp_path, functions(reducer=lambda key, values: folds.sum(key, [key, *values]))
    )
    assert error.message.startswith("the reducer raised TypeError: ")
    assert error.details == {"where": "key 'four'"}


def test_as_columns_says_whose_fault_it_is():
    for role in ("the mapper", "the reducer"):
        with pytest.raises(AttemptFailed, match=f"{role} yielded 7: not a pair"):
            list(as_columns([Columns([1], [2]), 7], role))
