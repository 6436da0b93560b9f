"""A job as a tasktracker knows it: its directory, its attempts here, what it has fetched.

The tracker's side of `joblife`: what the jobtracker asks for arrives at `TaskTracker`, which hands
it to the `JobWork` of the job; what comes of it is reported.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from pytxmr.attemptlogs import LOG_TAIL_BYTES, AttemptLogs
from pytxmr.errors import PytxmrError, SpillDamaged, Stale, TooLarge, WorkerDied
from pytxmr.failpoints import fail_point
from pytxmr.model import AttemptId, InputSplit, JobCode, SideFile, side_digests, take
from pytxmr.net.fetch import Fetcher
from pytxmr.net.limits import Limits
from pytxmr.net.remote import pack, sendable_error
from pytxmr.net.workers import Setup, Task, WorkerPool
from pytxmr.records.quarantine import read_note
from pytxmr.segments import Segments
from pytxmr.store import KeyValueStore

#: Of an attempt, all counters together: the jobtracker keeps those of each task.
MOST_COUNTER_BYTES = 256 * 1024

_log = Logger()

Start = Callable[[AttemptId, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What a tracker lends to its jobs. ``memory_bytes`` is for a job that does not say;
    ``report`` takes the facts that come of their work.
    """

    reactor: Any
    store: KeyValueStore
    pool: WorkerPool
    fetcher: Fetcher
    logs: AttemptLogs
    memory_bytes: int
    report: Callable[[dict[str, Any]], None]


