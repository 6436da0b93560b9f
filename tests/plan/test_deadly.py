"""The record that kills workers is found by probes, few of them, whatever the way it does so."""

from __future__ import annotations

from itertools import count
from math import ceil, log2

import pytest
from story import Story, destroy, map_attempt

from pytxmr.errors import AttemptFailed, DiskFailed, WorkerDied
from pytxmr.model import AttemptId
from pytxmr.plan import events as ev
from pytxmr.plan.deadly import MOST_SPOILT, Culprits, InVain, Search
from pytxmr.plan.snapshot import from_snapshot, to_snapshot

KILLED = "the worker process was killed by signal 11 (SIGSEGV)"
SEVERAL = (1, 2, 3, 4, 7, 8, 9, 31)


def died(number=None):
    details = {} if number is None else {"record_number": number, "where": f"record {number}"}
    return WorkerDied(KILLED, **details)


def outcome(dies, records, window, needs_first=False):
    """How a probe ends if ``dies(numbers given)``: as a worker and its tracker tell it."""
    given = range(window[0] + 1, min(window[1], records) + 1)
    if dies(given):
        return died(given[-1] if given else None)
    where = f"record {given[-1]}" if given else ""
    raised = needs_first and bool(given) and given[0] > 1
    return AttemptFailed("outlived", survived=True, records=records, raised=raised, where=where)


def searched(dies, records, noted=0, needs_first=False):
    """What a search finds, and how many probes it takes."""
    search = Search.begun(map_attempt(0), died(), noted)
    for probes in range(1, 1000):
        found = search.ended(outcome(dies, records, search.window, needs_first))
        if found is not None:
            return found, probes
    raise AssertionError("it does not end")


def bound(records):
    return 2 * ceil(log2(records)) + 7


@pytest.mark.parametrize("noted", [0, 1])
@pytest.mark.parametrize("records", SEVERAL)
def test_a_record_that_kills_by_itself_is_found_wherever_it_is(records, noted):
    for deadly in range(1, records + 1):
        found, probes = searched(lambda given, deadly=deadly: deadly in given, records, noted)
        assert found == Culprits(deadly, deadly, f"record {deadly}")
        assert probes <= ceil(log2(records)) + 4


@pytest.mark.parametrize("records", SEVERAL)
def test_of_several_the_first_is_found(records):
    for first in range(1, records + 1):
        found, _ = searched(lambda given, first=first: {first, first + 3, 20} & {*given}, records)
        assert found.first == found.last == min(first, 20)


@pytest.mark.parametrize("later", [1, 2, 5])
@pytest.mark.parametrize("records", SEVERAL)
def test_one_that_kills_some_records_later_is_found_and_where_it_shows(records, later):
    for deadly in range(1, records - later + 1):

        def dies(given, deadly=deadly):
            return deadly in given and given[-1] >= deadly + later

        found, probes = searched(dies, records, noted=deadly + later)
        assert found == Culprits(deadly, deadly + later, f"record {deadly}")
        assert probes <= bound(records)


def test_what_all_records_together_kill_is_found_to_be_that():
    found, probes = searched(lambda given: len(given) > 600, 1000)
    assert found == Culprits(1, 601, "record 1")
    assert probes <= bound(1000)


def test_a_mapper_that_needs_the_first_record_does_not_lead_astray():
    def dies(given):
        return 7 in given and 1 in given

    assert searched(dies, 20, needs_first=True)[0] == Culprits(7, 7, "record 7")


def test_it_is_no_record_if_workers_die_without_any():
    found, probes = searched(lambda given: True, 20)
    assert (found, probes) == (Culprits(0, 0), 1)


@pytest.mark.parametrize("records", [0, *SEVERAL])
@pytest.mark.parametrize("once", range(8))
def test_what_dies_now_and_then_is_blamed_on_no_record(records, once):
    """Once at any step, that is."""
    probes = count()
    with pytest.raises(InVain):
        searched(lambda given: next(probes) == once > 0, records)


def test_probes_that_tell_nothing_are_made_again_but_not_for_ever():
    search = Search.begun(map_attempt(0), died(), 3)
    for _ in range(MOST_SPOILT - 1):
        assert search.ended(DiskFailed("full")) is None
        assert search.window == (2, 3)
    with pytest.raises(InVain):
        search.ended(DiskFailed("full"))


# ---- as a part of the plan


class Mapping(Story):
    """One map of ``records`` records that dies as ``dies(numbers given)`` says, and whose attempts
    run one after the other."""

    def __init__(self, dies, records, notes=lambda given: None, **trackers):
        super().__init__(**trackers)
        self.dies, self.records, self.notes = dies, records, notes
        self.orders = []

    def begin(self, **more):
        self.orders += super().begin(maps=1, **more)

    def go_on(self, most=200):
        """Until the map has succeeded, or the job is destroyed. Returns how many attempts ran."""
        for _ in range(most):
            if not self.orders:
                self.orders += self.rest()
            if self.job.outcome is not None:
                break
            (order,) = [order for order in self.orders if isinstance(order, ev.LaunchMap)]
            self.orders.clear()
            skip = {number for number, _ in order.skip}
            low, high = order.window or (0, self.records)
            given = [n for n in range(low + 1, high + 1) if n not in skip]
            if self.dies(given):
                noted = (given[-1] if given else None) if order.window else self.notes(given)
                self.orders += self.failed(order.tracker, order.attempt, died(noted))
            elif order.window is None:
                done = ev.MapSucceeded("Job001", order.tracker, order.attempt, (1,))
                self.orders += self.tell(done)
                break
            else:
                where = f"record {given[-1]}" if given else ""
                ended = AttemptFailed("", survived=True, records=self.records, where=where)
                self.orders += self.failed(order.tracker, order.attempt, ended)
        return self.job.maps[0].attempts

    @property
    def skipped(self):
        return [number for number, _ in self.job.maps[0].skip]


