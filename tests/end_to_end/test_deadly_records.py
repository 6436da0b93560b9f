"""What kills a worker is found although no note names it: the record of it, or that it is none."""

from __future__ import annotations

import json

import pytest
from processes import Site

REDUCER = """
def reducer(key, values):
    yield key, sum(values)
"""
#: A native library that is given something it cannot take, and that shows at the end only.
AT_THE_END = f"""\
import ctypes

given = []

def map_init():
    given.clear()

def mapper(key, value):
    given.append(value)
    for word in value.split():
        yield word, 1

def map_final():
    if "bad line" in given:
        ctypes.string_at(0)
{REDUCER}"""
#: The same, but it shows two records later, or never.
LATER = f"""\
import os

given = []

def mapper(key, value):
    given.append(value)
    if "bad line" in given[:-2]:
        os.kill(os.getpid(), 9)
    for word in value.split():
        yield word, 1
{REDUCER}"""
#: As a batch mapper, which is given single lines then.
OF_BATCHES = f"""\
import ctypes
import pytxmr

given = []

def map_init():
    given.clear()

@pytxmr.batch("lines")
def mapper(offset, lines):
    given.extend(lines)
    for line in lines:
        for word in line.split():
            yield word, 1

def map_final():
    if "bad line" in given:
        ctypes.string_at(0)
{REDUCER}"""
WITHOUT = f"""\
import os

def map_init():
    os._exit(3)

def mapper(key, value):
    yield value, 1
{REDUCER}"""
LINES = "".join(f"w{number:02}\n" for number in range(40))
INPUT = f"{LINES[:80]}bad line\n{LINES[80:]}"
SEGV = "the worker process was killed by signal 11 (SIGSEGV)"


@pytest.fixture(autouse=True)
def _input(site: Site) -> None:
    site.write("in.txt", INPUT)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (AT_THE_END, SEGV),
        (
            LATER,
            "the worker process was killed by signal 9 (SIGKILL); it dies of records 21 to 23 of "
            "the split together, and lives without the first or the last of them",
        ),
    ],
)
def test_record_that_kills_the_worker_later_is_searched_for_and_set_aside(
    site: Site, source: str, reason: str
) -> None:
    done = site.run(site.write("job.py", source), "in.txt", "--skip-bad-records", 1)
    assert done.status == 0, done.err
    out = site.directory / "out"
    parts = "".join(part.read_text() for part in out.glob("part-*"))
    assert sorted(parts.splitlines()) == [f"{word}\t1" for word in LINES.split()]
    (record,) = map(json.loads, (out / "_bad" / "Map001.jsonl").read_text().splitlines())
    assert (record["offset"], record["record"], record["traceback"]) == (80, "bad line", reason)
    assert "4 attempts failed" in done.out, "probes are none of them"


def test_without_the_option_the_error_names_it(site: Site) -> None:
    job = site.write("job.py", OF_BATCHES)
    before = site.listing()
    done = site.run(job, "in.txt")
    assert done.status == 1
    assert f"at {site.directory}/in.txt, offset 80, record 'bad line'" in done.err
    assert f"Map001 failed 4 times: {SEGV}; it dies of record 21 of the split" in done.err
    assert site.listing() == before


def test_if_it_is_no_record_the_error_says_so(site: Site) -> None:
    done = site.run(site.write("job.py", WITHOUT), "in.txt", "--skip-bad-records", 9)
    assert done.status == 1
    assert (
        "Map001 failed 4 times: the worker process exited with status 3; it dies also if the "
        "mapper is given no record" in done.err
    )
