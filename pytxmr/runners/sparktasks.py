"""What Spark's executors run: our map and reduce attempts, in PySpark's worker processes.

An attempt is that of one of our own workers: the same code from a split to a spill, and from
segments to a part file. Between the two, Spark carries the spill in pieces, as bytes it need not
understand: a record of its shuffle is ``((partition, map, number), piece)``. Piece 0 of a map says
which run of it the others are of, and, for one of the partitions, which attempt was that: so a
reduce tells of the very runs that it has read, and Spark may run tasks twice, or again.

What is imported here needs no Twisted: executors are sent what it needs (see `sparkparcel`).
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import msgpack

from pytxmr.attemptlogs import LOG_TAIL_BYTES
from pytxmr.errors import AttemptFailed, BadJob, PytxmrError, WorkerDied, from_plain
from pytxmr.job import context, loading
from pytxmr.job.shipping import hint_for
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import (
    MAP,
    REDUCE,
    AttemptId,
    InputSplit,
    JobFunctions,
    JobSpec,
    Segment,
    TaskId,
)
from pytxmr.net.limits import DEFAULT_MEMORY_BYTES
from pytxmr.records.attempt import Outcome, Signs, Watch
from pytxmr.records.mapping import map_to_part, run_map
from pytxmr.records.quarantine import Quarantine, UserCode, read_note
from pytxmr.records.reducing import run_reduce
from pytxmr.records.remote import is_remote, send_from
from pytxmr.runners.inline import reuse_by
from pytxmr.runners.sparkapart import call_apart
from pytxmr.runners.sparkcounters import Counted, count
from pytxmr.runners.sparkerrors import SUFFIX as ERROR_SUFFIX
from pytxmr.runners.sparkerrors import errors_left, leave_error
from pytxmr.storage.places import output_at
from pytxmr.worker import bind_ranges, bind_sides, buffer_bytes, done_message, explained

if TYPE_CHECKING:
    from pyspark import Accumulator

#: Of a map, a partition and a place in it; and bytes.
Piece = tuple[tuple[int, int, int], bytes]
#: The end of an attempt's log.
_Tail = Callable[[], str]

#: Spark's own buffers on both sides of the shuffle count records, and are sized for about this.
_PIECE_BYTES = 128 * 1024

#: How often it is looked whether an attempt gets on.
_LOOK_SECONDS = 0.5


class SparkJob:
    """A job as its tasks know it, and where they write to. ``hadoop`` says which URLs are opened by
    Hadoop, and how (see `sparkhadoop`)."""

    def __init__(
        self, spec: JobSpec, owner: str, reducers: int, hadoop: dict[str, Any] | None = None
    ) -> None:
        self.spec = spec
        self.hadoop = hadoop or {}
        self.owner = owner
        self.reducers = reducers
        self.output = output_at(spec.output, owner)

    def to_plain(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_plain(),
            "owner": self.owner,
            "reducers": self.reducers,
            "hadoop": self.hadoop,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> SparkJob:
        """Of an executor, which opens the URLs as it says."""
        if plain["hadoop"]:
            from pytxmr.runners import sparkhadoop  # few jobs need it

            sparkhadoop.serve(plain["hadoop"])
        spec = JobSpec.from_plain(plain["spec"])
        return cls(spec, plain["owner"], plain["reducers"], plain["hadoop"])


# ---- the three kinds of tasks


def map_to_pieces(
    plain: dict[str, Any], counters: Accumulator[Counted], index: int, splits: Iterable[Any]
) -> Iterator[Piece]:
    """Map a split, and give the spill to Spark."""
    job = SparkJob.from_plain(plain)
    for split in splits:
        with _scratch() as scratch:
            spill = os.path.join(scratch, "spill")
            outcome, done = _mapped(job, counters, index, split, spill)
            told = {"done": {name: done[name] for name in ("attempt", "first_bad")}}
            with open(spill, "rb", buffering=0) as file:
                for partition, part in enumerate(outcome.ranges):
                    tells = partition == index % job.reducers
                    if not part.length and not tells:
                        continue
                    head = {"digest": outcome.digest} | (told if tells else {})
                    yield (partition, index, 0), msgpack.packb(head)
                    file.seek(part.offset)
                    left, number = part.length, 0
                    while left:
                        piece = file.read(min(left, _PIECE_BYTES))
                        left, number = left - len(piece), number + 1
                        yield (partition, index, number), piece


def map_to_parts(
    plain: dict[str, Any], counters: Accumulator[Counted], index: int, splits: Iterable[Any]
) -> Iterator[Any]:
    """Map a split of a job that has no reducer into a part; what it came to."""
    job = SparkJob.from_plain(plain)
    for split in splits:
        _, done = _mapped(job, counters, index, split, "")
        yield done


def reduce_pieces(
    plain: dict[str, Any], counters: Accumulator[Counted], partition: int, pieces: Iterable[Piece]
) -> Iterator[dict[str, Any]]:
    """Reduce a partition whose pieces come in order; what it came to, with the ``runs`` of the maps
    that it has read, by map, and what those of them that told here have ``done``."""
    job = SparkJob.from_plain(plain)
    with _scratch() as scratch:
        path = os.path.join(scratch, "segments")
        # Not in the attempt: what goes wrong with what Spark gives is no failure of the job's.
        segments, heads = _gathered(pieces, path)
        with _attempt(job, TaskId(REDUCE, partition)) as running, running.watched() as watch:
            functions, reuse = _functions(job)
            place = job.output.attempt_path(str(running.id))

            def reduced() -> Outcome:
                merging, compress = os.path.join(scratch, "merge"), job.spec.compress
                return run_reduce(functions, segments, place, merging, _untold, watch, compress)

            if reuse is None:
                outcome = reduced()
            else:
                outcome = reuse.reduce(reduced, segments, place, watch)
            done = done_message(outcome)
    attempt = str(running.id)
    count(counters, attempt, done)
    yield done | {
        "attempt": attempt,
        "runs": {index: head["digest"] for index, head in heads.items()},
        "maps": {index: head["done"] for index, head in heads.items() if "done" in head},
    }


def _gathered(
    pieces: Iterable[Piece], path: str
) -> tuple[list[Segment], dict[int, dict[str, Any]]]:
    """Lay the pieces down in a file: a segment for each map that has any, and their heads."""
    heads: dict[int, dict[str, Any]] = {}
    segments: list[Segment] = []
    start = at = 0
    with open(path, "wb", buffering=1 << 18) as file:
        for (_, index, number), piece in pieces:
            if number:
                at += file.write(piece)
                continue
            if at > start:
                segments.append(Segment(path, start, at - start))
            start = at
            heads[index] = msgpack.unpackb(piece)
    if at > start:
        segments.append(Segment(path, start, at - start))
    return segments, heads


def _mapped(
    job: SparkJob, counters: Accumulator[Counted], index: int, plain: Any, spill: str
) -> tuple[Outcome, dict[str, Any]]:
    split = InputSplit.from_plain(plain)
    with _attempt(job, TaskId(MAP, index), split) as running:
        note = os.path.join(running.directory, "note")
        mapping = _Mapping(job.to_plain(), split, running.id, spill, note)
        if running.may_follow_a_death():
            try:
                outcome, done = _map_apart(mapping, running.directory)
            except PytxmrError as error:
                running.leave(error)
                raise
        else:
            with running.watched() as watch:
                outcome, done = _map(mapping, job, watch)
    attempt = str(running.id)
    count(counters, attempt, done)
    return outcome, done | {"attempt": attempt}


@dataclass(frozen=True, slots=True)
class _Mapping:
    """What a map attempt is to do. ``careful``: it begins with care, and passes over the records
    that have those numbers, of which others have died."""

    job: dict[str, Any]
    split: InputSplit
    attempt: AttemptId
    spill: str
    note: str
    careful: bool = False
    skip: tuple[int, ...] = ()


def _map(mapping: _Mapping, job: SparkJob, watch: Watch) -> tuple[Outcome, dict[str, Any]]:
    spec, split, name = job.spec, mapping.split, str(mapping.attempt)
    functions, reuse = _functions(job)
    functions = functions.of(split)
    place = mapping.spill if job.reducers else job.output.attempt_path(name)

    def mapped() -> Outcome:
        bad = _quarantine(mapping, job)
        if not job.reducers:
            return map_to_part(functions, split, place, _untold, bad, watch, spec.compress)
        memory = buffer_bytes(spec.memory_bytes or DEFAULT_MEMORY_BYTES)
        return run_map(
            functions, split, place, job.reducers, memory, _untold, spec.codec, bad, watch
        )

    if reuse is None:
        outcome = mapped()
    else:
        outcome = reuse.map(mapped, functions, split, place, job.reducers, watch)
    return outcome, done_message(outcome)


def _quarantine(mapping: _Mapping, job: SparkJob) -> Quarantine | None:
    """Where the map sets records aside."""
    most = job.spec.skip_bad_records
    if not most and not mapping.careful:
        return None
    return Quarantine(
        most,
        job.output.bad_path(str(mapping.attempt)),
        mapping.note,
        str(mapping.attempt.task),
        UserCode(user_traceback, context.counters, context.restore_counters),
        mapping.careful,
        [(number, "the worker process died at it") for number in mapping.skip],
    )


def _map_apart(mapping: _Mapping, directory: str) -> tuple[Outcome, dict[str, Any]]:
    """Map in a process of its own, since another attempt may have died of it; if this one does, in
    another with care, and from then on without the records that one has died of, if they may be
    passed over. Raises `PytxmrError`."""
    most = mapping.job["spec"]["skip_bad_records"]
    # What it leaves goes with the attempt's directory.
    env = {"SPARK_LOCAL_DIRS": directory}
    while True:
        with suppress(FileNotFoundError):
            os.unlink(mapping.note)
        try:
            found: tuple[Outcome, dict[str, Any]] = call_apart(
                os.path.join(directory, "result"), env, _map_and_tell, mapping
            )
            return found
        except WorkerDied as died:
            error = _left(mapping) or died
            noted = read_note(mapping.note)
        if not isinstance(error, WorkerDied):
            raise error
        if noted is not None:
            error.details["where"] = noted[1]
        if noted is not None and most and noted[0] not in mapping.skip:
            mapping = replace(mapping, careful=True, skip=(*mapping.skip, noted[0]))
        elif not mapping.careful:
            mapping = replace(mapping, careful=True)
        else:
            raise error


def _left(mapping: _Mapping) -> PytxmrError | None:
    """The error that a process which was to map has left, if it could."""
    try:
        with open(f"{mapping.note}{ERROR_SUFFIX}", "rb") as file:
            return from_plain(json.load(file))
    except FileNotFoundError:
        return None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(f"{mapping.note}{ERROR_SUFFIX}")


def _map_and_tell(mapping: _Mapping) -> tuple[Outcome, dict[str, Any]]:
    """Map in this process, which was begun for it."""
    job = SparkJob.from_plain(mapping.job)
    send_from(os.environ["SPARK_LOCAL_DIRS"])
    path = f"{mapping.note}{ERROR_SUFFIX}"
    try:
        with _watched(job, lambda error: leave_error(path, error)) as watch:
            return _map(mapping, job, watch)
    except BaseException:
        sys.exit(1)  # what it was is left, and need not be printed, too


def _untold(fraction: float) -> None:
    """Spark is not told of fractions of tasks."""


# ---- one attempt


class _Attempt:
    """An attempt that Spark runs here. ``directory`` is on this machine's disks, and its own."""

    def __init__(
        self, job: SparkJob, task: TaskId, split: InputSplit | None, directory: str, log: _Tail
    ) -> None:
        from pyspark import TaskContext

        running = TaskContext.get()
        assert running is not None
        #: Unique among all of the application, which an attempt's number in its stage is not.
        self.id = AttemptId(task, running.taskAttemptId())
        self._earlier = running.attemptNumber()
        self.directory = directory
        self._job = job
        self._split = split
        self._log = log

    def may_follow_a_death(self) -> bool:
        """Are there earlier attempts of this task that have left no error? They have died, or are
        slow, and Spark has doubled them."""
        place = self._job.output.attempt_path("")
        return self._earlier > 0 and self._earlier > errors_left(place, self.id.task)

    def leave(self, error: PytxmrError) -> None:
        """Leave its error beside its output, for the driver to tell."""
        error.details |= {"task": str(self.id.task), "attempt": str(self.id)}
        if self._split is not None:
            error.details["split"] = str(self._split)
        error.details["log"] = self._log()
        leave_error(self._job.output.attempt_path(f"{self.id}{ERROR_SUFFIX}"), error)

    def watched(self) -> AbstractContextManager[Watch]:
        return _watched(self._job, self.leave)


