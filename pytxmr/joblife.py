"""The life of a job, top to bottom: its five verbs, called on trackers in the order of this file.

::

    initJob ──▶ executeMap ──▶ shuffle, map by map ──▶ reduce ──▶ commit ──▶ destroyJob

What is done when, and where, `plan.jobstate` decides; a `JobLife` carries its instructions out.
Each is a chain of Deferreds that begins with a ``callRemote`` and ends in an event that is fed
back, so a call that fails is a fact like any other. The exception is a tracker that cannot be
reached: its lease decides whether it is lost, and if it comes back before that it is told again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from pytxmr.errors import InternalError, PytxmrError, TrackerLost, Unreachable
from pytxmr.model import JobSpec, MapOutput, TaskId
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import JobState, Phase
from pytxmr.records.compressed import SUFFIX_OF
from pytxmr.storage.output import Part
from pytxmr.storage.places import output_at
from pytxmr.storage.stepresults import remove_results
from pytxmr.submission import Submission, forget_unused, manifest_of

_log = Logger()
_Item = TypeVar("_Item")

#: ``call(tracker id, verb, *args)``: fires with the answer, fails with a `PytxmrError`.
Call = Callable[..., Deferred[Any]]

#: Files, map outputs and partitions that one call names, at the most, unless a single task has
#: more. Each takes up to 4 KiB, a path, so that a call stays below what a message may have.
MOST_NAMED = 10_000


class JobLife:
    """One job from its submission to its end. ``ended`` fires, with None, when it is cleaned up."""

    def __init__(
        self,
        submission: Submission,
        states: Mapping[str, JobState],
        call: Call,
        feed: Callable[[ev.Event], None],
        reactor: Any,
        clock: Callable[[], float],
    ) -> None:
        self.job = submission.job
        self.owner = submission.owner
        self.spec = submission.spec
        self.splits = submission.splits
        self.submitted_at = submission.submitted_at
        self.chain = submission.chain.jobs
        self._uncut = submission.uncut
        self._states = states
        self.output = output_at(self.spec.output, submission.owner)
        self.ended: Deferred[None] = Deferred()
        self.progress: dict[str, tuple[float, str]] = {}
        self._key = submission.key
        self._call = call
        self._feed = feed
        self._reactor = reactor
        self._clock = clock
        self._phase = Phase.QUEUED
        self._launches: dict[tuple[str, type], list[Any]] = {}
        self._announced: dict[str, list[Any]] = {}

    @property
    def state(self) -> JobState:
        """What the plan knows of the job."""
        return self._states[self.job]

    def carry_out(self, instruction: ev.Instruction) -> None:
        """Start to do what was decided; the event that comes of it is fed back.

        What goes to trackers by the dozen, launches and announcements, waits for `send`.
        """
        match instruction:
            case ev.LaunchMap() | ev.LaunchReduce():
                launches = self._launches.setdefault((instruction.tracker, type(instruction)), [])
                return launches.append(instruction)
            case ev.Shuffle():
                return self._announced.setdefault(instruction.tracker, []).extend(
                    instruction.wanted
                )
            case ev.KillAttempt():
                done = self._kill_attempt(instruction)
            case ev.InitJob():
                done = self._init_job(instruction)
            case ev.CommitJob():
                done = self._commit(instruction)
            case ev.DestroyJob():
                done = self._destroy_job(instruction)
            case _:
                raise TypeError(f"no way to carry out {instruction!r}")
        done.addErrback(self._failed_ourselves)

    def send(self) -> None:
        """Send what `carry_out` has collected: one call for each tracker and verb, or a few."""
        launches, self._launches = self._launches, {}
        announced, self._announced = self._announced, {}
        if not self.state.active:
            return
        for (tracker, kind), orders in launches.items():
            start = self._execute_map if kind is ev.LaunchMap else self._reduce
            for part in _cut(orders, self._named):
                started = start(tracker, part).addErrback(self._not_started, tracker, part)
                started.addErrback(self._failed_ourselves)
        for tracker, wanted in announced.items():
            for outputs in _cut(wanted, lambda output: 1 + len(output[1])):
                self._shuffle(tracker, outputs).addErrback(self._failed_ourselves)

    def _named(self, order: ev.LaunchMap | ev.LaunchReduce) -> int:
        if isinstance(order, ev.LaunchReduce):
            return len(order.maps)
        return len(self.splits[order.attempt.task.index].ranges)

    # ---- initJob: the source goes to the tracker, which allocates what the job needs

    def _init_job(self, order: ev.InitJob) -> Deferred[Any]:
        setup = {
            "code": self.spec.code.to_plain(),
            "params": self.spec.params,
            "key_sample": self.spec.key_sample,
            "sampled": [] if self.spec.key_sample != b"" else self.spec.sourced_inputs,
            "memory_bytes": self.spec.memory_bytes,
            "task_timeout": self.spec.task_timeout,
            "codec": self.spec.codec,
            "compress": self.spec.compress,
            "step": self.spec.step,
            "reuse": self.spec.reuse,
            "sides": list(self.spec.sides),
            "files": [file.to_plain() for file in self.spec.files],
            "key": self._key,
        }
        return self._call(order.tracker, "initJob", self.job, setup).addCallbacks(
            lambda _: self._feed(ev.JobInitialised(self.job, order.tracker)),
            lambda failure: self._not_initialised(failure, order.tracker),
        )

    def _not_initialised(self, failure: Failure, tracker: str) -> None:
        error = _error(failure)
        if not isinstance(error, Unreachable | TrackerLost):
            self._feed(ev.InitFailed(self.job, tracker, error))

    # ---- executeMap: the answer is that all have started; how each ends comes as a report

    def _execute_map(self, tracker: str, orders: list[ev.LaunchMap]) -> Deferred[Any]:
        tasks = [
            {
                "attempt": str(order.attempt),
                "split": self.splits[order.attempt.task.index].to_plain(),
                "partitions": order.partitions,
                "output_path": self._part_path(order),
                "bad": self._bad(order),
            }
            for order in orders
        ]
        return self._call(tracker, "executeMap", self.job, tasks)

    def _part_path(self, order: ev.LaunchMap) -> str | None:
        """Where the attempt shall write a part of the output; None if it shall spill."""
        return None if order.partitions else self.output.attempt_path(str(order.attempt))

    def _bad(self, order: ev.LaunchMap) -> dict[str, Any] | None:
        """What the attempt shall do about bad records; None if nothing."""
        if not order.careful and not self.spec.skip_bad_records:
            return None
        return {
            "most": self.spec.skip_bad_records,
            "path": self.output.bad_path(str(order.attempt)),
            "careful": order.careful,
            "skip": [list(record) for record in order.skip],
            "window": order.window and list(order.window),
        }

    # ---- shuffle: as soon as a map has ended, the homes of its partitions are told to fetch

    def _shuffle(
        self, tracker: str, outputs: list[tuple[MapOutput, tuple[int, ...]]]
    ) -> Deferred[Any]:
        wanted = [
            output.to_plain() | {"partitions": list(partitions)} for output, partitions in outputs
        ]
        return self._call(tracker, "shuffle", self.job, wanted).addErrback(self._not_told, tracker)

    def _not_told(self, failure: Failure, tracker: str) -> None:
        error = _error(failure)
        if not isinstance(error, Unreachable | TrackerLost):
            self._feed(ev.TrackerLost(tracker, error.message))

    # ---- reduce: only over what has arrived where it runs

    def _reduce(self, tracker: str, orders: list[ev.LaunchReduce]) -> Deferred[Any]:
        tasks = [
            {
                "attempt": str(order.attempt),
                "maps": [str(attempt) for attempt in order.maps],
                "output_path": self.output.attempt_path(str(order.attempt)),
            }
            for order in orders
        ]
        return self._call(tracker, "reduce", self.job, tasks)

    def _not_started(self, failure: Failure, tracker: str, orders: list[Any]) -> None:
        error = _error(failure)
        if isinstance(error, Unreachable | TrackerLost):
            return
        for order in orders:
            self._feed(ev.AttemptEndedBadly(self.job, tracker, order.attempt, error))

    # ---- killAttempt: the attempt of a task that another one has outrun

    def _kill_attempt(self, order: ev.KillAttempt) -> Deferred[Any]:
        # One that is not killed ends by itself, and its report does not count.
        return self._call(order.tracker, "killAttempt", self.job, str(order.attempt)).addErrback(
            lambda failure: _log.info("{attempt} not killed", attempt=str(order.attempt))
        )

    # ---- commit: the winners' files get their names, then _SUCCESS

    def _commit(self, order: ev.CommitJob) -> Deferred[Any]:
        parts = [Part(str(attempt), size, digest) for attempt, size, digest in order.winners]
        for attempt, name, size, digest in order.outputs:
            parts.append(Part(str(attempt), size, digest, name))
        manifest = manifest_of(self.job, self.spec, order.counters)
        bad = [(str(attempt), str(attempt.task)) for attempt in order.bad]
        suffix = SUFFIX_OF[self.spec.compress]

        def commit() -> None:
            self.output.commit(parts, manifest, bad, suffix)
            forget_unused(self.spec)

        return self._in_thread(commit).addCallbacks(
            lambda _: self._feed(ev.JobCommitted(self.job)),
            lambda failure: self._feed(ev.CommitFailed(self.job, _error(failure))),
        )

    # ---- destroyJob: everywhere, whatever came before; only then is unfinished output removed

    def _destroy_job(self, order: ev.DestroyJob) -> Deferred[Any]:
        calls = [
            self._call(tracker, "destroyJob", self.job, order.keep).addErrback(
                self._left_behind, tracker
            )
            for tracker in order.trackers
        ]
        destroyed: Deferred[Any] = DeferredList(calls)
        if self.state.error is not None:
            destroyed.addCallback(lambda _: self._in_thread(self.output.discard, self.job))
        if self.spec.steps > 1 and (self.state.error or self.spec.step == self.spec.steps):
            # Nobody reads any more what the steps have stored for each other.
            destroyed.addCallback(lambda _: self._in_thread(remove_results, self.spec))
            destroyed.addCallback(self._results_left)
        destroyed.addBoth(lambda _: self._feed(ev.JobDestroyed(self.job)))
        return destroyed

    def _results_left(self, left: list[str]) -> None:
        if left:
            _log.warn("{job} cannot remove {left}", job=self.job, left=left)

    def _left_behind(self, failure: Failure, tracker: str) -> None:
        # It destroys the job itself when it registers anew.
        error = failure.value
        _log.warn("{job} not destroyed at {at}: {error}", job=self.job, at=tracker, error=error)

    # ---- beside the chain

    def notice_phase(self) -> None:
        """Say that the job has come to another phase, or has ended; called after each event."""
        phase = self.state.phase
        if phase is self._phase:
            return
        self._phase = phase
        _log.info("{job} is {phase}", job=self.job, phase=phase.value)
        if phase is Phase.ENDED:
            self.progress.clear()
            self.spec = self.spec.without_cargo()
            self.ended.callback(None)

    def status(self) -> dict[str, Any]:
        """The job as plain values, for clients."""
        state = self.state
        seconds = sum(state.phase_seconds.values())
        if state.phase is not Phase.ENDED:
            seconds += self._clock() - state.phase_began
        error = state.error
        return {
            "job": self.job,
            "name": self.spec.name,
            "phase": state.phase.value,
            "outcome": state.outcome.value if state.outcome and state.phase is Phase.ENDED else "",
            "output": self.spec.output,
            "submitted_at": self.submitted_at,
            "seconds": seconds,
            "phase_seconds": dict(state.phase_seconds),
            "uncut": self._uncut,
            "maps": len(state.maps),
            "maps_done": state.maps_done,
            "reduces": len(state.reduces),
            "reduces_done": state.reduces_done,
            "running": state.running_on.total(),
            "failures": state.failures,
            "fraction_running": self._fraction("Map"),
            "fraction_reducing": self._fraction("Reduce"),
            "doing": sorted({text for _, text in self.progress.values() if text})[:20],
            "kept": state.keeps,
            "counters": state.counters(),
            "error": None if error is None else {"message": error.message, **self._shown(error)},
            **of_several(self.spec, self.chain),
        }

    def _shown(self, error: PytxmrError) -> dict[str, str]:
        """What a user wants to know of an error; of a map's, also what the map was reading."""
        wanted = ("traceback", "where", "log", "task", "attempt")
        shown = {name: str(error.details[name]) for name in wanted if error.details.get(name)}
        if shown.get("task", "").startswith("Map"):
            shown["split"] = str(self.splits[TaskId.parse(shown["task"]).index])
        return shown

    def _fraction(self, kind: str) -> float:
        return sum(done for name, (done, _) in self.progress.items() if name.startswith(kind))

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    def _failed_ourselves(self, failure: Failure) -> None:
        _log.failure("a step of {job} failed in the jobtracker itself", failure, job=self.job)
        self._feed(ev.CommitFailed(self.job, InternalError(f"in the jobtracker: {failure.value}")))


def of_several(spec: JobSpec, chain: list[str]) -> dict[str, Any]:
    """What the status of a job that is a step of another says more: which of how many, and the ids
    of the jobs that were submitted with it."""
    return {"step": [spec.step, spec.steps], "chain": chain} if spec.steps > 1 else {}


def _cut(items: list[_Item], named: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """The items in order, as lists that name no more than `MOST_NAMED`, but one item at least."""
    part: list[_Item] = []
    total = 0
    for item in items:
        total += named(item)
        if part and total > MOST_NAMED:
            yield part
            part, total = [], named(item)
        part.append(item)
    if part:
        yield part


def _error(failure: Failure) -> PytxmrError:
    if isinstance(failure.value, PytxmrError):
        return failure.value
    return InternalError(f"{type(failure.value).__name__}: {failure.value}")
