"""`pytxmr.run`: jobs from scripts, in whatever thread, as often as one likes."""

from __future__ import annotations

import ast
import signal
import sys

import pytest
from processes import BOOK, WORDCOUNT, Cluster, Death, Finished, Gate, Site

JOB = """\
import pytxmr

params = {"least": 1, "shout": False}

def mapper(key, value):
    pytxmr.counter("lines")
    if value == "bad":
        raise ValueError("cannot use it")
    for word in value.split():
        yield word.upper() if pytxmr.params["shout"] else word, 1

def reducer(key, values):
    total = sum(values)
    if total >= pytxmr.params["least"]:
        yield key, total
"""


@pytest.fixture(autouse=True)
def _job(site: Site) -> None:
    site.write("job.py", JOB)
    site.write("in.txt", "a b\nb\n")


def script(site: Site, text: str) -> Finished:
    process = site.start(sys.executable, site.write("script.py", text))
    return Finished(process.ended(), process.out, process.err)


def test_a_script_runs_jobs_one_after_the_other_and_reads_their_pairs(site: Site) -> None:
    done = script(
        site,
        """\
import sys
import pytxmr

assert not any(name.partition(".")[0] == "twisted" for name in sys.modules)
first = pytxmr.run("job.py", "in.txt", "first", reducers=1, workers=2)
print(list(first), list(first), first.counters, first.totals["map input records"])
second = pytxmr.run("job.py", ["in.txt", "in.txt"], "second", workers=1, params={"shout": True})
print(list(second), second.output)
""",
    )
    assert done.status == 0, done.err
    assert done.out.splitlines() == [
        "[('a', '1'), ('b', '2')] [('a', '1'), ('b', '2')] {'lines': 2} 2",
        f"[('A', '2'), ('B', '4')] {site.directory}/second",
    ]


def test_pairs_that_were_written_with_their_types_come_with_them(site: Site) -> None:
    site.write(
        "typed.py",
        """\
from pytxmr import writers
writer = writers.msgpack
def mapper(key, value):
    yield (value, key), {"at": [key]}
""",
    )
    done = script(site, 'import pytxmr\nprint(list(pytxmr.run("typed.py", "in.txt", "out")))')
    assert done.status == 0, done.err
    assert done.out == "[(('a b', 0), {'at': [0]}), (('b', 4), {'at': [4]})]\n"


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_progress_is_called_with_statuses_and_the_runner_may_be_chosen(
    site: Site, runner: str
) -> None:
    done = script(
        site,
        f"""\
import pytxmr
seen = []
result = pytxmr.run(
    {str(WORDCOUNT)!r}, {str(BOOK)!r}, "out", progress=seen.append, runner={runner!r}, reducers=2
)
assert sum(int(count) for _, count in result) == result.totals["map output records"]
print(seen[-1]["job"], seen[-1]["outcome"])
""",
    )
    assert done.status == 0, done.err
    assert done.out == "Job001 succeeded\n"
    assert len(site.parts()) == 2


def test_it_works_in_any_thread_also_in_two_at_a_time(site: Site) -> None:
    done = script(
        site,
        """\
from concurrent.futures import ThreadPoolExecutor
import pytxmr
with ThreadPoolExecutor(2) as threads:
    run = lambda output: dict(pytxmr.run("job.py", "in.txt", output, workers=1))
    print(list(threads.map(run, ["one", "two"])))
""",
    )
    assert done.status == 0, done.err
    assert done.out == "[{'a': '1', 'b': '2'}, {'a': '1', 'b': '2'}]\n"


def test_a_class_and_a_module_are_found_in_their_files(site: Site) -> None:
    done = script(
        site,
        """\
import pytxmr

class Lengths:
    def map(self, key, value):
        yield len(value), 1
    def reduce(self, key, values):
        yield key, sum(values)

if __name__ == "__main__":
    import job
    print(list(pytxmr.run(Lengths, "in.txt", "lengths", workers=1)))
    print(list(pytxmr.run(job, "in.txt", "out", workers=1)))
""",
    )
    assert done.status == 0, done.err
    assert done.out == "[('1', '1'), ('3', '1')]\n[('a', '1'), ('b', '2')]\n"


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_a_script_that_would_run_itself_for_ever_is_told_so(site: Site, runner: str) -> None:
    done = script(
        site,
        f"""\
import pytxmr
def mapper(key, value):
    yield value, 1
reducer = pytxmr.identity
pytxmr.run("script.py", "in.txt", "out", runner={runner!r})
""",
    )
    assert done.status == 1
    assert "put the call below `if __name__ == '__main__':`" in done.err
    assert not (site.directory / "out").exists()


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_a_job_that_fails_raises_with_the_users_traceback(site: Site, runner: str) -> None:
    site.write("in.txt", "a\nbad\n")
    before = site.listing() | {"script.py"}
    done = script(site, f'import pytxmr\npytxmr.run("job.py", "in.txt", "out", runner={runner!r})')
    assert done.status == 1
    assert f'File "{site.directory}/job.py", line 8, in mapper' in done.err
    assert "ValueError: cannot use it" in done.err
    assert "pytxmr.errors.JobFailed: Job001: Map001 failed" in done.err
    assert f"at {site.directory}/in.txt, offset 2, record 'bad'" in done.err
    assert "/pytxmr/records/" not in done.err
    assert site.listing() == before


