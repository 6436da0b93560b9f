"""Jobs without reduces: each map writes a part of the output."""

from __future__ import annotations

import pytest
from story import JOB, Story, broken, commit, destroy, init, kill_attempt, launch_map, map_attempt

from pytxmr.errors import WorkerDied
from pytxmr.model import BAD_RECORDS
from pytxmr.plan import events as ev
from pytxmr.plan.eventlog import from_record, snapshot_record, to_record
from pytxmr.plan.jobstate import JobState, Phase


class MapOnly(Story):
    """Trackers are of one worker unless said otherwise."""

    def begin(self, maps: int, reducers: int = 0, **more):
        return super().begin(maps, reducers, **more)

    def wrote(self, tracker: str, index: int, number: int = 0, bad: int = 0, **counters: int):
        attempt = map_attempt(index, number)
        counters |= {BAD_RECORDS: bad} if bad else {}
        return self.tell(ev.MapSucceeded(JOB, tracker, attempt, (), counters, {}, "sha", 10))


def direct(tracker: str, index: int, number: int = 0) -> ev.LaunchMap:
    return launch_map(tracker, index, number, partitions=0)


def test_maps_are_launched_for_no_partitions_and_what_they_wrote_is_committed_in_order():
    story = MapOnly(a=2)
    assert story.begin(maps=3) == [direct("a", 0), direct("a", 1)]
    assert story.wrote("a", 1, seen=1) == [direct("a", 2)]
    assert story.wrote("a", 2, seen=1) == []
    winners = [map_attempt(index) for index in range(3)]
    assert story.wrote("a", 0, seen=1) == [commit(*winners, seen=3)]
    assert story.job.phase is Phase.COMMITTING
    assert set(story.job.phase_seconds) == {"queued", "mapping"}
    assert story.committed() == [destroy("a")]


def test_a_job_without_any_input_commits_at_once():
    story = MapOnly(a=1)
    assert story.submit(maps=0, reducers=0) == [commit()]
    assert story.committed() == [destroy("a")]
    story.destroyed()
    assert story.job.phase is Phase.ENDED


def test_as_many_reduces_as_workers_are_still_what_a_job_gets_that_does_not_say():
    story = Story(a=2)
    story.submit(maps=0, reducers=None)
    assert story.job.partitions == 2


def test_a_map_that_is_done_never_runs_again_though_its_tracker_is_lost():
    story = MapOnly(a=1, b=1)
    story.begin(maps=3)
    assert story.wrote("a", 0) == [direct("a", 2)]
    # What ran there does, elsewhere.
    assert story.lose("a") == []
    assert story.wrote("b", 1) == [direct("b", 2, 1)]
    winners = [map_attempt(0), map_attempt(1), map_attempt(2, 1)]
    assert story.wrote("b", 2, 1) == [commit(*winners)]


def test_a_tracker_that_is_lost_while_the_output_is_committed_changes_nothing():
    story = MapOnly(a=1, b=1)
    story.begin(maps=1)
    assert story.wrote("a", 0) == [commit(map_attempt(0))]
    assert story.lose("a") == []
    assert story.committed() == [destroy("b")]


def test_a_report_that_comes_twice_counts_once():
    story = MapOnly(a=2)
    story.begin(maps=2)
    story.wrote("a", 0, seen=1)
    assert story.wrote("a", 0, seen=1) == []
    assert story.wrote("a", 1, seen=1) == [commit(map_attempt(0), map_attempt(1), seen=2)]


def test_a_report_of_a_tracker_that_was_lost_does_not_count():
    story = MapOnly(a=1, b=1)
    story.begin(maps=1)
    assert story.lose("a") == [direct("b", 0, 1)]
    assert story.wrote("a", 0) == []
    assert story.wrote("b", 0, 1) == [commit(map_attempt(0, 1))]


def test_a_map_that_fails_is_tried_again_and_fails_the_job_in_the_end():
    story = MapOnly(a=1)
    story.begin(maps=1, max_attempts=2)
    assert story.failed("a", map_attempt(0)) == [direct("a", 0, 1)]
    assert story.ended_badly("a", map_attempt(0, 1), broken("no luck")) == [destroy("a")]
    assert story.job.error.message == "Map001 failed 2 times: no luck"


def test_a_slow_map_gets_a_backup_and_one_of_both_attempts_counts():
    story = MapOnly(a=1, b=1)
    story.begin(maps=2)
    story.now = 10.0
    story.wrote("b", 1)
    assert story.beat(100.0, a=(map_attempt(0), 0.1)) == [direct("b", 0, 1)]
    winners = commit(map_attempt(0, 1), map_attempt(1))
    assert story.wrote("b", 0, 1) == [kill_attempt("a", map_attempt(0)), winners]
    assert story.wrote("a", 0) == []


def test_records_that_maps_set_aside_are_committed_with_what_they_wrote():
    story = MapOnly(a=2)
    story.begin(maps=2, skip_bad_records=3)
    story.wrote("a", 0)
    (order,) = story.wrote("a", 1, bad=3)
    assert order.winners == ((map_attempt(0), 10, "sha"), (map_attempt(1), 10, "sha"))
    assert order.bad == (map_attempt(1),)


@pytest.mark.parametrize("last", [False, True])
def test_more_bad_records_than_may_be_skipped_fail_the_job(last):
    story = MapOnly(a=2)
    story.begin(maps=2, skip_bad_records=2)
    if last:
        story.wrote("a", 0)
    assert story.wrote("a", 1, bad=3) == [destroy("a")]
    assert "3 bad records are more than the 2" in story.job.error.message


def test_a_record_that_kills_is_skipped_from_then_on():
    story = MapOnly(a=1)
    story.begin(maps=1, skip_bad_records=2)
    story.failed("a", map_attempt(0), WorkerDied("killed"))
    story.failed("a", map_attempt(0, 1), WorkerDied("killed", record_number=3))
    (order,) = story.failed("a", map_attempt(0, 2), WorkerDied("killed"))
    assert (order.partitions, order.careful, order.skip) == (0, True, ((3, "killed"),))


def test_a_tracker_that_joins_late_gets_maps_and_one_that_resumes_its_orders():
    story = MapOnly(a=1)
    story.begin(maps=3)
    assert story.join("b") == [init("b")]
    assert story.ready("b") == [direct("b", 1)]
    assert story.tell(ev.TrackerResumed("a")) == [direct("a", 0)]
    story.wrote("a", 0)
    assert story.join("c") == [init("c")]


def test_a_job_goes_on_after_a_restart_at_each_of_its_events():
    story = MapOnly(a=1, b=1)
    story.begin(maps=3)
    story.wrote("a", 0, seen=1)
    story.lose("a")
    story.wrote("b", 1, seen=1)
    (last,) = story.wrote("b", 2, 1, seen=1)
    history = [event for name, event in story.cluster.take_history() if name == JOB]
    for at in range(1, len(history) + 1):
        logged = [from_record(to_record(event, 0.0))[0] for event in history]
        job = JobState(logged[0], 0.0)
        for event in logged[1:at]:
            job.handle(event, 0.0)
        job = from_record(snapshot_record(job, 0.0))[0]
        for event in logged[at:]:
            job.handle(event, 0.0)
        assert job.phase is Phase.COMMITTING
        assert job.own_orders() == [last]
