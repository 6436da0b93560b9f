"""A jobtracker that is started again goes on where it was.

To stop a jobtracker with a state directory does no more about its jobs than to kill it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import pytest_twisted
from sites import WORDCOUNT, at_gate, ended, gated, joined, open_gate, ran, started, unwritable
from twisted.internet.defer import Deferred
from wires import soon, until

from pytxmr.client import new_owner, submit
from pytxmr.errors import BadConfiguration, NotFound, Unreachable
from pytxmr.model import AttemptId
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import JobState, Phase
from pytxmr.roster import RETURN_SECONDS
from pytxmr.state import StateStore
from pytxmr.storage.output import OutputDirectory


@pytest_twisted.ensureDeferred
async def test_a_job_goes_on_and_its_finished_maps_are_used_again(site, state, tmp_path):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await at_gate(tmp_path)
    before = tracker.who
    await site.stop(jobtracker)
    await soon(until(lambda: tracker._peer is None))
    open_gate(tmp_path)
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    status = await ended(client, "Job001")
    assert (status["outcome"], status["failures"]) == ("succeeded", 0)
    assert site.output() == ["a\t1", "b\t1", "gate\t1"]
    assert ran(tmp_path) == [
        f"{kind} {word}" for kind in ("mapper", "reducer") for word in ("a", "b", "gate")
    ], "each once"
    assert tracker.who == {"epoch": before["epoch"] + 1, "tracker": before["tracker"]}
    assert status["counters"]["map input records"] == 3
    assert status["phase_seconds"]["mapping"] > 0


@pytest_twisted.ensureDeferred
async def test_a_long_log_is_made_compact_and_the_job_goes_on_all_the_same(
    site, state, tmp_path, monkeypatch
):
    monkeypatch.setattr("pytxmr.loggedplan.LONG_LOG", 4)
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await at_gate(tmp_path)
    assert isinstance(jobtracker._state.logs()["Job001"][0][0], JobState)
    assert len(jobtracker._state.logs()["Job001"]) < 6
    await site.stop(jobtracker)
    open_gate(tmp_path)
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    status = await ended(client, "Job001")
    assert (status["outcome"], status["failures"]) == ("succeeded", 0)
    assert site.output() == ["a\t1", "b\t1", "gate\t1"]
    assert len(ran(tmp_path)) == 6, "each once"
    assert jobtracker._state.logs().keys() == {"one.1"}


@pytest_twisted.ensureDeferred
async def test_a_log_is_made_compact_again_each_time_that_it_has_doubled(site, state, monkeypatch):
    monkeypatch.setattr("pytxmr.loggedplan.LONG_LOG", 4)
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    compact, made = jobtracker._state.compact, []
    jobtracker._state.compact = lambda *args: made.append(compact(*args))
    for _ in range(39):
        jobtracker.plan.feed(ev.TrackerResumed("one.1"))
    assert len(made) == 4, "at 4, 8, 16 and 32 events"
    assert len(jobtracker._state.logs()["Job001"]) == 1 + 8
    await site.stop(jobtracker)
    jobtracker = await site.jobtracker(**state)
    jobtracker.plan.feed(ev.TrackerResumed("one.1"))
    assert len(jobtracker._state.logs()["Job001"]) == 1, "what the life before wrote counts as well"


@pytest_twisted.ensureDeferred
async def test_a_reduce_that_runs_meanwhile_is_not_run_again(site, state, tmp_path):
    source = gated(tmp_path, "reducer")
    jobtracker, tracker, client = await started(site, state, source, reducers=1)
    await at_gate(tmp_path, "reducer")
    await site.stop(jobtracker)
    jobtracker = await site.jobtracker(**state)
    open_gate(tmp_path)
    client = await site.client()
    assert (await ended(client, "Job001"))["outcome"] == "succeeded"
    assert len(ran(tmp_path)) == 6, "each once"


@pytest_twisted.ensureDeferred
async def test_what_ran_on_a_tracker_that_is_gone_as_well_runs_on_another(site, state, tmp_path):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await at_gate(tmp_path)
    await site.stop(jobtracker)
    await site.stop(tracker)
    (tmp_path / "ran").unlink()
    jobtracker = await site.jobtracker(**state)
    assert list(jobtracker.cluster.trackers) == ["one.1"], "believed to be alive for a while"
    await site.tasktracker()
    await at_gate(tmp_path)
    open_gate(tmp_path)
    client = await site.client()
    assert (await ended(client, "Job001"))["outcome"] == "succeeded"
    assert site.output() == ["a\t1", "b\t1", "gate\t1"]


@pytest_twisted.ensureDeferred
async def test_a_commit_that_was_under_way_is_made_again(site, state, monkeypatch):
    monkeypatch.setattr("pytxmr.joblife.JobLife._commit", lambda life, order: Deferred())
    jobtracker, _, client = await started(site, state, WORDCOUNT)
    await soon(until(lambda: jobtracker.book.lives["Job001"].state.phase is Phase.COMMITTING))
    await site.stop(jobtracker)
    monkeypatch.undo()
    assert not (site.directory / "job.output" / "_SUCCESS").exists()
    await site.jobtracker(**state)
    client = await site.client()
    assert (await ended(client, "Job001"))["outcome"] == "succeeded"
    manifest = json.loads((site.directory / "job.output" / "_SUCCESS").read_text())
    assert manifest["job"] == "Job001"
    assert site.output() == ["a\t1", "b\t1", "gate\t1"]


@pytest_twisted.ensureDeferred
async def test_what_was_killed_is_cleaned_up_although_the_jobtracker_died_over_it(
    site, state, tmp_path, monkeypatch
):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await at_gate(tmp_path)
    monkeypatch.setattr("pytxmr.joblife.JobLife._destroy_job", lambda life, order: Deferred())
    soon(client.call("kill", "Job001", "enough")).addErrback(lambda failure: None)
    await soon(until(lambda: jobtracker.book.lives["Job001"].state.outcome))
    await site.stop(jobtracker)
    monkeypatch.undo()
    assert (site.directory / "job.output").exists()
    await site.jobtracker(**state)
    client = await site.client()
    assert (await ended(client, "Job001"))["outcome"] == "killed"
    assert not (site.directory / "job.output").exists()
    await soon(until(lambda: not os.listdir(site.directory / "work-one" / "jobs")))


@pytest_twisted.ensureDeferred
async def test_what_a_job_kept_stays_although_its_tracker_heard_of_its_end_late(
    site, state, tmp_path, monkeypatch
):
    monkeypatch.setattr("pytxmr.joblife.JobLife._destroy_job", lambda life, order: Deferred())
    jobtracker, tracker, client = await started(site, state, WORDCOUNT, keep=True)
    await soon(until(lambda: jobtracker.book.lives["Job001"].state.outcome))
    await site.stop(jobtracker)
    monkeypatch.undo()
    await site.jobtracker(**state)
    await soon(until(lambda: not tracker._jobs))
    jobs = site.directory / "work-one" / "jobs" / "Job001"
    await soon(until(lambda: os.listdir(jobs) == ["spills"]))
    assert next(iter(tracker.store.describe())).startswith("Job001")
    client = await site.client()
    await ended(client, "Job001")
    await soon(client.call("destroy", "Job001"))
    assert not jobs.exists()


@pytest_twisted.ensureDeferred
async def test_what_a_job_kept_stays_although_its_tracker_hears_of_its_end_in_the_next_life(
    site, state
):
    jobtracker = await site.jobtracker(**state)
    await site.tasktracker()
    client = await site.client()
    for name in ("kept", "other"):
        spec = site.spec(name=name, keep=name == "kept")
        await ended(client, await soon(submit(client, spec)))
    await site.stop(jobtracker)
    jobtracker = await site.jobtracker(**state)
    assert jobtracker.book.over(["Job001", "Job002", "Job003"]) == {
        "Job001": True,
        "Job002": False,
        "Job003": False,
    }


@pytest_twisted.ensureDeferred
async def test_jobs_of_earlier_lives_are_listed_and_their_numbers_are_not_used_again(site, state):
    for number in (1, 2, 3):
        jobtracker = await site.jobtracker(**state)
        if number == 1:
            await site.tasktracker()
        client = await site.client()
        await joined(client, 1)
        owner = "0" * 32 if number == 1 else new_owner()
        job = await soon(submit(client, site.spec(name=f"job{number}"), owner))
        assert job == f"Job00{number}"
        assert (await ended(client, job))["outcome"] == "succeeded"
        assert [one["job"] for one in await soon(client.call("jobs"))] == [job]
        if number > 1:
            assert await soon(submit(client, site.spec(name="job0"), "0" * 32)) == "Job001"
        assert jobtracker._state.logs().keys() == {"one.1"}, "what has ended needs no log"
        await site.stop(jobtracker)
    await site.jobtracker(**state)
    client = await site.client()
    listed = await soon(client.call("jobs", True))
    assert [(one["job"], one["name"]) for one in listed] == [
        (f"Job00{number}", f"job{number}.py") for number in (1, 2, 3)
    ]
    assert (await soon(client.call("kill", "Job002", "why not")))["outcome"] == "succeeded"


@pytest_twisted.ensureDeferred
async def test_logs_and_spills_of_a_job_of_an_earlier_life_can_be_read_and_dropped(site, state):
    jobtracker = await site.jobtracker(**state)
    tracker = await site.tasktracker()
    client = await site.client()
    source = WORDCOUNT.replace("    for word", "    print('a line is here')\n    for word")
    await ended(client, await soon(submit(client, site.spec(source, keep=True))))
    await site.stop(jobtracker)
    await site.jobtracker(**state)
    client = await site.client()
    await soon(until(lambda: tracker.who["epoch"] == 2))
    (log,) = await soon(client.call("logs", "Job001", "Map001", False))
    assert log["text"] == "a line is here\n"
    with pytest.raises(NotFound, match="leave out --failed"):
        await soon(client.call("logs", "Job001", None, True))
    await soon(client.call("destroy", "Job001"))
    assert await soon(client.call("logs", "Job001", None, False)) == []
    assert os.listdir(site.directory / "work-one" / "jobs") == []


@pytest_twisted.ensureDeferred
async def test_a_submission_that_was_cut_off_is_no_job_and_leaves_no_output(site, state, logged):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    spec = site.spec()
    jobtracker._state.append = unwritable
    submitting = submit(client, spec).addErrback(lambda failure: failure.trap(Unreachable))
    await soon(until(lambda: "everything waits: {error}" in " ".join(logged.flush())))
    assert not submitting.called, "nobody is told of a job that may be forgotten"
    reserved, marked = (site.directory / name for name in ("reserved", "marked"))
    for path, owner in ((reserved, "me"), (marked, "myself"), (site.directory / "no", "I")):
        jobtracker._state.reserve(owner, str(path))
    reserved.mkdir()
    OutputDirectory(str(marked), "myself").reserve()
    await site.stop(jobtracker)
    assert not jobtracker.plan._log_again.active()
    again = await site.jobtracker(**state)
    client = await site.client()
    with pytest.raises(NotFound):
        await soon(client.call("status", "Job001"))
    for path in (reserved, marked, Path(spec.output)):
        assert not path.exists()
    assert (again._state.reserved(), again._state.remembered()) == ({}, [])


@pytest_twisted.ensureDeferred
async def test_what_comes_when_the_jobtracker_has_stopped_changes_nothing(site, state):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    await site.stop(jobtracker)
    jobtracker.plan.feed(ev.KillJob("Job001", "too late"))
    assert jobtracker.plan._log_again is None, "nothing is tried again for ever"
    jobtracker = await site.jobtracker(**state)
    assert jobtracker.book.status("Job001")["phase"] == "queued"


@pytest_twisted.ensureDeferred
async def test_time_goes_on_for_the_plan_although_the_machine_s_clock_has_begun_anew(site, state):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    await site.stop(jobtracker)
    store = StateStore(state["state_dir"])
    store.append([("Job001", ev.TrackerResumed("one.1"), 1e12)])
    store.close()
    jobtracker = await site.jobtracker(**state)
    assert 0.0 <= jobtracker.plan.now() - 1e12 < 60.0


@pytest_twisted.ensureDeferred
async def test_trackers_are_given_time_to_come_back_however_short_their_lease(site, state):
    store = StateStore(state["state_dir"])
    store.append([("one.1", ev.TrackerJoined("one.1", "one", 1, ("127.0.0.1", 1)), 1.0)])
    store.close()
    jobtracker = await site.jobtracker(**state, lease_seconds=1.0)
    left = jobtracker.cluster.trackers["one.1"].lease.expires_at - jobtracker.plan.now()
    assert 5.0 < left <= RETURN_SECONDS


@pytest_twisted.ensureDeferred
async def test_an_end_that_could_not_be_summed_up_is_by_the_next_life(site, state, logged):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    jobtracker._state.remember = unwritable
    assert (await soon(client.call("kill", "Job001", "enough")))["outcome"] == "killed"
    assert "Job001" in jobtracker._state.logs()
    await site.stop(jobtracker)
    logged.flush()
    jobtracker = await site.jobtracker(**state)
    assert jobtracker._state.logs() == {}
    assert jobtracker._state.remembered()[0]["status"]["outcome"] == "killed"


@pytest_twisted.ensureDeferred
async def test_a_job_whose_end_was_not_recorded_may_be_destroyed_all_the_same(site, state):
    jobtracker = await site.jobtracker(**state)
    await site.tasktracker()
    client = await site.client()
    job = await soon(submit(client, site.spec(keep=True)))
    jobtracker._state.remember = unwritable
    await ended(client, job)
    del jobtracker._state.remember
    await soon(client.call("destroy", job))
    assert job not in jobtracker._state.logs()
    await site.stop(jobtracker)
    await site.jobtracker(**state)
    client = await site.client()
    assert not (await soon(client.call("status", job)))["kept"]


# ---- a state that cannot be taken up


@pytest_twisted.ensureDeferred
async def test_jobs_of_a_version_that_kept_no_log_have_ended(site, state):
    store = StateStore(state["state_dir"])
    for number, succeeded in ((1, True), (2, False)):
        job, owner, path = f"Job00{number}", str(number) * 32, site.directory / f"out{number}"
        output = OutputDirectory(str(path), owner)
        output.reserve()
        if succeeded:
            output.commit([], {"job": job})
        status = {"job": job, "phase": "mapping", "outcome": "", "output": str(path), "error": None}
        store.remember(number, {"number": number, "owner": owner, "status": status})
    store.close()
    await site.jobtracker(**state)
    client = await site.client()
    whole, lost = [await soon(client.call("wait", job, 20.0)) for job in ("Job001", "Job002")]
    assert (whole["phase"], whole["outcome"]) == ("ended", "succeeded")
    assert (lost["phase"], lost["outcome"]) == ("ended", "failed")
    assert "was mapping; submit it again" in lost["error"]["message"]
    assert [(site.directory / name).exists() for name in ("out1", "out2")] == [True, False]


@pytest_twisted.ensureDeferred
async def test_a_log_that_makes_no_sense_is_refused_and_kept(site, state):
    jobtracker = await site.jobtracker(**state)
    client = await site.client()
    await soon(submit(client, site.spec()))
    await site.stop(jobtracker)
    attempt = AttemptId.parse("Map007.0")
    store = StateStore(state["state_dir"])
    store.append([("Job001", ev.Launched("Job001", "one.1", attempt), 2.0)])
    store.close()
    with pytest.raises(BadConfiguration, match="the log of Job001 makes no sense"):
        await site.jobtracker(**state)
    store = StateStore(state["state_dir"])
    assert len(store.logs()["Job001"]) == 2
    store.forget(1)
    store.close()
    with pytest.raises(BadConfiguration, match="a log of Job001, but nothing else"):
        await site.jobtracker(**state)
