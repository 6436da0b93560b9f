"""The values that everything speaks of: ids, jobs, splits, map outputs, results of attempts.

All are frozen. Those that travel have ``to_plain``/``from_plain``: dicts and lists of plain values
for Perspective Broker and for workers' pipes. ``from_plain`` checks types, since what it reads
came from a peer, and raises `PeerBroke`.

Ids have one written form each, in ASCII, which is also safe as a file name::

    job        Job001                 counted from 1
    map task   Map001                 counted from 1
    reduce     Reduce000              numbered as its partition and part-00000
    attempt    Map001.0, Map001.1     counted from 0; in full Job001@Map001.0
    spill      Job001@Map001@0        partition 0 of what map 1 of job 1 put out
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from typing import Any, Self

from pytxmr.errors import NotFound, PeerBroke

MAP = "map"
REDUCE = "reduce"
#: The counter of records that maps have set aside.
BAD_RECORDS = "bad records"
#: The counter of maps that ran again and put out something else than before.
CHANGED_MAPS = "maps that put out something else when they ran again"
#: The counters of tasks whose result was kept from before, see `reuse`.
MAPS_REUSED = "maps reused"
REDUCES_REUSED = "reduces reused"

_JOB = re.compile(r"Job([0-9]{3,9})", re.ASCII)
#: Not the question mark of a glob.
_QUERY = re.compile(r"\?[^\s'\"?]*=[^\s'\"]*")
_TASK = re.compile(r"(Map|Reduce)([0-9]{3,9})", re.ASCII)


def job_id(number: int) -> str:
    return f"Job{number:03d}"


def checked_job_id(text: object) -> str:
    """``text`` if it is the written form of a job's id; raises `NotFound` otherwise."""
    match = _JOB.fullmatch(text) if isinstance(text, str) else None
    if match is not None and job_id(int(match[1])) == text != "Job000":
        return match[0]
    raise NotFound(f"{text!r:.80} is not a job's id; they look like Job001")


def shown_path(text: str) -> str:
    """A path, or a text with some, without what follows the question mark of a URL: that may be a
    signature, by which whoever sees it may read the file."""
    return _QUERY.sub("?...", text) if "://" in text else text


def step_label(status: dict[str, Any]) -> str:
    """``step 2 of 3: `` for the status of a job that is a step of another, else nothing."""
    step = status.get("step")
    return f"step {step[0]} of {step[1]}: " if step else ""


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """A piece of a job's work. ``index`` counts from 0 for both kinds."""

    kind: str
    index: int

    def __str__(self) -> str:
        if self.kind == MAP:
            return f"Map{self.index + 1:03d}"
        return f"Reduce{self.index:03d}"

    @classmethod
    def parse(cls, text: object) -> TaskId:
        """Read the written form; raises `NotFound` for anything else."""
        match = _TASK.fullmatch(text) if isinstance(text, str) else None
        if match is not None:
            number = int(match[2])
            task = cls(REDUCE, number) if match[1] == "Reduce" else cls(MAP, number - 1)
            if str(task) == text and task.index >= 0:
                return task
        raise NotFound(f"{text!r:.80} is not a task; they look like Map001 or Reduce000")


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """One try of a task."""

    task: TaskId
    number: int

    def __str__(self) -> str:
        return f"{self.task}.{self.number}"

    @classmethod
    def parse(cls, text: object) -> AttemptId:
        """Read the written form; raises `NotFound` for anything else."""
        if isinstance(text, str):
            task, dot, number = text.rpartition(".")
            if dot and re.fullmatch(r"0|[1-9][0-9]{0,8}", number, re.ASCII):
                return cls(TaskId.parse(task), int(number))
        raise NotFound(f"{text!r:.80} is not an attempt; they look like Map001.0")


