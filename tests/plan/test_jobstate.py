"""What becomes of one job, told as lists of events."""

from __future__ import annotations

import pytest
from story import (
    Story,
    broken,
    commit,
    destroy,
    init,
    launch_map,
    launch_reduce,
    map_attempt,
    output,
    reduce_attempt,
    shuffle,
)

from pytxmr.errors import JobFailed, PytxmrError, SpillDamaged
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import Outcome, Phase

M0, M1, M2 = map_attempt(0), map_attempt(1), map_attempt(2)
R0, R1 = reduce_attempt(0), reduce_attempt(1)

# ---- when all goes well


def test_a_job_goes_through_its_five_verbs_to_success():
    story = Story(a=2)
    assert story.submit(maps=2, reducers=1) == [init("a")]
    assert story.ready("a") == [launch_map("a", 0), launch_map("a", 1)]
    assert story.mapped("a", 1) == [shuffle("a", ("a", M1, (0,)))]
    assert story.job.phase is Phase.MAPPING
    assert story.mapped("a", 0) == [shuffle("a", ("a", M0, (0,)))]
    assert story.job.phase is Phase.REDUCING
    assert story.fetched("a", M1, 0) == []
    assert story.fetched("a", M0, 0) == [launch_reduce("a", 0, maps=(M0, M1))]
    assert story.reduced("a", 0) == [commit(R0)]
    assert story.job.phase is Phase.COMMITTING
    assert story.committed() == [destroy("a")]
    assert (story.job.phase, story.job.outcome) == (Phase.ENDING, Outcome.SUCCEEDED)
    assert story.destroyed() == []
    assert story.job.phase is Phase.ENDED
    assert story.job.error is None


def test_outputs_are_shuffled_as_each_map_ends_while_others_still_run():
    story = Story(a=2, b=2)
    assert story.begin(maps=3, reducers=2) == [
        launch_map("a", 0, partitions=2),
        launch_map("a", 1, partitions=2),
        launch_map("b", 2, partitions=2),
    ]
    assert story.mapped("b", 2) == [
        shuffle("a", ("b", M2, (0,))),
        shuffle("b", ("b", M2, (1,))),
    ]
    assert story.mapped("a", 0) == [
        shuffle("a", ("a", M0, (0,))),
        shuffle("b", ("a", M0, (1,))),
    ]
    assert story.job.phase is Phase.MAPPING


def test_a_partition_is_reduced_once_all_its_segments_are_there_whatever_the_others_do():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=2)
    story.mapped("a", 0)
    story.mapped("b", 1)
    assert story.fetched("a", M0, 0) == []
    assert story.fetched("b", M0, 1) == []
    assert story.fetched("b", M1, 1) == [launch_reduce("b", 1, maps=(M0, M1))]
    assert story.reduced("b", 1) == []
    assert story.fetched("a", M1, 0) == [launch_reduce("a", 0, maps=(M0, M1))]
    assert story.reduced("a", 0) == [commit(R0, R1)]


def test_a_worker_that_falls_free_gets_the_next_map():
    story = Story(a=1)
    assert story.begin(maps=3) == [launch_map("a", 0)]
    assert story.mapped("a", 0)[1:] == [launch_map("a", 1)]
    assert story.mapped("a", 1)[1:] == [launch_map("a", 2)]


def test_partitions_are_spread_in_proportion_to_workers():
    story = Story(a=3, b=1)
    story.begin(maps=1, reducers=8)
    orders = story.mapped("a", 0)
    homes = {order.tracker: order.wanted[0][1] for order in orders}
    assert {home: len(partitions) for home, partitions in homes.items()} == {"a": 6, "b": 2}
    assert sorted(homes["a"] + homes["b"]) == list(range(8))


def test_a_job_with_empty_input_reduces_nothing_and_succeeds():
    story = Story(a=1, b=1)
    assert story.submit(maps=0, reducers=2) == [init("a"), init("b")]
    assert story.ready("a") == [launch_reduce("a", 0)]
    assert story.ready("b") == [launch_reduce("b", 1)]
    assert story.reduced("a", 0) == []
    assert story.reduced("b", 1) == [commit(R0, R1)]
    assert story.committed() == [destroy("a", "b")]
    assert story.job.outcome is Outcome.SUCCEEDED


def test_empty_input_survives_the_loss_of_every_tracker():
    story = Story(a=1)
    assert story.begin(maps=0) == [launch_reduce("a", 0)]
    assert story.lose("a") == []
    assert story.join("b") == [init("b")]
    assert story.ready("b") == [launch_reduce("b", 0, number=1)]
    assert story.reduced("b", 0, 1) == [commit(reduce_attempt(0, 1))]


