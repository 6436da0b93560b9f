"""Trackers come and go while a job runs, and what is done stays done if it can."""

from __future__ import annotations

from story import (
    Story,
    commit,
    destroy,
    init,
    launch_map,
    launch_reduce,
    map_attempt,
    reduce_attempt,
    shuffle,
)

from pytxmr.errors import PytxmrError
from pytxmr.plan.jobstate import Outcome, Phase

M0, M1 = map_attempt(0), map_attempt(1)
R0, R1 = reduce_attempt(0), reduce_attempt(1)

# ---- trackers that are lost


def test_attempts_that_ran_on_a_lost_tracker_run_elsewhere_and_have_not_failed():
    story = Story(a=1, b=1)
    story.begin(maps=2, max_attempts=1)
    assert story.lose("a") == []
    assert story.mapped("b", 1)[-1] == launch_map("b", 0, number=1)
    assert story.job.maps[0].failures == 0
    assert story.job.maps[0].failed_on == set()


def test_a_done_map_runs_again_if_a_reduce_lacks_the_output_that_is_lost():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1)
    story.mapped("b", 1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    assert story.lose("b") == [launch_map("a", 1, number=1)]
    assert story.job.phase is Phase.MAPPING
    again = map_attempt(1, 1)
    assert story.mapped("a", 1, 1) == [shuffle("a", ("a", again, (0,)))]
    assert story.fetched("a", again, 0) == [launch_reduce("a", 0, maps=(M0, again))]


def test_a_done_map_does_not_run_again_if_every_reduce_has_its_output():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1)
    story.mapped("b", 1)
    story.fetched("a", M1, 0)
    assert story.lose("b") == []
    assert story.job.maps[1].winner == M1
    story.mapped("a", 0)
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0, M1))]


def test_the_reduces_of_a_lost_tracker_run_elsewhere_over_what_can_still_be_fetched():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    assert story.fetched("b", M0, 1) == [launch_reduce("b", 1, maps=(M0,))]
    assert story.lose("b") == [shuffle("a", ("a", M0, (1,)))]
    assert story.fetched("a", M0, 1) == []
    assert story.reduced("a", 0) == [launch_reduce("a", 1, number=1, maps=(M0,))]
    assert story.reduced("a", 1, 1) == [commit(R0, reduce_attempt(1, 1))]
    assert story.job.reduces[1].failures == 0


def test_a_reduce_whose_tracker_is_lost_before_it_reports_counts_once_as_it_ran_elsewhere():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("b", M0, 1)
    story.lose("b")  # it has written the part, and said so to nobody
    story.fetched("a", M0, 1)
    assert story.reduced("b", 1) == []
    story.reduced("a", 0)
    assert story.reduced("b", 1) == []
    assert story.reduced("a", 1, 1) == [commit(R0, reduce_attempt(1, 1))]
    assert story.reduced("b", 1) == []
    assert story.committed() == [destroy("a")]


def test_completed_reduces_stay_when_their_tracker_is_lost():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("b", M0, 1)
    assert story.reduced("b", 1) == []
    assert story.lose("b") == []
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0,))]
    assert story.reduced("a", 0) == [commit(R0, R1)]


def test_maps_that_only_completed_reduces_needed_do_not_run_again():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("b", M0, 1)
    story.reduced("a", 0)
    assert story.lose("a") == []
    assert story.reduced("b", 1) == [commit(R0, R1)]


def test_when_every_tracker_is_lost_the_job_waits_and_does_over_what_is_not_reduced():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("b", M0, 1)
    story.reduced("b", 1)
    assert story.lose("a") == [launch_map("b", 0, number=1, partitions=2)]
    assert story.lose("b") == []
    assert story.join("c", 2) == [init("c")]
    assert story.ready("c") == [launch_map("c", 0, number=2, partitions=2)]
    again = map_attempt(0, 2)
    assert story.mapped("c", 0, 2) == [shuffle("c", ("c", again, (0,)))]
    assert story.fetched("c", again, 0) == [launch_reduce("c", 0, maps=(again,))]
    assert story.reduced("c", 0) == [commit(R0, R1)]


