"""For tests of what you write on pytxmr.

`run_inline` runs a job in the test's own process, and imports no Twisted. `InMemoryCluster` (see
`runners.memory`) is for tests of Twisted programs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from types import ModuleType, TracebackType
from typing import Any

from pytxmr.errors import AttemptFailed, BadJob
from pytxmr.job import loading
from pytxmr.job.binding import ROLES, bind
from pytxmr.job.context import begin_job, begin_outputs, begin_side_files
from pytxmr.job.names import nearest
from pytxmr.job.params import convert_params, declared_params, literal_params
from pytxmr.job.pipeline import Input
from pytxmr.job.shipping import Beside
from pytxmr.job.steps import Source, Stage
from pytxmr.job.tracebacks import user_frames
from pytxmr.model import InputSplit, JobCode, JobFunctions
from pytxmr.net.limits import DEFAULT_MEMORY_BYTES
from pytxmr.records.attempt import bind_sample
from pytxmr.records.batch import LINES, batch_form
from pytxmr.records.formats import Reader
from pytxmr.records.mapping import sample_keys
from pytxmr.records.order import sort_key
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.quarantine import read_bad_records
from pytxmr.records.writers import encoded
from pytxmr.runners.inline import Attempts, as_in_a_worker
from pytxmr.steps import inputs_of
from pytxmr.storage.inputs import (
    CutWhereItMay,
    InputFile,
    absolute_names,
    cut_nowhere,
    list_inputs,
    plan_splits,
)
from pytxmr.storage.output import Part
from pytxmr.worker import bind_sides

Pair = tuple[Any, Any]

_USER_COUNTER = "job: "
_SAMPLE_KEYS = 2000
_CHUNK_PAIRS = 1024


def __getattr__(name: str) -> Any:
    if name == "InMemoryCluster":
        from pytxmr.runners.memory import InMemoryCluster

        return InMemoryCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that was set aside: where it is, and why. ``record`` is shown as text."""

    file: str
    offset: int
    record: str
    traceback: str
    task: str


@dataclass(frozen=True, slots=True)
class InlineResult:
    """What came of `run_inline`; iterates over its ``pairs``.

    ``pairs``: what the reducers yielded, in the order of the parts; ``parts``: the same by reducer,
    or by split if there is none; ``files``: the bytes of each part file. Of several steps it is the
    last that counts. ``outputs``: by name, the pairs of each output that the job declares.
    ``counters`` are the job's own by name, ``totals`` those of pytxmr, such as
    ``map output records``, both over all steps.
    """

    pairs: list[Pair]
    parts: list[list[Pair]]
    files: list[bytes]
    counters: dict[str, int]
    totals: dict[str, int]
    bad_records: list[BadRecord]
    outputs: dict[str, list[Pair]]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)


def run_inline(
    job: Any,
    records: Any,
    *,
    params: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    side_files: Mapping[str, str | os.PathLike[str]] | None = None,
    reducers: int = 1,
    splits: int = 1,
    skip_bad_records: int = 0,
) -> InlineResult:
    """Run a job in this process, by the code that a worker process runs; its steps, if it has some,
    one after the other. Without a reducer, or with ``reducers=0``, what its maps put out is its
    output.

    ``job``: a module, a class, or a path as for `pytxmr run`, ``"JOB.py"`` or ``"JOB.py:CLASS"``.
    ``records``: lines, as str or bytes without their ends, which the job's reader gets if it has
    one; or pairs, which the mapper gets as they are; or a `pathlib.Path`, or several, of files,
    directories or globs. For a job with several inputs it is a dict of these, by the inputs' names;
    None is that of one without a name.
    ``params`` and ``names`` are what ``-D`` and ``--mapper NAME`` say: ``{"terms": 3}``,
    ``{"mapper": "other"}``; ``side_files`` are paths, by the names that the job calls them. The
    input of each step is cut into ``splits`` pieces, one or two more if it is several files.

    An exception in the job's functions comes out as it is, with a note of the record or key at
    hand. Raises `BadJob` or `BadInput` before anything runs, and `AttemptFailed` for what is wrong
    with the job's functions without an exception of theirs. Not for two threads at a time.
    """
    __tracebackhide__ = True
    with (
        as_in_a_worker(),
        tempfile.TemporaryDirectory(prefix="pytxmr-") as directory,
    ):
        try:
            begin_side_files(_found(side_files or {}))
            stages = _bound(job, params or {}, names or {})
            run = _Run(stages, reducers, splits, skip_bad_records, directory)
            return run.result(_by_name(records))
        except AttemptFailed as error:
            raised, link = _as_raised(error, directory)
    # Not while another exception is handled, which would be shown above it.
    raise raised.with_traceback(link)


