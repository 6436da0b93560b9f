"""The pool of worker processes of a tasktracker.

    WorkerPool ──tasks──▶ WorkerProcess ──fd 3──▶ pytxmr.worker ──fd 4──▶ answers, progress

Workers are spawned before they are needed, blank; the first task binds one to a job for good. When
the job ends its workers are killed, with their process groups, and new blank ones spawned. So a
job's code is imported once a worker, and nothing of one job can be seen by another.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import msgpack
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pytxmr.errors import AttemptFailed, PytxmrError, WorkerDied, from_plain
from pytxmr.net.limits import UNLIMITED, Families, Limits, used_bytes
from pytxmr.net.processes import WorkerTransport
from pytxmr.net.spawn import Spawned, spawn_worker
from pytxmr.net.strays import kill_strays

#: Called with the fraction done and the user's status.
Progress = Callable[[float, str], None]

#: How often the workers of jobs are looked at: for silence, and for what memory they take.
LOOK_SECONDS = 1.0

_log = Logger()


class Setup:
    """What a worker has to know of its job, which it is told once, and what it may take."""

    def __init__(self, values: dict[str, Any], limits: Limits = UNLIMITED) -> None:
        self.values = values
        self.limits = limits

    @cached_property
    def packed(self) -> bytes:
        """As a message. Raises what msgpack raises."""
        return _pack({"job": self.values})


def _pack(message: dict[str, Any]) -> bytes:
    return msgpack.packb(message, unicode_errors="surrogatepass")  # type: ignore[no-any-return]


@dataclass(slots=True, eq=False)
class Task:
    """Something for a worker to do. ``done`` fires with the worker's answer, or fails. ``alone``:
    its worker is to do nothing else, before or after it.
    """

    job: str
    attempt: str
    message: dict[str, Any]
    setup: Setup
    progress: Progress
    done: Deferred[dict[str, Any]] = field(default_factory=Deferred)
    alone: bool = False


class WorkerProcess(ProcessProtocol):
    """One child process. ``job`` is None while it is blank; ``task`` while it is idle."""

    transport: Any

    def __init__(self, gone: Callable[[WorkerProcess], None]) -> None:
        self.job: str | None = None
        self.task: Task | None = None
        self.limits = UNLIMITED
        self._silent_looks = 0
        self.dead: Deferred[None] = Deferred()
        self._gone = gone
        self._killed = ""
        self._unpacker = msgpack.Unpacker(max_buffer_size=1 << 26)

    def run(self, task: Task, data: bytes, idle: Callable[[WorkerProcess], None]) -> None:
        if self.job is None:
            data = task.setup.packed + data
        self.job, self.task, self._idle = task.job, task, idle
        self.limits = task.setup.limits
        self._silent_looks = 0
        self.transport.write(data)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            messages = list(self._unpacker)
        except (msgpack.UnpackException, ValueError):
            messages = [None]
        for message in messages:
            if not isinstance(message, dict):
                return self.kill("its worker wrote nonsense where its answer belongs")
            self._message(message)

    def _message(self, message: dict[str, Any]) -> None:
        task = self.task
        self._silent_looks = 0
        if task is None:
            return
        if "progress" in message:
            task.progress(message["progress"], message["status"])
            return
        self.task = None
        if task.alone:
            self.kill("its only task is done")
        elif not self._killed and self.transport.pid is not None:
            self._idle(self)
        if "done" in message:
            task.done.callback(message["done"])
        else:
            task.done.errback(from_plain(message["failed"]))

    def look(self, family: Iterable[str]) -> str:
        """Why it has to be killed, if so: it is silent for too long, or takes too much memory.

        ``family``: the ids of all processes of this worker's. Looks are counted, not seconds: if it
        was we who stood still, that is not its silence.
        """
        limits = self.limits
        if self.task is not None and limits.silent_seconds:
            if self._silent_looks * LOOK_SECONDS >= limits.silent_seconds:
                return limits.silence()
            self._silent_looks += 1
        if limits.most_bytes:
            used = used_bytes({str(self._pid), *family}, limits.most_bytes)
            if used > limits.most_bytes:
                return limits.excess(used)
        return ""

    def kill(self, why: str) -> None:
        """Kill the process and its group, now. ``why`` goes into the error of its task."""
        self._killed = self._killed or why
        self.transport.kill()

    def makeConnection(self, process: Any) -> None:
        self._pid = process.pid
        super().makeConnection(process)

    def processExited(self, reason: Failure) -> None:
        # What it started may be in its process group still, or may have made one of its own.
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        kill_strays(self.transport.cookie)
        self._gone(self)
        task, self.task = self.task, None
        if task is not None:
            task.done.errback(self._explain(reason))
        self.dead.callback(None)

    def _explain(self, reason: Failure) -> PytxmrError:
        if self._killed:
            return AttemptFailed(f"the attempt was ended: {self._killed}")
        value = reason.value
        number = getattr(value, "signal", None)
        if number is not None:
            how = f"was killed by signal {number} ({_signal_name(number)})"
        elif isinstance(value, ProcessDone):
            how = "exited with status 0 in the middle of the attempt"
        else:
            how = f"exited with status {getattr(value, 'exitCode', '?')}"
        return WorkerDied(f"the worker process {how}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"


#: Puts a worker process behind a protocol, which is told of it by ``makeConnection``.
Spawn = Callable[[Any, ProcessProtocol], Any]


def spawn(reactor: Any, protocol: ProcessProtocol) -> WorkerTransport:
    """The usual way: start a process."""
    return _take_over(spawn_worker(), reactor, protocol)


def _take_over(worker: Spawned, reactor: Any, protocol: ProcessProtocol) -> WorkerTransport:
    return WorkerTransport(reactor, worker, protocol)


class WorkerPool:
    """Runs tasks in at most ``workers`` processes at a time.

    ``spawned``: workers that were started already; the pool takes them over at once. ``spares``:
    whether the workers of a job that ended are replaced beforehand, for the next job, or only when
    there is a task for them.
    """

    def __init__(
        self,
        reactor: Any,
        workers: int,
        spawned: Iterable[Spawned] = (),
        spares: bool = True,
        spawn: Spawn = spawn,
    ) -> None:
        self._reactor = reactor
        self.size = workers
        self._spares = spares
        self._spawn = spawn
        self._processes: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[tuple[Task, bytes]] = deque()
        self._stopping = False
        self._families = Families()
        self._next_look: IDelayedCall | None = None
        for worker in spawned:
            worker.use_all_cores()
            self._add(partial(_take_over, worker))

    def start(self) -> None:
        """Spawn the workers; they get ready while other things are done."""
        while len(self._processes) < self.size:
            self._add(self._spawn)

    def _add(self, spawn: Spawn) -> None:
        process = WorkerProcess(self._gone)
        self._processes.append(process)
        self._idle.append(process)
        try:
            spawn(self._reactor, process)
        except BaseException:
            self._processes.remove(process)
            self._idle.remove(process)
            raise

    def run(self, task: Task) -> Deferred[dict[str, Any]]:
        """Run a task on a worker of its job, or a blank one; wait for one if all are busy.

        Fires with the worker's answer. Fails with `AttemptFailed`, `Uncarryable`, `SpillDamaged` or
        `WorkerDied`.
        """
        try:
            data = _pack(task.message)
            _ = task.setup.packed
        except (OverflowError, ValueError, TypeError) as error:
            text = f"a worker cannot be given this task: {error}"
            task.done.errback(AttemptFailed(text, final=True))
            return task.done
        if self._stopping:
            task.done.errback(AttemptFailed("the attempt was ended: the tasktracker stopped"))
            return task.done
        self._waiting.append((task, data))
        self._hand_out()
        return task.done

    def _hand_out(self) -> None:
        while self._waiting and not self._stopping:
            task = self._waiting[0][0]
            usual = None if task.alone else task.job
            process = next((p for p in self._idle if p.job == usual), None)
            process = process or next((p for p in self._idle if p.job is None), None)
            if process is not None:
                self._idle.remove(process)
                process.run(*self._waiting.popleft(), self._became_idle)
                if self._next_look is None:
                    self._next_look = self._reactor.callLater(LOOK_SECONDS, self._look)
            elif not self._spares and len(self._processes) < self.size:
                self._add(self._spawn)
            else:
                if self._idle:
                    # They have worked for other jobs, or at all: one makes room for a blank one.
                    self._idle.pop(0).kill("its worker was needed by another job")
                return

    def _became_idle(self, process: WorkerProcess) -> None:
        self._idle.append(process)
        self._hand_out()

    def _look(self) -> None:
        self._next_look = None
        families = self._families.found()
        for process in [process for process in self._processes if process.job is not None]:
            self._next_look = self._next_look or self._reactor.callLater(LOOK_SECONDS, self._look)
            why = process.look(families.get(process.transport.cookie, ()))
            if why and process in self._idle:
                self._idle.remove(process)
            if why:
                process.kill(why)

    def _gone(self, process: WorkerProcess) -> None:
        self._processes.remove(process)
        if process in self._idle:
            self._idle.remove(process)
        if self._next_look is not None and all(left.job is None for left in self._processes):
            self._next_look.cancel()
            self._next_look = None
        if self._stopping:
            return
        if process.job is None and process.task is None:
            _log.error("a worker process died before it had anything to do")
            self._reactor.callLater(1.0, self._replace)
        elif self._spares or self._waiting:
            self._replace()

    def _replace(self) -> None:
        if not self._stopping and len(self._processes) < self.size:
            self._add(self._spawn)
            self._hand_out()

    def kill_attempt(self, job: str, attempt: str, why: str) -> None:
        """End one attempt, wherever it is."""
        self._drop_waiting(lambda task: (task.job, task.attempt) == (job, attempt), why)
        for process in self._processes:
            if process.task and (process.task.job, process.task.attempt) == (job, attempt):
                process.kill(why)

    def retire(self, job: str) -> Deferred[Any]:
        """Kill the job's workers and all they started; fires when they are dead."""
        self._drop_waiting(lambda task: task.job == job, "the job ended")
        return self._kill([p for p in self._processes if p.job == job], "the job ended")

    def stop(self) -> Deferred[Any]:
        """Kill all workers, for good; fires when they are dead."""
        self._stopping = True
        self._drop_waiting(lambda task: True, "the tasktracker stopped")
        return self._kill(list(self._processes), "the tasktracker stopped")

    def _drop_waiting(self, ended: Callable[[Task], bool], why: str) -> None:
        for item in [item for item in self._waiting if ended(item[0])]:
            self._waiting.remove(item)
            item[0].done.errback(AttemptFailed(f"the attempt was ended: {why}"))

    @staticmethod
    def _kill(processes: list[WorkerProcess], why: str) -> Deferred[Any]:
        dead = DeferredList([process.dead for process in processes])
        for process in processes:
            process.kill(why)
        return dead