@dataclass(frozen=True, slots=True)
class JobCode:
    """A job module as it is shipped: its source, the path the user typed, the names in it, and its
    own modules: by the path that they are imported by, the client's path and the source of each.
    """

    filename: str
    source: bytes = field(repr=False)
    class_name: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    modules: dict[str, tuple[str, bytes]] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """Of the source, if it has no modules; else of all that is shipped."""
        digest = hashlib.sha256(self.source)
        for path, (_, source) in sorted(self.modules.items()):
            name = path.encode("utf-8", "surrogateescape")
            digest.update(b"\0%b\0%b" % (name, hashlib.sha256(source).digest()))
        return digest.hexdigest()

    def to_plain(self) -> dict[str, Any]:
        return asdict(self) | {"digest": self.digest}

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """Raises `PeerBroke` if a field is missing or the source does not match its digest."""
        code = cls(
            filename=take(plain, "filename", str),
            source=take(plain, "source", bytes),
            class_name=take(plain, "class_name", (str, type(None))),
            names=take(plain, "names", dict),
            modules=_modules(take(plain, "modules", dict)),
        )
        if code.digest != take(plain, "digest", str):
            raise PeerBroke(f"the source of {code.filename} does not match its digest")
        return code


@dataclass(frozen=True, slots=True)
class SideFile:
    """A file that travels with a job; an archive is unpacked where it arrives.

    ``name`` is what the job calls it. Raises `ValueError` for one that is no name of a file.
    """

    name: str
    content: bytes = field(repr=False)
    is_archive: bool = False

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or len(self.name) > 200 or re.search(r"[/\0]", self.name):
            raise ValueError(f"{self.name!r:.80} is not a name for a file")

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def to_plain(self) -> list[Any]:
        return [self.name, self.content, self.is_archive, self.digest]

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """Raises `PeerBroke`, also if the content does not match its digest."""
        match plain:
            case [str(name), bytes(content), bool(is_archive), str(digest)]:
                try:
                    file = cls(name, content, is_archive)
                except ValueError as error:
                    raise PeerBroke(str(error)) from error
                if file.digest != digest:
                    raise PeerBroke(f"the side file {name!r} does not match its digest")
                return file
        raise PeerBroke("a side file is not a name, bytes, whether it is an archive and a digest")


def side_digests(files: tuple[SideFile, ...]) -> list[Any]:
    """What tells files that travel with a job from others."""
    return [[file.name, file.is_archive, file.digest] for file in files]


def _modules(plain: dict[Any, Any]) -> dict[str, tuple[str, bytes]]:
    modules = {}
    for path, module in plain.items():
        match path, module:
            case (str(), [str(filename), bytes(source)]):
                modules[path] = (filename, source)
            case _:
                raise PeerBroke("a module of the job is not a path, a file's name and bytes")
    return modules


