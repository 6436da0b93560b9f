"""The jobs that a simulation runs, and what they come to when they are run serially."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.job import context, loading
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import MAP, REDUCE, JobCode, JobFunctions, JobSpec, Segment, TaskId
from pytxmr.records.compression import missing
from pytxmr.records.mapping import run_map
from pytxmr.records.quarantine import Quarantine, UserCode
from pytxmr.records.reducing import run_reduce
from pytxmr.storage.inputs import list_inputs, plan_splits
from pytxmr.worker import done_message

SOURCES = {
    "count": """
import pytxmr

def mapper(offset, line):
    words = line.split()
    pytxmr.counter("words", len(words))
    for word in words:
        yield word, 1

def reducer(word, counts):
    yield word, sum(counts)

combiner = reducer
""",
    "index": """
def mapper(offset, line):
    for word in line.split():
        yield word, (offset, len(line))

def reducer(word, places):
    yield word, sorted(places)
""",
    "sort": """
import pytxmr

def mapper(offset, line):
    if len(line) % 3 == 0:
        pytxmr.counter("lines of thirds")
    yield line, offset

def reducer(line, offsets):
    pytxmr.counter("groups")
    for offset in sorted(offsets):
        yield line, offset
""",
    "bulk": """
def mapper(offset, line):
    yield len(line) % 7, line * 8

def reducer(length, lines):
    yield length, sorted(lines)
""",
}
#: A mapper that raises at some lines, after it has counted, and yielded a part of what it would.
FAULTY = """
import pytxmr

def mapper(offset, line):
    pytxmr.counter("lines")
    for word in line.split():
        yield word, offset
        if word.endswith("7"):
            raise ValueError(f"{word} cannot be used")

def reducer(word, offsets):
    yield word, sorted(offsets)
"""
#: A mapper that puts out something else each time that it runs: what it draws as it begins.
UNSETTLED = """
import random
import pytxmr
from pytxmr.job import context

drawn = 0

def mapper(offset, line):
    global drawn
    if not context.counters():
        drawn = 1 << 40 | random.getrandbits(40)
    pytxmr.counter("lines")
    for word in line.split():
        yield word, (offset, drawn)

def reducer(word, places):
    for offset, drawn in sorted(places):
        yield f"{word} {offset}", drawn
"""
#: Its lines are bytes of any kind, which come out as they went in.
RAW = """
def mapper(offset, line):
    yield line, offset

def reducer(line, offsets):
    for offset in sorted(offsets):
        yield line, offset
"""
#: A mapper that yields, at some lines, what cannot be carried.
UNCARRYABLE = """
import pytxmr

def mapper(offset, line):
    pytxmr.counter("lines")
    for word in line.split():
        yield word, range(9) if word.endswith("7") else offset

def reducer(word, offsets):
    yield word, sorted(offsets)
"""
#: A reducer that yields, at some keys, what is no pair.
UNPAIRED = """
def mapper(offset, line):
    for word in line.split():
        yield word, offset

def reducer(word, offsets):
    yield word if word.endswith("7") else (word, sorted(offsets))
"""
#: A mapper of which workers die at some lines, ...
DEADLY = """
from pytxmr.simulation.deaths import die

def mapper(offset, line):
    if line.endswith("17"):
        die()
    for word in line.split():
        yield word, offset

def reducer(word, offsets):
    yield word, sorted(offsets)
"""
#: ... or at the end, if these lines were among those that it was given.
DEADLY_LATER = """
from pytxmr.simulation.deaths import die, mortal

given = []

def map_init():
    given.clear()

def mapper(offset, line):
    if line.endswith("17"):
        mortal() or die()
        given.append(offset)
    for word in line.split():
        yield word, offset

def map_final():
    if given:
        die()

def reducer(word, offsets):
    yield word, sorted(offsets)
