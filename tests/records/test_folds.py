"""Folds are what their table says: as functions, and in jobs of any size, whatever combines."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType

import pytest
from attempts import failed_map, failed_reduce, map_all, run, splits_of, whole
from carried import blocks_of, shape, steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.job.binding import bind
from pytxmr.model import JobCode
from pytxmr.records import folds, reducing
from pytxmr.records.codec import one_nan

TINY, BIG = 1, 1 << 30


def largest(n):
    return lambda values: sorted(values, reverse=True)[:n]


def united(values):
    return set().union(*values)


numbers = st.one_of(st.integers(-5, 5), st.booleans(), st.integers(-40, 40).map(lambda n: n / 8))
anything = st.one_of(st.none(), st.text(max_size=2), st.lists(st.integers(0, 9), max_size=2))
hashable = st.one_of(numbers, st.text(max_size=1), st.tuples(st.integers(0, 2)))
collections = st.one_of(
    st.lists(hashable, max_size=3),
    st.sets(hashable, max_size=3),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
)
#: The fold, what it is of a list of values, and what values it may have.
FOLDS = {
    fold.name: (fold, of_values, values)
    for fold, of_values, values in [
        (folds.sum, sum, numbers),
        (folds.count, len, anything),
        (folds.min, min, numbers),
        (folds.max, max, numbers),
        (folds.first, lambda values: values[0], anything),
        (folds.last, lambda values: values[-1], anything),
        (folds.mean, lambda values: sum(values) / len(values), numbers),
        (folds.distinct, set, hashable),
        (folds.union, united, collections),
        (folds.top(1), largest(1), numbers),
        (folds.top(3), largest(3), st.tuples(st.integers(0, 3), st.text(max_size=2))),
        (folds.collect, list, anything),
    ]
}
named = pytest.mark.parametrize("name", FOLDS)
nan = float("nan")
keys = st.sampled_from([1, 1.0, True, "a", "b", None, (1, "a"), (True, "a"), nan, -nan, 2])


def job(pairs, kept, **roles):
    """A job, as a module says it, that maps each line, a number, to that one of the pairs.

    What is reduced goes to the list ``kept`` instead of to the output.
    """

    def keep(reduced):
        kept.extend(reduced)
        return []

    module = ModuleType("job")
    module.mapper = lambda key, line: [pairs[int(line)]]
    module.writer = keep
    for role, function in roles.items():
        setattr(module, role, function)
    return bind(module, JobCode("job.py", b""), {})


def numbered(directory, lines):
    path = Path(directory) / "in.txt"
    path.write_text("".join(f"{n}\n" for n in range(lines)))
    return path


def reduced(pairs, split_bytes=BIG, **options):
    """What comes out of a whole job with these roles, in order of partitions and keys."""
    kept: list = []
    sizes = {name: options.pop(name) for name in ("partitions", "buffer_bytes") if name in options}
    with tempfile.TemporaryDirectory() as directory:
        path = numbered(directory, len(pairs))
        run(job(pairs, kept, **options), splits_of([path], split_bytes), Path(directory), **sizes)
    return kept


def naive(pairs, of_values):
    groups = defaultdict(list)
    for key, (_, value) in zip(one_nan([key for key, _ in pairs]), pairs, strict=True):
        groups[key].append(value)
    return {shape(key): shape(of_values(values)) for key, values in groups.items()}


def as_dict(found):
    made = {shape(key): shape(value) for key, value in found}
    assert len(made) == len(found)
    return made


# As functions


@named
def test_a_fold_is_a_function_like_any_reducer(name):
    fold, of_values, values = FOLDS[name]

    @steady(max_examples=40)
    @given(st.lists(values, min_size=1, max_size=8))
    def check(some):
        ((key, found),) = fold("key", iter(some))
        assert (key, shape(found)) == ("key", shape(of_values(some)))

    check()


def test_folds_are_what_the_documentation_shows():
    assert list(folds.sum("key", [1, 2])) == [("key", 3)]
    assert list(folds.mean("key", iter([1, 2]))) == [("key", 1.5)]
    assert list(folds.top(5)("key", [2, 3, 1])) == [("key", [3, 2, 1])]
    assert list(folds.identity("key", iter([2, 1, 2]))) == [("key", 2), ("key", 1), ("key", 2)]


def test_the_table_names_every_fold():
    documented = set(re.findall("^``(.*?)``  ", folds.__doc__, re.M))
    made = {value.name for value in vars(folds).values() if isinstance(value, folds.Fold)}
    assert documented == made | {"top(n)"}
    assert made <= set(FOLDS)


def test_folds_are_equal_if_they_do_the_same():
    assert folds.top(3) == folds.top(3) != folds.top(4)
    assert len({folds.top(3), folds.top(3), folds.top(4)}) == 2
    others = [fold for fold, _, _ in FOLDS.values()]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("n", [0, -1])
def test_the_top_of_nothing_is_refused(n):
    with pytest.raises(ValueError, match=rf"top\({n}\): it takes a number from 1 up"):
        folds.top(n)


# In jobs


@named
@pytest.mark.parametrize("buffer_bytes", [TINY, BIG])
def test_a_fold_as_reducer_gives_what_a_loop_would(name, buffer_bytes):
    fold, of_values, values = FOLDS[name]

    @steady(max_examples=8)
    @given(st.lists(st.tuples(keys, values), max_size=90), st.sampled_from([1, 3]))
    def check(pairs, partitions):
        with blocks_of(4):
            found = reduced(
                pairs, 100, reducer=fold, partitions=partitions, buffer_bytes=buffer_bytes
            )
        assert as_dict(found) == naive(pairs, of_values)

    check()


@named
@pytest.mark.parametrize("buffer_bytes", [TINY, BIG])
def test_more_runs_than_are_merged_at_once_give_the_same(name, buffer_bytes, monkeypatch):
    from pytxmr.records import merge, sortbuffer

    monkeypatch.setattr(merge, "FAN_IN", 2)
    monkeypatch.setattr(sortbuffer, "FAN_IN", 2)
    fold, of_values, values = FOLDS[name]

    @steady(max_examples=2)
    @given(st.lists(st.tuples(st.integers(0, 3), values), min_size=300, max_size=300))
    def check(pairs):
        with blocks_of(3):
            found = reduced(pairs, 300, reducer=fold, buffer_bytes=buffer_bytes)
        assert as_dict(found) == naive(pairs, of_values)

    check()


def own_reducer(key, values):
    yield key, list(values)


def own_every(key, values):
    return [(key, value) for value in values]


def own_first_of_equals(key, values):
    return [(key, value) for value in dict.fromkeys(values)]


PARTIALS = {
    "sum": sum,
    "count": len,
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "mean": lambda values: (sum(values), len(values)),
    "distinct": set,
    "top(2)": largest(2),
}


@pytest.mark.parametrize("name", PARTIALS)
@pytest.mark.parametrize("buffer_bytes", [TINY, BIG])
def test_a_fold_as_combiner_hands_ones_own_reducer_what_it_made(name, buffer_bytes):
    fold = folds.top(2) if name == "top(2)" else getattr(folds, name)
    pairs = [(n % 3, (n * 7) % 11) for n in range(300)]
    halves = pairs[:150], pairs[150:]
    found: list = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "in.txt"
        path.write_text("".join(f"{n:03}\n" for n in range(300)))
        made = job(pairs, found, reducer=own_reducer, combiner=fold)
        run(made, splits_of([path], 600), Path(directory), buffer_bytes=buffer_bytes)
    assert found == [
        (key, [PARTIALS[name]([v for k, v in half if k == key]) for half in halves])
        for key in range(3)
    ]


@pytest.mark.parametrize("buffer_bytes", [TINY, BIG])
def test_union_as_combiner_hands_sets_on(buffer_bytes):
    pairs = [(n % 2, [n % 5, "x"]) for n in range(200)]
    found = reduced(pairs, reducer=own_reducer, combiner=folds.union, buffer_bytes=buffer_bytes)
    assert found == [(0, [{0, 1, 2, 3, 4, "x"}]), (1, [{0, 1, 2, 3, 4, "x"}])]


@named
def test_ones_own_combiner_hands_a_fold_values(name):
    fold, of_values, _ = FOLDS[name]
    pairs = [(n % 3, [n % 7] if name == "union" else n % 7) for n in range(200)]
    every = {"reducer": fold, "combiner": own_every}
    for buffer_bytes in (TINY, BIG):
        found = reduced(pairs, 200, buffer_bytes=buffer_bytes, **every)
        assert as_dict(found) == naive(pairs, of_values)
    if name != "union":
        found = reduced(pairs, reducer=fold, combiner=own_first_of_equals, buffer_bytes=BIG)
        assert as_dict(found) == naive(pairs, lambda values: of_values([*dict.fromkeys(values)]))


def test_one_fold_may_combine_for_another():
    pairs = [(n % 3, n % 7) for n in range(200)]
    for buffer_bytes in (TINY, BIG):
        options = {"buffer_bytes": buffer_bytes, "split_bytes": 100}
        counted = reduced(pairs, reducer=folds.sum, combiner=folds.count, **options)
        assert as_dict(counted) == naive(pairs, len)
        united = reduced(pairs, reducer=folds.union, combiner=folds.distinct, **options)
        assert as_dict(united) == naive(pairs, set)
    # The partials of the one are values to the other: a mean of each map's largest value.
    found = reduced([("k", n) for n in range(10)], 10, reducer=folds.mean, combiner=folds.max)
    assert found == [("k", (4 + 9) / 2)]


@named
def test_a_fold_as_reducer_combines_on_the_map_side(name, tmp_path):
    fold, _, _ = FOLDS[name]
    value = [1] if name == "union" else 1
    pairs = [(n % 3, value) for n in range(5000)]
    for buffer_bytes in (40_000, BIG):
        made = job(pairs, [], reducer=fold)
        split = whole(numbered(tmp_path, len(pairs)))
        _, (outcome,) = map_all(made, [split], tmp_path, buffer_bytes=buffer_bytes)
        assert outcome.counters["map output records"] == 5000
        if fold.combines:
            assert outcome.counters["spilled records"] == 3
        else:
            assert outcome.counters["spilled records"] >= 5000


@pytest.mark.parametrize("maps", [1, 5])
@pytest.mark.parametrize("buffer_bytes", [TINY, BIG])
def test_first_last_and_collect_follow_the_input(maps, buffer_bytes):
    pairs = [(n % 2, n) for n in range(1000)]
    split_bytes = 4000 // maps
    for combiner in ({}, {"combiner": own_every}):
        options = {"split_bytes": split_bytes, "buffer_bytes": buffer_bytes} | combiner
        with blocks_of(5):
            assert reduced(pairs, reducer=folds.first, **options) == [(0, 0), (1, 1)]
            assert reduced(pairs, reducer=folds.last, **options) == [(0, 998), (1, 999)]
            assert reduced(pairs, reducer=folds.collect, **options) == [
                (0, [*range(0, 1000, 2)]),
                (1, [*range(1, 1000, 2)]),
            ]


@pytest.mark.parametrize("fold", [folds.min, folds.max, folds.top(2)], ids=lambda fold: fold.name)
@pytest.mark.parametrize("buffer_bytes", [TINY, BIG])
@pytest.mark.parametrize("split_bytes", [200, BIG])
def test_of_equal_values_the_first_one_is_taken(fold, buffer_bytes, split_bytes):
    for values in ([1, True, 1.0], [True, 1.0, 1], [1.0, 1, True]):
        pairs = [("k", value) for value in values for _ in range(100)]
        ((_, found),) = reduced(pairs, split_bytes, reducer=fold, buffer_bytes=buffer_bytes)
        assert shape(found) == shape([values[0]] * 2 if fold == folds.top(2) else values[0])


def test_a_sum_is_the_same_number_however_its_values_were_held():
    for value in (True, -0.0, 1, 0.5):
        pairs = [(key, value) for key in range(300)]
        expected = {key: shape(sum([value])) for key in naive(pairs, len)}
        for buffer_bytes in (TINY, BIG):
            for combiner in (None, own_every):
                roles = {"reducer": folds.sum} | ({"combiner": combiner} if combiner else {})
                found = reduced(pairs, buffer_bytes=buffer_bytes, **roles)
                assert as_dict(found) == expected


def test_a_key_with_many_partials_is_merged_some_at_a_time(monkeypatch):
    sizes = []
    merged = type(folds.distinct).merged
    monkeypatch.setattr(
        type(folds.distinct),
        "merged",
        lambda self, groups: (sizes.append(len(groups.values)), merged(self, groups))[1],
    )
    pairs = [("a" if n < 500 else "b", n % 10) for n in range(1000)]
    with blocks_of(1):
        found = reduced(pairs, reducer=folds.distinct, combiner=own_every)
    assert found == [("a", set(range(10))), ("b", set(range(10)))]
    assert 1 < max(sizes) <= reducing._MOST_PARTIALS


# What a fold cannot take


WRONG = [
    (folds.sum, 1, "x", "unsupported operand"),
    (folds.mean, 1, "x", "unsupported operand"),
    (folds.mean, 1.5, 10**400, "int too large"),
    (folds.min, 1, "x", "'<' not supported"),
    (folds.max, 1, "x", "'>' not supported"),
    (folds.distinct, 1, [1], "unhashable type: 'list'"),
    (folds.union, [1], 1, "'int' object is not iterable"),
    (folds.union, [1], [[]], "unhashable type: 'list'"),
    (folds.top(1), 1, "x", "not supported between"),
]
wrong = pytest.mark.parametrize(
    ("fold", "good", "bad", "problem"), WRONG, ids=[f"{w[0].name} {w[2]!r:.5}" for w in WRONG]
)


@wrong
@pytest.mark.parametrize("at", [3, 70, 900])
@pytest.mark.parametrize("buffer_bytes", [TINY, 30_000, BIG])
def test_a_value_that_a_fold_cannot_take_is_shown_with_its_record(
    tmp_path, fold, good, bad, problem, at, buffer_bytes
):
    pairs = [("k", good)] * 1000
    pairs[at] = ("k", bad)
    path = tmp_path / "in.txt"
    lines = b"".join(b"%d\n" % n for n in range(1000))
    offset = lines.index(b"%d\n" % at) if at > 9 else 2 * at
    error = failed_map(tmp_path, job(pairs, [], reducer=fold), lines, buffer_bytes)
    assert error.message.startswith(f"folds.{fold.name} cannot take the value {bad!r:.200}: ")
    assert problem in error.message
    assert error.details["where"] == f"{path}, offset {offset}, record '{at}'"
    assert error.details["final"] is True


@wrong
@pytest.mark.parametrize("pairs_per_block", [1, 2, 1000])
def test_one_that_comes_up_in_the_reduce_is_shown_with_its_key(
    tmp_path, fold, good, bad, problem, pairs_per_block
):
    pairs = [("a", good), ("k", good), ("k", good), ("k", bad), ("z", good)]
    made = job(pairs, [], reducer=fold, combiner=own_every)
    with blocks_of(pairs_per_block):
        error = failed_reduce(tmp_path, made, b"0\n1\n2\n3\n4\n")
    assert error.message.startswith(f"folds.{fold.name} cannot take the values: ")
    assert problem in error.message
    assert error.details["where"] == "key 'k'"
    assert error.details["final"] is True


def test_a_result_that_is_no_number_is_shown_with_its_key(tmp_path):
    made = job([("a", 1), ("k", 10**400), ("z", 1)], [], reducer=folds.mean)
    error = failed_reduce(tmp_path, made, b"0\n1\n2\n")
    assert error.message.startswith("folds.mean cannot take the values: OverflowError")
    assert error.details == {"where": "key 'k'", "final": True}


@named
def test_a_mapper_that_raises_below_a_fold_is_said_to_be_it(tmp_path, name):
    fold, _, _ = FOLDS[name]

    def raising(key, line):
        yield "k", [1] if name == "union" else 1
        if line == "3":
            raise TypeError("on purpose")

    made = job([], [], mapper=raising, reducer=fold)
    error = failed_map(tmp_path, made, b"0\n1\n2\n3\n4\n")
    assert error.message == "the mapper raised TypeError: on purpose"
    assert error.details["where"].endswith("offset 6, record '3'")
    assert "final" not in error.details


def test_counts_do_not_care_what_is_counted():
    pairs = [(n % 2, object()) for n in range(300)]
    for buffer_bytes in (TINY, BIG):
        found = reduced(pairs, reducer=folds.count, buffer_bytes=buffer_bytes)
        assert Counter(dict(found)) == {0: 150, 1: 150}