@contextmanager
def _attempt(job: SparkJob, task: TaskId, split: InputSplit | None = None) -> Iterator[_Attempt]:
    """An attempt of a task, whose standard output and error go to a log of its own."""
    here = os.getcwd()
    with ExitStack() as ending:
        directory = ending.enter_context(_scratch())
        printed = ending.enter_context(_log(os.path.join(directory, "log")))
        running = _Attempt(job, task, split, directory, printed)
        try:
            check_place(job)
        except AttemptFailed as error:
            running.leave(error)
            raise
        send_from(directory)
        os.chdir(directory)  # for what the job's code may write
        ending.callback(os.chdir, here)
        yield running


def check_place(job: SparkJob) -> None:
    """Raises `AttemptFailed` if the output is a directory that cannot be written to from here."""
    place = job.output.attempt_path("")
    if not is_remote(place) and not os.access(place, os.W_OK | os.X_OK):
        reason = "Permission denied" if os.path.isdir(place) else "No such directory"
        raise AttemptFailed(
            f"cannot write to {place} on {os.uname().nodename}: {reason}; Spark's executors must "
            f"see the output directory, and may write there",
            final=True,
        )


@contextmanager
def _watched(job: SparkJob, leave: Callable[[PytxmrError], None]) -> Iterator[Watch]:
    """The job's code runs. If that fails, or does not get on, the error is left."""
    context.begin_attempt()
    clock = _Silence(job.spec.task_timeout, leave)
    try:
        yield clock.watch
    except BaseException as raised:
        error = explained(raised)
        cause = raised.__cause__ if isinstance(raised, AttemptFailed) else raised
        error.message += hint_for(cause, job.spec.code.filename)
        leave(error)
        raise
    finally:
        clock.stop()


