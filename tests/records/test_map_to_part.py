"""Maps of a job without a reducer: from a split to a part file."""

from __future__ import annotations

import hashlib
import json

import pytest
from attempts import OURS, functions, loaded, shown, whole
from test_quarantine import Run, split_words

import pytxmr
from pytxmr.errors import AttemptFailed
from pytxmr.records import folds
from pytxmr.records.mapping import map_to_part


class Direct(Run):
    """The same with a part file instead of a spill."""

    def run(self):
        progress, bad = (lambda done: None), self.bad
        self.outcome = map_to_part(self.job, whole(self.input), str(self.spill), progress, bad)
        return self

    def keys(self):
        return [line.split("\t")[0] for line in self.spill.read_text().splitlines()]


def part_of(tmp_path, job, lines=b"b a\nc b\n"):
    """Map these lines into a part; what it holds, and the outcome."""
    path = tmp_path / "in.txt"
    path.write_bytes(lines)
    part = tmp_path / "part"
    outcome = map_to_part(job, whole(path), str(part), lambda done: None)
    data = part.read_bytes()
    assert outcome.size_bytes == outcome.counters["map output bytes"] == len(data)
    assert outcome.digest == hashlib.sha256(data).hexdigest()
    assert outcome.ranges == []
    return data, outcome


def failed(tmp_path, job, lines=b"one\ntwo\nthree\nfour\n"):
    """Run a map that must fail; returns the error. No file may be left behind."""
    path = tmp_path / "in.txt"
    path.write_bytes(lines)
    with pytest.raises(AttemptFailed) as caught:
        map_to_part(job, whole(path), str(tmp_path / "part"), lambda done: None)
    assert [left.name for left in tmp_path.iterdir()] == ["in.txt"]
    return caught.value


def test_pairs_are_written_in_the_order_of_the_input_and_counted(tmp_path):
    data, outcome = part_of(tmp_path, functions(reducer=None))
    assert data == b"b\t1\na\t1\nc\t1\nb\t1\n"
    assert outcome.counters == {
        "map input records": 2,
        "map input bytes": 8,
        "map output records": 4,
        "map output bytes": 16,
    }


def test_more_pairs_than_a_chunk_holds_are_all_written(tmp_path):
    data, outcome = part_of(tmp_path, functions(reducer=None), b"a b c\n" * 5000)
    assert data == b"a\t1\nb\t1\nc\t1\n" * 5000
    assert outcome.counters["map output records"] == 15000


def test_the_jobs_reader_writer_and_hooks_are_used(tmp_path):
    job = loaded("""
        def reader(lines):
            for number, (offset, line) in enumerate(lines):
                yield number, line.decode()

        def map_init():
            yield "first", 0

        def mapper(key, value):
            yield key, value

        def map_final():
            yield "last", 0

        def writer(pairs):
            for key, value in pairs:
                yield f"<{key}:{value}>"
        """)
    assert part_of(tmp_path, job)[0] == b"<first:0><0:b a><1:c b><last:0>"


@pytest.mark.parametrize("form", ["lines", "bytes", "buffer"])
def test_a_batch_mapper_may_yield_whatever_it_yields_to_a_reducer(tmp_path, form):
    job = loaded(f"""
        import pytxmr
        @pytxmr.batch({form!r})
        def mapper(offset, records):
            yield "pair", offset
            yield {{"in a": "mapping"}}
            yield pytxmr.columns(["x", "y"])
        """)
    assert part_of(tmp_path, job)[0] == b"pair\t0\nin a\tmapping\nx\ny\n"


def test_a_combiner_and_a_reducer_that_there_are_do_nothing(tmp_path):
    job = functions(reducer=folds.sum, combiner=folds.sum)
    assert part_of(tmp_path, job)[0] == b"b\t1\na\t1\nc\t1\nb\t1\n"


def test_what_could_not_be_carried_to_a_reducer_may_be_written(tmp_path):
    def mapper(key, value):
        yield [value], range(2)

    assert part_of(tmp_path, functions(mapper, None), b"a\n")[0] == b'["a"]\t"range(0, 2)"\n'


# What goes wrong


@pytest.mark.parametrize("made", ["ab", 7, None, (1, 2, 3)], ids=repr)
def test_what_is_no_pair_is_refused_naming_the_record(tmp_path, made):
    def mapper(key, value):
        yield value, 1
        yield made if value == "three" else (value, 2)

    error = failed(tmp_path, functions(mapper, None))
    assert error.message == f"the mapper yielded {made!r}: not a pair (key, value)"
    assert error.details["where"].endswith("offset 8, record 'three'")
    assert error.details["final"]
    assert "yield made" in shown(error)


def test_a_mapper_that_returns_nothing_is_told_so(tmp_path):
    error = failed(tmp_path, functions(lambda key, value: None, None))
    assert "the mapper returned NoneType" in error.message


def test_a_mapper_that_raises_is_told_with_the_record(tmp_path):
    def mapper(key, value):
        if value == "three":
            raise ValueError(value)
        yield value, 1

    error = failed(tmp_path, functions(mapper, None))
    assert error.message == "the mapper raised ValueError: three"
    assert error.details["where"].endswith("offset 8, record 'three'")
    assert OURS not in shown(error)


@pytest.mark.parametrize("hook", ["map_init", "map_final"])
def test_a_hook_that_raises_is_named(tmp_path, hook):
    error = failed(tmp_path, functions(reducer=None, **{hook: lambda: 1 / 0}))
    assert error.message == f"{hook}() raised ZeroDivisionError: division by zero"