class _Run:
    """The steps, one after the other, in ``directory``."""

    def __init__(
        self,
        stages: list[Stage],
        reducers: int,
        most_splits: int,
        skip_bad_records: int,
        directory: str,
    ) -> None:
        for what, number, least in (("reducers", reducers, 0), ("splits", most_splits, 1)):
            if number < least:
                raise BadJob(f"{what}={number}: there must be {least} at least")
        if not reducers and len(stages) > 1:
            raise BadJob("reducers=0: the job has steps that shuffle")
        self._stages = stages
        self._reducers = reducers
        self._most_splits = most_splits
        self._skip_bad_records = skip_bad_records
        self._directory = directory
        self._counters: Counter[str] = Counter()
        self._bad: list[BadRecord] = []
        self.parts: list[list[Pair]] = []
        self.files: list[bytes] = []
        self.outputs: dict[str, list[Pair]] = {}

    def result(self, records: dict[str | None, Any]) -> InlineResult:
        inputs = inputs_of(self._stages)
        _check_named(records, inputs)
        written = {
            name: _written(records[name], self._directory, name)
            if name in records
            else ([*absolute_names([source.pattern or ""])], None)
            for name, source in inputs.items()
        }
        for stage in self._stages:
            self._step(stage, written)
        counters = self._counters.items()
        return InlineResult(
            [pair for part in self.parts for pair in part],
            self.parts,
            self.files,
            {k.removeprefix(_USER_COUNTER): n for k, n in counters if k.startswith(_USER_COUNTER)},
            {k: n for k, n in counters if not k.startswith(_USER_COUNTER)},
            self._bad,
            self.outputs,
        )

    def _step(self, stage: Stage, written: dict[str | None, _Written]) -> None:
        kept = _Kept(stage.functions[0].writer) if stage is self._stages[-1] else None
        by_name = {name: _Kept(writer) for name, writer in stage.functions[0].outputs.items()}
        begin_outputs(by_name)
        self.outputs = {name: [] for name in by_name}
        each: list[JobFunctions] = []
        files: list[list[InputFile]] = []
        for source, functions in zip(stage.sources, stage.functions, strict=True):
            paths: list[str]
            if isinstance(source.of, Input):
                paths, reader = written[source.of.name]
                if reader is not None:
                    if batch_form(functions.mapper) in LINES:
                        raise BadJob(
                            "records: a batch mapper reads lines; pairs cannot be given to it"
                        )
                    functions = _with(functions, reader=reader)
            else:
                paths = [self._place(source.of)]
            if kept is not None:
                functions = _with(functions, writer=kept, outputs=by_name)
            each.append(functions)
            files.append(list_inputs(paths))
        functions = replace(each[0], sources=tuple(each)) if len(each) > 1 else each[0]
        bind_sides(functions, [*map(self._place, stage.sides)], DEFAULT_MEMORY_BYTES)
        splits = self._splits(each, files)
        if isinstance(functions.partitioner, RangePartitioner):
            sampled = (sample_keys(functions.of(split), split, _SAMPLE_KEYS) for split in splits)
            bind_sample(functions, sorted(chain.from_iterable(sampled), key=sort_key))
        scratch, place = f"{self._directory}/scratch{stage.number}", self._place(stage.number)
        os.mkdir(scratch)
        os.mkdir(place)
        attempts = Attempts(
            functions,
            self._reducers if stage.reducers is None else stage.reducers,
            scratch,
            # Beside the parts: all that lies among them is input of the next step.
            lambda attempt: os.path.join(scratch, f"{attempt}.out"),
            self._skip_bad_records,
        )

        def take(parts: list[Part]) -> None:
            path = os.path.join(place, f"{len(os.listdir(place)):05}")
            os.rename(os.path.join(scratch, f"{parts[0].attempt}.out"), path)
            if kept is not None:
                self.parts.append(kept.part)
                with open(path, "rb") as file:
                    self.files.append(file.read())
            for name, pairs in self.outputs.items():
                pairs += by_name[name].part

        for index, split in enumerate(splits):
            mapped = attempts.map(index, split, lambda done: None)
            if not attempts.reducers:
                take(mapped)
        for partition in range(attempts.reducers):
            take(attempts.reduce(partition))
        self._counters.update(attempts.counters)
        self._bad += [
            BadRecord(**line | {"file": _shown(line["file"], self._directory)})
            for attempt, _ in attempts.bad
            for line in read_bad_records(attempts.bad_path(attempt))
        ]

    def _place(self, number: int) -> str:
        """Where the result of a step is."""
        return os.path.join(self._directory, f"step{number}")

    def _splits(self, each: list[JobFunctions], files: list[list[InputFile]]) -> list[InputSplit]:
        size = sum(file.size_bytes for some in files for file in some)
        split_bytes = max(1, -(-size // self._most_splits))
        splits: list[InputSplit] = []
        for number, (functions, some) in enumerate(zip(each, files, strict=True)):
            whole = isinstance(functions.reader, Reader) and functions.reader.whole_files
            cut = cut_nowhere if whole else CutWhereItMay()
            planned = plan_splits(some, split_bytes, cut)
            splits += [replace(split, source=number) for split in planned]
        return splits


# ---- the job


def _bound(job: Any, params: Mapping[str, Any], names: Mapping[str, str]) -> list[Stage]:
    """The job's steps; of one that has none, itself as the only one."""
    for role in names:
        if role not in ROLES:
            raise BadJob(f"a job has no {role}{nearest(role, ROLES)}")
    code, module = _code_of(job, dict(names))
    if module is None:
        beside = Beside(os.path.dirname(code.filename), {})
        beside.complete(code.source, code.filename)
        # A module that makes views may do so by its parameters, which are declared at its top.
        literal = literal_params(code)
        given = {name: value for name, value in params.items() if name in literal}
        begin_job(convert_params(literal, given))
        module = loading.import_source(code, beside)
    values = convert_params(declared_params(module, code), params)
    begin_job(values)
    loading.declare_values(module, code)
    stages = loading.stages(module, code, values)
    if stages is not None:
        return stages
    functions = bind(module, code, values)
    reducers = None if functions.reducer else 0
    return [Stage(1, (Source(Input(None, None, None)),), reducers, (functions,), ())]


def _found(side_files: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    paths = {name: os.path.abspath(os.fspath(path)) for name, path in side_files.items()}
    for name, path in paths.items():
        if not os.path.exists(path):
            raise BadJob(f"side_files: there is no {path}, which is to be {name}")
    return paths


def _code_of(job: Any, names: dict[str, str]) -> tuple[JobCode, ModuleType | None]:
    """What the job is, and its module if it is imported already."""
    if isinstance(job, ModuleType):
        return JobCode(getattr(job, "__file__", None) or job.__name__, b"", None, names), job
    if isinstance(job, type):
        known = sys.modules.get(job.__module__)
        filename = getattr(known, "__file__", None) or job.__module__
        # Its module need not have it: it may be defined in a function.
        module = ModuleType(job.__module__)
        module.__dict__.update(vars(known) if known else {}, **{job.__name__: job})
        return JobCode(filename, b"", job.__name__, names), module
    if not isinstance(job, str | os.PathLike):
        raise BadJob(f"{job!r:.200} is no job: it must be a module, a class or a path")
    path, _, class_name = os.fspath(job).partition(".py:")
    path = f"{path}.py" if class_name else path
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise BadJob(f"cannot read the job module {path}: {error.strerror}") from error
    return JobCode(os.path.abspath(path), source, class_name or None, names), None


# ---- the input

_Reader = Callable[[Iterable[tuple[int, bytes]]], Iterator[Any]]
#: Files with records, and the reader that gives them to the mapper if they are no lines.
_Written = tuple[list[str], _Reader | None]


def _by_name(records: Any) -> dict[str | None, Any]:
    return dict(records) if isinstance(records, Mapping) else {None: records}


def _check_named(records: dict[str | None, Any], inputs: dict[str | None, Input]) -> None:
    """What is given is an input, and what is an input is given, or has a default."""
    names = [name for name in inputs if name is not None]
    for name in records:
        if name is None and None not in inputs:
            raise BadJob(f"records: give a dict, by the names of the inputs: {', '.join(names)}")
        if name not in inputs:
            hint = nearest(str(name), names) or f"; it has {', '.join(map(str, inputs.values()))}"
            raise BadJob(f"records: the job has no input {name!r}{hint}")
    for name, source in inputs.items():
        if name not in records and source.pattern is None:
            raise BadJob(f"records: nothing is given for {source}: give a dict with {name!r} in it")


def _written(records: Any, directory: str, name: str | None) -> _Written:
    """Put the records of an input into a file, unless they are in files already."""
    if isinstance(records, os.PathLike):
        records = [records]
    if isinstance(records, str | bytes):
        raise BadJob("records: a list of lines is wanted, or a pathlib.Path; not a single string")
    records = list(records)
    if records and all(isinstance(record, os.PathLike) for record in records):
        return [os.path.abspath(os.fspath(record)) for record in records], None
    # It is named where an error is, or a bad record.
    path = os.path.join(directory, f"records[{name!r}]".replace("/", "_") if name else "records")
    reader = None
    lines = [_line(record) for record in records if isinstance(record, str | bytes)]
    if len(lines) < len(records):
        for record in records:
            if not isinstance(record, tuple) or len(record) != 2:
                raise BadJob(
                    f"records: {record!r:.200} is neither a line (str, bytes) nor a pair, or there "
                    f"are both"
                )
        # A line for each, so that splits cut between them as between lines.
        lines = [b"%d" % number for number in range(len(records))]

        def reader(numbered: Iterable[tuple[int, bytes]]) -> Iterator[Any]:
            return (records[int(number)] for _, number in numbered)

    with open(path, "wb") as file:
        file.writelines(line + b"\n" for line in lines)
    return [path], reader


def _line(record: str | bytes) -> bytes:
    line = record.encode("utf-8", "surrogateescape") if isinstance(record, str) else record
    if b"\n" in line:
        raise BadJob(f"records: {record!r:.200} has a line end within: give it as several lines")
    return line


def _with(functions: JobFunctions, **changed: Any) -> JobFunctions:
    """The functions with others for some roles, also when they are made anew."""
    renew = functions.renew
    if renew is None:
        return replace(functions, **changed)
    return replace(functions, **changed, renew=lambda: replace(renew(), **changed))


# ---- the output


class _Kept:
    """The job's writer, or the default one, which also keeps a part's pairs in ``part``."""

    def __init__(self, writer: Callable[..., Any] | None) -> None:
        self.part: list[Pair] = []
        self._writer = writer

    def __call__(self, pairs: Iterator[Pair]) -> Iterator[bytes]:
        self.part = []  # an attempt may begin anew, without its bad records
        return encoded(self._keeping(pairs), self._writer)

    def _keeping(self, pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
        while chunk := list(islice(pairs, _CHUNK_PAIRS)):
            self.part += chunk
            yield chunk


# ---- errors


def _as_raised(failed: AttemptFailed, directory: str) -> tuple[BaseException, TracebackType | None]:
    """The user's exception, and its traceback from their first frame on; else the failure."""
    cause = failed.__cause__
    for error in (failed,) if cause is None else (cause, failed):
        link = user_frames(error.__traceback__)
        if link is not None:
            break
    if failed.details.get("where"):
        error.add_note(f"at {_shown(failed.details['where'], directory)}")
    return error, link


def _shown(text: str, directory: str) -> str:
    return text.replace(directory + os.sep, "")
