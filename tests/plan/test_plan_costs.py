"""An event costs the same in a large job as in a small one."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import contextmanager

import pytest
from story import PORTS, Story

from pytxmr.plan import cluster
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import Outcome

PLAN = cluster.__file__.rpartition("cluster")[0]


@contextmanager
def counted_lines():
    """A list of one number: how many lines of the plan have run since."""
    lines = [0]

    def count(frame, event, arg):
        lines[0] += event == "line"
        return count

    def enter(frame, event, arg):
        return count if frame.f_code.co_filename.startswith(PLAN) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield lines
    finally:
        sys.settrace(before)


def lines_to_run(maps, failing=None, **workers):
    """What the plan takes to run a job of 8 reduces; ``failing``: where each first map fails."""
    with counted_lines() as lines:
        story = Story(**workers)
        orders = deque(story.submit(maps=maps, reducers=8))
        while orders:
            order = orders.popleft()
            tracker = getattr(order, "tracker", "")
            match order:
                case ev.InitJob():
                    orders += story.ready(tracker)
                case ev.LaunchMap() if tracker == failing:
                    orders += story.ended_badly(tracker, order.attempt)
                case ev.LaunchMap():
                    task, number = order.attempt.task, order.attempt.number
                    orders += story.mapped(tracker, task.index, number)
                case ev.Shuffle():
                    for output, partitions in order.wanted:
                        orders += story.fetched(tracker, output.attempt, *partitions)
                case ev.LaunchReduce():
                    orders += story.reduced(tracker, order.attempt.task.index, order.attempt.number)
                case ev.CommitJob():
                    orders += story.committed()
                case ev.DestroyJob():
                    orders += story.destroyed()
    assert story.job.outcome is Outcome.SUCCEEDED
    return lines[0]


@pytest.mark.parametrize("trackers", [1, 4])
def test_the_work_grows_in_proportion_to_the_maps(trackers):
    workers = dict.fromkeys(list(PORTS)[:trackers], 2)
    small, large = (lines_to_run(maps, **workers) for maps in (150, 600))
    assert large < 4.4 * small


def test_it_does_so_too_if_every_map_fails_on_one_tracker():
    small, large = (lines_to_run(maps, failing="a", a=2, b=2) for maps in (150, 600))
    assert large < 4.4 * small


def test_a_tracker_that_does_not_initialise_the_job_makes_no_event_dearer():
    def lines(maps):
        with counted_lines() as lines:
            story = Story(a=1, b=1)
            story.submit(maps=maps)
            story.ready("a")
            for index in range(50):
                story.mapped("a", index)
        return lines[0]

    assert lines(2000) - lines(100) < 50 * 50 + 30 * 1900


@pytest.mark.parametrize("reducers", [8, 64])
def test_losing_a_tracker_looks_at_each_map_once_or_twice(reducers):
    def lines(maps):
        story = Story(a=1, b=1)
        story.begin(maps=maps, reducers=reducers)
        for index in range(maps):
            orders = story.mapped("b" if index % 2 else "a", index)
            for order in orders:
                if isinstance(order, ev.Shuffle):
                    for output, partitions in order.wanted:
                        story.fetched(order.tracker, output.attempt, *partitions)
        with counted_lines() as lines:
            story.lose("b")
        return lines[0]

    assert lines(400) < 4.4 * lines(100)
