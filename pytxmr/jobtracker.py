"""The jobtracker: takes jobs, knows the trackers, feeds the plan, carries out what it says.

Every fact, whether a report, a registration, a failed call or the passing of time, goes through
`JobTracker.feed`; every decision comes out of `plan.cluster.ClusterState`. In between stands
nothing but I/O: `JobLife` for what is done at trackers, avatars for who asks.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb

from pytxmr.errors import (
    NotFound,
    PeerBroke,
    PytxmrError,
    Stale,
    TrackerLost,
    Unreachable,
    from_plain,
)
from pytxmr.joblife import JobLife
from pytxmr.model import (
    AttemptId,
    InputSplit,
    JobSpec,
    TaskId,
    checked_job_id,
    job_id,
    take,
)
from pytxmr.net.listening import described, listen
from pytxmr.net.login import LoginFactory
from pytxmr.net.remote import Peer, answering
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import DISCONNECTED_SECONDS, LEASE_SECONDS, ClusterState
from pytxmr.plan.jobstate import Outcome, Phase
from pytxmr.state import MemoryState, StateStore
from pytxmr.storage.inputs import even_split_bytes, list_inputs, plan_splits
from pytxmr.storage.output import OutputDirectory

HEARTBEAT_SECONDS = 1.0
#: Ended jobs that are still listed; older ones are forgotten.
MOST_ENDED_JOBS = 200
#: The longest that `wait` holds its answer back.
MOST_WAIT_SECONDS = 20.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
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
        self._events: deque[ev.Event] = deque()
        self._feeding = False
        self._busy: dict[str, JobLife] = {}
        self._history: dict[str, dict[str, Any]] = {}
        self._incarnations = 0
        self.epoch = 0
        self.port: IListeningPort | None = None
        self._ticks = LoopingCall(self.feed, ev.Tick())
        self._ticks.clock = reactor

    # ---- life

    async def open(self) -> None:
        """Open the state and the port. Raises `BadConfiguration`."""
        directory = self._config.state_dir
        self._state = MemoryState() if directory is None else StateStore(directory)
        self.epoch = self._state.next_number("epoch")
        for record in self._state.remembered():
            status = record["status"]
            if not status["outcome"]:
                await self._in_thread(_clean_up, status, record["owner"])
                self._state.remember(record["number"], record)
            self._history[status["job"]] = status
        avatars: Any = {
            b"tasktracker": lambda peer: TrackerAvatar(self, peer),
            b"client": lambda peer: ClientAvatar(self),
        }
        factory = LoginFactory(self._config.secret, avatars, self._reactor)
        try:
            self.port = await listen(self._reactor, self._config.listen, factory)
        except BaseException:
            self._state.close()
            raise

    @property
    def address(self) -> str:
        """Where it listens, as an endpoint description for clients."""
        return described(self.port)

    def startService(self) -> None:
        super().startService()
        self._ticks.start(1.0, now=False)

    async def stopService(self) -> None:  # type: ignore[override]
        """End every job that runs, cleanly, then the port."""
        super().stopService()
        running = [life for life in self.lives.values() if life.state.phase is not Phase.ENDED]
        for life in running:
            self.feed(ev.KillJob(life.job, "the jobtracker stopped"))
        waiting = DeferredList([_once(life.ended) for life in running])
        waiting.addTimeout(5.0, self._reactor, onTimeoutCancel=lambda *_: None)
        await waiting
        if self._ticks.running:
            self._ticks.stop()
        if self.port is not None:
            stopped = self.port.stopListening()
            if stopped is not None:
                await stopped
        for peer in list(self._peers.values()):
            peer.disconnect()
        self._state.close()

    # ---- events in, instructions out

    def feed(self, *events: ev.Event) -> None:
        """Let the plan take the events, and carry out what it says. May be called from within."""
        self._events.extend(events)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._feed_one(self._events.popleft())
        finally:
            self._feeding = False
        busy, self._busy = self._busy, {}
        for life in busy.values():
            life.send()

    def _feed_one(self, event: ev.Event) -> None:
        before = set(self.cluster.trackers)
        for instruction in self.cluster.handle(event, self._reactor.seconds()):
            life = self._busy[instruction.job] = self.lives[instruction.job]
            life.carry_out(instruction)
        for tracker in before - set(self.cluster.trackers):
            _log.warn("lost {tracker}: {event}", tracker=tracker, event=type(event).__name__)
            peer = self._peers.pop(tracker, None)
            if peer is not None:
                peer.disconnect()
        job = getattr(event, "job", None)
        for life in [self.lives[job]] if job in self.lives else list(self.lives.values()):
            life.notice_phase()

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
        if resumed is None:
            self._incarnations += 1
        tracker = resumed or f"{name}.{self._incarnations}"
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
            "over": [job for job in take(card, "jobs", list) if self._is_over(job)],
            "heartbeat_seconds": self._config.heartbeat_seconds,
        }

    def _returning(self, card: dict[str, Any], name: str) -> str | None:
        """The incarnation that a tracker says it was, if it is believed to be alive still."""
        was = take(card, "was", (dict, type(None)))
        tracker = was.get("tracker") if was else None
        known = self.cluster.trackers.get(tracker) if isinstance(tracker, str) else None
        return known.id if known is not None and was == self._who(known.id) else None

    def _is_over(self, job: Any) -> bool:
        life = self.lives.get(job)
        return life is None or life.state.phase in (Phase.ENDING, Phase.ENDED)

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

    def report(self, tracker: str, facts: list[Any]) -> None:
        """Feed what a tracker reports. Facts of attempts that do not count change nothing."""
        self.feed(*[_as_event(tracker, fact) for fact in facts])

    # ---- clients

    async def submit(self, plain: dict[str, Any]) -> str:
        """Plan the input, reserve the output, queue the job. Raises `BadInput`, `PeerBroke`."""
        spec = JobSpec.from_plain(plain)
        output = OutputDirectory(spec.output)
        owner = secrets.token_hex(16)
        splits: list[InputSplit] = await self._in_thread(
            _plan, spec, output, owner, sum(t.workers for t in self.cluster.trackers.values())
        )
        if not self.running:
            await self._in_thread(output.discard)
            raise Stale("the jobtracker is stopping")
        number = self._state.next_number("job")
        job = job_id(number)
        _log.info("{job} is {name}, {maps} maps", job=job, name=spec.name, maps=len(splits))
        jobs = self.cluster.jobs
        life = JobLife(job, spec, splits, jobs, self._call, self.feed, self._reactor)
        self.lives[job] = life
        submitted = ev.JobSubmitted(
            job,
            len(splits),
            spec.reducers,
            spec.max_attempts,
            spec.keep,
            spec.speculate,
            spec.skip_bad_records,
        )
        self.feed(submitted)
        try:
            self._remember(number, owner, life)
        except PytxmrError as error:
            self.feed(ev.KillJob(job, error.message))
            raise
        ended = _once(life.ended).addCallback(lambda _: self._remember(number, owner, life))
        ended.addErrback(lambda failure: _log.failure("{job} has ended", failure, job=job))
        self._forget_old_jobs()
        return job

    def _remember(self, number: int, owner: str, life: JobLife) -> None:
        status = life.status()
        self._state.remember(number, {"number": number, "owner": owner, "status": status})

    def _forget_old_jobs(self) -> None:
        ended = [job for job, life in self.lives.items() if life.state.phase is Phase.ENDED]
        for job in ended[:-MOST_ENDED_JOBS]:
            del self.lives[job], self.cluster.jobs[job]

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
        ended = _once(life.ended)
        ended.addTimeout(
            min(max(0.0, seconds), MOST_WAIT_SECONDS),
            self._reactor,
            onTimeoutCancel=lambda *_: None,
        )
        await ended
        return life.status()

    async def kill(self, job: Any, reason: str) -> dict[str, Any]:
        """End the job; answers when nothing of it is left."""
        if checked_job_id(job) in self.lives:
            self.feed(ev.KillJob(job, reason))
        return await self.wait(job, MOST_WAIT_SECONDS)

    async def destroy(self, job: Any) -> None:
        """Drop what is kept of an ended job: spills and logs at the trackers."""
        life = self.life(job)
        if life.state.phase is not Phase.ENDED:
            raise PytxmrError(f"{job} is {life.state.phase.value}; `pytxmr kill {job}` ends it")
        for verb, args in (("destroyJob", (False,)), ("dropLogs", ())):
            await DeferredList(
                [
                    self._call(tracker, verb, life.job, *args).addErrback(lambda failure: None)
                    for tracker in list(self._peers)
                ]
            )

    async def logs(self, job: Any, task: Any, failed_only: bool) -> list[dict[str, str]]:
        """The logs of a job's attempts, at most 20 of them, oldest attempt first."""
        life = self.life(job)
        wanted = None if task is None else str(TaskId.parse(task))
        winners = {
            str(task.winner) for task in (*life.state.maps, *life.state.reduces) if task.winner
        }
        found: list[dict[str, str]] = []
        for tracker in list(self._peers):
            for attempt in await self._call(tracker, "listLogs", life.job):
                if wanted is not None and attempt.rpartition(".")[0] != wanted:
                    continue
                if failed_only and attempt in winners:
                    continue
                text = await self._call(tracker, "readLog", life.job, attempt)
                if text:
                    found.append({"tracker": tracker, "attempt": attempt, "text": text})
                if len(found) == 20:
                    return found
        return found

    def trackers(self) -> list[dict[str, Any]]:
        free = self.cluster.free_workers()
        return [
            {
                "tracker": tracker.id,
                "workers": tracker.workers,
                "busy": tracker.workers - max(0, free[tracker.id]),
                "address": f"{tracker.address[0]}:{tracker.address[1]}",
            }
            for tracker in self.cluster.trackers.values()
        ]

    def _in_thread(self, function: Any, *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


def _plan(spec: JobSpec, output: OutputDirectory, owner: str, workers: int) -> list[InputSplit]:
    files = list_inputs(spec.inputs)
    total = sum(file.size_bytes for file in files)
    splits = plan_splits(files, spec.split_bytes or even_split_bytes(total, workers))
    output.reserve()
    try:
        output.mark(owner)
    except PytxmrError:
        output.discard()
        raise
    return splits


def _clean_up(status: dict[str, Any], owner: str) -> None:
    """Settle what became of a job whose jobtracker died: its output is whole, or goes."""
    output = OutputDirectory(status["output"])
    if output.manifest().get("job") == status["job"]:
        status |= {"phase": Phase.ENDED.value, "outcome": Outcome.SUCCEEDED.value}
        return
    if output.is_marked(owner):
        output.discard()
    message = f"the jobtracker ended while {status['job']} was {status['phase']}; submit it again"
    status["error"] = {"message": message}
    status |= {"phase": Phase.ENDED.value, "outcome": Outcome.FAILED.value, "running": 0}


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


def _as_event(tracker: str, fact: Any) -> ev.Event:
    """A reported fact as an event. Raises `PeerBroke` or `NotFound` for what is none."""
    job = checked_job_id(take(fact, "job", str))
    attempt = AttemptId.parse(take(fact, "attempt", str))
    match take(fact, "fact", str):
        case "map-succeeded":
            sizes = tuple(take(fact, "partition_bytes", list))
            counters = take(fact, "counters", dict)
            first_bad = take(fact, "first_bad", (dict, type(None))) or {}
            return ev.MapSucceeded(job, tracker, attempt, sizes, counters, first_bad)
        case "reduce-succeeded":
            size, digest = take(fact, "size_bytes", int), take(fact, "digest", str)
            counters = take(fact, "counters", dict)
            return ev.ReduceSucceeded(job, tracker, attempt, size, digest, counters)
        case "attempt-failed":
            error = from_plain(take(fact, "error", dict))
            return ev.AttemptEndedBadly(job, tracker, attempt, error)
        case "fetched":
            partitions = tuple(take(fact, "partitions", list))
            return ev.SegmentsFetched(job, tracker, attempt, partitions)
        case "fetch-failed":
            return ev.FetchFailed(job, tracker, attempt, from_plain(take(fact, "error", dict)))
    raise PeerBroke(f"{fact['fact']!r:.80} is no fact")


class TrackerAvatar(pb.Avatar):
    """What a logged-in tasktracker may call."""

    def __init__(self, jobtracker: JobTracker, peer: Peer) -> None:
        self._jobtracker = jobtracker
        self._peer = peer

    @answering
    def perspective_register(self, card: Any) -> dict[str, Any]:
        return self._jobtracker.register(self._peer, card)

    @answering
    def perspective_unregister(self, who: Any) -> None:
        tracker = self._jobtracker.check_who(who)
        self._jobtracker.feed(ev.TrackerLost(tracker, "it stopped"))

    @answering
    def perspective_heartbeat(self, who: Any, progress: Any) -> None:
        self._jobtracker.heartbeat(self._jobtracker.check_who(who), progress)

    @answering
    def perspective_report(self, who: Any, facts: Any) -> None:
        self._jobtracker.report(self._jobtracker.check_who(who), facts)


class ClientAvatar(pb.Avatar):
    """What a logged-in client may call."""

    def __init__(self, jobtracker: JobTracker) -> None:
        self._jobtracker = jobtracker

    @answering
    def perspective_submit(self, spec: Any) -> Any:
        return self._jobtracker.submit(spec)

    @answering
    def perspective_status(self, job: Any) -> dict[str, Any]:
        return self._jobtracker.status(job)

    @answering
    def perspective_wait(self, job: Any, seconds: Any) -> Any:
        return self._jobtracker.wait(job, float(seconds))

    @answering
    def perspective_kill(self, job: Any, reason: Any) -> Any:
        return self._jobtracker.kill(job, str(reason)[:500])

    @answering
    def perspective_destroy(self, job: Any) -> Any:
        return self._jobtracker.destroy(job)

    @answering
    def perspective_logs(self, job: Any, task: Any, failed_only: Any) -> Any:
        return self._jobtracker.logs(job, task, bool(failed_only))

    @answering
    def perspective_jobs(self, every: Any = False) -> list[dict[str, Any]]:
        return [_brief(status) for status in self._jobtracker.jobs(bool(every))]

    @answering
    def perspective_trackers(self) -> list[dict[str, Any]]:
        return self._jobtracker.trackers()

    @answering
    def perspective_ping(self) -> str:
        return "pong"


def _brief(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what only a look at the one job needs."""
    return {k: v for k, v in status.items() if k not in ("counters", "error", "doing")}
