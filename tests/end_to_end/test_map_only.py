"""Jobs without a reducer, run as a user runs them."""

from __future__ import annotations

import json
import re

import pytest
from in_process import inline
from processes import PYTXMR, WORDCOUNT, Cluster, Gate, Site

LINES = [f"{number} {'keep' if number % 3 else 'drop'}\n" for number in range(100)]
GREP = """\
def mapper(key, value):
    if "keep" in value:
        yield None, value
"""
KEPT = "".join(line for line in LINES if "keep" in line).encode()


def test_each_map_writes_a_part_in_the_order_of_the_input(site: Site) -> None:
    site.write("in.txt", "".join(LINES))
    done = site.run(site.write("job.py", GREP), "in.txt", "--split-size", 100)
    assert done.status == 0, done.err
    parts = site.parts()
    assert len(parts) > 5
    assert b"".join(parts) == KEPT
    assert re.match(rf"Job001 succeeded in \d+\.\d\d s: {len(parts)} maps$", done.out, re.M)
    assert re.search(rf"^  output +66 records +{len(KEPT)} bytes$", done.out, re.M)
    assert not re.search("reduc|mapped|spilled", done.out)
    listed = json.loads((site.directory / "out" / "_SUCCESS").read_text())["parts"]
    assert [part["bytes"] for part in listed] == [len(part) for part in parts]


def test_no_reducers_leave_out_the_reducer_and_the_combiner_that_a_job_has(site: Site) -> None:
    site.write("in.txt", "b a\na b\n")
    done = inline(site, WORDCOUNT, "in.txt", "--reducers", 0)
    assert done.status == 0, done.err
    assert site.parts() == [b"b\t1\na\t1\na\t1\nb\t1\n"]


def test_class_without_reduce_is_a_job_without_a_reducer(site: Site) -> None:
    site.write("in.txt", "".join(LINES))
    job = site.write(
        "job.py",
        """\
import pytxmr

class Numbers(pytxmr.MapReduce):
    def map(self, key, value):
        yield value.split()

    def write(self, pairs):
        for number, word in pairs:
            yield f"{word}={number};"
""",
    )
    done = inline(site, f"{job}:Numbers", "in.txt")
    assert done.status == 0, done.err
    assert b"".join(site.parts()) == "".join(f"{n}={w};" for w, n in map(str.split, LINES)).encode()


def test_empty_input_gives_no_part(site: Site) -> None:
    site.write("in.txt", "")
    done = site.run(site.write("job.py", GREP), "in.txt")
    assert done.status == 0, done.err
    assert site.parts() == []


def test_record_that_the_mapper_chokes_on_is_told_and_may_be_set_aside(site: Site) -> None:
    lines = [line.replace("\n", " bad\n") if line.startswith("7") else line for line in LINES]
    site.write("in.txt", "".join(lines))
    job = site.write("job.py", GREP + "    assert 'bad' not in value, value\n")
    done = inline(site, job, "in.txt", "--split-size", 100)
    assert done.status == 1
    assert re.search(r"at .*in\.txt, offset \d+, record '7\d? \w+ bad'", done.err)
    assert "pytxmr: Job001: Map" in done.err
    assert not (site.directory / "out").exists()
    done = inline(site, job, "in.txt", "--split-size", 100, "--skip-bad-records", 11)
    assert done.status == 0, done.err
    out = site.directory / "out"
    kept = "".join(line for line in lines if "keep" in line and "bad" not in line).encode()
    assert b"".join(part.read_bytes() for part in sorted(out.glob("part-*"))) == kept
    aside = [json.loads(line) for path in sorted(out.glob("_bad/*")) for line in path.open()]
    assert [line["record"] for line in aside] == [line[:-1] for line in lines if "bad" in line]
    assert sorted(path.name for path in out.iterdir() if "part" not in path.name) == [
        "_SUCCESS",
        "_bad",
    ]


def test_record_that_kills_its_worker_is_set_aside(site: Site) -> None:
    site.write("in.txt", "".join(LINES))
    job = site.write("job.py", GREP + "    if value == '7 keep':\n        import os; os.abort()\n")
    done = site.run(job, "in.txt", "--split-size", 400, "--skip-bad-records", 1)
    assert done.status == 0, done.err
    parts = sorted((site.directory / "out").glob("part-*"))
    assert b"".join(part.read_bytes() for part in parts) == KEPT.replace(b"7 keep\n", b"", 1)


@pytest.mark.parametrize(
    ("extra", "words", "problem"),
    [
        ("", ["--reducers", 3], "--reducers 3: {job} has no reducer; say 0, or nothing"),
        ("combiner = mapper", [], "{job} has combiner(), but no reducer(): "),
        ("partitioner = mapper", [], "{job} has partitioner(), but no reducer(): "),
        ("def reduce_init(): ...", [], "{job} has reduce_init(), but no reducer(): "),
        ("", ["--reducers", -1], "is not a number from 0 up"),
    ],
)
def test_what_makes_no_sense_without_a_reducer_is_refused(
    site: Site, extra: str, words: list[object], problem: str
) -> None:
    site.write("in.txt", "a\n")
    job = site.write("job.py", f"{GREP}\n{extra}\n")
    done = inline(site, job, "in.txt", *words)
    assert done.status == 2
    assert problem.format(job=job) in done.err
    assert not (site.directory / "out").exists()


def test_spills_are_not_kept_where_there_are_none(site: Site) -> None:
    site.write("in.txt", "a\n")
    done = site.run(site.write("job.py", GREP), "in.txt", "--keep")
    assert done.status == 2
    assert "--keep: a job without a reducer has no spills; its parts are its output" in done.err
    assert not (site.directory / "out").exists()


@pytest.mark.daemons
def test_daemons_show_maps_alone_and_leave_nothing_of_a_job_that_is_killed(
    site: Site, cluster: Cluster, gate: Gate
) -> None:
    site.env |= cluster.client_env
    site.write("in.txt", "".join(LINES))
    gated = f"{Gate.SOURCE}\n{GREP}    if key == 0:\n        gate({str(gate.directory)!r})\n"
    job_file = site.write("job.py", gated)
    words = ["run", job_file, "in.txt", "--split-size", 100, "-o"]
    running = site.start(*PYTXMR, *words, "out")
    gate.reached()
    job = running.saw(r"^(Job\d+) ")[1]
    status = site.pytxmr("status", job).out
    assert re.search(r"^  mapping: map \d+/\d+, \d+ running$", status, re.M)
    gate.open()
    assert running.ended() == 0
    assert re.search(rf"^{job} mapping: map \d+/\d+$", running.err, re.M)
    assert b"".join(site.parts()) == KEPT
    running = site.start(*PYTXMR, *words, "killed")
    gate.reached()
    job = running.saw(r"^(Job\d+) ")[1]
    assert site.pytxmr("kill", job).status == 0
    assert running.ended() == 1
    assert not (site.directory / "killed").exists()
