"""A job in this very process, one attempt after the other: for debuggers, and for tests.

The attempts are those of a worker process: the same code over the same splits, with spills in a
directory of their own. So what comes out is what a cluster puts out. What needs other processes is
left out: a task that fails is not tried again, and neither time nor memory is limited. Standard
input and output stay the terminal's.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from bdb import BdbQuit
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytxmr.errors import AttemptFailed, JobFailed, PytxmrError
from pytxmr.job import context, loading
from pytxmr.job.tracebacks import user_frames, user_traceback
from pytxmr.model import (
    BAD_RECORDS,
    MAP,
    REDUCE,
    AttemptId,
    InputSplit,
    JobFunctions,
    JobSpec,
    Segment,
    TaskId,
    job_id,
    side_digests,
    step_label,
)
from pytxmr.net.limits import DEFAULT_MEMORY_BYTES
from pytxmr.records import kinds
from pytxmr.records.attempt import Outcome
from pytxmr.records.codec import use_pickle
from pytxmr.records.compressed import SUFFIX_OF
from pytxmr.records.mapping import map_to_part, run_map
from pytxmr.records.quarantine import Quarantine, UserCode, too_many
from pytxmr.records.reducing import run_reduce
from pytxmr.runners import Told
from pytxmr.storage.output import Output, Part
from pytxmr.storage.places import output_at
from pytxmr.submission import forget_unused, manifest_of, plan_job
from pytxmr.worker import bind_ranges, bind_sides, buffer_bytes, done_message


def run_all(
    specs: list[JobSpec],
    told: Told = lambda status: None,
    run_one: Callable[[JobSpec, Told, int], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """`run`, or ``run_one``, a job that may have several steps, one after the other."""
    run_one = run_one or run
    if specs[0].steps == 1:
        return run_one(specs[0], told, 1)
    from pytxmr.steps import of_steps

    ended = []
    for number, spec in enumerate(specs, 1):
        step = {"step": [spec.step, spec.steps]}

        def told_of_step(status: dict[str, Any], step: dict[str, Any] = step) -> None:
            told(status | step)

        try:
            ended.append(run_one(spec, told_of_step, number) | step)
        except JobFailed as error:
            error.message = f"{step_label(step)}{error.message}"
            raise
    whole = of_steps(ended)
    told(whole)
    return whole


def run(spec: JobSpec, told: Told = lambda status: None, number: int = 1) -> dict[str, Any]:
    """Run the job of that number to its end; its last status, as that of a job on a cluster.

    Raises `BadJob` or `BadInput` before anything runs; `JobFailed` from the user's own exception;
    `KeyboardInterrupt` if the user stops it, also by leaving the debugger. Then no output is left.
    """
    # Planned as for one worker per core, so that it cuts input and output as the embedded cluster.
    workers = len(os.sched_getaffinity(0))
    job = job_id(number)
    output = output_at(spec.output, secrets.token_hex(16))
    with (
        as_in_a_worker(),
        tempfile.TemporaryDirectory(prefix="pytxmr-") as directory,
    ):
        if spec.files:
            from pytxmr.storage.sidefiles import lay_down  # few jobs have any

            side = os.path.join(directory, "side")
            lay_down(spec.files, side)
            names = [file.name for file in spec.files]
            context.begin_side_files({name: os.path.join(side, name) for name in names})
        functions = loading.load(spec.code, spec.params, spec.step)
        bind_sides(functions, spec.sides, spec.memory_bytes or DEFAULT_MEMORY_BYTES)
        bind_ranges(functions, spec.key_sample, spec.sourced_inputs)
        reuse = reuse_by(spec, functions) if spec.reuse else None
        splits, uncut = plan_job(spec, output, workers, machines=1)
        attempts = Attempts(
            functions,
            workers if spec.reducers is None else spec.reducers,
            directory,
            output.attempt_path,
            spec.skip_bad_records,
            spec.memory_bytes,
            spec.codec,
            spec.compress,
            reuse,
        )
        try:
            return _run(job, spec, splits, uncut, attempts, output, told)
        except BaseException as error:
            output.discard(job)
            stop = _stop(error)
            if stop is not None:
                raise stop from None
            if isinstance(error, AttemptFailed):
                cause = error.__cause__
                if cause is not None:
                    cause.__traceback__ = user_frames(cause.__traceback__)
                raise _job_failed(job, error) from cause
            if isinstance(error, PytxmrError):
                raise JobFailed(f"{job}: {error.message}", **error.details) from error
            raise


def _run(
    job: str,
    spec: JobSpec,
    splits: list[InputSplit],
    uncut: int,
    attempts: Attempts,
    output: Output,
    told: Told,
) -> dict[str, Any]:
    status = Status(job, spec, len(splits), attempts.reducers, uncut, told)
    parts = []
    for index, split in enumerate(splits):
        status.tell("mapping", maps_done=index)
        done = attempts.map(index, split, lambda done: status.tell(fraction_running=done))
        if not attempts.reducers:
            parts += done
    for partition in range(attempts.reducers):
        status.tell("reducing", maps_done=len(splits), reduces_done=partition)
        parts += attempts.reduce(partition)
    status.tell("committing", maps_done=len(splits), reduces_done=attempts.reducers)
    manifest = manifest_of(job, spec, attempts.counters)
    output.commit(parts, manifest, attempts.bad, SUFFIX_OF[spec.compress])
    forget_unused(spec)
    return status.ended(attempts.counters)


def reuse_by(spec: JobSpec, functions: JobFunctions) -> Any:
    """What knows the results that are kept for a job."""
    from pytxmr.reuse import reuse_of  # few jobs want it

    job = {name: getattr(spec, name) for name in ("reuse", "codec", "compress", "step", "params")}
    job["memory_bytes"] = spec.memory_bytes or DEFAULT_MEMORY_BYTES
    job["side_digests"] = side_digests(spec.files)
    return reuse_of(job, functions, spec.code)


class Status:
    """What is told of the job, as plain values: see `joblife.JobLife.status`."""

    def __init__(
        self, job: str, spec: JobSpec, maps: int, reduces: int, uncut: int, told: Told
    ) -> None:
        self._told = told
        self._began = self._phase_began = time.monotonic()
        self._values: dict[str, Any] = {
            "job": job,
            "name": spec.name,
            "phase": "queued",
            "outcome": "",
            "output": spec.output,
            "submitted_at": time.time(),
            "seconds": 0.0,
            "phase_seconds": {},
            "maps": maps,
            "maps_done": 0,
            "reduces": reduces,
            "reduces_done": 0,
            "running": 1,
            "failures": 0,
            "fraction_running": 0.0,
            "fraction_reducing": 0.0,
            "doing": [],
            "kept": False,
            "uncut": uncut,
            "counters": {},
            "error": None,
        }

    def tell(self, phase: str = "", **changed: Any) -> None:
        values, now = self._values, time.monotonic()
        if phase and phase != values["phase"]:
            # On Spark a job whose maps are lost maps again, after it has begun to reduce.
            spent, phases = now - self._phase_began, values["phase_seconds"]
            phases[values["phase"]] = phases.get(values["phase"], 0.0) + spent
            values["phase"], self._phase_began = phase, now
        values |= {"fraction_running": 0.0, "seconds": now - self._began} | changed
        doing = context.current_status()
        self._told(
            values
            | {"phase_seconds": dict(values["phase_seconds"]), "doing": [doing] if doing else []}
        )

    def ended(self, counters: dict[str, int]) -> dict[str, Any]:
        self.tell("ended", outcome="succeeded", running=0, counters=dict(counters))
        return dict(self._values)


class Attempts:
    """The attempts of one job, of which each task has one.

    ``directory`` takes their spills, and is emptied by whoever made it; ``place`` says where an
    attempt is to write what becomes output. Without ``reducers`` that is what maps put out.
    ``counters`` are sums, those of the user's code named ``job: ...``; ``bad`` names the maps that
    have set records aside, attempt and task.
    """

    def __init__(
        self,
        functions: JobFunctions,
        reducers: int,
        directory: str,
        place: Callable[[str], str],
        skip_bad_records: int = 0,
        memory_bytes: int | None = None,
        codec: str = "none",
        compress: str = "none",
        reuse: Any = None,
    ) -> None:
        self.reducers = reducers
        self.counters: Counter[str] = Counter()
        self.bad: list[tuple[str, str]] = []
        self._functions = functions
        self._directory = directory
        self._place = place
        self._skip_bad_records = skip_bad_records
        self._buffer_bytes = buffer_bytes(memory_bytes or DEFAULT_MEMORY_BYTES)
        self._codec = codec
        self._compress = compress
        self._reuse = reuse
        self._segments: list[list[Segment]] = [[] for _ in range(reducers)]
        self._first_bad: dict[str, str] = {}

    def map(self, index: int, split: InputSplit, progress: Callable[[float], None]) -> list[Part]:
        """Map one split; what it wrote, which are parts if there are no reducers: its own, then
        those of outputs by name. Raises `AttemptFailed` from the user's exception, naming task and
        split.

        Splits are mapped in order, all of them before anything is reduced.
        """
        attempt = AttemptId(TaskId(MAP, index), 0)
        path = os.path.join(self._directory, str(attempt))
        with _explained(attempt, split):
            outcome = self._mapped(attempt, split, path, progress)
            self._count(outcome)
            if outcome.first_bad:
                self.bad.append((str(attempt), str(attempt.task)))
                self._first_bad = self._first_bad or outcome.first_bad
            if self.counters[BAD_RECORDS] > self._skip_bad_records:
                raise too_many(self.counters[BAD_RECORDS], self._skip_bad_records, self._first_bad)
        for segments, part in zip(self._segments, outcome.ranges, strict=True):
            if part.length:
                segments.append(Segment(path, part.offset, part.length))
        return _parts(attempt, outcome)

    def _mapped(
        self, attempt: AttemptId, split: InputSplit, path: str, progress: Callable[[float], None]
    ) -> Outcome:
        context.begin_attempt()
        if self._reuse is None:
            return self._map(attempt, split, path, progress)
        outcome: Outcome = self._reuse.map(
            lambda: self._map(attempt, split, path, progress),
            self._functions.of(split),
            split,
            path if self.reducers else self._place(str(attempt)),
            self.reducers,
        )
        return outcome

    def _map(
        self, attempt: AttemptId, split: InputSplit, path: str, progress: Callable[[float], None]
    ) -> Outcome:
        functions = self._functions.of(split)

        def mapped(bad: Quarantine | None) -> Outcome:
            if not self.reducers:
                place = self._place(str(attempt))
                return map_to_part(functions, split, place, progress, bad, compress=self._compress)
            return run_map(
                functions,
                split,
                path,
                self.reducers,
                self._buffer_bytes,
                progress,
                self._codec,
                bad,
            )

        if not self._skip_bad_records:
            return mapped(None)
        code = UserCode(_traceback, context.counters, context.restore_counters)
        aside = self.bad_path(str(attempt))
        bad = Quarantine(self._skip_bad_records, aside, f"{path}.note", str(attempt.task), code)
        try:
            return mapped(None)
        except AttemptFailed as error:
            # `run_map` would begin anew whatever it was, also if the user wants to stop.
            if _stop(error) is not None:
                raise
        bad.careful = True
        return mapped(bad)

    def bad_path(self, attempt: str) -> str:
        """Where a map sets records aside, as `OutputDirectory.bad_path`."""
        return self._place(f"{attempt}.bad")

    def reduce(self, partition: int) -> list[Part]:
        """Reduce one partition; what it wrote. Raises as `map`."""
        attempt = AttemptId(TaskId(REDUCE, partition), 0)
        scratch = os.path.join(self._directory, f"{attempt}.scratch")
        context.begin_attempt()
        with _explained(attempt):
            segments, path = self._segments[partition], self._place(str(attempt))

            def reduce() -> Outcome:
                compress = self._compress
                return run_reduce(
                    self._functions, segments, path, scratch, lambda done: None, compress=compress
                )

            reuse = self._reuse
            outcome = reduce() if reuse is None else reuse.reduce(reduce, segments, path)
            self._count(outcome)
        return _parts(attempt, outcome)

    def _count(self, outcome: Outcome) -> None:
        done = done_message(outcome)
        self.counters.update({f"job: {name}": n for name, n in done["user_counters"].items()})
        self.counters.update(done["counters"])


def _parts(attempt: AttemptId, outcome: Outcome) -> list[Part]:
    """The files of an attempt."""
    written = [(outcome.size_bytes, outcome.digest, "")]
    written += [(size, digest, name) for name, size, digest in outcome.outputs]
    return [Part(str(attempt), *file) for file in written]


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """Let a job's functions run here as in a worker process; afterwards all is as before."""
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with context.kept_aside():
            yield
    finally:
        sys.set_int_max_str_digits(digits)
        kinds.declare(())
        use_pickle(False)


@contextmanager
def _explained(attempt: AttemptId, split: InputSplit | None = None) -> Iterator[None]:
    """Say of an error in which attempt it arose, and show the user's part of its traceback."""
    try:
        yield
    except AttemptFailed as error:
        error.details |= {"task": str(attempt.task), "attempt": str(attempt)}
        if split is not None:
            error.details["split"] = str(split)
        error.details.setdefault("traceback", user_traceback(error.__cause__ or error))
        raise


def _traceback(error: BaseException) -> str:
    if isinstance(error, BdbQuit):  # An Exception; but it is no record's fault.
        raise KeyboardInterrupt from error
    return user_traceback(error)


def _stop(error: BaseException) -> KeyboardInterrupt | None:
    """What to raise if the user wants to stop."""
    cause = error.__cause__ if isinstance(error, AttemptFailed) else error
    if isinstance(cause, BdbQuit):
        return KeyboardInterrupt()
    return cause if isinstance(cause, KeyboardInterrupt) else None


def _job_failed(job: str, error: AttemptFailed) -> JobFailed:
    task = error.details.get("task", "")
    return JobFailed(f"{job}: {task} failed once: {error.message}", **error.details)
