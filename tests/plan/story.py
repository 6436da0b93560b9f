"""A cluster as a story: events told one after the other, each answered by instructions."""

from __future__ import annotations

from typing import Any

from pytxmr.errors import (
    AttemptFailed,
    DiskFailed,
    NotFound,
    PytxmrError,
    SpillDamaged,
    Unreachable,
)
from pytxmr.model import MAP, REDUCE, AttemptId, MapOutput, TaskId
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import ClusterState
from pytxmr.plan.jobstate import RETRY_SECONDS, JobState

JOB = "Job001"
PORTS = {name: 9000 + number for number, name in enumerate("abcdefgh")}


def map_attempt(index: int, number: int = 0) -> AttemptId:
    return AttemptId(TaskId(MAP, index), number)


def reduce_attempt(index: int, number: int = 0) -> AttemptId:
    return AttemptId(TaskId(REDUCE, index), number)


def init(tracker: str, job: str = JOB) -> ev.InitJob:
    return ev.InitJob(job, tracker)


def launch_map(
    tracker: str, index: int, number: int = 0, partitions: int = 1, job: str = JOB
) -> ev.LaunchMap:
    return ev.LaunchMap(job, tracker, map_attempt(index, number), partitions)


def launch_reduce(
    tracker: str, index: int, number: int = 0, maps: tuple[AttemptId, ...] = (), job: str = JOB
) -> ev.LaunchReduce:
    return ev.LaunchReduce(job, tracker, reduce_attempt(index, number), maps)


def shuffle(
    tracker: str, *wanted: tuple[str, AttemptId, tuple[int, ...]], job: str = JOB
) -> ev.Shuffle:
    """``wanted``: the tracker that has an output, the map attempt, the partitions to get."""
    return ev.Shuffle(
        job,
        tracker,
        tuple((output(where, attempt), partitions) for where, attempt, partitions in wanted),
    )


def output(tracker: str, attempt: AttemptId) -> MapOutput:
    return MapOutput(attempt, tracker, address(tracker), (1,))


def address(tracker: str) -> tuple[str, int]:
    return ("host", PORTS[tracker[0]])


def broken(message: str = "no luck", **details: Any) -> AttemptFailed:
    return AttemptFailed(message, **details)


