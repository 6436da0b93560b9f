"""A worker process: what `net.spawn` starts, and what runs the user's code.

It reads messages from file descriptor 3 and writes answers to 4, as msgpack maps one after the
other. The first message says what its job is, each one after that is a task. Standard output and
error belong to the user: during an attempt they go to the attempt's log.

A worker works for one job at most, imports it once, and does not know beforehand whether it will
map or reduce. It leads a process group of its own, so that whatever the job starts can be killed
with it; when the tracker is gone, even by kill -9, file descriptor 3 hangs up, and the group kills
itself.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgpack

from pytxmr.errors import AttemptFailed, BadInput, BadJob, PytxmrError, to_plain
from pytxmr.failpoints import fail_point
from pytxmr.job import context
from pytxmr.job.loading import load
from pytxmr.job.shipping import hint_for
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import FileRange, InputSplit, JobCode, JobFunctions, Segment
from pytxmr.records.attempt import Outcome, Signs, bind_sample
from pytxmr.records.codec import unpack_column
from pytxmr.records.mapping import map_to_part, run_map
from pytxmr.records.quarantine import Quarantine, UserCode
from pytxmr.records.reducing import run_reduce
from pytxmr.records.remote import send_from

CONTROL_FD = 3
ANSWER_FD = 4
_PROGRESS_SECONDS = 0.2
#: How often to look whether an attempt gets on. The tracker counts silence by whole seconds.
_LOOK_SECONDS = 0.5
#: What a worker takes before it does anything, with a small job loaded.
_LOADED_BYTES = 24 << 20
#: Characters of a user's exception that are sent on, at the most.
_MOST_TEXT = 100_000


def main() -> None:
    for fd in (CONTROL_FD, ANSWER_FD):
        os.set_inheritable(fd, False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Numbers that a job computed itself may be written, however long they are.
    sys.set_int_max_str_digits(0)
    # Pairs are short-lived tuples by the million: with the default threshold the collector would
    # look through them every 700.
    gc.set_threshold(50_000, 20, 50)
    worker = Worker()
    threading.Thread(target=_watch_both, args=(worker,), daemon=True).start()
    gc.freeze()
    gc.enable()
    for message in _messages():
        worker.handle(message)
    _die()


def _messages() -> Iterator[dict[str, Any]]:
    unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
    while data := os.read(CONTROL_FD, 1 << 16):
        unpacker.feed(data)
        yield from unpacker


def _watch_both(worker: Worker) -> None:
    """Die once the tracker is gone, whatever the user's code is doing; until then, tell it now and
    then that the attempt gets on.

    Polled for no event, a descriptor still shows that it has hung up. Tasks are read by the thread
    that runs them: if this one handed them on, that would take longer than a small task does.
    """
    poll = select.poll()
    poll.register(CONTROL_FD, 0)
    while not poll.poll(_LOOK_SECONDS * 1000):
        worker.look()
    _die()


def _die() -> None:
    os.killpg(0, signal.SIGKILL)


def pack(message: dict[str, Any]) -> bytes:
    return msgpack.packb(message, unicode_errors="backslashreplace")  # type: ignore[no-any-return]


def send(data: bytes) -> None:
    # What is not longer than PIPE_BUF, as progress is, goes in one piece: any thread may send it.
    view = memoryview(data)
    while view:
        view = view[os.write(ANSWER_FD, view) :]


class Worker:
    """The job that this process has imported, and the attempts it runs."""

    #: Knows which results are kept, if the job wants that: see `reuse`.
    _reuse: Any = None

    def __init__(self) -> None:
        self._job: dict[str, Any] = {}
        self._functions: JobFunctions | None = None
        self._log = _Log()
        self._began = 0.0
        self._told = 0.0
        self._fraction = 0.0
        self._signs: Signs | None = None
        self._seen: Hashable = None
        self._answering = threading.Lock()
        context.on_status(self._tell)

    def handle(self, message: dict[str, Any]) -> None:
        """Take the job, or run one task and answer ``{"done": ...}`` or ``{"failed": error}``."""
        if "job" in message:
            self._job = message["job"]
            return
        self._began = time.monotonic()
        self._told = self._fraction = 0.0
        self._log.begin(message["log"])
        context.begin_attempt()
        self._signs = lambda: "the job is being loaded"
        try:
            functions = self._functions or self._load(self._job)
            data = pack({"done": done_message(self.run(functions, message))})
        except BaseException as error:
            plain = to_plain(self.explained(error))
            data = pack({"failed": plain | {"message": plain["message"][:_MOST_TEXT]}})
        _flush()
        with self._answering:  # after it, `look` would speak of the next attempt
            self._signs = None
            send(data)

    def look(self) -> None:
        """Tell of the attempt, if there is one and it has got on since the last look.

        Called by another thread, so that an attempt is heard of while the user's code is busy with
        one record, and nothing is done per record.
        """
        # Where memory has run out, this thread must go on: it also sees the tracker's end.
        with self._answering, suppress(MemoryError):
            signs = self._signs
            if signs is None:
                return
            seen = (signs, signs(), context.signs())
            if seen != self._seen:
                self._seen = seen
                self._tell()

    def _watch(self, signs: Signs) -> None:
        self._signs = signs

    def _load(self, job: dict[str, Any]) -> JobFunctions:
        """Import the job. Its directory is the working directory, for what its code may write."""
        send_from(job["directory"])
        _limit_data(job["data_bytes"])
        os.chdir(job["directory"])
        self._functions = functions = load_job(job)
        self._reuse = load_reuse(job, functions)
        gc.freeze()
        return functions

    def run(self, functions: JobFunctions, message: dict[str, Any]) -> Outcome:
        """Do what a task's message says."""
        if message["do"] == "map":
            fail_point("worker-map-started")
            outcome = self._reused_or_mapped(functions, message)
            fail_point("worker-map-spilled")
            return outcome
        fail_point("worker-reduce-started")
        segments = [Segment(*segment) for segment in message["segments"]]
        path = message["output_path"]

        def reduce() -> Outcome:
            scratch, compress = message["scratch"], self._job["compress"]
            progress, watch = self._progress, self._watch
            return run_reduce(functions, segments, path, scratch, progress, watch, compress)

        if self._reuse is None:
            outcome = reduce()
        else:
            outcome = self._reuse.reduce(reduce, segments, path, self._watch)
        fail_point("worker-reduce-written")
        return outcome

    def _reused_or_mapped(self, functions: JobFunctions, message: dict[str, Any]) -> Outcome:
        split = InputSplit.from_plain(message["split"])
        functions = functions.of(split)
        # A probe for the record that kills workers has to run, whatever results there are.
        if self._reuse is None or (message.get("bad") or {}).get("window"):
            return self._map(functions, split, message)
        outcome: Outcome = self._reuse.map(
            lambda: self._map(functions, split, message),
            functions,
            split,
            message.get("output_path") or message["spill_path"],
            message["partitions"],
            self._watch,
        )
        return outcome

    def _map(self, functions: JobFunctions, split: InputSplit, message: dict[str, Any]) -> Outcome:
        bad = _quarantine(message["bad"]) if message.get("bad") else None
        if bad is None or bad.window is None:
            return self._mapped(functions, split, message, bad)
        self._say_window(bad.window, split)
        path = message.get("output_path") or message["spill_path"]
        bad.probe(lambda: self._mapped(functions, split, message, bad), path)

    def _mapped(
        self,
        functions: JobFunctions,
        split: InputSplit,
        message: dict[str, Any],
        bad: Quarantine | None,
    ) -> Outcome:
        if "output_path" in message:
            path = message["output_path"]
            compress = self._job["compress"]
            return map_to_part(functions, split, path, self._progress, bad, self._watch, compress)
        return run_map(
            functions,
            split,
            message["spill_path"],
            message["partitions"],
            buffer_bytes(self._job["memory_bytes"]),
            self._progress,
            self._job["codec"],
            bad,
            self._watch,
        )

    def _say_window(self, window: tuple[int, int], split: InputSplit) -> None:
        """Say in a probe's status and log which records it is about."""
        first, last = window
        text = "looking whether workers die if the mapper is given no record"
        if last:
            text = f"looking for a record that kills workers among {first + 1:,} to {last:,}"
        context.status(f"{text} of {split}")
        print(f"pytxmr: {text} of {split}", flush=True)

    def explained(self, error: BaseException) -> PytxmrError:
        """The error as the tracker gets it: the user's own exception with its traceback."""
        shown = explained(error)
        raised = error.__cause__ if isinstance(error, AttemptFailed) else error
        shown.message += hint_for(raised, self._job["code"]["filename"])
        if isinstance(raised, MemoryError):
            most, planned = self._job["data_bytes"] >> 20, self._job["memory_bytes"] >> 20
            shown.message = (
                f"{shown.message.rstrip(': ')} (a process may reserve {most} MiB; --memory, here "
                f"{planned} MiB, sets it)"
            )
        return shown

    def _progress(self, fraction: float) -> None:
        self._fraction = fraction
        if time.monotonic() - self._began > _PROGRESS_SECONDS:
            self._tell()

    def _tell(self) -> None:
        """Send progress and status, unless that was done just now."""
        now = time.monotonic()
        if now - self._told > _PROGRESS_SECONDS:
            self._told = now
            send(pack({"progress": self._fraction, "status": context.current_status()}))