class _Silence:
    """Kills this process, and says why, if its attempt does not get on for so many seconds."""

    def __init__(self, most_seconds: int, leave: Callable[[PytxmrError], None]) -> None:
        self._most_seconds = most_seconds
        self._leave = leave
        self._signs: Signs = lambda: "the job is being loaded"
        self._stopped = Event()
        if most_seconds:
            Thread(target=self._look, daemon=True).start()

    def watch(self, signs: Signs) -> None:
        self._signs = signs

    def stop(self) -> None:
        self._stopped.set()

    def _look(self) -> None:
        seen: Hashable = None
        since = time.monotonic()
        while not self._stopped.wait(_LOOK_SECONDS):
            now = time.monotonic()
            found = (self._signs, self._signs(), context.signs(), context.current_status())
            if found != seen:
                seen, since = found, now
            elif now - since > self._most_seconds:
                silent = f"no progress for {self._most_seconds} s; --task-timeout sets the limit"
                self._leave(WorkerDied(silent))
                os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _log(path: str) -> Iterator[_Tail]:
    """Standard output and error go to the file; gives what reads the end of it."""
    _flush()
    before = [os.dup(1), os.dup(2)]
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def tail() -> str:
        _flush()
        size = os.fstat(fd).st_size
        data = os.pread(fd, LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        return data.decode("utf-8", "backslashreplace")

    os.dup2(fd, 1)
    os.dup2(fd, 2)
    try:
        yield tail
    finally:
        _flush()
        for number, saved in enumerate(before, 1):
            os.dup2(saved, number)
            os.close(saved)
        os.close(fd)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.flush()


@contextmanager
def _scratch() -> Iterator[str]:
    """A directory on the executor's own disks; Spark removes what is left if we are killed."""
    places = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
    directory = tempfile.mkdtemp(prefix="pytxmr-", dir=places[os.getpid() % len(places)] or None)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# ---- the job's own code

#: The job whose code this process has loaded: of an application with several, one at a time.
_loaded: dict[str, tuple[JobFunctions, Any]] = {}


def _functions(job: SparkJob) -> tuple[JobFunctions, Any]:
    """The job's functions, loaded once, and what knows the results that are kept for it, if any."""
    if job.owner not in _loaded:
        _loaded.clear()
        spec = job.spec
        sys.set_int_max_str_digits(0)
        gc.set_threshold(50_000, 20, 50)  # as in our workers
        try:
            context.begin_side_files(_side_files(job))
            functions = loading.load(spec.code, spec.params, spec.step)
        except BadJob as error:
            raise AttemptFailed(error.message, final=True, **error.details) from error
        bind_sides(functions, spec.sides, spec.memory_bytes or DEFAULT_MEMORY_BYTES)
        bind_ranges(functions, spec.key_sample, spec.sourced_inputs)
        gc.freeze()
        _loaded[job.owner] = functions, reuse_by(spec, functions) if spec.reuse else None
    return _loaded[job.owner]


def _side_files(job: SparkJob) -> dict[str, str]:
    """Lay down what travels with the job, once for each process."""
    if not job.spec.files:
        return {}
    from pytxmr.storage.sidefiles import lay_down  # few jobs have any

    places = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
    directory = tempfile.mkdtemp(prefix="pytxmr-side-", dir=places[0] or None)
    side = os.path.join(directory, "side")
    lay_down(job.spec.files, side)
    return {file.name: os.path.join(side, file.name) for file in job.spec.files}
