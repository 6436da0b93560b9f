"""Which attempts get a backup, what becomes of the two, and of the trackers that are slow."""

from __future__ import annotations

import pytest
from story import (
    Story,
    broken,
    commit,
    kill_attempt,
    launch_map,
    map_attempt,
    reduce_attempt,
    shuffle,
)

from pytxmr.plan import events as ev
from pytxmr.plan.speculation import SLOW, YOUNGEST_SECONDS, Pace

M0, M1, M2 = map_attempt(0), map_attempt(1), map_attempt(2)
BACKUP = map_attempt(0, 1)

# ---- outliers


@pytest.fixture
def pace():
    """Three attempts that took 9, 10 and 11 seconds; `M0` has run since 0."""
    made = Pace()
    for index, seconds in enumerate((9.0, 10.0, 11.0), start=1):
        made.began(map_attempt(index), 0.0)
        made.succeeded(map_attempt(index), seconds)
        made.ended(map_attempt(index))
    made.began(M0, 0.0)
    return made


def test_an_attempt_is_slow_if_it_has_well_above_the_median_left(pace):
    # After 20 s a half means 20 s more, a twentieth more than SLOW medians.
    pace.progressed(M0, 0.5)
    assert SLOW * 10.0 < 20.0
    assert pace.outliers(20.0) == [M0]
    pace.progressed(M0, 0.58)
    assert pace.outliers(20.0) == []


def test_an_attempt_that_has_run_for_less_than_the_median_is_not_judged(pace):
    pace.progressed(M0, 0.01)
    assert pace.outliers(9.9) == []
    assert pace.outliers(10.0) == [M0]


def test_a_young_attempt_is_not_judged_however_short_the_others_were():
    pace = Pace()
    pace.began(M1, 0.0)
    pace.succeeded(M1, 0.1)
    pace.ended(M1)
    pace.began(M0, 0.0)
    assert pace.outliers(YOUNGEST_SECONDS - 0.1) == []
    assert pace.outliers(YOUNGEST_SECONDS) == [M0]


def test_nothing_is_slow_before_anything_succeeded():
    pace = Pace()
    pace.began(M0, 0.0)
    assert pace.outliers(1e6) == []


def test_the_slowest_comes_first_and_one_without_progress_before_all(pace):
    pace.began(map_attempt(8), 0.0)
    pace.began(map_attempt(9), 0.0)
    pace.progressed(M0, 0.2)
    pace.progressed(map_attempt(8), 0.1)
    assert pace.outliers(20.0) == [map_attempt(9), map_attempt(8), M0]


def test_progress_that_comes_late_takes_nothing_back(pace):
    pace.progressed(M0, 0.9)
    pace.progressed(M0, 0.1)
    assert pace.outliers(20.0) == []


# ---- backups


def straggling(reducers: int = 1, **workers: int) -> Story:
    """Map 0 has been on a for 20 seconds, map 1 took one on b, and there are workers free."""
    story = Story(**workers)
    story.begin(maps=2, reducers=reducers)
    story.now = 1.0
    story.mapped("b", 1, lines=1)
    for now in (8.0, 16.0):
        story.now = now
        for tracker in story.cluster.trackers:
            story.tell(ev.Heartbeat(tracker))
    story.now = 20.0
    return story


def test_a_straggler_gets_a_backup_on_another_tracker_and_only_one():
    story = straggling(a=1, b=1, c=1)
    assert story.beat(20.0, a=(M0, 0.2)) == [launch_map("b", 0, number=1)]
    assert story.beat(28.0, a=(M0, 0.2)) == []


def test_an_attempt_that_gets_on_is_left_alone():
    assert straggling(a=1, b=1).beat(20.0, a=(M0, 0.99)) == []


def test_no_backup_goes_to_the_tracker_that_is_slow():
    story = Story(a=2)
    story.begin(maps=2)
    story.mapped("a", 1)
    assert story.beat(9.0) == []


def test_no_backup_goes_to_a_tracker_on_which_the_map_has_failed():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.ended_badly("a", M0)
    assert story.mapped("b", 1)[-1] == launch_map("b", 0, number=1)
    assert story.beat(9.0) == []


def test_without_a_free_worker_there_is_no_backup():
    story = straggling(a=1, b=1)
    story.submit(maps=1, job="Job002")
    story.ready("b", job="Job002")
    assert story.beat(20.0, a=(M0, 0.2)) == []


def test_without_speculation_there_is_no_backup():
    story = Story(a=1, b=1)
    story.begin(maps=2, speculate=False)
    story.mapped("b", 1)
    assert story.beat(9.0) == []


def test_stragglers_are_looked_for_once_half_of_the_maps_are_done():
    story = Story(a=2, b=1)
    story.begin(maps=3)
    story.now = 1.0
    story.mapped("b", 2)
    assert story.beat(9.0) == []
    story.mapped("a", 1)
    assert story.beat(18.0) == [launch_map("b", 0, number=1)]


def test_a_map_that_has_to_run_again_may_be_backed_up_again():
    story = straggling(a=1, b=1, c=1)
    story.beat(20.0, a=(M0, 0.2))
    story.mapped("b", 0, 1)
    story.lose("b")
    (where,) = story.job.maps[0].running.values()
    other = {"a": "c", "c": "a"}[where]
    story.mapped(other, 1, 1)
    assert story.beat(29.0) == [launch_map(other, 0, number=3)]