def explained(error: BaseException) -> PytxmrError:
    """What is told of an error that ended an attempt: the user's own, with its traceback."""
    if not isinstance(error, PytxmrError):
        failed = AttemptFailed(f"{type(error).__name__}: {error}")
        failed.details["traceback"] = user_traceback(error)
        return failed
    if isinstance(error, AttemptFailed) and "traceback" not in error.details:
        error.details["traceback"] = user_traceback(error.__cause__ or error)
    return error


def load_job(job: dict[str, Any]) -> JobFunctions:
    """Import a job that a tracker has laid down. Raises `AttemptFailed`."""
    code = _code_of(job)
    try:
        context.begin_side_files(job["side_files"])
        functions = load(code, job["params"], job.get("step"))
    except BadJob as error:
        raise AttemptFailed(error.message, final=True, **error.details) from error
    bind_sides(functions, job.get("sides", ()), job["memory_bytes"])
    bind_ranges(functions, job["key_sample"], job.get("sampled", ()))
    return functions


def load_reuse(job: dict[str, Any], functions: JobFunctions) -> Any:
    """The results that are kept for a job that `load_job` has imported; None if it wants none."""
    if not job.get("reuse"):
        return None
    from pytxmr.reuse import reuse_of  # few jobs want it

    return reuse_of(job, functions, _code_of(job))


