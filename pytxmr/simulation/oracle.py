"""What must hold: at every step, at the end, and of what comes out.

A job succeeds with the parts and the counters of a serial run, or it fails for a reason that its
faults warrant; see `_warranted`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall

from pytxmr.errors import NotFound, SpillDamaged
from pytxmr.model import CHANGED_MAPS, AttemptId, TaskId
from pytxmr.net.workers import Task
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import LEASE_SECONDS
from pytxmr.plan.jobstate import JobState, Outcome, Phase
from pytxmr.simulation.jobs import ATTEMPTS, JobKind, Truth, raw_output, read_bad
from pytxmr.storage.output import BAD, SUCCESS, OutputDirectory

if TYPE_CHECKING:
    from pytxmr.jobtracker import JobTracker
    from pytxmr.simulation.machine import Machine
    from pytxmr.simulation.world import Site, Submission, World

#: Faults by which an attempt may end badly, other than with its machine.
_END_ATTEMPTS = ("dying workers", "hanging worker", "fill disk")
#: Faults by which a map's output may be lost.
_LOSE_OUTPUTS = (
    "crash",
    "stop",
    "slow",
    "partition",
    "isolate",
    "delay",
    "cut",
    "flip on wire",
    "flip on disk",
    "truncate",
    "remove",
    "trickle",
)
#: Faults that damage files.
_DAMAGE = ("flip on disk", "truncate", "remove")
#: A tracker that is not heard for so long is lost: its lease, and the ticks that look at it.
MOST_SILENT_SECONDS = LEASE_SECONDS + 2.0
_FAILED = re.compile(r"(Map|Reduce)\d+ failed (\d+) times: ")
_FAILED_SO = re.compile(r"((?:Map|Reduce)\d+) failed (once|(\d+) times): (.*)", re.DOTALL)
_LOST = re.compile(r"the output of Map\d+ was lost (\d+) times: ")


class Oracle:
    """Watches a `World`. ``violations`` are texts, the first first."""

    def __init__(self, world: World) -> None:
        self.violations: list[str] = []
        self._world = world
        self._undecided = True
        self._ran: dict[tuple[str, str], str] = {}
        self._reduced: dict[tuple[str, int], Any] = {}
        self._committed: set[str] = set()
        #: Jobs of which there is a manifest.
        self._linked: set[str] = set()
        self._heard: dict[str, float] = {}
        #: Jobs that were killed before they had ended, as the plan knows, or as is logged.
        self._killed: set[str] = set()
        self._doomed: set[str] = set()
        self._known: dict[str, dict[str, Any]] = {}

    def violate(self, *texts: str) -> None:
        text = "; ".join(self._world.shown(text) for text in texts)
        self._world.tell(f"VIOLATION: {text}")
        self.violations.append(f"at {self._world.clock.now:.3f} s: {text}")

    # ---- at every step

    def restarted(self) -> None:
        """The jobtracker is back: it knows what was logged."""
        self.stood_still()
        self._killed.clear()
        jobtracker = self._world.jobtracker
        assert jobtracker is not None
        self._forget_unlogged(jobtracker.cluster.jobs)
        for job, known in self._known.items():
            state = jobtracker.cluster.jobs.get(job)
            if state is None:
                self.violate(f"{job} is forgotten")
                continue
            for what, value in _known(state).items():
                if value != known.get(what):
                    self.violate(
                        f"{what} of {job}: {known.get(what)} before the crash, now {value}"
                    )
        self._known.clear()

    def crashed(self, jobtracker: JobTracker) -> None:
        """Its next life has to know what this one has made of its jobs, if all of it is logged."""
        if jobtracker.running:
            self._known = {
                job: _known(state)
                for job, state in jobtracker.cluster.jobs.items()
                if state.phase is not Phase.ENDED and not jobtracker.plan.unlogged
            }

    def stood_still(self) -> None:
        """The jobtracker goes on: it believes its trackers alive for as long as a lease."""
        self._heard.clear()

    def decided(self, event: ev.Event, orders: list[Any]) -> None:
        """The plan took an event."""
        self._undecided = True
        if isinstance(event, ev.Heartbeat | ev.TrackerJoined | ev.TrackerResumed):
            self._heard[event.tracker] = self._world.clock.now
        if orders or not isinstance(event, ev.Tick | ev.Heartbeat):
            self._world.tell(f"plan: {_brief(event)}")
            for order in orders:
                self._world.tell(f"    -> {_brief(order)}")
        if isinstance(event, ev.KillJob) and self._ends(event.job):
            self._killed.add(event.job)
        for order in orders:
            if isinstance(order, ev.CommitJob):
                if order.job in self._committed:
                    self.violate(f"{order.job} is committed twice")
                self._committed.add(order.job)

    def _forget_unlogged(self, jobs: dict[str, Any]) -> None:
        """What was decided, and could not be logged, was not done, and may be decided otherwise."""
        for job in list(self._committed):
            if job in jobs and jobs[job].active:
                self._committed.discard(job)
                if job in self._linked:
                    self.violate(f"{job} was committed before that was logged")
        for (job, index), winner in list(self._reduced.items()):
            if job in jobs and jobs[job].active and jobs[job].reduces[index].winner != winner:
                del self._reduced[job, index]

    def _ends(self, job: str) -> bool:
        """Is the job about to end as killed?"""
        jobtracker = self._world.jobtracker
        state = jobtracker.cluster.jobs.get(job) if jobtracker is not None else None
        return state is not None and (
            state.outcome is Outcome.KILLED or state.phase is Phase.COMMITTING
        )

    def look(self) -> None:
        """Something happened."""
        jobtracker = self._world.jobtracker
        if not self._undecided or jobtracker is None:
            return
        self._undecided = False
        if not jobtracker.plan.unlogged:
            self._doomed |= self._killed
        now = self._world.clock.now
        for tracker in jobtracker.cluster.trackers:
            heard = self._heard.setdefault(tracker, now)
            if now - heard > MOST_SILENT_SECONDS:
                self.violate(f"{tracker} counts as alive, silent since {heard:.3f}")
        for job, state in jobtracker.cluster.jobs.items():
            running: dict[str, int] = {}
            for task in state.tasks:
                for attempt, tracker in task.running.items():
                    running[tracker] = running.get(tracker, 0) + 1
                    if task.winner is not None and state.active:
                        self.violate(f"{job} runs {attempt} although {task.winner} has won")
                    if tracker not in jobtracker.cluster.trackers:
                        self.violate(f"{job} runs {attempt} on {tracker}, which is lost")
            if running != {tracker: n for tracker, n in state.running_on.items() if n}:
                self.violate(f"{job} counts {state.running_on} running, not {running}")
            truth = self._truth(job)
            for task in state.reduces if truth is not None and truth.kind.settled else ():
                if task.winner is not None:
                    key = (job, task.id.index)
                    if self._reduced.setdefault(key, task.winner) != task.winner:
                        self.violate(f"{job} has two winners of {task.id}")

    def linked(self, path: str) -> None:
        """A file was given another name: if it is a job's manifest, all that it lists is there."""
        if os.path.basename(path) != SUCCESS:
            return
        directory = os.path.dirname(path)
        manifest = OutputDirectory(directory, "").manifest()
        self._linked.add(manifest["job"])
        for part in manifest["parts"]:
            if not os.path.exists(os.path.join(directory, part["name"])):
                self.violate(f"{path} is there before {part['name']} is")

    def attempt_begins(self, machine: Machine, task: Task) -> None:
        site = next(site for site in self._world.sites if site.machine is machine)
        who = site.service.who
        self._world.tell(f"{who['tracker']}: {task.job} {task.attempt} begins")
        key = (task.job, task.attempt)
        if key in self._ran:
            first = self._ran[key]
            self.violate(f"{task.job} {task.attempt} ran on {first} and on {who['tracker']}")
        self._ran[key] = who["tracker"]

    def attempt_ends(self, machine: Machine, task: Task, how: str) -> None:
        self._world.tell(f"{machine.host}: {task.job} {task.attempt} {how}")

    def reading(self, task: Task) -> Callable[[], None]:
        """Compare what a reduce is given with the truth, if it succeeds."""
        message = task.message
        if message["do"] != "reduce":
            return _nothing
        truth = self._truth(task.job)
        if truth is None or not truth.kind.settled:
            return _nothing
        partition = AttemptId.parse(task.attempt).task.index
        given = [_read(*segment) for segment in message["segments"]]
        wanted = [
            data for (_, its), data in sorted(truth.segments.items()) if its == partition and data
        ]

        def looked() -> None:
            if given != wanted:
                self.violate(f"{task.job} {task.attempt} read what its maps did not write")

        return looked

    def _truth(self, job: str) -> Truth | None:
        world = self._world
        for submission, truth in zip(world.submissions, world.truths, strict=True):
            if submission.id == job:
                return truth
        return None

    # ---- at the end

    def leftovers(self) -> list[str]:
        """What is left over of jobs although they have ended; and what should be there and is
        not."""
        world = self._world
        jobtracker = world.jobtracker
        found: list[str] = []
        if jobtracker is None:
            return ["there is no jobtracker"]
        if world.visits:  # which may last, and all that follows is looked up at every step
            return [f"a stranger ({visit.kind}) is there" for visit in world.visits]
        found += _strangers_left(world.sites)
        for job, state in jobtracker.cluster.jobs.items():
            if state.phase is not Phase.ENDED:
                found.append(f"{job} is {state.phase.value}: {_where(state)}")
        for site in world.sites[1:]:
            service = site.service
            if service is None or site.machine is None:
                found.append(f"{site.name} is not back")
                continue
            who = service.who
            if service._peer is None or who["tracker"] not in jobtracker.cluster.trackers:
                found.append(f"{site.name} is not registered")
            if service._jobs:
                found.append(f"{site.name} has {sorted(service._jobs)}")
            if service._outbox:
                found.append(f"{site.name} has {len(service._outbox)} facts to report")
            files = _on_disk(service._jobs_dir, [job.id for job in world.kept])
            if files:
                found.append(f"{site.name} has {files} on its disk")
            logs = [job for job in world.destroyed if service.logs.attempts(job)]
            if logs:
                found.append(f"{site.name} has logs of {logs}")
            if strange := service.store._jobs.keys() - {job.id for job in world.kept}:
                found.append(f"{site.name} serves {sorted(strange)}")
            calls = [_name(call) for call in site.machine.getDelayedCalls()]
            about = sorted({name for name in calls if not _stands(name)})
            if about:
                found.append(f"{site.name} is about to call {about}")
            control = [end for end in site.machine.ends if not end.shuffle]
            if len(control) != 1:
                found.append(f"{site.name} has {len(control)} connections to the jobtracker")
        return found

    def judge(self, submission: Submission, truth: Truth) -> None:
        """Is what came of a job right?"""
        status, output = submission.status, submission.spec.output
        name = submission.id or "a job"
        if submission.killing and submission.killed["outcome"] != status["outcome"]:
            self.violate(f"{name} ended as {submission.killed['outcome']}, and {status['outcome']}")
        if name in self._doomed and status["outcome"] == "succeeded":
            self.violate(f"{name} was killed, and has succeeded")
        if status["outcome"] != "succeeded":
            message = status["error"]["message"]
            asked_for = status["outcome"] == "killed" and submission.killing
            too_many = submission.kind.short and truth.bad and _names_bad(status["error"], truth)
            right = self._fails_so(status["error"], truth)
            if not (asked_for or too_many or right or self._warranted(message, truth.kind)):
                self.violate(f"{name} ended as {status['outcome']}: {message}")
            if os.path.lexists(output):
                self.violate(f"{name} has failed, and left {sorted(os.listdir(output))}")
            return
        if truth.failures:
            self.violate(f"{name} has succeeded, but should have failed: {truth.failures}")
            return
        names = [f"part-{number:05d}" for number in range(len(truth.parts))]
        if sorted(os.listdir(output)) != [SUCCESS, *([BAD] if truth.bad else []), *names]:
            self.violate(f"{name} has put out {sorted(os.listdir(output))}")
            return
        if truth.bad:
            if submission.kind.short:
                self.violate(f"{name} has skipped more bad records than it may")
            directory = os.path.join(output, BAD)
            files = sorted(os.listdir(directory))
            set_aside = {file[:-6]: read_bad(os.path.join(directory, file)) for file in files}
            if set_aside != truth.bad:
                self.violate(f"{name} has set aside {set_aside}, the serial run {truth.bad}")
        runs: dict[bytes, bytes] = {}
        lines: list[bytes] = []
        for part, wanted in zip(names, truth.parts, strict=True):
            with open(os.path.join(output, part), "rb") as file:
                found = file.read()
            if not truth.kind.settled:
                found = _as_drawn(found, wanted, runs)
            if found != wanted:
                self.violate(f"{part} of {name} is not that of a serial run")
            lines += found.split(b"\n")[:-1]
        if truth.kind.source == "raw" and sorted(lines) != raw_output(submission.spec.inputs[0]):
            self.violate(f"{name} has put out other bytes than its input has")
        counters = dict(status["counters"])
        if not truth.kind.settled:
            counters.pop(CHANGED_MAPS, None)
        if counters != truth.counters:
            wrong = {
                key: (counters.get(key), truth.counters.get(key))
                for key in counters | truth.counters
                if counters.get(key) != truth.counters.get(key)
            }
            self.violate(f"{name} has counted {wrong} (it, and the serial run)")

    def judge_kept(self, submission: Submission) -> None:
        """Are the spills of a job that is kept served, by each tracker that they were made by?"""
        jobtracker = self._world.jobtracker
        state = jobtracker.cluster.jobs.get(submission.id or "") if jobtracker else None
        if state is None:
            return  # an earlier life of the jobtracker knew who had won
        damaged = any(fault.kind in _DAMAGE for fault in self._world.begun)
        for task in state.maps:
            if task.winner is None:
                continue  # it was to run again as what was lost arrived late
            made_by = self._ran[state.job, str(task.winner)]
            for site in self._world.sites[1:]:
                if site.service.who["tracker"] == made_by:
                    try:
                        os.close(site.service.store.open_attempt(state.job, task.winner)[0])
                    except NotFound as error:
                        self.violate(f"{made_by} does not keep {task.winner}: {error.message}")
                    except SpillDamaged as error:
                        if not damaged:
                            self.violate(f"{made_by} has damaged {task.winner}: {error.message}")

    def _warranted(self, message: str, kind: JobKind) -> bool:
        """May a job fail so? A task that has failed `ATTEMPTS` times needs as many faults of which
        each may end an attempt badly; a full disk may end any number. Where a record ends each
        attempt that it is in, one fault amid the search for it is enough: what died of that looks
        as if it had died of the records that it was given. An output that was lost more
        often than that needs faults that lose outputs, of which those that last may lose one to
        each reduce. A full disk may also refuse the job.
        """
        kinds = [fault.kind for fault in self._world.begun]
        if "fill disk" in kinds and message.startswith(("cannot prepare", "cannot write")):
            return True
        if _FAILED.match(message):
            least = 1 if kind.source.startswith("deadly") else ATTEMPTS
            return "fill disk" in kinds or self._ends_of_attempts() >= least
        if _LOST.match(message):
            return sum(kind in _LOSE_OUTPUTS for kind in kinds) >= 2
        return False

    def _ends_of_attempts(self) -> int:
        """How many attempts the faults may have ended badly, but for full disks."""
        return sum(
            1 + (fault.kind == "dying workers")
            for fault in self._world.begun
            if fault.kind in _END_ATTEMPTS
        )

    def _fails_so(self, error: dict[str, str], truth: Truth) -> bool:
        """Does a task fail as in the serial run, and was it not tried again because of that?"""
        match = _FAILED_SO.fullmatch(error["message"])
        if match is None or truth.failures.get(match[1]) != (match[4], error.get("where")):
            return False
        full = any(fault.kind == "fill disk" for fault in self._world.begun)
        return full or int(match[3] or 1) - 1 <= self._ends_of_attempts()


