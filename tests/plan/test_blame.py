"""Trackers on which things fail are left alone for a time."""

from __future__ import annotations

import pytest
from story import Story, broken, launch_map, map_attempt, shuffle

from pytxmr.plan import events as ev
from pytxmr.plan.blame import AVOID_SECONDS, JOBS_TO_BLAME, TASKS_TO_BLAME, Blame

M1 = map_attempt(1)

# ---- the count


def blamed() -> Blame:
    """A count of two, in which a is avoided from second 0 on."""
    blame = Blame(2)
    blame.failed("a", "one", 0.0)
    blame.failed("a", "two", 0.0)
    return blame


def test_a_tracker_is_avoided_once_so_many_different_things_failed_there():
    blame = Blame(2)
    assert not blame.failed("a", "one", 0.0)
    assert not blame.failed("a", "one", 0.0)
    assert not blame.failed("b", "two", 0.0)
    assert blame.avoided(0.0) == set()
    assert blame.failed("a", "two", 0.0)
    assert blame.avoided(0.0) == {"a"}


def test_it_comes_back_by_time_and_each_time_later_up_to_the_longest():
    blame, now = Blame(1), 0.0
    for seconds in (60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
        assert blame.failed("a", "one", now)
        assert not blame.failed("a", "another", now + 1.0)
        assert blame.avoided(now + seconds - 0.1) == {"a"}
        now += seconds
        assert blame.avoided(now) == set()


def test_a_success_after_its_time_is_over_lets_bygones_be_bygones():
    blame = blamed()
    blame.succeeded("a", 30.0)
    assert blame.avoided(30.0) == {"a"}
    blame.succeeded("a", 60.0)
    for what in ("one", "two"):
        blame.failed("a", what, 100.0)
    assert blame.avoided(159.0) == {"a"}
    assert blame.avoided(160.0) == set()


def test_a_success_makes_up_for_one_failure():
    blame = Blame(2)
    for number in range(100):
        assert not blame.failed("a", number, 0.0)
        blame.succeeded("a", 0.0)
    assert blame.avoided(0.0) == set()


def test_what_is_left_is_never_nothing():
    blame = blamed()
    assert blame.best({"a": 1, "b": 2}, 0.0) == {"b": 2}
    assert blame.best({"a": 1}, 0.0) == {"a": 1}
    blame.forget("a")
    assert blame.best({"a": 1, "b": 2}, 0.0) == {"a": 1, "b": 2}


# ---- a job


def failing(maps: int = 8, **workers: int) -> Story:
    """A job three of whose maps have failed on a."""
    story = Story(**workers)
    story.begin(maps=maps, reducers=2)
    for _ in range(TASKS_TO_BLAME):
        attempt = next(
            attempt
            for task in story.job.maps
            for attempt, where in task.running.items()
            if where == "a"
        )
        story.ended_badly("a", attempt)
    return story


def test_a_tracker_on_which_three_tasks_of_a_job_failed_is_given_no_more_of_its_maps():
    story = failing(a=1, b=1)
    assert story.job.running_on == {"a": 0, "b": 1}
    assert story.rest() == []
    running = next(a for task in story.job.maps for a in task.running)
    orders = story.mapped("b", running.task.index, running.number)
    assert [order.tracker for order in orders if isinstance(order, ev.LaunchMap)] == ["b"]


def test_it_is_tried_again_when_its_time_is_over():
    story = failing(a=1, b=1)
    for now in range(8, int(AVOID_SECONDS[0]), 8):
        assert story.beat(float(now)) == []
    (order,) = story.beat(AVOID_SECONDS[0])
    assert order.tracker == "a"


def test_if_tasks_fail_on_every_tracker_all_are_used():
    story = failing(maps=4, a=1)
    assert story.job.blame.avoided(story.now) == {"a"}
    assert story.job.running_on == {"a": 1}


def test_one_task_that_fails_again_and_again_is_blamed_on_nobody():
    story = Story(a=1, b=1)
    story.begin(maps=1, max_attempts=9)
    for number in range(6):
        where = next(iter(story.job.maps[0].running.values()))
        story.failed(where, map_attempt(0, number))
    assert story.job.blame.avoided(story.now) == set()


def test_partitions_that_wait_at_a_tracker_to_avoid_go_elsewhere():
    story = Story(a=1, b=1)
    story.begin(maps=8, reducers=2)
    assert shuffle("a", ("b", M1, (0,))) in story.mapped("b", 1)
    for index in (0, 3):
        orders = story.ended_badly("a", map_attempt(index))
        assert not any(isinstance(order, ev.Shuffle) for order in orders)
    assert shuffle("b", ("b", M1, (0,))) in story.ended_badly("a", map_attempt(4))


def test_partitions_stay_if_maps_would_have_to_run_again():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=8, reducers=2)
    story.mapped("c", 2)
    story.fetched("a", map_attempt(2), 0)
    story.fetched("b", map_attempt(2), 1)
    story.lose("c")
    for task in story.job.maps[:6]:
        attempt = next((a for a, where in task.running.items() if where == "a"), None)
        if attempt is not None:
            story.ended_badly("a", attempt)
    assert story.job.blame.avoided(story.now) == {"a"}
    assert story.job._shuffle.home == ["a", "b"]


