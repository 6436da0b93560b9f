"""Workers that hang, eat memory or die: that attempt alone is lost, and the user is told why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from in_process import inline
from processes import PYTXMR, Cluster, Death, Finished, Gate, Process, Site

REDUCER = """

def reducer(key, values):
    yield key, sum(values)
"""
#: The first to call it gets True: what fails once is tried again, and goes well.
FIRST = """
import os

def first():
    try:
        os.mkdir({mark!r})
    except FileExistsError:
        return False
    return True
"""


@pytest.fixture(autouse=True)
def _input(site: Site) -> None:
    site.write("in.txt", "a b\nc a\n")


def once(site: Site, imports: str, what: str) -> str:
    """A word count, of which the first attempt of a map does something else."""
    return f"""\
import {imports}
{FIRST.format(mark=str(site.directory / "first"))}
def mapper(key, value):
    if first():
        {what}
    for word in value.split():
        yield word, 1
{REDUCER}"""


def always(imports: str, what: str) -> str:
    return f"import {imports}\ndef mapper(key, value):\n    {what}\n    yield key, 1\n{REDUCER}"


def went_well(site: Site, source: str, *words: object) -> None:
    """The job must end well after one attempt that failed; two maps ran, one beside the other."""
    done = site.run(site.write("job.py", source), "in.txt", "--split-size", 4, *words)
    assert done.status == 0, done.err
    assert "1 attempts failed" in done.out
    assert sorted(b"".join(site.parts()).splitlines()) == [b"a\t2", b"b\t1", b"c\t1"]


def failed(site: Site, source: str, *words: object) -> Finished:
    done = site.run(site.write("job.py", source), "in.txt", *words)
    assert done.status == 1, done.out
    assert f"in the split {site.directory}/in.txt, bytes 0 to 8\n" in done.err
    return done


HANG = "subprocess.Popen(['sleep', '600']); signal.pause()"


@pytest.fixture(scope="module", autouse=True)
def hanging(tmp_path_factory) -> Iterator[Process]:
    """A job each attempt of which hangs: begun before the other tests here, as it has to wait."""
    site = Site(tmp_path_factory.mktemp("hanging"))
    site.write("in.txt", "a b\nc a\n")
    job = site.write("job.py", always("signal, subprocess", HANG))
    words = ["run", job, "in.txt", "-o", "out", "--workers", 1, "--task-timeout", 1]
    try:
        process = site.start(*PYTXMR, *words)
        yield process
        process.ended()
        site.assert_clean()
    finally:
        site.close()


def test_an_attempt_that_hangs_is_ended_at_the_task_timeout_and_tried_again(site: Site) -> None:
    went_well(site, once(site, "signal, subprocess", HANG), "--task-timeout", 1)


def test_a_reducer_that_hangs_is_ended_and_tried_again(site: Site) -> None:
    source = f"""\
import signal
{FIRST.format(mark=str(site.directory / "first"))}
def mapper(key, value):
    for word in value.split():
        yield word, 1

def reducer(key, values):
    if first():
        signal.pause()
    yield key, sum(values)
"""
    went_well(site, source, "--task-timeout", 1)


EAT = "held = [bytearray(b'x') * (600 << 20)]; signal.pause()"


def test_an_attempt_that_takes_too_much_memory_is_ended_and_tried_again(site: Site) -> None:
    went_well(site, once(site, "signal", EAT), "--memory", "32MiB")


def names_limit_and_use(done: Finished) -> None:
    """What is filled with 600 MiB may be looked at as soon as it has more than it may."""
    used = re.search(
        r"Map001 failed 4 times: the attempt was ended: its worker process used (\d+) MiB of "
        r"memory, the limit is 544 MiB; --memory, here 32 MiB, sets it\n",
        done.err,
    )
    assert used, done.err
    assert 544 <= int(used[1]) < 700


def test_a_task_that_takes_too_much_each_time_fails_the_job_naming_limit_and_use(
    site: Site,
) -> None:
    names_limit_and_use(failed(site, always("signal", EAT), "--memory", "32MiB"))


def test_memory_of_what_a_worker_has_started_counts_also_of_its_daemons(site: Site) -> None:
    what = (
        "subprocess.Popen([sys.executable, '-c', 'import signal; held = bytearray(b\"x\")"
        " * (600 << 20); signal.pause()'], start_new_session=True); signal.pause()"
    )
    names_limit_and_use(failed(site, always("signal, subprocess, sys", what), "--memory", "32MiB"))


def test_one_huge_allocation_is_an_error_in_the_user_s_line(site: Site) -> None:
    done = failed(site, always("os", "held = bytearray(1 << 40)"))
    assert "held = bytearray(1 << 40)\n" in done.err
    assert "the mapper raised MemoryError (a process may reserve 2816 MiB; --memory" in done.err


ENDS = {
    "segfault": ("ctypes", "ctypes.string_at(0)"),
    "abort": ("os", "os.abort()"),
    "exit": ("os", "os._exit(7)"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_worker_that_dies_loses_that_attempt_alone(site: Site, end: str) -> None:
    went_well(site, once(site, *ENDS[end]))


def test_a_task_whose_worker_dies_each_time_fails_the_job_naming_its_end(site: Site) -> None:
    done = failed(site, always("ctypes", "ctypes.string_at(0)"))
    said = "Map001 failed 4 times: the worker process was killed by signal 11 (SIGSEGV)"
    assert said in done.err


DAEMON = """
def mapper(key, value):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            gate({daemon!r})
        os._exit(0)
    os.wait()
    gate({mapper!r})
    yield value, 1
"""


@pytest.mark.daemons
@pytest.mark.parametrize("how", ["ends well", "is killed"])
def test_daemons_that_a_job_forked_are_dead_when_it(
    site: Site, cluster: Cluster, gate: Gate, tmp_path: Path, how: str
) -> None:
    """The tracker lives on: nothing but it is there to end them."""
    site.env |= cluster.client_env
    site.write("in.txt", "one record\n")
    with closing(Gate(tmp_path / "second gate")) as second:
        source = DAEMON.format(daemon=str(gate.directory), mapper=str(second.directory))
        path = site.write("job.py", Gate.SOURCE + source + REDUCER)
        job = site.pytxmr("submit", path, "in.txt", "-o", "out").out.strip()
        daemon = Death(gate.reached())
        second.reached()
        if how == "is killed":
            assert site.pytxmr("kill", job).status == 0
        else:
            second.open()
        assert site.pytxmr("wait", job).status == (how == "is killed")
    daemon.wait()


@pytest.mark.parametrize("seconds", ["-1", "1.5", "ten", "", "99999999"])
def test_bad_task_timeout_is_answered_before_anything_runs(site: Site, seconds: str) -> None:
    job = site.write("job.py", always("os", "pass"))
    done = inline(site, job, "in.txt", f"--task-timeout={seconds}")
    assert done.status == 2
    assert f"{seconds!r} is no number of seconds; 0 means no limit" in done.err


def test_a_task_that_hangs_each_time_fails_the_job_naming_the_limit(hanging: Process) -> None:
    assert hanging.ended() == 1, hanging.out
    assert (
        "Map001 failed 4 times: the attempt was ended: no progress for 1 s; "
        "--task-timeout sets the limit" in hanging.err
    )
    assert "/in.txt, bytes 0 to 8\n" in hanging.err