class Story:
    """Trackers are named by a letter; the id of a later incarnation begins with the same letter.

    Every method tells one event, and returns the instructions that it gives.
    """

    def __init__(self, **workers: int) -> None:
        self.cluster = ClusterState(lease_seconds=10.0)
        self.now = 0.0
        for tracker, count in workers.items():
            self.join(tracker, count)

    @property
    def job(self) -> JobState:
        return self.cluster.jobs[JOB]

    def tell(self, event: ev.Event) -> list[ev.Instruction]:
        return self.cluster.handle(event, self.now)

    # ---- trackers

    def join(self, tracker: str, workers: int = 1) -> list[ev.Instruction]:
        return self.tell(ev.TrackerJoined(tracker, tracker[0], workers, address(tracker)))

    def lose(self, tracker: str) -> list[ev.Instruction]:
        return self.tell(ev.TrackerLost(tracker, "gone"))

    def beat(self, now: float, **fractions: tuple[AttemptId, float]) -> list[ev.Instruction]:
        """Every tracker beats; of those named an attempt has got so far. Then time has passed."""
        self.now = now
        for tracker in list(self.cluster.trackers):
            progress = ((JOB, *fractions[tracker]),) if tracker in fractions else ()
            self.tell(ev.Heartbeat(tracker, progress))
        return self.tell(ev.Tick())

    def rest(self) -> list[ev.Instruction]:
        """The longest pause before a retry goes by."""
        return self.beat(self.now + RETRY_SECONDS[1])

    # ---- jobs

    def submit(
        self, maps: int, reducers: int | None = 1, job: str = JOB, **more: Any
    ) -> list[ev.Instruction]:
        return self.tell(ev.JobSubmitted(job, maps, reducers, **more))

    def ready(self, *trackers: str, job: str = JOB) -> list[ev.Instruction]:
        return [
            order for tracker in trackers for order in self.tell(ev.JobInitialised(job, tracker))
        ]

    def refuse(self, tracker: str, error: PytxmrError | None = None) -> list[ev.Instruction]:
        return self.tell(ev.InitFailed(JOB, tracker, error or PytxmrError("disk full")))

    def begin(self, maps: int, reducers: int = 1, **more: Any) -> list[ev.Instruction]:
        """Submit, and initialise everywhere."""
        orders = self.submit(maps, reducers, **more)
        return self.ready(*(order.tracker for order in orders), job=more.get("job", JOB))

    def mapped(
        self,
        tracker: str,
        index: int,
        number: int = 0,
        job: str = JOB,
        digest: str = "",
        **counters: int,
    ) -> list[ev.Instruction]:
        attempt = map_attempt(index, number)
        return self.tell(ev.MapSucceeded(job, tracker, attempt, (1,), counters, {}, digest))

    def reduced(
        self, tracker: str, index: int, number: int = 0, job: str = JOB, **counters: int
    ) -> list[ev.Instruction]:
        attempt = reduce_attempt(index, number)
        return self.tell(ev.ReduceSucceeded(job, tracker, attempt, 10, "sha", counters))

    def fetched(
        self, tracker: str, attempt: AttemptId, *partitions: int, job: str = JOB
    ) -> list[ev.Instruction]:
        return self.tell(ev.SegmentsFetched(job, tracker, attempt, partitions))

    def cannot_fetch(
        self, tracker: str, attempt: AttemptId, rounds: int = 1
    ) -> list[ev.Instruction]:
        error = Unreachable("no answer")
        return self.tell(ev.FetchFailed(JOB, tracker, attempt, error, rounds))

    def has_no_room(
        self, tracker: str, attempt: AttemptId, rounds: int = 1
    ) -> list[ev.Instruction]:
        error = DiskFailed("No space left on device")
        return self.tell(ev.FetchFailed(JOB, tracker, attempt, error, rounds))

    def finds_gone(self, tracker: str, attempt: AttemptId) -> list[ev.Instruction]:
        return self.tell(ev.FetchFailed(JOB, tracker, attempt, NotFound("no such output")))

    def ended_badly(
        self, tracker: str, attempt: AttemptId, error: PytxmrError | None = None
    ) -> list[ev.Instruction]:
        return self.tell(ev.AttemptEndedBadly(JOB, tracker, attempt, error or broken()))

    def failed(
        self, tracker: str, attempt: AttemptId, error: PytxmrError | None = None
    ) -> list[ev.Instruction]:
        """An attempt ends badly, and then its task has rested."""
        return self.ended_badly(tracker, attempt, error) + self.rest()

    def damaged(
        self, tracker: str, attempt: AttemptId, map_index: int | None = None
    ) -> list[ev.Instruction]:
        details = {} if map_index is None else {"map_index": map_index}
        return self.ended_badly(tracker, attempt, SpillDamaged("bad block", **details))

    def committed(self, job: str = JOB) -> list[ev.Instruction]:
        return self.tell(ev.JobCommitted(job))

    def kill(self, job: str = JOB) -> list[ev.Instruction]:
        return self.tell(ev.KillJob(job, "enough"))

    def destroyed(self, job: str = JOB) -> list[ev.Instruction]:
        return self.tell(ev.JobDestroyed(job))


def destroy(*trackers: str, keep: bool = False, job: str = JOB) -> ev.DestroyJob:
    return ev.DestroyJob(job, trackers, keep)


def commit(*winners: AttemptId, job: str = JOB, **counters: int) -> ev.CommitJob:
    return ev.CommitJob(job, tuple((winner, 10, "sha") for winner in winners), counters)


def kill_attempt(tracker: str, attempt: AttemptId, job: str = JOB) -> ev.KillAttempt:
    return ev.KillAttempt(job, tracker, attempt)
