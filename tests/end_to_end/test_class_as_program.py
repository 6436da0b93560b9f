"""A job's class that is a program, and one that says where its input is and its output goes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from in_process import inline, typed
from processes import PYTXMR, Cluster, Finished, Site, word_counts

TEXT = "a b\nbb a\nccc bb a\n"
JOB = '''\
"""Jobs of words."""
import pytxmr


class WordCount(pytxmr.MapReduce):
    """Counts words, 100% of them.

    Each once.
    """

    params = {"least": 1}
    ATTRIBUTES

    def map(self, key, value):
        for word in value.split():
            if len(word) >= self.params["least"]:
                yield word, 1

    def reduce(self, key, values):
        yield key, sum(values)


if __name__ == "__main__":
    WordCount.run()
'''


@pytest.fixture(autouse=True)
def _input(site: Site) -> None:
    site.write("in.txt", TEXT)
    site.write("more.txt", "a more\n")


def job(site: Site, attributes: str = "", source: str = JOB) -> Path:
    return site.write("words.py", source.replace("ATTRIBUTES", attributes))


def python(site: Site, *words: object) -> Finished:
    running = site.start(sys.executable, *words)
    status = running.ended()
    return Finished(status, running.out, running.err)


def test_class_is_a_program_with_the_options_of_run(site: Site) -> None:
    words = ["in.txt", "more.txt", "--output", "out", "--reducers", 2, "-D", "least=2"]
    done = python(site, job(site), *words, "--workers", 1)
    assert done.status == 0, done.err
    assert "Job001 succeeded" in done.out
    assert len(site.parts()) == 2
    assert word_counts(site.parts()) == {"bb": 2, "ccc": 1, "more": 1}


def test_program_takes_what_is_not_typed_from_the_class(site: Site) -> None:
    attributes = 'input, output, reducers = ["in.txt", "more.txt"], "counts", 3'
    done = python(site, job(site, attributes))
    assert done.status == 0, done.err
    assert len(site.parts("counts")) == 3
    assert word_counts(site.parts("counts")) == Counter(f"{TEXT} a more".split())
    done = python(site, job(site, attributes), "more.txt", "-o", "out", "--reducers", 1)
    assert done.status == 0, done.err
    assert site.parts() == [b"a\t1\nmore\t1\n"]


def test_help_names_the_job_and_says_what_its_class_does(site: Site) -> None:
    done = python(site, job(site), "--help")
    assert done.status == 0
    assert done.out.startswith("usage: words.py [-h] ")
    assert "\nRun the job WordCount, here or on a cluster" in done.out
    assert "\n\nCounts words, 100% of them.\n\nEach once.\n\n" in done.out
    assert "[INPUT ...]" in done.out
    assert "JOB" not in done.out.split("Run the job")[0]
    undocumented = JOB.partition('    """Counts')[0] + JOB.partition('Each once.\n    """\n')[2]
    assert "\n\nJobs of words.\n\n" in python(site, job(site, source=undocumented), "-h").out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["in.txt"], 2, "pytxmr: --output DIR is needed; name it, or let WordCount have an output"),
        (["-o", "out"], 2, "pytxmr: no input is named; name it, or let WordCount have an input"),
        (["in.txt", "-o", "out", "--bogus"], 2, "unrecognized arguments: --bogus"),
        (["gone.txt", "-o", "out"], 2, "gone.txt: No such file or directory"),
        (["in.txt", "-o", "out", "-D", "leest=1"], 2, "did you mean least?"),
    ],
)
def test_what_is_wrong_is_told_with_the_status_of_run(
    site: Site, words: list[str], status: int, said: str
) -> None:
    done = python(site, job(site), *words)
    assert done.status == status
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (site.directory / "out").exists()


def test_job_that_fails_has_status_1_and_the_users_traceback(site: Site) -> None:
    path = job(site, source=JOB.replace("sum(values)", "1 / 0"))
    done = python(site, path, "in.txt", "-o", "out", "--runner", "inline")
    assert done.status == 1
    assert "yield key, 1 / 0" in done.err
    assert "pytxmr/" not in done.err.split("ZeroDivisionError")[0]


def test_program_that_runs_whenever_it_is_imported_is_refused(site: Site) -> None:
    path = job(site, source=JOB.replace('if __name__ == "__main__":', "if True:"))
    done = python(site, path, "in.txt", "-o", "out")
    assert done.status == 2
    assert 'WordCount.run() is for a program; put it under `if __name__ == "__main__":`' in done.err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def made():\n    class Job(pytxmr.MapReduce): pass\n    Job.run()\nmade()", "at the top"),
        ("Job = type('Other', (pytxmr.MapReduce,), {})\nJob.run()", "at the top level of"),
    ],
)
def test_class_that_a_worker_could_not_find_is_refused(site: Site, source: str, said: str) -> None:
    done = python(site, site.write("words.py", f"import pytxmr\n{source}\n"), "in.txt", "-o", "out")
    assert done.status == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_class_outside_of_any_file_is_refused(site: Site) -> None:
    done = python(site, "-c", "import pytxmr\nclass Job(pytxmr.MapReduce): pass\nJob.run()")
    assert done.status == 2
    assert "Job.run() wants Job to be in a file NAME.py" in done.err


# The same of the command


def test_run_takes_what_is_not_typed_from_the_class(site: Site) -> None:
    path = job(site, 'input = "*.txt"\n    output = "counts"\n    reducers = 1')
    done = typed(site, "run", f"{path}:WordCount", "--runner", "inline")
    assert done.status == 0, done.err
    (part,) = site.parts("counts")
    assert word_counts([part]) == Counter(f"{TEXT} a more".split())
    done = typed(
        site,
        "run",
        f"{path}:WordCount",
        "-o",
        "out",
        "in.txt",
        "--reducers",
        2,
        "--runner",
        "inline",
    )
    assert done.status == 0, done.err
    assert word_counts(site.parts()) == Counter(TEXT.split())
    assert len(site.parts()) == 2


def test_of_a_module_such_names_mean_nothing(site: Site) -> None:
    source = (
        "input, output, reducers = 'in.txt', 'out', 7\n"
        "def mapper(key, value):\n    yield value, 1\n"
        "def reducer(key, values):\n    yield key, 1\n"
    )
    path = site.write("job.py", source)
    done = typed(site, "run", path, "-o", "out", "--runner", "inline")
    assert (done.status, done.err) == (2, "pytxmr: no input is named\n")
    done = typed(site, "run", path, "in.txt", "--runner", "inline")
    assert (done.status, done.err) == (2, "pytxmr: --output DIR is needed\n")
    assert inline(site, path, "in.txt").status == 0
    assert len(site.parts()) == 2


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("input = 7", "input of WordCount is int"),
        ("input = [7]", "input of WordCount: expected str, bytes or os.PathLike object, not int"),
        ("output = ['out']", "output of WordCount is list"),
        ("reducers = '2'", "reducers of WordCount is str"),
        ("reducers = True", "reducers of WordCount is bool"),
    ],
)
def test_attribute_of_a_wrong_type_is_refused(site: Site, attribute: str, said: str) -> None:
    done = inline(site, f"{job(site, attribute)}:WordCount", "in.txt")
    assert done.status == 2
    assert said in done.err


def test_class_without_reducers_has_maps_alone(site: Site) -> None:
    path = job(site, "reducers = 0")
    assert inline(site, f"{path}:WordCount", "in.txt").status == 0
    assert b"".join(site.parts()).splitlines() == [f"{w}\t1".encode() for w in TEXT.split()]


def test_methods_that_are_called_so_are_methods(site: Site) -> None:
    methods = "def input(self): ...\n    def output(self): ...\n    def reducers(self): ..."
    path = job(site, methods)
    assert inline(site, f"{path}:WordCount", "in.txt").status == 0
    assert word_counts(site.parts()) == Counter(TEXT.split())


@pytest.mark.daemons
def test_program_runs_on_a_cluster_and_submit_knows_the_attributes(
    site: Site, cluster: Cluster
) -> None:
    site.env |= cluster.client_env
    done = python(site, job(site), "in.txt", "-o", "out")
    assert done.status == 0, done.err
    assert word_counts(site.parts()) == Counter(TEXT.split())
    path = job(site, 'input, output = "more.txt", "counts"')
    submitted = site.start(*PYTXMR, "submit", f"{path}:WordCount")
    assert submitted.ended() == 0
    assert site.pytxmr("wait", submitted.out.strip()).status == 0
    assert word_counts(site.parts("counts")) == {"a": 1, "more": 1}
