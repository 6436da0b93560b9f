"""Attempts whose result was kept when the same was done before: ``--reuse``.

A cluster plans and starts attempts as ever. It is the attempt that computes a digest of all that
its result can depend on, looks whether a result is kept under it (see `storage.kept`), and if so
hands that over instead of running. So whatever else happens to an attempt happens to these as well,
and nobody else has to know of them.

A map depends on its code (see `job.codedigest`), the parameters and side files, on the bytes that
its reader looks at, and on how its output is cut and packed; a reduce on its code, parameters, side
files, and on the bytes of its segments.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xxhash import xxh3_128

from pytxmr.errors import AttemptFailed, BadJob
from pytxmr.job import context
from pytxmr.job.codedigest import CodeDigests
from pytxmr.job.installed import own_digest
from pytxmr.job.reach import Hidden, Reach
from pytxmr.model import (
    BAD_RECORDS,
    MAPS_REUSED,
    REDUCES_REUSED,
    FileRange,
    InputSplit,
    JobCode,
    JobFunctions,
    Segment,
)
from pytxmr.records.attempt import Outcome, Watch, unwatched
from pytxmr.records.compressed import MAGIC_BYTES, format_of
from pytxmr.records.formats import Reader
from pytxmr.records.named import beside
from pytxmr.records.pairfile import PairReader
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.readers import CHUNK_BYTES, line_blocks, open_stored
from pytxmr.records.remote import is_remote
from pytxmr.records.spill import PartitionRange, index_path
from pytxmr.storage.kept import KeptResults

#: Goes up when something else than pytxmr's code changes what a kept result means.
_FORM = "1"


class Reuse:
    """The kept results of one job, in a process that has just loaded it.

    ``side_files``: what tells them from others. ``packing``: how maps pack what they put out;
    ``compress``: see `JobSpec`.
    """

    def __init__(
        self,
        directory: str,
        functions: JobFunctions,
        code: JobCode,
        step: int | None,
        params: dict[str, Any],
        side_files: list[Any],
        packing: tuple[Any, ...],
        compress: str,
    ) -> None:
        """Raises `BadJob` if nobody can tell whether the job's code has changed."""
        self._kept = KeptResults(directory)
        self._functions = functions
        # What the code was given here, and what cannot be told from it where it is not taken apart.
        given: list[Any] = [_content_of_table(table.files) for table in functions.tables]
        if isinstance(functions.partitioner, RangePartitioner):
            given.append(functions.partitioner.sample)
        common = _digest_of((_FORM, own_digest(), params, side_files, given))
        digests = CodeDigests(code, step)
        sources = functions.sources or (functions,)
        # All of them now: once they have run, what they reach may be different.
        # Which source it is counts where the digest is of all of the code.
        self._maps = [
            ("map", number, digests.of_map(one, to_part=False), packing, common)
            for number, one in enumerate(sources)
        ]
        self._maps_to_part = [
            ("part", number, digests.of_map(one, to_part=True), compress, common)
            for number, one in enumerate(sources)
        ]
        self._reduce = ("reduce", digests.of_reduce(functions), compress, common)

    def map(
        self,
        run: Callable[[], Outcome],
        functions: JobFunctions,
        split: InputSplit,
        path: str,
        partitions: int,
        watch: Watch = unwatched,
    ) -> Outcome:
        """``run()``, which maps a split into a spill at ``path``, or into a part if there are no
        ``partitions``; or the outcome of one that has done the same before. Parts that are not
        local files are always made anew."""

        def key() -> str | None:
            if is_remote(path):
                return None
            content = _content_of(split, functions.reader, watch)
            of_code = (self._maps if partitions else self._maps_to_part)[split.source]
            return content and _digest_of((*of_code, partitions, content))

        paths = [path, index_path(path)] if partitions else _written(path, functions)
        return self._once(run, key, paths, MAPS_REUSED, share=partitions > 0)

    def reduce(
        self,
        run: Callable[[], Outcome],
        segments: list[Segment],
        path: str,
        watch: Watch = unwatched,
    ) -> Outcome:
        """The same of what reduces segments into a part at ``path``."""

        def key() -> str | None:
            if is_remote(path):
                return None
            content = _content_of_segments(segments, watch)
            return content and _digest_of((*self._reduce, content))

        paths = _written(path, self._functions)
        return self._once(run, key, paths, REDUCES_REUSED, share=False)

    def _once(
        self,
        run: Callable[[], Outcome],
        key_of: Callable[[], str | None],
        paths: list[str],
        counter: str,
        share: bool,
    ) -> Outcome:
        key = key_of()
        if key is not None:
            found = _restored(self._kept.find(key, paths, share))
            if found is not None:
                found.counters[counter] = 1
                return found
        outcome = run()
        is_all = not outcome.counters.get(BAD_RECORDS)
        # The input may have been altered since: then nobody knows what this is the result of.
        if key is not None and is_all and key_of() == key:
            try:
                self._kept.keep(key, paths, _written_down(outcome), share)
            except (OSError, TypeError, OverflowError) as error:
                print(f"pytxmr: the result is not kept: {error}", file=sys.stderr)
        outcome.counters[counter] = 0
        return outcome


