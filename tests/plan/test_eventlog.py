"""What is written of an event is that event again."""

from __future__ import annotations

import pytest
from story import Story, broken, map_attempt, reduce_attempt

from pytxmr.errors import PytxmrError, SpillDamaged, to_plain
from pytxmr.plan import events as ev
from pytxmr.plan.eventlog import from_record, pack, snapshot_record, to_record

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
    ev.ReduceSucceeded(JOB, "one.1", reduce_attempt(7), 10, "sha", {}),
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
    assert from_record(to_record(event, 12.5), "1.0") == (event, 12.5)


@pytest.mark.parametrize("event", FAILURES, ids=lambda event: type(event).__name__)
def test_errors_keep_their_type_their_message_and_their_details(event):
    read, now = from_record(to_record(event, 0.0), "1.0")
    assert type(read.error) is type(event.error)
    assert to_plain(read.error) == to_plain(event.error)
    assert (type(read), read.job, now) == (type(event), JOB, 0.0)


def test_a_record_without_the_fields_that_came_later_is_read():
    assert from_record(pack([1.0, "JobSubmitted", JOB, 3, 1]), "1.0") == (
        ev.JobSubmitted(JOB, 3, 1),
        1.0,
    )


def test_what_is_no_event_is_refused():
    with pytest.raises(ValueError, match="'Tick' is no event"):
        from_record(pack([1.0, "Tick"]), "1.0")


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


def test_a_snapshot_is_read_as_it_was_written_and_only_by_its_own_version():
    story = Story(a=1)
    story.begin(3, 2)
    story.mapped("a", 0, words=2**70)
    record = snapshot_record(story.job, 2.5, "1.0")
    read, now = from_record(record, "1.0")
    assert (now, read.counters(), read.maps_done) == (2.5, {"words": 2**70}, 1)
    assert read.tasks.of(map_attempt(1)).running == {map_attempt(1): "a"}
    with pytest.raises(ValueError, match="of pytxmr 1.0, and this is 9.9"):
        from_record(record, "9.9")
