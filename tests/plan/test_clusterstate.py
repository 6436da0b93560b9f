"""Who is alive, whose turn it is, and whose word counts."""

from __future__ import annotations

import pytest
from story import (
    Story,
    destroy,
    init,
    kill_attempt,
    launch_map,
    launch_reduce,
    map_attempt,
    shuffle,
)

from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import Outcome, Phase

M0 = map_attempt(0)

# ---- leases


def test_a_lease_ends_when_its_time_has_passed_and_not_before():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.now = 5.0
    assert story.tell(ev.Heartbeat("b")) == []
    story.now = 9.999
    assert story.tell(ev.Tick()) == []
    assert list(story.cluster.trackers) == ["a", "b"]
    story.now = 10.0
    assert story.tell(ev.Tick()) == []
    assert list(story.cluster.trackers) == ["b"]
    assert story.mapped("b", 1)[-1] == launch_map("b", 0, number=1)
    story.now = 15.0
    story.tell(ev.Tick())
    assert story.cluster.trackers == {}


def test_a_tracker_that_beats_lives_on():
    story = Story(a=1)
    for second in range(0, 100, 9):
        story.now = float(second)
        story.tell(ev.Heartbeat("a"))
        assert story.tell(ev.Tick()) == []
    assert list(story.cluster.trackers) == ["a"]


def test_time_is_only_looked_at_when_it_is_said_to_have_passed():
    story = Story(a=1)
    story.begin(maps=2)
    story.now = 1000.0
    assert story.mapped("a", 0)[-1] == launch_map("a", 1)
    story.tell(ev.Heartbeat("a"))
    assert story.tell(ev.Tick()) == []
    assert list(story.cluster.trackers) == ["a"]


def test_of_trackers_that_expire_together_none_is_given_the_work_of_another():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=2)
    # As a is lost, its partition would go to b, and be told of what b has.
    story.mapped("b", 1)
    story.now = 20.0
    assert story.tell(ev.Tick()) == []
    assert story.join("c") == [init("c")]
    assert story.ready("c") == [launch_map("c", 0, number=1, partitions=2)]


# ---- incarnations, and who is stale


def test_a_tracker_that_comes_back_is_another_which_owns_nothing():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.mapped("a", 0)
    assert story.join("a.2") == [init("a.2")]
    assert list(story.cluster.trackers) == ["b", "a.2"]
    assert story.job.maps[0].winner is None
    assert story.ready("a.2") == [launch_map("a.2", 0, number=1)]


def test_what_a_tracker_says_that_does_not_count_any_more_is_ignored_and_counted():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.join("a.2")
    late = [
        ev.JobInitialised("Job001", "a"),
        ev.InitFailed("Job001", "a", RuntimeError()),
        ev.MapSucceeded("Job001", "a", M0, (1,)),
        ev.AttemptEndedBadly("Job001", "a", M0, RuntimeError()),
        ev.SegmentsFetched("Job001", "a", M0, (0,)),
        ev.FetchFailed("Job001", "a", M0, RuntimeError()),
        ev.Heartbeat("a"),
    ]
    for count, event in enumerate(late, start=1):
        assert story.tell(event) == []
        assert story.cluster.stale_reports == count
    assert story.job.maps[0].winner is None
    assert list(story.cluster.trackers) == ["b", "a.2"]


def test_a_report_on_a_job_that_is_forgotten_is_ignored_and_counted():
    story = Story(a=1)
    assert story.mapped("a", 0, job="Job009") == []
    assert story.kill("Job009") == []
    assert story.cluster.stale_reports == 2


def test_to_lose_a_tracker_twice_is_to_lose_it_once():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    assert story.lose("a") == []
    assert story.lose("a") == []
    assert story.cluster.free_workers() == {"b": 0}


def test_a_tracker_of_another_name_takes_nobodys_place():
    story = Story(a=1)
    story.join("b")
    assert list(story.cluster.trackers) == ["a", "b"]


# ---- several jobs


def test_jobs_are_served_first_in_first_out():
    story = Story(a=2)
    story.submit(maps=3, job="Job001")
    story.submit(maps=1, job="Job002")
    assert story.ready("a", job="Job002") == [launch_map("a", 0, job="Job002")]
    assert story.ready("a", job="Job001") == [launch_map("a", 0)]
    assert story.mapped("a", 0, job="Job002")[-1] == launch_map("a", 1)
    assert story.mapped("a", 0)[-1] == launch_map("a", 2)