def test_the_first_output_finds_no_home_at_a_tracker_to_avoid():
    story = failing(a=1, b=1)
    attempt = next(attempt for task in story.job.maps for attempt in task.running)
    assert story.mapped("b", attempt.task.index)[0] == shuffle("b", ("b", attempt, (0, 1)))


def test_outputs_that_cannot_be_had_are_blamed_on_the_tracker_that_has_them():
    story = Story(a=1, b=1)
    story.begin(maps=8, reducers=2)
    for index in (0, 2, 3):
        story.mapped("a", index)
    for index in (0, 2, 3):
        assert story.job.blame.avoided(story.now) == set()
        story.finds_gone("b", map_attempt(index))
    assert story.job.blame.avoided(story.now) == {"a"}


# ---- the cluster


def failing_job(story: Story, name: str) -> None:
    for index in range(TASKS_TO_BLAME):
        error = ev.AttemptEndedBadly(name, "a", map_attempt(index), broken())
        story.tell(error)


def shunned() -> Story:
    """Two jobs have failed on a."""
    story = Story(a=3 * JOBS_TO_BLAME, b=1)
    for number in range(JOBS_TO_BLAME):
        story.begin(maps=3, job=f"Job00{number + 1}")
        assert story.cluster.blame.avoided(story.now) == set()
        failing_job(story, f"Job00{number + 1}")
    assert story.cluster.blame.avoided(story.now) == {"a"}
    return story


def test_a_job_does_not_begin_at_a_tracker_to_avoid_while_others_prepare_for_it():
    story = shunned()
    story.submit(maps=3, job="Job003")
    assert story.ready("a", job="Job003") == []
    assert launch_map("a", 0, job="Job003") in story.lose("b")


def test_a_tracker_that_several_jobs_avoid_gets_no_map_of_any_other():
    story = shunned()
    assert story.begin(maps=3, job="Job003") == []
    story.now = AVOID_SECONDS[0]
    for tracker in "ab":
        story.tell(ev.Heartbeat(tracker))
    orders = story.tell(ev.Tick())
    assert launch_map("a", 0, job="Job003") in orders


def test_one_that_is_the_last_left_is_used_nevertheless():
    story = shunned()
    story.begin(maps=1, job="Job003")
    orders = story.lose("b")
    assert launch_map("a", 0, job="Job003") in orders


@pytest.mark.parametrize("lost", ["a", "b"])
def test_what_is_blamed_on_a_tracker_goes_with_it(lost):
    story = shunned()
    story.lose(lost)
    story.join("a.2")
    assert story.cluster.blame.avoided(story.now) == set()
