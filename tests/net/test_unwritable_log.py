"""What the jobtracker cannot log it does not do, and says so to nobody."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from sites import at_gate, ended, gated, open_gate, ran, started, unwritable
from wires import soon, turns, until

from pytxmr.client import new_owner, submit
from pytxmr.errors import PytxmrError
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import Phase


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_logged_is_neither_acknowledged_nor_acted_upon_until_it_can(
    site, state, tmp_path, logged
):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await at_gate(tmp_path)
    jobtracker._state._db.execute("PRAGMA query_only=ON")
    open_gate(tmp_path)
    await soon(until(lambda: "everything waits: {error}" in " ".join(logged.flush())))
    await soon(client.call("ping"))
    await turns(20)
    assert tracker._outbox, "not acknowledged"
    assert ran(tmp_path) == ["mapper a", "mapper gate"], "no further map was started"
    jobtracker._state._db.execute("PRAGMA query_only=OFF")
    assert (await ended(client, "Job001"))["outcome"] == "succeeded"
    assert site.output() == ["a\t1", "b\t1", "gate\t1"]
    logged.flush()


@pytest_twisted.ensureDeferred
async def test_what_is_logged_late_has_the_time_at_which_it_was_handled(site, state, logged):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    jobtracker._state.append = unwritable
    submitting = submit(client, site.spec())
    await soon(until(lambda: "everything waits: {error}" in " ".join(logged.flush())))
    del jobtracker._state.append
    await soon(submitting)
    ((_, then),) = jobtracker._state.logs()["Job001"]
    assert then == jobtracker.book.lives["Job001"].state.phase_began


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_full_is_not_tried_at_every_event(site, state, logged):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    tried: list[Any] = []
    jobtracker._state.append = lambda history: tried.append(history) or unwritable()
    for _ in range(3):
        jobtracker.plan.feed(ev.TrackerResumed("one.1"))
    assert len(tried) == 1
    del jobtracker._state.append
    logged.flush()


@pytest_twisted.ensureDeferred
async def test_a_log_is_not_made_compact_ahead_of_what_it_says(site, state, monkeypatch, logged):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    monkeypatch.setattr("pytxmr.loggedplan.LONG_LOG", 1)
    jobtracker._state.append = unwritable
    jobtracker.plan.feed(ev.TrackerResumed("one.1"))
    ((event, _),) = jobtracker._state.logs()["Job001"]
    assert isinstance(event, ev.JobSubmitted), "else the job would be told twice"
    del jobtracker._state.append
    logged.flush()


@pytest_twisted.ensureDeferred
async def test_a_job_whose_end_is_not_logged_yet_is_not_forgotten(site, state, monkeypatch, logged):
    monkeypatch.setattr("pytxmr.jobbook.MOST_ENDED_JOBS", 1)
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    for name in ("one", "two"):
        job = await soon(submit(client, site.spec(name=name)))
        jobtracker.plan.feed(ev.KillJob(job, "enough"))
    jobtracker._state.append = unwritable
    states = [life.state for life in jobtracker.book.lives.values()]
    await soon(until(lambda: all(state.phase is Phase.ENDED for state in states)))
    jobtracker.book._forget_old_jobs()
    del jobtracker._state.append
    assert [(await ended(client, job))["outcome"] for job in ("Job001", "Job002")] == ["killed"] * 2
    logged.flush()


@pytest_twisted.ensureDeferred
async def test_a_job_that_cannot_be_recorded_is_refused_and_leaves_nothing(site, state):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    owner = new_owner()
    for name in ("reserve", "next_number", "remember"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobtracker._state, name, unwritable)
            with pytest.raises(PytxmrError, match="cannot write its state"):
                await soon(submit(client, site.spec(), owner))
        assert not (site.directory / "job.output").exists()
        assert await soon(client.call("jobs", True)) == []
        assert (jobtracker._state.reserved(), jobtracker._state.remembered()) == ({}, [])


@pytest_twisted.ensureDeferred
async def test_a_submission_whose_reservation_was_not_dropped_may_be_made_again(site, state):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    owner = new_owner()
    jobtracker._state.reserve(owner, str(site.directory / "elsewhere"))
    assert await soon(submit(client, site.spec(), owner)) == "Job001"
    assert jobtracker._state.reserved() == {}


@pytest_twisted.ensureDeferred
async def test_a_submission_over_which_the_jobtracker_itself_fails_leaves_nothing(
    site, state, monkeypatch, logged
):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    monkeypatch.setattr("pytxmr.submission.list_inputs", lambda inputs: 1 / 0)
    with pytest.raises(PytxmrError, match="ZeroDivisionError"):
        await soon(submit(client, site.spec()))
    assert jobtracker._state.reserved() == {}
    logged.flush()


@pytest_twisted.ensureDeferred
async def test_an_end_that_cannot_be_recorded_is_by_the_next_life(site, state):
    jobtracker = await site.jobtracker(**state)
    await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, site.spec()))
    jobtracker._state.remember = unwritable
    assert (await ended(client, job))["outcome"] == "succeeded"
    assert job in jobtracker._state.logs()
    await site.stop(jobtracker)
    again = await site.jobtracker(**state)
    client = await site.client()
    assert (await soon(client.call("status", job)))["outcome"] == "succeeded"
    assert job not in again._state.logs()