def test_a_later_step_of_a_job_goes_before_jobs_that_were_submitted_after_the_job():
    story = Story(a=1)
    for job in ("Job1001", "Job998", "Job1000"):
        story.submit(maps=2, job=job)
    assert list(story.cluster.jobs) == ["Job998", "Job1000", "Job1001"]
    assert story.ready("a", job="Job1001") == [launch_map("a", 0, job="Job1001")]
    assert story.ready("a", job="Job998") == []
    assert story.mapped("a", 0, job="Job1001")[-1] == launch_map("a", 0, job="Job998")


def test_a_later_job_uses_the_workers_that_the_first_cannot():
    story = Story(a=2)
    for job in ("Job001", "Job002"):
        story.submit(maps=1, job=job)
    assert story.ready("a", job="Job001") == [launch_map("a", 0)]
    assert story.ready("a", job="Job002") == [launch_map("a", 0, job="Job002")]


def test_a_reduce_of_the_first_job_goes_before_maps_of_the_second():
    story = Story(a=1)
    story.submit(maps=1, job="Job001")
    story.submit(maps=2, job="Job002")
    story.ready("a", job="Job001")
    story.ready("a", job="Job002")
    assert story.mapped("a", 0) == [shuffle("a", ("a", M0, (0,))), launch_map("a", 0, job="Job002")]
    story.fetched("a", M0, 0)
    assert story.mapped("a", 0, job="Job002")[-1] == launch_reduce("a", 0, maps=(M0,))


def test_a_tracker_that_joins_initialises_every_job_that_runs():
    story = Story(a=1)
    story.submit(maps=1, job="Job001")
    story.submit(maps=1, job="Job002")
    assert story.join("b") == [init("b", "Job001"), init("b", "Job002")]


def test_jobs_that_waited_for_a_tracker_all_begin_with_it():
    story = Story()
    story.submit(maps=1, reducers=None, job="Job001")
    story.submit(maps=1, reducers=None, job="Job002")
    assert story.join("a", 3) == [init("a", "Job001"), init("a", "Job002")]
    assert [job.partitions for job in story.cluster.jobs.values()] == [3, 3]


def test_the_end_of_one_job_frees_its_workers_for_the_next():
    story = Story(a=1)
    story.submit(maps=2, job="Job001")
    story.submit(maps=1, job="Job002")
    story.ready("a", job="Job001")
    story.ready("a", job="Job002")
    assert story.kill("Job001") == [destroy("a"), launch_map("a", 0, job="Job002")]
    story.destroyed("Job001")
    assert story.cluster.jobs["Job001"].phase is Phase.ENDED
    assert story.cluster.jobs["Job001"].outcome is Outcome.KILLED
    assert story.cluster.jobs["Job002"].phase is Phase.MAPPING


# ---- free workers


