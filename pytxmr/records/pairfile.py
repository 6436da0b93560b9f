"""Files of pairs with their exact types, for the next job to read.

All integers are little-endian, checksums XXH3-64, or its low 32 bits::

    0    8   magic, b"PXPAIRS" and the version, 1
    8    ..  the blocks
         24  a block of no pairs, which is the end

Block (24 bytes of header, then the payload)::

    0    4   u32  bytes of the payload
    4    4   u32  bytes of the packed keys, with which the payload begins
    8    4   u32  pairs
    12   8   u64  checksum of the payload
    20   4   u32  checksum of the 20 bytes before
    24   ..  the keys, a packed column (see `codec`), then the values, another

A block belongs to the range of the file in which its header begins. The headers lead from one to
the next, so each is found by reading a few bytes a block. A mark to look for could stand in a
value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from xxhash import xxh3_64_intdigest

from pytxmr.errors import AttemptFailed, SpillDamaged
from pytxmr.model import FileRange
from pytxmr.records.codec import pack_column, pack_values, unpack_column
from pytxmr.records.formats import Block, Pair, Reader, Writer, open_counted, told
from pytxmr.records.rawreaders import read_fully
from pytxmr.records.readers import RangeFile, Reading, open_range

MAGIC = b"PXPAIRS\x01"
_HEADER = struct.Struct("<IIIQI")
_HEAD = struct.Struct("<IIIQ")
#: Pairs in a block at the most: they are all in memory when it is read.
_BLOCK_PAIRS = 4096


class PairWriter(Writer):
    """Pairs as they are, in a format of pytxmr's own: tuples stay tuples, bytes bytes. A job reads
    them by ``readers.msgpack``, a program by iterating over the `Result`."""

    name = "writers.msgpack"

    def head(self) -> bytes:
        return MAGIC

    def made_of(self, pairs: list[Pair]) -> bytes:
        return b"".join(
            _packed(pairs[at : at + _BLOCK_PAIRS], self._pack)
            for at in range(0, len(pairs), _BLOCK_PAIRS)
        )

    def _pack(self, values: list[Any]) -> bytes:
        return pack_column(values)

    def tail(self) -> bytes:
        return _framed(b"", 0, 0)


class StepWriter(PairWriter):
    """The same for a later step of the job, which opens what it has pickled itself."""

    def _pack(self, values: list[Any]) -> bytes:
        return pack_values(values)


def _packed(pairs: list[Pair], pack: Callable[[list[Any]], bytes]) -> bytes:
    keys = pack_column([key for key, _ in pairs])
    return _framed(keys + pack([value for _, value in pairs]), len(keys), len(pairs))


def _framed(payload: bytes, key_bytes: int, pairs: int) -> bytes:
    head = _HEAD.pack(len(payload), key_bytes, pairs, xxh3_64_intdigest(payload))
    return head + struct.pack("<I", xxh3_64_intdigest(head) & 0xFFFFFFFF) + payload


class PairReader(Reader):
    """The output of a job whose writer was ``writers.msgpack``: keys and values as they were
    yielded."""

    name = "readers.msgpack"

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        with open_counted(part) as file:
            if file is not None:
                yield from told(self._blocks(part, file), file, part, reading)

    def _blocks(self, part: FileRange, file: RangeFile) -> Iterator[Block]:
        if read_fully(file, len(MAGIC)) != MAGIC:
            raise self._damaged(part, 0, "it does not begin as what writers.msgpack writes")
        at = len(MAGIC)
        done = file.start
        while at < file.end:
            header = read_fully(file, _HEADER.size)
            if len(header) < _HEADER.size:
                raise self._damaged(part, at, "the file is cut short")
            size, key_bytes, pairs, checksum, own = _HEADER.unpack(header)
            if xxh3_64_intdigest(header[: _HEAD.size]) & 0xFFFFFFFF != own:
                raise self._damaged(part, at, "a block's header does not match its checksum")
            if not pairs:
                return
            begin, at = at, at + _HEADER.size + size
            if begin < file.start or not self._wants(begin, at):
                file.seek(at)
                continue
            payload = read_fully(file, size)
            if len(payload) < size:
                raise self._damaged(part, begin, "the file is cut short")
            if xxh3_64_intdigest(payload) != checksum:
                raise self._damaged(part, begin, "a block does not match its checksum")
            try:
                keys = unpack_column(payload[:key_bytes])
                values = unpack_column(payload[key_bytes:])
                raw = list(zip(keys, values, strict=True))
            except (SpillDamaged, ValueError) as error:
                raise self._damaged(part, begin, str(error)) from error
            yield Block([begin] * pairs, raw, at - done, _apart)
            done = at
        if at == file.end and not file.read(1):
            raise self._damaged(part, at, "the file is cut short")

    def _wants(self, begin: int, end: int) -> bool:
        """Whether to decode the block from one place of the file to another."""
        return True

    def _damaged(self, part: FileRange, offset: int, reason: str) -> AttemptFailed:
        return AttemptFailed(
            f"{self.name} cannot read {part.shown}: {reason}",
            where=f"{part.shown}, offset {offset}",
            traceback="",
            final=True,
        )


@dataclass(frozen=True)
class SamplingReader(PairReader):
    """Some pairs, evenly spread over files of which ``before`` is the size of those before this:
    of each block that a multiple of ``every`` bytes falls into, ``most``."""

    before: int
    every: int
    most: int

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        from random import Random

        for block in super().blocks(part, reading):
            # Not every so many: what comes in turns would be of one kind.
            drawn = Random(block.places[0]).sample(block.raw, min(self.most, len(block.raw)))
            yield replace(block, places=block.places[: len(drawn)], raw=drawn)

    def _wants(self, begin: int, end: int) -> bool:
        return (self.before + begin - 1) // self.every < (self.before + end - 1) // self.every


def pairs_in(part: FileRange) -> Iterator[Pair] | None:
    """The pairs of a whole file that `PairWriter` has written; None if that is not what it is.

    The iterator raises `AttemptFailed` where the file is damaged.
    """
    with open_range(part) as file:
        if read_fully(file, len(MAGIC)) != MAGIC:
            return None
    return chain.from_iterable(block.raw for block in PairReader().blocks(part, Reading()))


def _apart(places: Sequence[int], raw: list[Any]) -> tuple[Sequence[Any], list[Any]]:
    keys, values = zip(*raw, strict=True)
    return keys, list(values)
