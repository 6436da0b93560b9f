"""Spill files: a map's sorted output on disk, cut into blocks that travel as they lie.

One map attempt writes one spill file and one index file. All integers are little-endian.

Spill file::

    0    8   magic, b"PXSPILL" and the version, 1
    8    ..  the blocks of partition 0, then of partition 1, ...
    ..   8   b"PXSPEND" and the version
         8   u64  where this footer begins
         4   u32  CRC-32 of the 16 bytes before

Block (24 bytes of header, then the payload)::

    0    4   u32  bytes of payload
    4    1   u8   codec of the payload; 0: stored as it is
    5    3        zero
    8    4   u32  keys
    12   4   u32  pairs
    16   4   u32  CRC-32 of the payload
    20   4   u32  CRC-32 of the 20 bytes before

Payload::

    0    4   u32  bytes of the packed keys
    4    4   u32  bytes of the counts
    8    ..  the keys, distinct and in natural order, a packed column (see `codec`)
         ..  how many values each key has, u32 each; left out if every key has one
         ..  the values, key by key, a packed column

Index file::

    0    8   magic, b"PXINDEX" and the version
    8    4   u32  partitions
    12   ..  for each partition: u64 offset, u64 bytes, u64 keys, u64 pairs
    ..   4   u32  CRC-32 of all before

A key whose values do not fit one block goes on in the next, which begins with the same key; so
a reader never needs more than a block in memory. The footer shows truncation; the checksums (zlib's
CRC-32, above 1 GB/s) show any altered byte.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from zlib import crc32

from pytxmr.errors import SpillDamaged
from pytxmr.records.codec import one_nan, pack_column, unpack_column
from pytxmr.records.order import Kind, order_of

SPILL_MAGIC = b"PXSPILL\x01"
FOOTER_MAGIC = b"PXSPEND\x01"
INDEX_MAGIC = b"PXINDEX\x01"
BLOCK_HEADER = struct.Struct("<IB3xIIII")
_PAYLOAD_HEAD = struct.Struct("<II")
_FOOTER = struct.Struct("<8sQI")
_RANGE = struct.Struct("<QQQQ")
_STORED = 0

#: Payload that a block aims at. Larger ones cost memory in a merge, smaller ones calls.
BLOCK_BYTES = 128 * 1024
_MOST_PAIRS = 32768


@dataclass(slots=True)
class Block:
    """A decoded block. ``counts`` is None if every key has one value."""

    keys: list[Any]
    counts: list[int] | None
    values: list[Any]
    kind: Kind


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """Where a partition lies in a spill file, and how much is in it."""

    offset: int
    length: int
    keys: int
    pairs: int


def pack_block(keys: list[Any], counts: list[int] | None, values: list[Any]) -> bytes:
    """A whole block, header included. Raises `Uncarryable` for what cannot be packed."""
    key_bytes = pack_column(keys)
    count_bytes = b"" if counts is None else array("I", counts).tobytes()
    payload = b"".join(
        (
            _PAYLOAD_HEAD.pack(len(key_bytes), len(count_bytes)),
            key_bytes,
            count_bytes,
            pack_column(values),
        )
    )
    head = struct.pack("<IB3xIII", len(payload), _STORED, len(keys), len(values), crc32(payload))
    return b"".join((head, struct.pack("<I", crc32(head)), payload))


def check_header(header: bytes | memoryview) -> tuple[int, int, int, int]:
    """(payload bytes, keys, pairs, CRC of the payload); raises `SpillDamaged`."""
    if len(header) < BLOCK_HEADER.size:
        raise SpillDamaged(f"a block header is cut short at {len(header)} bytes")
    size, codec, keys, pairs, payload_crc, header_crc = BLOCK_HEADER.unpack(header)
    if crc32(header[:20]) != header_crc:
        raise SpillDamaged("a block header does not match its checksum")
    if codec != _STORED:
        raise SpillDamaged(f"a block has the unknown codec {codec}")
    return size, keys, pairs, payload_crc


def unpack_payload(payload: bytes, keys: int, pairs: int) -> Block:
    """Decode a payload whose checksum has been found right."""
    try:
        key_bytes, count_bytes = _PAYLOAD_HEAD.unpack_from(payload)
    except struct.error as error:
        raise SpillDamaged("a block's payload is cut short") from error
    view = memoryview(payload)
    middle = _PAYLOAD_HEAD.size + key_bytes
    counts: list[int] | None = None
    fits = keys == pairs
    if count_bytes:
        numbers = array("I")
        numbers.frombytes(view[middle : middle + count_bytes // 4 * 4])
        counts = numbers.tolist()
        fits = count_bytes == 4 * keys and sum(counts) == pairs
    column = unpack_column(view[_PAYLOAD_HEAD.size : middle])
    values = unpack_column(view[middle + count_bytes :])
    if not fits or not 0 < keys == len(column) or len(values) != pairs:
        raise SpillDamaged("a block does not hold what its header says")
    kind = order_of(column)
    if kind is None:
        column = one_nan(column)
    return Block(column, counts, values, kind)


def read_blocks(fd: int, offset: int, length: int) -> Iterator[Block]:
    """Decode the blocks in a byte range of an open file, one at a time, checking each."""
    end = offset + length
    while offset < end:
        size, keys, pairs, crc = check_header(os.pread(fd, BLOCK_HEADER.size, offset))
        offset += BLOCK_HEADER.size
        payload = os.pread(fd, size, offset)
        if len(payload) != size or offset + size > end:
            raise SpillDamaged(f"a block is cut short: {len(payload)} bytes of {size}")
        if crc32(payload) != crc:
            raise SpillDamaged("a block does not match its checksum")
        offset += size
        yield unpack_payload(payload, keys, pairs)


class BlockChecker:
    """Checks blocks as their bytes arrive, in chunks of any size, without keeping them.

    Call `feed` with each chunk and `finish` at the end. Both raise `SpillDamaged`.
    """

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._crc = 0
        self._expected = 0

    def feed(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            if self._left == 0:
                wanted = BLOCK_HEADER.size - len(self._header)
                self._header += bytes(view[:wanted])
                view = view[wanted:]
                if len(self._header) < BLOCK_HEADER.size:
                    return
                self._left, _, _, self._expected = check_header(self._header)
                self._header, self._crc = b"", 0
            else:
                part = view[: self._left]
                self._crc = crc32(part, self._crc)
                self._left -= len(part)
                view = view[len(part) :]
                if self._left == 0 and self._crc != self._expected:
                    raise SpillDamaged("a block does not match its checksum")

    def finish(self) -> None:
        if self._left or self._header:
            raise SpillDamaged("the last block is cut short")


class SpillWriter:
    """Writes one spill file and its index. Partitions come in ascending order.

    ``average_pair_bytes`` is a first guess of the size of a pair; the writer learns as it goes.
    Use `close` when done, or `abort` to leave nothing behind.
    """

    def __init__(self, path: str, partitions: int, average_pair_bytes: float = 64.0) -> None:
        self.path = path
        self._ranges = [PartitionRange(0, 0, 0, 0)] * partitions
        self._average = max(1.0, average_pair_bytes)
        self._file = open(path, "wb", buffering=1 << 18)
        self._file.write(SPILL_MAGIC)
        self._offset = len(SPILL_MAGIC)
        self.keys = 0
        self.pairs = 0

    def write_groups(self, partition: int, keys: list[Any], groups: dict[Any, list[Any]]) -> None:
        """Append ``keys``, in order, with their values, to ``partition``, cut into blocks."""
        lists = list(map(groups.__getitem__, keys))
        counts = list(map(len, lists))
        ends = list(accumulate(counts))
        at = 0
        while at < len(keys):
            most = min(_MOST_PAIRS, max(1, int(BLOCK_BYTES / self._average)))
            done = ends[at - 1] if at else 0
            cut = bisect_right(ends, done + most, lo=at)
            if cut == at:  # this key alone fills more than a block
                values = lists[at]
                for start in range(0, len(values), most):
                    part = values[start : start + most]
                    self._block(partition, [keys[at]], [len(part)], part)
                cut = at + 1
            elif ends[cut - 1] - done == cut - at:
                self._block(partition, keys[at:cut], None, [one for (one,) in lists[at:cut]])
            else:
                flat = [value for values in lists[at:cut] for value in values]
                self._block(partition, keys[at:cut], counts[at:cut], flat)
            at = cut

    def _block(
        self, partition: int, keys: list[Any], counts: list[int] | None, values: list[Any]
    ) -> None:
        data = pack_block(keys, counts, values)
        self._file.write(data)
        self._average = (self._average + len(data) / len(values)) / 2
        old = self._ranges[partition]
        self._ranges[partition] = PartitionRange(
            old.offset or self._offset,
            old.length + len(data),
            old.keys + len(keys),
            old.pairs + len(values),
        )
        self._offset += len(data)
        self.keys += len(keys)
        self.pairs += len(values)

    def close(self) -> list[PartitionRange]:
        """Write footer and index; return where each partition lies."""
        footer = struct.pack("<8sQ", FOOTER_MAGIC, self._offset)
        self._file.write(footer + struct.pack("<I", crc32(footer)))
        self._file.close()
        index = INDEX_MAGIC + struct.pack("<I", len(self._ranges))
        index += b"".join(_RANGE.pack(r.offset, r.length, r.keys, r.pairs) for r in self._ranges)
        with open(index_path(self.path), "wb") as file:
            file.write(index + struct.pack("<I", crc32(index)))
        return self._ranges

    def abort(self) -> None:
        """Close and remove what was written."""
        self._file.close()
        remove_spill(self.path)


def index_path(spill_path: str) -> str:
    return f"{spill_path}.index"


def remove_spill(path: str) -> None:
    """Remove a spill file and its index; what is gone already is no error."""
    for name in (path, index_path(path)):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass


def open_spill(path: str) -> tuple[int, list[PartitionRange]]:
    """Open a spill for reading: its file descriptor and its partitions.

    Raises `SpillDamaged` if file, footer or index are missing, cut short or altered.
    """
    try:
        with open(index_path(path), "rb") as file:
            index = file.read()
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SpillDamaged(f"{path}: {error.strerror}") from error
    try:
        ranges = _read_index(index)
        size = os.fstat(fd).st_size
        footer = os.pread(fd, _FOOTER.size, max(0, size - _FOOTER.size))
        magic, offset, crc = _FOOTER.unpack(footer)
        whole = magic == FOOTER_MAGIC and crc == crc32(footer[:16]) and offset == size - len(footer)
        if not whole or os.pread(fd, 8, 0) != SPILL_MAGIC:
            raise SpillDamaged(f"{path} is cut short or no spill")
        if any(r.offset + r.length > offset for r in ranges):
            raise SpillDamaged(f"{path} is shorter than its index says")
    except struct.error as error:
        os.close(fd)
        raise SpillDamaged(f"{path} is cut short") from error
    except SpillDamaged:
        os.close(fd)
        raise
    return fd, ranges


def _read_index(index: bytes) -> list[PartitionRange]:
    body, tail = index[:-4], index[-4:]
    if index[:8] != INDEX_MAGIC or len(tail) < 4 or struct.unpack("<I", tail)[0] != crc32(body):
        raise SpillDamaged("an index is cut short or altered")
    (partitions,) = struct.unpack_from("<I", body, 8)
    if len(body) != 12 + partitions * _RANGE.size:
        raise SpillDamaged("an index does not have the length that it says")
    return [
        PartitionRange(*_RANGE.unpack_from(body, 12 + i * _RANGE.size)) for i in range(partitions)
    ]
