"""A jobtracker that is started again goes on where it was; what it cannot log it does not do.

To stop a jobtracker with a state directory does no more about its jobs than to kill it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sites import WORDCOUNT, ended, joined
from twisted.internet.defer import Deferred
from wires import soon, turns, until

from pytxmr.client import new_owner, submit
from pytxmr.errors import BadConfiguration, NotFound, PytxmrError, Unreachable
from pytxmr.model import AttemptId
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import JobState, Phase
from pytxmr.roster import RETURN_SECONDS
from pytxmr.state import StateStore
from pytxmr.storage.output import OutputDirectory


def gated(directory: Path, where: str = "mapper") -> str:
    """Counts words; each attempt notes that it runs, and waits at the gate if it has the word."""
    os.mkfifo(directory / "gate")
    gate = f"""
def passing(kind, word):
    with open({str(directory / "ran")!r}, "a") as file:
        file.write(f"{{kind}} {{word}}\\n")
    if (kind, word) == ({where!r}, "gate"):
        open({str(directory / "gate")!r}).read()
"""
    return f"""{gate}
def mapper(key, value):
    for word in value.split():
        passing("mapper", word)
        yield word, 1

def reducer(key, values):
    passing("reducer", key)
    yield key, sum(values)
"""


def ran(directory: Path) -> list[str]:
    return sorted((directory / "ran").read_text().splitlines())


def open_gate(directory: Path) -> None:
    (directory / "gate").open("w").close()


@pytest.fixture
def state(site) -> dict[str, str]:
    return {"state_dir": str(site.directory / "state")}


async def started(site, state, source: str, **more: Any) -> tuple[Any, Any, Any]:
    """A cluster with a job that runs: the jobtracker, the tracker, the client."""
    jobtracker = await site.jobtracker(**state)
    tracker = await site.tasktracker(workers=1)
    client = await site.client()
    await joined(client, 1)
    spec = site.spec(source, text="a\ngate\nb\n", **{"split_bytes": 2} | more)
    assert await soon(submit(client, spec)) == "Job001"
    return jobtracker, tracker, client


@pytest_twisted.ensureDeferred
async def test_a_job_goes_on_and_its_finished_maps_are_used_again(site, state, tmp_path):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await soon(until(lambda: "mapper gate" in ran(tmp_path) if (tmp_path / "ran").exists() else 0))
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
    await soon(until(lambda: (tmp_path / "ran").exists() and "mapper gate" in ran(tmp_path)))
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
    await soon(until(lambda: (tmp_path / "ran").exists() and "reducer gate" in ran(tmp_path)))
    await site.stop(jobtracker)
    jobtracker = await site.jobtracker(**state)
    open_gate(tmp_path)
    client = await site.client()
    assert (await ended(client, "Job001"))["outcome"] == "succeeded"
    assert len(ran(tmp_path)) == 6, "each once"


@pytest_twisted.ensureDeferred
async def test_what_ran_on_a_tracker_that_is_gone_as_well_runs_on_another(site, state, tmp_path):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await soon(until(lambda: (tmp_path / "ran").exists() and "mapper gate" in ran(tmp_path)))
    await site.stop(jobtracker)
    await site.stop(tracker)
    (tmp_path / "ran").unlink()
    jobtracker = await site.jobtracker(**state)
    assert list(jobtracker.cluster.trackers) == ["one.1"], "believed to be alive for a while"
    await site.tasktracker()
    await soon(until(lambda: (tmp_path / "ran").exists() and "mapper gate" in ran(tmp_path)))
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
    await soon(until(lambda: (tmp_path / "ran").exists() and "mapper gate" in ran(tmp_path)))
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


# ---- a log that cannot be written


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_logged_is_neither_acknowledged_nor_acted_upon_until_it_can(
    site, state, tmp_path, logged
):
    jobtracker, tracker, client = await started(site, state, gated(tmp_path))
    await soon(until(lambda: (tmp_path / "ran").exists() and "mapper gate" in ran(tmp_path)))
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


def unwritable(*args: Any, **more: Any) -> None:
    raise PytxmrError("the jobtracker cannot write its state: no space left")