def test_a_job_that_may_skip_none_fails_naming_the_record():
    story = Mapping(lambda given: 77 in given, 100, a=1)
    story.begin()
    assert story.go_on() == 4 + 1 + 7 + 2
    assert story.orders == [destroy("a")]
    assert story.job.error.message == (
        f"Map001 failed 4 times: {KILLED}; it dies of record 77 of the split"
    )
    assert story.job.error.details["where"] == "record 77"
    assert story.job.error.details["attempt"] == "Map001.3"


def test_one_that_may_skip_it_goes_on_without():
    story = Mapping(lambda given: {7, 9} & {*given}, 100, a=1, b=2)
    story.begin(skip_bad_records=2)
    story.go_on()
    assert story.skipped == [7, 9]
    assert story.job.maps[0].winner is not None


def test_a_record_that_was_noted_and_is_harmless_is_not_skipped():
    """It kills three records later; the note tells of the one that was at hand then."""

    def dies(given):
        return 5 in given and len([number for number in given if number > 5]) >= 3

    story = Mapping(dies, 40, lambda given: given[given.index(5) + 3], a=1)
    story.begin(skip_bad_records=9)
    story.go_on()
    assert story.skipped == [5]
    ((_, reason),) = story.job.maps[0].skip
    assert reason == (
        f"{KILLED}; it dies of records 5 to 8 of the split together, and lives without the first "
        "or the last of them"
    )


def test_what_records_kill_together_is_not_skipped_one_by_one():
    story = Mapping(lambda given: len(given) >= 30, 40, a=1)
    story.begin(skip_bad_records=1000)
    assert story.go_on() <= 4 + 2 * bound(40) + 1
    assert story.orders == [destroy("a")]
    assert "it dies of records 2 to 31 of the split together" in story.job.error.message


def test_what_kills_workers_for_a_while_fails_no_job():
    """They die four times; then whatever it was is over, which a search finds out."""
    story = Mapping(lambda given: story.job.maps[0].attempts <= 4, 40, a=1)
    story.begin(skip_bad_records=9)
    story.go_on()
    assert story.job.maps[0].winner is not None
    assert story.skipped == []


def test_a_second_search_in_vain_is_the_last():
    """As a whole it dies always, but no probe does: say, since these are slower."""
    story = Mapping(lambda given: story.job.maps[0].search is None, 40, lambda given: 40, a=1)
    story.begin()
    story.go_on()
    assert story.orders == [destroy("a")]
    assert story.job.error.message == f"Map001 failed 5 times: {KILLED}"


def test_probes_count_neither_as_failures_nor_against_trackers():
    story = Mapping(lambda given: 77 in given, 100, a=1, b=1)
    story.begin(skip_bad_records=1)
    story.go_on()
    assert story.job.failures == story.job.maps[0].failures == 4


def test_a_search_goes_on_when_a_probe_is_lost_with_its_tracker():
    story = Mapping(lambda given: 3 in given, 8, a=1)
    story.begin()
    story.go_on(most=6)
    (lost,) = story.orders
    assert lost.window == (0, 2)
    story.lose("a")
    story.join("b")
    story.orders = story.ready("b")
    (again,) = story.orders
    assert (again.tracker, again.window) == ("b", lost.window)
    assert again.attempt != lost.attempt
    story.go_on()
    assert story.job.error.details["where"] == "record 3"


def test_an_attempt_that_is_no_probe_says_nothing_about_one():
    """A backup was under way as the search began: it may die, too, or succeed."""
    story = Mapping(lambda given: True, 8, a=1)
    story.begin(max_attempts=1)
    task = story.job.maps[0]
    story.failed("a", map_attempt(0), died())
    assert task.search.window == (0, 0)
    assert not task.probes(AttemptId(task.id, 0))
    assert task.window_of(AttemptId(task.id, 0)) is None


@pytest.mark.parametrize("dies", [{3}, {3, 4}, {*range(1, 10)}])
def test_a_search_survives_the_jobtracker_at_any_step(dies):
    story = Mapping(lambda given: dies & {*given}, 9, a=1)
    story.begin(skip_bad_records=1)
    while story.job.outcome is None and story.job.maps[0].winner is None:
        story.go_on(most=1)
        read = from_snapshot(to_snapshot(story.job))
        assert read.maps == story.job.maps
        story.cluster.jobs["Job001"] = read
    assert story.skipped == [min(dies)]
