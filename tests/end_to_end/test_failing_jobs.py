"""A job that fails says why, in terms of the user's code and data, and leaves nothing: status 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import inline
from processes import Cluster, Finished, Site

LINES = "a b\nbad line\nc a\n"
MAPPER = """\
def mapper(key, value):
    for word in value.split():
        yield word, 1

"""
REDUCER = """\

def reducer(key, values):
    yield key, sum(values)
"""
Run = Callable[..., Finished]


@pytest.fixture(autouse=True)
def _input(site: Site) -> None:
    site.write("in.txt", LINES)


def failed(site: Site, source: str, *words: object, run: Run = Site.run) -> Finished:
    """Run a job, in job.py, that must fail and leave nothing."""
    job = site.write("job.py", source)
    before = site.listing()
    done = run(site, job, "in.txt", *words)
    assert done.status == 1, done.err
    assert done.out == ""
    assert site.listing() == before
    site.assert_clean()
    return done


def traceback_of(done: Finished) -> list[str]:
    """The lines of the traceback, which comes first, but for those with ^^^^ marks."""
    lines = [line for line in done.err.splitlines() if not line.startswith("Job001 ")]
    assert lines[0] == "Traceback (most recent call last):"
    return [line.strip() for line in lines[1:] if not re.fullmatch(r"[ ~^]+", line)]


def test_mapper_that_raises_is_shown_with_its_line_record_and_log(site: Site) -> None:
    source = f"""\
def mapper(key, value):
    print("looking at", value)
    yield value, 1 // (key != 4)
{REDUCER}"""
    done = failed(site, source)
    assert traceback_of(done) == [
        f'File "{site.directory}/job.py", line 3, in mapper',
        "yield value, 1 // (key != 4)",
        "ZeroDivisionError: integer division or modulo by zero",
        "--- log of Map001.3",
        "looking at a b",
        "looking at bad line",
        "---",
        f"at {site.directory}/in.txt, offset 4, record 'bad line'",
        f"in the split {site.directory}/in.txt, bytes 0 to {len(LINES)}",
        "pytxmr: Job001: Map001 failed 4 times: the mapper raised ZeroDivisionError: "
        "integer division or modulo by zero",
    ]


def test_mapper_that_fails_once_is_tried_again(site: Site) -> None:
    job = site.write(
        "job.py",
        f"""\
import os
def mapper(key, value):
    try:
        os.mkdir({str(site.directory / "tried")!r})
    except FileExistsError:
        yield value, 1
    else:
        raise OSError("the first time it fails")
{REDUCER}""",
    )
    done = site.run(job, "in.txt")
    assert done.status == 0
    assert "1 attempts failed" in done.out
    assert sorted(b"".join(site.parts()).splitlines()) == [b"a b\t1", b"bad line\t1", b"c a\t1"]


def test_mapper_that_yields_no_pair_is_shown_with_the_record_and_not_tried_again(
    site: Site,
) -> None:
    done = failed(site, f"def mapper(key, value):\n    yield value\n{REDUCER}", run=inline)
    assert traceback_of(done)[:2] == [
        f'File "{site.directory}/job.py", line 2, in mapper',
        "yield value",
    ]
    assert f"at {site.directory}/in.txt, offset 0, record 'a b'" in done.err
    assert "Map001 failed once: the mapper yielded 'a b': not a pair (key, value)" in done.err


def test_mapper_without_a_yield_is_told_so(site: Site) -> None:
    done = failed(site, f"def mapper(key, value):\n    value.split()\n{REDUCER}", run=inline)
    assert "the mapper returned NoneType, not an iterable of pairs; does it lack a yield?" in (
        done.err
    )


def test_value_that_cannot_be_carried_is_named_with_its_key_and_type(site: Site) -> None:
    done = failed(site, f"def mapper(key, value):\n    yield value, open\n{REDUCER}")
    assert traceback_of(done)[1] == "yield value, open"
    assert re.search(
        r"Map001 failed once: for the key 'a b': a\w* builtin_function_or_method cannot be carried",
        done.err,
    )


def test_reducer_that_raises_is_shown_with_its_line_and_key(site: Site) -> None:
    source = f"""\
{MAPPER}
def reducer(key, values):
    print("adding up", key)
    yield key, sum(values) // (key != "bad")