def test_there_are_as_many_reducers_as_the_cluster_has_workers_when_the_job_starts():
    story = Story(a=2, b=3)
    story.submit(maps=1, reducers=None)
    assert story.job.partitions == 5
    story.join("c", 4)
    assert story.job.partitions == 5


def test_a_job_waits_for_the_first_tracker():
    story = Story()
    assert story.submit(maps=1, reducers=None) == []
    assert story.job.phase is Phase.QUEUED
    assert story.join("a", 2) == [init("a")]
    assert story.job.partitions == 2
    assert story.ready("a") == [launch_map("a", 0, partitions=2)]


def test_what_is_kept_is_said_when_the_job_is_destroyed():
    story = Story(a=1)
    story.begin(maps=0, keep=True)
    story.reduced("a", 0)
    assert story.committed() == [destroy("a", keep=True)]


def test_of_a_job_that_did_not_end_well_nothing_is_kept():
    story = Story(a=1)
    story.begin(maps=1, keep=True)
    assert story.kill() == [destroy("a", keep=False)]


# ---- counters, and reports that come twice or late


def test_counters_are_the_sums_over_the_attempts_that_count():
    story = Story(a=2)
    story.begin(maps=2)
    story.mapped("a", 0, lines=3, words=5)
    story.mapped("a", 1, lines=4)
    story.fetched("a", M0, 0)
    story.fetched("a", M1, 0)
    assert story.reduced("a", 0, groups=2) == [commit(R0, lines=7, words=5, groups=2)]


def test_every_report_may_come_twice():
    story = Story(a=2)
    story.begin(maps=2)
    for _ in range(2):
        story.ready("a")
        story.mapped("a", 0, lines=1)
        story.mapped("a", 1, lines=1)
    assert story.fetched("a", M0, 0) == []
    assert story.fetched("a", M0, 0) == []
    assert story.fetched("a", M1, 0) == [launch_reduce("a", 0, maps=(M0, M1))]
    assert story.fetched("a", M1, 0) == []
    assert story.reduced("a", 0, groups=1) == [commit(R0, lines=2, groups=1)]
    assert story.reduced("a", 0, groups=1) == []
    assert story.committed() == [destroy("a")]
    assert story.committed() == []
    assert story.destroyed() == story.destroyed() == []
    assert story.job.counters() == {"lines": 2, "groups": 1}


def test_a_failure_that_is_reported_twice_counts_once():
    story = Story(a=1)
    story.begin(maps=1, max_attempts=3)
    assert story.failed("a", M0) == [launch_map("a", 0, number=1)]
    assert story.failed("a", M0) == []
    assert story.job.maps[0].failures == 1


def test_a_fetch_failure_that_comes_twice_or_late_runs_the_map_once_again():
    story = Story(a=1, b=1)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    assert story.finds_gone("b", M0) == [launch_map("b", 0, number=1, partitions=2)]
    assert story.finds_gone("b", M0) == []
    assert story.finds_gone("a", M0) == []
    story.mapped("b", 0, 1)
    assert story.finds_gone("a", M0) == []
    assert story.job.maps[0].winner == map_attempt(0, 1)


def test_success_and_failure_of_one_attempt_count_as_what_came_first():
    story = Story(a=1)
    story.begin(maps=1)
    story.mapped("a", 0)
    assert story.ended_badly("a", M0) == []
    assert story.job.maps[0].failures == 0

    story = Story(a=1)
    story.begin(maps=1)
    story.ended_badly("a", M0)
    assert story.mapped("a", 0) == []
    assert story.job.maps[0].winner is None


def test_what_is_said_of_attempts_that_never_were_is_ignored():
    story = Story(a=1, b=1)
    story.begin(maps=2, reducers=1)
    assert story.mapped("b", 0) == []
    assert story.mapped("a", 7) == []
    assert story.mapped("a", 0, 3) == []
    assert story.reduced("a", 0) == []
    assert story.fetched("a", map_attempt(9), 0) == []
    assert story.fetched("a", map_attempt(0, 5), 0) == []
    assert story.fetched("a", reduce_attempt(0), 0) == []
    assert story.fetched("a", M0, 0, -1, 99) == []
    assert story.finds_gone("a", map_attempt(9)) == []
    assert story.ended_badly("a", map_attempt(9)) == []
    story.mapped("a", 0)
    assert story.fetched("a", map_attempt(1, 5), 0) == []
    assert story.mapped("b", 1) == [shuffle("a", ("b", M1, (0,)))]
    assert story.fetched("a", M0, 0) == []
    assert story.fetched("a", M1, 0) == [launch_reduce("a", 0, maps=(M0, M1))]


