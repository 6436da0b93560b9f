"""What attempts write to outputs by name, beside their part."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import replace

import pytest
from attempts import OURS, loaded, map_all, splits_of, whole
from test_quarantine import Run

import pytxmr
from pytxmr.errors import AttemptFailed, Uncarryable
from pytxmr.job import context
from pytxmr.job.tracebacks import user_traceback
from pytxmr.records.mapping import map_to_part, run_map
from pytxmr.records.named import To
from pytxmr.records.reducing import run_reduce

LINES = b"a 1\nb x\na 9\nc y\n"
MAPPER = """
import pytxmr
from pytxmr import writers

def mapper(key, line):
    yield tuple(line.split())
"""
JOB = (
    MAPPER
    + """
outputs = {"errors": writers.json, "late": None}

def reducer(key, values):
    for value in values:
        if not value.isdigit():
            yield pytxmr.to("errors", key, value)
        elif int(value) > 5:
            yield pytxmr.to("late", key, int(value))
        else:
            yield key, int(value)
"""
)


@pytest.fixture(autouse=True)
def _nothing_stays():
    """No thread, and no declaration that other tests would see."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
    context.begin_outputs(None)


def reduce(tmp_path, job, lines=LINES, progress=lambda done: None, **options):
    """Run a job of one partition; the outcome of its reduce."""
    path = tmp_path / "in.txt"
    path.write_bytes(lines)
    (segments,), _ = map_all(job, splits_of([path], 1 << 20), tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    return run_reduce(
        job, segments, str(out / "part"), str(tmp_path / "scratch"), progress, **options
    )


def files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def failed(tmp_path, source, lines=LINES):
    with pytest.raises(AttemptFailed) as caught:
        reduce(tmp_path, loaded(source), lines)
    assert files(tmp_path) == {}
    return caught.value


def test_each_pair_goes_to_its_output_through_the_writer_of_that(tmp_path):
    outcome = reduce(tmp_path, loaded(JOB))
    assert files(tmp_path) == {
        "part": b"a\t1\n",
        "part@errors": b'["b", "x"]\n["c", "y"]\n',
        "part@late": b"a\t9\n",
    }
    assert outcome.outputs == tuple(
        (name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in (("errors", b'["b", "x"]\n["c", "y"]\n'), ("late", b"a\t9\n"))
    )
    assert outcome.counters == {
        "reduce input groups": 3,
        "reduce output records": 1,
        "reduce output bytes": 4,
        "output records of errors": 2,
        "output bytes of errors": 22,
        "output records of late": 1,
        "output bytes of late": 4,
    }


def test_outputs_that_nothing_went_to_have_a_file_all_the_same(tmp_path):
    reduce(tmp_path, loaded(JOB), b"")
    assert files(tmp_path) == {"part": b"", "part@errors": b"", "part@late": b""}


def test_outputs_that_name_no_writer_have_that_of_the_job(tmp_path):
    source = JOB.replace('{"errors": writers.json, "late": None}', '("errors", "late")')
    reduce(tmp_path, loaded(source + "writer = writers.csv(header=['key', 'value'])\n"))
    assert files(tmp_path) == {
        "part": b"key,value\na,1\n",
        "part@errors": b"key,value\nb,x\nc,y\n",
        "part@late": b"key,value\na,9\n",
    }


def test_outputs_are_compressed_as_the_part_is(tmp_path):
    reduce(tmp_path, loaded(JOB), compress="gzip")
    assert {data[:2] for data in files(tmp_path).values()} == {b"\x1f\x8b"}


def test_what_is_written_does_not_pile_up_and_no_two_functions_run_at_once(tmp_path):
    pairs = 50_000
    running, ahead = set(), []

    def entered(who):
        running.add(who)
        assert running == {who}

    yielded, written = [0], [0]

    def reducer(key, values):
        for value in values:
            entered("reducer")
            yielded[0] += 1
            running.clear()
            yield pytxmr.to("errors", key, value) if yielded[0] % 3 else (key, value)

    def writer(pairs):
        for key, _ in pairs:
            entered("writer")
            written[0] += 1
            ahead.append(yielded[0] - written[0])
            running.clear()
            yield f"{key}\n"

    by_name = {"errors": writer, "late": writer}
    job = replace(loaded(JOB), reducer=reducer, writer=writer, outputs=by_name)
    outcome = reduce(tmp_path, job, b"a 1\n" * pairs)
    assert written == yielded == [pairs]
    assert max(ahead) <= 4096
    assert outcome.counters["reduce output records"] == pairs // 3
    assert files(tmp_path)["part@errors"] == b"a\n" * (pairs - pairs // 3)


def test_a_batch_reducer_and_hooks_write_to_outputs_too(tmp_path):
    source = """
outputs = ("errors", "late")

def reduce_init():
    yield pytxmr.to("late", "first", 0)

@pytxmr.batch
def reducer(groups):
    yield pytxmr.columns(groups.keys)
    yield pytxmr.to("errors", pytxmr.columns(groups.keys))
    if "c" in groups.keys:
        yield pytxmr.to("late", "alone", 1)

def reduce_final():
    yield pytxmr.to("late", "last", 2)
"""
    outcome = reduce(tmp_path, loaded(MAPPER + source))
    assert files(tmp_path) == {
        "part": b"a\nb\nc\n",
        "part@errors": b"a\nb\nc\n",
        "part@late": b"first\t0\nalone\t1\nlast\t2\n",
    }
    assert outcome.counters["output records of errors"] == 3


@pytest.mark.parametrize("form", ["each", "batch"])
def test_the_mapper_of_a_job_without_a_reducer_writes_to_outputs(tmp_path, form):
    each = """
outputs = ("errors",)

def mapper(key, line):
    yield pytxmr.to("errors", None, line) if "x" in line else (None, line)
"""
    batch = """
outputs = ("errors",)

@pytxmr.batch
def mapper(offset, lines):
    for line in lines:
        yield pytxmr.to("errors", None, line) if "x" in line else (None, line)
"""
    (tmp_path / "in.txt").write_bytes(LINES)
    job = loaded("import pytxmr" + (each if form == "each" else batch))
    (tmp_path / "out").mkdir()
    part = str(tmp_path / "out" / "part")
    outcome = map_to_part(job, whole(tmp_path / "in.txt"), part, lambda done: None)
    assert files(tmp_path) == {"part": b"a 1\na 9\nc y\n", "part@errors": b"b x\n"}
    assert outcome.outputs == (("errors", 4, hashlib.sha256(b"b x\n").hexdigest()),)
    assert outcome.counters["map output records"] == 3
    assert outcome.counters["output records of errors"] == 1


class Direct(Run):
    def run(self):
        progress, bad = (lambda done: None), self.bad
        self.outcome = map_to_part(self.job, whole(self.input), str(self.spill), progress, bad)
        return self


@pytest.mark.parametrize("form", ["each", "batch"])
def test_what_a_bad_record_had_written_to_an_output_is_not_there(tmp_path, form):
    each = """
def mapper(key, line):
    yield pytxmr.to("seen", None, line)
    yield None, line
    assert "bad" not in line
"""
    batch = """
@pytxmr.batch
def mapper(offset, lines):
    for line in lines:
        yield pytxmr.to("seen", None, line)
        yield None, line
        assert "bad" not in line
"""
    job = loaded("import pytxmr\noutputs = ['seen']" + (each if form == "each" else batch))
    done = Direct(tmp_path, job, lines=b"one\nbad\ntwo\n").run()
    assert done.spill.read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "spill@seen").read_bytes() == b"one\ntwo\n"
    assert done.outcome.outputs[0][1] == 8
    assert done.outcome.counters["bad records"] == 1


# ---- what goes wrong


def test_after_an_error_of_the_reducer_there_is_no_file(tmp_path):
    source = JOB + "    raise LookupError(key)\n"
    error = failed(tmp_path, source)
    assert error.message == "the reducer raised LookupError: a"
    assert error.details["where"] == "key 'a'"


WRITERS = {
    "raises": ("raise LookupError('no')", "the writer of 'late' raised LookupError: no"),
    "yields what is no text": (
        "yield 7",
        "the writer of 'late' yielded int: it must yield str or bytes",
    ),
    "ends with the process": ("raise SystemExit", "the writer of 'late' raised SystemExit"),
}


@pytest.mark.parametrize("how", WRITERS)
def test_after_an_error_of_an_outputs_writer_there_is_no_file(tmp_path, how):
    body, message = WRITERS[how]
    source = JOB.replace('"late": None', '"late": lambda pairs: write(pairs)') + (
        f"\ndef write(pairs):\n    for pair in pairs:\n        {body}\n    yield ''\n"
    )
    error = failed(tmp_path, source)
    assert message in error.message
    if "raise" in body:
        shown = user_traceback(error.__cause__)
        assert body in shown
        assert OURS not in shown


def test_a_writer_of_an_output_that_gives_nothing_is_named(tmp_path):
    source = JOB.replace('"late": None', '"late": print')
    error = failed(tmp_path, source)
    assert re.match("the writer of 'late' cannot be called, or returned no text", error.message)
    assert error.details["final"]


def test_a_value_that_an_outputs_writer_cannot_write_is_named(tmp_path):
    source = JOB.replace("writers.json", "writers.parquet(schema={'value': 'int64'})").replace(
        '"late": None', '"late": writers.csv(header=["one"])'
    )
    pytest.importorskip("pyarrow")
    error = failed(tmp_path, source)
    assert "writers.parquet cannot write the value 'x'" in error.message


def test_after_an_error_of_the_jobs_writer_no_output_has_a_file(tmp_path):
    error = failed(
        tmp_path,
        JOB.replace("None", "writers.text")
        + "\ndef writer(pairs):\n    for pair in pairs:\n        raise LookupError('no')\n"
        "    yield ''\n",
        LINES + b"a 1\n" * 5000,
    )
    assert error.message == "the writer raised LookupError: no"


def test_a_writer_that_stops_early_leaves_out_the_rest(tmp_path):
    source = JOB.replace('"late": None', '"late": lambda pairs: iter([f"{next(pairs)}"])')
    reduce(tmp_path, loaded(source), b"a 9\n" * 5000)
    assert files(tmp_path)["part@late"] == b"('a', 9)"


def test_a_name_that_is_not_declared_is_an_error_at_the_line_of_the_user(tmp_path):
    error = failed(tmp_path, JOB.replace('to("late"', 'to("la" + "ter"'))
    assert error.message == "there is no output 'later'; did you mean late?"
    assert error.details["final"]
    assert 'yield pytxmr.to("la" + "ter", key, int(value))\n' in user_traceback(error)
    assert OURS not in user_traceback(error)


def test_a_job_that_declares_none_cannot_write_to_one(tmp_path):
    source = JOB.replace('outputs = {"errors": writers.json, "late": None}', "")
    error = failed(tmp_path, source)
    assert error.message == (
        "there is no output 'late'; the job's last step declares them, as outputs = (...)"
    )


@pytest.mark.parametrize("form", ["each", "batch"])
def test_a_mapper_that_a_reducer_follows_cannot_write_to_an_output(tmp_path, form):
    source = JOB.replace("yield tuple(line.split())", 'yield pytxmr.to("errors", key, line)')
    if form == "batch":
        source = source.replace("def mapper", "@pytxmr.batch\ndef mapper")
    (tmp_path / "in.txt").write_bytes(LINES)
    spill = str(tmp_path / "spill")
    with pytest.raises(Uncarryable, match="a reducer follows: only that can write to an output"):
        run_map(loaded(source), whole(tmp_path / "in.txt"), spill, 1, 1 << 20, lambda done: None)


def test_a_combiner_cannot_write_to_an_output(tmp_path):
    source = JOB + "\ncombiner = reducer\n"
    (tmp_path / "in.txt").write_bytes(b"a 9\na 8\n")
    spill = str(tmp_path / "spill")
    with pytest.raises(AttemptFailed, match=r"combiner yielded pytxmr.to\('late', 'a', 9\): not a"):
        run_map(loaded(source), whole(tmp_path / "in.txt"), spill, 1, 1 << 20, lambda done: None)


def test_what_is_neither_a_pair_nor_for_an_output_is_an_error_that_names_it(tmp_path):
    error = failed(tmp_path, JOB.replace("yield key, int(value)", "yield 7"), b"a 9\nb 1\n")
    assert error.message == "the reducer yielded 7: not a pair (key, value)"
    assert error.details["where"] == "key 'b'"


def test_in_a_test_of_ones_own_a_reducer_says_where_its_pairs_go():
    context.begin_outputs(None)
    assert pytxmr.to("errors", "b", "x") == To("errors", "b", "x")
    assert repr(pytxmr.to("errors", "b")) == "pytxmr.to('errors', 'b', None)"