@pytest.mark.parametrize("runner", ["local", "inline"])
def test_an_error_at_the_modules_top_level_is_shown_where_it_is(site: Site, runner: str) -> None:
    site.write("job.py", "import nothing_there\n")
    done = script(site, f'import pytxmr\npytxmr.run("job.py", "in.txt", "out", runner={runner!r})')
    assert done.status == 1
    assert f'File "{site.directory}/job.py", line 1, in <module>' in done.err
    assert not (site.directory / "out").exists()


WRONG = [
    ('"job.py", "in.txt", "out", reducer=3, reducrs=3', "did you mean reducers?"),
    ('"job.py", "in.txt", "out", reducers="x"', "'x' is not a number from"),
    ('"job.py", "in.txt", "out", params={"leest": 1}', "did you mean least?"),
    ('"job.py", "in.txt", "out", params={"least": [1]}', "least=[1]: not int"),
    ('"job.py", "in.txt", "out", params={"least": {1}}', "least is set; a parameter is None"),
    ('"job.py", "in.txt", "out", runner="inline", workers=1', "--workers means nothing"),
    ('"gone.py", "in.txt", "out"', "cannot read the job module gone.py"),
    ('"job.py", "gone.txt", "out"', "gone.txt: No such file"),
    ('len, "in.txt", "out"', "is no job"),
    ('type("Local", (), {}), "in.txt", "out"', "is not at the top of"),
]


def test_what_is_wrong_is_an_error_before_anything_runs(site: Site) -> None:
    calls = "".join(f"lambda: pytxmr.run({arguments}),\n" for arguments, _ in WRONG)
    done = script(
        site,
        f"""\
import pytxmr
from pytxmr.errors import JobFailed, PytxmrError
for call in [
{calls}]:
    try:
        call()
    except PytxmrError as error:
        assert not isinstance(error, JobFailed)
        print(repr(str(error)))
""",
    )
    assert done.status == 0, done.err
    told = done.out.splitlines()
    assert len(told) == len(WRONG)
    for line, (_, said) in zip(told, WRONG, strict=True):
        assert said in ast.literal_eval(line)
    assert not (site.directory / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_or_the_scripts_death_ends_the_job_and_leaves_nothing(
    site: Site, gate: Gate, number: signal.Signals
) -> None:
    mapper = f"def mapper(key, value):\n    gate({str(gate.directory)!r})\n    yield value, 1\n"
    reducer = "def reducer(key, values):\n    yield key, sum(values)\n"
    site.write("gated.py", Gate.SOURCE + mapper + reducer)
    text = 'import pytxmr\npytxmr.run("gated.py", "in.txt", "out", workers=1)\n'
    path = site.write("script.py", text)
    before = site.listing()
    process = site.start(sys.executable, path)
    gate.reached()
    deaths = [Death(pid) for pid in site.processes() if pid != process.pid]
    process.send(number)
    assert process.ended(15) == 128 + number
    for death in deaths:
        death.wait()
    assert site.listing() == before


def test_an_error_of_the_callback_ends_the_job_and_comes_out(site: Site) -> None:
    done = script(
        site,
        """\
import pytxmr
def progress(status):
    raise LookupError("no more")
try:
    pytxmr.run("job.py", "in.txt", "out", progress=progress, runner="RUNNER")
except LookupError as error:
    print(error)
""".replace("RUNNER", "inline"),
    )
    assert (done.status, done.out) == (0, "no more\n")
    assert not (site.directory / "out").exists()


def test_it_runs_on_a_cluster(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    site.write("job.py", JOB)
    done = script(
        site, 'import pytxmr\nprint(list(pytxmr.run("job.py", "in.txt", "out", reducers=1)))'
    )
    assert done.status == 0, done.err
    assert done.out == "[('a', '1'), ('b', '2')]\n"