@dataclass(frozen=True, slots=True)
class JobFunctions:
    """What a job does, bound and ready to call. None means that the default is used; without a
    reducer, what maps put out is the job's output.

    ``renew`` makes the same functions over a new instance; None if one instance does for all.
    """

    mapper: Callable[..., Any]
    reducer: Callable[..., Any] | None
    combiner: Callable[..., Any] | None
    partitioner: Callable[[Any, int], int]
    reader: Callable[..., Any] | None
    writer: Callable[..., Any] | None
    map_init: Callable[[], Any] | None = None
    map_final: Callable[[], Any] | None = None
    reduce_init: Callable[[], Any] | None = None
    reduce_final: Callable[[], Any] | None = None
    renew: Callable[[], JobFunctions] | None = None
    #: Keys are ``(key, part)``: the reducer gets a key's values in the order of the parts.
    by_part: bool = False
    #: Of a step that reads several sources: the functions of each.
    sources: tuple[JobFunctions, ...] = ()
    #: What they look up in, a `records.lookup.Table` for each of the job's ``sides``.
    tables: tuple[Any, ...] = ()
    #: The outputs by name that the job declares, and the writer of each.
    outputs: dict[str, Callable[..., Any] | None] = field(default_factory=dict)

    def of(self, split: InputSplit) -> JobFunctions:
        """The functions for a split of the input."""
        return self.sources[split.source] if self.sources else self

    def fresh(self) -> JobFunctions:
        """The functions as an attempt begins with them: what another has kept is not there."""
        return self if self.renew is None else self.renew()


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a client submits. Paths are absolute, or URLs; sizes are bytes."""

    name: str
    code: JobCode
    inputs: tuple[str, ...]
    output: str
    params: dict[str, Any] = field(default_factory=dict)
    #: None: as many as the cluster has workers; 0: what maps put out is the job's output.
    reducers: int | None = None
    #: None: evened out over the workers (see `storage.inputs.even_split_bytes`).
    split_bytes: int | None = None
    keep: bool = False
    max_attempts: int = 4
    #: Whether slow attempts get a backup.
    speculate: bool = True
    #: Memory of a worker process; None: what its tracker gives.
    memory_bytes: int | None = None
    #: Seconds that an attempt may go on without getting on; 0: for ever.
    task_timeout: int = 600
    #: How spills are compressed (see `records.compression`).
    codec: str = "none"
    #: How many records at which the mapper raises may be set aside.
    skip_bad_records: int = 0
    #: Whether the reader can only read files from their beginning to their end.
    whole_files: bool = False
    #: Sorted keys of a sample of the input, packed, for a `RangePartitioner`; empty if workers are
    #: to take it (see `sampling`).
    key_sample: bytes | None = None
    #: What travels with it for its functions to read.
    files: tuple[SideFile, ...] = ()
    #: How the output is compressed (see `records.compressed`).
    compress: str = "none"
    #: Of a job with steps: which of them this is, from 1 on (see `job.steps`), and how many it has.
    step: int | None = None
    steps: int = 1
    #: Outputs that earlier runs of the step, or of what is made of it, have left: they go first.
    replaces: tuple[str, ...] = ()
    #: Outputs of the steps before the last, if they go when the last has ended, or one has failed.
    leaves: tuple[str, ...] = ()
    #: For each of ``inputs``, which of the step's sources it belongs to; empty: all to the first.
    sources: tuple[int, ...] = ()
    #: Whether a combiner makes little of what the maps put out.
    combines: bool = False
    #: Where results of attempts are kept, and looked for; None: nowhere.
    reuse: str | None = None
    #: Directories of which its functions read everything: what earlier steps have stored.
    sides: tuple[str, ...] = ()

    @property
    def sourced_inputs(self) -> list[tuple[str, int]]:
        """The inputs, each with the number of the source that it belongs to."""
        return list(zip(self.inputs, self.sources or repeat(0), strict=False))

    def without_cargo(self) -> Self:
        """The same for one who only tells of the job."""
        return replace(self, code=replace(self.code, modules={}), files=())

    def to_plain(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        files = [file.to_plain() for file in self.files]
        return plain | {
            "code": self.code.to_plain(),
            "inputs": list(self.inputs),
            "files": files,
            "sources": list(self.sources),
            "replaces": list(self.replaces),
            "sides": list(self.sides),
            "leaves": list(self.leaves),
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        spec = cls(
            name=take(plain, "name", str),
            code=JobCode.from_plain(take(plain, "code", dict)),
            inputs=tuple(take(plain, "inputs", list)),
            output=take(plain, "output", str),
            params=take(plain, "params", dict),
            reducers=take(plain, "reducers", (int, type(None))),
            split_bytes=take(plain, "split_bytes", (int, type(None))),
            keep=take(plain, "keep", bool),
            max_attempts=take(plain, "max_attempts", int),
            speculate=take(plain, "speculate", bool),
            memory_bytes=take(plain, "memory_bytes", (int, type(None))),
            task_timeout=take(plain, "task_timeout", int),
            codec=take(plain, "codec", str),
            skip_bad_records=take(plain, "skip_bad_records", int),
            whole_files=take(plain, "whole_files", bool),
            key_sample=take(plain, "key_sample", (bytes, type(None))),
            files=tuple(map(SideFile.from_plain, take(plain, "files", list))),
            compress=take(plain, "compress", str),
            step=take(plain, "step", (int, type(None))),
            steps=take(plain, "steps", int),
            replaces=tuple(take(plain, "replaces", list)),
            leaves=tuple(take(plain, "leaves", list)),
            sources=tuple(take(plain, "sources", list)),
            combines=take(plain, "combines", bool),
            reuse=take(plain, "reuse", (str, type(None))),
            sides=tuple(take(plain, "sides", list)),
        )
        if (
            not all(isinstance(path, str) for path in (*spec.inputs, *spec.replaces, *spec.leaves))
            or not (spec.output.startswith("/") or "://" in spec.output)
            or (spec.reducers is not None and not 0 <= spec.reducers <= 100_000)
            or (spec.split_bytes is not None and spec.split_bytes < 1)
            or (spec.memory_bytes is not None and spec.memory_bytes < 1)
            or not 0 <= spec.task_timeout <= 10_000_000
            or spec.codec not in ("none", "lz4", "zstd")
            or spec.compress not in ("none", "gzip", "bzip2", "xz", "lz4", "zstd")
            or not 1 <= spec.max_attempts <= 100
            or not 0 <= spec.skip_bad_records <= 1_000_000
            or (spec.step is not None and not 1 <= spec.step <= spec.steps)
            or (spec.sources and len(spec.sources) != len(spec.inputs))
            or not all(type(source) is int and source >= 0 for source in spec.sources)
            or (spec.reuse is not None and not spec.reuse.startswith("/"))
            or not all(isinstance(side, str) for side in spec.sides)
        ):
            raise PeerBroke("a field of the job is out of its range")
        return spec


@dataclass(frozen=True, slots=True)
class FileRange:
    """The lines of a file that begin at a byte in [start, end)."""

    path: str
    start: int
    end: int

    @property
    def shown(self) -> str:
        """The path as people, logs and outputs may see it."""
        return shown_path(self.path)


@dataclass(frozen=True, slots=True)
class InputSplit:
    """The input of one map task: a range of one large file, or several small files.

    ``source``: which of the sources of the job's step it is of.
    """

    ranges: tuple[FileRange, ...]
    source: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(part.end - part.start for part in self.ranges)

    def __str__(self) -> str:
        first = self.ranges[0]
        more = f" and {len(self.ranges) - 1} more files" if len(self.ranges) > 1 else ""
        return f"{first.shown}, bytes {first.start} to {first.end}{more}"

    def to_plain(self) -> list[Any]:
        ranges = [[part.path, part.start, part.end] for part in self.ranges]
        return [self.source, *ranges] if self.source else ranges

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        try:
            source = plain[0] if plain and type(plain[0]) is int else 0
            ranges = plain[1:] if source else plain
            return cls(tuple(FileRange(str(p), int(s), int(e)) for p, s, e in ranges), source)
        except (TypeError, ValueError) as error:
            raise PeerBroke("a split is not a list of [path, start, end]") from error


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of whole spill blocks in a local file: one map's output for one partition."""

    path: str
    offset: int
    length: int

    def to_plain(self) -> list[Any]:
        return [self.path, self.offset, self.length]


@dataclass(frozen=True, slots=True)
class MapOutput:
    """Where the output of a finished map attempt is served. ``address``: ``(host, port)``."""

    attempt: AttemptId
    tracker: str
    address: tuple[str, int]
    partition_bytes: tuple[int, ...]

    def to_plain(self) -> dict[str, Any]:
        return {
            "attempt": str(self.attempt),
            "tracker": self.tracker,
            "host": self.address[0],
            "port": self.address[1],
        }


def take(plain: Any, name: str, kind: Any) -> Any:
    """``plain[name]`` if it is of that type; raises `PeerBroke` otherwise."""
    value = plain.get(name) if isinstance(plain, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise PeerBroke(f"{name} is missing or of the wrong type ({type(value).__name__})")
    return value
