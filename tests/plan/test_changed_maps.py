"""What becomes of a job one of whose maps puts out something else when it runs again."""

from __future__ import annotations

from typing import Any

from story import (
    Story,
    commit,
    kill_attempt,
    launch_map,
    launch_reduce,
    map_attempt,
    reduce_attempt,
    shuffle,
)

from pytxmr.model import CHANGED_MAPS

M0, M1, AGAIN = map_attempt(0), map_attempt(1), map_attempt(0, 1)
R0, R1 = reduce_attempt(0), reduce_attempt(1)


def run_again(reduced: bool = False) -> Story:
    """Map 0 ran on a; its output is at b, which reduces partition 1 or has done so, and runs the
    map again, since partition 0 lost its home with a."""
    story = Story(a=2, b=2)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0, digest="x", lines=1)
    assert story.job.reduces[0].pending
    assert story.fetched("b", M0, 1) == [launch_reduce("b", 1, maps=(M0,))]
    if reduced:
        story.reduced("b", 1, groups=5)
    assert story.lose("a") == [launch_map("b", 0, number=1, partitions=2)]
    return story


def test_one_that_puts_out_the_same_again_disturbs_nothing():
    story = run_again()
    assert story.mapped("b", 0, 1, digest="x", lines=1) == [shuffle("b", ("b", AGAIN, (0,)))]
    story.fetched("b", AGAIN, 0)
    story.reduced("b", 1)
    assert story.reduced("b", 0) == [commit(R0, R1, lines=1)]


def test_reduces_that_run_over_what_it_put_out_before_are_ended_and_start_again():
    story = run_again()
    assert story.mapped("b", 0, 1, digest="y", lines=2) == [
        kill_attempt("b", R1),
        shuffle("b", ("b", AGAIN, (0, 1))),
    ]
    assert story.job.failures == 0
    assert story.reduced("b", 1) == []
    assert story.fetched("b", AGAIN, 0, 1) == [
        launch_reduce("b", 0, maps=(AGAIN,)),
        launch_reduce("b", 1, number=1, maps=(AGAIN,)),
    ]
    story.reduced("b", 0)
    counters: dict[str, Any] = {"lines": 2, CHANGED_MAPS: 1}
    assert story.reduced("b", 1, 1) == [commit(R0, reduce_attempt(1, 1), **counters)]


def test_reduces_that_are_done_over_what_it_put_out_before_start_again():
    story = run_again(reduced=True)
    assert story.mapped("b", 0, 1, digest="y", lines=1) == [shuffle("b", ("b", AGAIN, (0, 1)))]
    assert story.job.reduces_done == 0
    assert story.fetched("b", AGAIN, 0, 1)[1:] == [
        launch_reduce("b", 1, number=1, maps=(AGAIN,)),
    ]
    story.reduced("b", 0, groups=1)
    counters: dict[str, Any] = {"lines": 1, "groups": 3, CHANGED_MAPS: 1}
    assert story.reduced("b", 1, 1, groups=2) == [commit(R0, reduce_attempt(1, 1), **counters)]


def test_one_that_was_done_where_no_tracker_is_any_more_starts_again_elsewhere():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=2, reducers=3)
    story.mapped("a", 0, digest="x")
    story.mapped("b", 1, digest="z")
    for partition, tracker in enumerate("ab"):
        story.fetched(tracker, M0, partition)
        story.fetched(tracker, M1, partition)
        story.reduced(tracker, partition)
    story.fetched("c", M1, 2)
    assert story.lose("b") == []
    assert story.lose("a") == [launch_map("c", 0, number=1, partitions=3)]
    assert story.mapped("c", 0, 1, digest="y") == [
        shuffle("c", ("c", AGAIN, (0, 1, 2))),
        launch_map("c", 1, number=1, partitions=3),
    ]
    assert story.job.reduces_done == 0


def test_what_arrives_late_of_the_run_before_is_not_used():
    story = run_again()
    story.mapped("b", 0, 1, digest="y")
    assert story.fetched("b", M0, 0, 1) == []
    assert [task.pending for task in story.job.reduces] == [True, True]


def test_what_arrived_before_the_map_had_run_again_is_used_by_all_if_none_lacks_it():
    story = run_again()
    assert story.fetched("b", M0, 0) == []
    assert story.mapped("b", 0, 1, digest="y", lines=7) == [launch_reduce("b", 0, maps=(M0,))]
    story.reduced("b", 0)
    assert story.reduced("b", 1) == [commit(R0, R1, lines=1)]


def test_its_third_run_is_compared_with_the_one_that_is_read():
    story = run_again()
    story.mapped("b", 0, 1, digest="y", lines=2)
    story.fetched("b", AGAIN, 1)
    assert story.finds_gone("b", AGAIN) == [launch_map("b", 0, number=2, partitions=2)]
    third = map_attempt(0, 2)
    assert shuffle("b", ("b", third, (0,))) in story.mapped("b", 0, 2, digest="y", lines=2)
    assert story.job.counters() == {"lines": 2, CHANGED_MAPS: 1}


def test_a_tracker_whose_reduces_start_again_has_lost_no_race():
    story = run_again()
    story.mapped("b", 0, 1, digest="y")
    assert story.cluster._races_lost == {}
