"""What is written of an event is that event again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from story import Story, broken, map_attempt, reduce_attempt

import pytxmr
from pytxmr.errors import PytxmrError, SpillDamaged, to_plain
from pytxmr.model import JobSpec
from pytxmr.plan import eventlog, snapshot
from pytxmr.plan import events as ev
from pytxmr.plan.eventlog import from_record, pack, snapshot_record, stored_format, to_record
from pytxmr.plan.jobstate import JobState
from pytxmr.plan.tasks import Task

JOB = "Job001"
EVENTS = [
    ev.TrackerJoined("one.1", "one", 2, ("127.0.0.1", 8993)),
    ev.TrackerResumed("one.1"),
    ev.TrackerLost("one.1", "its lease expired"),
    ev.JobSubmitted(JOB, 3, None, skip_bad_records=5),
    ev.JobStarted(JOB, 4),
    ev.Launched(JOB, "one.1", map_attempt(2, 1)),
    ev.BackupHome(JOB, "one.1", 3),
    ev.JobInitialised(JOB, "one.1"),
    ev.MapSucceeded(JOB, "one.1", map_attempt(0), (1, 2**40), {"caf\udce9": 2**70, "b": -1}),
    ev.ReduceSucceeded(JOB, "one.1", reduce_attempt(7), 10, "sha", {}, (("late", 3, "sha"),)),
    ev.SegmentsFetched(JOB, "one.1", map_attempt(1), (0, 2)),
    ev.JobCommitted(JOB),
    ev.KillJob(JOB, "enough"),
    ev.JobDestroyed(JOB),
]
FAILURES = [
    ev.InitFailed(JOB, "one.1", PytxmrError("disk full")),
    ev.AttemptEndedBadly(JOB, "one.1", map_attempt(1), broken("no luck", final=True)),
    ev.FetchFailed(JOB, "one.1", map_attempt(1), SpillDamaged("bad block", map_index=2)),
    ev.CommitFailed(JOB, PytxmrError("caf\udce9", path=b"\xff")),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event):
    assert from_record(to_record(event, 12.5)) == (event, 12.5)


@pytest.mark.parametrize("event", FAILURES, ids=lambda event: type(event).__name__)
def test_errors_keep_their_type_their_message_and_their_details(event):
    read, now = from_record(to_record(event, 0.0))
    assert type(read.error) is type(event.error)
    assert to_plain(read.error) == to_plain(event.error)
    assert (type(read), read.job, now) == (type(event), JOB, 0.0)


def test_a_record_without_the_fields_that_came_later_is_read():
    assert from_record(pack([1.0, "JobSubmitted", JOB, 3, 1])) == (
        ev.JobSubmitted(JOB, 3, 1),
        1.0,
    )


def test_what_is_no_event_is_refused():
    with pytest.raises(ValueError, match="'Tick' is no event"):
        from_record(pack([1.0, "Tick"]))


def test_there_is_a_way_to_write_every_event_that_changes_a_job_or_is_kept_of_a_tracker():
    told = {type(event).__name__ for event in (*EVENTS, *FAILURES)}
    passing = {"Tick", "Heartbeat", "TrackerDisconnected"}
    orders = {"InitJob", "LaunchMap", "Shuffle", "LaunchReduce", "KillAttempt", "CommitJob"}
    known = {
        name
        for name, kind in vars(ev).items()
        if isinstance(kind, type) and kind.__module__ == ev.__name__
    }
    assert known - passing - orders - {"DestroyJob"} == told


def test_a_snapshot_is_read_as_it_was_written():
    story = Story(a=1)
    story.begin(3, 2)
    story.mapped("a", 0, words=2**70)
    story.job.tasks.of(map_attempt(0)).outputs = (("late", 3, "sha"),)
    read, now = from_record(snapshot_record(story.job, 2.5))
    assert (now, read.counters(), read.maps_done) == (2.5, {"words": 2**70}, 1)
    assert read.tasks.of(map_attempt(1)).running == {map_attempt(1): "a"}
    assert read.tasks.of(map_attempt(0)).outputs == (("late", 3, "sha"),)


@dataclass(frozen=True)
class Larger(JobSpec):
    more: int = 0


@dataclass(slots=True)
class LargerTask(Task):
    more: int = 0


def with_more(monkeypatch, what):
    """Let something that is stored have an attribute more."""
    match what:
        case "job":
            monkeypatch.setattr(JobState, "__init__", begun(JobState.__init__))
        case "event":
            fields = [*ev.JobCommitted.__dataclass_fields__, "more"]
            monkeypatch.setattr(ev.JobCommitted, "__dataclass_fields__", fields)
        case "task":
            monkeypatch.setattr(eventlog, "MADE_OF", (*snapshot.MADE_OF, LargerTask))
        case "spec":
            monkeypatch.setattr(eventlog, "JobSpec", Larger)
        case "meaning":
            monkeypatch.setattr(eventlog, "REVISION", eventlog.REVISION + 1)


def begun(init):
    def more(self, *args):
        init(self, *args)
        self.more = 0

    return more


@pytest.mark.parametrize("what", ["job", "event", "task", "spec", "meaning"])
def test_with_another_attribute_what_is_stored_has_another_format(monkeypatch, what):
    before = stored_format()
    assert 0 < before < 1 << 31
    with_more(monkeypatch, what)
    assert stored_format() != before


def test_in_another_process_the_format_is_the_same():
    program = "from pytxmr.plan.eventlog import stored_format; print(stored_format())"
    where = str(Path(pytxmr.__file__).parent.parent)
    env = os.environ | {"PYTHONPATH": where, "PYTHONHASHSEED": "5"}
    told = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert told.stdout == f"{stored_format()}\n"
