"""Spill files: a map's sorted output on disk, cut into blocks that travel as they lie.

One map attempt writes one spill file and one index file. All integers are little-endian. Checksums
are XXH3-64, or its low 32 bits.

Spill file::

    0    8   magic, b"PXSPILL" and the version, 2
    8    ..  the blocks of partition 0, then of partition 1, ...
    ..   8   b"PXSPEND" and the version
         8   u64  where this footer begins
         4   u32  checksum of the 16 bytes before

Block (28 bytes of header, then the payload)::

    0    4   u32  bytes of payload, as stored
    4    1   u8   codec of the payload (see `compression`); 0: stored as it is
    5    3        zero
    8    4   u32  keys
    12   4   u32  pairs
    16   8   u64  checksum of the payload, as stored
    24   4   u32  checksum of the 24 bytes before

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
    ..   4   u32  checksum of all before

A key whose values do not fit one block goes on in the next, which begins with the same key; so
a reader never needs more than a block in memory. The footer shows truncation; the checksums show
any altered byte. XXH3 reads tens of GB a second, where zlib's CRC-32 reads one to four.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from xxhash import xxh3_64, xxh3_64_intdigest, xxh3_128

from pytxmr.errors import SpillDamaged, Unreachable
from pytxmr.records.codec import one_nan, pack_column, pack_values, unpack_column
from pytxmr.records.columns import Groups
from pytxmr.records.compression import STORED, Compress, compressor, decompress
from pytxmr.records.order import Kind, order_of

SPILL_MAGIC = b"PXSPILL\x02"
FOOTER_MAGIC = b"PXSPEND\x02"
INDEX_MAGIC = b"PXINDEX\x02"
BLOCK_HEADER = struct.Struct("<IB3xIIQI")
_PAYLOAD_HEAD = struct.Struct("<II")
_HEAD = struct.Struct("<IB3xIIQ")
_FOOTER = struct.Struct("<8sQ4s")
_RANGE = struct.Struct("<QQQQ")

#: Payload that a block aims at, before it is compressed, and the most unless one value is larger.
#: Larger ones cost memory in a merge, smaller ones calls.
BLOCK_BYTES = 128 * 1024
MOST_BLOCK_BYTES = 4 * BLOCK_BYTES
#: Small pairs take 50 times their packed size as objects; more of them in a block are no faster.
_MOST_PAIRS = 4096


@dataclass(slots=True)
class Block(Groups):
    """A decoded block, and what kind of keys it has (see `order`)."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """Where a partition lies in a spill file, and how much is in it."""

    offset: int
    length: int
    keys: int
    pairs: int


def pack_block(
    keys: list[Any],
    counts: list[int] | None,
    values: list[Any],
    compress: Compress | None = None,
) -> bytes:
    """A whole block, header included. Raises `Uncarryable` for what cannot be packed."""
    return _framed(_packed(keys, counts, values), len(keys), len(values), compress)


def _packed(keys: list[Any], counts: list[int] | None, values: list[Any]) -> bytes:
    key_bytes = pack_column(keys)
    count_bytes = b"" if counts is None else array("I", counts).tobytes()
    head = _PAYLOAD_HEAD.pack(len(key_bytes), len(count_bytes))
    return b"".join((head, key_bytes, count_bytes, pack_values(values)))


def _framed(payload: bytes, keys: int, pairs: int, compress: Compress | None) -> bytes:
    codec = STORED
    if compress is not None:
        codec, payload = compress(payload)
    checksum = xxh3_64_intdigest(payload)
    head = _HEAD.pack(len(payload), codec, keys, pairs, checksum)
    return b"".join((head, _short_checksum(head), payload))


def _short_checksum(data: bytes) -> bytes:
    return struct.pack("<I", xxh3_64_intdigest(data) & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a block's header says: the payload's size as stored, and what is in it."""

    payload_bytes: int
    codec: int
    keys: int
    pairs: int
    checksum: int


def check_header(header: bytes | memoryview) -> BlockHeader:
    """The header of a block, found right; raises `SpillDamaged`."""
    if len(header) < BLOCK_HEADER.size:
        raise SpillDamaged(f"a block header is cut short at {len(header)} bytes")
    size, codec, keys, pairs, checksum, own = BLOCK_HEADER.unpack(header)
    if xxh3_64_intdigest(header[: _HEAD.size]) & 0xFFFFFFFF != own:
        raise SpillDamaged("a block header does not match its checksum")
    return BlockHeader(size, codec, keys, pairs, checksum)


def unpack_payload(payload: bytes, header: BlockHeader) -> Block:
    """Decode a payload whose checksum has been found right."""
    if header.codec != STORED:
        payload = decompress(header.codec, payload)
    try:
        key_bytes, count_bytes = _PAYLOAD_HEAD.unpack_from(payload)
    except struct.error as error:
        raise SpillDamaged("a block's payload is cut short") from error
    view = memoryview(payload)
    middle = _PAYLOAD_HEAD.size + key_bytes
    counts: list[int] | None = None
    keys, pairs = header.keys, header.pairs
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
        header = check_header(os.pread(fd, BLOCK_HEADER.size, offset))
        offset += BLOCK_HEADER.size
        size = header.payload_bytes
        payload = os.pread(fd, size, offset)
        if len(payload) != size or offset + size > end:
            raise SpillDamaged(f"a block is cut short: {len(payload)} bytes of {size}")
        if xxh3_64_intdigest(payload) != header.checksum:
            raise SpillDamaged("a block does not match its checksum")
        offset += size
        yield unpack_payload(payload, header)