def _strangers_left(sites: list[Site]) -> list[str]:
    """What is left of strangers: connections, and what a port knows of them."""
    found = []
    for site in sites:
        if site.machine is None:
            continue
        strange = sum(end.strange for end in site.machine.ends)
        if strange:
            found.append(f"{site.name} has {strange} connections to strangers")
        for number, port in site.machine.ports.items():
            held, ends = (
                port.factory.connections,
                [end for end in site.machine.ends if end.address.port == number],
            )
            if held != len(ends):
                found.append(f"{site.name} counts {held} connections to port {number}: {ends}")
    return found


def _known(state: JobState) -> dict[str, Any]:
    """What a job has become, but for what depends on when exactly it was told."""
    shuffle = state._shuffle
    return {
        "phase and outcome": (state.phase, state.outcome, str(state.error)),
        **{str(task.id): replace(task, rests_until=0.0) for task in state.tasks},
        "counters": (state.counters(), state.maps_done, state.reduces_done, state.failures),
        "trackers": (state.trackers, state._initialising, state._refusing),
        "outputs": (shuffle.outputs, shuffle.home, shuffle.done, shuffle.arrived),
    }


def _names_bad(error: dict[str, str], truth: Truth) -> bool:
    """Does it say what a mapper did, and where, as at one of the bad records?"""
    where = error.get("where", "")
    what = "cannot be carried" if truth.kind.source == "uncarryable" else "raised ValueError"
    return what in error["message"] and any(
        where == f"{path}, offset {offset}, record {record!r}"
        for records in truth.bad.values()
        for path, offset, record in records
    )


