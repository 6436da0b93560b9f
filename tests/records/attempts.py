"""Whole attempts, run in this process: jobs to give them, input, and how they fail."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

import pytxmr
from pytxmr.errors import AttemptFailed
from pytxmr.job.loading import load
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import FileRange, InputSplit, JobCode, JobFunctions, Segment
from pytxmr.records.mapping import run_map
from pytxmr.records.partition import stable_partition
from pytxmr.records.reducing import run_reduce

OURS = str(Path(pytxmr.__file__).parent)


def word_mapper(key, value):
    for word in value.split():
        yield word.lower(), 1


def add_up(key, values):
    yield key, sum(values)


def functions(mapper=word_mapper, reducer=add_up, **others):
    roles = {"combiner": None, "partitioner": stable_partition, "reader": None, "writer": None}
    return JobFunctions(mapper=mapper, reducer=reducer, **(roles | others))


def loaded(source, class_name=None):
    """The functions of a job module, or of a class in it, as a worker loads them."""
    return load(JobCode("job.py", dedent(source).lstrip("\n").encode(), class_name), {})


def splits_of(paths, size):
    return [
        InputSplit((FileRange(str(path), at, min(at + size, path.stat().st_size)),))
        for path in paths
        for at in range(0, path.stat().st_size, size)
    ]


def whole(*paths):
    return InputSplit(tuple(FileRange(str(path), 0, path.stat().st_size) for path in paths))


def map_all(job, splits, directory, partitions=1, buffer_bytes=1 << 20, progress=lambda done: None):
    """Run all maps; returns for each partition its segments, and the outcomes."""
    segments: list = [[] for _ in range(partitions)]
    outcomes = []
    for number, split in enumerate(splits):
        path = str(directory / f"map{number}")
        outcomes.append(run_map(job, split, path, partitions, buffer_bytes, progress))
        for partition, part in enumerate(outcomes[-1].ranges):
            segments[partition].append(Segment(path, part.offset, part.length))
    return segments, outcomes


def run(job, splits, directory, **options):
    """Run a job; returns the bytes of its parts."""
    segments, _ = map_all(job, splits, directory, **options)
    parts = []
    for number, of_partition in enumerate(segments):
        part = directory / f"part{number}"
        run_reduce(job, of_partition, str(part), str(directory / "scratch"), lambda done: None)
        parts.append(part.read_bytes())
    return parts


def failed_map(tmp_path, job, lines=b"one\ntwo\nthree\nfour\n", buffer_bytes=1 << 20):
    """Run a map that must fail; returns the error. No file may be left behind."""
    path = tmp_path / "in.txt"
    path.write_bytes(lines)
    with pytest.raises(AttemptFailed) as caught:
        run_map(job, whole(path), str(tmp_path / "spill"), 2, buffer_bytes, lambda done: None)
    assert [left.name for left in tmp_path.iterdir()] == ["in.txt"]
    return caught.value


def failed_reduce(tmp_path, job, lines=b"one\ntwo\nthree\nfour\n"):
    path = tmp_path / "in.txt"
    path.write_bytes(lines)
    (segments,), _ = map_all(job, [whole(path)], tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(AttemptFailed) as caught:
        run_reduce(
            job, segments, str(tmp_path / "part"), str(tmp_path / "scratch"), lambda done: None
        )
    assert sorted(tmp_path.iterdir()) == before
    return caught.value


def shown(error):
    """The traceback that a user is shown, which must not have frames of ours."""
    shown = user_traceback(error.__cause__ or error)
    assert OURS not in shown
    return shown
