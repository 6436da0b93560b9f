"""In place of a tracker's worker processes: attempts run here, each in one go, at its virtual end.

What an attempt does is real: the worker's own code over real files. A worker that dies, or is
killed, leaves part of a file behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import msgpack
from twisted.internet.defer import Deferred, succeed

from pytxmr.errors import AttemptFailed, WorkerDied, from_plain, to_plain
from pytxmr.job import context
from pytxmr.model import InputSplit, JobFunctions
from pytxmr.net.workers import Task
from pytxmr.simulation.clock import Call
from pytxmr.simulation.deaths import Death, Life
from pytxmr.simulation.jobs import functions_of
from pytxmr.simulation.machine import Machine
from pytxmr.worker import Worker, done_message


class Watcher(Protocol):
    """Who looks at every attempt."""

    def attempt_begins(self, machine: Machine, task: Task) -> None: ...

    def attempt_ends(self, machine: Machine, task: Task, how: str) -> None: ...

    def reading(self, task: Task) -> Callable[[], None]:
        """Look at what a reduce is about to read; to be called if it has succeeded."""


class InProcess(Worker):
    """A worker's work on one attempt, without its process."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def _progress(self, fraction: float) -> None:
        """Nobody can look while it runs."""

    def _watch(self, signs: Any) -> None:
        """Likewise."""

    def _say_window(self, window: tuple[int, int], split: InputSplit) -> None:
        """Likewise."""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        context.begin_job(self._job["params"])
        context.begin_attempt()
        return done_message(self.run(self.functions(), message))

    def functions(self) -> JobFunctions:
        """Those of a job of the simulation, which has neither parameters nor modules."""
        with open(self._job["source_path"], "rb") as file:
            source = file.read()
        return functions_of(source, self._job["code"]["filename"])


@dataclass(eq=False)
class _Running:
    task: Task
    ends: Call
    halfway: Call


class SimulatedPool:
    """What a tasktracker needs of its `WorkerPool`. An attempt takes between
    ``seconds``, on a machine that is not slow. ``dying`` and ``hanging`` count the attempts to come
    that do. ``worker``: what does the work of one attempt."""

    worker: type[InProcess] = InProcess

    def __init__(
        self,
        machine: Machine,
        workers: int,
        seconds: tuple[float, float],
        watcher: Watcher,
        rng: Random,
    ) -> None:
        self.size = workers
        self.dying = 0
        self.hanging = 0
        self._machine = machine
        self._seconds = seconds
        self._watcher = watcher
        self._rng = rng
        self._running: list[_Running] = []
        self._waiting: deque[Task] = deque()
        self._stopping = False

    def start(self) -> None:
        """There is nothing to spawn."""

    def run(self, task: Task) -> Deferred[dict[str, Any]]:
        if self._stopping:
            task.done.errback(AttemptFailed("the attempt was ended: the tasktracker stopped"))
        else:
            self._waiting.append(task)
            self._hand_out()
        return task.done

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self.size and not self._stopping:
            self._begin(self._waiting.popleft())

    def _begin(self, task: Task) -> None:
        self._watcher.attempt_begins(self._machine, task)
        seconds = self._rng.uniform(*self._seconds) * self._machine.slow
        later = self._machine.callLater
        ends: Callable[[_Running], None] = self._finish
        if self.hanging:
            self.hanging -= 1
            seconds, ends = task.setup.limits.silent_seconds + 1.0, self._timed_out
        elif self.dying:
            self.dying -= 1
            seconds, ends = seconds * self._rng.random(), self._die
        running = _Running(
            task, later(seconds, lambda: ends(running)), later(seconds / 2, self._tell, task)
        )
        self._running.append(running)

    @staticmethod
    def _tell(task: Task) -> None:
        task.progress(0.5, "halfway")

    def _finish(self, running: _Running) -> None:
        task = running.task
        looked = self._watcher.reading(task)
        worker = self.worker(task.setup.values)
        life = Life(task.message.get("bad", {}).get("note_path", ""))
        data, plain = b"", None
        try:
            with life, self._machine.disk():
                data = msgpack.packb(worker.answer(task.message))
        except (Exception, Death) as error:
            plain = to_plain(worker.explained(error))
        if life.dead:
            self._die(running)
        elif plain is not None:
            self._end(running, f"failed: {plain['message']}")
            task.done.errback(from_plain(plain))
        else:
            looked()
            self._end(running, "succeeded")
            task.done.callback(msgpack.unpackb(data))

    def _die(self, running: _Running) -> None:
        self._leave_part(running.task)
        self._end(running, "died")
        text = "the worker process was killed by signal 9 (SIGKILL)"
        running.task.done.errback(WorkerDied(text))

    def _timed_out(self, running: _Running) -> None:
        self._leave_part(running.task)
        self._end(running, "timed out")
        why = running.task.setup.limits.silence()
        running.task.done.errback(AttemptFailed(f"the attempt was ended: {why}"))

    def _end(self, running: _Running, how: str) -> None:
        self._running.remove(running)
        for call in (running.ends, running.halfway):
            if call.active():
                call.cancel()
        self._watcher.attempt_ends(self._machine, running.task, how)
        self._machine.callLater(0, self._hand_out)

    def _leave_part(self, task: Task) -> None:
        path = task.message.get("spill_path") or task.message["output_path"]
        try:
            with open(path, "wb") as file:
                file.write(b"half a file"[: self._rng.randrange(12)])
        except OSError:
            pass

    def crash(self) -> None:
        """The machine is gone, and all workers with it."""
        for running in self._running:
            if self._rng.random() < 0.5:
                self._leave_part(running.task)
            self._watcher.attempt_ends(self._machine, running.task, "crashed")

    def kill_attempt(self, job: str, attempt: str, why: str) -> None:
        self._kill(lambda task: (task.job, task.attempt) == (job, attempt), why)

    def retire(self, job: str) -> Deferred[Any]:
        self._kill(lambda task: task.job == job, "the job ended")
        return self._moment()

    def stop(self) -> Deferred[Any]:
        self._stopping = True
        self._kill(lambda task: True, "the tasktracker stopped")
        return succeed(None)

    def _moment(self) -> Deferred[Any]:
        """Fires when processes that were killed just now have been waited for."""
        dead: Deferred[Any] = Deferred()
        self._machine.callLater(self._rng.uniform(0.0, 0.02), dead.callback, None)
        return dead

    def _kill(self, ended: Callable[[Task], bool], why: str) -> None:
        error = AttemptFailed(f"the attempt was ended: {why}")
        for task in [task for task in self._waiting if ended(task)]:
            self._waiting.remove(task)
            task.done.errback(error)
        for running in [running for running in self._running if ended(running.task)]:
            self._leave_part(running.task)
            self._end(running, f"killed: {why}")
            running.task.done.errback(error)