def test_progress_of_what_does_not_run_is_ignored():
    story = straggling(a=1, b=1)
    unknown = [("Job009", M0, 1.0), ("Job001", map_attempt(7), 1.0), ("Job001", M0, 1.0)]
    story.tell(ev.Heartbeat("b", tuple(unknown)))
    assert story.beat(20.0, a=(M0, 0.2)) == [launch_map("b", 0, number=1)]


# ---- races


def test_if_the_backup_is_first_the_other_is_killed_and_counts_for_nothing():
    story = straggling(a=1, b=1)
    story.beat(20.0, a=(M0, 0.2))
    killed, asked = story.mapped("b", 0, 1, lines=2)
    assert killed == kill_attempt("a", M0)
    assert asked == shuffle("b", ("b", M1, (0,)), ("b", BACKUP, (0,)))
    assert story.cluster.free_workers() == {"a": 1, "b": 1}
    assert story.mapped("a", 0, 0, lines=2) == []
    assert story.ended_badly("a", M0, broken("the attempt was ended")) == []
    assert story.job.failures == story.job.maps[0].failures == 0
    assert story.job.maps[0].failed_on == set()
    assert story.job.maps[0].winner == BACKUP
    assert story.job.counters() == {"lines": 3}


def test_if_the_first_attempt_is_first_the_backup_is_killed():
    story = straggling(a=1, b=1)
    story.beat(20.0, a=(M0, 0.2))
    assert story.mapped("a", 0, lines=2)[0] == kill_attempt("b", BACKUP)
    assert story.mapped("b", 0, 1, lines=2) == []
    home = story.job._shuffle.home[0]
    story.fetched(home, M0, 0)
    story.fetched(home, M1, 0)
    assert story.reduced(home, 0) == [commit(reduce_attempt(0), lines=3)]


@pytest.mark.parametrize("end", ["lose", "fail"])
def test_if_one_of_the_two_is_lost_or_fails_the_other_goes_on(end):
    story = straggling(a=1, b=1, c=1)
    story.beat(20.0, a=(M0, 0.2))
    if end == "lose":
        assert not any(isinstance(o, ev.LaunchMap) and o.tracker == "a" for o in story.lose("a"))
    else:
        assert story.ended_badly("a", M0) == []
    assert story.job.maps[0].running == {BACKUP: "b"}
    story.mapped("b", 0, 1)
    assert story.job.maps[0].winner == BACKUP


# ---- trackers that are slow


def test_the_partitions_of_a_tracker_that_was_outrun_go_elsewhere():
    story = straggling(a=1, b=1, c=1)
    assert story.job._shuffle.home == ["a"]
    story.beat(20.0, a=(M0, 0.2))
    assert story.mapped("b", 0, 1)[-1] == shuffle("b", ("b", M1, (0,)), ("b", BACKUP, (0,)))
    assert story.job._shuffle.home == ["b"]


def test_the_partitions_of_a_tracker_whose_backup_was_not_needed_stay():
    story = straggling(a=1, b=1, reducers=2)
    story.beat(20.0, a=(M0, 0.2))
    assert story.mapped("a", 0)[0] == kill_attempt("b", BACKUP)
    assert story.job._shuffle.home == ["a", "b"]


def race(story: Story, job: str, slow: str, first: str) -> None:
    """A job of two maps; the one that runs on ``slow`` gets a backup; ``first`` ends first."""
    story.submit(maps=2, job=job)
    story.ready("a", "b", job=job)
    state = story.cluster.jobs[job]
    slow_map = next(i for i, task in enumerate(state.maps) if slow in task.running.values())
    other = next(iter(state.maps[1 - slow_map].running.values()))
    story.mapped(other, 1 - slow_map, job=job)
    (backup,) = [o for o in story.beat(story.now + 9.0) if isinstance(o, ev.LaunchMap)]
    number = 1 if backup.tracker == first else 0
    story.mapped(first, slow_map, number, job=job)
    story.kill(job)


def test_a_tracker_that_loses_races_again_and_again_is_used_last():
    story = Story(a=2, b=1)
    for number in range(1, 4):
        assert story.cluster.unreliable == set()
        race(story, f"Job00{number}", slow="a", first="b")
    assert story.cluster.unreliable == {"a"}
    race_again = story.submit(maps=2, job="Job006")
    assert [order.tracker for order in race_again] == ["a", "b"]
    story.ready("b", "a", job="Job006")
    story.mapped("a", 1, job="Job006")
    assert story.beat(story.now + 9.0) == []
    story.kill("Job006")
    story.begin(maps=3, job="Job004")
    story.begin(maps=2, job="Job005")
    # Among the free the most idle one would be a.
    free = story.kill("Job004")
    assert free[1:] == [launch_map("b", 0, job="Job005"), launch_map("a", 1, job="Job005")]
    story.lose("a")
    assert story.cluster.unreliable == set()


def test_a_backup_that_was_not_needed_is_not_held_against_its_tracker():
    story = Story(a=1, b=1)
    for number in range(1, 5):
        race(story, f"Job00{number}", slow="a", first="a")
    assert story.cluster.unreliable == set()
