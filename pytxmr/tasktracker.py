"""The tasktracker: runs attempts in worker processes, keeps spills, fetches, serves, reports.

It decides nothing. The jobtracker's verbs (`TaskTrackerVerbs`) say what to do; the `JobWork` of
each job does it; what comes of it is put into an outbox and reported, again and again until the
jobtracker has taken it. When the connection is lost the tracker goes on with what it was told, and
registers anew: as the incarnation that it is, if the jobtracker still believes it alive, or as
another one, which owns nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.spread import pb
from zope.interface import implementer

from pytxmr.attemptlogs import AttemptLogs
from pytxmr.backoff import backoff_seconds
from pytxmr.errors import (
    AttemptFailed,
    BadConfiguration,
    NotFound,
    PeerBroke,
    PytxmrError,
    Refused,
    Stale,
    TooLarge,
)
from pytxmr.failpoints import fail_point
from pytxmr.interfaces import ITaskTracker
from pytxmr.jobwork import JobWork, Means, kept_job_leaves
from pytxmr.model import AttemptId, checked_job_id
from pytxmr.net.fetch import Fetcher
from pytxmr.net.kvserver import KeyValueFactory
from pytxmr.net.limits import DEFAULT_MEMORY_BYTES
from pytxmr.net.listening import described, listen
from pytxmr.net.login import log_in
from pytxmr.net.remote import Peer, answering, sendable_error
from pytxmr.net.secret import inspection_token
from pytxmr.net.workers import WorkerPool
from pytxmr.store import KeyValueStore

#: Pauses between tries to connect to the jobtracker: doubled from the first up to the second.
RECONNECT_SECONDS = (0.1, 0.5)
#: Facts in one report, at the most.
_MOST_FACTS = 100

_log = Logger()


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """``kv_listen`` is an endpoint description; ``memory_bytes`` is what a worker process may take,
    for a job that does not say.
    """

    name: str
    work_dir: str
    workers: int
    kv_listen: str
    secret: bytes = field(repr=False)
    memory_bytes: int = DEFAULT_MEMORY_BYTES


class TaskTracker(Service):
    """One machine's part of the cluster. ``jobtracker`` is where to log in.

    ``pool`` runs its attempts: by default one of ``config.workers`` processes.
    """

    def __init__(
        self,
        reactor: Any,
        config: TrackerConfig,
        jobtracker: IStreamClientEndpoint,
        pool: WorkerPool | None = None,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._endpoint = jobtracker
        self._jobs_dir = os.path.join(config.work_dir, "jobs")
        self._logs_dir = os.path.join(config.work_dir, "logs")
        self.logs = AttemptLogs(self._logs_dir)
        self.store = KeyValueStore(self._jobs_dir)
        self.pool = pool or WorkerPool(reactor, config.workers)
        self._fetcher = Fetcher(reactor)
        self._means = Means(
            reactor,
            self.store,
            self.pool,
            self._fetcher,
            self.logs,
            config.memory_bytes,
            self.report,
        )
        self._jobs: dict[str, JobWork] = {}
        self._dropped = 0
        self._outbox: list[dict[str, Any]] = []
        self._most_facts = _MOST_FACTS
        self._reporting = False
        self._peer: Peer | None = None
        self.who: dict[str, Any] | None = None
        self._beat: LoopingCall | None = None
        self._lock: Any = None
        self.kv_port: IListeningPort | None = None
        self._connecting: Deferred[None] | None = None
        #: Fires, with None, when the jobtracker has taken this tracker in for the first time.
        self.registered: Deferred[None] = Deferred()
        #: Fires with the reason if this tracker cannot belong to the cluster, and tries no more.
        self.gave_up: Deferred[BadConfiguration] = Deferred()

    # ---- life

    async def open(self) -> None:
        """Take the work directory and the port. Raises `BadConfiguration`."""
        self._take_work_dir()
        token = inspection_token(self._config.secret)
        self._server = KeyValueFactory(self.store, token, self._reactor)
        try:
            self.kv_port = await listen(self._reactor, self._config.kv_listen, self._server)
        except BaseException:
            self._lock.close()
            raise

    @property
    def address(self) -> str:
        """Where map output is served, as an endpoint description."""
        return described(self.kv_port)

    def _take_work_dir(self) -> None:
        try:
            os.makedirs(self._config.work_dir, mode=0o700, exist_ok=True)
            self._lock = open(os.path.join(self._config.work_dir, "lock"), "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadConfiguration(
                f"another tasktracker uses {self._config.work_dir}; give each its own --work-dir"
            ) from error
        except OSError as error:
            raise BadConfiguration(
                f"cannot use {self._config.work_dir}: {error.strerror}"
            ) from error
        # What an earlier life left: this incarnation owns nothing.
        shutil.rmtree(self._jobs_dir, ignore_errors=True)
        for directory in (self._jobs_dir, self._logs_dir):
            os.makedirs(directory, mode=0o700, exist_ok=True)

    def startService(self) -> None:
        """Spawn the workers and keep connected to the jobtracker. `open` comes before."""
        super().startService()
        self.pool.start()
        self._connecting = Deferred.fromCoroutine(self._stay_connected())

    async def _stay_connected(self) -> None:
        failures, refused = 0, False
        while self.running:
            try:
                lost = await self._register()
            except BadConfiguration as error:
                self.gave_up.callback(error)
                return
            except PytxmrError as error:
                if not self.running:
                    return
                if not refused or not isinstance(error, Refused):
                    _log.warn("not registered: {error}", error=error)
                refused = isinstance(error, Refused)
                failures += 1
                await self._pause(failures)
                continue
            failures = 0
            await lost
            self._disconnected()
            await self._pause(1)

    async def _pause(self, failures: int) -> None:
        # A jobtracker that is back is not met by all of its trackers at once.
        seconds = backoff_seconds(RECONNECT_SECONDS, failures, self._config.name)
        await deferLater(self._reactor, seconds)

    async def _register(self) -> Deferred[None]:
        """Log in and register; the Deferred returned fires when the connection is lost."""
        lost: Deferred[None] = Deferred()
        verbs = TaskTrackerVerbs(self)
        peer = await log_in(
            self._endpoint,
            "tasktracker",
            self._config.secret,
            verbs,
            self._reactor,
            "the jobtracker",
            on_lost=lambda: None if lost.called else lost.callback(None),
        )
        assert self.kv_port is not None
        address = self.kv_port.getHost()
        try:
            answer = await peer.call(
                "register",
                {
                    "name": self._config.name,
                    "workers": self._config.workers,
                    "was": self.who,
                    "jobs": list(dict.fromkeys([*self._jobs, *self.store.jobs()])),
                    "host": _reachable(getattr(address, "host", "127.0.0.1")),
                    "port": getattr(address, "port", 0),
                },
            )
        except PytxmrError:
            peer.disconnect()
            raise
        over: dict[str, bool] = answer["over"]
        if not answer["resumed"]:
            over = over | dict.fromkeys(self._jobs, False)
        for job, keep in over.items():
            self._drop_job(job, keep)
        if not answer["resumed"]:
            self._outbox.clear()
        self._peer, self.who = peer, answer["who"]
        self._send_reports()
        _log.info("registered as {tracker}", tracker=answer["who"]["tracker"])
        if not self.registered.called:
            self.registered.callback(None)
        self._beat = LoopingCall(self._heartbeat, peer)
        self._beat.clock = self._reactor
        self._beat.start(answer["heartbeat_seconds"], now=False)
        return lost

    def _heartbeat(self, peer: Peer) -> Deferred[Any]:
        progress = [
            [job.id, attempt, fraction, status]
            for job in self._jobs.values()
            for attempt, (fraction, status) in job.running.items()
        ]
        answer = peer.call("heartbeat", self.who, progress, seconds=10.0)
        # Whether refused or not answered: as it connects anew it learns whether it is over.
        return answer.addErrback(lambda failure: peer.disconnect())

    def _disconnected(self) -> None:
        _log.info("the connection to the jobtracker is lost")
        self._peer = None
        if self._beat is not None and self._beat.running:
            self._beat.stop()

    def _drop_job(self, job: str, keep: bool) -> None:
        dropped = self.destroy_job(job, keep)
        dropped.addErrback(lambda failure: _log.failure("dropping a job", failure))

    async def stopService(self) -> None:  # type: ignore[override]
        """Tell the jobtracker, end the workers, close the port, remove every job's files."""
        super().stopService()
        if self._connecting is not None:
            self._connecting.addErrback(lambda failure: None)
            self._connecting.cancel()
        if self._beat is not None and self._beat.running:
            self._beat.stop()
        peer, who, self._peer = self._peer, self.who, None
        if peer is not None:
            try:
                await peer.call("unregister", who, seconds=2.0)
            except PytxmrError:
                pass
            peer.disconnect()
        for job in self._jobs.values():
            job.end()
            await job.at_rest()
        self._fetcher.close()
        await self.pool.stop()
        if self.kv_port is not None:
            await _as_deferred(self.kv_port.stopListening())
            self._server.close()
        shutil.rmtree(self._jobs_dir, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    # ---- reports

    def report(self, fact: dict[str, Any]) -> None:
        """Put a fact into the outbox; it is sent until the jobtracker has taken it."""
        self._outbox.append(fact)
        self._send_reports()

    def _send_reports(self) -> None:
        if self._reporting or not self._outbox or self._peer is None:
            return
        self._reporting = True
        batch = self._outbox[: self._most_facts]
        peer = self._peer
        sent = peer.call("report", self.who, batch)

        def taken(_: Any) -> None:
            self._reporting = False
            self._most_facts = _MOST_FACTS
            if self._peer is peer:
                del self._outbox[: len(batch)]
            self._send_reports()

        def failed(failure: Any) -> None:
            self._reporting = False
            _log.warn("a report was not taken: {error}", error=failure.value)
            if failure.check(PeerBroke, TooLarge) and self._peer is peer:
                self._refused(batch, failure.value)
                self._send_reports()
            else:
                peer.disconnect()

        sent.addCallbacks(taken, failed)

    def _refused(self, batch: list[dict[str, Any]], error: PytxmrError) -> None:
        """The jobtracker will never take these facts as they are. One by one it shows which it is;
        of that only the failure of its attempt is left, or nothing."""
        if len(batch) > 1:
            self._most_facts = 1
            return
        refused = self._outbox.pop(0)
        _log.critical("the jobtracker cannot be told: {fact}", fact=f"{refused!r:.1000}")
        if str(refused.get("fact", "")).endswith("-succeeded"):
            failed = AttemptFailed(f"its result cannot be reported: {error.message}", final=True)
            ids = {name: refused[name] for name in ("job", "attempt")}
            self._outbox.insert(
                0, ids | {"fact": "attempt-failed", "error": sendable_error(failed)}
            )

    # ---- the five verbs

    def init_job(self, job: str, setup: dict[str, Any]) -> Deferred[None] | None:
        """Prepare to work for a job: when this has returned or, if it has side files, the Deferred
        fires. Raises, or fails with, `PytxmrError`.
        """
        if job not in self._jobs:
            self._jobs[job] = JobWork(job, self._directory(job), setup, self._means)
        work = self._jobs[job]
        if not work.files:
            return None
        return Deferred.fromCoroutine(work.lay_down_files()).addErrback(self._not_laid_down, work)

    def _not_laid_down(self, failure: Any, work: JobWork) -> Any:
        if self._jobs.get(work.id) is work:
            self._drop_job(work.id, False)
        return failure

    def execute_map(self, job: str, tasks: list[dict[str, Any]]) -> None:
        work = self._job(job)
        work.start_all(work.execute_map, tasks)

    def shuffle(self, job: str, wanted: list[Any]) -> None:
        self._job(job).shuffle(wanted, str((self.who or {}).get("tracker")))

    def reduce(self, job: str, tasks: list[dict[str, Any]]) -> None:
        work = self._job(job)
        work.start_all(work.reduce, tasks)

    def destroy_job(self, job_id: str, keep: bool) -> Deferred[Any]:
        """End the job's workers, then remove its files; with ``keep`` the spills stay served."""
        fail_point("job-destroying")
        job = self._jobs.pop(job_id, None)
        if job is not None:
            job.end()
        directory = self._directory(job_id)
        if keep:
            doomed = kept_job_leaves(directory)
        else:
            self.store.drop_job(job_id)
            # Out of the way at once: the next incarnation may be given the same job.
            self._dropped += 1
            doomed = [f"{directory}.dropped{self._dropped}"]
            with suppress(FileNotFoundError):
                os.rename(directory, doomed[0])
        threads = self._reactor.getThreadPool()
        return self.pool.retire(job_id).addCallback(
            lambda _: deferToThreadPool(self._reactor, threads, _remove_all, doomed)
        )

    def kill_attempt(self, job: str, attempt: AttemptId) -> None:
        self.pool.kill_attempt(job, str(attempt), "the jobtracker ended it")

    def _job(self, job_id: str) -> JobWork:
        found = self._jobs.get(checked_job_id(job_id))
        if found is None:
            raise NotFound(f"{job_id} was not initialised here")
        return found

    def _directory(self, job: str) -> str:
        return os.path.join(self._jobs_dir, job)


@implementer(ITaskTracker)
class TaskTrackerVerbs(pb.Referenceable):
    """What the jobtracker may call; checks who speaks to whom, then hands on to `TaskTracker`."""

    def __init__(self, tracker: TaskTracker) -> None:
        self._tracker = tracker

    def _check(self, who: Any) -> None:
        if who != self._tracker.who:
            raise Stale("the call is for another incarnation of this tracker")

    @answering
    def remote_initJob(self, who: Any, job: Any, setup: Any) -> Deferred[None] | None:
        self._check(who)
        return self._tracker.init_job(checked_job_id(job), setup)

    @answering
    def remote_executeMap(self, who: Any, job: Any, tasks: Any) -> None:
        self._check(who)
        self._tracker.execute_map(job, tasks)

    @answering
    def remote_shuffle(self, who: Any, job: Any, wanted: Any) -> None:
        self._check(who)
        self._tracker.shuffle(job, wanted)

    @answering
    def remote_reduce(self, who: Any, job: Any, tasks: Any) -> None:
        self._check(who)
        self._tracker.reduce(job, tasks)

    @answering
    def remote_killAttempt(self, who: Any, job: Any, attempt: Any) -> None:
        self._check(who)
        self._tracker.kill_attempt(checked_job_id(job), AttemptId.parse(attempt))

    @answering
    def remote_destroyJob(self, who: Any, job: Any, keep: Any) -> Deferred[Any]:
        self._check(who)
        ended = self._tracker.destroy_job(checked_job_id(job), bool(keep))
        return ended.addCallback(lambda _: None)

    @answering
    def remote_listLogs(self, who: Any, job: Any) -> list[str]:
        self._check(who)
        return self._tracker.logs.attempts(checked_job_id(job))

    @answering
    def remote_readLog(self, who: Any, job: Any, attempt: Any) -> str:
        self._check(who)
        return self._tracker.logs.read(checked_job_id(job), str(AttemptId.parse(attempt)))

    @answering
    def remote_followLogs(
        self, who: Any, job: Any, task: Any, seen: Any, is_over: Any
    ) -> list[tuple[str, str, int]]:
        self._check(who)
        return self._tracker.logs.following(checked_job_id(job), task, dict(seen), bool(is_over))

    @answering
    def remote_dropLogs(self, who: Any, job: Any) -> None:
        self._check(who)
        self._tracker.logs.drop(checked_job_id(job))

    @answering
    def remote_ping(self) -> str:
        return "pong"


def _remove_all(paths: list[str]) -> None:
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.exists(path):
            os.unlink(path)


def _reachable(host: str) -> str:
    """The address that others are told: of a listener on all interfaces, this machine's name."""
    return socket.getfqdn() if host in ("0.0.0.0", "::") else host


def _as_deferred(value: Any) -> Deferred[Any]:
    return value if isinstance(value, Deferred) else succeed(value)
