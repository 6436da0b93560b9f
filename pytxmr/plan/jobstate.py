"""The only truth about a job: its tasks, their attempts, who holds which map output.

A pure state machine: `JobState.handle` takes an event and returns instructions. But for how far
attempts have got nothing else changes it: the same events at the same times make the same state.
The life of a job::

    QUEUED ──a tracker is there──▶ MAPPING ──every map done──▶ REDUCING ──every reduce done──┐
                                      ◀──an output is lost──                                 ▼
    ENDED ◀──JobDestroyed── ENDING ◀──committed, failed or killed── ... ◀───────── COMMITTING

- A *task* is pending, running or done; it may have several attempts, one of which wins.
- A map is done while its output can be had or is no longer needed. If its tracker is lost, or the
  output cannot be fetched, it goes back to pending if, and only if, a reduce still lacks it.
- An attempt that fails counts against its task, up to ``max_attempts``; one that is lost with its
  tracker, or that stumbled over somebody else's damaged output, does not, nor do probes for records
  that kill workers (see `plan.deadly`). Damage, and fetches that fail, count against the map: its
  output may be lost ``max_attempts`` times, so that it ends.
- A fetch that fails is tried again, by the same tracker, until several trackers have failed with
  that output, or one has too often; only then is it lost. If it is gone or damaged, it is at once.
- A task that failed rests before it is tried again where it has failed; elsewhere it goes at once.
  Trackers on which several tasks failed are avoided (see `plan.blame`).
- All reduces read the same run of a map. If one that ran again put out something else, by its
  digest, reduces that read the run before start again, also those that were done.
- An attempt that is slow may get a backup, once; a reduce as soon as a second home has gathered its
  partition. As one of the two succeeds the other is killed, and counts no more: neither as a
  failure, nor with its counters. The partitions that wait at a tracker that was outrun move, and
  so does, once, one that lags far behind the others in being gathered.
- Reports of attempts that are not running any more are ignored, so each may come twice or late.
- A tracker that cannot initialise the job is not used, unless it is the last one left.
- A job without reduces commits what its maps have written; no map that is done runs again.
- A commit is not disturbed: a job that is killed while it commits ends as killed thereafter.

Which attempt goes where is chosen by `plan.launching`; it starts as that is handled, as an event.
Reduces run at the home of their partition (see `plan.shuffleplan`) once every map's segment has
arrived there, so that no worker ever waits for a fetch. A job may have many thousands of maps, and
several events of each, so only the loss of a tracker and the failure of a reduce look at all of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from enum import StrEnum

from pytxmr.backoff import backoff_seconds
from pytxmr.errors import DiskFailed, JobFailed, NotFound, PytxmrError, SpillDamaged
from pytxmr.model import BAD_RECORDS, CHANGED_MAPS, MAP, REDUCE, AttemptId, MapOutput
from pytxmr.plan import events as ev
from pytxmr.plan.blame import TASKS_TO_BLAME, Blame
from pytxmr.plan.policy import least_loaded
from pytxmr.plan.shuffleplan import ShufflePlan
from pytxmr.plan.speculation import Gathering
from pytxmr.plan.tasks import Task, Tasks

#: Before a task that failed is tried again where it has failed: doubled from the first up to the
#: second. What was wrong there may be over by then; elsewhere it is tried at once.
RETRY_SECONDS = (0.2, 5.0)


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


class JobState:
    """One job, submitted at ``now``.

    ``trackers`` maps each tracker that has initialised the job to its workers; ``phase_seconds``
    has the time spent in each phase that is over, ``phase_began`` when the one at hand began.
    """

    def __init__(self, submitted: ev.JobSubmitted, now: float) -> None:
        self.job = submitted.job
        self.keep = submitted.keep
        self.speculate = submitted.speculate
        self.phase = Phase.QUEUED
        self.phase_began = now
        self.phase_seconds: dict[str, float] = {}
        self.outcome: Outcome | None = None
        self.error: PytxmrError | None = None
        self.trackers: dict[str, int] = {}
        self.tasks = Tasks(submitted.maps)
        self.reduces_done = 0
        self.failures = 0
        self.blame = Blame(TASKS_TO_BLAME)
        self._reducers = submitted.reducers
        self._max_attempts = submitted.max_attempts
        self._skip_bad_records = submitted.skip_bad_records
        self._kill_reason: str | None = None
        self._reduce_orders: dict[AttemptId, ev.LaunchReduce] = {}
        self._initialising: dict[str, int] = {}
        self._refusing: dict[str, int] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._maps_to_do = submitted.maps
        #: Trackers that have no place for what they fetch, and for how many rounds they had none.
        self._full: dict[str, int] = {}
        self._shuffle = ShufflePlan(0, 0)
        self.gathering = Gathering(now)

    # ---- how far the job is

    def progressed(self, tracker: str, attempt: AttemptId, fraction: float) -> None:
        """How much of its work an attempt has done, as its tracker says."""
        if self.tasks.running(attempt, tracker) is not None:
            self.tasks.paces[attempt.task.kind].progressed(attempt, fraction)

    def rests_until(self, attempt: AttemptId) -> float:
        """When the task of an attempt may be tried again where it has failed."""
        task = self.tasks.of(attempt)
        return 0.0 if task is None else task.rests_until

    @property
    def active(self) -> bool:
        """Does it launch attempts?"""
        return self.phase in (Phase.MAPPING, Phase.REDUCING)

    @property
    def keeps(self) -> bool:
        """Does what its maps put out stay when it has ended?"""
        return self.keep and self.outcome is Outcome.SUCCEEDED

    @property
    def maps(self) -> list[Task]:
        return self.tasks.maps

    @property
    def reduces(self) -> list[Task]:
        return self.tasks.reduces

    @property
    def running_on(self) -> Counter[str]:
        return self.tasks.running_on

    @property
    def maps_waiting(self) -> int:
        return self.tasks.maps_waiting

    @property
    def partitions(self) -> int:
        return len(self.reduces)

    @property
    def maps_done(self) -> int:
        return len(self.maps) - self._maps_to_do

    @property
    def shuffle(self) -> ShufflePlan:
        """Where partitions are reduced, and what has arrived there; for others to look at."""
        return self._shuffle

    @property
    def can_move(self) -> bool:
        """To move a partition is worth a fetch, but not that maps run again."""
        return len(self._shuffle.outputs) == len(self.maps) - self._maps_to_do

    def able(self, blame: Blame, now: float) -> Collection[str]:
        """The trackers that neither the job nor ``blame`` avoids, or all if there is no other, nor
        will be."""
        avoided = self.blame.avoided(now) | blame.avoided(now)
        able = [tracker for tracker in self.trackers if tracker not in avoided]
        return able if able or self._initialising.keys() - avoided else self.trackers

    def counters(self) -> dict[str, int]:
        """The sums over the attempts that count."""
        return dict(self.tasks.counters)

    # ---- events

    def handle(self, event: ev.Event, now: float) -> list[ev.Instruction]:
        """Take one event at ``now``; return what shall be done. Events that no longer count do
        nothing."""
        if self.phase is Phase.ENDED:
            return []
        before = self.phase
        orders = self._take(event, now)
        if self.phase is not before:
            spent = self.phase_seconds.get(before.value, 0.0) + now - self.phase_began
            self.phase_seconds[before.value] = spent
            self.phase_began = now
            self.gathering.begins(now)
        return orders

    def _take(self, event: ev.Event, now: float) -> list[ev.Instruction]:
        match event:
            case ev.JobStarted():
                return self._start(event.workers)
            case ev.Launched():
                return self._launched(event, now)
            case ev.BackupHome():
                return self._backup_home(event, now)
            case ev.TrackerJoined():
                return self._tracker_joined(event)
            case ev.TrackerLost():
                return self._tracker_lost(event.tracker, now)
            case ev.TrackerResumed():
                return self._standing_orders(event.tracker, now)
            case ev.JobInitialised():
                return self._initialised(event.tracker, now)
            case ev.InitFailed():
                return self._init_failed(event)
            case ev.MapSucceeded():
                return self._map_succeeded(event, now)
            case ev.ReduceSucceeded():
                return self._reduce_succeeded(event, now)
            case ev.AttemptEndedBadly():
                return self._attempt_ended_badly(event, now)
            case ev.SegmentsFetched():
                return self._segments_fetched(event)
            case ev.FetchFailed():
                return self._fetch_failed(event, now)
            case ev.JobCommitted():
                return self._committed()
            case ev.CommitFailed():
                return self._end(Outcome.FAILED, event.error)
            case ev.KillJob():
                return self._kill(event.reason)
            case ev.JobDestroyed():
                self.phase = Phase.ENDED
                return []
        raise TypeError(f"{self.job} knows no event {event!r}")

    # ---- where the job can run

    def _start(self, workers: int) -> list[ev.Instruction]:
        self.tasks.add_reduces(max(1, workers) if self._reducers is None else self._reducers)
        self._shuffle = ShufflePlan(len(self.maps), len(self.reduces))
        self.phase = Phase.MAPPING if self.maps else self._after_mapping
        if self.phase is Phase.COMMITTING:
            return self.own_orders()
        return [ev.InitJob(self.job, tracker) for tracker in self._initialising]

    def _tracker_joined(self, event: ev.TrackerJoined) -> list[ev.Instruction]:
        if self.phase in (Phase.COMMITTING, Phase.ENDING):
            return []
        self._addresses[event.tracker] = event.address
        self._initialising[event.tracker] = event.workers
        return [ev.InitJob(self.job, event.tracker)] if self.active else []

    def _initialised(self, tracker: str, now: float) -> list[ev.Instruction]:
        if not self.active or tracker not in self._initialising:
            return []
        self.trackers[tracker] = self._initialising.pop(tracker)
        if self.can_move:
            movable = [task.id.index for task in self.reduces if task.pending]
            self._shuffle.share_with(tracker, self.trackers, movable)
            self.gathering.begins(now)
        return self._ask(now)

    def _init_failed(self, event: ev.InitFailed) -> list[ev.Instruction]:
        if not self.active or event.tracker not in self._initialising:
            return []
        self._refusing[event.tracker] = self._initialising.pop(event.tracker)
        if not self._initialising and not self.trackers:
            return self._end(Outcome.FAILED, event.error)
        return []

    def _standing_orders(self, tracker: str, now: float) -> list[ev.Instruction]:
        """What a tracker is to do or to be doing, for one that may have missed some of it.

        Whatever it knows already it passes over.
        """
        if not self.active:
            return []
        if tracker in self._initialising:
            return [ev.InitJob(self.job, tracker)]
        orders: list[ev.Instruction] = []
        for task in self.tasks:
            for attempt in [a for a, where in task.running.items() if where == tracker]:
                if task.id.kind == MAP:
                    orders.append(self._map_order(task, tracker, attempt))
                else:
                    orders.append(self._reduce_orders[attempt])
        self._shuffle.tell_again(tracker)
        return orders + self._ask(now)

    def _tracker_lost(self, tracker: str, now: float) -> list[ev.Instruction]:
        for known in (self.trackers, self._initialising, self._refusing):
            known.pop(tracker, None)
        self.blame.forget(tracker)
        for task in self.tasks:
            for attempt in [a for a, where in task.running.items() if where == tracker]:
                self.tasks.stop(task, attempt)
        if not self.active:
            return []
        self._shuffle.give_up_seconds(tracker)
        for partition, home in enumerate(self._shuffle.home):
            if home == tracker and partition not in self._shuffle.done:
                self._move(partition, now)
        for index in [i for i, out in self._shuffle.outputs.items() if out.tracker == tracker]:
            self._shuffle.lose(index)
        self._map_again(range(len(self.maps)))
        return self._init_last_resort() + self._ask(now)

    def _init_last_resort(self) -> list[ev.Instruction]:
        if self.trackers or self._initialising:
            return []
        self._initialising, self._refusing = self._refusing, {}
        return [ev.InitJob(self.job, tracker) for tracker in self._initialising]

    # ---- how attempts end

    def _map_succeeded(self, event: ev.MapSucceeded, now: float) -> list[ev.Instruction]:
        task = self.tasks.running(event.attempt, event.tracker)
        if task is None or not self.active:
            return []
        self.blame.succeeded(event.tracker, now)
        changed = task.digest not in ("", event.digest)
        if changed and not self._shuffle.needs(task.id.index):
            # Meanwhile the output of the run before has arrived wherever it is read.
            return self._map_done(task, event.attempt, task.counters, now)
        task.changes += changed
        counters = event.counters | ({CHANGED_MAPS: task.changes} if task.changes else {})
        orders = self._map_done(task, event.attempt, counters, now)
        task.digest = event.digest
        task.bad_attempt = event.attempt if event.counters.get(BAD_RECORDS) else None
        task.first_bad = event.first_bad
        if self.tasks.counters.get(BAD_RECORDS, 0) > self._skip_bad_records:
            return self._fail("the maps", *self.tasks.too_many_bad(self._skip_bad_records))
        if not self.reduces:
            task.size_bytes, task.outputs = event.size_bytes, event.outputs
            return orders + self.own_orders()
        address = self._addresses[event.tracker]
        self._shuffle.add(MapOutput(event.attempt, event.tracker, address, event.partition_bytes))
        if changed:
            orders += self._use_only(task, event.attempt, now)
        self._relieve(orders, event.attempt, now)
        return orders + self._ask(now)

    def _map_done(
        self, task: Task, attempt: AttemptId, counters: dict[str, int], now: float
    ) -> list[ev.Instruction]:
        outrun = self._won(task, attempt, counters, now)
        self._maps_to_do -= 1
        if not self._maps_to_do:
            self.phase = self._after_mapping
        return outrun

    @property
    def _after_mapping(self) -> Phase:
        return Phase.REDUCING if self.reduces else Phase.COMMITTING

    def _won(
        self, task: Task, attempt: AttemptId, counters: dict[str, int], now: float
    ) -> list[ev.Instruction]:
        outrun = self.tasks.win(task, attempt, counters, now)
        return [ev.KillAttempt(self.job, tracker, other) for other, tracker in outrun]

    def _relieve(self, killed: list[ev.Instruction], winner: AttemptId, now: float) -> None:
        """A tracker whose attempt was outrun by a backup is as slow for what comes next: the
        partitions that wait there go elsewhere."""
        for order in killed:
            if order.attempt.task == winner.task and order.attempt.number < winner.number:
                self._give_away(order.tracker, now)

    def _give_away(self, tracker: str, now: float) -> None:
        """The partitions that wait there go elsewhere, if that costs no more than a fetch."""
        if self.can_move:
            for reduce in self.reduces:
                if reduce.pending and self._shuffle.home[reduce.id.index] == tracker:
                    self._move(reduce.id.index, now, avoid={tracker})

    def _use_only(self, task: Task, attempt: AttemptId, now: float) -> list[ev.Instruction]:
        """A map put out something else than in its run before: every reduce reads the new output,
        so those that have the old one, or are done over it, start again."""
        orders: list[ev.Instruction] = []
        task.oldest = attempt.number
        for partition in self._shuffle.holding(task.id.index):
            reduce = self.reduces[partition]
            for running, tracker in list(reduce.running.items()):
                self.tasks.stop(reduce, running)
                orders.append(ev.KillAttempt(self.job, tracker, running))
            if reduce.winner is not None:
                reduce.winner = None
                self.reduces_done -= 1
            self._shuffle.second.pop(partition, None)
            self._shuffle.forget(partition, task.id.index)
            if self._shuffle.home[partition] not in self.trackers:
                self._move(partition, now)
        self._map_again(range(len(self.maps)))
        return orders

    def _reduce_succeeded(self, event: ev.ReduceSucceeded, now: float) -> list[ev.Instruction]:
        task = self.tasks.running(event.attempt, event.tracker)
        if task is None or not self.active:
            return []
        orders = self._won(task, event.attempt, event.counters, now)
        self.blame.succeeded(event.tracker, now)
        self.reduces_done += 1
        if self.phase is Phase.REDUCING:
            self.gathering.reduced(now)
        task.size_bytes, task.digest = event.size_bytes, event.digest
        task.outputs = event.outputs
        self._shuffle.finish(task.id.index, event.tracker)
        if len(self._shuffle.done) < len(self.reduces):
            self._relieve(orders, event.attempt, now)
            return orders + self._ask(now)
        self.phase = Phase.COMMITTING
        return orders + self.own_orders()

    def _attempt_ended_badly(self, event: ev.AttemptEndedBadly, now: float) -> list[ev.Instruction]:
        task = self.tasks.running(event.attempt, event.tracker)
        if task is None:
            return []
        if self.active and task.probes(event.attempt):
            found = task.probed(event.error, self._skip_bad_records, self._max_attempts)
            self.tasks.stop(task, event.attempt)
            return self._fail_of(task, *found) if found is not None else self._ask(now)
        damaged = self._damaged_maps(task, event.tracker, event.error)
        suspected = task.suspects(event.error, event.attempt, self._skip_bad_records)
        if self.active and suspected:
            self.failures += 1
        elif self.active and not damaged:
            self.failures += 1
            task.failures += 1
            task.failed_on.add(event.tracker)
            who = f"{self.job} {task.id}"
            task.rests_until = now + backoff_seconds(RETRY_SECONDS, task.failures, who)
            self._blame(event.tracker, task, now)
        self.tasks.stop(task, event.attempt)
        if not self.active:
            return []
        home = self._shuffle.home[task.id.index] if task.id.kind == REDUCE else None
        if home not in (None, event.tracker):
            # A backup: what its tracker has gathered is not tried again.
            del self._shuffle.second[task.id.index]
        elif damaged:
            return self._damaged(task.id.index, damaged, event.error, now)
        final = event.error.details.get("final")
        if final or (
            task.failures >= self._max_attempts and not task.searches(event.error, event.attempt)
        ):
            return self._fail_of(task, event.error, event.attempt)
        if home == event.tracker:
            self._move(task.id.index, now, avoid=task.failed_on)
            self._map_again(range(len(self.maps)))
        return self._ask(now)

    def _fail_of(self, task: Task, error: PytxmrError, attempt: AttemptId) -> list[ev.Instruction]:
        times = "once" if task.failures == 1 else f"{task.failures} times"
        return self._fail(f"{task.id} failed {times}", error, attempt)

    def _blame(self, tracker: str, task: Task, now: float) -> None:
        """A task failed at a tracker. If that is to be avoided, the partitions that wait there go
        elsewhere."""
        if self.blame.failed(tracker, task.id, now):
            self._give_away(tracker, now)

    # ---- how outputs come and go

    def _segments_fetched(self, event: ev.SegmentsFetched) -> list[ev.Instruction]:
        task = self.tasks.of(event.attempt)
        if (
            task is not None
            and task.id.kind == MAP
            and task.oldest <= event.attempt.number < task.attempts
        ):
            self._shuffle.fetched(event.tracker, event.attempt, event.partitions)
        return []

    def _fetch_failed(self, event: ev.FetchFailed, now: float) -> list[ev.Instruction]:
        index = event.attempt.task.index
        self._shuffle.give_up_seconds(event.tracker, lacking=index)
        output = self._shuffle.outputs.get(index)
        if not self.active or output is None or output.attempt != event.attempt:
            return []
        if not self._shuffle.lacking(event.tracker, index):
            return []
        if isinstance(event.error, DiskFailed):
            return self._nowhere_to_put(event, now)
        if isinstance(event.error, NotFound | SpillDamaged) or self._shuffle.cannot_fetch(
            event.tracker, index, event.rounds
        ):
            return self._lose_output(output, event.error, now) or self._ask(now)
        return self._ask(now)

    def _nowhere_to_put(self, event: ev.FetchFailed, now: float) -> list[ev.Instruction]:
        """A tracker has no place for what it is to fetch, whatever serves it: the partitions that
        wait for that go elsewhere. If there is no other tracker they stay, and fail in the end."""
        lacking = self._shuffle.lacking(event.tracker, event.attempt.task.index)
        if event.rounds > self._full.get(event.tracker, 0):
            # Counted once, for however many maps that is told.
            self._full[event.tracker] = event.rounds
            self.failures += 1
            for partition in lacking:
                task = self.reduces[partition]
                task.failures += 1
                task.failed_on.add(event.tracker)
                if task.failures >= self._max_attempts:
                    what = f"{task.id} failed {task.failures} times"
                    return self._fail(what, event.error, task.next_attempt)
        for partition in lacking:
            self._move(partition, now, avoid=self.reduces[partition].failed_on)
            self._shuffle.tell_of(partition, event.attempt.task.index)
        self._map_again(range(len(self.maps)))
        return self._ask(now)

    def _damaged_maps(self, task: Task, tracker: str, error: PytxmrError) -> list[int]:
        """The maps whose segments a reduce found damaged; all, if it could not say which."""
        if not isinstance(error, SpillDamaged) or task.id.kind != REDUCE:
            return []
        arrived = self._shuffle.arrived_at(task.id.index, tracker)
        index = error.details.get("map_index")
        return [index] if isinstance(index, int) and index in arrived else list(arrived)

    def _damaged(
        self, partition: int, maps: list[int], error: PytxmrError, now: float
    ) -> list[ev.Instruction]:
        """A reduce found bad blocks: fetch again, from new runs of the maps that wrote them, unless
        they have arrived at a second home."""
        held = [self._shuffle.arrived[partition][index] for index in maps]
        if not self._shuffle.promote(partition):
            for index in maps:
                self._shuffle.forget(partition, index)
        for attempt in held:
            output = self._shuffle.outputs.get(attempt.task.index)
            if output is not None and output.attempt == attempt:
                ended = self._lose_output(output, error, now)
                if ended:
                    return ended
        self._map_again(range(len(self.maps)))
        return self._ask(now)

    def _lose_output(
        self, output: MapOutput, error: PytxmrError, now: float
    ) -> list[ev.Instruction]:
        """An output is of no use: run its map again, elsewhere, or end the job."""
        index = output.attempt.task.index
        task = self.maps[index]
        task.lost_outputs += 1
        task.failed_on.add(output.tracker)
        if task.lost_outputs > self._max_attempts:
            reason = f"the output of {task.id} was lost {task.lost_outputs} times"
            return self._fail(reason, error, output.attempt)
        self._blame(output.tracker, task, now)
        self._shuffle.lose(index)
        self._map_again([index])
        return []

    def _map_again(self, maps: Iterable[int]) -> None:
        """Those of the maps whose output is gone go back to pending if a reduce still lacks it."""
        for index in maps:
            task = self.maps[index]
            if (
                task.winner is not None
                and index not in self._shuffle.outputs
                and self._shuffle.needs(index)
            ):
                self.tasks.map_again(task)
                self._maps_to_do += 1
                self.phase = Phase.MAPPING

    def _move(
        self, partition: int, now: float, avoid: set[str] | frozenset[str] = frozenset()
    ) -> None:
        if self._shuffle.promote(partition):
            return
        workers = self.blame.best(self.trackers, now)
        chosen = least_loaded(self._shuffle.load(), workers, avoid)
        if chosen is None or chosen != self._shuffle.home[partition]:
            self._shuffle.move(partition, chosen)
            self.gathering.begins(now)

    def _ask(self, now: float) -> list[ev.Instruction]:
        """Tell the homes of what there is to fetch that they were not told of yet."""
        if self._shuffle.outputs or not self.maps:
            self._shuffle.settle(self.blame.best(self.trackers, now))
        asked = self._shuffle.to_ask()
        return [ev.Shuffle(self.job, tracker, wanted) for tracker, wanted in asked.items()]

    # ---- how the job ends

    def _committed(self) -> list[ev.Instruction]:
        return self._end(Outcome.SUCCEEDED) if self._kill_reason is None else self._killed()

    def _kill(self, reason: str) -> list[ev.Instruction]:
        self._kill_reason = reason
        # A commit is not disturbed half-way: it ends first, and is then undone.
        return [] if self.phase is Phase.COMMITTING else self._killed()

    def _killed(self) -> list[ev.Instruction]:
        return self._end(Outcome.KILLED, JobFailed(f"{self.job} was killed: {self._kill_reason}"))

    def _fail(self, what: str, error: PytxmrError, attempt: AttemptId) -> list[ev.Instruction]:
        failed = JobFailed(f"{what}: {error.message}")
        # Not as arguments: they came from a peer, and may have any names.
        failed.details = error.details | {"task": str(attempt.task), "attempt": str(attempt)}
        return self._end(Outcome.FAILED, failed)

    def _end(self, outcome: Outcome, error: PytxmrError | None = None) -> list[ev.Instruction]:
        if self.phase in (Phase.ENDING, Phase.ENDED):
            return []
        self.phase, self.outcome, self.error = Phase.ENDING, outcome, error
        self.tasks.stop_all()
        self._reduce_orders.clear()
        self._shuffle = ShufflePlan(0, 0)
        return self.own_orders()

    def own_orders(self) -> list[ev.Instruction]:
        """What the jobtracker itself is to do or to be doing: to commit, or to clean up."""
        if self.phase is Phase.COMMITTING:
            won = [(task.winner, task) for task in self.reduces or self.maps if task.winner]
            winners = tuple((winner, task.size_bytes, task.digest) for winner, task in won)
            bad = tuple(task.bad_attempt for task in self.maps if task.bad_attempt is not None)
            outputs = tuple((winner, *file) for winner, task in won for file in task.outputs)
            return [ev.CommitJob(self.job, winners, self.counters(), bad, outputs)]
        if self.phase is Phase.ENDING:
            everywhere = tuple(self.trackers | self._initialising | self._refusing)
            return [ev.DestroyJob(self.job, everywhere, self.keeps)]
        return []

    # ---- attempts that start

    def _backup_home(self, event: ev.BackupHome, now: float) -> list[ev.Instruction]:
        task = self.reduces[event.partition]
        task.backed_up = True
        if task.running:
            self._shuffle.back_up(event.partition, event.tracker)
        else:
            self._shuffle.move(event.partition, event.tracker)
        return self._ask(now)

    def _launched(self, event: ev.Launched, now: float) -> list[ev.Instruction]:
        task = self.tasks.of(event.attempt)
        assert task is not None
        self.tasks.launch(task, event.tracker, now)
        if task.id.kind == MAP:
            return [self._map_order(task, event.tracker, event.attempt)]
        arrived = self._shuffle.arrived_at(task.id.index, event.tracker)
        maps = tuple(arrived[index] for index in range(len(self.maps)))
        order = ev.LaunchReduce(self.job, event.tracker, event.attempt, maps)
        self._reduce_orders[event.attempt] = order
        return [order]

    def _map_order(self, task: Task, tracker: str, attempt: AttemptId) -> ev.LaunchMap:
        rest = (self.partitions, task.careful, task.skip, task.window_of(attempt))
        return ev.LaunchMap(self.job, tracker, attempt, *rest)
