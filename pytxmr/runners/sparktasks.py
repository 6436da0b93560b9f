"""What Spark's executors run: our map and reduce attempts, in PySpark's worker processes.

An attempt is that of one of our own workers: the same code from a split to a spill, and from
segments to a part file. Between the two, Spark carries the spill in pieces, as bytes it need not
understand: a record of its shuffle is ``((partition, map, number), piece)``. Piece 0 of a map says
which run of it the others are of, and, for one of the partitions, what that run has counted: so a
reduce tells of the very runs that it has read, and Spark may run tasks twice, or again.

What is imported here needs no Twisted: executors are sent what it needs (see `sparkparcel`).
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread
from typing import Any

import msgpack

from pytxmr.attemptlogs import LOG_TAIL_BYTES
from pytxmr.errors import AttemptFailed, BadJob, PytxmrError, WorkerDied, to_plain
from pytxmr.job import context, loading
from pytxmr.job.shipping import hint_for
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
from pytxmr.runners.inline import reuse_by
from pytxmr.storage.output import OutputDirectory
from pytxmr.worker import bind_ranges, bind_sides, buffer_bytes, done_message, explained

#: Of a map, a partition and a place in it; and bytes.
Piece = tuple[tuple[int, int, int], bytes]

#: Spark's own buffers on both sides of the shuffle count records, and are sized for about this.
_PIECE_BYTES = 128 * 1024

ERROR_SUFFIX = ".error"
_MARK_SUFFIX = ".running"
#: How often it is looked whether an attempt gets on.
_LOOK_SECONDS = 0.5


class SparkJob:
    """A job as its tasks know it, and the directory, seen by all executors, that they write to."""

    def __init__(self, spec: JobSpec, owner: str, reducers: int) -> None:
        self.spec = spec
        self.owner = owner
        self.reducers = reducers
        self.output = OutputDirectory(spec.output, owner)

    def error_path(self, attempt: AttemptId) -> str:
        """Where an attempt that fails leaves its error, in JSON."""
        return self.output.attempt_path(f"{attempt}{ERROR_SUFFIX}")

    def note_path(self, attempt: AttemptId) -> str:
        """Where a careful attempt notes which record is at hand."""
        return self.output.attempt_path(f"{attempt}.note")

    def mark_path(self, attempt: AttemptId) -> str:
        """What is there, and locked, as long as the attempt runs."""
        return self.output.attempt_path(f"{attempt}{_MARK_SUFFIX}")

    def to_plain(self) -> dict[str, Any]:
        return {"spec": self.spec.to_plain(), "owner": self.owner, "reducers": self.reducers}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> SparkJob:
        return cls(JobSpec.from_plain(plain["spec"]), plain["owner"], plain["reducers"])


# ---- the three kinds of tasks


def map_to_pieces(plain: dict[str, Any], index: int, splits: Iterable[Any]) -> Iterator[Piece]:
    """Map a split, and give the spill to Spark."""
    job = SparkJob.from_plain(plain)
    for split in splits:
        with _scratch() as scratch:
            spill = os.path.join(scratch, "spill")
            outcome, done = _mapped(job, index, split, spill)
            with open(spill, "rb", buffering=0) as file:
                for partition, part in enumerate(outcome.ranges):
                    tells = partition == index % job.reducers
                    if not part.length and not tells:
                        continue
                    head = {"digest": outcome.digest} | ({"done": done} if tells else {})
                    yield (partition, index, 0), msgpack.packb(head)
                    file.seek(part.offset)
                    left, number = part.length, 0
                    while left:
                        piece = file.read(min(left, _PIECE_BYTES))
                        left, number = left - len(piece), number + 1
                        yield (partition, index, number), piece


def map_to_parts(plain: dict[str, Any], index: int, splits: Iterable[Any]) -> Iterator[Any]:
    """Map a split of a job that has no reducer into a part; what it came to."""
    job = SparkJob.from_plain(plain)
    for split in splits:
        _, done = _mapped(job, index, split, "")
        yield done


def reduce_pieces(
    plain: dict[str, Any], partition: int, pieces: Iterable[Piece]
) -> Iterator[dict[str, Any]]:
    """Reduce a partition whose pieces come in order; what it came to, with the ``runs`` of the maps
    that it has read, by map, and what those of them that told here have ``done``."""
    job = SparkJob.from_plain(plain)
    with _scratch() as scratch:
        path = os.path.join(scratch, "segments")
        # Not in the attempt: what goes wrong with what Spark gives is no failure of the job's.
        segments, heads = _gathered(pieces, path)
        with _attempt(job, TaskId(REDUCE, partition)) as (attempt, watch):
            functions, reuse = _functions(job)
            place = job.output.attempt_path(str(attempt))

            def reduced() -> Outcome:
                merging, compress = os.path.join(scratch, "merge"), job.spec.compress
                return run_reduce(functions, segments, place, merging, _untold, watch, compress)

            if reuse is None:
                outcome = reduced()
            else:
                outcome = reuse.reduce(reduced, segments, place, watch)
            done = done_message(outcome)
    yield done | {
        "attempt": str(attempt),
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


def _mapped(job: SparkJob, index: int, plain: Any, spill: str) -> tuple[Outcome, dict[str, Any]]:
    split = InputSplit.from_plain(plain)
    spec = job.spec
    with _attempt(job, TaskId(MAP, index), split) as (attempt, watch):
        functions, reuse = _functions(job)
        functions = functions.of(split)
        place = spill if job.reducers else job.output.attempt_path(str(attempt))

        def mapped() -> Outcome:
            bad = _quarantine(job, attempt)
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
        return outcome, done_message(outcome) | {"attempt": str(attempt)}


def _quarantine(job: SparkJob, attempt: AttemptId) -> Quarantine | None:
    """Where the map sets records aside. If an attempt of it has died before, this one begins with
    care, and passes over the records that others have died of."""
    most = job.spec.skip_bad_records
    dead = [died for died in deaths(job) if died.task == attempt.task]
    if not most and not dead:
        return None
    notes = [read_note(job.note_path(died)) for died in dead]
    skip = [(note[0], "the worker process died at it") for note in notes if note is not None]
    code = UserCode(loading.user_traceback, context.counters, context.restore_counters)
    return Quarantine(
        most,
        job.output.bad_path(str(attempt)),
        job.note_path(attempt),
        str(attempt.task),
        code,
        bool(dead),
        skip if most else (),
    )


def _untold(fraction: float) -> None:
    """Spark is not told of fractions of tasks."""


# ---- one attempt


@contextmanager
def _attempt(
    job: SparkJob, task: TaskId, split: InputSplit | None = None
) -> Iterator[tuple[AttemptId, Watch]]:
    """An attempt of a task, whose standard output and error go to a log of its own. If it fails,
    the error is left beside its output, for the driver to tell."""
    from pyspark import TaskContext

    running = TaskContext.get()
    assert running is not None
    # Unique among all attempts of the application, which an attempt's number in its stage is not.
    attempt = AttemptId(task, running.taskAttemptId())
    here = os.getcwd()
    with ExitStack() as ending:
        directory = ending.enter_context(_scratch())
        printed = ending.enter_context(_log(os.path.join(directory, "log")))

        def leave(error: PytxmrError) -> None:
            error.details |= {"task": str(task), "attempt": str(attempt)}
            if split is not None:
                error.details["split"] = str(split)
            error.details["log"] = printed()
            _leave(job.error_path(attempt), to_plain(error))

        ending.enter_context(_mark(job.mark_path(attempt)))
        os.chdir(directory)  # for what the job's code may write
        ending.callback(os.chdir, here)
        context.begin_attempt()
        clock = _Silence(job.spec.task_timeout, leave)
        ending.callback(clock.stop)
        try:
            yield attempt, clock.watch
        except BaseException as raised:
            error = explained(raised)
            cause = raised.__cause__ if isinstance(raised, AttemptFailed) else raised
            error.message += hint_for(cause, job.spec.code.filename)
            leave(error)
            raise


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
def _mark(path: str) -> Iterator[None]:
    """A file for as long as the attempt runs, locked: one that is there without the lock is of an
    attempt whose process has died."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise AttemptFailed(
            f"cannot write to {os.path.dirname(path)} on {os.uname().nodename}: {error.strerror}; "
            f"Spark's executors must see the output directory, and may write there",
            final=True,
        ) from None
    try:
        with suppress(OSError):  # where there are no locks, no attempt counts as dead
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        with suppress(FileNotFoundError):
            os.unlink(path)
    except Exception:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def deaths(job: SparkJob) -> list[AttemptId]:
    """The attempts whose processes have died."""
    found = []
    for name in os.listdir(job.output.attempt_path("")):
        if not name.endswith(_MARK_SUFFIX):
            continue
        with suppress(OSError), open(job.output.attempt_path(name), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # refused while the attempt runs
            found.append(AttemptId.parse(name.removesuffix(_MARK_SUFFIX)))
    return sorted(found, key=lambda attempt: attempt.number)


def _leave(path: str, plain: dict[str, Any]) -> None:
    # If the directory is not to be seen here, or the job was ended, Spark tells what it can.
    with suppress(OSError):
        with open(f"{path}.part", "w", encoding="ascii") as file:
            json.dump(plain, file, default=str)
        os.rename(f"{path}.part", path)


@contextmanager
def _log(path: str) -> Iterator[Callable[[], str]]:
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
