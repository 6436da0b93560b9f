"""Whatever happens in whatever order, each job ends, and a job that succeeds is whole.

A small model of trackers carries out what the plan asks, in random order, and reports it: late,
twice, in another order, or not at all since it died. After a time of chaos comes peace, in which
nothing fails any more; then every job has to end.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest

from pytxmr.errors import AttemptFailed, PytxmrError, SpillDamaged, Unreachable
from pytxmr.model import CHANGED_MAPS, MAP, AttemptId, MapOutput
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import ClusterState
from pytxmr.plan.jobstate import JobState, Outcome, Phase
from pytxmr.plan.pending import PendingTasks
from pytxmr.plan.snapshot import from_snapshot, to_snapshot

CHAOS_STEPS = 250
PEACE_STEPS = 20_000
OVER = (Phase.ENDING, Phase.ENDED)


@dataclass(frozen=True)
class Chaos:
    """How likely each mishap is. ``deaths``: the most trackers that may be lost in a run.
    ``hangs``: attempts that do not end before there is peace. ``maps``: jobs have fewer than so
    many."""

    deaths: int = 0
    attempts: float = 0.0
    final: float = 0.0
    fetches: float = 0.0
    damage: float = 0.0
    init: float = 0.0
    twice: float = 0.0
    kills: float = 0.0
    commit: float = 0.0
    restarts: float = 0.0
    changes: float = 0.0
    hangs: float = 0.0
    maps: int = 7


@dataclass
class ModelTracker:
    """What a tracker has and does. ``orders`` are carried out in the order in which they came."""

    id: str
    workers: int
    alive: bool = True
    orders: deque[Any] = field(default_factory=deque)
    jobs: set[str] = field(default_factory=set)
    started: set[tuple[str, AttemptId]] = field(default_factory=set)
    running: list[Any] = field(default_factory=list)
    hanging: list[Any] = field(default_factory=list)
    fetching: list[tuple[str, MapOutput, int]] = field(default_factory=list)
    segments: set[tuple[str, int, AttemptId]] = field(default_factory=set)
    outputs: set[tuple[str, AttemptId]] = field(default_factory=set)
    rounds: Counter[tuple[str, AttemptId]] = field(default_factory=Counter)


class World:
    def __init__(self, seed: int, chaos: Chaos) -> None:
        self.rng = random.Random(seed)
        self.chaos = chaos
        self.peace = False
        self.now = 0.0
        self.cluster = ClusterState(lease_seconds=10.0)
        self.trackers: dict[str, ModelTracker] = {}
        self.incarnations = 0
        self.deaths = 0
        self.kills = 0
        self.reports: list[ev.Event] = []
        self.own_orders: list[Any] = []
        self.destroying: dict[str, set[str]] = {}
        self.reduces: dict[tuple[str, AttemptId], tuple[AttemptId, ...]] = {}
        self.finished: set[tuple[str, AttemptId]] = set()
        self.digests: dict[tuple[str, AttemptId], str] = {}
        self.commits: dict[str, ev.CommitJob] = {}
        self.destroys: Counter[str] = Counter()
        self.history: list[tuple[float, str, ev.Event]] = []
        self.restarts = 0
        self.killed_in_vain = 0
        self.changed = 0
        self.backups_of_reduces = 0
        self.idle = 0

    # ---- the plan

    def feed(self, event: ev.Event) -> None:
        orders = self.cluster.handle(event, self.now)
        self.history += [(self.now, *entry) for entry in self.cluster.take_history()]
        for order in orders:
            self.take_order(order)
        self.check_plan()

    def take_order(self, order: ev.Instruction) -> None:
        self.check_order(order)
        match order:
            case ev.CommitJob():
                assert self.commits.setdefault(order.job, order) == order
                self.own_orders.append(order)
            case ev.DestroyJob():
                self.destroys[order.job] += 1
                self.destroying[order.job] = set(order.trackers)
                for tracker in order.trackers:
                    self.trackers[tracker].orders.append(order)
            case _:
                self.trackers[order.tracker].orders.append(order)

    def restart(self) -> None:
        """The jobtracker dies, and is made again of its history. Calls under way are lost."""
        self.restarts += 1
        before, self.cluster = self.cluster, ClusterState(lease_seconds=10.0)
        joined: dict[str, ev.TrackerJoined] = {}
        for now, name, event in self.history:
            if name not in self.trackers:
                self.cluster.restore_job(name, event, now)
            elif isinstance(event, ev.TrackerJoined):
                joined[name] = event
            else:
                del joined[name]
        for event in joined.values():
            self.cluster.restore_tracker(event, self.now, 10.0)
        assert list(self.cluster.trackers) == list(before.trackers)
        assert described(self.cluster.jobs) == described(before.jobs)
        for name, job in self.cluster.jobs.items():
            read = self.cluster.jobs[name] = from_snapshot(to_snapshot(job))
            assert described(read) == described(job)
        self.own_orders.clear()
        self.destroying.clear()
        for tracker in self.trackers.values():
            self.killed_in_vain += sum(isinstance(o, ev.KillAttempt) for o in tracker.orders)
            tracker.orders.clear()
        for job in self.cluster.jobs.values():
            self.destroys[job.job] -= job.phase is Phase.ENDING
            for order in job.own_orders():
                self.take_order(order)
        for tracker in self.trackers.values():
            for name in [n for n in tracker.jobs if self.cluster.jobs[n].phase in OVER]:
                self.destroy(tracker, name)
            if tracker.id in self.cluster.trackers and tracker.alive:
                self.feed(ev.TrackerResumed(tracker.id))

    def check_order(self, order: ev.Instruction) -> None:
        """No instruction names a tracker that is lost."""
        live = self.cluster.trackers
        match order:
            case ev.CommitJob():
                named = []
            case ev.DestroyJob():
                named = list(order.trackers)
                knowing = {t.id for t in self.trackers.values() if order.job in t.jobs}
                assert knowing & set(live) <= set(named)
            case ev.Shuffle():
                named = [order.tracker, *(output.tracker for output, _ in order.wanted)]
            case _:
                named = [order.tracker]
        assert set(named) <= set(live), order

    def check_plan(self) -> None:
        """No tracker has more to run than twice its workers; counts agree with what they count."""
        running: Counter[str] = Counter()
        for job in self.cluster.jobs.values():
            of_job: Counter[str] = Counter()
            for task in filter(lambda task: task.running, (*job.maps, *job.reduces)):
                assert len(task.running) <= (2 if task.backed_up else 1)
                assert len(set(task.running.values())) == len(task.running)
                of_job.update(task.running.values())
            self.check_second_homes(job)
            assert of_job == +job.running_on
            assert job.maps_done == sum(task.winner is not None for task in job.maps)
            assert job.reduces_done == sum(task.winner is not None for task in job.reduces)
            assert job.failures == sum(task.failures for task in (*job.maps, *job.reduces))
            assert job.maps_waiting == sum(task.pending for task in job.maps) or not job.active
            counted: Counter[str] = Counter()
            for task in (*job.maps, *job.reduces):
                if task.counters:
                    counted.update(task.counters)
            assert job.counters() == counted
            running += of_job
        for tracker in self.cluster.trackers.values():
            assert running[tracker.id] <= 2 * tracker.workers
            assert self.cluster.free_workers()[tracker.id] == (
                tracker.workers - running[tracker.id]
            )

    def check_second_homes(self, job: JobState) -> None:
        """An attempt of a reduce runs at a home, where all is that it reads; there is a second one
        only while one runs at the first."""
        shuffle = job._shuffle
        for partition, second in shuffle.second.items():
            assert job.reduces[partition].backed_up
            assert second.tracker in job.trackers
            assert second.tracker != shuffle.home[partition]
            assert shuffle.home[partition] in job.reduces[partition].running.values()
        for task in job.reduces:
            for tracker in task.running.values():
                assert len(shuffle.arrived_at(task.id.index, tracker)) == len(job.maps)

    # ---- trackers

    def luck(self, probability: float) -> bool:
        return not self.peace and self.rng.random() < probability

    def report(self, event: ev.Event) -> None:
        self.reports.append(event)
        if self.luck(self.chaos.twice):
            self.reports.append(event)

    def join(self, name: str | None = None) -> None:
        self.incarnations += 1
        name = name or f"t{self.incarnations}"
        tracker = ModelTracker(f"{name}#{self.incarnations}", self.rng.randint(1, 3))
        self.trackers[tracker.id] = tracker
        host = ("host", self.incarnations)
        self.feed(ev.TrackerJoined(tracker.id, name, tracker.workers, host))

    def lose_one(self) -> None:
        """A tracker dies, is cut off but goes on, or comes back empty."""
        live = [t for t in self.trackers.values() if t.id in self.cluster.trackers]
        if not live or self.deaths >= self.chaos.deaths:
            return
        self.deaths += 1
        tracker = self.rng.choice(live)
        match self.rng.randrange(3):
            case 0:  # Dies, and the connection with it; its last reports may still be on the way.
                tracker.alive = False
                self.feed(ev.TrackerLost(tracker.id, "connection lost"))
            case 1:  # Falls silent, or is cut off: the lease will tell.
                tracker.alive = self.rng.random() < 0.5
                self.now += 11
                for other in self.cluster.trackers:
                    if other != tracker.id:
                        self.feed(ev.Heartbeat(other))
                self.silent_until_tick(tracker)
            case 2:
                tracker.alive = False
                self.join(tracker.id.partition("#")[0])

    def silent_until_tick(self, tracker: ModelTracker) -> None:
        for _ in range(self.rng.randrange(10)):
            self.step()
        self.feed(ev.Tick())
        assert tracker.id not in self.cluster.trackers

    def carry_out(self, tracker: ModelTracker) -> None:
        order = tracker.orders.popleft()
        match order:
            case ev.InitJob() if self.luck(self.chaos.init):
                self.report(ev.InitFailed(order.job, tracker.id, PytxmrError("disk full")))
            case ev.InitJob():
                tracker.jobs.add(order.job)
                self.report(ev.JobInitialised(order.job, tracker.id))
            case ev.DestroyJob():
                self.destroy(tracker, order.job)
            case ev.LaunchMap():
                assert order.job in tracker.jobs
                assert order.partitions == self.cluster.jobs[order.job].partitions
                self.launch(tracker, order)
            case ev.LaunchReduce():
                assert order.job in tracker.jobs
                self.check_maps(order)
                missing = self.missing_map(tracker, order)
                if missing is None:
                    self.launch(tracker, order)
                else:
                    error = SpillDamaged("not here", map_index=missing)
                    self.report(ev.AttemptEndedBadly(order.job, tracker.id, order.attempt, error))
            case ev.KillAttempt():
                self.kill_attempt(tracker, order)
            case ev.Shuffle():
                assert order.job in tracker.jobs
                for output, partitions in order.wanted:
                    tracker.fetching += [(order.job, output, p) for p in partitions]
            case _:
                raise AssertionError(order)

    def launch(self, tracker: ModelTracker, order: Any) -> None:
        """An attempt is started once, however often it is asked for."""
        if (order.job, order.attempt) not in tracker.started:
            tracker.started.add((order.job, order.attempt))
            tracker.running.append(order)
            task = self.cluster.jobs[order.job].tasks.of(order.attempt)
            if isinstance(order, ev.LaunchReduce) and task.backed_up:
                self.backups_of_reduces += 1
            elif self.luck(self.chaos.hangs):
                tracker.hanging.append(order)
            assert len(tracker.running) <= 2 * tracker.workers + self.killed_in_vain

    def check_maps(self, order: ev.LaunchReduce) -> None:
        """A reduce reads one finished attempt of each map, in order of the input."""
        job = self.cluster.jobs[order.job]
        assert [a.task.kind for a in order.maps] == [MAP] * len(job.maps)
        assert [a.task.index for a in order.maps] == list(range(len(job.maps)))
        assert all((order.job, attempt) in self.finished for attempt in order.maps)
        self.reduces[order.job, order.attempt] = order.maps

    @staticmethod
    def missing_map(tracker: ModelTracker, order: ev.LaunchReduce) -> int | None:
        partition = order.attempt.task.index
        for attempt in order.maps:
            if (order.job, partition, attempt) not in tracker.segments:
                return attempt.task.index
        return None

    def destroy(self, tracker: ModelTracker, job: str) -> None:
        tracker.jobs.discard(job)
        tracker.running = [order for order in tracker.running if order.job != job]
        tracker.fetching = [one for one in tracker.fetching if one[0] != job]
        self.destroying.get(job, set()).discard(tracker.id)

    def kill_attempt(self, tracker: ModelTracker, order: ev.KillAttempt) -> None:
        """It may have ended meanwhile; else it reports that it was ended, as a real one does."""
        for running in list(tracker.running):
            if (running.job, running.attempt) == (order.job, order.attempt):
                tracker.running.remove(running)
                error = AttemptFailed("the attempt was ended")
                self.report(ev.AttemptEndedBadly(order.job, tracker.id, order.attempt, error))
                self.kills += 1

    def beat(self) -> None:
        """Time passes, trackers tell how far their attempts are, some of which are slow."""
        self.now += 3.0
        for tracker in self.trackers.values():
            if tracker.id in self.cluster.trackers:
                progress = tuple(
                    (order.job, order.attempt, self.rng.choice([0.0, 0.1, 0.9]))
                    for order in tracker.running
                )
                self.feed(ev.Heartbeat(tracker.id, progress))
        self.feed(ev.Tick())

    def end_attempt(self, tracker: ModelTracker) -> None:
        able = [order for order in tracker.running if self.peace or order not in tracker.hanging]
        if not able:
            return
        order = self.rng.choice(able)
        tracker.running.remove(order)
        job, attempt = order.job, order.attempt
        error: PytxmrError | None = None
        if self.luck(self.chaos.final):
            error = AttemptFailed("bad record", final=True)
        elif self.luck(self.chaos.attempts):
            error = AttemptFailed("no luck")
        elif isinstance(order, ev.LaunchReduce) and self.luck(self.chaos.damage):
            index = self.rng.randrange(len(order.maps) or 1)
            details = {"map_index": index} if self.rng.random() < 0.5 else {}
            error = SpillDamaged("bad block", **details)
        if error is not None:
            self.report(ev.AttemptEndedBadly(job, tracker.id, attempt, error))
        elif isinstance(order, ev.LaunchMap):
            tracker.outputs.add((job, attempt))
            self.finished.add((job, attempt))
            sizes = (1,) * order.partitions
            digest = self.digests[job, attempt] = f"run {self.luck(self.chaos.changes)}"
            counters = {"maps": 1}
            self.report(ev.MapSucceeded(job, tracker.id, attempt, sizes, counters, {}, digest))
        else:
            counters = {"reduces": 1}
            self.report(ev.ReduceSucceeded(job, tracker.id, attempt, 5, str(attempt), counters))

    def end_fetch(self, tracker: ModelTracker) -> None:
        job, output, partition = tracker.fetching.pop(self.rng.randrange(len(tracker.fetching)))
        key = job, partition, output.attempt
        source = self.trackers[output.tracker]
        there = source.alive and (job, output.attempt) in source.outputs
        if key not in tracker.segments:
            if not there or self.luck(self.chaos.fetches):
                error = Unreachable("no answer")
                tracker.rounds[job, output.attempt] += 1
                rounds = tracker.rounds[job, output.attempt]
                self.report(ev.FetchFailed(job, tracker.id, output.attempt, error, rounds))
                return
            tracker.segments.add(key)
        self.report(ev.SegmentsFetched(job, tracker.id, output.attempt, (partition,)))

    def carry_out_own(self) -> None:
        order = self.own_orders.pop(self.rng.randrange(len(self.own_orders)))
        if self.luck(self.chaos.commit):
            self.feed(ev.CommitFailed(order.job, PytxmrError("No space left on device")))
        else:
            self.feed(ev.JobCommitted(order.job))

    def deliver(self) -> None:
        # Mostly in order, as an outbox is sent; now and then not.
        last = 0 if self.peace or self.rng.random() < 0.8 else len(self.reports) - 1
        self.feed(self.reports.pop(self.rng.randint(0, last)))

    def finish_destroying(self) -> bool:
        """Tell that jobs are destroyed at all trackers that live; false if there are none."""
        before = len(self.destroying)
        for job, waiting in list(self.destroying.items()):
            if not any(t in self.cluster.trackers and self.trackers[t].alive for t in waiting):
                del self.destroying[job]
                self.feed(ev.JobDestroyed(job))
        return len(self.destroying) < before

    # ---- time

    def step(self) -> bool:
        """Do one of the things that can be done; false if there is none."""
        self.now += 0.001
        able: list[tuple[Any, ...]] = []
        for tracker in self.trackers.values():
            if not tracker.alive:
                continue
            if tracker.orders:
                able.append((self.carry_out, tracker))
            if tracker.running:
                able.append((self.end_attempt, tracker))
            if tracker.fetching:
                able.append((self.end_fetch, tracker))
        if self.reports:
            able += [(self.deliver,)] * 2
        if self.own_orders:
            able.append((self.carry_out_own,))
        if not able:
            return self.finish_destroying() or (self.peace and self.let_time_pass())
        self.idle = 0
        action, *args = self.rng.choice(able)
        action(*args)
        self.finish_destroying()
        return True

    def let_time_pass(self) -> bool:
        """For tasks that rest; false if that was of no use so far."""
        self.idle += 1
        self.beat()
        return self.idle < 5

    def run(self) -> None:
        jobs = self.rng.randint(1, 3)
        specs = [
            ev.JobSubmitted(
                f"Job{number + 1:03d}",
                self.rng.randrange(self.chaos.maps),
                self.rng.choice([None, 1, 2, 4]),
                self.rng.choice([1, 2, 4, 4]) if self.chaos.attempts else 4,
            )
            for number in range(jobs)
        ]
        for _ in range(CHAOS_STEPS):
            dice = self.rng.random()
            if dice < 0.03 and len(self.cluster.trackers) < 5:
                self.join()
            elif dice < 0.06 and specs:
                self.feed(specs.pop(0))
            elif dice < 0.09:
                self.lose_one()
            elif dice < 0.17:
                self.beat()
            elif self.chaos.restarts and self.luck(self.chaos.restarts):
                self.restart()
            elif dice < 0.17 + self.chaos.kills and self.cluster.jobs:
                self.feed(ev.KillJob(self.rng.choice(list(self.cluster.jobs)), "enough"))
            else:
                self.step()
        self.peace = True
        self.join()
        for spec in specs:
            self.feed(spec)
        for _ in range(PEACE_STEPS):
            if not self.step():
                break
        self.check_end(jobs)

    # ---- the end

    def check_end(self, jobs: int) -> None:
        assert len(self.cluster.jobs) == jobs
        for name, job in self.cluster.jobs.items():
            assert job.phase is Phase.ENDED, f"{name} is {job.phase}"
            assert self.destroys[name] == 1
            assert not job.running_on
            if job.outcome is Outcome.SUCCEEDED:
                self.check_success(job)
            else:
                assert job.error is not None
        for tracker in self.trackers.values():
            if tracker.alive and tracker.id in self.cluster.trackers:
                assert not tracker.jobs
                assert not tracker.running

    def check_success(self, job: JobState) -> None:
        commit = self.commits[job.job]
        assert [winner.task.index for winner, _, _ in commit.winners] == list(range(job.partitions))
        for winner, size, digest in commit.winners:
            assert (size, digest) == (5, str(winner))
            assert len(self.reduces[job.job, winner]) == len(job.maps)
        for index in range(len(job.maps)):
            read = [self.reduces[job.job, winner][index] for winner, _, _ in commit.winners]
            assert len({self.digests[job.job, attempt] for attempt in read}) == 1
        expected = {"maps": len(job.maps), "reduces": job.partitions}
        counters = {name: n for name, n in commit.counters.items() if name != CHANGED_MAPS}
        assert counters == {name: count for name, count in expected.items() if count}
        self.changed += CHANGED_MAPS in commit.counters


def described(value: Any) -> Any:
    """All that a state is made of, but for how far attempts have got, as plain values."""
    if isinstance(value, dict):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, PendingTasks):
        return described(value._avoid)
    if type(value).__module__.startswith("pytxmr.plan.") and not isinstance(value, StrEnum):
        names = getattr(value, "__slots__", None) or vars(value)
        return {name: described(getattr(value, name)) for name in names if name != "fraction"}
    return repr(value)


CHANGED = "jobs with maps that changed"
BACKED_UP = "backups of reduces that were launched"


def outcomes(seeds: range, chaos: Chaos) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for seed in seeds:
        world = World(seed, chaos)
        try:
            world.run()
        except AssertionError as error:
            error.add_note(f"with seed {seed} and {chaos}")
            raise
        found.update(job.outcome for job in world.cluster.jobs.values())
        found[CHANGED] += world.changed
        found[BACKED_UP] += world.backups_of_reduces
    return found


def outcomes_in(found: Counter[Any]) -> set[Outcome]:
    return {what for what in +found if isinstance(what, Outcome)}


@pytest.mark.parametrize("batch", range(4))
def test_every_job_ends_and_what_succeeds_is_whole(batch):
    chaos = Chaos(
        deaths=8,
        attempts=0.05,
        final=0.005,
        fetches=0.05,
        damage=0.1,
        init=0.1,
        twice=0.2,
        kills=0.002,
        commit=0.05,
    )
    found = outcomes(range(batch * 60, (batch + 1) * 60), chaos)
    assert found[Outcome.SUCCEEDED] > 40
    assert found[Outcome.FAILED] > 5


def test_jobs_succeed_whichever_trackers_are_lost():
    # No more deaths than max_attempts: an output that is lost with each would fail the job.
    found = outcomes(range(1000, 1120), Chaos(deaths=4, twice=0.2))
    assert outcomes_in(found) == {Outcome.SUCCEEDED}


def test_jobs_succeed_when_nothing_fails_whatever_the_order():
    assert outcomes_in(outcomes(range(2000, 2060), Chaos(twice=0.3))) == {Outcome.SUCCEEDED}


@pytest.mark.parametrize("batch", range(2))
def test_reduces_that_hang_are_outrun_by_backups_whatever_else_happens(batch):
    chaos = Chaos(
        deaths=2,
        attempts=0.05,
        fetches=0.05,
        damage=0.05,
        twice=0.2,
        hangs=0.3,
        restarts=0.05,
        changes=0.2,
        maps=4,
    )
    found = outcomes(range(5000 + batch * 60, 5060 + batch * 60), chaos)
    assert found[Outcome.SUCCEEDED] > 40
    assert found[BACKED_UP] > 8


def test_jobs_with_many_maps_end_as_well():
    found = outcomes(range(3000, 3060), Chaos(deaths=4, attempts=0.02, twice=0.2, maps=60))
    assert found[Outcome.SUCCEEDED] > 40


@pytest.mark.parametrize("batch", range(2))
def test_a_jobtracker_that_dies_is_made_again_of_its_history_whatever_happens(batch):
    chaos = Chaos(deaths=4, attempts=0.03, damage=0.05, twice=0.2, kills=0.002, restarts=0.05)
    found = outcomes(range(4000 + batch * 50, 4050 + batch * 50), chaos)
    assert found[Outcome.SUCCEEDED] > 60


@pytest.mark.parametrize("batch", range(2))
def test_all_reduces_read_the_same_run_of_a_map_that_puts_out_another_thing_each_time(batch):
    chaos = Chaos(deaths=4, fetches=0.1, damage=0.1, twice=0.2, changes=0.5)
    found = outcomes(range(4000 + batch * 60, 4060 + batch * 60), chaos)
    assert found[Outcome.SUCCEEDED] > 40
    assert found[CHANGED] > 10
