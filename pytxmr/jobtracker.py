"""The jobtracker: takes jobs, knows the trackers, feeds the plan, carries out what it says.

Every fact, whether a report, a registration, a failed call or the passing of time, goes through
`JobTracker.feed`; every decision comes out of `plan.cluster.ClusterState`. Both are logged before
anything is done about them, and before anybody is told that they are known: so a jobtracker that is
killed goes on, when it is started again, where it was. In between stands nothing but I/O: `JobLife`
for what is done at trackers, `avatars` for who asks.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from pytxmr.avatars import ClientAvatar, TrackerAvatar
from pytxmr.errors import (
    BadConfiguration,
    NotFound,
    PeerBroke,
    PytxmrError,
    Stale,
    TrackerLost,
    Unreachable,
)
from pytxmr.joblife import JobLife
from pytxmr.model import AttemptId, JobSpec, TaskId, checked_job_id, take
from pytxmr.net.listening import described, listen
from pytxmr.net.login import LoginFactory
from pytxmr.net.remote import Peer
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import DISCONNECTED_SECONDS, LEASE_SECONDS, ClusterState
from pytxmr.plan.jobstate import JobState, Outcome, Phase
from pytxmr.state import MemoryState, StateStore
from pytxmr.storage.output import OutputDirectory
from pytxmr.submission import Submission, plan_job

HEARTBEAT_SECONDS = 1.0
#: What trackers are given to come back to a jobtracker that was started anew, at the least: they
#: try to connect again twice a second.
RETURN_SECONDS = 10.0
#: The pause before it is tried again to write what could not be logged.
LOG_PAUSE_SECONDS = 1.0
#: Events in the log of a job from which on it is made compact; again each time it has doubled, as
#: that takes longer the more there is.
LONG_LOG = 20_000
#: Ended jobs that are still listed; older ones are forgotten.
MOST_ENDED_JOBS = 200
#: The longest that `wait` holds its answer back.
MOST_WAIT_SECONDS = 20.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_OWNER = re.compile(r"[0-9a-f]{32}", re.ASCII)
_log = Logger()


@dataclass(frozen=True, slots=True)
class JobTrackerConfig:
    """``listen`` is an endpoint description; ``state_dir`` None keeps the state in memory."""

    listen: str
    secret: bytes = field(repr=False)
    state_dir: str | None = None
    lease_seconds: float = LEASE_SECONDS
    heartbeat_seconds: float = HEARTBEAT_SECONDS


class JobTracker(Service):
    """One cluster's jobtracker."""

    def __init__(self, reactor: Any, config: JobTrackerConfig) -> None:
        self._reactor = reactor
        self._config = config
        self.cluster = ClusterState(config.lease_seconds)
        self.lives: dict[str, JobLife] = {}
        self._peers: dict[str, Peer] = {}
        self._history: dict[str, dict[str, Any]] = {}
        #: For each job those who wait for its end.
        self._waiting: dict[str, dict[Deferred[None], None]] = {}
        self._closed = False
        #: The job of each owner that is known; and those whose submission is under way.
        self._jobs_of: dict[str, str] = {}
        self._submitting: dict[str, Deferred[None]] = {}
        self.epoch = 0
        self.port: IListeningPort | None = None
        self._ticks = LoopingCall(self.feed, ev.Tick())
        self._ticks.clock = reactor
        # What is on its way through `feed`: events that the plan has yet to take, what has become
        # of those that it took and is not logged yet, and what is to be done once it is.
        self._events: deque[ev.Event] = deque()
        self._feeding = False
        self._unlogged: list[tuple[str, ev.Event, float]] = []
        self._held: list[ev.Instruction] = []
        self._lost: list[str] = []
        self._logged: Deferred[None] = Deferred()
        self._log_again: IDelayedCall | None = None
        self._log_lengths: Counter[str] = Counter()
        #: What counts as long, for those that were long before.
        self._long_logs: dict[str, int] = {}
        #: The plan's clock goes on where that of the life before has ended.
        self._clock_ahead = 0.0

    # ---- life

    async def open(self) -> None:
        """Open the state and the port; take up the jobs of the life before. Raises
        `BadConfiguration`."""
        directory = self._config.state_dir
        self._state = MemoryState() if directory is None else StateStore(directory)
        try:
            self.epoch = self._state.next_number("epoch")
            await self._restore()
            avatars: Any = {
                b"tasktracker": lambda peer: TrackerAvatar(self, peer),
                b"client": lambda peer: ClientAvatar(self),
            }
            factory = LoginFactory(self._config.secret, avatars, self._reactor)
            self.port = await listen(self._reactor, self._config.listen, factory)
        except BaseException:
            self._state.close()
            raise

    async def _restore(self) -> None:
        for owner, path in self._state.reserved().items():
            await self._in_thread(OutputDirectory(path, owner).discard)
            self._state.release(owner)
        logs = self._state.logs()
        last = max((now for log in logs.values() for _, now in log), default=0.0)
        self._clock_ahead = last - self._reactor.seconds()
        for record in self._state.remembered():
            if "status" in record:
                await self._restore_ended(record)
            else:
                submission = Submission.from_plain(record)
                await self._restore_job(submission, logs.pop(submission.job, []))
        for name, log in logs.items():
            joined = log[0][0]
            if not isinstance(joined, ev.TrackerJoined):
                raise BadConfiguration(f"the state has a log of {name}, but nothing else of it")
            seconds = max(self._config.lease_seconds, RETURN_SECONDS)
            self.cluster.restore_tracker(joined, self._now(), seconds)

    async def _restore_ended(self, record: dict[str, Any]) -> None:
        status = record["status"]
        if not status["outcome"]:  # written by a version that did not go on with its jobs
            await self._in_thread(_settle, status, record["owner"])
            self._state.remember(record["number"], record)
        self._history[status["job"]] = status
        self._jobs_of[record["owner"]] = status["job"]

    async def _restore_job(
        self, submission: Submission, log: list[tuple[ev.Event | JobState, float]]
    ) -> None:
        if not log:  # its submission was cut off, and nobody was told of it
            output = OutputDirectory(submission.spec.output, submission.owner)
            await self._in_thread(output.discard)
            self._state.forget(submission.number)
            return
        life = self._begin(submission)
        try:
            for event, now in log:
                self.cluster.restore_job(submission.job, event, now)
        except Exception as error:
            raise BadConfiguration(
                f"the log of {life.job} makes no sense to this version of pytxmr: {error!r}"
            ) from error
        self._log_lengths[life.job] = len(log)
        life.notice_phase()
        _log.info("{job} goes on: {phase}", job=life.job, phase=life.state.phase.value)

    def _now(self) -> float:
        return float(self._reactor.seconds()) + self._clock_ahead

    @property
    def address(self) -> str:
        """Where it listens, as an endpoint description for clients."""
        return described(self.port)

    def startService(self) -> None:
        super().startService()
        self._ticks.start(1.0, now=False).addErrback(
            lambda failure: _log.failure("time stands still for the plan", failure)
        )
        for life in self.lives.values():
            for order in life.state.own_orders():
                life.carry_out(order)

    async def stopService(self) -> None:  # type: ignore[override]
        """Close the port. If the state is kept, jobs that run go on when it is opened again; else
        they end first, cleanly.
        """
        super().stopService()
        if not self._state.durable:
            await self._end_jobs()
        for job in list(self._waiting):
            self._answer_waiting(job)
        if self._ticks.running:
            self._ticks.stop()
        if self._log_again is not None:
            self._log_again.cancel()
        if self.port is not None:
            stopped = self.port.stopListening()
            if stopped is not None:
                await stopped
        for peer in list(self._peers.values()):
            peer.disconnect()
        self._closed = True
        self._state.close()

    async def _end_jobs(self) -> None:
        running = [life for life in self.lives.values() if life.state.phase is not Phase.ENDED]
        for life in running:
            self.feed(ev.KillJob(life.job, "the jobtracker stopped"))
        waiting = DeferredList([_once(life.ended) for life in running])
        waiting.addTimeout(5.0, self._reactor, onTimeoutCancel=lambda *_: None)
        await waiting

    # ---- events in, instructions out

    def feed(self, *events: ev.Event) -> None:
        """Let the plan take the events, log what becomes of them, then carry out what it says. May
        be called from within. Once the state is closed it is as if they had come too late.
        """
        if self._closed:
            return
        self._events.extend(events)
        if self._feeding:
            return
        self._feeding = True
        busy: dict[str, JobLife] = {}
        try:
            while self._events or self._unlogged or self._held:
                while self._events:
                    self._take(self._events.popleft())
                touched = {name for name, _, _ in self._unlogged if name in self.lives}
                if not self._write_log():
                    break
                self._drop_peers()
                held, self._held = self._held, []
                for instruction in held:
                    life = busy[instruction.job] = self.lives[instruction.job]
                    life.carry_out(instruction)
                for name in touched:
                    self.lives[name].notice_phase()
        finally:
            self._feeding = False
        for life in busy.values():
            life.send()
        self._compact_logs()

    def _compact_logs(self) -> None:
        if self._unlogged:
            return  # The jobs have become what no log says yet.
        for job, length in self._log_lengths.items():
            if length < self._long_logs.get(job, LONG_LOG):
                continue
            if self.lives[job].state.phase is Phase.ENDED:
                continue
            try:
                self._state.compact(self._now(), self.lives[job].state)
            except PytxmrError as error:
                _log.warn("the log of {job} stays long: {error}", job=job, error=error)
            self._long_logs[job] = 2 * length

    def _take(self, event: ev.Event) -> None:
        before = list(self.cluster.trackers)
        now = self._now()
        self._held += self.cluster.handle(event, now)
        self._unlogged += [(name, told, now) for name, told in self.cluster.take_history()]
        if isinstance(event, ev.AttemptEndedBadly) and event.job in self.cluster.jobs:
            rests_until = self.cluster.jobs[event.job].rests_until(event.attempt)
            if rests_until > now:
                # Without it the next tick would be waited for, up to a second. It may not be early.
                self._reactor.callLater(rests_until - now + 0.001, self._tick)
        for tracker in before:
            if tracker not in self.cluster.trackers:
                _log.warn("lost {tracker}: {event}", tracker=tracker, event=type(event).__name__)
                self._lost.append(tracker)

    def _write_log(self) -> bool:
        """Log what has happened. False if that must wait, and with it all that comes of it."""
        if self._log_again is not None:
            return False
        try:
            if self._unlogged:
                self._state.append(self._unlogged)
        except PytxmrError as error:
            _log.error("everything waits: {error}", error=error)
            self._log_again = self._reactor.callLater(LOG_PAUSE_SECONDS, self._write_log_again)
            return False
        self._log_lengths.update(name for name, _, _ in self._unlogged if name in self.lives)
        self._unlogged.clear()
        logged, self._logged = self._logged, Deferred()
        logged.callback(None)
        return True

    def _write_log_again(self) -> None:
        self._log_again = None
        self.feed()

    def _drop_peers(self) -> None:
        lost, self._lost = self._lost, []
        for tracker in lost:
            peer = self._peers.pop(tracker, None)
            if peer is not None:
                peer.disconnect()

    def _call(self, tracker: str, verb: str, *args: Any) -> Deferred[Any]:
        peer = self._peers.get(tracker)
        if peer is None:
            return fail(TrackerLost(f"the tasktracker {tracker} is gone"))
        answer = peer.call(verb, self._who(tracker), *args)
        return answer.addErrback(self._call_failed, peer)

    @staticmethod
    def _call_failed(failure: Failure, peer: Peer) -> Failure:
        # The tracker may or may not have heard it: as it connects anew it is told what to do.
        if failure.check(Unreachable):
            peer.disconnect()
        return failure

    def _who(self, tracker: str) -> dict[str, Any]:
        return {"epoch": self.epoch, "tracker": tracker}

    # ---- trackers

    def register(self, peer: Peer, card: dict[str, Any]) -> dict[str, Any]:
        """Take a tracker in, as the incarnation that it was if its lease has not expired, or as a
        new one; the plan is told once that is answered.
        """
        name = take(card, "name", str)
        workers = take(card, "workers", int)
        if not _NAME.fullmatch(name) or not 1 <= workers <= 4096:
            raise PeerBroke(f"{name!r:.80} with {workers} workers is no tracker")
        resumed = self._returning(card, name)
        tracker = resumed or f"{name}.{self._state.next_number('incarnation')}"
        address = (take(card, "host", str), take(card, "port", int))
        old = self._peers.get(tracker)
        self._peers[tracker] = peer
        if old is not None:
            old.disconnect()
        peer.name = f"tasktracker {tracker}"
        peer.when_lost(lambda: self._disconnected(tracker, peer))
        if resumed is None:
            event: ev.Event = ev.TrackerJoined(tracker, name, workers, address)
        else:
            event = ev.TrackerResumed(tracker)
        self._reactor.callLater(0, self.feed, event)
        how = "joins" if resumed is None else "is back"
        _log.info("{tracker} {how}: {workers} workers", tracker=tracker, how=how, workers=workers)
        return {
            "who": self._who(tracker),
            "resumed": resumed is not None,
            "over": self._over(take(card, "jobs", list)),
            "heartbeat_seconds": self._config.heartbeat_seconds,
        }

    def _returning(self, card: dict[str, Any], name: str) -> str | None:
        """The incarnation that a tracker says it was, if it is believed to be alive still: by this
        life of the jobtracker, or by the one before, as ids are never given twice."""
        was = take(card, "was", (dict, type(None)))
        known = self.cluster.trackers.get(str(was.get("tracker"))) if was else None
        return known.id if known is not None and known.name == name else None

    def _over(self, jobs: list[Any]) -> dict[str, bool]:
        """Those of the jobs that have ended, and whether what they put out is kept."""
        lives = {job: self.lives.get(checked_job_id(job)) for job in jobs}
        return {
            job: bool(self._history.get(job, {}).get("kept")) if life is None else life.state.keeps
            for job, life in lives.items()
            if life is None or life.state.phase in (Phase.ENDING, Phase.ENDED)
        }

    def _disconnected(self, tracker: str, peer: Peer) -> None:
        if self._peers.get(tracker) is peer:
            del self._peers[tracker]
            self.feed(ev.TrackerDisconnected(tracker))
            self._reactor.callLater(DISCONNECTED_SECONDS, self._tick)

    def _tick(self) -> None:
        if self.running:
            self.feed(ev.Tick())

    def check_who(self, who: Any) -> str:
        """The tracker that speaks. Raises `Stale` if it is not a live incarnation of this epoch."""
        tracker = take(who, "tracker", str)
        if who != self._who(tracker) or tracker not in self._peers:
            raise Stale(f"{tracker!r:.80} is not a tracker of this cluster any more")
        return tracker

    def heartbeat(self, tracker: str, progress: list[Any]) -> None:
        if tracker in self.cluster.trackers:
            running = tuple(
                (str(job), AttemptId.parse(attempt), float(fraction))
                for job, attempt, fraction, _ in progress
            )
            self.feed(ev.Heartbeat(tracker, running))
        seen: dict[str, dict[str, tuple[float, str]]] = {}
        for job, attempt, fraction, status in progress:
            seen.setdefault(job, {})[attempt] = (float(fraction), str(status)[:200])
        for life in self.lives.values():
            if life.state.active:
                prefix = {k: v for k, v in life.progress.items() if not _of(tracker, k)}
                life.progress = prefix | {
                    f"{name}@{tracker}": value for name, value in seen.get(life.job, {}).items()
                }

    def report(self, facts: list[ev.Event]) -> Deferred[None]:
        """Feed what a tracker reports; fires when it cannot be forgotten. Facts of attempts that do
        not count change nothing."""
        self.feed(*facts)
        return self._when_logged()

    def _when_logged(self) -> Deferred[None]:
        return _once(self._logged) if self._unlogged or self._events else succeed(None)

    # ---- clients

    async def submit(self, plain: dict[str, Any], owner: Any) -> str:
        """Plan the input, reserve the output, queue the job. Raises `BadInput`, `PeerBroke`.

        ``owner`` is 32 hexadecimal digits, which the client has drawn: repeated with the same, the
        answer is the same job.
        """
        if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
            raise PeerBroke("a job's owner is not 32 hexadecimal digits")
        spec = JobSpec.from_plain(plain)
        while owner in self._submitting:
            await _once(self._submitting[owner])
        if owner not in self._jobs_of:
            done: Deferred[None] = Deferred()
            self._submitting[owner] = done
            try:
                await self._submit(spec, owner)
            finally:
                del self._submitting[owner]
                done.callback(None)
        return self._jobs_of[owner]

    async def _submit(self, spec: JobSpec, owner: str) -> None:
        output = OutputDirectory(spec.output, owner)
        workers = sum(tracker.workers for tracker in self.cluster.trackers.values())
        self._state.reserve(owner, spec.output)
        try:
            splits = await self._in_thread(plan_job, spec, output, workers)
        except Exception:
            if self.running:
                self._state.release(owner)
            raise
        try:
            if not self.running:
                raise Stale("the jobtracker is stopping")
            number = self._state.next_number("job")
            submission = Submission(
                number, spec, splits, owner, secrets.token_bytes(32), time.time()
            )
            self._state.remember(number, submission.to_plain(), owner=owner)
        except PytxmrError:
            await self._in_thread(output.discard)
            if self.running:
                with suppress(PytxmrError):  # Else the next life does it.
                    self._state.release(owner)
            raise
        life = self._begin(submission)
        _log.info("{job} is {name}, {maps} maps", job=life.job, name=spec.name, maps=len(splits))
        self.feed(submission.event())
        self._forget_old_jobs()
        await self._when_logged()

    def _begin(self, submission: Submission) -> JobLife:
        jobs = self.cluster.jobs
        life = JobLife(submission, jobs, self._call, self.feed, self._reactor, self._now)
        self.lives[life.job] = life
        self._jobs_of[submission.owner] = life.job
        ended = _once(life.ended).addCallback(lambda _: self._ended(life))
        ended.addErrback(lambda failure: _log.failure("{job} has ended", failure, job=life.job))
        ended.addCallback(lambda _: self._answer_waiting(life.job))
        return life

    def _ended(self, life: JobLife) -> None:
        del self._log_lengths[life.job]
        self._long_logs.pop(life.job, None)
        try:
            self._remember_end(life.job, life.owner)
        except PytxmrError as error:
            # Its log says the same, and stays until the next life has read it.
            _log.warn("the end of {job} is not recorded: {error}", job=life.job, error=error)

    def _remember_end(self, job: str, owner: str) -> None:
        """Put a summary of an ended job in the place of its log."""
        number = int(job.removeprefix("Job"))
        record = {"number": number, "owner": owner, "status": self.status(job)}
        self._state.remember(number, record, over=job)

    def _forget_old_jobs(self) -> None:
        ended = [job for job, life in self.lives.items() if life.ended.called]
        for job in ended[:-MOST_ENDED_JOBS]:
            del self._jobs_of[self.lives[job].owner], self.lives[job], self.cluster.jobs[job]

    def jobs(self, every: bool) -> list[dict[str, Any]]:
        """The statuses of this life's jobs; of ``every`` one, also those of earlier lives."""
        statuses = list(self._history.values()) if every else []
        return statuses + [life.status() for life in self.lives.values()]

    def status(self, job: Any) -> dict[str, Any]:
        past = self._history.get(checked_job_id(job))
        return past or self.life(job).status()

    def life(self, job: Any) -> JobLife:
        found = self.lives.get(checked_job_id(job))
        if found is None:
            raise NotFound(f"there is no {job}; `pytxmr jobs` lists them")
        return found

    async def wait(self, job: Any, seconds: float) -> dict[str, Any]:
        """The job's status, as soon as it has ended or ``seconds`` have passed."""
        if checked_job_id(job) in self._history:
            return self._history[job]
        life = self.life(job)
        if not life.ended.called:
            # Not by `_once`: what that leaves at the job's own adds up, with one who asks for days.
            ended: Deferred[None] = Deferred()
            ended.addTimeout(
                min(max(0.0, seconds), MOST_WAIT_SECONDS),
                self._reactor,
                onTimeoutCancel=lambda *_: None,
            )
            # In the order in which they asked: not a set, whose order is another in each process.
            waiting = self._waiting.setdefault(life.job, {})
            waiting[ended] = None
            await ended
            waiting.pop(ended, None)
        return life.status()

    def _answer_waiting(self, job: str) -> None:
        for waiting in list(self._waiting.pop(job, ())):
            if not waiting.called:
                waiting.callback(None)

    async def kill(self, job: Any, reason: str) -> dict[str, Any]:
        """End the job; answers when nothing of it is left."""
        if checked_job_id(job) in self.lives:
            self.feed(ev.KillJob(job, reason))
        return await self.wait(job, MOST_WAIT_SECONDS)

    async def destroy(self, job: Any) -> None:
        """Drop what is kept of an ended job: spills and logs at the trackers. Raises `PytxmrError`
        if one of them did not say that it has; may be repeated.
        """
        status = self.status(job)
        if not status["outcome"]:
            raise PytxmrError(f"{job} is {status['phase']}; `pytxmr kill {job}` ends it")
        await self._when_logged()  # else what is logged of the job would outlive its record
        self._keep_no_longer(job)
        failed: dict[str, str] = {}

        def note(failure: Failure, tracker: str) -> None:
            failed[tracker] = str(failure.value)

        for verb, args in (("destroyJob", (False,)), ("dropLogs", ())):
            await DeferredList(
                [
                    self._call(tracker, verb, job, *args).addErrback(note, tracker)
                    for tracker in dict.fromkeys([*self.cluster.trackers, *self._peers])
                ]
            )
        if failed:
            tracker, error = next(iter(failed.items()))
            raise PytxmrError(
                f"{job} may still have files at {tracker} ({error}); repeat `pytxmr destroy {job}`"
            )

    def _keep_no_longer(self, job: str) -> None:
        """A tracker that is away is told so when it registers."""
        if job in self.lives:
            self.lives[job].state.keep = False
        else:
            self._history[job]["kept"] = False
        owner = next(owner for owner, its in self._jobs_of.items() if its == job)
        self._remember_end(job, owner)

    async def logs(self, job: Any, task: Any, failed_only: bool) -> list[dict[str, str]]:
        """The logs of a job's attempts, at most 20 of them, oldest attempt first."""
        self.status(job)
        wanted = None if task is None else str(TaskId.parse(task))
        winners = self._winners(job) if failed_only else set()
        found: list[dict[str, str]] = []
        for tracker in list(self._peers):
            for attempt in await self._call(tracker, "listLogs", job):
                if wanted is not None and attempt.rpartition(".")[0] != wanted:
                    continue
                if attempt in winners:
                    continue
                text = await self._call(tracker, "readLog", job, attempt)
                if text:
                    found.append({"tracker": tracker, "attempt": attempt, "text": text})
                if len(found) == 20:
                    return found
        return found

    def _winners(self, job: str) -> set[str]:
        if job in self._history:
            raise NotFound(f"which attempts of {job} failed is forgotten; leave out --failed")
        return {str(task.winner) for task in self.life(job).state.tasks if task.winner}

    def trackers(self) -> list[dict[str, Any]]:
        free = self.cluster.free_workers()
        avoided = self.cluster.blame.avoided(self._now())
        return [
            {
                "tracker": tracker.id,
                "workers": tracker.workers,
                "busy": tracker.workers - max(0, free[tracker.id]),
                "avoided": tracker.id in avoided,
                "address": f"{tracker.address[0]}:{tracker.address[1]}",
            }
            for tracker in self.cluster.trackers.values()
        ]

    def _in_thread(self, function: Any, *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


def _settle(status: dict[str, Any], owner: str) -> None:
    """End a job of which there is no log: its output is whole, or goes."""
    output = OutputDirectory(status["output"], owner)
    whole = output.manifest().get("job") == status["job"]
    if not whole:
        output.discard()
        message = (
            f"the jobtracker ended while {status['job']} was {status['phase']}; submit it again"
        )
        status["error"] = {"message": message}
    outcome = Outcome.SUCCEEDED if whole else Outcome.FAILED
    status |= {"phase": Phase.ENDED.value, "outcome": outcome.value, "running": 0}


def _of(tracker: str, name: str) -> bool:
    return name.partition("@")[2] == tracker


def _once(shared: Deferred[None]) -> Deferred[None]:
    """A Deferred of its own for one who waits for a shared one; cancelling it harms nobody."""
    if shared.called:
        return succeed(None)
    mine: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        if not mine.called:
            mine.callback(None)
        return result

    shared.addBoth(fire)
    return mine