def reuse_of(job: dict[str, Any], functions: JobFunctions, code: JobCode) -> Reuse | None:
    """For a job as a worker is told of it; None if nobody can tell whether its code has changed."""
    try:
        return Reuse(
            job["reuse"],
            functions,
            code,
            job.get("step"),
            job["params"],
            job["side_digests"],
            (job["codec"], job["memory_bytes"]),
            job["compress"],
        )
    except BadJob as error:
        # The client has asked as well; but here something else may be installed.
        print(f"pytxmr: {error.message}", file=sys.stderr)
        return None


def check_code(code: JobCode, functions: tuple[JobFunctions, ...]) -> None:
    """Raises `BadJob` for code of which nobody can tell whether it has changed."""
    digests = CodeDigests(code)
    for one in functions:
        digests.of_map(one, to_part=True)
        digests.of_reduce(one)


def _written_down(outcome: Outcome) -> dict[str, Any]:
    ranges = [[part.offset, part.length, part.keys, part.pairs] for part in outcome.ranges]
    named: Counter[str] = Counter()
    for name, count in context.counters().items():  # as `worker.done_message` tells them
        named[str(name)] += count
    return {
        "counters": outcome.counters,
        "user_counters": named,
        "ranges": ranges,
        "size_bytes": outcome.size_bytes,
        "digest": outcome.digest,
        "outputs": outcome.outputs,
    }


def _written(path: str, functions: JobFunctions) -> list[str]:
    """What an attempt writes that makes a part at ``path``."""
    return [path, *(beside(path, name) for name in functions.outputs)]


def _restored(answer: Any) -> Outcome | None:
    if answer is None:
        return None
    context.restore_counters(answer["user_counters"])
    return Outcome(
        counters=answer["counters"],
        ranges=[PartitionRange(*part) for part in answer["ranges"]],
        size_bytes=answer["size_bytes"],
        digest=answer["digest"],
        outputs=tuple(map(tuple, answer["outputs"])),
    )


def _digest_of(value: Any) -> str:
    """Of plain values, and others if they can be taken apart."""
    reach = Reach(())
    try:
        reach.add(value)
    except Hidden:
        # A parameter of a type that travels as it is has a text that says all of it.
        return hashlib.blake2b(repr(value).encode(), digest_size=24).hexdigest()
    return reach.digest


# ---- the bytes that an attempt reads


class _Content:
    """A digest of bytes, and of what is said of them."""

    def __init__(self, watch: Watch) -> None:
        self._hash = xxh3_128()
        self._bytes = 0
        watch(lambda: ("reads what it depends on", self._bytes))

    def say(self, *words: object) -> None:
        text = repr(words).encode("utf-8", "surrogatepass")
        self._hash.update(b"%d:" % len(text) + text)

    def take(self, data: bytes) -> None:
        self._hash.update(data)
        self._bytes += len(data)

    @property
    def digest(self) -> str:
        self.say("in all", self._bytes)
        return self._hash.hexdigest()


def _content_of(split: InputSplit, reader: Any, watch: Watch) -> str | None:
    """A digest of all in the input that shows in the records of a split, as ``reader`` makes them.
    None if it cannot be read: to say why is for the attempt.
    """
    content = _Content(watch)
    try:
        for part in split.ranges:
            _take_part(content, part, reader)
    except (OSError, AttemptFailed):
        return None
    return content.digest


def _content_of_table(files: Sequence[FileRange]) -> str:
    """A digest of all that a step looks up in. Raises `BadJob` if it cannot be read."""
    content = _content_of(InputSplit(tuple(files)), PairReader(), unwatched)
    if content is None:
        raise BadJob("what the step looks up in cannot be read")
    return content


def _take_part(content: _Content, part: FileRange, reader: Any) -> None:
    by_lines, beside = _how_read(reader, part)
    with open_stored(part) as file:
        kind = format_of(part.path, file.head(MAGIC_BYTES))
        content.say(part.start, part.end, kind, beside)
        if not by_lines or (part.start == 0 and part.end == file.size()):
            content.say("file")
            for data in _chunks(file):
                content.take(data)
            return
    # What begins in the range, and nothing but that: the rest of the file may change.
    content.say("lines")
    first = True
    for offset, data in line_blocks(part):
        if first:
            content.say(offset)
        first = False
        content.take(data)


def _how_read(reader: Any, part: FileRange) -> tuple[bool, Any]:
    """Does the reader look at nothing but the lines that begin in the range, and what else does it
    know of the file?"""
    if not isinstance(reader, Reader):
        return True, None
    from pytxmr.records.rawreaders import Whole
    from pytxmr.records.textreaders import Csv, Json, Lines, Pairs

    if type(reader) in (Json, Lines, Pairs):
        return True, None
    if type(reader) is Csv and not reader.multiline:
        return True, reader.names_of(part)
    return False, part.path if type(reader) is Whole else None


def _chunks(file: Any) -> Iterator[bytes]:
    while data := file.read(CHUNK_BYTES):
        yield data


def _content_of_segments(segments: list[Segment], watch: Watch) -> str | None:
    content = _Content(watch)
    try:
        for segment in segments:
            content.say(segment.length)
            with open(segment.path, "rb", buffering=0) as file:
                at, end = segment.offset, segment.offset + segment.length
                while at < end and (
                    data := os.pread(file.fileno(), min(CHUNK_BYTES, end - at), at)
                ):
                    content.take(data)
                    at += len(data)
    except OSError:
        return None
    return content.digest
