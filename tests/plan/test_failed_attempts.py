"""Attempts that fail are tried again, elsewhere or after a pause, and not for ever."""

from __future__ import annotations

import pytest
from story import (
    Story,
    broken,
    destroy,
    launch_map,
    launch_reduce,
    map_attempt,
    reduce_attempt,
    shuffle,
)

from pytxmr.errors import JobFailed
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import Outcome

M0, M1 = map_attempt(0), map_attempt(1)
R0 = reduce_attempt(0)


def test_a_failed_attempt_is_tried_again_elsewhere():
    story = Story(a=1, b=2)
    assert story.begin(maps=2) == [launch_map("a", 0), launch_map("b", 1)]
    assert story.ended_badly("a", M0) == [launch_map("b", 0, number=1)]


def test_a_failed_attempt_waits_for_a_tracker_that_is_busy_rather_than_use_the_same_again():
    story = Story(a=1, b=1)
    assert story.begin(maps=2) == [launch_map("a", 0), launch_map("b", 1)]
    assert story.ended_badly("a", M0) == []
    assert story.mapped("b", 1)[-1] == launch_map("b", 0, number=1)


def test_other_maps_pass_one_that_waits_for_another_tracker():
    story = Story(a=1, b=1)
    story.begin(maps=3)
    assert story.ended_badly("a", M0) == [launch_map("a", 2)]
    assert story.mapped("b", 1)[-1] == launch_map("b", 0, number=1)


def test_a_map_that_failed_everywhere_is_tried_anywhere():
    story = Story(a=1, b=1)
    story.begin(maps=1)
    assert story.failed("a", M0) == [launch_map("b", 0, number=1)]
    assert story.failed("b", map_attempt(0, 1)) == [launch_map("a", 0, number=2)]


def test_with_one_tracker_a_failed_attempt_is_tried_again_there():
    story = Story(a=1)
    story.begin(maps=1)
    assert story.failed("a", M0) == [launch_map("a", 0, number=1)]


def test_where_it_failed_a_task_is_tried_again_only_after_a_pause_which_grows():
    story = Story(a=1)
    story.begin(maps=1)
    pauses = []
    for number in range(3):
        began = story.now
        assert story.ended_badly("a", map_attempt(0, number)) == []
        while not story.tell(ev.Tick()):
            story.now += 0.01
        pauses.append(story.now - began)
    for pause, most in zip(pauses, (0.2, 0.4, 0.8), strict=True):
        assert most / 2 <= pause <= most + 0.02


def test_a_reduce_that_failed_on_the_only_tracker_rests_while_others_go_on():
    story = Story(a=1)
    story.begin(maps=0, reducers=2)
    assert story.ended_badly("a", R0) == [launch_reduce("a", 1)]
    assert story.reduced("a", 1) == []
    assert story.rest() == [launch_reduce("a", 0, number=1)]


def test_one_that_waits_for_another_tracker_goes_back_if_that_one_is_lost():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.ended_badly("a", M0)
    assert story.lose("b") == [launch_map("a", 1, number=1)]
    assert story.rest() == []
    assert story.mapped("a", 1, 1)[-1] == launch_map("a", 0, number=1)


@pytest.mark.parametrize("max_attempts", [1, 2, 4])
def test_a_task_that_fails_max_attempts_times_fails_the_job_with_the_details(max_attempts):
    story = Story(a=1)
    story.begin(maps=1, max_attempts=max_attempts)
    for number in range(max_attempts - 1):
        assert story.failed("a", map_attempt(0, number)) == [launch_map("a", 0, number + 1)]
    error = broken("ValueError: no int", traceback="Traceback", where="in.txt, byte 7", log="end")
    assert story.failed("a", map_attempt(0, max_attempts - 1), error) == [destroy("a")]
    assert story.job.outcome is Outcome.FAILED
    assert isinstance(story.job.error, JobFailed)
    times = "once" if max_attempts == 1 else f"{max_attempts} times"
    assert str(story.job.error) == f"Map001 failed {times}: ValueError: no int"
    assert story.job.error.details == {
        "traceback": "Traceback",
        "where": "in.txt, byte 7",
        "log": "end",
        "task": "Map001",
        "attempt": f"Map001.{max_attempts - 1}",
    }


def test_a_final_error_ends_the_job_at_once():
    story = Story(a=2)
    story.begin(maps=2)
    assert story.ended_badly("a", M1, broken("bad record", final=True)) == [destroy("a")]
    assert str(story.job.error) == "Map002 failed once: bad record"
    assert story.mapped("a", 0) == []


def test_details_may_have_any_names():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=1)
    error = broken()
    error.details = {"message": "mine", "self": 1, 3: None}
    assert story.ended_badly("a", M0, error) == [destroy("a")]
    assert story.job.error.details["message"] == "mine"
    assert story.job.error.message == "Map001 failed once: no luck"


def test_a_reduce_that_failed_moves_and_its_segments_are_fetched_by_the_new_home():
    story = Story(a=1, b=1)
    story.begin(maps=1)
    story.mapped("a", 0)
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0,))]
    assert story.ended_badly("a", R0) == [shuffle("b", ("a", M0, (0,)))]
    assert story.fetched("b", M0, 0) == [launch_reduce("b", 0, number=1, maps=(M0,))]


def test_a_reduce_that_failed_on_the_only_tracker_is_tried_there_with_what_it_has():
    story = Story(a=1)
    story.begin(maps=1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    assert story.failed("a", R0) == [launch_reduce("a", 0, number=1, maps=(M0,))]


def test_a_reduce_that_moves_back_is_told_of_its_segments_again():
    story = Story(a=1, b=1)
    story.begin(maps=1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.ended_badly("a", R0)
    story.fetched("b", M0, 0)
    assert story.ended_badly("b", reduce_attempt(0, 1)) == [shuffle("a", ("a", M0, (0,)))]
    assert story.fetched("a", M0, 0) == []
    assert story.rest() == [launch_reduce("a", 0, number=2, maps=(M0,))]


def test_a_reduce_that_moves_makes_maps_run_again_whose_output_is_gone():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.mapped("b", 1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("a", M1, 0)
    assert story.lose("b") == []
    story.join("c")
    story.ready("c")
    orders = story.ended_badly("a", R0)
    assert orders[0] == shuffle("c", ("a", M0, (0,)))
    assert [order.attempt for order in orders[1:]] == [map_attempt(1, 1)]


def test_a_reduce_that_fails_max_attempts_times_fails_the_job():
    story = Story(a=1)
    story.begin(maps=0, max_attempts=2)
    assert story.failed("a", R0) == [launch_reduce("a", 0, number=1)]
    assert story.failed("a", reduce_attempt(0, 1)) == [destroy("a")]
    assert story.job.error.details["task"] == "Reduce000"
