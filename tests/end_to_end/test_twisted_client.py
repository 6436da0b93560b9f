"""`pytxmr.client.Client` and `LocalCluster`, in programs that have a reactor of their own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from processes import Cluster, Gate, Site

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "testing.md"
HEAD = """\
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from pytxmr.client import Client, JobOptions, make_spec
from pytxmr.errors import JobFailed, NotFound
from pytxmr.runners.local import LocalCluster

def spec(output, job="job.py"):
    return make_spec(JobOptions(job, ("in.txt",), output, reducers=1))

async def main(reactor):
"""
FOOT = "\nreact(lambda reactor: ensureDeferred(main(reactor)))\n"
JOB = """\
def mapper(key, value):
    yield value, 1 // len(value)
def reducer(key, values):
    yield key, sum(values)
"""


@pytest.fixture(autouse=True)
def _job(site: Site) -> None:
    site.write("job.py", JOB)
    site.write("in.txt", "b\na\nb\n")


def test_the_example_of_the_page_runs_on_a_cluster(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    for name in ("wordcount.py", "on_a_cluster.py"):
        site.write(name, next(block for block in blocks if block.startswith(f"# {name}")))
    site.write("input.txt", "b a\nb\n")
    process = site.start(sys.executable, "on_a_cluster.py")
    assert process.ended() == 0, process.err
    assert process.out == "wordcount.py\n{'a': '1', 'b': '2'}\n"


def test_a_local_cluster_runs_several_jobs_at_a_time_and_tells_progress(site: Site) -> None:
    body = """\
    from twisted.internet.defer import gatherResults
    seen = []
    async with LocalCluster(reactor, workers=2) as client:
        found = await gatherResults([
            client.run(spec("one"), progress=seen.append), client.run(spec("two"))
        ])
        print([sorted(result) for result in found])
        try:
            await client.status("Job009")
        except NotFound as error:
            print(error)
"""
    process = site.start(sys.executable, site.write("script.py", HEAD + body + FOOT))
    assert process.ended() == 0, process.err
    pairs, unknown = process.out.splitlines()
    assert pairs == "[[('a', '1'), ('b', '2')], [('a', '1'), ('b', '2')]]"
    assert unknown.startswith("there is no Job009")


def test_a_job_that_fails_fails_its_result_with_the_users_traceback(site: Site) -> None:
    site.write("in.txt", "\n")
    body = """\
    async with LocalCluster(reactor, workers=1) as client:
        try:
            await client.run(spec("out"))
        except JobFailed as error:
            print(error.details["traceback"], error)
"""
    process = site.start(sys.executable, site.write("script.py", HEAD + body + FOOT))
    assert process.ended() == 0, process.err
    assert 'job.py", line 2, in mapper' in process.out
    assert "Job001: Map001 failed 4 times: the mapper raised ZeroDivisionError" in process.out


def test_what_still_runs_at_the_end_of_the_block_is_ended_and_leaves_nothing(
    site: Site, gate: Gate
) -> None:
    mapper = f"def mapper(key, value):\n    gate({str(gate.directory)!r})\n    yield value, 1\n"
    reducer = "def reducer(key, values):\n    yield key, sum(values)\n"
    site.write("gated.py", Gate.SOURCE + mapper + reducer)
    body = f"""\
    from twisted.internet.threads import deferToThread
    async with LocalCluster(reactor, workers=1) as client:
        job = await client.submit(spec("out", "gated.py"))
        reached = await deferToThread(open, {str(gate.directory / "reached")!r})
        await deferToThread(reached.readline)
        reached.close()
        print((await client.status(job))["running"])
"""
    process = site.start(sys.executable, site.write("script.py", HEAD + body + FOOT))
    assert process.ended() == 0, process.err
    assert process.out == "1\n"
    assert not (site.directory / "out").exists()


def test_a_killed_job_fails_its_result(site: Site, gate: Gate) -> None:
    mapper = f"def mapper(key, value):\n    gate({str(gate.directory)!r})\n    yield value, 1\n"
    reducer = "def reducer(key, values):\n    yield key, sum(values)\n"
    site.write("gated.py", Gate.SOURCE + mapper + reducer)
    body = """\
    async with LocalCluster(reactor, workers=1) as client:
        job = await client.submit(spec("out", "gated.py"))
        result = client.result(job)
        await client.kill(job, "nobody wants it")
        try:
            await result
        except JobFailed as error:
            print(error)
"""
    process = site.start(sys.executable, site.write("script.py", HEAD + body + FOOT))
    assert process.ended() == 0, process.err
    assert "nobody wants it" in process.out
    assert not (site.directory / "out").exists()