@pytest.mark.parametrize("hook", ["map_init", "map_final"])
@pytest.mark.parametrize("form", [None, "lines"])
def test_what_a_hook_yields_is_checked(tmp_path, hook, form):
    def mapper(key, value):
        return ()

    job = functions(pytxmr.batch(form)(mapper) if form else mapper, None, **{hook: lambda: ["ab"]})
    assert failed(tmp_path, job).message.startswith(f"{hook}() yielded 'ab': not a pair")


def test_a_writer_that_raises_is_blamed_itself(tmp_path):
    def writer(pairs):
        for key, _ in pairs:
            if key == "three":
                raise ValueError(key)
            yield key

    error = failed(tmp_path, functions(reducer=None, writer=writer))
    assert error.message == "the writer raised ValueError: three"
    assert not error.details.get("where")


def test_a_mapper_that_raises_while_a_writer_pulls_is_blamed_itself(tmp_path):
    def mapper(key, value):
        yield value, 1 / (value != "three")

    def writer(pairs):
        for key, _ in pairs:
            yield key

    error = failed(tmp_path, functions(mapper, None, writer=writer))
    assert error.message == "the mapper raised ZeroDivisionError: division by zero"
    assert error.details["where"].endswith("offset 8, record 'three'")


def test_a_mapper_that_raises_long_after_the_writer_began_is_blamed_itself(tmp_path):
    def mapper(key, value):
        yield value, 1 / (value != "2000")

    lines = b"".join(b"%d\n" % number for number in range(3000))
    error = failed(tmp_path, functions(mapper, None), lines)
    assert error.message == "the mapper raised ZeroDivisionError: division by zero"
    assert error.details["where"].endswith("record '2000'")


def test_a_fold_that_does_nothing_is_not_blamed_for_what_it_could_not_take(tmp_path):
    def mapper(key, value):
        yield value, "text"
        if value == "three":
            yield 7

    error = failed(tmp_path, functions(mapper, folds.sum, combiner=folds.sum))
    assert error.message.startswith("the mapper yielded 7: not a pair")


@pytest.mark.parametrize(
    ("writer", "problem"),
    [
        (lambda pairs: None, "the writer cannot be called, or returned no text"),
        (lambda pairs: [7], "the writer yielded int: it must yield str or bytes"),
    ],
)
def test_a_writer_that_gives_no_text_is_told_so(tmp_path, writer, problem):
    error = failed(tmp_path, functions(reducer=None, writer=writer))
    assert error.message.startswith(problem)
    assert error.details["final"]


def test_a_part_that_cannot_be_written_is_no_error_of_the_job(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a\n")
    part = tmp_path / "none" / "part"
    with pytest.raises(AttemptFailed, match="part: No such file or directory"):
        map_to_part(functions(reducer=None), whole(path), str(part), lambda done: None)


# Bad records


def test_a_record_is_set_aside_with_all_that_the_mapper_yielded_for_it(tmp_path):
    done = Direct(tmp_path, functions(split_words, None)).run()
    assert done.keys() == ["a", "b", "c", "d"]
    assert [line["record"] for line in done.aside()] == ["bad one", "bad \udcff two"]
    assert done.outcome.counters["bad records"] == 2
    assert done.outcome.first_bad["message"] == "the mapper raised ValueError: bad one"


def test_a_part_that_is_begun_anew_has_the_size_and_digest_of_what_is_in_it(tmp_path):
    lines = b"a b\n" * 50_000 + b"bad one\n"  # more than the first try can hold in its buffer
    done = Direct(tmp_path, functions(split_words, None), lines=lines).run()
    data = done.spill.read_bytes()
    assert data == b"a\t1\nb\t1\n" * 50_000
    assert done.outcome.size_bytes == done.outcome.counters["map output bytes"] == len(data)
    assert done.outcome.digest == hashlib.sha256(data).hexdigest()


def test_a_record_whose_value_can_only_be_written_is_not_bad_beside_one_that_is(tmp_path):
    def mapper(key, value):
        if value.startswith("bad"):
            raise ValueError
        yield value, range(1)

    done = Direct(tmp_path, functions(mapper, None)).run()
    assert done.keys() == ["a b", "c", "d"]
    assert len(done.aside()) == 2


def test_a_record_that_yields_what_is_no_pair_is_bad(tmp_path):
    done = Direct(tmp_path, functions(lambda key, value: [7] if "bad" in value else [(value, 1)]))
    assert done.run().keys() == ["a b", "c", "d"]
    (first, _) = done.aside()
    assert "not a pair" in json.dumps(first)


def test_progress_and_signs_show_how_far_a_map_is(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a b c\n" * 5000)
    told, seen, signs = [], set(), []

    def mapper(key, value):
        if signs:
            seen.add(signs[0]())
        yield value, 1

    map_to_part(
        functions(mapper, None),
        whole(path),
        str(tmp_path / "part"),
        told.append,
        None,
        signs.append,
    )
    assert told == sorted(told)
    assert len(seen) == 5000


def test_signs_show_each_pair_of_one_record(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a\n")
    seen, signs = set(), []

    def mapper(key, value):
        for number in range(5000):
            seen.add(signs[0]())
            yield number, 1

    part = str(tmp_path / "part")
    map_to_part(functions(mapper, None), whole(path), part, lambda done: None, None, signs.append)
    assert len(seen) == 5000
