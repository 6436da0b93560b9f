"""The pool of worker processes of a tasktracker.

    WorkerPool ──tasks──▶ WorkerProcess ──fd 3──▶ pytxmr.worker ──fd 4──▶ answers, progress

Workers are spawned before they are needed, blank; the first task binds one to a job for good. When
the job ends its workers are killed, with their process groups, and new blank ones spawned. So a
job's code is imported once a worker, and nothing of one job can be seen by another.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pytxmr.errors import AttemptFailed, PytxmrError, WorkerDied, from_plain

#: Set in a worker's environment, so that whatever it started can be found again (Linux: /proc).
COOKIE = "PYTXMR_WORKER"

#: What a worker runs. It finds pytxmr where we did: `python -m pytxmr` in a checkout looks in the
#: working directory, which a worker does not.
_BOOT = f"""\
import sys
where = {os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))!r}
if where not in sys.path:
    sys.path.insert(0, where)
from pytxmr.worker import main
main()
"""

#: Called with the fraction done and the user's status.
Progress = Callable[[float, str], None]

_log = Logger()


@dataclass(slots=True, eq=False)
class Task:
    """Something for a worker to do. ``done`` fires with the worker's answer, or fails."""

    job: str
    attempt: str
    message: dict[str, Any]
    progress: Progress
    done: Deferred[dict[str, Any]] = field(default_factory=Deferred)


class WorkerProcess(ProcessProtocol):
    """One child process. ``job`` is None while it is blank; ``task`` while it is idle."""

    transport: Any

    def __init__(self, gone: Callable[[WorkerProcess], None]) -> None:
        self.job: str | None = None
        self.task: Task | None = None
        self.cookie = uuid.uuid4().hex
        self.dead: Deferred[None] = Deferred()
        self._gone = gone
        self._killed = ""
        self._unpacker = msgpack.Unpacker(max_buffer_size=1 << 26)
        self._leads_group = False

    def run(self, task: Task, data: bytes, idle: Callable[[WorkerProcess], None]) -> None:
        self.job, self.task, self._idle = task.job, task, idle
        self.transport.writeToChild(3, data)

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
        if "ready" in message:
            self._leads_group = True
            return
        task = self.task
        if task is None:
            return
        if "progress" in message:
            task.progress(message["progress"], message["status"])
            return
        self.task = None
        if not self._killed:
            self._idle(self)
        if "done" in message:
            task.done.callback(message["done"])
        else:
            task.done.errback(from_plain(message["failed"]))

    def kill(self, why: str) -> None:
        """Kill the process and its group, now. ``why`` goes into the error of its task."""
        self._killed = self._killed or why
        pid = self.transport.pid
        try:
            if self._leads_group and pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                self.transport.signalProcess("KILL")
        except (ProcessLookupError, ProcessExitedAlready):
            pass

    def processExited(self, reason: Failure) -> None:
        # Not processEnded: that waits until grandchildren, too, have closed the pipes.
        if self._leads_group:
            self._kill_group()
        kill_strays(self.cookie)
        self._gone(self)
        task, self.task = self.task, None
        self.transport.loseConnection()
        if task is not None:
            task.done.errback(self._explain(reason))
        self.dead.callback(None)

    def _kill_group(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def makeConnection(self, process: Any) -> None:
        self._pid = process.pid
        super().makeConnection(process)

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


def kill_strays(cookie: str) -> None:
    """Kill what a dead worker left behind: every process that has its cookie in its environment.

    A process group does not hold a daemon that made a session of its own; its environment does.
    """
    needle = f"{COOKIE}={cookie}".encode()
    try:
        pids = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return
    for pid in pids:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if needle in file.read():
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass


class WorkerPool:
    """Runs tasks in at most ``workers`` processes at a time."""

    def __init__(self, reactor: Any, workers: int) -> None:
        self._reactor = reactor
        self.size = workers
        self._processes: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[tuple[Task, bytes]] = deque()
        self._stopping = False

    def start(self) -> None:
        """Spawn the workers; they get ready while other things are done."""
        for _ in range(self.size):
            self._spawn()

    def _spawn(self) -> None:
        process = WorkerProcess(self._gone)
        environment = os.environ | {COOKIE: process.cookie}
        devnull = os.open(os.devnull, os.O_RDONLY)
        try:
            self._reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, "-P", "-c", _BOOT],
                env=environment,
                childFDs={0: devnull, 1: 2, 2: 2, 3: "w", 4: "r"},
            )
        finally:
            os.close(devnull)
        self._processes.append(process)
        self._idle.append(process)

    def run(self, task: Task) -> Deferred[dict[str, Any]]:
        """Run a task on a worker of its job, or a blank one; wait for one if all are busy.

        Fires with the worker's answer. Fails with `AttemptFailed`, `Uncarryable`, `SpillDamaged` or
        `WorkerDied`.
        """
        try:
            data = msgpack.packb(task.message, unicode_errors="surrogatepass")
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
        while self._waiting and self._idle and not self._stopping:
            job = self._waiting[0][0].job
            process = next((p for p in self._idle if p.job == job), None)
            process = process or next((p for p in self._idle if p.job is None), None)
            if process is None:
                # All idle ones belong to other jobs: one makes room for a blank one.
                self._idle.pop(0).kill("its worker was needed by another job")
                return
            self._idle.remove(process)
            process.run(*self._waiting.popleft(), self._became_idle)

    def _became_idle(self, process: WorkerProcess) -> None:
        self._idle.append(process)
        self._reactor.callLater(0, self._hand_out)

    def _gone(self, process: WorkerProcess) -> None:
        self._processes.remove(process)
        if process in self._idle:
            self._idle.remove(process)
        if not self._stopping:
            if process.job is None and process.task is None:
                _log.error("a worker process died before it had anything to do")
                self._reactor.callLater(1.0, self._replace)
            else:
                self._replace()

    def _replace(self) -> None:
        if not self._stopping and len(self._processes) < self.size:
            self._spawn()
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