def test_an_event_that_nobody_knows_is_a_bug():
    story = Story(a=1)
    story.begin(maps=1)
    with pytest.raises(TypeError, match="Job001 knows no event"):
        story.job.handle(ev.Tick(), 0.0)


# ---- attempts that fail


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


# ---- outputs that cannot be had


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


# ---- how jobs end


def test_a_commit_that_fails_fails_the_job():
    story = Story(a=1)
    story.begin(maps=0)
    story.reduced("a", 0)
    error = PytxmrError("cannot commit to /out: No space left on device")
    assert story.tell(ev.CommitFailed("Job001", error)) == [destroy("a")]
    assert (story.job.outcome, story.job.error) == (Outcome.FAILED, error)


def after_submission(story):
    story.submit(maps=1)


def while_mapping(story):
    story.begin(maps=2)


def while_reducing(story):
    story.begin(maps=1)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)


@pytest.mark.parametrize("beginning", [after_submission, while_mapping, while_reducing])
def test_a_killed_job_is_destroyed_and_hears_of_nothing_more(beginning):
    story = Story(a=1, b=1)
    beginning(story)
    assert story.kill() == [destroy("a", "b")]
    assert story.job.outcome is Outcome.KILLED
    assert str(story.job.error) == "Job001 was killed: enough"
    assert story.kill() == []
    assert story.mapped("a", 0) == []
    assert story.fetched("a", M0, 0) == []
    assert story.reduced("a", 0) == []
    assert story.finds_gone("a", M0) == []
    assert story.ended_badly("a", M0) == []
    assert story.lose("a") == []
    assert story.cluster.free_workers() == {"b": 1}
    assert story.job.phase is Phase.ENDING
    story.destroyed()
    assert story.job.phase is Phase.ENDED
    assert story.kill() == []


def test_a_job_that_waits_for_a_tracker_can_be_killed():
    story = Story()
    story.submit(maps=1)
    assert story.kill() == [destroy()]
    assert story.join("a") == []
    assert story.job.outcome is Outcome.KILLED


def test_a_job_that_is_killed_while_it_commits_ends_as_killed_when_the_commit_is_over():
    story = Story(a=1)
    story.begin(maps=0)
    story.reduced("a", 0)
    assert story.kill() == []
    assert story.committed() == [destroy("a")]
    assert story.job.outcome is Outcome.KILLED
    assert story.job.error is not None  # which has its output discarded


def test_a_job_that_has_committed_cannot_be_killed():
    story = Story(a=1)
    story.begin(maps=0)
    story.reduced("a", 0)
    assert story.committed() == [destroy("a")]
    assert story.kill() == []
    assert story.job.outcome is Outcome.SUCCEEDED


def test_the_job_is_destroyed_wherever_it_was_or_was_about_to_be_initialised():
    story = Story(a=1, b=1, c=1)
    story.submit(maps=0, reducers=1)
    story.ready("b")
    story.refuse("c")
    story.join("d")
    assert story.reduced("b", 0) == [commit(R0)]
    story.ready("a")
    story.refuse("d")
    story.join("e")
    assert story.committed() == [destroy("b", "a", "d", "c")]


def test_a_lost_tracker_is_not_told_to_destroy_the_job():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    story.lose("a")
    assert story.kill() == [destroy("b")]


def test_workers_that_a_late_map_still_holds_while_its_job_commits_are_not_free():
    story = Story(a=1, b=1)
    story.begin(maps=1)
    story.mapped("a", 0)
    story.finds_gone("a", M0)
    story.fetched("a", M0, 0)
    assert story.reduced("a", 0) == [commit(R0)]
    assert story.cluster.free_workers() == {"a": 1, "b": 0}
    assert story.ended_badly("b", map_attempt(0, 1)) == []
    assert story.cluster.free_workers() == {"a": 1, "b": 1}


def test_the_addresses_of_outputs_are_those_of_the_trackers():
    story = Story(a=1, b=1)
    story.begin(maps=2)
    (order,) = story.mapped("b", 1)
    assert order.wanted == ((output("b", M1), (0,)),)
    assert order.wanted[0][0].address == ("host", 9001)
