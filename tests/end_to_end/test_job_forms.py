"""All that a job module may say, run as a user runs it."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from in_process import inline
from processes import IMPORTED_FROM, PYTXMR, WORDCOUNT, Cluster, Gate, Site, word_counts

TEXT = "a b\nbb a\nccc bb a\n"


def test_package_that_is_found_in_the_working_directory_need_not_be_installed(site: Site) -> None:
    site.write("in.txt", TEXT)
    words = [WORDCOUNT, site.directory / "in.txt", "--output", site.directory / "out"]
    there = ["env", "--unset", "PYTHONPATH", "--chdir", IMPORTED_FROM]
    running = site.start(*there, *PYTXMR, "run", *words, "--workers", 1)
    assert running.ended() == 0, running.err
    assert word_counts(site.parts()) == Counter(TEXT.split())


def test_class_has_the_parameters_that_are_given_and_the_defaults_of_others(site: Site) -> None:
    site.write("in.txt", "x,a\ny,b\nz,a\n")
    job = site.write(
        "job.py",
        """\
import pytxmr

class Fields(pytxmr.MapReduce):
    params = {"field": 0, "separator": ",", "shout": False}

    def map(self, key, value):
        text = value.split(self.params["separator"])[self.params["field"]]
        yield text.upper() if self.params["shout"] else text, 1

    def combine(self, key, values):
        pytxmr.counter("combined")
        yield key, sum(values)

    def reduce(self, key, values):
        yield key, sum(values)
""",
    )
    done = inline(site, f"{job}:Fields", "in.txt", "-D", "field=1", "-D", "shout=true")
    assert done.status == 0, done.err
    assert sorted(b"".join(site.parts()).splitlines()) == [b"A\t2", b"B\t1"]
    assert re.search(r"^  counter +combined: \d+$", done.out, re.M)


def test_functions_may_have_other_names_and_the_parts_are_as_many_as_asked_for(
    site: Site,
) -> None:
    site.write("in.txt", TEXT)
    job = site.write(
        "job.py",
        """\
import pytxmr

params = {"least": 1}

def words(key, value):
    for word in value.split():
        if len(word) >= pytxmr.params["least"]:
            yield word, 1

def total(key, values):
    yield key, sum(values)

def by_length(key, partitions):
    return len(key) % partitions

def numbered(lines):
    for number, (offset, line) in enumerate(lines):
        yield number, line.decode() + " tail"

def shouting(pairs):
    for key, value in pairs:
        yield f"{key}={value}!\\n"
""",
    )
    names = {
        "mapper": "words",
        "reducer": "total",
        "combiner": "total",
        "partitioner": "by_length",
        "reader": "numbered",
        "writer": "shouting",
    }
    options = [word for role, name in names.items() for word in (f"--{role}", name)]
    done = inline(site, job, "in.txt", *options, "--reducers", 3, "-D", "least=2")
    assert done.status == 0, done.err
    assert site.parts() == [b"ccc=1!\n", b"tail=3!\n", b"bb=2!\n"]


def test_combiner_lets_fewer_records_be_spilled(site: Site) -> None:
    site.write("in.txt", "a a a b\n" * 100)
    job = site.write(
        "job.py",
        """\
def mapper(key, value):
    for word in value.split():
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
""",
    )
    for combiner, spilled in ((), 400), (("--combiner", "reducer"), 2):
        output = f"out{spilled}"
        done = inline(site, job, "in.txt", "--reducers", 1, *combiner, output=output)
        assert re.search(rf"^  spilled +{spilled} records", done.out, re.M)
        assert site.parts(output) == [b"a\t300\nb\t100\n"]


@pytest.mark.parametrize("form", ["Words", ""], ids=["class", "module"])
def test_words_that_are_counted_in_the_mapper_are_counted_once_by_few_workers(
    site: Site, form: str
) -> None:
    site.write("in.txt", TEXT * 3)
    source = """\
from collections import Counter
import pytxmr