class BlockChecker:
    """Checks blocks as their bytes arrive, in chunks of any size, without keeping them.

    Call `feed` with each chunk and `finish` at the end. Both raise `SpillDamaged`.
    """

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._hash = xxh3_64()
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
                header = check_header(self._header)
                self._left, self._expected = header.payload_bytes, header.checksum
                self._header = b""
                self._hash.reset()
            else:
                part = view[: self._left]
                self._hash.update(part)
                self._left -= len(part)
                view = view[len(part) :]
                if self._left == 0 and self._hash.intdigest() != self._expected:
                    raise SpillDamaged("a block does not match its checksum")

    def finish(self) -> None:
        if self._left or self._header:
            raise SpillDamaged("the last block is cut short")


class SpillWriter:
    """Writes one spill file and its index. Partitions come in ascending order.

    ``average_pair_bytes`` is a first guess of the size of a pair; the writer learns as it goes.
    ``codec`` names how payloads are compressed (see `compression`). Use `close` when done, or
    `abort` to leave nothing behind. Once it is closed, ``digest`` is the same for all spills that
    have the same content in the same blocks, and for no others.
    """

    def __init__(
        self,
        path: str,
        partitions: int,
        average_pair_bytes: float = 64.0,
        codec: str = "none",
    ) -> None:
        self.path = path
        self._ranges = [PartitionRange(0, 0, 0, 0)] * partitions
        self._average = max(1.0, average_pair_bytes)
        self._compress = compressor(codec)
        self._file = open(path, "wb", buffering=1 << 18)
        self._file.write(SPILL_MAGIC)
        self._offset = len(SPILL_MAGIC)
        self._hash = xxh3_128()
        self.digest = ""
        self.keys = 0
        self.pairs = 0

    def write(self, partition: int, groups: Groups) -> None:
        """Append groups to ``partition``, cut into blocks."""
        keys, counts, values = groups.keys, groups.counts, groups.values
        ends = range(1, len(keys) + 1) if counts is None else list(accumulate(counts))
        at = done = 0
        while at < len(keys):
            most = min(_MOST_PAIRS, max(1, int(BLOCK_BYTES / self._average)))
            cut = bisect_right(ends, done + most, lo=at)
            if cut == at:  # this key alone fills more than a block
                end = ends[at]
                for start in range(done, end, most):
                    part = values[start : min(start + most, end)]
                    self._block(partition, [keys[at]], [len(part)], part)
                cut = at + 1
            else:
                end = ends[cut - 1]
                single = counts is None or end - done == cut - at
                some = None if single else counts[at:cut]  # type: ignore[index]
                self._block(partition, keys[at:cut], some, values[done:end])
            at, done = cut, end

    def _block(
        self, partition: int, keys: list[Any], counts: list[int] | None, values: list[Any]
    ) -> None:
        payload = _packed(keys, counts, values)
        pairs = len(values)
        if len(payload) > MOST_BLOCK_BYTES and pairs > 1:
            self._average = len(payload) / pairs
            return self.write(partition, Groups(keys, counts, values))
        data = _framed(payload, len(keys), pairs, self._compress)
        self._file.write(data)
        self._hash.update(data[: _HEAD.size])  # which has the checksum of the rest
        self._average = (self._average + len(payload) / pairs) / 2
        old = self._ranges[partition]
        self._ranges[partition] = PartitionRange(
            old.offset or self._offset,
            old.length + len(data),
            old.keys + len(keys),
            old.pairs + pairs,
        )
        self._offset += len(data)
        self.keys += len(keys)
        self.pairs += pairs

    def close(self) -> list[PartitionRange]:
        """Write footer and index; return where each partition lies."""
        footer = struct.pack("<8sQ", FOOTER_MAGIC, self._offset)
        self._file.write(footer + _short_checksum(footer))
        self._file.close()
        index = INDEX_MAGIC + struct.pack("<I", len(self._ranges))
        index += b"".join(_RANGE.pack(r.offset, r.length, r.keys, r.pairs) for r in self._ranges)
        with open(index_path(self.path), "wb") as file:
            file.write(index + _short_checksum(index))
        self._hash.update(index)
        self.digest = self._hash.hexdigest()
        return self._ranges

    def abort(self) -> None:
        """Close and remove what was written."""
        # What it still holds is written as it is closed, and there may be no room.
        with suppress(OSError):
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

    Raises `SpillDamaged` if file, footer or index are missing, cut short or altered, `Unreachable`
    if this process has too many files open: there is nothing wrong with the spill then.
    """
    try:
        with open(index_path(path), "rb") as file:
            index = file.read()
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Unreachable(f"{path}: {error.strerror}") from error
        raise SpillDamaged(f"{path}: {error.strerror}") from error
    try:
        ranges = _read_index(index)
        size = os.fstat(fd).st_size
        footer = os.pread(fd, _FOOTER.size, max(0, size - _FOOTER.size))
        magic, offset, checksum = _FOOTER.unpack(footer)
        sound = magic == FOOTER_MAGIC and checksum == _short_checksum(footer[:16])
        whole = sound and offset == size - len(footer)
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
    if index[:8] != INDEX_MAGIC or tail != _short_checksum(body):
        raise SpillDamaged("an index is cut short or altered")
    (partitions,) = struct.unpack_from("<I", body, 8)
    if len(body) != 12 + partitions * _RANGE.size:
        raise SpillDamaged("an index does not have the length that it says")
    return [
        PartitionRange(*_RANGE.unpack_from(body, 12 + i * _RANGE.size)) for i in range(partitions)
    ]
