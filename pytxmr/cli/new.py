"""`pytxmr new`: a job to begin with, its input, and a test that passes."""

from __future__ import annotations

import keyword
import os
import shutil
import sys

from pytxmr.errors import BadConfiguration

_JOB = '''\
"""Counts the words of its input.

pytxmr run {name}.py input.txt --output counts
"""

import pytxmr

# What `-D least=2` changes on the command line, and pytxmr.params["least"] reads.
params = {{"least": 1}}


def mapper(key, value):
    """Called for each line: key is its byte offset in the file, value the line, as str."""
    words = value.lower().split()
    if not words:
        pytxmr.counter("blank lines")  # summed over the whole job, and shown at its end
    for word in words:
        yield word, 1


def reducer(key, values):
    """Called for each key, in order, with an iterator over all the values yielded for it."""
    total = sum(values)
    if total >= pytxmr.params["least"]:
        yield key, total


def combiner(key, values):
    """Sums beside each mapper what it has yielded so far, so that less has to travel. Optional."""
    yield key, sum(values)
'''

_INPUT = """\
the quick brown fox jumps over the lazy dog

the dog sleeps on
"""

_TEST = '''\
"""Run these with `python -m pytest`. The job runs in the test's own process, by the code that a
cluster runs: a breakpoint() in the mapper stops there.
"""

from pathlib import Path

import {name}
from pytxmr.testing import run_inline

INPUT = Path(__file__).with_name("input.txt")


def test_words_are_counted_whatever_their_case():
    result = run_inline({name}, ["a B", "b"])
    assert result.pairs == [("a", 1), ("b", 2)]


def test_rare_words_are_left_out_on_demand():
    result = run_inline({name}, ["a b b"], params={{"least": 2}})
    assert result.pairs == [("b", 2)]


def test_the_input_is_read_in_several_pieces_as_on_a_cluster():
    result = run_inline({name}, INPUT, splits=3, reducers=2)
    assert dict(result)["the"] == 3
    assert result.counters == {{"blank lines": 1}}
'''


def write_job(directory: str) -> str:
    """Make the directory, which must not exist, with a job named as it; returns what to do next.

    Raises `BadConfiguration`, and has then made nothing.
    """
    name = os.path.basename(os.path.normpath(directory))
    taken = keyword.iskeyword(name) or name in (*sys.stdlib_module_names, "pytest", "pytxmr")
    if not (name.isascii() and name.isidentifier()) or taken:
        why = "it is taken" if taken else "use letters, digits and _, and begin with a letter"
        raise BadConfiguration(f"{name!r} cannot be the name of a module: {why}")
    try:
        os.mkdir(directory)
    except FileExistsError:
        raise BadConfiguration(f"{directory} exists already; remove it or name another") from None
    except OSError as error:
        raise BadConfiguration(f"cannot make {directory}: {error.strerror}") from error
    files = {
        f"{name}.py": _JOB.format(name=name),
        "input.txt": _INPUT,
        f"test_{name}.py": _TEST.format(name=name),
    }
    try:
        for file_name, text in files.items():
            with open(os.path.join(directory, file_name), "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise BadConfiguration(f"cannot write to {directory}: {error.strerror}") from error
    return (
        f"{directory} has a job, {name}.py, an input and a test. Next:\n\n"
        f"  cd {directory}\n"
        f"  python -m pytest\n"
        f"  pytxmr run {name}.py input.txt --output counts\n"
    )
