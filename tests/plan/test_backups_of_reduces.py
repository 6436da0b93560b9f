"""Second homes of partitions whose reduce is slow, and what becomes of the two attempts."""

from __future__ import annotations

import pytest
from story import (
    Story,
    broken,
    commit,
    kill_attempt,
    launch_map,
    launch_reduce,
    map_attempt,
    reduce_attempt,
    shuffle,
)

from pytxmr.errors import DiskFailed
from pytxmr.plan import events as ev

M0, M1 = map_attempt(0), map_attempt(1)
R0, R1 = reduce_attempt(0), reduce_attempt(1)
BACKUP = reduce_attempt(0, 1)
MAPS = (M0,)
SEGMENTS = ("a", M0, (0,))


def straggling(homes: str = "abc", **more: object) -> Story:
    """Of a job of one map, on a, reduce 0 runs on a since 1 s; the others took one second each, and
    it is 11 s."""
    story = Story(**dict.fromkeys(homes, 1))
    story.begin(maps=1, reducers=len(homes), **more)
    story.now = 1.0
    story.mapped("a", 0, digest="one")
    assert story.job._shuffle.home == list(homes)
    for partition, home in enumerate(homes):
        story.fetched(home, M0, partition)
    story.now = 2.0
    for partition, home in enumerate(homes[1:], start=1):
        story.reduced(home, partition, lines=1)
    for now in (6.0, 11.0):
        story.now = now
        for tracker in homes:
            story.tell(ev.Heartbeat(tracker))
    return story


def backed_up(homes: str = "abc") -> Story:
    """The same with a backup that runs on b."""
    story = straggling(homes)
    assert story.beat(11.0) == [shuffle("b", SEGMENTS)]
    story.fetched("b", M0, 0)
    assert story.beat(11.5) == [launch_reduce("b", 0, 1, MAPS)]
    return story


# ---- second homes


def test_a_reduce_that_is_slow_gets_a_backup_once_another_tracker_has_its_segments():
    story = straggling()
    assert story.beat(11.0) == [shuffle("b", SEGMENTS)]
    assert story.beat(11.5) == []
    assert story.fetched("b", M0, 0) == []
    assert story.beat(12.0) == [launch_reduce("b", 0, 1, MAPS)]
    assert story.beat(20.0) == []
    assert story.job.reduces[0].running == {R0: "a", BACKUP: "b"}


def test_a_reduce_that_gets_on_is_left_alone():
    assert straggling().beat(11.0, a=(R0, 0.99)) == []


def test_a_reduce_is_not_slow_before_it_has_run_for_well_above_the_median_whatever_it_says():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("b", M0, 1)
    story.beat(8.0)
    story.now = 10.0
    story.reduced("b", 1)
    assert story.beat(14.9) == []
    assert story.beat(15.0) == [shuffle("b", SEGMENTS)]


def test_without_speculation_a_reduce_has_no_second_home():
    assert straggling(speculate=False).beat(11.0) == []


def test_stragglers_are_looked_for_once_half_of_the_reduces_are_done():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=1, reducers=3)
    story.mapped("a", 0)
    for partition, home in enumerate("abc"):
        story.fetched(home, M0, partition)
    story.reduced("c", 2)
    assert story.beat(9.0) == []
    story.reduced("b", 1)
    assert story.beat(18.0) == [shuffle("b", SEGMENTS)]


def test_a_tracker_without_a_free_worker_becomes_no_second_home():
    story = straggling("ab")
    story.submit(maps=1, job="Job002")
    story.ready("b", job="Job002")
    assert story.beat(11.0) == []


def test_a_backup_waits_until_its_tracker_has_a_worker_free():
    story = straggling()
    story.beat(11.0)
    story.submit(maps=1, job="Job002")
    story.ready("b", job="Job002")
    story.fetched("b", M0, 0)
    assert story.beat(12.0) == []
    story.kill("Job002")
    assert story.beat(13.0) == [launch_reduce("b", 0, 1, MAPS)]