class JobWork:
    """``running``: what runs here, how far it is and what it says of itself. ``files``: side files
    that are yet to be laid down, before anything is started.
    """

    def __init__(self, job: str, directory: str, setup: dict[str, Any], means: Means) -> None:
        """Store the source, make the job's directories, let the store take its spills. Raises
        `PytxmrError`, and has then left nothing."""
        self.id = job
        self.running: dict[str, tuple[float, str]] = {}
        self.ended = False
        self._directory = directory
        self._means = means
        #: All attempts that ever ran here: each is started once, however often it is asked for.
        self._started: set[str] = set()
        code = JobCode.from_plain(take(setup, "code", dict))
        key = take(setup, "key", bytes)
        self.files = tuple(map(SideFile.from_plain, take(setup, "files", list)))
        self._laying = DeferredLock()
        self._prepare(code)
        limits = Limits(
            take(setup, "task_timeout", int),
            take(setup, "memory_bytes", (int, type(None))) or means.memory_bytes,
        )
        means.store.add_job(job, key)
        plain = code.to_plain()
        del plain["source"], plain["modules"]
        self._setup = Setup(
            {
                "directory": os.path.join(directory, "files"),
                "source_path": os.path.join(directory, "source.py"),
                "modules_path": os.path.join(directory, "modules") if code.modules else None,
                "code": plain,
                "side_files": {
                    file.name: os.path.join(directory, "side", file.name) for file in self.files
                },
                "params": take(setup, "params", dict),
                "key_sample": take(setup, "key_sample", (bytes, type(None))),
                "sampled": take(setup, "sampled", list),
                "memory_bytes": limits.memory_bytes,
                "data_bytes": limits.data_bytes,
                "codec": take(setup, "codec", str),
                "compress": take(setup, "compress", str),
                "step": take(setup, "step", (int, type(None))),
                "reuse": (reuse := take(setup, "reuse", (str, type(None)))),
                "side_digests": side_digests(self.files) if reuse else [],
                "sides": take(setup, "sides", list),
            },
            limits,
        )
        self._segments = Segments(
            means.reactor,
            job,
            key,
            os.path.join(directory, "fetched"),
            means.store,
            means.fetcher,
            means.report,
        )

    def _prepare(self, code: JobCode) -> None:
        directory = self._directory
        try:
            shutil.rmtree(directory, ignore_errors=True)
            for name in ("files", "fetched", "scratch"):
                os.makedirs(os.path.join(directory, name))
            self._means.logs.begin(self.id)
            with open(os.path.join(directory, "source.py"), "wb") as file:
                file.write(code.source)
            if code.modules:
                with open(os.path.join(directory, "modules"), "wb") as file:
                    file.write(msgpack.packb(code.modules))
        except OSError as error:
            # The job is not noted here, so nobody might say that it is over.
            shutil.rmtree(directory, ignore_errors=True)
            text = f"cannot prepare {self.id} in {directory}: {error.strerror}"
            raise PytxmrError(text) from error

    async def lay_down_files(self) -> None:
        """Write the side files, unless that is done; a call that is under way is waited for. Fails
        with `PytxmrError`; then none is there.
        """
        await self._laying.acquire()
        try:
            if self.files:
                # Beside the job's directory, which may go meanwhile, and another be in its place.
                aside = await self._in_thread(_lay_aside, self.files, f"{self._directory}.side-")
                if not self.ended:
                    os.rename(os.path.join(aside, "side"), os.path.join(self._directory, "side"))
                    self.files = ()
                await self._in_thread(shutil.rmtree, aside, True)
        except OSError as error:
            raise PytxmrError(f"cannot write the side files of {self.id}: {error}") from error
        finally:
            self._laying.release()
        if self.ended:
            raise Stale(f"{self.id} has ended")

    async def at_rest(self) -> None:
        """Wait until no thread is at work on the job's files."""
        await self._laying.acquire()
        self._laying.release()

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        reactor = self._means.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)

    def end(self) -> None:
        """From now on nothing of it is reported."""
        self.ended = True
        self._segments.close()

    # ---- attempts

    def start_all(self, start: Start, tasks: list[dict[str, Any]]) -> None:
        """Start each of the tasks' attempts; one that cannot be started is reported as failed."""
        for attempt, task in [
            (AttemptId.parse(take(task, "attempt", str)), task) for task in tasks
        ]:
            try:
                start(attempt, task)
            except PytxmrError as error:
                fact = {"fact": "attempt-failed", "error": sendable_error(error)}
                self._means.report(fact | {"job": self.id, "attempt": str(attempt)})

    def execute_map(self, attempt: AttemptId, task: dict[str, Any]) -> None:
        """Start a map attempt, which writes a spill, or a part of the output if the task names
        where; its end is reported."""
        split = InputSplit.from_plain(take(task, "split", list))
        message = {
            "do": "map",
            "split": split.to_plain(),
            "partitions": take(task, "partitions", int),
        }
        output_path = take(task, "output_path", (str, type(None)))
        if output_path is None:
            message["spill_path"] = self._means.store.spill_path(self.id, attempt)
        else:
            message["output_path"] = output_path
        bad = task.get("bad")
        if bad is not None:
            message["bad"] = take(task, "bad", dict) | {
                "task": str(attempt.task),
                "note_path": self._note_path(attempt),
            }
        fail_point("map-started")
        spills = output_path is None
        self._start(attempt, message, lambda done: self._map_done(attempt, spills, done))

    def _map_done(self, attempt: AttemptId, spills: bool, done: dict[str, Any]) -> dict[str, Any]:
        if spills:
            self._means.store.add_spill(self.id, attempt)
        fail_point("map-spilled")
        return {
            "fact": "map-succeeded",
            "partition_bytes": done["partition_bytes"],
            "size_bytes": done["size_bytes"],
            "digest": done["digest"],
            "first_bad": done["first_bad"],
            "outputs": done["outputs"],
        }

    def _note_path(self, attempt: AttemptId) -> str:
        """Where a careful attempt notes which record is at hand."""
        return os.path.join(self._directory, "scratch", f"{attempt}.note")

    def reduce(self, attempt: AttemptId, task: dict[str, Any]) -> None:
        """Start a reduce attempt over the segments named by ``maps``; its end is reported."""
        segments = self._segments.of_partition(attempt.task.index, take(task, "maps", list))
        message = {
            "do": "reduce",
            "segments": [segment.to_plain() for segment in segments if segment.length],
            "output_path": take(task, "output_path", str),
            "scratch": os.path.join(self._directory, "scratch", str(attempt)),
        }
        fail_point("reduce-started")
        self._start(attempt, message, self._reduce_done)

    @staticmethod
    def _reduce_done(done: dict[str, Any]) -> dict[str, Any]:
        fail_point("reduce-written")
        return {
            "fact": "reduce-succeeded",
            "size_bytes": done["size_bytes"],
            "digest": done["digest"],
            "outputs": done["outputs"],
        }

    def _start(
        self,
        attempt: AttemptId,
        message: dict[str, Any],
        succeeded: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        name = str(attempt)
        if name in self._started:
            return
        self._started.add(name)
        self.running[name] = (0.0, "")
        message["log"] = self._means.logs.path(self.id, name)

        def progress(fraction: float, status: str) -> None:
            if name in self.running:
                self.running[name] = (fraction, status)

        def done(answer: dict[str, Any]) -> dict[str, Any]:
            counters = {f"job: {k}": v for k, v in answer["user_counters"].items()}
            counters |= answer["counters"]
            if sum(map(len, pack([counters]))) > MOST_COUNTER_BYTES:
                raise TooLarge(f"counters of more than {MOST_COUNTER_BYTES} bytes are too many")
            return succeeded(answer) | {"counters": counters}

        def tell(fact: dict[str, Any]) -> None:
            self.running.pop(name, None)
            if not self.ended:
                self._means.report(fact | {"job": self.id, "attempt": name})

        # What comes after a worker has died is to show what it dies of by itself.
        alone = bool(message.get("bad", {}).get("careful"))
        task = Task(self.id, name, message, self._setup, progress, alone=alone)
        ended = self._means.pool.run(task)
        ended.addCallback(done).addErrback(self._failed, attempt).addCallback(tell)
        ended.addErrback(lambda failure: _log.failure("after {attempt}", failure, attempt=name))

    def _failed(self, failure: Any, attempt: AttemptId) -> dict[str, Any]:
        plain = sendable_error(failure.value)
        details = plain["details"]
        index = self._segments.map_of(attempt.task.index, details.get("path"))
        if isinstance(failure.value, SpillDamaged) and index is not None:
            details["map_index"] = index
        note = read_note(self._note_path(attempt))
        if isinstance(failure.value, WorkerDied) and note is not None:
            details["record_number"], details["where"] = note
        tail = self._means.logs.read(self.id, str(attempt), LOG_TAIL_BYTES)
        details.setdefault("log", tail)
        return {"fact": "attempt-failed", "error": plain}

    # ---- segments

    def shuffle(self, wanted: list[Any], here: str) -> None:
        """Start to fetch; what arrives, and what cannot be had, is reported."""
        self._segments.gather(wanted, here)


def _lay_aside(files: tuple[SideFile, ...], prefix: str) -> str:
    """Lay the files down in a directory ``side`` of a new one, which is returned."""
    from pytxmr.storage.sidefiles import lay_down  # few jobs have any

    aside = tempfile.mkdtemp(prefix=os.path.basename(prefix), dir=os.path.dirname(prefix))
    try:
        lay_down(files, os.path.join(aside, "side"))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def kept_job_leaves(directory: str) -> list[str]:
    """What is to be removed of a job's directory when it has ended, if its spills are kept."""
    leaves = ("files", "side", "fetched", "scratch", "source.py", "modules")
    return [os.path.join(directory, name) for name in leaves]
