"""What becomes of one job, told as lists of events."""

from __future__ import annotations

import pytest
from story import (
    Story,
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

from pytxmr.errors import PytxmrError
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


def test_what_the_attempts_that_count_wrote_for_outputs_by_name_is_committed():
    story = Story(a=2, b=2)
    story.begin(maps=1, reducers=2)
    story.mapped("a", 0)
    story.fetched("a", M0, 0)
    story.fetched("b", M0, 1)
    written = {
        R0: (("errors", 1, "x"), ("late", 2, "y")),
        R1: (("errors", 3, "z"), ("late", 0, "")),
    }
    story.tell(ev.ReduceSucceeded("Job001", "b", R1, 10, "sha", {}, written[R1]))
    orders = story.tell(ev.ReduceSucceeded("Job001", "a", R0, 10, "sha", {}, written[R0]))
    assert orders[-1].outputs == (
        (R0, "errors", 1, "x"),
        (R0, "late", 2, "y"),
        (R1, "errors", 3, "z"),
        (R1, "late", 0, ""),
    )


def test_what_maps_wrote_for_outputs_by_name_is_committed_in_a_job_without_reduces():
    story = Story(a=1)
    story.begin(maps=1, reducers=0)
    written = (("errors", 1, "x"),)
    orders = story.tell(ev.MapSucceeded("Job001", "a", M0, (), {}, {}, "sha", 10, written))
    assert orders[-1].outputs == ((M0, "errors", 1, "x"),)


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
