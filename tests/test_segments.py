"""What a tracker gathers for the partitions that it will reduce."""

import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pytxmr import segments
from pytxmr.errors import NotFound, SpillDamaged, Unreachable
from pytxmr.model import AttemptId, Segment
from pytxmr.records.columns import Groups
from pytxmr.records.spill import SpillWriter
from pytxmr.segments import FETCH_TRIES, Segments
from pytxmr.store import KeyValueStore

M1, M1_AGAIN = AttemptId.parse("Map001.0"), AttemptId.parse("Map001.1")


class Fetches:
    """Stands in for the fetcher: remembers what is asked, answers when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[AttemptId, tuple[int, ...], str]] = []
        self.answers: list[Deferred[dict[int, Segment]]] = []

    def fetch(self, address, key, job, attempt, partitions, path) -> Any:
        self.asked.append((attempt, partitions, path))
        self.answers.append(Deferred())
        return self.answers[-1]

    def arrive(self) -> None:
        _, partitions, path = self.asked[-1]
        self.answers[-1].callback({p: Segment(path, p * 100, 100) for p in partitions})


class Tracker:
    def __init__(self, place: Path) -> None:
        self.clock = Clock()
        self.facts: list[dict[str, Any]] = []
        self.fetches = Fetches()
        self.store = KeyValueStore(str(place / "store"))
        self.store.add_job("Job001", b"key")
        fetcher: Any = self.fetches
        self.segments = Segments(
            self.clock, "Job001", b"key", str(place), self.store, fetcher, self.facts.append
        )

    def gather(self, attempt: AttemptId, *partitions: int, tracker: str = "other.1") -> None:
        wanted = {"attempt": str(attempt), "partitions": list(partitions), "tracker": tracker}
        self.segments.gather([wanted | {"host": "127.0.0.1", "port": 1}], "here.1")

    def told(self) -> list[tuple[str, str, list[int]]]:
        found = [(f["fact"], f["attempt"], f.get("partitions", [])) for f in self.facts]
        self.facts.clear()
        return found


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return Tracker(tmp_path)


def test_what_arrives_is_reported_and_handed_out_in_the_order_of_the_maps(tracker: Tracker) -> None:
    tracker.gather(M1, 0, 2)
    assert tracker.told() == []
    tracker.fetches.arrive()
    assert tracker.told() == [("fetched", "Map001.0", [0, 2])]
    (segment,) = tracker.segments.of_partition(2, ["Map001.0"])
    assert segment.offset == 200
    assert tracker.segments.map_of(2, segment.path) == 0
    assert tracker.segments.map_of(2, "elsewhere") is None


def test_what_is_under_way_is_not_asked_for_twice(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.gather(M1, 0)
    assert len(tracker.fetches.asked) == 1


def test_what_is_here_is_reported_at_once_when_it_is_asked_for_again(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.fetches.arrive()
    tracker.told()
    tracker.gather(M1, 0, 1)
    assert tracker.told() == [("fetched", "Map001.0", [0])]
    assert [partitions for _, partitions, _ in tracker.fetches.asked] == [(0,), (1,)]


def test_a_later_attempt_stands_beside_an_earlier_one(tracker: Tracker) -> None:
    tracker.gather(M1, 0, 1)
    tracker.fetches.arrive()
    tracker.gather(M1_AGAIN, 0)
    tracker.fetches.arrive()
    (earlier,) = tracker.segments.of_partition(0, ["Map001.0"])
    (later,) = tracker.segments.of_partition(0, ["Map001.1"])
    assert earlier.path != later.path
    assert tracker.segments.map_of(0, earlier.path) == tracker.segments.map_of(0, later.path) == 0
    with pytest.raises(SpillDamaged, match="Map001.1 is not here") as caught:
        tracker.segments.of_partition(1, ["Map001.1"])
    assert caught.value.details["map_index"] == 0


def test_thousands_of_partitions_of_a_map_cost_one_step_and_not_one_each(tracker: Tracker) -> None:
    def lines_run(partitions: int) -> int:
        count = 0

        def trace(frame: Any, event: str, arg: object) -> Any:
            nonlocal count
            count += event == "line" and frame.f_code.co_filename == segments.__file__
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            tracker.gather(AttemptId.parse(f"Map{partitions:03d}.0"), *range(partitions))
            tracker.fetches.arrive()
            tracker.gather(AttemptId.parse(f"Map{partitions:03d}.0"), *range(partitions))
        finally:
            sys.settrace(before)
        return count

    # Some more may be those of an earlier test's coroutine, which is collected just now.
    assert lines_run(900) < lines_run(3) + 100


def test_a_fetch_is_tried_again_after_a_pause_and_then_reported_as_failed(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    for number in range(1, FETCH_TRIES + 1):
        assert len(tracker.fetches.asked) == number
        tracker.fetches.answers[-1].errback(Unreachable("connection lost"))
        if number < FETCH_TRIES:
            assert tracker.told() == []
        tracker.clock.advance(10)
    assert tracker.told() == [("fetch-failed", "Map001.0", [])]
    tracker.gather(M1, 0)
    tracker.clock.advance(10)
    assert len(tracker.fetches.asked) == FETCH_TRIES + 1


def test_pauses_between_fetches_grow_and_go_on_growing_when_it_is_asked_for_again(
    tracker: Tracker,
) -> None:
    pauses = []
    for _ in range(3):
        tracker.gather(M1, 0)
        for _ in range(FETCH_TRIES):
            began = tracker.clock.seconds()
            while len(tracker.fetches.asked) == len(pauses):
                tracker.clock.advance(0.001)
            pauses.append(tracker.clock.seconds() - began)
            tracker.fetches.answers[-1].errback(Unreachable("connection lost"))
    for pause, most in zip(pauses, [0.0, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0], strict=True):
        assert most / 2 <= pause <= most + 0.01
    assert [fact["rounds"] for fact in tracker.facts] == [1, 2, 3]


def test_requests_for_one_output_that_fail_together_are_one_round(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.gather(M1, 1)
    for _ in range(FETCH_TRIES):
        for answer in [answer for answer in tracker.fetches.answers if not answer.called]:
            answer.errback(Unreachable("connection lost"))
        tracker.clock.advance(10)
    assert [fact["rounds"] for fact in tracker.facts] == [1, 1]


def test_what_waits_to_be_fetched_again_is_not_once_the_job_is_over(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.fetches.answers[-1].errback(Unreachable("connection lost"))
    tracker.segments.close()
    tracker.clock.advance(10)
    assert len(tracker.fetches.asked) == 1
    assert tracker.told() == []


def test_what_the_source_does_not_have_is_not_asked_for_again(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.fetches.answers[-1].errback(NotFound("no output of Map001.0 here"))
    assert tracker.told() == [("fetch-failed", "Map001.0", [])]


def test_a_map_that_ran_here_is_read_where_it_lies(tracker: Tracker) -> None:
    path = tracker.store.spill_path("Job001", M1)
    writer = SpillWriter(path, 2)
    writer.write(1, Groups(["a"], None, [1]))
    ranges = writer.close()
    tracker.store.add_spill("Job001", M1)
    tracker.gather(M1, 0, 1, tracker="here.1")
    assert tracker.told() == [("fetched", "Map001.0", [0, 1])]
    assert tracker.fetches.asked == []
    assert tracker.segments.of_partition(1, ["Map001.0"]) == [
        Segment(path, ranges[1].offset, ranges[1].length)
    ]


def test_nothing_is_reported_once_the_job_is_over(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.gather(M1, 1)
    tracker.segments.close()
    tracker.fetches.arrive()
    tracker.fetches.answers[0].errback(Unreachable("connection lost"))
    assert tracker.told() == []


def test_a_fetch_is_not_tried_again_once_the_job_is_over(tracker: Tracker) -> None:
    tracker.gather(M1, 0)
    tracker.fetches.answers[-1].errback(Unreachable("connection lost"))
    tracker.segments.close()
    tracker.clock.advance(10)
    assert len(tracker.fetches.asked) == 1


def test_a_job_that_came_back_here_does_not_share_files_with_its_life_before(
    tracker: Tracker,
) -> None:
    tracker.gather(M1, 0, 1)
    tracker.segments.close()
    fetcher: Any = tracker.fetches
    again = Segments(
        tracker.clock, "Job001", b"key", "fetched", tracker.store, fetcher, tracker.facts.append
    )
    wanted = {"attempt": str(M1), "partitions": [0], "tracker": "other.1"}
    again.gather([wanted | {"host": "127.0.0.1", "port": 1}], "here.2")
    before, now = (Path(path).name for _, _, path in tracker.fetches.asked)
    assert before != now