class Words(pytxmr.MapReduce):
    def map_init(self):
        self.counts = Counter()

    def map(self, key, value):
        self.counts.update(value.split())
        return ()

    def map_final(self):
        yield from self.counts.items()

    def reduce_init(self):
        self.keys = 0

    def reduce(self, key, values):
        self.keys += 1
        yield key, sum(values)

    def reduce_final(self):
        pytxmr.counter("keys", self.keys)

job = Words()
map_init, mapper, map_final = job.map_init, job.map, job.map_final
reduce_init, reducer, reduce_final = job.reduce_init, job.reduce, job.reduce_final
"""
    job = site.write("job.py", source)
    words = ["--workers", 1, "--split-size", 8, "--reducers", 2]
    done = site.run(f"{job}:{form}" if form else job, "in.txt", *words)
    assert done.status == 0, done.err
    assert re.search(r"[5-9] maps, 2 reduces", done.out)
    assert word_counts(site.parts()) == Counter(TEXT.split() * 3)
    assert re.search(r"^  counter +keys: 4$", done.out, re.M)


def test_error_in_a_hook_fails_the_job_with_its_line_also_where_records_may_be_skipped(
    site: Site,
) -> None:
    site.write("in.txt", TEXT)
    job = site.write(
        "job.py",
        """def mapper(key, value):
    yield value, 1

def map_init():
    pass

def map_final():
    yield "rate", 1 / 0  # of nothing

def reducer(key, values):
    yield key, sum(values)
""",
    )
    done = inline(site, job, "in.txt", "--skip-bad-records", 5)
    assert done.status == 1
    assert 'yield "rate", 1 / 0  # of nothing' in done.err
    assert "map_final() raised ZeroDivisionError: division by zero" in done.err
    assert "pytxmr/" not in done.err.split("ZeroDivisionError")[0]


def test_pairs_arrive_as_they_were_yielded(site: Site) -> None:
    site.write("in.txt", "any\n")
    job = site.write(
        "job.py",
        """\
VALUES = [
    None, True, 1, -1, 2**70, 0.1, "text \\\\u00e9", b"\\\\xff", (1, (2, "x")), [1, [2]],
    {"k": (1,), 2: None}, {1, 2}, frozenset("a"), float("inf"), (), "",
]

def mapper(key, value):
    for number, one in enumerate(VALUES):
        yield number, one

def reducer(key, values):
    (found,) = values
    assert type(found) is type(VALUES[key]), (key, found)
    yield key, found == VALUES[key]
""".replace("\\\\", "\\"),
    )
    done = inline(site, job, "in.txt", "--reducers", 1)
    assert done.status == 0, done.err
    assert set(re.findall(rb"\t(.*)\n", site.parts()[0])) == {b"True"}


@pytest.mark.daemons
def test_status_and_counters_are_seen_from_outside(
    site: Site, cluster: Cluster, gate: Gate
) -> None:
    site.env |= cluster.client_env
    site.write("in.txt", TEXT)
    job_file = site.write(
        "job.py",
        f"""\
{Gate.SOURCE}
import pytxmr

def mapper(key, value):
    pytxmr.counter("lines")
    pytxmr.counter("letters", len(value))
    yield value, 1

def reducer(key, values):
    pytxmr.status(f"at the key {{key}}")
    gate({str(gate.directory)!r})
    yield key, 1
""",
    )
    words = ["run", job_file, "in.txt", "-o", "out", "--reducers", 1]
    running = site.start(*PYTXMR, *words)
    gate.reached()
    job = running.saw(r"^(Job\d+) ")[1]
    # The next heartbeat brings it, a second later at most.
    asked = (site.pytxmr("status", job).out for _ in range(20))
    assert any("\n  at the key " in status for status in asked)
    for _ in range(2):
        gate.open()
        gate.reached()
    gate.open()
    assert running.ended() == 0
    assert re.search(r"^  counter +letters: 15$", running.out, re.M)
    counters = site.pytxmr("counters", job).out.splitlines()
    assert {"letters\t15", "lines\t3", "reduce input groups\t3"} <= set(counters)
