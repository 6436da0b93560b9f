"""All trackers and all jobs: who is alive, who has workers free, whose turn it is.

Pure, like `plan.jobstate`: `ClusterState.handle` takes an event and the time, passes it to the jobs
that it concerns, and then gives free workers to jobs, first in, first out. What each job was told,
its launches included, makes up its history, which a later life of the jobtracker can take again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from pytxmr.plan import events as ev
from pytxmr.plan.blame import JOBS_TO_BLAME, Blame
from pytxmr.plan.jobstate import JobState, Phase
from pytxmr.plan.launching import next_backup, next_launch, next_map
from pytxmr.plan.lease import Lease

LEASE_SECONDS = 10.0
#: What is left of the lease of a tracker whose connection has ended. One that lives connects again
#: within a fraction of it; one whose process has ended need not be waited for any longer.
DISCONNECTED_SECONDS = 1.0
#: Maps of a job that wait, for each worker of the cluster, from which on trackers are given work
#: ahead. With fewer, a slow tracker would sit on maps that another could run.
MAPS_WAITING_PER_WORKER = 4
#: Attempts of a tracker that backups outran, from which on it is used last.
RACES_TO_LOSE = 3


@dataclass(frozen=True, slots=True)
class Tracker:
    """A live tracker, one incarnation."""

    id: str
    name: str
    workers: int
    address: tuple[str, int]
    lease: Lease


class ClusterState:
    """``jobs`` are in the order of their numbers, in which they were submitted: the later steps of
    a job have theirs before they begin."""

    def __init__(self, lease_seconds: float = LEASE_SECONDS) -> None:
        self.lease_seconds = lease_seconds
        self.trackers: dict[str, Tracker] = {}
        self.jobs: dict[str, JobState] = {}
        self.stale_reports = 0
        self.blame = Blame(JOBS_TO_BLAME)
        self._races_lost: Counter[str] = Counter()
        self._history: list[tuple[str, ev.Event]] = []

    def handle(self, event: ev.Event, now: float) -> list[ev.Instruction]:
        """Take one event at ``now`` (seconds of a monotonic clock); return what shall be done."""
        found: list[ev.Instruction] = []
        match event:
            case ev.Heartbeat():
                self._renew(event.tracker, now)
                for name, attempt, fraction in event.progress:
                    if name in self.jobs:
                        self.jobs[name].progressed(event.tracker, attempt, fraction)
                return self._kill_strays(event)
            case ev.TrackerDisconnected():
                self._shorten(event.tracker, now)
                return []
            case ev.Tick():
                found += self._expire(now) + self._start_jobs(now) + self._launch(now)
                return found + self._launch_backups(now)
            case ev.TrackerResumed():
                self._renew(event.tracker, now)
                for job in self.jobs.values():
                    found += self._tell(job, event, now)
            case ev.TrackerJoined():
                found += self._joined(event, now)
            case ev.TrackerLost():
                found += self._lost(event.tracker, event.reason, now)
            case ev.JobSubmitted():
                self._submitted(event, now)
            case _:
                if self._is_stale(event):
                    self.stale_reports += 1
                    return []
                found += self._tell(self.jobs[event.job], event, now)
                self._count_lost_races(event, found)
                self._note_blame(event, now)
        return found + self._start_jobs(now) + self._launch(now)

    # ---- what has happened, and is not to be forgotten

    def take_history(self) -> list[tuple[str, ev.Event]]:
        """What has become of trackers and jobs since this was last called, in order, each event
        with the id of the tracker or job that it is kept for."""
        history, self._history = self._history, []
        return history

    def restore_tracker(self, event: ev.TrackerJoined, now: float, seconds: float) -> None:
        """Believe that a tracker of an earlier life still lives, for so many seconds."""
        self._add_tracker(event, Lease.granted(now, seconds))

    def restore_job(self, job: str, event: ev.Event | JobState, now: float) -> None:
        """Take again what an earlier life has told a job, from `JobSubmitted` on, or from what it
        had become until then."""
        if isinstance(event, JobState):
            self.jobs[job] = event
        elif isinstance(event, ev.JobSubmitted):
            self.jobs[job] = JobState(event, now)
        else:
            self.jobs[job].handle(event, now)

    def _tell(self, job: JobState, event: ev.Event, now: float) -> list[ev.Instruction]:
        if job.phase is Phase.ENDED:
            return []
        self._history.append((job.job, event))
        return job.handle(event, now)

    # ---- trackers and jobs come and go

    def _renew(self, tracker: str, now: float) -> None:
        if tracker not in self.trackers:
            self.stale_reports += 1
            return
        lease = Lease.granted(now, self.lease_seconds)
        self.trackers[tracker] = replace(self.trackers[tracker], lease=lease)

    def _kill_strays(self, event: ev.Heartbeat) -> list[ev.Instruction]:
        """End what runs on a tracker and should not, since it missed that it was to be ended."""
        if event.tracker not in self.trackers:
            return []
        return [
            ev.KillAttempt(job.job, event.tracker, attempt)
            for name, attempt, _ in event.progress
            if (job := self.jobs.get(name)) is not None
            and job.active
            and job.tasks.running(attempt, event.tracker) is None
        ]

    def _shorten(self, tracker: str, now: float) -> None:
        known = self.trackers.get(tracker)
        if known is not None:
            ends = min(known.lease.expires_at, now + DISCONNECTED_SECONDS)
            self.trackers[tracker] = replace(known, lease=Lease(ends))

    def _expire(self, now: float) -> list[ev.Instruction]:
        expired = [tracker.id for tracker in self.trackers.values() if tracker.lease.expired(now)]
        found: list[ev.Instruction] = []
        for tracker in expired:
            found += self._lost(tracker, "its lease expired", now)
        # What a job asked of the second as it learnt of the first is void.
        return [order for order in found if getattr(order, "tracker", None) not in expired]

    def _is_stale(self, event: ev.Event) -> bool:
        tracker = getattr(event, "tracker", None)
        return event.job not in self.jobs or (tracker is not None and tracker not in self.trackers)

    def _submitted(self, event: ev.JobSubmitted, now: float) -> None:
        others = [other for other in self.jobs if _place(other) > _place(event.job)]
        self.jobs[event.job] = job = JobState(event, now)
        for other in others:  # in place: there are those who look at it
            self.jobs[other] = self.jobs.pop(other)
        self._history.append((event.job, event))
        for tracker in self.trackers.values():
            self._tell(job, self._as_joined(tracker), now)

    def _joined(self, event: ev.TrackerJoined, now: float) -> list[ev.Instruction]:
        found: list[ev.Instruction] = []
        for old in [t.id for t in self.trackers.values() if t.name == event.name]:
            found += self._lost(old, "it came back as another incarnation", now)
        self._add_tracker(event, Lease.granted(now, self.lease_seconds))
        self._history.append((event.tracker, event))
        for job in self.jobs.values():
            found += self._tell(job, event, now)
        return found

    def _add_tracker(self, event: ev.TrackerJoined, lease: Lease) -> None:
        self.trackers[event.tracker] = Tracker(
            event.tracker, event.name, event.workers, event.address, lease
        )

    def _lost(self, tracker: str, reason: str, now: float) -> list[ev.Instruction]:
        if self.trackers.pop(tracker, None) is None:
            return []
        self._races_lost.pop(tracker, None)
        event = ev.TrackerLost(tracker, reason)
        self._history.append((tracker, event))
        self.blame.forget(tracker)
        found: list[ev.Instruction] = []
        for job in self.jobs.values():
            found += self._tell(job, event, now)
        return found

    @staticmethod
    def _as_joined(tracker: Tracker) -> ev.TrackerJoined:
        return ev.TrackerJoined(tracker.id, tracker.name, tracker.workers, tracker.address)

    def _start_jobs(self, now: float) -> list[ev.Instruction]:
        workers = sum(tracker.workers for tracker in self.trackers.values())
        found: list[ev.Instruction] = []
        for job in self.jobs.values():
            if job.phase is Phase.QUEUED and workers:
                found += self._tell(job, ev.JobStarted(job.job, workers), now)
        return found

    def free_workers(self) -> dict[str, int]:
        """How many more attempts each tracker can run; below 0 if some wait there for a worker."""
        free = {tracker.id: tracker.workers for tracker in self.trackers.values()}
        for job in self.jobs.values():
            for tracker, running in job.running_on.items():
                if tracker in free:
                    free[tracker] -= running
        return free

    def _launch(self, now: float) -> list[ev.Instruction]:
        found: list[ev.Instruction] = []
        free, last = self.free_workers(), self.unreliable
        for job in self.jobs.values():
            while any(workers > 0 for workers in free.values()):
                launch = next_launch(job, free, last, self.blame, now)
                if launch is None:
                    break
                free[launch.tracker] -= 1
                found += self._tell(job, launch, now)
        return found + self._launch_ahead(free, now)

    def _launch_backups(self, now: float) -> list[ev.Instruction]:
        """Second attempts of what is slow, on workers for which there is nothing else to do."""
        found: list[ev.Instruction] = []
        free, last = self.free_workers(), self.unreliable
        for job in self.jobs.values():
            while any(workers > 0 for workers in free.values()):
                backup = next_backup(job, free, last, self.blame, now)
                if backup is None:
                    break
                free[backup.tracker] -= 1
                found += self._tell(job, backup, now)
        return found

    @property
    def unreliable(self) -> set[str]:
        """The trackers whose attempts were outrun by backups again and again: to be used last."""
        return {name for name, lost in self._races_lost.items() if lost >= RACES_TO_LOSE}

    def _count_lost_races(self, event: ev.Event, orders: list[ev.Instruction]) -> None:
        for order in orders:
            # A backup that was not needed says nothing against the tracker that it ran on.
            if (
                isinstance(order, ev.KillAttempt)
                and order.attempt.task == event.attempt.task
                and order.attempt.number < event.attempt.number
            ):
                self._races_lost[order.tracker] += 1

    def _note_blame(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.AttemptEndedBadly():
                if event.tracker in self.jobs[event.job].blame.avoided(now):
                    self.blame.failed(event.tracker, event.job, now)
            case ev.MapSucceeded() | ev.ReduceSucceeded():
                self.blame.succeeded(event.tracker, now)

    def _launch_ahead(self, free: dict[str, int], now: float) -> list[ev.Instruction]:
        """Of large jobs, a map for each worker beside the one it runs: a worker that has ended one
        begins the next without a word from here."""
        found: list[ev.Instruction] = []
        workers = sum(tracker.workers for tracker in self.trackers.values())
        room = {name: left + self.trackers[name].workers for name, left in free.items()}
        for job in self.jobs.values():
            while (
                job.active
                and job.maps_waiting > MAPS_WAITING_PER_WORKER * workers
                and any(left > 0 for left in room.values())
            ):
                launch = next_map(job, room, self.unreliable, self.blame, now)
                if launch is None:
                    break
                room[launch.tracker] -= 1
                found += self._tell(job, launch, now)
        return found


def _place(job: str) -> tuple[int, str]:
    """Ids compare by it as their numbers do."""
    return (len(job), job)