"""
    done = failed(site, source, "--reducers", 1)
    assert traceback_of(done) == [
        f'File "{site.directory}/job.py", line 8, in reducer',
        'yield key, sum(values) // (key != "bad")',
        "ZeroDivisionError: integer division or modulo by zero",
        "--- log of Reduce000.3",
        *["adding up a", "adding up b", "adding up bad"],
        "---",
        "at key 'bad'",
        "pytxmr: Job001: Reduce000 failed 4 times: the reducer raised ZeroDivisionError: "
        "integer division or modulo by zero",
    ]


def test_reducer_that_yields_no_pair_is_shown_with_the_key(site: Site) -> None:
    done = failed(
        site, f"{MAPPER}\ndef reducer(key, values):\n    yield key\n", "--reducers", 1, run=inline
    )
    assert "at key 'a'" in done.err
    assert "Reduce000 failed once: the reducer yielded 'a': not a pair (key, value)" in done.err
    assert "Traceback" not in done.err


def test_dead_worker_is_shown_with_its_end_and_the_split(site: Site) -> None:
    source = f"import os\ndef mapper(key, value):\n    os._exit(0)\n    yield value, 1\n{REDUCER}"
    done = failed(site, source)
    how = "exited with status 0 in the middle of the attempt"
    assert f"Map001 failed 4 times: the worker process {how}" in done.err
    assert f"in the split {site.directory}/in.txt, bytes 0 to {len(LINES)}\n" in done.err


def test_module_that_only_fails_in_workers_fails_the_job(site: Site) -> None:
    source = f"""\
import os
if "PYTXMR_WORKER" in os.environ:
    raise ImportError("not on this machine")
{MAPPER}{REDUCER}"""
    done = failed(site, source)
    assert traceback_of(done)[:3] == [
        f'File "{site.directory}/job.py", line 3, in <module>',
        'raise ImportError("not on this machine")',
        "ImportError: not on this machine",
    ]


def test_what_a_job_started_is_dead_when_it_has_failed(site: Site) -> None:
    failed(
        site,
        f"""\
import subprocess
def mapper(key, value):
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    raise ValueError(value)
    yield
{REDUCER}""",
    )


# ---- what a job prints

PRINTS = """\
import os, subprocess, sys

def mapper(key, value):
    print("to stdout:", value)
    print("to stderr:", value, file=sys.stderr)
    os.write(1, b"straight to 1\\n")
    subprocess.run(["echo", "by a child"])
    for word in value.split():
        yield word, 1

def reducer(key, values):
    print("adding up", key)
    if key == "bad" and not os.path.exists({tried!r}):
        os.mkdir({tried!r})
        raise ValueError("only once")
    yield key, sum(values)
"""


def printing_job(site: Site) -> Path:
    return site.write("job.py", PRINTS.format(tried=str(site.directory / "tried")))


def test_what_a_job_prints_harms_neither_output_nor_summary(site: Site) -> None:
    done = site.run(printing_job(site), "in.txt", "--reducers", 1)
    assert done.status == 0
    assert site.parts() == [b"a\t2\nb\t1\nbad\t1\nc\t1\nline\t1\n"]
    assert "stdout" not in done.out + done.err
    assert "adding up" not in done.out + done.err


@pytest.mark.daemons
def test_logs_show_what_each_attempt_printed(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    words = ["submit", printing_job(site), "in.txt", "-o", "out", "--reducers", 1]
    job = site.pytxmr(*words).out.strip()
    assert site.pytxmr("wait", job).status == 0
    everything = site.pytxmr("logs", job).out
    heads = re.findall(rf"^=== {job}@(\S+) on (?:early|late)\.\d+$", everything, re.M)
    assert sorted(heads) == ["Map001.0", "Reduce000.0", "Reduce000.1"]
    for line in ("to stdout: a b", "to stderr: c a", "straight to 1", "by a child", "adding up c"):
        assert f"\n{line}\n" in everything
    of_map = site.pytxmr("logs", job, "--task", "Map001").out
    assert "to stdout: bad line" in of_map
    assert "adding up" not in of_map
    of_failed = site.pytxmr("logs", job, "--failed").out
    assert re.findall(r"^=== .*@(\S+) on", of_failed, re.M) == ["Reduce000.0"]
    assert of_failed.endswith("adding up a\nadding up b\nadding up bad\n")
    assert site.pytxmr("destroy", job).status == 0
    assert site.pytxmr("logs", job).out == ""


@pytest.mark.parametrize("role", ["mapper", "reducer"])
def test_a_file_by_a_relative_name_is_answered_with_how_it_is_sent_along(
    site: Site, role: str
) -> None:
    source = "def mapper(k, v): yield k, v\ndef reducer(k, vs): yield from ((k, v) for v in vs)\n"
    job = site.write("job.py", f"{source}def {role}(k, v): yield open('lists/stop.txt'), 1\n")
    site.write("in.txt", "a\n")
    done = inline(site, job, "in.txt")
    assert done.status == 1
    assert done.err.endswith(
        "FileNotFoundError: [Errno 2] No such file or directory: 'lists/stop.txt'; a worker runs "
        "in a directory of its own: send it along by --file lists/stop.txt, and open "
        "pytxmr.side_file('stop.txt')\n"
    )