def _code_of(job: dict[str, Any]) -> JobCode:
    with open(job["source_path"], "rb") as file:
        shipped = {"source": file.read(), "modules": {}}
    if job["modules_path"] is not None:
        with open(job["modules_path"], "rb") as file:
            shipped["modules"] = msgpack.unpackb(file.read())
    return JobCode.from_plain({**job["code"], **shipped})


def bind_sides(functions: JobFunctions, sides: Sequence[str], memory_bytes: int) -> None:
    """Give a step's tables the files that they look things up in. Raises `AttemptFailed`."""
    if not sides:
        return
    from pytxmr.storage.inputs import list_inputs  # few jobs have any

    for table, side in zip(functions.tables, sides, strict=True):
        try:
            files = [FileRange(file.path, 0, file.size_bytes) for file in list_inputs([side])]
        except BadInput as error:
            raise AttemptFailed(error.message) from error
        table.bind(files, memory_bytes // 2)


def bind_ranges(
    functions: JobFunctions, key_sample: bytes | None, inputs: Iterable[tuple[str, int]]
) -> None:
    """Tell a `RangePartitioner` which keys there are, by the sample given or, if that is empty, by
    one taken now of the inputs (see `JobSpec`). Raises `AttemptFailed`."""
    if key_sample is None:
        return
    if not key_sample:
        from pytxmr.sampling import sample_of  # few jobs want it

        try:
            with context.kept_aside():
                key_sample = sample_of(functions, inputs)
        except BadInput as error:
            raise AttemptFailed(error.message) from error
    bind_sample(functions, unpack_column(key_sample))


def _limit_data(limit_bytes: int) -> None:
    """Have the system refuse memory that the tracker, which looks now and then, would notice late.

    It is not the address space that is limited: libraries reserve much of it and never use it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = min(limit for limit in (soft, hard, limit_bytes) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))


def _quarantine(bad: dict[str, Any]) -> Quarantine:
    code = UserCode(user_traceback, context.counters, context.restore_counters)
    return Quarantine(
        bad["most"],
        bad["path"],
        bad["note_path"],
        bad["task"],
        code,
        bad["careful"],
        [(number, reason) for number, reason in bad["skip"]],
        bad["window"] and tuple(bad["window"]),
    )


def buffer_bytes(memory_bytes: int) -> int:
    """What a sort buffer may hold: half of what is left when Python and the job are loaded."""
    return max(1 << 20, (memory_bytes - _LOADED_BYTES) // 2)


def done_message(outcome: Outcome) -> dict[str, Any]:
    """What the tracker is told of an attempt that has succeeded. Raises `AttemptFailed`."""
    counters: dict[str, int] = {}
    for name, count in context.counters().items():  # users name counters by ints, too
        counters[str(name)] = total = counters.get(str(name), 0) + count
        if not -(1 << 63) <= total < 1 << 63:
            raise AttemptFailed(f"the counter {name!r:.100} is too large for 64 bits", final=True)
    return {
        "counters": outcome.counters,
        "user_counters": counters,
        "partition_bytes": [part.length for part in outcome.ranges],
        "size_bytes": outcome.size_bytes,
        "digest": outcome.digest,
        "first_bad": outcome.first_bad,
        "outputs": outcome.outputs,
    }


class _Log:
    """Where standard output and error go: to a file named for the attempt.

    Most attempts print nothing, and to create a file takes longer than a small task: so a file
    that an attempt has left empty is renamed for the next.
    """

    def __init__(self) -> None:
        self._path = ""
        self._fd = -1

    def begin(self, path: str) -> None:
        if self._fd < 0 or os.fstat(self._fd).st_size or not self._renamed(path):
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._path = path
        # The user's code may have put something else there.
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)

    def _renamed(self, path: str) -> bool:
        try:
            os.rename(self._path, path)
        except FileNotFoundError:
            return False
        return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass  # the user's code has closed or replaced it, or the disk is full


if __name__ == "__main__":
    main()
