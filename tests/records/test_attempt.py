"""Whole attempts: right answers end to end, and errors that say which record of which file."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter

import pytest
from attempts import (
    add_up,
    failed_map,
    failed_reduce,
    functions,
    loaded,
    map_all,
    run,
    shown,
    splits_of,
    whole,
    word_mapper,
)

from pytxmr.errors import AttemptFailed, SpillDamaged, Uncarryable
from pytxmr.model import FileRange, InputSplit
from pytxmr.records import readers
from pytxmr.records.attempt import bind_sample
from pytxmr.records.mapping import run_map
from pytxmr.records.partition import RangePartitioner, stable_partition
from pytxmr.records.reducing import run_reduce


def text_file(path, lines=400, seed=7):
    drawn = random.Random(seed)
    vocabulary = ["the", "The", "naïve", "x", "日本", "\udcff\udcfe", *(f"w{n}" for n in range(50))]
    text = "\n".join(
        " ".join(drawn.choices(vocabulary, k=drawn.randrange(9))) for _ in range(lines)
    )
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


# Right answers


@pytest.mark.parametrize("combiner", [None, add_up])
@pytest.mark.parametrize("buffer_bytes", [1, 50_000, 1 << 30])
@pytest.mark.parametrize(("split_bytes", "partitions"), [(10**9, 1), (3000, 3), (400, 7)])
def test_words_are_counted(tmp_path, split_bytes, partitions, buffer_bytes, combiner):
    files = [text_file(tmp_path / "one.txt"), text_file(tmp_path / "two.txt", 50, seed=8)]
    job = functions(combiner=combiner)
    options = {"partitions": partitions, "buffer_bytes": buffer_bytes}
    parts = run(job, splits_of(files, split_bytes), tmp_path, **options)
    expected: Counter = Counter()
    for file in files:
        expected.update(file.read_bytes().decode("utf-8", "surrogateescape").lower().split())
    found: dict = {}
    for number, part in enumerate(parts):
        lines = part.decode("utf-8", "surrogateescape").splitlines()
        words = [line.split("\t")[0] for line in lines]
        assert words == sorted(set(words))
        assert all(stable_partition(word, partitions) == number for word in words)
        found.update((word, int(n)) for word, n in (line.split("\t") for line in lines))
    assert found == expected
    assert sum(part.count(b"\n") for part in parts) == len(expected)


def test_counters_size_and_digest_are_those_of_the_data(tmp_path):
    path = text_file(tmp_path / "in.txt")
    data = path.read_bytes().decode("utf-8", "surrogateescape")
    words = data.lower().split()
    segments, outcomes = map_all(functions(), splits_of([path], 1000), tmp_path, partitions=2)
    counted = Counter()
    for outcome in outcomes:
        counted.update(outcome.counters)
    assert counted["map input records"] == data.count("\n") + 1
    assert counted["map input bytes"] == path.stat().st_size
    assert counted["map output records"] == len(words)
    assert counted["map output bytes"] == sum(part.length for some in segments for part in some)
    groups = 0
    for number, some in enumerate(segments):
        part = tmp_path / f"part{number}"
        outcome = run_reduce(
            functions(), some, str(part), str(tmp_path / "scratch"), lambda done: None
        )
        written = part.read_bytes()
        assert outcome.size_bytes == len(written) == outcome.counters["reduce output bytes"]
        assert outcome.digest == hashlib.sha256(written).hexdigest()
        assert outcome.counters["reduce output records"] == written.count(b"\n")
        groups += outcome.counters["reduce input groups"]
    assert groups == len(set(words))


def test_progress_goes_from_0_to_1(tmp_path):
    told: list = []
    path = text_file(tmp_path / "in.txt")
    map_all(functions(), [whole(path)], tmp_path, buffer_bytes=1, progress=told.append)
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] == 1.0


def test_empty_input_gives_empty_parts(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"")
    assert run(functions(), [whole(path)], tmp_path, partitions=2) == [b"", b""]


def test_several_files_in_one_split_are_all_read(tmp_path):
    files = []
    for number in range(5):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_bytes(f"all only{number}".encode())
    (part,) = run(functions(), [whole(*files)], tmp_path)
    assert part == b"all\t5\n" + b"".join(b"only%d\t1\n" % n for n in range(5))


def test_a_mapper_gets_each_line_with_its_offset_in_bytes(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes("é\r\n\n日本\nend".encode())
    job = functions(
        mapper=lambda key, value: [(key, value)], reducer=lambda key, values: [(key, [*values])]
    )
    (part,) = run(job, [whole(path)], tmp_path)
    assert part.decode() == '0\t["é"]\n4\t[""]\n5\t["日本"]\n12\t["end"]\n'


def test_bytes_that_are_not_utf_8_come_through_unharmed(tmp_path):
    lines = [bytes([a, b]) for a in range(128, 256) for b in (10 + 90, 200, 255)]
    path = tmp_path / "in.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    for mapper in (
        lambda key, value: [(value, None)],
        lambda key, value: [((value, 1), None)],
    ):
        job = functions(
            mapper=mapper, reducer=lambda key, values: [(key if type(key) is str else key[0], None)]
        )
        parts = run(job, splits_of([path], 100), tmp_path, partitions=3, buffer_bytes=1)
        assert sorted(b"".join(parts).split(b"\n")[:-1]) == sorted(set(lines))


def test_what_a_mapper_yields_is_what_the_reducer_gets(tmp_path):
    sent = [("tuple", (1, (2, [3]))), ("set", {1}), ("dict", {(1, 2): b"x"}), ("big", 2**99)]
    sent += [((1, None), 1.0), (b"bytes", True), (None, None), (0.5, "\ud800"), (7, [])]
    got = {}

    def reducer(key, values):
        got[key] = list(values)
        return []

    path = tmp_path / "in.txt"
    path.write_bytes(b"line\n")
    run(functions(mapper=lambda key, value: sent, reducer=reducer), [whole(path)], tmp_path)
    assert list(map(repr, got.values())) == [repr([dict(sent)[key]]) for key in got]
    assert list(got) == [None, 0.5, 7, "big", "dict", "set", "tuple", b"bytes", (1, None)]


def test_a_reader_makes_the_records(tmp_path):
    def paragraphs(lines):
        kept, first = [], 0
        for offset, line in lines:
            if line:
                first = first if kept else offset
                kept.append(line)
            elif kept:
                yield first, b" ".join(kept)
                kept = []
        if kept:
            yield first, b" ".join(kept)

    path = tmp_path / "in.txt"
    path.write_bytes(b"\na\nb\r\n\n\nc\n")
    job = functions(
        mapper=lambda key, value: [(value, key)],
        reducer=lambda key, values: [(key, list(values))],
        reader=paragraphs,
    )
    assert run(job, [whole(path)], tmp_path) == [b"a b\t[1]\nc\t[8]\n"]
    _, (outcome,) = map_all(job, [whole(path)], tmp_path)
    assert outcome.counters["map input records"] == 2
    assert outcome.counters["map input bytes"] == path.stat().st_size


def test_a_writer_makes_the_output(tmp_path):
    def writer(pairs):
        yield b"\x00head"
        for key, value in pairs:
            yield f"<{key}:{value}>"

    path = tmp_path / "in.txt"
    path.write_bytes(b"b a b\n")
    assert run(functions(writer=writer), [whole(path)], tmp_path) == [b"\x00head<a:1><b:2>"]


def test_a_partitioner_sends_keys_where_it_wants(tmp_path):
    job = functions(partitioner=lambda key, partitions: len(key) % partitions)
    path = tmp_path / "in.txt"
    path.write_bytes(b"a bb ccc dd e\n")
    parts = run(job, [whole(path)], tmp_path, partitions=2)
    assert parts == [b"bb\t1\ndd\t1\n", b"a\t1\nccc\t1\ne\t1\n"]


def test_with_ranges_the_parts_in_order_are_sorted(tmp_path):
    job = functions(partitioner=RangePartitioner())
    path = text_file(tmp_path / "in.txt")
    words = path.read_bytes().decode("utf-8", "surrogateescape").lower().split()
    bind_sample(job, words[::10])
    parts = run(job, splits_of([path], 2000), tmp_path, partitions=4)
    found = [
        line.split(b"\t")[0].decode("utf-8", "surrogateescape")
        for part in parts
        for line in part.splitlines()
    ]
    assert found == sorted(set(words))
    assert all(parts)


def test_a_reducer_need_not_read_all_values(tmp_path):
    path = text_file(tmp_path / "in.txt")
    job = functions(reducer=lambda key, values: [(key, next(values))])
    (part,) = run(job, splits_of([path], 1000), tmp_path)
    assert set(re.findall(rb"\t(.*)\n", part)) == {b"1"}


# Errors of the user's code


RAISES = """
    def mapper(key, value):
        yield value, 1
        if value.startswith("four"):
            raise KeyError("no such field")

    def reducer(key, values):
        yield key, sum(values)
