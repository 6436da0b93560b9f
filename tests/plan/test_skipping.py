"""A job may set aside so many records, and a record that kills its worker is found."""

from __future__ import annotations

from story import Story, commit, destroy, launch_map, map_attempt, reduce_attempt

from pytxmr.errors import AttemptFailed, WorkerDied
from pytxmr.plan import events as ev

KILLED = "the worker process was killed by signal 11 (SIGSEGV)"
FIRST = {"where": "in.txt, offset 4", "message": "the mapper raised E", "traceback": "T"}


def died(number=None):
    details = {} if number is None else {"record_number": number, "where": "in.txt, offset 4"}
    return WorkerDied(KILLED, **details)


def careful(number, *skip):
    return ev.LaunchMap("Job001", "a", map_attempt(0, number), 1, True, skip)


def probe(number, window, *skip):
    return ev.LaunchMap("Job001", "a", map_attempt(0, number), 1, True, skip, window)


def mapped(story, index, bad=0):
    counters = {"bad records": bad} if bad else {}
    attempt = map_attempt(index)
    return story.tell(ev.MapSucceeded("Job001", "a", attempt, (1,), counters, FIRST if bad else {}))


def test_after_a_worker_has_died_the_map_is_careful():
    story = Story(a=1)
    story.begin(maps=1)
    assert story.failed("a", map_attempt(0), died()) == [careful(1)]


def test_after_an_error_of_the_mapper_it_is_not():
    story = Story(a=1)
    story.begin(maps=1, skip_bad_records=1)
    orders = story.failed("a", map_attempt(0), AttemptFailed("E", record_number=3))
    assert orders == [launch_map("a", 0, 1)]


def test_a_record_that_kills_is_tried_alone_and_skipped_from_then_on():
    story = Story(a=1)
    story.begin(maps=1, skip_bad_records=2)
    story.failed("a", map_attempt(0), died())
    assert story.failed("a", map_attempt(0, 1), died(3)) == [probe(2, (2, 3))]
    assert story.failed("a", map_attempt(0, 2), died(3)) == [careful(3, (3, KILLED))]
    assert story.failed("a", map_attempt(0, 3), died(7)) == [probe(4, (6, 7), (3, KILLED))]
    assert story.failed("a", map_attempt(0, 4), died(7)) == [careful(5, (3, KILLED), (7, KILLED))]


def test_one_that_alone_does_not_is_not_skipped():
    story = Story(a=1)
    story.begin(maps=1, skip_bad_records=2)
    story.failed("a", map_attempt(0), died())
    story.failed("a", map_attempt(0, 1), died(3))
    survived = AttemptFailed("outlived", survived=True, records=9)
    assert story.failed("a", map_attempt(0, 2), survived) == [careful(3)]
    assert story.job.maps[0].failures == story.job.failures == 2, "the note explains nothing"


def test_without_the_option_none_is_skipped_and_the_job_fails_naming_it():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=2)
    story.failed("a", map_attempt(0), died())
    assert story.failed("a", map_attempt(0, 1), died(3)) == [probe(2, (2, 3))]
    assert story.failed("a", map_attempt(0, 2), died(3)) == [destroy("a")]
    assert story.job.error.details["where"] == "in.txt, offset 4"


def test_an_attempt_that_finds_a_deadly_record_does_not_count_as_a_failure_of_its_task():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=2, skip_bad_records=3)
    story.failed("a", map_attempt(0), died())
    for number in (1, 2, 3):
        story.failed("a", map_attempt(0, 2 * number - 1), died(number))
        (order,) = story.failed("a", map_attempt(0, 2 * number), died(number))
        assert len(order.skip) == number
    assert story.job.maps[0].failures == 1
    story.failed("a", map_attempt(0, 7), died(4))
    assert story.failed("a", map_attempt(0, 8), died(4)) == [destroy("a")]


def test_a_record_that_is_skipped_is_not_suspected_again():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=2, skip_bad_records=3)
    story.failed("a", map_attempt(0), died(1))
    story.failed("a", map_attempt(0, 1), died(1))
    assert story.failed("a", map_attempt(0, 2), died(1)) == [careful(3, (1, KILLED))]


def test_as_many_bad_records_as_may_be_skipped_are_committed():
    story = Story(a=1)
    story.begin(maps=3, skip_bad_records=3)
    mapped(story, 0, bad=1)
    mapped(story, 1)
    mapped(story, 2, bad=2)
    story.fetched("a", map_attempt(0), 0)
    story.fetched("a", map_attempt(1), 0)
    story.fetched("a", map_attempt(2), 0)
    (order,) = story.reduced("a", 0)
    assert order == ev.CommitJob(
        "Job001",
        commit(reduce_attempt(0)).winners,
        {"bad records": 3},
        (map_attempt(0), map_attempt(2)),
    )


def test_more_in_all_maps_together_fail_the_job_naming_count_and_first():
    story = Story(a=1)
    story.begin(maps=2, skip_bad_records=3)
    mapped(story, 0, bad=2)
    assert mapped(story, 1, bad=2) == [destroy("a")]
    assert story.job.error.message == (
        "the maps: 4 bad records are more than the 3 that may be skipped; the first: the mapper "
        "raised E"
    )
    assert story.job.error.details["where"] == "in.txt, offset 4"
    assert story.job.error.details["task"] == "Map001"


def test_a_map_that_runs_again_counts_its_bad_records_once():
    story = Story(a=1, b=1)
    story.begin(maps=1, skip_bad_records=1)
    mapped(story, 0, bad=1)
    story.lose("a")
    story.tell(ev.MapSucceeded("Job001", "b", map_attempt(0, 1), (1,), {"bad records": 1}, FIRST))
    story.fetched("b", map_attempt(0, 1), 0)
    (order,) = story.reduced("b", 0)
    assert order.counters == {"bad records": 1}
    assert order.bad == (map_attempt(0, 1),)
