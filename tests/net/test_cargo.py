"""What travels with a job, in a cluster in this process: who has it, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from sites import ended, joined
from wires import soon

from pytxmr.client import submit
from pytxmr.jobtracker import JobTracker
from pytxmr.model import JobSpec

JOB = """
import helpers
import pytxmr

def mapper(key, value):
    with open(pytxmr.side_file("stop")) as file:
        yield helpers.NAME, file.read() + value

def reducer(key, values):
    yield key, sorted(values)
"""


def spec_of(site, **more) -> JobSpec:
    (site.directory / "helpers.py").write_text("NAME = 'mine'")
    stop = site.directory / "stop.txt"
    stop.write_text("the ")
    return site.spec(JOB, "a\nb\n", files=(f"{stop}#stop",), reducers=1, split_bytes=1, **more)


def held(jobtracker: JobTracker) -> list[object]:
    spec = jobtracker.book.lives["Job001"].spec
    return [*spec.files, *spec.code.modules]


@pytest_twisted.ensureDeferred
async def test_the_jobtracker_holds_it_until_the_job_has_ended(site):
    jobtracker = await site.jobtracker()
    client = await site.client()
    job = await soon(submit(client, spec_of(site)))
    assert len(held(jobtracker)) == 2
    await site.tasktracker("one")
    await site.tasktracker("two")
    await joined(client, 2)
    assert (await ended(client, job))["outcome"] == "succeeded"
    assert held(jobtracker) == []
    assert site.output() == ['mine\t["the a", "the b"]']


@pytest_twisted.ensureDeferred
async def test_of_a_kept_job_a_tracker_keeps_the_spills_alone(site):
    await site.jobtracker()
    tracker = await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, spec_of(site, keep=True)))
    assert (await ended(client, job))["outcome"] == "succeeded"
    directory = Path(tracker.store.spill_path(job, "x")).parent.parent
    assert [path.name for path in directory.parent.iterdir()] == [job]
    assert [path.name for path in directory.iterdir()] == ["spills"]
