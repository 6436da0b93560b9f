"""Outputs that cannot be fetched, or are damaged, are made anew, and their maps are to blame."""

from __future__ import annotations

import pytest
from story import (
    Story,
    commit,
    destroy,
    launch_map,
    launch_reduce,
    map_attempt,
    reduce_attempt,
    shuffle,
)

from pytxmr.errors import SpillDamaged
from pytxmr.plan.jobstate import Phase

M0, M1 = map_attempt(0), map_attempt(1)
R0 = reduce_attempt(0)


def test_a_fetch_that_fails_is_tried_again_and_the_map_runs_again_once_three_trackers_failed():
    story = Story(a=1, b=1, c=1, d=1)
    story.begin(maps=1, reducers=4)
    story.mapped("a", 0)
    for partition, tracker in ((1, "b"), (2, "c")):
        assert story.cannot_fetch(tracker, M0) == [shuffle(tracker, ("a", M0, (partition,)))]
    assert story.job.phase is Phase.REDUCING
    assert story.cannot_fetch("d", M0) == [launch_map("b", 0, number=1, partitions=4)]
    assert story.job.failures == 0


def test_of_two_trackers_that_lack_an_output_both_must_fail_to_get_it():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    assert story.cannot_fetch("b", M0) == [shuffle("b", ("a", M0, (1,)))]
    assert story.cannot_fetch("a", M0) == [launch_map("b", 0, number=1, partitions=2)]


def test_a_tracker_that_alone_cannot_get_an_output_has_three_rounds():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    for rounds in (1, 2):
        assert story.cannot_fetch("b", M0, rounds) == [shuffle("b", ("a", M0, (1,)))]
    assert story.cannot_fetch("b", M0, 3) == [launch_map("b", 0, number=1, partitions=2)]


def test_a_round_that_is_reported_again_and_again_counts_once():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    for _ in range(5):
        assert story.cannot_fetch("b", M0, 1) == [shuffle("b", ("a", M0, (1,)))]


def test_what_was_counted_against_one_run_of_a_map_does_not_count_against_the_next():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.cannot_fetch("a", M0)
    story.cannot_fetch("b", M0)
    again = map_attempt(0, 1)
    story.mapped("b", 0, 1)
    assert story.cannot_fetch("a", again) == [shuffle("a", ("b", again, (0,)))]


def test_what_a_tracker_has_no_room_to_fetch_is_fetched_and_reduced_by_another():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=2)
    story.mapped("a", 0)
    story.mapped("b", 1)
    m1 = map_attempt(1)
    # Partition 1 goes to the other tracker, whole; that no map is at fault is clear.
    assert story.has_no_room("b", M0) == [shuffle("a", ("a", M0, (1,)), ("b", m1, (1,)))]
    assert story.has_no_room("b", m1) == [], "it is not asked for there any more"
    assert (story.job.maps_done, story.job.failures) == (2, 1)


def test_a_tracker_that_alone_has_no_room_is_asked_again_until_the_reduce_has_failed():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1)
    story.mapped("a", 0)
    story.mapped("b", 1)
    story.lose("b")
    story.mapped("a", 1, 1)
    m1 = map_attempt(1, 1)
    for rounds in (1, 2, 3):
        assert story.has_no_room("a", M0, rounds) == [shuffle("a", ("a", M0, (0,)))]
        assert story.has_no_room("a", m1, rounds) == [shuffle("a", ("a", m1, (0,)))]
    assert story.has_no_room("a", M0, 4) == [destroy("a")]
    assert story.job.error.message == "Reduce000 failed 4 times: No space left on device"


def test_a_map_whose_output_cannot_be_fetched_runs_again_elsewhere():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=1, reducers=1)
    story.mapped("a", 0)
    assert story.finds_gone("a", M0) == [launch_map("b", 0, number=1)]
    assert story.job.phase is Phase.MAPPING
    assert story.job.maps[0].failures == 0
    again = map_attempt(0, 1)
    assert story.mapped("b", 0, 1) == [shuffle("a", ("b", again, (0,)))]


def test_partitions_that_have_an_output_keep_it_when_others_could_not_fetch_it():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0,))]
    assert story.finds_gone("b", M0) == [launch_map("b", 0, number=1, partitions=2)]
    again = map_attempt(0, 1)
    assert story.mapped("b", 0, 1) == [shuffle("b", ("b", again, (1,)))]
    assert story.fetched("b", again, 1) == [launch_reduce("b", 1, maps=(again,))]