def test_a_tracker_that_is_lost_while_the_job_commits_changes_nothing():
    story = Story(a=1, b=1)
    story.begin(maps=0, reducers=2)
    story.reduced("a", 0)
    story.reduced("b", 1)
    assert story.lose("a") == []
    assert story.committed() == [destroy("b")]
    assert story.job.outcome is Outcome.SUCCEEDED


# ---- trackers that come late


def test_a_tracker_that_joins_late_gets_maps():
    story = Story(a=1)
    story.begin(maps=3)
    assert story.join("b", 2) == [init("b")]
    assert story.ready("b") == [launch_map("b", 1), launch_map("b", 2)]


def test_a_tracker_that_joins_late_gets_its_share_of_the_partitions():
    story = Story(a=1)
    story.begin(maps=1, reducers=4)
    story.mapped("a", 0)
    assert story.fetched("a", M0, 0, 1, 2, 3) == [launch_reduce("a", 0, maps=(M0,))]
    story.join("b", 1)
    assert story.ready("b") == [shuffle("b", ("a", M0, (2, 3)))]
    assert story.fetched("b", M0, 2, 3) == [launch_reduce("b", 2, maps=(M0,))]


def test_partitions_that_are_reduced_do_not_count_as_load():
    story = Story(a=1)
    story.begin(maps=1, reducers=4)
    story.mapped("a", 0)
    story.fetched("a", M0, 0, 1, 2, 3)
    story.reduced("a", 0)
    story.reduced("a", 1)  # Now Reduce002 runs, and Reduce003 waits.
    story.join("b", 1)
    assert story.ready("b") == [shuffle("b", ("a", M0, (3,)))]
    story = Story(a=1)
    story.begin(maps=1, reducers=3)
    story.mapped("a", 0)
    story.fetched("a", M0, 0, 1, 2)
    story.reduced("a", 0)
    story.reduced("a", 1)  # Now Reduce002 runs: nothing is left to share.
    story.join("b", 1)
    assert story.ready("b") == []


def test_partitions_do_not_move_to_a_late_tracker_if_maps_would_have_to_run_again():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=4)
    story.mapped("b", 1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0, 2)
    story.fetched("a", M1, 0, 2)
    story.fetched("b", M0, 1, 3)
    story.fetched("b", M1, 1, 3)
    story.reduced("b", 1)
    story.reduced("b", 3)
    assert story.lose("b") == []
    story.join("c", 1)
    assert story.ready("c") == []
    assert story.reduced("a", 0) == [launch_reduce("a", 2, maps=(M0, M1))]


def test_a_tracker_that_joins_a_job_that_is_over_is_not_told_of_it():
    story = Story(a=1)
    story.begin(maps=0)
    story.reduced("a", 0)
    assert story.join("b") == []
    assert story.committed() == [destroy("a")]
    assert story.join("c") == []
    story.destroyed()
    assert story.join("d") == []


# ---- initJob


def test_a_job_that_can_be_initialised_nowhere_fails_with_the_last_error():
    story = Story(a=1, b=1)
    story.submit(maps=1)
    assert story.refuse("a", PytxmrError("disk full on a")) == []
    assert story.refuse("b", PytxmrError("disk full on b")) == [destroy("a", "b")]
    assert story.job.outcome is Outcome.FAILED
    assert str(story.job.error) == "disk full on b"


def test_a_job_that_can_be_initialised_somewhere_runs_there():
    story = Story(a=1, b=1)
    story.submit(maps=2)
    assert story.refuse("a") == []
    assert story.ready("b") == [launch_map("b", 0)]
    assert story.mapped("b", 0)[-1] == launch_map("b", 1)


def test_a_tracker_that_refused_is_asked_again_once_there_is_no_other():
    story = Story(a=1, b=1)
    story.submit(maps=1)
    story.refuse("a")
    story.ready("b")
    assert story.lose("b") == [init("a")]
    assert story.refuse("a", PytxmrError("disk still full")) == [destroy("a")]
    assert str(story.job.error) == "disk still full"


def test_an_answer_to_init_that_comes_twice_or_too_late_changes_nothing():
    story = Story(a=1)
    story.begin(maps=1)
    assert story.refuse("a") == []
    assert story.ready("a") == []
    story.kill()
    assert story.ready("a") == []
    assert story.refuse("a") == []