def _as_drawn(found: bytes, wanted: bytes, runs: dict[bytes, bytes]) -> bytes:
    """A part with what the maps of the serial run have drawn in the place of what those that it was
    reduced from have. ``runs`` has the one run of each map that all parts are to be of."""
    lines = []
    for line, other in zip(found.splitlines(), wanted.splitlines(), strict=False):
        place, _, drawn = line.partition(b"\t")
        map_of_truth = other.partition(b"\t")[2]
        one_run = runs.setdefault(map_of_truth, drawn) == drawn
        lines.append(place + b"\t" + (map_of_truth if one_run else b"of another run") + b"\n")
    return b"".join(lines) + b"".join(line + b"\n" for line in found.splitlines()[len(lines) :])


def _on_disk(jobs_dir: str, kept: list[str | None]) -> list[str]:
    """What there is of jobs, but the spills of those that are kept."""
    names = sorted(os.listdir(jobs_dir)) if os.path.isdir(jobs_dir) else []
    for name in [name for name in names if name in kept]:
        names.remove(name)
        more = os.listdir(os.path.join(jobs_dir, name))
        names += [f"{name}/{each}" for each in sorted(more) if each != "spills"]
    return names


def _read(path: str, offset: int, length: int) -> bytes | None:
    """What a reduce will find there; None if it finds nothing."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError:
        return None


def _nothing() -> None:
    """There is nothing to look at."""


def _name(call: Any) -> str:
    function = call.function
    if isinstance(function, LoopingCall):
        function = function.f
    name = getattr(function, "__qualname__", "") or repr(type(function))
    return f"{getattr(function, '__module__', '')}.{name}"


#: The calls that may be pending on a machine that has nothing to do: its heartbeat and the deadline
#: of one under way, and deadlines of connections to or from other stores, which stay open.
_STANDING = (
    "TaskTracker._heartbeat",
    "LoopingCall",
    "Deferred.addTimeout",
    "DelayedCall",
    "abortConnection",
    "End.",
    "_Connecting",
)


def _stands(name: str) -> bool:
    return any(standing in name for standing in _STANDING)


def _where(state: Any) -> str:
    return ", ".join(
        f"{task.id} {dict(task.running) or 'waits'}" for task in state.tasks if task.winner is None
    )


def _brief(value: Any) -> str:
    """An event or an order in one line."""
    fields = {name: getattr(value, name) for name in getattr(value, "__dataclass_fields__", ())}
    shown = ", ".join(f"{name}={_plain(item)}" for name, item in fields.items())
    return f"{type(value).__name__}({shown})"


def _plain(value: Any) -> str:
    if isinstance(value, AttemptId | TaskId | str | int | float):
        return str(value)
    if isinstance(value, tuple) and value and isinstance(value[0], tuple) and len(value) > 0:
        return f"({'; '.join(_plain(item) for item in value)})"
    if isinstance(value, tuple):
        return f"({', '.join(_plain(item) for item in value)})"
    if hasattr(value, "__dataclass_fields__"):
        return _brief(value)
    return str(value)[:200]