def slow_on_b() -> Story:
    """Reduce 1 runs on b, as slowly; the map's output is on a, which reduces 0; c and d are done
    and are free."""
    story = Story(a=1, b=1, c=1, d=1)
    story.begin(maps=1, reducers=4)
    story.now = 1.0
    story.mapped("a", 0, digest="one")
    for partition, home in enumerate("abcd"):
        story.fetched(home, M0, partition)
    story.now = 2.0
    story.reduced("c", 2)
    story.reduced("d", 3)
    return story


def test_no_map_runs_again_for_the_sake_of_a_backup():
    story = slow_on_b()
    story.reduced("a", 0)
    assert story.lose("a") == story.beat(6.0) == []
    assert story.job._shuffle.second == {}
    assert story.job.maps_waiting == 0


def test_a_second_home_is_told_of_the_new_output_of_a_map_that_ran_again():
    story = slow_on_b()
    assert story.beat(6.0, a=(R0, 0.99)) == [shuffle("c", ("a", M0, (1,)))]
    assert story.lose("a") == [launch_map("c", 0, 1, partitions=4)]
    again = map_attempt(0, 1)
    assert story.mapped("c", 0, 1, digest="one") == [
        shuffle("d", ("c", again, (0,))),
        shuffle("c", ("c", again, (1,))),
    ]


def test_a_second_home_is_told_again_of_what_it_may_have_missed():
    story = straggling("ab")
    story.beat(11.0)
    assert story.tell(ev.TrackerResumed("b")) == [shuffle("b", SEGMENTS)]
    story.fetched("b", M0, 0)
    assert story.tell(ev.TrackerResumed("b")) == []


@pytest.mark.parametrize("way", ["cannot_fetch", "has_no_room", "finds_gone"])
def test_a_second_home_that_cannot_gather_is_given_up_and_nobody_is_blamed(way):
    story = straggling("ab")
    story.beat(11.0)
    assert getattr(story, way)("b", M0) == []
    assert story.job._shuffle.second == {}
    assert story.job.failures == story.job.maps[0].lost_outputs == 0
    story.fetched("b", M0, 0)
    assert story.beat(20.0) == []
    story.reduced("a", 0)
    assert story.job.reduces_done == 2


# ---- partitions that lag


def lagging(**more: object) -> Story:
    """All maps were done at 1 s and the reduces on b and c a second later; a has fetched nothing,
    and waits since 3.1 s."""
    story = Story(a=1, b=1, c=1)
    story.begin(maps=1, reducers=3, **more)
    story.now = 1.0
    story.mapped("a", 0)
    story.fetched("b", M0, 1)
    story.fetched("c", M0, 2)
    story.now = 2.0
    story.reduced("b", 1)
    story.reduced("c", 2)
    assert story.beat(3.0) == []
    story.now = 3.1
    return story


def test_a_partition_that_is_not_gathered_long_after_the_others_are_reduced_moves_once():
    story = lagging()
    assert story.beat(3.1) == [shuffle("b", SEGMENTS)]
    assert story.job._shuffle.home[0] == "b"
    assert story.beat(9.0) == []
    assert story.fetched("a", M0, 0) == []
    assert story.fetched("b", M0, 0) == [launch_reduce("b", 0, 0, MAPS)]


def test_without_speculation_a_partition_that_lags_stays():
    assert lagging(speculate=False).beat(9.0) == []


def test_a_reduce_that_was_moved_since_it_lagged_may_be_backed_up():
    story = lagging()
    story.beat(3.1)
    story.fetched("b", M0, 0)
    story.beat(8.0)
    assert story.job._shuffle.second[0].tracker == "a"


def test_a_partition_that_moved_when_its_tracker_was_lost_has_as_much_time_again():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=1, reducers=3)
    story.now = 1.0
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("b", M0, 1)
    story.now = 2.0
    story.reduced("a", 0)
    story.reduced("b", 1)
    story.now = 3.0
    assert story.lose("c") == [shuffle("a", ("a", M0, (2,)))]
    assert story.beat(5.0) == []
    assert story.beat(5.1) == [shuffle("b", ("a", M0, (2,)))]


