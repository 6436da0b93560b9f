"""`pytxmr run --runner inline`: in one process, by the worker's code, with a debugger in reach."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from in_process import typed
from processes import EXAMPLES, PYTXMR, SECONDS, Finished, Gate, Site

COMMANDS = [  # of one step, and of several
    "pytxmr run examples/wordcount.py examples/data/warandpeace.txt --output out",
    "pytxmr run examples/tf_idf.py examples/data/documents.tsv --output out",
]
STOPS = """\
def mapper(key, value):
    if value == "stop":
        breakpoint()
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""
RAISES = """\
def mapper(key, value):
    yield value, 1
    assert "bad" not in value, value

def reducer(key, values):
    yield key, sum(values)
"""


def debugged(site: Site, typed: str, *words: object) -> Finished:
    """Run a job inline, with a person's input to the debugger."""
    command = [*PYTXMR, "run", "--runner", "inline", *map(str, words), "--output", "out"]
    done = subprocess.run(
        command,
        cwd=site.directory,
        env=site.env,
        input=typed,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run_by(runner: str, site: Site, *words: object) -> Finished:
    """Run a job on embedded workers, by a process, or inline, which is in this one."""
    if runner == "inline":
        return typed(site, *words, "--runner", runner)
    return site.pytxmr(*words, "--runner", runner)


def written(directory: Path) -> dict[str, bytes]:
    return {
        os.fspath(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_writes_the_same_files_inline_as_in_worker_processes(
    site: Site, command: str
) -> None:
    (site.directory / "examples").symlink_to(EXAMPLES)
    words = shlex.split(command)[1:]
    at = words.index("--output") + 1
    found = {}
    for runner in ("local", "inline"):
        words[at] = runner
        # Small, so that there are several maps.
        size = "600KiB" if "warandpeace" in command else "600"
        done = run_by(runner, site, *words, "--reducers", 3, "--split-size", size)
        assert done.status == 0, done.err
        found[runner] = written(site.directory / runner)
        found[runner]["_SUCCESS"] = json.loads(found[runner]["_SUCCESS"])
    assert found["inline"] == found["local"]
    assert set(found["inline"]) == {"_SUCCESS", *(f"part-0000{n}" for n in range(3))}


@pytest.mark.parametrize("reducers", [0, 2])
def test_the_output_is_compressed_as_in_worker_processes(site: Site, reducers: int) -> None:
    job = site.write("job.py", RAISES)
    site.write("in.txt", "a\nb\n" * 1000)
    found = {}
    for runner in ("local", "inline"):
        words = ("--reducers", reducers, "--compress", "gzip")
        done = run_by(runner, site, "run", job, "in.txt", "-o", runner, *words)
        assert done.status == 0, done.err
        found[runner] = written(site.directory / runner)
    assert found["inline"].keys() == found["local"].keys()
    for name in found["inline"].keys() - {"_SUCCESS"}:
        assert name.endswith(".gz")
        assert found["inline"][name] == found["local"][name]


def test_without_options_it_cuts_the_output_as_the_embedded_cluster_does(site: Site) -> None:
    job = site.write("job.py", RAISES)
    site.write("in.txt", "a\nb\n")
    assert site.pytxmr("run", job, "in.txt", "-o", "local").status == 0
    done = site.pytxmr("run", job, "in.txt", "-o", "out", "--runner", "inline")
    assert done.status == 0, done.err
    assert written(site.directory / "out") == written(site.directory / "local")
    assert done.out.startswith("Job001 succeeded in ")
    assert f"  result    {site.directory}/out\n" in done.out


MAPS = """\
import helping
import pytxmr

def mapper(key, value):
    yield value, helping.read(pytxmr.side_file("names.txt"))
    assert "bad" not in value
"""


def test_a_job_without_reducer_with_a_module_and_a_side_file_gives_the_same(site: Site) -> None:
    job = site.write("job.py", MAPS)
    site.write("helping.py", "def read(path):\n    return open(path).read()\n")
    site.write("names.txt", "n")
    site.write("in.txt", "a\nbad\nb\n")
    for runner in ("local", "inline"):
        words = ("--file", "names.txt", "--split-size", 5, "--skip-bad-records", 1)
        done = run_by(runner, site, "run", job, "in.txt", *words, "-o", runner)
        assert done.status == 0, done.err
    found = written(site.directory / "inline")
    assert found == written(site.directory / "local")
    assert found["part-00000"] + found["part-00001"] == b"a\tn\nb\tn\n"
    assert "succeeded" in done.out


def test_a_breakpoint_in_the_mapper_gets_what_is_typed(site: Site) -> None:
    job = site.write("job.py", STOPS)
    site.write("in.txt", "a\nstop\nb\n")
    done = debugged(site, "p key, value\nlist\ncontinue\n", job, "in.txt")
    assert done.status == 0, done.err
    assert "(2, 'stop')" in done.out
    assert "->\t    yield value, 1" in done.out
    assert b"".join(site.parts()).count(b"\t1\n") == 3


@pytest.mark.parametrize("words", [(), ("--skip-bad-records", 5)])
def test_leaving_the_debugger_ends_the_job_and_leaves_nothing(site: Site, words: tuple) -> None:
    job = site.write("job.py", STOPS)
    site.write("in.txt", "stop\nstop\n")
    before = site.listing()
    done = debugged(site, "quit\n", job, "in.txt", *words)
    assert done.status == 130
    assert done.out.count("(Pdb)") == 1
    assert done.err == "pytxmr: Job001 was killed: interrupted\n"
    assert site.listing() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_nothing(
    site: Site, gate: Gate, number: signal.Signals
) -> None:
    mapper = f"def mapper(key, value):\n    gate({str(gate.directory)!r})\n    yield value, 1\n"
    reducer = "def reducer(key, values):\n    yield key, sum(values)\n"
    job = site.write("job.py", Gate.SOURCE + mapper + reducer)
    site.write("in.txt", "a\n")
    before = site.listing()
    process = site.start(*PYTXMR, "run", job, "in.txt", "-o", "out", "--runner", "inline")
    gate.reached()
    process.send(number)
    assert process.ended(10) == 128 + number
    assert process.err == "pytxmr: Job001 was killed: interrupted\n"
    assert site.listing() == before


def test_a_mapper_that_raises_is_shown_and_not_tried_again(site: Site) -> None:
    job = site.write("job.py", RAISES)
    site.write("in.txt", "a\nbad\n")
    before = site.listing()
    done = site.pytxmr("run", job, "in.txt", "-o", "out", "--runner", "inline")
    assert done.status == 1
    lines = done.err.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{site.directory}/job.py", line 3, in mapper',
    ]
    assert lines[-3:] == [
        f"at {site.directory}/in.txt, offset 2, record 'bad'",
        f"in the split {site.directory}/in.txt, bytes 0 to 6",
        "pytxmr: Job001: Map001 failed once: the mapper raised AssertionError: bad",
    ]
    assert site.listing() == before


def test_bad_records_are_set_aside_as_elsewhere(site: Site) -> None:
    job = site.write("job.py", RAISES)
    site.write("in.txt", "a\nbad\nb\n")
    for runner in ("local", "inline"):
        words = ("--skip-bad-records", 1, "--runner", runner, "-o", runner)
        done = site.pytxmr("run", job, "in.txt", *words)
        assert done.status == 0, done.err
    assert f"1 bad records, in {site.directory}/inline/_bad" in done.out
    assert written(site.directory / "inline") == written(site.directory / "local")
    assert "_bad/Map001.jsonl" in written(site.directory / "inline")


def test_too_many_bad_records_over_all_maps_fail_it(site: Site) -> None:
    job = site.write("job.py", RAISES)
    site.write("in.txt", "bad\nbad\n")
    words = ("--skip-bad-records", 1, "--split-size", 4, "--runner", "inline", "-o", "out")
    done = site.pytxmr("run", job, "in.txt", *words)
    assert done.status == 1
    assert (
        "2 bad records are more than the 1 that may be skipped; the first: the mapper" in done.err
    )
    assert not (site.directory / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--runner", "inline", "--workers", 2),
        ("--runner", "inline", "--keep"),
        ("--runner", "inline", "--jobtracker", "tcp:127.0.0.1:9"),
        ("--runner", "local", "--jobtracker", "tcp:127.0.0.1:9"),
        ("--runner", "local", "--secret-file", "secret"),
        ("--runner", "cluster", "--workers", 2),
        ("--jobtracker", "tcp:127.0.0.1:9", "--workers", 2),
    ],
)
def test_options_that_contradict_the_runner_are_refused(site: Site, words: tuple) -> None:
    site.write("in.txt", "a\n")
    done = site.pytxmr("run", site.write("job.py", RAISES), "in.txt", "-o", "out", *words)
    assert done.status == 2
    assert f"pytxmr: {words[-2 if words[-1] != '--keep' else -1]} means nothing where" in done.err
    assert not (site.directory / "out").exists()


def test_the_runner_cluster_wants_a_jobtracker(site: Site) -> None:
    site.write("in.txt", "a\n")
    job = site.write("job.py", RAISES)
    done = site.pytxmr("run", job, "in.txt", "-o", "out", "--runner", "cluster")
    assert done.status == 2
    assert "--jobtracker ENDPOINT, or PYTXMR_JOBTRACKER, is needed" in done.err


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_runner_that_is_named_counts_more_than_the_environment(site: Site, runner: str) -> None:
    site.env["PYTXMR_JOBTRACKER"] = "tcp:127.0.0.1:9"
    site.write("in.txt", "a\n")
    job = site.write("job.py", RAISES)
    done = site.pytxmr("run", job, "in.txt", "-o", "out", "--runner", runner, "--reducers", 1)
    assert done.status == 0, done.err
    assert site.parts() == [b"a\t1\n"]