"""
SOURCES |= {
    "deadly": DEADLY,
    "deadly later": DEADLY_LATER,
    "faulty": FAULTY,
    "unsettled": UNSETTLED,
    "raw": RAW,
    "uncarryable": UNCARRYABLE,
    "unpaired": UNPAIRED,
}
#: Of `SOURCES`, those whose maps may set records aside.
SKIPPING = ("faulty", "uncarryable", "deadly", "deadly later")
#: Different inputs of each kind and size that there are: few, so that the truth is known by then.
VARIANTS = 5
#: The sources whose jobs end in one way only.
PLAIN = ("bulk", "count", "index", "sort")
ATTEMPTS = 4
TASK_TIMEOUT_SECONDS = 12


@dataclass(frozen=True)
class JobKind:
    """A job to run: a source, how many splits its input has (0: it is empty), the reducers.

    ``short``: by how many the bad records that may be skipped are too few; those of a mapper that
    raises at none are none. ``strict``: none may be skipped.
    """

    source: str
    variant: int
    maps: int
    reducers: int
    codec: str = "none"
    short: int = 0
    keep: bool = False
    strict: bool = False

    @classmethod
    def drawn(cls, rng: Random, more: Random) -> JobKind:
        """``more`` draws what became possible later, so that most seeds stay what they were."""
        kind = cls(
            rng.choice(PLAIN),
            rng.randrange(VARIANTS),
            rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8)),
            rng.choice((1, 1, 2, 2, 3, 4, 5)),
        )
        if more.random() < 0.15:
            kind = replace(kind, source="faulty", short=more.choice((0, 0, 0, 1)))
        elif more.random() < 0.2:
            kind = replace(kind, source="unsettled")
        codec = more.choice(("none", "none", "none", "lz4", "zstd"))
        # What an unsettled map has drawn would show in how far it shrinks, and so in the counters.
        if kind.settled and missing(codec) is None:
            kind = replace(kind, codec=codec)
        return replace(kind, keep=more.random() < 0.2)

    def or_strange(self, strange: Random) -> JobKind:
        """The job, or, of few, one whose input or whose output is not what one would expect."""
        if strange.random() < 0.85:
            return self
        source = strange.choice(("raw", "raw", "uncarryable", "uncarryable", "unpaired"))
        short, strict = strange.choice(((0, False), (0, True), (1, False)))
        if source != "uncarryable":
            short, strict = 0, False
        return replace(self, source=source, short=short, strict=strict)

    def or_deadly(self, rare: Random) -> JobKind:
        """The job or, of very few, one of which workers die."""
        if rare.random() * 48 >= 1:
            return self
        source = rare.choice(("deadly", "deadly later"))
        return replace(self, source=source, short=0, strict=False)

    def spoils(self, line: str) -> bool:
        """Is the line a bad record, if the job has any?"""
        if self.source.startswith("deadly"):
            return line.endswith("17")
        return any(word.endswith("7") for word in line.split())

    @property
    def skips(self) -> bool:
        """May its maps set records aside?"""
        return self.source in SKIPPING and not self.strict

    @property
    def settled(self) -> bool:
        """Does a map put out the same each time that it runs?"""
        return self.source != "unsettled"


@dataclass(frozen=True)
class Truth:
    """What comes of a job that nothing disturbs: its parts, its counters, of each map and partition
    the bytes, and of each task that sets records aside where they are, and what they are; or how
    it fails: of each task that does, the message, and where.
    """

    kind: JobKind
    parts: tuple[bytes, ...]
    counters: dict[str, int] = field(compare=False)
    segments: dict[tuple[int, int], bytes] = field(compare=False, repr=False)
    bad: dict[str, list[tuple[str, int, str]]] = field(compare=False, repr=False)
    failures: dict[str, tuple[str, str]] = field(compare=False, repr=False)


def write_input(kind: JobKind, directory: str) -> tuple[str, int]:
    """The path of the job's input, which is written if it is not there, and the split size."""
    rng = Random(f"input {kind.variant} {kind.maps}")
    lines = rng.randrange(20, 60) * kind.maps
    name = f"input-{kind.variant}-{kind.maps}"
    if kind.source == "raw":
        name = f"{name}-raw"
        data = b"".join(_raw_line(rng) + b"\n" for _ in range(lines))
    else:
        words = [f"{rng.choice('abcdefgh')}{rng.randrange(30):02d}" for _ in range(40)]
        data = "".join(
            " ".join(rng.choices(words, k=rng.randrange(1, 6))) + "\n" for _ in range(lines)
        ).encode()
    path = os.path.join(directory, f"{name}.txt")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(data)
    return path, max(1, -(-len(data) // max(1, kind.maps)))


def _raw_line(rng: Random) -> bytes:
    """Any bytes, many of which are not UTF-8; the end is none that could be taken for a line's."""
    return rng.randbytes(rng.randrange(24)).replace(b"\n", b"\xff") + rng.choice(
        (b"\xc3", b"\xed.", b"z")
    )


def raw_output(path: str) -> list[bytes]:
    """The lines that a raw job has to put out, sorted: found without any code of the product."""
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    starts = accumulate((len(line) + 1 for line in lines), initial=0)
    return sorted(b"%s\t%d" % (line, at) for line, at in zip(lines, starts, strict=False))


def spec_of(kind: JobKind, inputs: str, output: str) -> JobSpec:
    path, split_bytes = write_input(kind, inputs)
    bad = 0
    if kind.skips:
        with open(path, encoding="utf-8") as file:
            bad = sum(kind.spoils(line.rstrip("\n")) for line in file)
    return JobSpec(
        name=kind.source,
        code=JobCode(f"/{kind.source}.py", SOURCES[kind.source].encode()),
        inputs=(path,),
        output=output,
        reducers=kind.reducers,
        split_bytes=split_bytes,
        keep=kind.keep,
        max_attempts=ATTEMPTS,
        task_timeout=TASK_TIMEOUT_SECONDS,
        codec=kind.codec,
        skip_bad_records=max(0, bad - kind.short),
    )


def read_bad(path: str) -> list[tuple[str, int, str]]:
    """Of the records that were set aside there: file, offset, content."""
    with open(path, encoding="ascii") as file:
        lines = [json.loads(line) for line in file]
    return [(line["file"], line["offset"], line["record"]) for line in lines]


@cache
def functions_of(source: bytes, filename: str) -> JobFunctions:
    """The job's functions; imported once, since they have no state."""
    return loading.load(JobCode(filename, source), {})


@cache
def truth_of(kind: JobKind, directory: str) -> Truth:
    """Run the job serially, in ``directory``."""
    spec = spec_of(kind, directory, "")
    functions = functions_of(spec.code.source, spec.code.filename)
    counters: Counter[str] = Counter()
    segments: dict[tuple[int, int], bytes] = {}
    failures: dict[str, tuple[str, str]] = {}
    code = UserCode(user_traceback, context.counters, context.restore_counters)
    bad: dict[str, list[tuple[str, int, str]]] = {}

    def done(outcome: Any) -> Any:
        message = done_message(outcome)
        counters.update(message["counters"])
        counters.update({f"job: {name}": n for name, n in message["user_counters"].items()})
        return outcome

    splits = plan_splits(list_inputs(spec.inputs), spec.split_bytes or 1)
    paths = [os.path.join(directory, f"truth-{index}") for index in range(len(splits))]
    ranges = []
    for index, (split, path) in enumerate(zip(splits, paths, strict=True)):
        context.begin_attempt()
        task, aside = str(TaskId(MAP, index)), f"{path}-bad"
        # Careful from the start: how a cluster comes to be so is what is tried there.
        quarantine = Quarantine(1 << 20, aside, f"{path}-note", task, code, careful=True)
        try:
            outcome = done(
                run_map(
                    functions,
                    split,
                    path,
                    kind.reducers,
                    1 << 24,
                    lambda _: None,
                    spec.codec,
                    quarantine if kind.skips else None,
                )
            )
        except AttemptFailed as error:
            failures[task] = (error.message, error.details["where"])
            continue
        if quarantine.count:
            bad[task] = read_bad(aside)
            os.unlink(aside)
        ranges.append(outcome.ranges)
        with open(path, "rb") as file:
            data = file.read()
        for partition, part in enumerate(outcome.ranges):
            segments[index, partition] = data[part.offset : part.offset + part.length]
    parts = []
    for partition in range(kind.reducers if not failures else 0):
        context.begin_attempt()
        wanted = [
            Segment(path, its[partition].offset, its[partition].length)
            for path, its in zip(paths, ranges, strict=True)
            if its[partition].length
        ]
        out = os.path.join(directory, "truth-part")
        try:
            done(run_reduce(functions, wanted, out, f"{out}-scratch", lambda _: None))
        except AttemptFailed as error:
            failures[str(TaskId(REDUCE, partition))] = (error.message, error.details["where"])
            continue
        with open(out, "rb") as file:
            parts.append(file.read())
    for name in os.listdir(directory):
        if name.startswith("truth-"):
            os.unlink(os.path.join(directory, name))
    return Truth(kind, tuple(parts), dict(counters), segments, bad, failures)
