"""The only truth about a job: its tasks, their attempts, who holds which map output.

A pure state machine: `JobState.handle` takes an event and returns instructions. The life of a job::

    QUEUED ──a tracker is there──▶ MAPPING ──every map done──▶ REDUCING ──every reduce done──┐
                                      ◀──an output is lost──                                 ▼
    ENDED ◀──JobDestroyed── ENDING ◀──committed, failed or killed── ... ◀───────── COMMITTING

- A *task* is pending, running or done; it may have several attempts, one of which wins.
- A map is done while its output can be had or is no longer needed. If its tracker is lost, or the
  output cannot be fetched, it goes back to pending if, and only if, a reduce still lacks it.
- An attempt that fails counts against its task, up to ``max_attempts``; one that is lost with its
  tracker, or that stumbled over somebody else's damaged output, does not.
- Reports of attempts that are not running any more are ignored, so each may come twice or late.

Which attempt goes where is decided by `next_launch`, which `plan.cluster` calls while workers are
free. Reduces run at the home of their partition (see `plan.shuffleplan`) once every map's segment has
arrived there, so that no worker ever waits for a fetch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pytxmr.errors import JobFailed, PytxmrError, SpillDamaged
from pytxmr.model import MAP, REDUCE, AttemptId, MapOutput, TaskId
from pytxmr.plan import events as ev
from pytxmr.plan.policy import choose_tracker, least_loaded
from pytxmr.plan.shuffleplan import ShufflePlan


class Phase(StrEnum):
    QUEUED = "queued"
    MAPPING = "mapping"
    REDUCING = "reducing"
    COMMITTING = "committing"
    ENDING = "ending"
    ENDED = "ended"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(slots=True)
class Task:
    """The work and its tries. ``winner`` is set while the task is done."""

    id: TaskId
    running: dict[AttemptId, str] = field(default_factory=dict)
    attempts: int = 0
    failures: int = 0
    failed_on: set[str] = field(default_factory=set)
    winner: AttemptId | None = None
    counters: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0
    digest: str = ""

    @property
    def pending(self) -> bool:
        return self.winner is None and not self.running

    def launch(self, tracker: str) -> AttemptId:
        attempt = AttemptId(self.id, self.attempts)
        self.attempts += 1
        self.running[attempt] = tracker
        return attempt


class JobState:
    """One job. ``trackers`` maps each tracker that has initialised the job to its workers."""

    def __init__(self, submitted: ev.JobSubmitted) -> None:
        self.job = submitted.job
        self.keep = submitted.keep
        self.phase = Phase.QUEUED
        self.outcome: Outcome | None = None
        self.error: PytxmrError | None = None
        self.trackers: dict[str, int] = {}
        self.maps = [Task(TaskId(MAP, i)) for i in range(submitted.maps)]
        self.reduces: list[Task] = []
        self.outputs: dict[int, MapOutput] = {}
        self._reducers = submitted.reducers
        self._max_attempts = submitted.max_attempts
        self._initialising: dict[str, int] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._shuffle = ShufflePlan(0)

    # ---- how far the job is

    @property
    def active(self) -> bool:
        """Does it launch attempts?"""
        return self.phase in (Phase.MAPPING, Phase.REDUCING)

    @property
    def partitions(self) -> int:
        return len(self.reduces)

    def counters(self) -> dict[str, int]:
        """The sums over the attempts that count."""
        total: dict[str, int] = {}
        for task in (*self.maps, *self.reduces):
            for name, count in task.counters.items():
                total[name] = total.get(name, 0) + count
        return total

    # ---- events

    def handle(self, event: ev.Event) -> list[ev.Instruction]:
        """Take one event; return what shall be done. Events that no longer count do nothing."""
        if self.phase is Phase.ENDED:
            return []
        match event:
            case ev.TrackerJoined():
                return self._tracker_joined(event)
            case ev.TrackerLost():
                return self._tracker_lost(event.tracker)
            case ev.JobInitialised():
                return self._initialised(event.tracker)
            case ev.InitFailed():
                return self._init_failed(event)
            case ev.MapSucceeded():
                return self._map_succeeded(event)
            case ev.ReduceSucceeded():
                return self._reduce_succeeded(event)
            case ev.AttemptEndedBadly():
                return self._attempt_ended_badly(event)
            case ev.SegmentsFetched():
                self._shuffle.fetched(event.tracker, event.attempt, event.partitions)
                return []
            case ev.FetchFailed():
                return self._fetch_failed(event)
            case ev.JobCommitted():
                return self._end(Outcome.SUCCEEDED)
            case ev.CommitFailed():
                return self._end(Outcome.FAILED, event.error)
            case ev.KillJob():
                return self._end(
                    Outcome.KILLED, JobFailed(f"{self.job} was killed: {event.reason}")
                )
            case ev.JobDestroyed():
                self.phase = Phase.ENDED
                return []
        raise TypeError(f"{self.job} knows no event {event!r}")

    def start(self, workers: int) -> list[ev.Instruction]:
        """Begin, on a cluster with so many workers."""
        assert self.phase is Phase.QUEUED
        self.reduces = [Task(TaskId(REDUCE, i)) for i in range(self._reducers or max(1, workers))]
        self._shuffle = ShufflePlan(len(self.reduces))
        self.phase = Phase.MAPPING if self.maps else Phase.REDUCING
        return [ev.InitJob(self.job, tracker) for tracker in self._initialising]

    def _tracker_joined(self, event: ev.TrackerJoined) -> list[ev.Instruction]:
        self._addresses[event.tracker] = event.address
        self._initialising[event.tracker] = event.workers
        return [ev.InitJob(self.job, event.tracker)] if self.active else []

    def _initialised(self, tracker: str) -> list[ev.Instruction]:
        workers = self._initialising.pop(tracker, None)
        if workers is None or not self.active:
            return []
        self.trackers[tracker] = workers
        if any(self._shuffle.home):
            movable = [task.id.index for task in self.reduces if task.pending]
            self._shuffle.even_out(self.trackers, movable)
        elif self.phase is Phase.REDUCING:
            self._shuffle.settle(self.trackers, ())
        return self._ask()

    def _init_failed(self, event: ev.InitFailed) -> list[ev.Instruction]:
        self._initialising.pop(event.tracker, None)
        if self.active and not self._initialising and not self.trackers:
            return self._end(Outcome.FAILED, event.error)
        return []

    def _map_succeeded(self, event: ev.MapSucceeded) -> list[ev.Instruction]:
        task = self._running(event.attempt, event.tracker)
        if task is None or not self.active:
            return []
        task.running.pop(event.attempt)
        if task.winner is None:
            task.winner, task.counters = event.attempt, event.counters
        address = self._addresses[event.tracker]
        self.outputs[task.id.index] = MapOutput(
            event.attempt, event.tracker, address, event.partition_bytes
        )
        self._shuffle.settle(self.trackers, self._reduced())
        if all(task.winner for task in self.maps):
            self.phase = Phase.REDUCING
        return self._ask()

    def _reduce_succeeded(self, event: ev.ReduceSucceeded) -> list[ev.Instruction]:
        task = self._running(event.attempt, event.tracker)
        if task is None or not self.active:
            return []
        task.running.pop(event.attempt)
        task.winner, task.counters = event.attempt, event.counters
        task.size_bytes, task.digest = event.size_bytes, event.digest
        if not all(reduce.winner for reduce in self.reduces):
            return []
        self.phase = Phase.COMMITTING
        winners = tuple(
            (reduce.winner, reduce.size_bytes, reduce.digest)
            for reduce in self.reduces
            if reduce.winner
        )
        return [ev.CommitJob(self.job, winners, self.counters())]

    def _attempt_ended_badly(self, event: ev.AttemptEndedBadly) -> list[ev.Instruction]:
        task = self._running(event.attempt, event.tracker)
        if task is None:
            return []
        task.running.pop(event.attempt)
        if not self.active:
            return []
        if isinstance(event.error, SpillDamaged) and task.id.kind == REDUCE:
            return self._damaged(task.id.index, event.error)
        task.failures += 1
        task.failed_on.add(event.tracker)
        if event.error.details.get("final") or task.failures >= self._max_attempts:
            return self._end(Outcome.FAILED, self._explained(task, event))
        if task.id.kind == REDUCE:
            self._move(task.id.index, avoid=task.failed_on)
        return self._ask()

    def _explained(self, task: Task, event: ev.AttemptEndedBadly) -> JobFailed:
        times = "once" if task.failures == 1 else f"{task.failures} times"
        return JobFailed(
            f"{task.id} failed {times}: {event.error.message}",
            **event.error.details | {"task": str(task.id), "attempt": str(event.attempt)},
        )

    def _damaged(self, partition: int, error: SpillDamaged) -> list[ev.Instruction]:
        """A reduce found a bad block: fetch it again, from a new run of the map that wrote it."""
        index = error.details.get("map_index")
        found = self._shuffle.arrived[partition]
        for attempt in [found[index]] if index in found else list(found.values()):
            self._shuffle.forget(attempt, partition)
            output = self.outputs.get(attempt.task.index)
            if output is not None and output.attempt == attempt:
                self._lose_output(attempt.task.index)
        return self._ask()

    def _fetch_failed(self, event: ev.FetchFailed) -> list[ev.Instruction]:
        output = self.outputs.get(event.attempt.task.index)
        if not self.active or output is None or output.attempt != event.attempt:
            return []
        self._shuffle.forget(event.attempt)
        self._lose_output(event.attempt.task.index)
        return self._ask()

    def _lose_output(self, index: int) -> None:
        """Forget an output; its map goes back to pending if a reduce still lacks it."""
        self.outputs.pop(index, None)
        self._pend_if_needed(index)

    def _pend_if_needed(self, index: int) -> None:
        if index in self.outputs:
            return
        for reduce in self.reduces:
            if reduce.winner is None and self._shuffle.lacks(index, reduce.id.index):
                self.maps[index].winner = None
                self.phase = Phase.MAPPING
                return

    def _tracker_lost(self, tracker: str) -> list[ev.Instruction]:
        self._initialising.pop(tracker, None)
        self.trackers.pop(tracker, None)
        for task in (*self.maps, *self.reduces):
            for attempt in [a for a, where in task.running.items() if where == tracker]:
                task.running.pop(attempt)
        if not self.active:
            return []
        for partition, home in enumerate(self._shuffle.home):
            if home == tracker and self.reduces[partition].winner is None:
                self._move(partition)
        for index in [i for i, output in self.outputs.items() if output.tracker == tracker]:
            self.outputs.pop(index)
        for index in range(len(self.maps)):
            self._pend_if_needed(index)
        return self._ask()

    def _move(self, partition: int, avoid: set[str] | frozenset[str] = frozenset()) -> None:
        load: dict[str, int] = {}
        for home in self._shuffle.home:
            if home is not None:
                load[home] = load.get(home, 0) + 1
        chosen = least_loaded(load, self.trackers, avoid)
        if chosen is None or chosen != self._shuffle.home[partition]:
            self._shuffle.move(partition, chosen)
            for index in range(len(self.maps)):
                self._pend_if_needed(index)

    def _ask(self) -> list[ev.Instruction]:
        """Tell the homes of what there is to fetch that they were not told of yet."""
        done = self._reduced()
        if any(home is None for home in self._shuffle.home) and any(self._shuffle.home):
            self._shuffle.settle(self.trackers, done)
        asked = self._shuffle.to_ask(self.outputs.values(), done)
        return [ev.Shuffle(self.job, tracker, wanted) for tracker, wanted in asked.items()]

    def _reduced(self) -> set[int]:
        return {task.id.index for task in self.reduces if task.winner is not None}

    def _end(self, outcome: Outcome, error: PytxmrError | None = None) -> list[ev.Instruction]:
        if self.phase in (Phase.ENDING, Phase.ENDED):
            return []
        self.phase, self.outcome, self.error = Phase.ENDING, outcome, error
        for task in (*self.maps, *self.reduces):
            task.running.clear()
        everywhere = tuple({*self.trackers, *self._initialising})
        return [ev.DestroyJob(self.job, everywhere, self.keep)]

    def _running(self, attempt: AttemptId, tracker: str) -> Task | None:
        """The task of an attempt that runs on that tracker; None if it no longer does."""
        tasks = self.maps if attempt.task.kind == MAP else self.reduces
        if attempt.task.index >= len(tasks):
            return None
        task = tasks[attempt.task.index]
        return task if task.running.get(attempt) == tracker else None

    # ---- decisions

    def next_launch(self, free: Mapping[str, int]) -> ev.LaunchMap | ev.LaunchReduce | None:
        """The next attempt to start, given each tracker's free workers; None if there is none."""
        if not self.active:
            return None
        for task in self.maps:
            if task.pending:
                tracker = choose_tracker(free, task.failed_on, self.trackers)
                if tracker is not None:
                    attempt = task.launch(tracker)
                    return ev.LaunchMap(self.job, tracker, attempt, self.partitions)
        for task in self.reduces:
            partition = task.id.index
            home = self._shuffle.home[partition]
            arrived = self._shuffle.arrived[partition]
            if task.pending and home and free.get(home) and len(arrived) == len(self.maps):
                attempt = task.launch(home)
                maps = tuple(arrived[index] for index in range(len(self.maps)))
                return ev.LaunchReduce(self.job, home, attempt, maps)
        return None
