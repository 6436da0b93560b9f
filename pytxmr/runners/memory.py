"""A cluster in memory, on a clock of its own: for tests of Twisted programs that run jobs.

The jobtracker, the tasktrackers and the protocols between them are real, and so are maps and
reduces, over files in a temporary directory. The network, the clock and the worker processes are
the simulation's: attempts run in this process, and an hour passes as soon as nothing is to be done
in it. There is no socket, no thread, no process, and no reactor is needed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import ExitStack
from random import Random
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.python.failure import Failure

from pytxmr.client import Client
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.model import JobFunctions
from pytxmr.net.workers import Task
from pytxmr.runners.inline import as_in_a_worker
from pytxmr.simulation.clock import VirtualClock
from pytxmr.simulation.machine import Machine
from pytxmr.simulation.network import Network
from pytxmr.simulation.pool import InProcess, SimulatedPool
from pytxmr.tasktracker import TaskTracker, TrackerConfig
from pytxmr.worker import load_job, load_reuse

_SECRET = b"5e" * 32
_HOST = "10.0.0.1"
_ENDPOINT = f"tcp:{_HOST}:9000"
_LATENCY_SECONDS = (0.0005, 0.002)
_ATTEMPT_SECONDS = (0.3, 2.0)


class InMemoryCluster:
    """One jobtracker and ``trackers`` tasktrackers with ``workers`` each, between ``with`` and its
    end.

    ``client`` is logged in; ``reactor`` is what a program under test takes for its reactor: time
    passes there only while `result_of` runs. ``seed``: how long calls and attempts take is drawn
    from it.
    """

    def __init__(self, trackers: int = 2, workers: int = 1, seed: int = 0) -> None:
        self._hosts = [f"10.0.0.{number + 2}" for number in range(trackers)]
        self._workers = workers
        self._seed = seed
        self._clock = VirtualClock()
        self._network = Network(self._clock, Random(f"network {seed}"), _LATENCY_SECONDS)
        self._machines: list[Machine] = []
        self._directory = ""
        self._end = ExitStack()
        self.reactor = self._machine("10.0.1.1")
        self.client: Client

    def _machine(self, host: str) -> Machine:
        return Machine(self._clock, self._network, host, Random(f"{host} {self._seed}"))

    def __enter__(self) -> Self:
        with ExitStack() as end:
            end.enter_context(as_in_a_worker())
            self._directory = tempfile.mkdtemp(prefix="pytxmr-")
            end.callback(shutil.rmtree, self._directory, ignore_errors=True)
            config = JobTrackerConfig(f"tcp:9000:interface={_HOST}", _SECRET, heartbeat_seconds=2.0)
            self._open(end, JobTracker(self._machine(_HOST), config))
            for host in self._hosts:
                tracker = self._tracker(host)
                self._open(end, tracker)
                self.result_of(tracker.registered)
            self.client = self.result_of(Client.connect(self.reactor, _ENDPOINT, _SECRET))
            end.callback(self.client.disconnect)
            self._end = end.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end.close()

    def _open(self, end: ExitStack, service: Any) -> None:
        self.result_of(service.open())
        end.callback(lambda: self.result_of(service.stopService()))
        service.startService()

    def _tracker(self, host: str) -> TaskTracker:
        machine = self._machine(host)
        pool: Any = _Pool(machine, self._workers, _ATTEMPT_SECONDS, _Nobody(), machine.rng)
        config = TrackerConfig(
            name=f"t{host.rpartition('.')[2]}",
            work_dir=os.path.join(self._directory, host),
            workers=self._workers,
            kv_listen=f"tcp:8993:interface={host}",
            secret=_SECRET,
        )
        return TaskTracker(machine, config, clientFromString(machine, _ENDPOINT), pool)

    def result_of(
        self, doing: Deferred[Any] | Coroutine[Any, Any, Any], seconds: float = 3600
    ) -> Any:
        """Let time pass until a Deferred has fired or a coroutine has returned; what came of it,
        which is raised if it is a failure. `TimeoutError` after so many virtual seconds, or if
        nothing is left that could happen."""
        deferred = doing if isinstance(doing, Deferred) else Deferred.fromCoroutine(doing)
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        deadline = self._clock.now + seconds
        while not outcome:
            if self._clock.now > deadline or not self._clock.step():
                deferred.cancel()
                raise TimeoutError(f"nothing has come of it in {seconds:.0f} virtual seconds")
        (found,) = outcome
        if isinstance(found, Failure):
            found.raiseException()
        return found


class _Worker(InProcess):
    def functions(self) -> JobFunctions:
        """Imported anew for each attempt, as it may have state."""
        functions = load_job(self._job)
        self._reuse = load_reuse(self._job, functions)
        return functions


class _Pool(SimulatedPool):
    worker = _Worker


class _Nobody:
    """Looks at no attempt."""

    def attempt_begins(self, machine: Machine, task: Task) -> None:
        pass

    def attempt_ends(self, machine: Machine, task: Task, how: str) -> None:
        pass

    def reading(self, task: Task) -> Any:
        return lambda: None
