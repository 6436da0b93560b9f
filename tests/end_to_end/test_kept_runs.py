"""`--reuse` as users type it, here and on a cluster."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

from processes import Cluster, Finished, Gate, Site, word_counts

JOB = """\
import os
import pytxmr

params = {"gate": ""}

def mapper(key, value):
    if value == "last":
        gate(pytxmr.params["gate"])
    for word in value.split():
        pytxmr.counter("words")
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
"""


def reused(done: Finished) -> str:
    assert done.status == 0, done.err
    return re.search(r"^  reused +(.*)$", done.out, re.M)[1]


def test_only_what_is_new_is_done_again(site: Site) -> None:
    job = site.write("job.py", JOB)
    for name in ("a.txt", "b.txt"):
        site.write(name, f"{name} a b\n")
    words = ("a.txt", "b.txt", "--reducers", 2, "--reuse")
    assert reused(site.run(job, *words, output="one")) == "0 of 2 maps, 0 of 2 reduces"
    assert reused(site.run(job, *words, output="two")) == "2 of 2 maps, 2 of 2 reduces"
    assert site.parts("one") == site.parts("two")
    site.write("c.txt", "c.txt a c\n")
    added = site.run(job, "c.txt", *words, output="three")
    assert reused(added).startswith("2 of 3 maps")
    assert "counter   words: 9" in added.out
    site.write("job.py", JOB.replace("sum(values)", "-sum(values)"))
    edited = site.run(job, "c.txt", *words, output="four")
    assert reused(edited) == "3 of 3 maps, 0 of 2 reduces"
    counts = word_counts(site.parts("three"))
    assert counts == {"a": 3, "b": 2, "c": 1, "a.txt": 1, "b.txt": 1, "c.txt": 1}
    assert word_counts(site.parts("four")) == {word: -count for word, count in counts.items()}
    told = json.loads((site.directory / "four" / "_SUCCESS").read_text())["counters"]
    assert (told["maps reused"], told["reduces reused"]) == (3, 0)


def test_a_job_that_was_killed_leaves_what_it_had_done_for_the_next(site: Site, gate: Gate) -> None:
    job = site.write("job.py", Gate.SOURCE + JOB)
    site.write("a.txt", "a b\n")
    site.write("b.txt", "last\n")
    words = ("a.txt", "b.txt", "--reducers", 1, "-D", f"gate={gate.directory}", "--reuse")
    command = ("-m", "pytxmr", "run", job, *words, "--output", "out", "--workers", 1)
    first = site.start(sys.executable, *command)
    gate.reached()  # with one worker, the other map is done
    first.send(signal.SIGKILL)
    first.ended()
    for _ in range(2):
        gate.open()
    site.directory.joinpath("out").rename(site.directory / "abandoned")
    done = site.run(job, *words)
    assert reused(done) == "1 of 2 maps, 0 of 1 reduces"
    assert word_counts(site.parts()) == {"a": 1, "b": 1, "last": 1}
    for left in site.temporary.iterdir():  # of the one that was killed
        shutil.rmtree(left)


def test_a_worker_that_dies_loses_nothing_that_was_kept(site: Site) -> None:
    dies = f"""\
    if value == "b" and not os.path.exists({str(site.directory / "died")!r}):
        open({str(site.directory / "died")!r}, "w")
        os.kill(os.getpid(), 9)
"""
    job = site.write(
        "job.py", JOB.replace('    if value == "last"', dies + '    if value == "last"')
    )
    for name in "abc":
        site.write(f"{name}.txt", f"{name}\n")
    words = ("a.txt", "b.txt", "c.txt", "--reducers", 1, "--reuse")
    first = site.run(job, *words, output="one")
    assert "1 attempts failed" in first.out
    assert reused(first) == "0 of 3 maps, 0 of 1 reduces"
    assert reused(site.run(job, *words, output="two")) == "3 of 3 maps, 1 of 1 reduces"
    assert site.parts("one") == site.parts("two") == [b"a\t1\nb\t1\nc\t1\n"]


def test_a_cluster_shares_what_is_kept_with_any_other_runner(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(JOB)
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"{number} a\n")

    def run(output: str, files: int, *more: object) -> str:
        names = [tmp_path / f"{number}.txt" for number in range(files)]
        words = (tmp_path / "job.py", *names, "--reducers", 2, "--reuse", *more)
        return reused(cluster.site.pytxmr("run", *words, "--output", tmp_path / output))

    assert run("one", 4, "--runner", "inline") == "0 of 4 maps, 0 of 2 reduces"
    assert run("two", 4) == "4 of 4 maps, 2 of 2 reduces"
    assert run("three", 5).startswith("4 of 5 maps")
    assert run("four", 5) == "5 of 5 maps, 2 of 2 reduces"
    parts = {
        name: [(tmp_path / name / f"part-0000{n}").read_bytes() for n in range(2)]
        for name in ("one", "two", "three", "four")
    }
    assert parts["one"] == parts["two"] != parts["three"] == parts["four"]
    assert cluster.jobs_on_disk() == []