def test_one_that_fails_where_it_was_moved_to_may_move_again():
    story = lagging()
    story.beat(3.1)
    story.fetched("b", M0, 0)
    assert story.ended_badly("b", R0) == [shuffle("a", SEGMENTS)]
    assert story.beat(9.0) == [shuffle("c", SEGMENTS)]


def test_one_whose_attempts_both_failed_may_move_again():
    story = backed_up("abcd")
    story.ended_badly("b", BACKUP)
    assert story.ended_badly("a", R0) == [shuffle("c", SEGMENTS)]
    assert story.beat(19.0) == [shuffle("d", SEGMENTS)]


def test_a_partition_that_has_been_gathered_and_waits_for_a_worker_does_not_lag():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=1, reducers=6)
    story.now = 1.0
    story.mapped("a", 0)
    for partition, home in enumerate("abcabc"):
        story.fetched(home, M0, partition)
    story.now = 2.0
    for partition, home in ((1, "b"), (2, "c"), (4, "b"), (5, "c")):
        story.reduced(home, partition)
    assert story.beat(9.0, a=(R0, 0.99)) == []


def test_partitions_lag_only_behind_half_of_the_others():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=1, reducers=3)
    story.now = 1.0
    story.mapped("a", 0)
    story.fetched("b", M0, 1)
    story.now = 2.0
    story.reduced("b", 1)
    assert story.beat(9.0) == []


def test_partitions_lag_only_once_all_maps_are_done_again():
    story = lagging()
    assert launch_map("b", 0, 1, partitions=3) in story.lose("a")
    home = story.job._shuffle.home[0]
    assert story.beat(9.0) == []
    story.now = 10.0
    story.mapped("b", 0, 1)
    assert story.beat(12.0) == []
    (order,) = story.beat(12.1)
    assert isinstance(order, ev.Shuffle)
    assert order.tracker != home


# ---- races


def test_if_the_backup_is_first_the_other_is_killed_and_counts_for_nothing():
    story = backed_up("ab")
    winners = (BACKUP, R1)
    assert story.reduced("b", 0, 1, lines=2) == [kill_attempt("a", R0), commit(*winners, lines=3)]
    assert story.reduced("a", 0, lines=2) == []
    assert story.ended_badly("a", R0, broken("the attempt was ended")) == []
    assert story.job.counters() == {"lines": 3}
    assert story.job.failures == 0
    assert story.cluster._races_lost == {"a": 1}


def test_if_the_first_attempt_is_first_the_backup_is_killed():
    story = backed_up("ab")
    winners = (R0, R1)
    assert story.reduced("a", 0, lines=2) == [kill_attempt("b", BACKUP), commit(*winners, lines=3)]
    assert story.reduced("b", 0, 1, lines=2) == []
    assert story.cluster._races_lost == {}


def test_if_the_first_attempt_ends_before_the_backup_began_none_begins():
    story = slow_on_b()
    assert story.beat(6.0, a=(R0, 0.99)) == [shuffle("c", ("a", M0, (1,)))]
    story.reduced("b", 1)
    assert story.job._shuffle.second == {}
    assert story.fetched("c", M0, 1) == story.beat(6.5, a=(R0, 0.99)) == []


def test_what_waits_at_a_tracker_whose_reduce_was_outrun_goes_elsewhere():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=4)
    story.mapped("a", 0)
    assert story.job._shuffle.home == ["a", "b", "a", "b"]
    story.fetched("a", M0, 0, 2)
    story.fetched("b", M0, 1, 3)
    story.now = 1.0
    story.reduced("b", 1)
    story.reduced("b", 3)
    assert story.beat(9.0) == [shuffle("b", ("a", M0, (0,)))]
    story.fetched("b", M0, 0)
    story.beat(9.5)
    assert story.reduced("b", 0, 1) == [kill_attempt("a", R0), shuffle("b", ("a", M0, (2,)))]
    assert story.job._shuffle.home == ["b", "b", "b", "b"]


# ---- what ends one of the two