def test_an_output_that_arrives_although_its_map_runs_again_is_used():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=1)
    story.mapped("a", 0, lines=1)
    story.finds_gone("a", M0)
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0,))]
    assert story.reduced("a", 0) == [commit(R0, lines=1)]
    assert story.mapped("b", 0, 1, lines=1) == []


def test_of_two_attempts_that_arrived_the_later_counts_as_on_the_tracker():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1)
    story.mapped("b", 1)
    assert story.finds_gone("a", M1) == []
    story.mapped("a", 0)
    again = map_attempt(1, 1)
    story.mapped("a", 1, 1)
    story.fetched("a", M1, 0)
    story.fetched("a", again, 0)
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0, again))]


def test_an_output_that_is_lost_more_than_max_attempts_times_fails_the_job():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=2)
    for number in range(2):
        story.mapped("a", 0, number)
        assert story.finds_gone("a", map_attempt(0, number)) == [
            launch_map("a", 0, number=number + 1)
        ]
    story.mapped("a", 0, 2)
    assert story.finds_gone("a", map_attempt(0, 2)) == [destroy("a")]
    assert str(story.job.error) == "the output of Map001 was lost 3 times: no such output"
    assert story.job.error.details == {"task": "Map001", "attempt": "Map001.2"}


def test_damage_that_a_reduce_finds_is_blamed_on_the_map_and_not_on_the_reduce():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1, max_attempts=1)
    story.mapped("a", 0)
    story.mapped("b", 1)
    story.fetched("a", M0, 0)
    story.fetched("a", M1, 0)
    assert story.damaged("a", R0, map_index=1) == [launch_map("a", 1, number=1)]
    assert story.job.reduces[0].failures == 0
    assert story.job.maps[1].failures == 0
    again = map_attempt(1, 1)
    assert story.mapped("a", 1, 1) == [shuffle("a", ("a", again, (0,)))]
    assert story.fetched("a", again, 0) == [launch_reduce("a", 0, number=1, maps=(M0, again))]


def test_damage_in_what_came_from_a_tracker_that_is_lost_makes_its_map_run_again():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1)
    story.mapped("b", 1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("a", M1, 0)
    assert story.lose("b") == []
    assert story.damaged("a", R0, map_index=1) == [launch_map("a", 1, number=1)]
    assert story.job.phase is Phase.MAPPING


@pytest.mark.parametrize("map_index", [None, 9, "1", [1]])
def test_damage_of_an_unknown_map_is_blamed_on_all_of_them(map_index):
    story = Story(a=2)
    story.begin(maps=2, reducers=1)
    story.mapped("a", 0)
    story.mapped("a", 1)
    story.fetched("a", M0, 0)
    story.fetched("a", M1, 0)
    error = SpillDamaged("bad block", map_index=map_index)
    assert story.ended_badly("a", R0, error) == [
        launch_map("a", 0, number=1),
        launch_map("a", 1, number=1),
    ]


def test_after_damage_an_output_that_was_made_anew_meanwhile_is_asked_for_again():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0,))]
    story.finds_gone("b", M0)
    again = map_attempt(0, 1)
    story.mapped("b", 0, 1)
    assert story.damaged("a", R0, map_index=0) == [shuffle("a", ("b", again, (0,)))]
    assert story.fetched("a", again, 0) == [launch_reduce("a", 0, number=1, maps=(again,))]


def test_damage_that_never_ends_fails_the_job():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=3)
    for number in range(4):
        assert story.job.phase is Phase.MAPPING
        story.mapped("a", 0, number)
        story.fetched("a", map_attempt(0, number), 0)
        orders = story.damaged("a", reduce_attempt(0, number), map_index=0)
    assert orders == [destroy("a")]
    assert str(story.job.error) == "the output of Map001 was lost 4 times: bad block"


def test_damage_where_there_is_no_map_to_blame_counts_as_a_failure():
    story = Story(a=1)
    story.begin(maps=0, max_attempts=2)
    assert story.damaged("a", R0) == []
    assert story.rest() == [launch_reduce("a", 0, number=1)]
    assert story.damaged("a", reduce_attempt(0, 1)) == [destroy("a")]


def test_damage_that_a_map_finds_in_its_own_files_counts_as_its_failure():
    story = Story(a=1)
    story.begin(maps=1)
    assert story.damaged("a", M0) == []
    assert story.rest() == [launch_map("a", 0, number=1)]
    assert story.job.maps[0].failures == 1