@pytest.mark.parametrize(("maps", "free"), [(0, {"a": 2, "b": 1}), (2, {"a": 0, "b": 1})])
def test_free_workers_are_those_that_run_no_attempt_of_any_job(maps, free):
    story = Story(a=2, b=1)
    for job in ("Job001", "Job002"):
        story.submit(maps=maps // 2 or 1, job=job)
        if maps:
            story.ready("a", job=job)
    assert story.cluster.free_workers() == free


def given(orders):
    return sorted(order.tracker for order in orders if isinstance(order, ev.LaunchMap))


def test_no_tracker_is_given_more_than_it_has_workers_for():
    story = Story(a=2, b=3)
    assert given(story.begin(maps=20)) == ["a", "a", "b", "b", "b"]
    assert story.cluster.free_workers() == {"a": 0, "b": 0}


def test_of_a_job_with_many_maps_each_worker_is_given_one_ahead():
    story = Story(a=1, b=2)
    assert given(story.begin(maps=100)) == ["a"] * 2 + ["b"] * 4
    assert story.cluster.free_workers() == {"a": -1, "b": -2}
    for index in range(10):
        assert len(given(story.mapped("a" if index in (0, 5) else "b", index))) <= 1
    for running in story.job.running_on.values():
        assert running <= 4


def test_towards_its_end_no_work_is_given_ahead():
    """The last 4 maps a worker go to whoever is free."""
    story = Story(a=1)
    story.begin(maps=10)
    assert story.job.running_on == {"a": 2}
    for index in range(4):
        assert given(story.mapped("a", index)) == ["a"]
    assert story.job.maps_waiting == 4
    assert given(story.mapped("a", 4)) == []
    assert given(story.mapped("a", 5)) == ["a"]
    assert story.job.running_on == {"a": 1}


def test_a_free_worker_for_one_job_comes_before_work_ahead_for_another():
    story = Story(a=1, b=1)
    story.submit(maps=100)
    story.submit(maps=1, job="Job002")
    story.ready("b", job="Job002")
    orders = story.ready("a")
    assert orders == [launch_map("a", 0), launch_map("a", 1)]
    assert story.cluster.free_workers() == {"a": -1, "b": 0}


def test_what_was_given_ahead_to_a_tracker_that_is_lost_runs_elsewhere():
    story = Story(a=1, b=1)
    story.begin(maps=100)
    assert story.job.running_on == {"a": 2, "b": 2}
    story.lose("a")
    assert story.job.maps_waiting == 98
    again = story.mapped("b", 2)
    assert again == [shuffle("b", ("b", map_attempt(2), (0,))), launch_map("b", 0, 1)]


# ---- connections end, and come back


def test_a_tracker_whose_connection_ended_is_lost_after_a_moment_unless_it_comes_back():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.tell(ev.TrackerDisconnected("a"))
    story.tell(ev.TrackerDisconnected("b"))
    story.now = 0.9
    assert story.tell(ev.Tick()) == []
    story.tell(ev.TrackerResumed("b"))
    story.now = 1.0
    story.tell(ev.Tick())
    assert list(story.cluster.trackers) == ["b"]


def test_a_connection_that_ends_does_not_make_a_lease_longer():
    story = Story(a=1)
    story.now = 9.5
    story.tell(ev.TrackerDisconnected("a"))
    story.now = 10.0
    story.tell(ev.Tick())
    assert story.cluster.trackers == {}


def test_a_tracker_that_comes_back_is_told_again_what_it_may_have_missed():
    story = Story(a=1, b=1)
    story.begin(maps=3, reducers=2)
    assert story.tell(ev.TrackerResumed("a")) == [launch_map("a", 0, partitions=2)]
    story.mapped("b", 1)
    story.mapped("a", 0)
    told = story.tell(ev.TrackerResumed("a"))
    outputs = (("b", map_attempt(1), (0,)), ("a", map_attempt(0), (0,)))
    assert shuffle("a", *outputs) in told
    story.fetched("a", M0, 0)
    assert shuffle("a", outputs[0]) in story.tell(ev.TrackerResumed("a"))


def test_one_that_comes_back_before_it_has_initialised_the_job_is_told_to():
    story = Story(a=1)
    story.begin(maps=1)
    assert story.join("b") == [init("b")]
    assert story.tell(ev.TrackerResumed("b")) == [init("b")]


def test_a_reduce_that_runs_is_ordered_again_with_the_maps_it_was_given():
    story = Story(a=1)
    story.begin(maps=1, reducers=1)
    story.mapped("a", 0)
    (launched,) = story.fetched("a", M0, 0)
    assert launched == launch_reduce("a", 0, maps=(M0,))
    assert story.tell(ev.TrackerResumed("a")) == [launched]


# ---- attempts that run and should not


def test_an_attempt_whose_end_a_tracker_missed_is_ended_when_it_says_that_it_runs():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.ended_badly("a", M0)
    still = ev.Heartbeat("a", (("Job001", M0, 0.5),))
    assert story.tell(still) == [kill_attempt("a", M0)]
    assert story.tell(still) == [kill_attempt("a", M0)]
    assert story.tell(ev.Heartbeat("b", (("Job001", map_attempt(1), 0.5),))) == []
    assert story.tell(ev.Heartbeat("b", (("Job001", map_attempt(9), 0.5),))) == [
        kill_attempt("b", map_attempt(9))
    ]


def test_nothing_is_ended_at_a_tracker_that_is_lost_or_of_a_job_that_is_over():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.lose("a")
    assert story.tell(ev.Heartbeat("a", (("Job001", M0, 0.5),))) == []
    story.kill()
    assert story.tell(ev.Heartbeat("b", (("Job001", map_attempt(1), 0.5),))) == []
    assert story.tell(ev.Heartbeat("b", (("Job009", M0, 0.5),))) == []
