"""Small decisions: which tracker, which partition, which pending task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from story import map_attempt, output

from pytxmr.plan.lease import Lease
from pytxmr.plan.pending import PendingTasks
from pytxmr.plan.policy import choose_tracker, least_loaded
from pytxmr.plan.shuffleplan import ShufflePlan

# ---- which tracker


@pytest.mark.parametrize(
    ("free", "avoid", "ready", "chosen"),
    [
        ({"a": 1, "b": 2}, "", "ab", "b"),  # the most idle
        ({"b": 1, "a": 1}, "", "ab", "a"),  # the lowest id
        ({"a": 2, "b": 1}, "a", "ab", "b"),  # one that did not fail
        ({"a": 2, "b": 0}, "a", "ab", None),  # which is worth waiting for
        ({"a": 2, "b": 0}, "ab", "ab", "a"),  # if there is one
        ({"a": 2}, "a", "a", "a"),
        ({"a": 2, "b": 1}, "a", "a", "a"),  # and it knows the job
        ({"a": 2, "b": 1}, "", "b", "b"),
        ({"a": 0}, "", "a", None),
        ({"a": 1}, "", "", None),
        ({}, "", "", None),
    ],
)
def test_the_tracker_of_the_next_attempt(free, avoid, ready, chosen):
    assert choose_tracker(free, set(avoid), set(ready)) == chosen


@pytest.mark.parametrize(
    ("load", "workers", "avoid", "chosen"),
    [
        ({}, {"a": 1, "b": 1}, "", "a"),
        ({"a": 1}, {"a": 1, "b": 1}, "", "b"),
        ({"a": 1}, {"a": 4, "b": 1}, "", "a"),
        ({}, {"a": 1, "b": 1}, "a", "b"),
        ({}, {"a": 1}, "a", "a"),
        ({"z": 9}, {"a": 1}, "", "a"),
        ({}, {}, "", None),
    ],
)
def test_the_home_of_the_next_partition(load, workers, avoid, chosen):
    assert least_loaded(load, workers, set(avoid)) == chosen


def test_a_lease_is_good_up_to_its_end():
    lease = Lease.granted(100.0, 10.0)
    assert [lease.expired(now) for now in (0.0, 109.9, 110.0, 1e9)] == [False, False, True, True]


# ---- pending tasks


def test_pending_tasks_come_lowest_first_whatever_they_avoid():
    pending = PendingTasks()
    for index, avoid in [(4, ""), (2, "a"), (3, "b"), (0, "ab"), (1, "a")]:
        pending.add(index, set(avoid))
    asked = []

    def choose(avoid):
        asked.append(avoid)
        return None if "b" in avoid else "b"

    taken = []
    while found := pending.first(choose, 0.0):
        pending.remove(found[0])
        taken.append(found)
    assert taken == [(1, "b"), (2, "b"), (4, "b")]
    assert pending.first(lambda avoid: "c", 0.0) == (0, "c")
    pending.remove(0)
    assert pending.first(lambda avoid: "c", 0.0) == (3, "c")
    pending.remove(3)
    assert pending.first(lambda avoid: "c", 0.0) is None


def test_any_pending_task_may_be_taken_out():
    pending = PendingTasks()
    for index in range(6):
        pending.add(index, {"a"} if index % 2 else ())
    for index in (5, 2):
        pending.remove(index)
    left = []
    while found := pending.first(lambda avoid: "c", 0.0):
        pending.remove(found[0])
        left.append(found[0])
    assert (left, len(pending)) == ([0, 1, 3, 4], 0)


def test_one_question_answers_for_all_tasks_that_avoid_the_same():
    pending = PendingTasks()
    for index in range(1000):
        pending.add(index, {"a"})
    asked = []
    assert pending.first(asked.append, 0.0) is None
    assert asked == [frozenset("a")]


def test_a_task_that_rests_goes_only_where_it_need_not_be_avoided_until_it_has_rested():
    pending = PendingTasks()
    pending.add(0, "a", until=3.0)
    pending.add(1, "a", until=2.0)
    assert pending.first(lambda avoid: "a", 1.9) is None
    assert pending.first(lambda avoid: "b", 1.9) == (1, "b")
    pending.remove(1)
    assert pending.first(lambda avoid: "a", 2.9) is None
    assert pending.first(lambda avoid: "a", 3.0) == (0, "a")
    pending.remove(0)
    assert len(pending) == 0


# ---- the plan of the shuffle


def plan_of(maps, partitions, **workers):
    plan = ShufflePlan(maps, partitions)
    plan.settle(workers)
    return plan


def test_homes_are_given_in_proportion_and_only_to_the_homeless():
    plan = plan_of(1, 6, a=2, b=1)
    assert plan.load() == {"a": 4, "b": 2}
    before = list(plan.home)
    plan.settle({"c": 100})
    assert plan.home == before


def test_without_trackers_partitions_stay_homeless_and_nobody_is_asked():
    plan = plan_of(1, 2)
    plan.add(output("a", map_attempt(0)))
    assert plan.home == [None, None]
    assert plan.to_ask() == {}
    plan.settle({"b": 1})
    assert plan.to_ask() == {"b": ((output("a", map_attempt(0)), (0, 1)),)}


def test_each_home_is_told_of_an_output_once():
    plan = plan_of(2, 2, a=1, b=1)
    plan.add(output("a", map_attempt(0)))
    assert set(plan.to_ask()) == {"a", "b"}
    assert plan.to_ask() == {}
    plan.add(output("a", map_attempt(1)))
    assert plan.to_ask()["a"] == ((output("a", map_attempt(1)), (0,)),)


def test_a_new_home_is_told_of_all_outputs_that_there_are():
    plan = plan_of(3, 1, a=1)
    for index in range(3):
        plan.add(output("a", map_attempt(index)))
    plan.to_ask()
    plan.fetched("a", map_attempt(0), [0])
    plan.lose(1)
    plan.move(0, "b")
    assert plan.arrived == [{}]
    wanted = tuple((output("a", map_attempt(index)), (0,)) for index in (0, 2))
    assert plan.to_ask() == {"b": wanted}


def test_only_what_arrives_at_the_home_counts():
    plan = plan_of(1, 2, a=1, b=1)
    plan.fetched("a", map_attempt(0), [0, 1])
    assert plan.arrived == [{0: map_attempt(0)}, {}]
    assert plan.whole == {0}


def test_a_partition_that_is_done_needs_nothing():
    plan = plan_of(1, 2, a=1)
    assert plan.needs(0)
    plan.fetched("a", map_attempt(0), [0])
    plan.finish(0, "a")
    assert plan.needs(0)
    plan.finish(1, "a")
    assert not plan.needs(0)
    plan.add(output("a", map_attempt(0)))
    plan.fetched("a", map_attempt(0), [0, 1])
    assert (plan.to_ask(), plan.whole, plan.load()) == ({}, set(), {})


def test_a_second_home_is_told_of_what_there_is_and_counts_as_load_until_it_is_done():
    plan = plan_of(2, 1, a=1)
    plan.add(output("a", map_attempt(0)))
    plan.add(output("a", map_attempt(1)))
    plan.to_ask()
    plan.back_up(0, "b")
    assert plan.load() == {"a": 1, "b": 1}
    plan.lose(1)
    assert plan.to_ask() == {"b": ((output("a", map_attempt(0)), (0,)),)}
    plan.fetched("b", map_attempt(0), [0])
    assert plan.whole_at_second() == []
    plan.fetched("b", map_attempt(1), [0])
    assert plan.whole_at_second() == [(0, "b")]
    plan.finish(0, "b")
    assert (plan.home, plan.second, plan.load()) == (["b"], {}, {})


@hypothesis_settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.integers(1, 5),
    st.integers(1, 30),
)
def test_a_newcomer_gets_partitions_until_the_load_is_even(counts, new, partitions):
    workers = {f"t{number}": count for number, count in enumerate(counts)}
    plan = plan_of(1, partitions, **workers)
    before = list(plan.home)
    workers["new"] = new
    plan.share_with("new", workers, range(partitions))
    moved = [plan.home[p] for p in range(partitions) if plan.home[p] != before[p]]
    assert set(moved) <= {"new"}
    load = plan.load()
    fullest = max(load[tracker] / count for tracker, count in workers.items())
    assert fullest <= (load["new"] + 1) / new or fullest == load["new"] / new
    assert load["new"] / new <= fullest
    settled = list(plan.home)
    plan.share_with("new", workers, range(partitions))
    assert plan.home == settled
