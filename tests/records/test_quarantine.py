"""Records at which the mapper raises are set aside, each wholly, and nothing else is."""

from __future__ import annotations

import json
from functools import partial

import pytest
from attempts import OURS, functions, loaded, map_all, whole

import pytxmr
from pytxmr.errors import AttemptFailed
from pytxmr.job import context
from pytxmr.job.tracebacks import user_traceback
from pytxmr.records.mapping import map_to_part, run_map
from pytxmr.records.merge import SegmentMerge
from pytxmr.records.quarantine import Quarantine, UserCode, read_note

LINES = b"a b\nbad one\nc\r\nbad \xff two\nd"


def split_words(key, value):
    for word in value.split():
        yield word, 1
    if value.startswith("bad"):
        raise ValueError(value)


class Run:
    """A map of ``lines`` that may set ``most`` records aside."""

    def __init__(self, tmp_path, job, most=10, lines=LINES, **options):
        self.input = tmp_path / "in.txt"
        self.input.write_bytes(lines)
        self.path = tmp_path / "aside"
        self.note = tmp_path / "note"
        code = UserCode(user_traceback, context.counters, context.restore_counters)
        context.begin_attempt()
        self.bad = Quarantine(most, str(self.path), str(self.note), "Map001", code, **options)
        self.spill = tmp_path / "spill"
        self.job = job

    def run(self):
        self.outcome = run_map(
            self.job,
            whole(self.input),
            str(self.spill),
            1,
            1 << 20,
            lambda done: None,
            bad=self.bad,
        )
        return self

    def keys(self):
        (part,) = self.outcome.ranges
        segment = pytxmr.model.Segment(str(self.spill), part.offset, part.length)
        merged = SegmentMerge([segment], str(self.spill.parent / "scratch"))
        return [key for groups in merged for key, _ in groups]

    def aside(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def test_a_record_is_set_aside_with_file_offset_content_and_traceback(tmp_path):
    done = Run(tmp_path, functions(split_words)).run()
    first, second = done.aside()
    assert (first["file"], first["offset"]) == (str(done.input), 4)
    assert (first["record"], first["task"]) == ("bad one", "Map001")
    assert first["traceback"].endswith("ValueError: bad one\n")
    assert "split_words" in first["traceback"]
    assert OURS not in first["traceback"]
    assert second["offset"] == 15
    assert second["record"].encode("utf-8", "surrogateescape") == b"bad \xff two"


def test_what_a_bad_record_yielded_before_it_raised_does_not_count(tmp_path):
    done = Run(tmp_path, functions(split_words)).run()
    assert done.keys() == ["a", "b", "c", "d"]
    assert done.outcome.counters["bad records"] == 2
    assert done.outcome.counters["map input records"] == 5
    assert done.outcome.counters["map output records"] == 4


def test_what_a_bad_record_or_the_first_run_counted_does_not_count(tmp_path):
    def mapper(key, value):
        pytxmr.counter("seen")
        yield from split_words(key, value)

    Run(tmp_path, functions(mapper)).run()
    assert context.counters() == {"seen": 3}


def test_a_map_without_bad_records_is_that_of_a_run_without_the_option(tmp_path):
    done = Run(tmp_path, functions(split_words), lines=b"a\nb\n").run()
    _, (plain,) = map_all(functions(split_words), [whole(done.input)], tmp_path)
    assert done.outcome.counters == plain.counters
    assert not done.bad.careful
    assert not done.path.exists()


@pytest.mark.parametrize("error", ["StopIteration", "SystemExit", "KeyError('x')"])
def test_any_exception_makes_a_record_bad(tmp_path, error):
    job = loaded(f"""
        def mapper(key, value):
            if value.startswith("bad"):
                raise {error}
            return [(value, 1)]
        def reducer(key, values):
            yield key, 1
        """)
    assert Run(tmp_path, job).run().keys() == ["a b", "c", "d"]


def test_a_record_whose_pairs_cannot_be_carried_is_bad(tmp_path):
    def mapper(key, value):
        yield value, 1
        yield value, open if value.startswith("bad") else 2

    done = Run(tmp_path, functions(mapper)).run()
    assert done.keys() == ["a b", "c", "d"]
    assert "mapper" in done.aside()[0]["traceback"]


def test_more_than_may_be_skipped_fail_the_attempt_for_good_naming_the_first(tmp_path):
    failing = Run(tmp_path, functions(split_words), most=1)
    with pytest.raises(AttemptFailed) as caught:
        failing.run()
    error = caught.value
    assert error.message == (
        "2 bad records are more than the 1 that may be skipped; the first: the mapper raised "
        "ValueError: bad one"
    )
    assert error.details["final"]
    assert error.details["where"] == f"{failing.input}, offset 4, record 'bad one'"
    assert error.details["traceback"].endswith("ValueError: bad one\n")
    assert not failing.path.exists()
    assert not failing.spill.exists()


def test_an_output_that_is_not_declared_is_no_fault_of_the_record(tmp_path, request):
    context.begin_outputs(["errors"])
    request.addfinalizer(lambda: context.begin_outputs(None))

    def sort_out(key, value):
        yield pytxmr.to("eror", value) if value == "c" else (value, 1)

    failing = Run(tmp_path, functions(sort_out))
    with pytest.raises(AttemptFailed) as caught:
        failing.run()
    error = caught.value
    assert error.message == "there is no output 'eror'; did you mean errors?"
    assert error.details["final"]
    assert error.details["where"] == f"{failing.input}, offset 12, record 'c'"
    assert not failing.path.exists()
    assert not failing.spill.exists()


def test_as_many_as_may_be_skipped_are(tmp_path):
    assert Run(tmp_path, functions(split_words), most=2).run().bad.count == 2


@pytest.mark.parametrize("form", ["lines", "bytes", "buffer"])
def test_a_batch_mapper_gets_single_lines_to_find_the_bad_one(tmp_path, form):
    @pytxmr.batch(form)
    def mapper(offset, data):
        text = data if form == "buffer" else data[0].__class__().join(data)
        if (b"bad" if isinstance(text, bytes) else "bad") in text:
            raise ValueError
        yield pytxmr.columns([data] if form == "buffer" else data)

    done = Run(tmp_path, functions(mapper)).run()
    expected = [b"a b\n", b"c\r\n", b"d"] if form == "buffer" else [b"a b", b"c", b"d"]
    found = done.keys()
    keys = [key.encode() if isinstance(key, str) else key for key in found]
    assert keys == expected
    assert [record["offset"] for record in done.aside()] == [4, 15]
    assert done.outcome.counters["map input records"] == 5


def test_with_a_reader_the_record_is_shown_and_the_line_that_was_read(tmp_path):
    def reader(lines):
        for _, line in lines:
            yield line[:1], {"line": line}

    def mapper(key, value):
        if value["line"].startswith(b"bad one"):
            raise ValueError
        yield key, 1

    (record,) = Run(tmp_path, functions(mapper, reader=reader)).run().aside()
    assert record["offset"] == 4
    assert record["record"] == "(b'b', {'line': b'bad one'})"


def test_a_reader_that_raises_fails_the_attempt(tmp_path):
    def reader(lines):
        yield next(lines)
        raise ValueError("no table")

    failing = Run(tmp_path, functions(lambda key, value: [(key, 1)], reader=reader))
    with pytest.raises(AttemptFailed, match="no table"):
        failing.run()


def test_a_careful_attempt_notes_the_record_at_hand_where_another_process_finds_it(tmp_path):
    seen = []

    def mapper(key, value):
        seen.append(read_note(str(done.note)))
        yield value, 1

    done = Run(tmp_path, functions(mapper), most=0, lines=b"a\nb\n", careful=True)
    done.run()
    assert seen == [
        (1, f"{done.input}, offset 0, record 'a'"),
        (2, f"{done.input}, offset 2, record 'b'"),
    ]


def test_a_careful_attempt_that_may_skip_none_fails_as_usual(tmp_path):
    failing = Run(tmp_path, functions(split_words), most=0, careful=True)
    with pytest.raises(AttemptFailed, match="the mapper raised ValueError: bad one") as caught:
        failing.run()
    assert caught.value.details["where"] == f"{failing.input}, offset 4, record 'bad one'"
    assert user_traceback(caught.value.__cause__).endswith("ValueError: bad one\n")


def test_a_record_known_to_kill_is_set_aside_without_a_call(tmp_path):
    def mapper(key, value):
        assert value != "b"
        yield value, 1

    reason = "the worker process was killed by signal 11 (SIGSEGV)"
    done = Run(
        tmp_path, functions(mapper), lines=b"a\nb\nc\n", careful=True, skip=[(2, reason)]
    ).run()
    assert done.keys() == ["a", "c"]
    (record,) = done.aside()
    assert (record["offset"], record["record"], record["traceback"]) == (2, "b", reason)
    assert read_note(str(done.note)) is None


# ---- probes


def survived(probe):
    """How a probe ends that its worker outlives."""
    with pytest.raises(AttemptFailed, match="outlived") as caught:
        probe.bad.probe(probe.run, str(probe.spill))
    assert not probe.path.exists()
    assert not list(probe.spill.parent.glob("spill*"))
    told = caught.value.details
    assert told.pop("survived") is True
    return told


@pytest.mark.parametrize("most", [0, 9])
@pytest.mark.parametrize(
    ("window", "given"), [((0, 0), []), ((0, 2), ["a", "b"]), ((2, 3), ["c"]), ((1, 9), ["b", "c"])]
)
def test_a_probe_gives_the_records_of_its_window_counts_all_and_leaves_nothing(
    tmp_path, most, window, given
):
    seen = []

    def mapper(key, value):
        seen.append(value)
        yield value, 1

    lines = b"a\nb\nc\n"
    probe = Run(tmp_path, functions(mapper), most, lines, careful=True, window=window)
    told = survived(probe)
    assert seen == given
    offset = "abc".index(given[-1]) * 2 if given else 0
    where = f"{probe.input}, offset {offset}, record {given[-1]!r}" if given else ""
    assert told == {"records": 3, "raised": False, "where": where}


@pytest.mark.parametrize(("most", "count"), [(0, 2), (9, 5)])
def test_a_probe_in_which_the_mapper_raises_is_survived_and_says_so(tmp_path, most, count):
    probe = Run(tmp_path, functions(split_words), most, careful=True, window=(0, 4))
    told = survived(probe)
    assert (told["records"], told["raised"]) == (count, True)


def test_of_a_probe_the_last_record_stays_noted_to_the_end(tmp_path):
    noted = []
    job = functions(split_words, map_final=lambda: noted.append(read_note(str(probe.note))))
    probe = Run(tmp_path, job, lines=b"a\nb\nc\n", careful=True, window=(0, 2))
    survived(probe)
    assert noted == [(2, f"{probe.input}, offset 2, record 'b'")]


def test_a_probe_gives_a_batch_mapper_single_lines(tmp_path):
    seen = []

    @pytxmr.batch("lines")
    def mapper(offset, lines):
        seen.extend([lines])
        yield pytxmr.columns(lines)

    probe = Run(tmp_path, functions(mapper), 0, b"a\nb\nc\n", careful=True, window=(1, 3))
    assert survived(probe)["records"] == 3
    assert seen == [["b"], ["c"]]


def test_a_probe_that_writes_a_part_leaves_none(tmp_path):
    run = Run(tmp_path, functions(split_words), 0, b"a\nb\n", careful=True, window=(0, 1))
    part = tmp_path / "part"
    write = partial(map_to_part, run.job, whole(run.input), str(part), lambda done: None, run.bad)
    with pytest.raises(AttemptFailed, match="outlived"):
        run.bad.probe(write, str(part))
    assert not part.exists()


@pytest.mark.parametrize("content", [None, b"", b"\1\0\0", bytes(12)])
def test_a_note_that_says_nothing_is_none(tmp_path, content):
    path = tmp_path / "note"
    if content is not None:
        path.write_bytes(content)
    assert read_note(str(path)) is None
