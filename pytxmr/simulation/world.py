"""One simulated cluster, from its start to the end of its jobs.

A `World` is built from a `Scenario`, which says what is drawn from the seed. `World.run` returns
the violations: what should not have been. None means that every promise was kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from pytxmr.client import connect, submit
from pytxmr.errors import BadInput, NotFound, PytxmrError, Unreachable
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.model import JobSpec
from pytxmr.simulation import faults as faults_
from pytxmr.simulation import strangers
from pytxmr.simulation.clock import VirtualClock
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.jobs import JobKind, spec_of, truth_of
from pytxmr.simulation.machine import Machine
from pytxmr.simulation.network import CONTROL_PORT, SHUFFLE_PORT, Network
from pytxmr.simulation.oracle import Oracle
from pytxmr.simulation.pool import SimulatedPool
from pytxmr.simulation.process import determined, limiting, linking, observing
from pytxmr.simulation.scenario import Scenario
from pytxmr.tasktracker import TaskTracker, TrackerConfig

SECRET = b"5e" * 32
HEARTBEAT_SECONDS = 2.0
#: The time in which jobs have to end when nothing fails any more. What takes longest is a fetch
#: from a source that is not heard: three tries of 60 s each, and then the map runs again.
BOUND_SECONDS = 400.0
#: For each record that is searched for (see `plan.deadly`): 19 probes of 60 records, of 5 s each.
SEARCH_SECONDS = 95.0
#: The time in which nothing may be left of jobs that have ended. A call to a tracker that was out
#: of reach takes up to 30 s, a connection to it up to 70 s to be given up.
CLEAN_SECONDS = 200.0


@dataclass(eq=False)
class Site:
    """A place where a service runs, on one machine after the other."""

    index: int
    name: str
    host: str
    directory: str
    rng: Random
    machine: Machine | None = None
    service: Any = None
    pool: SimulatedPool | None = None


@dataclass(eq=False)
class Submission:
    """A job as its client knows it."""

    kind: JobKind
    spec: JobSpec
    owner: str
    id: str | None = None
    status: dict[str, Any] = field(default_factory=dict)
    #: Whether somebody has said that it is to be killed, and what the answer was at last.
    killing: bool = False
    killed: dict[str, Any] = field(default_factory=dict)


class World:
    """``directory`` is empty, and stays the caller's; ``inputs`` is shared by worlds."""

    secret = SECRET

    def __init__(
        self,
        scenario: Scenario,
        directory: str,
        inputs: str,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.directory = directory
        self._inputs = inputs
        seed = scenario.seed
        self.clock = VirtualClock()
        self.network = Network(self.clock, Random(f"network {seed}"), scenario.latency)
        self.network.told = self.tell
        self._trace = trace
        self.oracle = Oracle(self)
        self.sites = [self._site(0, "jobtracker")]
        self.sites += [self._site(i + 1, f"t{i + 1}") for i in range(len(scenario.workers))]
        self.client = Machine(self.clock, self.network, "10.0.1.1", Random(f"client {seed}"))
        #: Whence strangers call: from outside, and from the same machine as whoever they call at.
        self.outside, self.beside = (self._strange(host) for host in ("10.0.2.1", "127.0.0.1"))
        self.visits: dict[strangers.Visit, None] = {}
        self.submissions: list[Submission] = []
        for number, kind in enumerate(scenario.jobs):
            output = os.path.join(directory, f"output-{number}")
            owner = f"{number:032x}"
            spec = replace(spec_of(kind, inputs, output), speculate=scenario.speculate)
            self.submissions.append(Submission(kind, spec, owner))
        self.truths = [truth_of(kind, inputs) for kind in scenario.jobs]
        self.destroyed: list[str] = []
        self.begun: list[Fault] = []
        self.reports: dict[str, str] = {}
        #: After how many bytes of its answers the client's next connection is reset.
        self.cut_client_after: int | None = None
        #: Amid the next change of the jobtracker's state its power goes.
        self.power_cut: Fault | None = None
        self._undo: dict[int, Callable[[], None]] = {}
        self._last_fault = 0.0
        self._fault_ended = -1.0
        self._peace = False

    def _site(self, index: int, name: str) -> Site:
        rng = Random(f"{name} {self.scenario.seed}")
        directory = os.path.join(self.directory, name)
        return Site(index, name, f"10.0.0.{index + 1}", directory, rng)

    def _strange(self, host: str) -> Machine:
        rng = self.network.strange[host] = Random(f"{host} {self.scenario.seed}")
        return Machine(self.clock, self.network, host, rng)

    @property
    def jobtracker(self) -> JobTracker | None:
        found: JobTracker | None = self.sites[0].service
        return found

    def shown(self, text: str) -> str:
        return text.replace(self.directory, "~").replace(self._inputs, "~inputs")

    def tell(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.clock.now:10.4f}  {self.shown(text)}")

    # ---- the whole

    def run(self) -> list[str]:
        """Run to the end; return what was violated, the first first."""
        with (
            determined(self.scenario.seed, self.scenario.long_log),
            observing(self._log),
            linking(self.oracle.linked),
            limiting(),
        ):
            self._start()
            bound = BOUND_SECONDS + SEARCH_SECONDS * self._searched_for()
            self._until(self._all_ended, lambda: self._last_fault + bound, "the jobs end")
            if not self.oracle.violations:
                self._make_peace()
                self._until(
                    lambda: not self.oracle.leftovers(),
                    lambda: self._last_fault + CLEAN_SECONDS,
                    "nothing is left",
                )
                for job, truth in zip(self.submissions, self.truths, strict=True):
                    self.oracle.judge(job, truth)
                for job in self.kept:
                    self.oracle.judge_kept(job)
            if not self.oracle.violations and self.kept:
                self._last_fault = self.clock.now
                _owned(self._destroy(self.kept))
                self._until(
                    lambda: not self.kept and not self.oracle.leftovers(),
                    lambda: self._last_fault + CLEAN_SECONDS,
                    "what was kept is destroyed",
                )
            if not self.oracle.violations:
                self._stop_all()
                self._until(
                    lambda: not self.clock.pending(),
                    lambda: self._last_fault + CLEAN_SECONDS,
                    "no call is pending when all have stopped",
                )
            self._abandon()
            return self.oracle.violations

    def _searched_for(self) -> int:
        """How many records there are at which workers die."""
        deadly = [truth for truth in self.truths if truth.kind.source.startswith("deadly")]
        return sum(len(records) for truth in deadly for records in truth.bad.values())

    def _until(self, done: Callable[[], Any], deadline: Callable[[], float], what: str) -> None:
        while not self.oracle.violations:
            if done():
                return
            if self.clock.now > deadline():
                self.oracle.violate(f"not in time: {what}", *self.oracle.leftovers())
                return
            if not self.clock.step():
                if not done():
                    self.oracle.violate(f"never: {what}", *self.oracle.leftovers())
                return
            self.oracle.look()

    def _start(self) -> None:
        for site in self.sites:
            delay = site.rng.uniform(0.0, 1.0) if site.index else 0.0
            self.clock.call_at(delay, None, self._open, site)
        for job, at in zip(self.submissions, self.scenario.submitted_at, strict=True):
            self.clock.call_at(at, None, lambda job=job: _owned(self._submit(job)))
        for job, at_ in zip(self.submissions, self.scenario.killed_at, strict=True):
            if at_ is not None:
                job.killing = True
                self.clock.call_at(at_, None, lambda job=job: _owned(self._kill(job)))
        for number, fault in enumerate(self.scenario.faults):
            self.clock.call_at(fault.at, None, self._begin, number, fault)
            self._last_fault = max(self._last_fault, fault.at)

    def _all_ended(self) -> bool:
        return all(job.status and bool(job.killed) == job.killing for job in self.submissions)

    @property
    def kept(self) -> list[Submission]:
        """The jobs whose map output is kept at present."""
        return [
            job
            for job in self.submissions
            if job.spec.keep
            and job.status.get("outcome") == "succeeded"
            and job.id not in self.destroyed
        ]

    def _abandon(self) -> None:
        """Let go of whatever is left, files included."""
        for site in self.sites:
            if site.machine is not None:
                self.crash(site, silent=True)
        for machine in (self.client, self.outside, self.beside):
            machine.crash(silent=True)

    # ---- faults

    def _begin(self, number: int, fault: Fault) -> None:
        if self._peace:
            return
        site = self.sites[fault.where]
        self.tell(f"FAULT {number} begins: {fault}")
        self.begun.append(fault)
        undo = (faults_.KINDS | strangers.KINDS | faults_.RARE)[fault.kind](self, site, fault)
        if undo is not None:
            self._undo[number] = undo
            self.clock.call_at(self.clock.now + fault.seconds, None, self._end, number)

    def _end(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            self.tell(f"FAULT {number} ends")
            undo()
            self._last_fault = self._fault_ended = self.clock.now

    def disturbed_since(self, began: float) -> bool:
        """Has one of the faults that last been there since, other than a stranger?"""
        return bool(self._undo) or self._fault_ended >= began

    def _make_peace(self) -> None:
        self._peace = True
        for number in list(self._undo):
            self._end(number)
        self.network.flips.clear()
        self._last_fault = self.clock.now
        self.tell("all jobs have ended, and so have all faults")

    def crash(self, site: Site, silent: bool) -> None:
        machine, service, pool = site.machine, site.service, site.pool
        if machine is None:
            return
        if not site.index:
            self.oracle.crashed(service)
        site.machine = site.service = site.pool = None
        # What the system does for a process that has ended: its files are closed, its locks go.
        ends = [getattr(end.protocol, "_wrappedProtocol", end.protocol) for end in machine.ends]
        opened = [getattr(protocol, "_file", None) for protocol in ends]
        opened += [getattr(service, "_lock", None), getattr(service, "_state", None)]
        machine.crash(silent)
        if pool is not None:
            pool.crash()
        for each in opened:
            if each is not None:
                each.close()

    def bring_back(self, site: Site, wipe: bool) -> None:
        if site.machine is None:
            if wipe:
                shutil.rmtree(site.directory, ignore_errors=True)
            self._open(site)

    @staticmethod
    def own(work: Any) -> None:
        """Do it; what it raises is a violation."""
        _owned(work)

    # ---- services

    def _open(self, site: Site) -> None:
        if site.machine is not None:
            return
        machine = Machine(self.clock, self.network, site.host, site.rng)
        site.machine = machine
        if site.index:
            site.pool = SimulatedPool(
                machine,
                self.scenario.workers[site.index - 1],
                self.scenario.attempt_seconds,
                self.oracle,
                site.rng,
            )
            site.service = self._tasktracker(site, machine)
        else:
            site.service = self._jobtracker(site, machine)
        opened = Deferred.fromCoroutine(site.service.open())
        opened.addCallback(lambda _: self._opened(site, machine))
        opened.addErrback(lambda failure: self.oracle.violate(f"{site.name}: {failure.value}"))

    def _jobtracker(self, site: Site, machine: Machine) -> JobTracker:
        config = JobTrackerConfig(
            f"tcp:{CONTROL_PORT}:interface={site.host}",
            SECRET,
            state_dir=site.directory,
            heartbeat_seconds=HEARTBEAT_SECONDS,
        )
        return JobTracker(machine, config)

    def _opened(self, site: Site, machine: Machine) -> None:
        if machine.gone:
            return
        if not site.index:
            # Not before: what it knows of an earlier life it has read just now.
            self._watch(site.service, machine)
            self.oracle.restarted()
        site.service.startService()

    def _watch(self, service: Any, machine: Machine) -> None:
        """Show the oracle what the jobtracker decides, and disturb reports on their way to it."""
        handle, report = service.cluster.handle, service.roster.report

        def handled(event: Any, now: float) -> Any:
            found = handle(event, now)
            self.oracle.decided(event, found)
            return found

        def reported(facts: list[Any]) -> Any:
            tracker = facts[0].tracker if facts else ""
            how = self.reports.get(tracker.partition(".")[0])
            if how is None:
                return report(facts)
            self.tell(f"the report of {tracker} is {how}")
            cut = service.roster._peers[tracker].disconnect
            return faults_.disturbed(how, report, facts, machine.callLater, cut)

        write = service._state._write

        def written(change: Callable[[], Any]) -> None:
            cut, self.power_cut = self.power_cut, None
            with machine.disk():
                if cut is None:
                    write(change)
                else:
                    faults_.cut_power(self, cut.number, lambda: write(change))

        service.cluster.handle, service.roster.report = handled, reported
        service._state._write = written

    def _tasktracker(self, site: Site, machine: Machine) -> TaskTracker:
        config = TrackerConfig(
            name=site.name,
            work_dir=site.directory,
            workers=self.scenario.workers[site.index - 1],
            kv_listen=f"tcp:{SHUFFLE_PORT}:interface={site.host}",
            secret=SECRET,
        )
        endpoint = TCP4ClientEndpoint(machine, self.sites[0].host, CONTROL_PORT)
        pool: Any = site.pool
        return TaskTracker(machine, config, endpoint, pool)

    def _stop_all(self) -> None:
        self.tell("everything is stopped")
        self._last_fault = self.clock.now
        for end in list(self.client.ends):
            end.loseConnection()
        for site in reversed(self.sites):
            if site.service is not None:
                _owned(site.service.stopService())

    # ---- the client

    async def _submit(self, job: Submission) -> None:
        where = f"tcp:{self.sites[0].host}:{CONTROL_PORT}"
        while True:
            try:
                peer = await connect(self.client, where, SECRET)
                if self.cut_client_after is not None:
                    list(self.client.ends)[-1].other.cut_after(self.cut_client_after)
                    self.cut_client_after = None
                if job.id is None:
                    job.id = await submit(peer, job.spec, job.owner)
                    self.tell(f"submitted: {job.id} is {job.kind}")
                while True:
                    status = await peer.call("wait", job.id, 15.0)
                    if status["outcome"]:
                        job.status = status
                        self.tell(f"{job.id} {status['outcome']}: {status['error']}")
                        peer.disconnect()
                        return
            except Unreachable:
                await deferLater(self.client, 0.5)
            except (BadInput, NotFound) as error:
                job.status = {"outcome": "refused", "error": {"message": error.message}}
                return
            except PytxmrError as error:
                if "cannot write its state" not in error.message:
                    raise
                self.tell(error.message)
                await deferLater(self.client, 0.5)

    async def _kill(self, job: Submission) -> None:
        """Kill it, as often as it takes to be told that it has ended."""
        while not job.killed:
            try:
                peer = await connect(
                    self.client, f"tcp:{self.sites[0].host}:{CONTROL_PORT}", SECRET
                )
                while job.id is None and not job.status:
                    await deferLater(self.client, 0.5)
                if job.id is None:
                    job.killed = job.status
                while not job.killed:
                    status = await peer.call("kill", job.id, "nobody wants it", seconds=30.0)
                    if status["outcome"]:
                        job.killed = status
                        self.tell(f"{job.id} was to be killed, and {status['outcome']}")
                peer.disconnect()
            except Unreachable:
                await deferLater(self.client, 0.5)

    async def _destroy(self, jobs: list[Submission]) -> None:
        """Destroy what is kept; a tracker may be connecting anew, so that it has to be repeated."""
        peer = await connect(self.client, f"tcp:{self.sites[0].host}:{CONTROL_PORT}", SECRET)
        while jobs:
            try:
                await peer.call("destroy", jobs[0].id)
            except PytxmrError as error:
                self.tell(error.message)
                await deferLater(self.client, 1.0)
            else:
                self.destroyed.append(str(jobs.pop(0).id))
        peer.disconnect()

    # ---- what is looked at on the way

    def _log(self, event: Any) -> None:
        level = event.get("log_level")
        if level is LogLevel.critical or event.get("isError"):
            failure = event.get("log_failure")
            text = failure.getTraceback() if failure is not None else formatEvent(event)
            self.oracle.violate(f"an error that nobody expected: {text}")
        elif self._trace is not None and level is not None:
            self.tell(f"{level.name}: {formatEvent(event)}")


def _owned(work: Any) -> None:
    """Do it; what it raises is logged as a critical error, which is a violation."""
    deferred = Deferred.fromCoroutine(work)
    deferred.addErrback(lambda failure: globalLogPublisher(_as_event(failure)))


def _as_event(failure: Any) -> Any:
    return {"log_level": LogLevel.critical, "log_failure": failure, "log_format": "failed"}