#: How an attempt on a tracker may end in vain.
ENDS = {
    "lose": lambda story, tracker, attempt: story.lose(tracker),
    "fail": lambda story, tracker, attempt: story.ended_badly(tracker, attempt),
    "damage": lambda story, tracker, attempt: story.damaged(tracker, attempt, map_index=0),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("ended", "left"),
    [(("a", R0), ("b", BACKUP)), (("b", BACKUP), ("a", R0))],
    ids=["the first", "the backup"],
)
def test_if_one_of_the_two_ends_in_vain_the_other_goes_on(ended, left, end):
    story = backed_up()
    assert ENDS[end](story, *ended) == []
    assert story.job.maps_waiting == 0
    home, attempt = left
    assert story.job._shuffle.home[0] == home
    assert story.job._shuffle.second == {}
    winners = (attempt, R1, reduce_attempt(2))
    assert story.reduced(home, 0, attempt.number)[-1] == commit(*winners, lines=2)


@pytest.mark.parametrize("end", ENDS)
def test_a_backup_that_ends_in_vain_costs_no_output(end):
    story = backed_up()
    ENDS[end](story, "b", BACKUP)
    assert story.job.maps[0].lost_outputs == 0


def test_if_the_first_attempt_fails_before_the_backup_began_it_begins_at_the_second_home():
    story = straggling()
    story.beat(11.0)
    assert story.ended_badly("a", R0) == []
    assert story.job._shuffle.home[0] == "b"
    assert story.fetched("b", M0, 0) == [launch_reduce("b", 0, 1, MAPS)]


def test_a_map_whose_output_is_gone_runs_again_if_the_second_home_takes_the_place_of_the_first():
    story = straggling()
    story.beat(11.0)
    assert launch_map("b", 0, 1, partitions=3) in story.lose("a")
    assert story.job._shuffle.home[0] == "b"


def test_a_map_that_only_the_first_home_had_runs_again_if_what_it_had_is_damaged():
    story = Story(a=1, b=1, c=1)
    story.begin(maps=2, reducers=3)
    story.now = 1.0
    assert launch_map("c", 1, 1, partitions=3) in story.ended_badly("b", M1)
    other = map_attempt(1, 1)
    story.mapped("a", 0)
    story.mapped("c", 1, 1)
    for partition, home in enumerate("abc"):
        story.fetched(home, M0, partition)
        story.fetched(home, other, partition)
    story.now = 2.0
    story.reduced("b", 1)
    story.reduced("c", 2)
    assert story.beat(6.0) == [shuffle("b", ("a", M0, (0,)), ("c", other, (0,)))]
    story.fetched("b", M0, 0)
    assert story.lose("c") == []
    assert launch_map("a", 1, 2, partitions=3) in story.damaged("a", R0, map_index=0)
    assert story.job._shuffle.home[0] == "b"


def test_a_backup_that_fails_counts_against_the_reduce():
    story = backed_up()
    story.ended_badly("b", BACKUP, DiskFailed("No space left on device"))
    assert story.job.failures == story.job.reduces[0].failures == 1


def test_a_reduce_that_is_tried_again_may_be_backed_up_again():
    story = backed_up("ab")
    story.ended_badly("b", BACKUP)
    story.ended_badly("a", R0)
    story.join("c")
    story.ready("c")
    story.rest()
    story.fetched(story.job._shuffle.home[0], M0, 0)
    story.beat(story.now + 1.0)
    assert story.job.reduces[0].running
    assert not story.job.reduces[0].backed_up


def test_if_a_map_puts_out_something_else_both_attempts_end_and_one_starts_at_the_first_home():
    story = slow_on_b()
    assert story.beat(6.0, a=(R0, 0.99)) == [shuffle("c", ("a", M0, (1,)))]
    story.fetched("c", M0, 1)
    backup = reduce_attempt(1, 1)
    assert story.beat(6.5, a=(R0, 0.99)) == [launch_reduce("c", 1, 1, MAPS)]
    assert story.lose("a") == [launch_map("d", 0, 1, partitions=4)]
    orders = story.mapped("d", 0, 1, digest="two")
    assert orders[:2] == [kill_attempt("b", R1), kill_attempt("c", backup)]
    assert story.job._shuffle.second == {}
    assert story.job._shuffle.home[1] == "b"
    again = map_attempt(0, 1)
    assert story.fetched("b", again, 1) == [launch_reduce("b", 1, 2, (again,))]