"""


@pytest.mark.parametrize("chunk_bytes", [1, 13, 1 << 20])
def test_a_mapper_that_raises_is_shown_with_file_offset_and_record(
    tmp_path, monkeypatch, chunk_bytes
):
    monkeypatch.setattr(readers, "CHUNK_BYTES", chunk_bytes)
    error = failed_map(tmp_path, loaded(RAISES), b"one\n\xc3\xa9\r\nthree\nfour \xff\nfive\n")
    assert error.message == "the mapper raised KeyError: 'no such field'"
    assert error.details["where"] == f"{tmp_path}/in.txt, offset 14, record 'four \\udcff'"
    assert "final" not in error.details
    assert 'File "job.py", line 4, in mapper' in shown(error)
    assert 'raise KeyError("no such field")' in shown(error)


def test_the_first_and_the_last_record_are_found_as_well(tmp_path):
    for lines, offset in ((b"four\na\nb\n", 0), (b"a\nb\nfour", 4)):
        error = failed_map(tmp_path, loaded(RAISES), lines)
        assert error.details["where"] == f"{tmp_path}/in.txt, offset {offset}, record 'four'"


def test_the_file_is_the_one_of_the_record(tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for path, data in ((one, b"1\n"), (two, b"22\nfour\n"), (three, b"3\n")):
        path.write_bytes(data)
    with pytest.raises(AttemptFailed) as caught:
        run_map(
            loaded(RAISES),
            whole(one, two, three),
            str(tmp_path / "spill"),
            1,
            1 << 20,
            lambda done: None,
        )
    assert caught.value.details["where"] == f"{two}, offset 3, record 'four'"


def test_a_mapper_that_raises_after_many_runs_leaves_no_file(tmp_path):
    lines = b"".join(b"%d\n" % n for n in range(1000)) + b"four\n"
    error = failed_map(tmp_path, loaded(RAISES), lines, buffer_bytes=1)
    assert error.details["where"].endswith("record 'four'")


def test_an_error_in_a_library_is_shown_from_the_users_line_on(tmp_path):
    job = loaded(
        """
        import json
        def mapper(key, value):
            return [(json.loads(value), 1)]
        def reducer(key, values): ...
        """
    )
    error = failed_map(tmp_path, job, b"1\n{bad\n")
    assert error.message.startswith("the mapper raised JSONDecodeError")
    assert error.details["where"].endswith("offset 2, record '{bad'")
    text = shown(error)
    assert text.index('File "job.py", line 3, in mapper') < text.index("json/decoder.py")


def test_chained_errors_are_shown_without_frames_of_ours(tmp_path):
    job = loaded(
        """
        def mapper(key, value):
            try:
                int(value)
            except ValueError as error:
                raise RuntimeError("wrapped") from error
        def reducer(key, values): ...
        """
    )
    text = shown(failed_map(tmp_path, job))
    assert "ValueError: invalid literal" in text
    assert "RuntimeError: wrapped" in text
    assert text.count('File "job.py"') == 2


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt()", "MemoryError()"])
def test_even_what_would_end_the_process_is_an_error_of_the_mapper(tmp_path, raised):
    job = loaded(
        f"""
        def mapper(key, value):
            raise {raised}
        def reducer(key, values): ...
        """
    )
    error = failed_map(tmp_path, job)
    assert error.message.startswith(f"the mapper raised {raised.partition('(')[0]}")
    assert error.details["where"].endswith("offset 0, record 'one'")


@pytest.mark.parametrize("mapper", [lambda value: [], lambda: [], lambda a, b, c: []])
def test_a_mapper_with_the_wrong_parameters_is_told_so(tmp_path, mapper):
    error = failed_map(tmp_path, functions(mapper=mapper))
    assert "the mapper raised TypeError" in error.message
    assert "argument" in error.message
    assert error.details["where"].endswith("offset 0, record 'one'")


def stop_at(wanted):
    """A mapper or reducer that is no generator, and calls `next` once too often."""

    def plain(key, value):
        return [(value, next(iter([] if wanted in (key, value) else [1])))]

    return plain


@pytest.mark.parametrize("line", ["one", "two", "four"])
@pytest.mark.parametrize("chunk_bytes", [1, 8, 1 << 20])
def test_a_stop_iteration_does_not_pass_for_the_end_of_the_input(
    tmp_path, monkeypatch, line, chunk_bytes
):
    monkeypatch.setattr(readers, "CHUNK_BYTES", chunk_bytes)
    error = failed_map(tmp_path, functions(mapper=stop_at(line)))
    assert error.message == "the mapper raised StopIteration"
    assert error.details["where"].endswith(f"record '{line}'")
    reader = functions(
        mapper=stop_at(line), reader=lambda lines: ((at, line.decode()) for at, line in lines)
    )
    error = failed_map(tmp_path, reader)
    assert error.message == "the mapper raised StopIteration"
    assert error.details["where"].endswith(f"'{line}')")


@pytest.mark.parametrize("key", ["four", "one", "two"])
@pytest.mark.parametrize("read_first", [False, True])
def test_a_stop_iteration_does_not_pass_for_the_end_of_the_groups(tmp_path, key, read_first):
    def reducer(name, values):
        if read_first:
            list(values)
        return [(name, next(iter([] if name == key else [1])))]

    error = failed_reduce(tmp_path, functions(reducer=reducer))
    assert error.message == "the reducer raised StopIteration"
    assert error.details["where"] == f"key '{key}'"


NOT_PAIRS = {
    "'ab'": "'ab'",
    "'a'": "'a'",
    "'abc'": "'abc'",
    "b'ab'": "b'ab'",
    "7": "7",
    "None": "None",
    "(1, 2, 3)": "(1, 2, 3)",
    "(1,)": "(1,)",
    "[]": "[]",
    "{1: 1, 2: 2}": "{1: 1, 2: 2}",
}


@pytest.mark.parametrize("bad", NOT_PAIRS)
@pytest.mark.parametrize("line", ["one", "three"])
def test_a_mapper_that_yields_no_pair_is_stopped_at_its_yield(tmp_path, bad, line):
    job = loaded(
        f"""
        def mapper(key, value):
            if value == {line!r}:
                yield {bad}
            yield "k", 1
        def reducer(key, values): ...
        """
    )
    error = failed_map(tmp_path, job)
    assert isinstance(error, Uncarryable)
    assert error.message == f"the mapper yielded {NOT_PAIRS[bad]}: not a pair (key, value)"
    assert error.details["final"] is True
    offset = {"one": 0, "three": 8}[line]
    assert error.details["where"] == f"{tmp_path}/in.txt, offset {offset}, record '{line}'"
    assert 'File "job.py", line 3, in mapper' in shown(error)
    assert f"yield {bad}" in shown(error)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("[1], 1", r"for the key \[1\]: a list cannot be a key"),
        ("(1, {}), 1", r"for the key \(1, \{\}\): a dict cannot be a key"),
        ("frozenset(), 1", r"for the key frozenset\(\): a frozenset cannot be a key"),
        ("'k', object()", "for the key 'k': a object cannot be carried"),
        ("'k', [1, {2: bytearray()}]", "for the key 'k': a bytearray cannot be carried"),
        ("'k', Counter('a')", r"a collections.Counter cannot be carried: yield dict\(value\)"),
        ("'k', Point(1, 2)", r"a pytxmr_job_job.Point cannot be carried: yield tuple\(value\)"),
        ("Point(1, 2), 1", "a pytxmr_job_job.Point cannot be a key"),
        (
            "'k', cyclic",
            "for the key 'k': a list nested more than 100 deep, or that contains itself",
        ),
        ("deep, 1", "a tuple nested more than 100 deep"),
        ("'k', deep", "for the key 'k': a tuple nested more than 100 deep"),
    ],
)
@pytest.mark.parametrize("buffer_bytes", [1, 1 << 20])
def test_a_mapper_that_yields_what_cannot_travel_is_stopped_at_its_yield(
    tmp_path, bad, problem, buffer_bytes
):
    job = loaded(
        f"""
        from collections import Counter, namedtuple
        Point = namedtuple("Point", "x y")
        cyclic = []
        cyclic.append(cyclic)
        deep = ()
        for _ in range(700):
            deep = (deep,)
        def mapper(key, value):
            yield "fine", (1, 2)
            if value == "three":
                yield {bad}
        def reducer(key, values): ...
        """
    )
    error = failed_map(tmp_path, job, buffer_bytes=buffer_bytes)
    assert isinstance(error, Uncarryable)
    assert re.search(problem, error.message)
    assert error.details["final"] is True
    assert error.details["where"] == f"{tmp_path}/in.txt, offset 8, record 'three'"
    assert 'File "job.py", line 11, in mapper' in shown(error)
    assert f"yield {bad}" in shown(error)


@pytest.mark.parametrize(
    "handler", ["return", "pass", "raise RuntimeError('other')", "yield 'k', 1"]
)
def test_a_mapper_that_catches_everything_is_stopped_all_the_same(tmp_path, handler):
    job = loaded(
        f"""
        def mapper(key, value):
            try:
                yield "k", object()
            except Exception:
                {handler}
        def reducer(key, values): ...
        """
    )
    error = failed_map(tmp_path, job)
    assert error.message.startswith("for the key 'k': a object cannot be carried")
    assert error.details["where"].endswith("offset 0, record 'one'")


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("None", "the mapper returned NoneType, not an iterable of pairs; does it lack a yield?"),
        ("7", "the mapper returned int, not an iterable of pairs"),
        ("value", "the mapper yielded 't': not a pair (key, value)"),
        ("(value, 1)", "the mapper yielded 'three': not a pair (key, value)"),
    ],
)
def test_a_mapper_that_returns_what_holds_no_pairs_is_told_so(tmp_path, returned, problem):
    job = loaded(
        f"""
        def mapper(key, value):
            return {returned} if value == "three" else []
        def reducer(key, values): ...
        """
    )
    error = failed_map(tmp_path, job)
    assert isinstance(error, Uncarryable)
    assert error.message == problem
    assert error.details == {"final": True, "where": f"{tmp_path}/in.txt, offset 8, record 'three'"}
    shown(error)


def test_an_error_with_a_reader_names_its_record(tmp_path):
    def mapper(key, value):
        if key == 1:
            raise ValueError("no")
        return [(key, value)]

    def reader(lines):
        for number, (_, line) in enumerate(lines):
            yield number, line

    error = failed_map(tmp_path, functions(mapper=mapper, reader=reader))
    assert error.message == "the mapper raised ValueError: no"
    assert error.details["where"] == f"{tmp_path}/in.txt, record (1, b'two')"
    job = functions(mapper=lambda key, value: [(key, object())], reader=reader)
    error = failed_map(tmp_path, job)
    assert error.details["where"] == f"{tmp_path}/in.txt, record (0, b'one')"
    job = functions(reader=lambda lines: iter([1]))
    assert isinstance(failed_map(tmp_path, job), AttemptFailed)


def test_an_error_of_the_combiner_is_said_to_be_its(tmp_path):
    def combiner(key, values):
        raise ValueError("no")

    error = failed_map(tmp_path, functions(combiner=combiner), b"a b a b\n")
    assert error.message == "the combiner raised ValueError: no"
    assert error.details["where"] == "key 'a'"
    assert "in combiner" in shown(error)


def test_what_a_combiner_makes_must_be_carryable(tmp_path):
    job = functions(combiner=lambda key, values: [(key, object())])
    error = failed_map(tmp_path, job, b"a b a b\n")
    assert isinstance(error, Uncarryable)
    assert "a object cannot be carried" in error.message


def test_an_error_of_the_partitioner_is_said_to_be_its(tmp_path):
    error = failed_map(tmp_path, functions(partitioner=lambda key, partitions: key + 1))
    assert error.message.startswith("the partitioner raised TypeError")
    assert error.details["where"] == "key 'one'"
    assert "in <lambda>" in shown(error)


@pytest.mark.parametrize("answer", [2, -1, None, 0.0])
def test_a_partition_out_of_range_is_refused(tmp_path, answer):
    error = failed_map(tmp_path, functions(partitioner=lambda key, partitions: answer))
    assert f"the partitioner gave {answer!r} for the key 'one'" in error.message
    assert error.details["final"] is True


@pytest.mark.parametrize("buffer_bytes", [1, 1 << 30])
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_a_map_that_runs_again_has_the_same_digest_unless_it_puts_out_something_else(
    tmp_path, buffer_bytes, codec
):
    text = text_file(tmp_path / "in.txt")

    def digest(mapper):
        path, split = str(tmp_path / "spill"), whole(text)
        job = functions(mapper)
        outcome = run_map(job, split, path, 3, buffer_bytes, lambda done: None, codec)
        return outcome.digest

    def other_mapper(key, value):
        for word in value.split():
            yield word.lower(), 2 if key > 5000 else 1

    assert digest(word_mapper) == digest(word_mapper) != digest(other_mapper)


def test_a_spill_that_cannot_be_written_is_no_error_of_the_mapper(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a\n")
    spill = str(tmp_path / "no directory" / "spill")
    with pytest.raises(AttemptFailed) as caught:
        run_map(functions(), whole(path), spill, 1, 1 << 20, lambda done: None)
    assert caught.value.message == f"{spill}: No such file or directory"


def test_an_input_that_is_gone_is_named(tmp_path):
    split = InputSplit((FileRange(str(tmp_path / "gone"), 0, 10),))
    with pytest.raises(AttemptFailed, match="gone: No such file") as caught:
        run_map(functions(), split, str(tmp_path / "spill"), 1, 1 << 20, lambda done: None)
    assert caught.value.details["where"] == str(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(3)"])
@pytest.mark.parametrize("form", ["yield key, 1", "pass"])
def test_a_reducer_that_raises_is_shown_with_its_key(tmp_path, raised, form):
    job = loaded(
        f"""
        def mapper(key, value):
            yield value, 1
        def reducer(key, values):
            if key == "three":
                raise {raised}
            {form}
            return []
        """
    )
    error = failed_reduce(tmp_path, job)
    assert error.message.startswith("the reducer raised ")
    assert error.details["where"] == "key 'three'"
    assert 'File "job.py", line 5, in reducer' in shown(error)


@pytest.mark.parametrize("bad", NOT_PAIRS)
def test_a_reducer_that_yields_no_pair_is_told_so_with_the_key(tmp_path, bad):
    job = loaded(
        f"""
        def mapper(key, value):
            yield value, 1
        def reducer(key, values):
            yield {bad} if key == "one" else (key, 1)
        """
    )
    error = failed_reduce(tmp_path, job)
    assert error.message == f"the reducer yielded {NOT_PAIRS[bad]}: not a pair (key, value)"
    assert error.details == {"where": "key 'one'", "final": True}


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    def writer(pairs):
        yield "x" * (1 << 20)
        raise ValueError("no")

    error = failed_reduce(tmp_path, functions(writer=writer))
    assert "ValueError: no" in error.message
    error = failed_reduce(tmp_path, functions(writer=lambda pairs: [7]))
    assert error.details["final"] is True


def test_a_damaged_segment_is_named_and_leaves_no_file(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a b c\n")
    (segments,), _ = map_all(functions(), [whole(path)], tmp_path)
    with open(segments[0].path, "r+b") as file:
        file.seek(segments[0].offset + 30)
        file.write(b"\xff\xff")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SpillDamaged) as caught:
        run_reduce(
            functions(),
            segments,
            str(tmp_path / "part"),
            str(tmp_path / "scratch"),
            lambda done: None,
        )
    assert caught.value.details["path"] == segments[0].path
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_cannot_be_written_is_no_error_of_the_reducer(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a b c\n")
    (segments,), _ = map_all(functions(), [whole(path)], tmp_path)
    part = str(tmp_path / "no directory" / "part")
    with pytest.raises(AttemptFailed) as caught:
        run_reduce(functions(), segments, part, str(tmp_path / "scratch"), lambda done: None)
    assert caught.value.message == f"{part}: No such file or directory"
