"""Batch mappers of what a reader makes of the input: ``@pytxmr.batch("records")``."""

from __future__ import annotations

from pathlib import Path

import pytest
from attempts import OURS, failed_map, loaded, run, shown, splits_of, whole
from test_quarantine import Run

import pytxmr
from pytxmr.errors import AttemptFailed
from pytxmr.records import mapcalls
from pytxmr.records.mapping import run_map
from pytxmr.testing import run_inline

JSON = b'{"ship": "a", "n": 1}\n{"ship": "b", "n": 2}\n{"ship": "a", "n": 3}\n' * 300
SHIPS = """
import pytxmr
from pytxmr import folds, readers

reader = readers.json

@pytxmr.batch("records")
def mapper(keys, values):
    assert type(keys) is type(values) is list
    assert len(keys) == len(values)
    pytxmr.counter("batches")
    yield pytxmr.columns([row["ship"] for row in values], [row["n"] for row in values])

reducer = folds.sum
"""


@pytest.mark.parametrize("size", [1 << 20, 999, 20])
def test_every_record_comes_once_whatever_the_splits(tmp_path, size):
    path = tmp_path / "in.txt"
    path.write_bytes(JSON)
    assert run(loaded(SHIPS), splits_of([path], size), tmp_path) == [b"a\t1200\nb\t600\n"]


READERS = {
    "none": ("", [(0, "a 1"), (4, "b 2"), (8, "c")]),
    "bytes": ("reader = readers.bytes", [(0, b"a 1"), (4, b"b 2"), (8, b"c")]),
    "tsv": ("reader = readers.csv(delimiter=' ')", [(0, ["a", "1"]), (4, ["b", "2"]), (8, ["c"])]),
    "fixed": ("reader = readers.fixed(5)", [(0, b"a 1\nb"), (5, b" 2\nc\n")]),
    "whole": ("reader = readers.whole", [("in.txt", "a 1\nb 2\nc\n")]),
    "their own": (
        "def reader(lines):\n    for offset, line in lines:\n        yield line.split()[0], offset",
        [(b"a", 0), (b"b", 4), (b"c", 8)],
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_keys_and_values_are_those_of_the_reader(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mapcalls, "_RECORDS", 2)
    (tmp_path / "in.txt").write_bytes(b"a 1\nb 2\nc\n")
    source, wanted = READERS[name]
    job = loaded(f"""
import pytxmr
from pytxmr import readers
{source}

got = []

@pytxmr.batch("records")
def mapper(keys, values):
    got.append((keys, values))
    return ()

def reducer(key, values): ...
""")
    got = job.mapper.__globals__["got"]
    outcome = run_map(job, whole(Path("in.txt")), "spill", 1, 1 << 20, lambda done: None)
    pairs = [pair for keys, values in got for pair in zip(keys, values, strict=True)]
    assert pairs == wanted
    assert len(got) == (2 if name == "their own" else 1)
    assert outcome.counters["map input records"] == len(wanted)
    assert outcome.counters["map input bytes"] == 10


def test_a_step_takes_the_pairs_of_the_one_before_in_batches(tmp_path):
    (tmp_path / "job.py").write_text("""
import pytxmr
from pytxmr import folds

class Job(pytxmr.MapReduce):
    def steps(self):
        return [
            pytxmr.Step(self.words, reducer=folds.count),
            pytxmr.Step(self.lengths, reducer=folds.sum),
        ]

    def words(self, key, line):
        for word in line.split():
            yield word, None

    @pytxmr.batch("records")
    def lengths(self, words, counts):
        yield pytxmr.columns(list(map(len, words)), counts)
""")
    (tmp_path / "in.txt").write_bytes(b"a bb a\ncc bb\n")
    job, out = tmp_path / "job.py:Job", tmp_path / "out"
    done = pytxmr.run(str(job), tmp_path / "in.txt", out, runner="inline", reducers=1)
    assert list(done) == [("1", "2"), ("2", "3")]


def test_run_inline_gives_them_pairs():
    job = type(pytxmr)("a_job")

    @pytxmr.batch("records")
    def mapper(keys, values):
        yield dict(zip(keys, values, strict=True))

    vars(job).update(mapper=mapper, reducer=pytxmr.folds.sum)
    assert run_inline(job, [("b", 2), ("a", 1)]).pairs == [("a", 1), ("b", 2)]


# ---- what goes wrong


def test_a_mapper_that_raises_is_shown_with_the_records_at_hand(tmp_path):
    source = SHIPS.replace('row["n"] for', '7 / (row["n"] - 2) for')
    error = failed_map(tmp_path, loaded(source), JSON)
    assert error.message == "the mapper raised ZeroDivisionError: division by zero"
    assert error.details["where"] == f"{tmp_path}/in.txt, offsets 0 to {len(JSON) - 22}"
    assert "in mapper" in shown(error)
    assert OURS not in shown(error)


def test_without_a_reader_and_with_ones_own_the_place_is_shown_as_far_as_it_is_known(tmp_path):
    source = SHIPS.replace("reader = readers.json", "")
    error = failed_map(tmp_path, loaded(source), JSON)
    assert error.details["where"] == f"{tmp_path}/in.txt, lines from offset 0 on"
    source += "\ndef reader(lines):\n    for offset, line in lines:\n        yield offset, line\n"
    error = failed_map(tmp_path, loaded(source), b"one\ntwo\n")
    assert error.details["where"] == f"{tmp_path}/in.txt, up to the record (4, b'two')"


def test_a_stop_iteration_does_not_pass_for_the_end_of_the_input(tmp_path):
    source = SHIPS.replace("    pytxmr.counter", "    next(iter(()))\n    pytxmr.counter")
    error = failed_map(tmp_path, loaded(source.replace("yield", "return")), JSON)
    assert "StopIteration" in error.message


def test_a_record_that_cannot_be_decoded_is_named(tmp_path):
    error = failed_map(tmp_path, loaded(SHIPS), b'{"ship": "a", "n": 1}\n{"ship\n')
    assert error.message.startswith("readers.json cannot read a record")
    assert "offset 22" in error.details["where"]


@pytest.mark.parametrize("own", [False, True])
def test_bad_records_are_set_aside_one_by_one(tmp_path, own):
    source = SHIPS
    if own:
        source = source.replace("reader = readers.json", "import json") + (
            "\ndef reader(lines):\n    for offset, line in lines:\n"
            "        yield offset, json.loads(line)\n"
        )
    lines = b'{"ship": "a", "n": 1}\n{"ship": "b"}\n{"ship": "a", "n": 3}\n'
    done = Run(tmp_path, loaded(source), lines=lines if own else lines + b"{\n").run()
    assert done.keys() == ["a"]
    assert [line["offset"] for line in done.aside()] == ([22] if own else [22, 58])
    assert "KeyError" in done.aside()[0]["traceback"]
    assert done.outcome.counters["bad records"] == (1 if own else 2)


def test_a_batch_of_lines_is_refused_with_a_reader_and_told_of_records(tmp_path):
    with pytest.raises(pytxmr.PytxmrError, match=r'records: @pytxmr.batch\("records"\)'):
        loaded(SHIPS.replace('"records"', '"lines"'))


def test_a_single_pair_that_is_none_is_refused(tmp_path):
    error = failed_map(tmp_path, loaded(SHIPS.replace("yield", "yield 7 #")), JSON)
    assert isinstance(error, AttemptFailed)
    assert "the mapper yielded 7: not a pair" in error.message
