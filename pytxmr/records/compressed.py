"""Compressed files: what they are known by, and how they are read and written as streams.

========  ==========  ==================================================================
format    names       may be cut
========  ==========  ==================================================================
gzip      .gz         no: nothing in it says where a member ends but its decompression
bzip2     .bz2        at its blocks, which begin with 48 certain bits, at any bit
xz        .xz         no
lz4       .lz4        at its frames, whose headers say how long each block is
zstd      .zst .zstd  at its frames, likewise
========  ==========  ==================================================================

A decoder gives the pieces, of a bounded size each, into which a file's bytes from some offset on
are decompressed. What begins in a range [start, end) of the file belongs to it: before the first
piece of what begins at ``end`` or after, the decoder gives None, once, and then goes on, since the
range's last line may end there.

Several members, frames or streams in one file are its parts one after the other, in every format.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

from pytxmr.errors import AttemptFailed
from pytxmr.model import shown_path

#: Format -> the module that reads it, which for lz4 and zstd comes with the extra of that name.
LIBRARIES = {
    "gzip": "zlib",
    "bzip2": "bz2",
    "xz": "lzma",
    "lz4": "lz4.frame",
    "zstd": "zstandard",
}
SUFFIXES = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".lz4": "lz4",
    ".zst": "zstd",
    ".zstd": "zstd",
}
#: How part files are named. ``none`` stands for all that is not compressed.
SUFFIX_OF = {"none": "", "gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "lz4": ".lz4", "zstd": ".zst"}
#: What may be read in several ranges.
CUT = frozenset({"bzip2", "lz4", "zstd"})
#: So many bytes of a file tell what it is.
MAGIC_BYTES = 10

_BLOCK = 0x314159265359  # a block of bzip2
_END = 0x177245385090  # the end of a stream of it
_LZ4 = b"\x04\x22\x4d\x18"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: Followed by four bytes that say how many are to be passed over; the first may be 0x50 to 0x5f.
_SKIPPABLE = b"\x2a\x4d\x18"

#: lz4 and zstd are written in frames of about so many bytes of content, to be cut there.
FRAME_BYTES = 8 << 20
_READ_BYTES = 1 << 18
#: Of what is looked at for its headers alone.
_HEADER_BYTES = 64
#: Large enough for the reader of lines to find no more than a few pieces in what it reads.
_PIECE_BYTES = 1 << 18
#: What a decoder may take; ``xz -9`` needs 65 MiB, and zstd refuses more than 128 by itself.
_MOST_XZ_BYTES = 256 << 20

Pieces = Iterator[bytes | None]


def format_of(path: str, head: bytes) -> str | None:
    """How a file that begins with ``head`` is compressed; None if it is not.

    ``head``: `MAGIC_BYTES`, or all of a shorter file. Raises `AttemptFailed` for a file that is
    named as if it were compressed, and is not.
    """
    found = _by_magic(head)
    named = SUFFIXES.get(os.path.splitext(path)[1].lower())
    if named is not None and found is None:
        shown = shown_path(path)
        message = f"{shown}: it is named as {named}, and does not begin like that"
        raise AttemptFailed(message, where=shown, final=True)
    return found


def _by_magic(head: bytes) -> str | None:
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if head.startswith(b"BZh") and b"1" <= head[3:4] <= b"9":
        magic = int.from_bytes(head[4:10])
        return "bzip2" if magic in (_BLOCK, _END) else None
    if head.startswith(_LZ4):
        return "lz4"
    return "zstd" if head.startswith(_ZSTD) or _is_skippable(head) else None


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == _SKIPPABLE and head[0] >> 4 == 5


def pieces_of(kind: str, file: Any, path: str, start: int, end: int, size: int) -> Pieces:
    """What begins in [start, end) of a file of ``size`` bytes that is compressed as ``kind``.

    Of a file that cannot be cut, all belongs to the range that begins at 0. ``file`` needs ``read``
    and ``seek``. Raises `AttemptFailed`, final, naming the place, for what is damaged or cut short.
    """
    if kind not in CUT:
        if start:
            return iter(())
        end = size
    try:
        library = import_module(LIBRARIES[kind])
    except ImportError:
        raise AttemptFailed(
            f"{path}: {kind} is not installed on this machine: pip install 'pytxmr[{kind}]'",
            final=True,
        ) from None
    source = _Source(file, path, kind)
    if kind == "bzip2":
        if start or end < size:
            return _bzip2_blocks(source, library.BZ2Decompressor, start, end)
        return _members(source, library.BZ2Decompressor)
    if kind == "gzip":
        return _members(source, _Gzip)
    if kind == "xz":
        return _members(
            source,
            lambda: library.LZMADecompressor(library.FORMAT_XZ, memlimit=_MOST_XZ_BYTES),
        )
    decode = _lz4_frame if kind == "lz4" else _zstd_frame
    return _frames(source, library, decode, start, end)


class _Source:
    """The bytes of a compressed file, one after the other. ``offset``: of the next."""

    def __init__(self, file: Any, path: str, kind: str, read_bytes: int = 0) -> None:
        self.file = file
        self.path = path
        self.kind = kind
        self._read_bytes = read_bytes or _READ_BYTES
        self._data = b""
        self._at = 0
        self.offset = 0

    def seek(self, offset: int) -> None:
        self.file.seek(offset)
        self._data, self._at = b"", 0
        self.offset = offset

    def some(self) -> bytes:
        """The next bytes; none at the end."""
        data, self._data = self._data[self._at :], b""
        self._at = 0
        data = data or self.file.read(self._read_bytes)
        self.offset += len(data)
        return data

    def up_to(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        if len(self._data) - self._at < size:
            pieces = [self._data[self._at :]]
            lacking = size - len(pieces[0])
            while lacking > 0 and (more := self.file.read(max(lacking, self._read_bytes))):
                pieces.append(more)
                lacking -= len(more)
            self._data, self._at = b"".join(pieces), 0
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        self.offset += len(found)
        return found

    def exactly(self, size: int, begun: int) -> bytes:
        """The next ``size`` bytes of what began at the offset ``begun``."""
        data = self.up_to(size)
        if len(data) < size:
            raise self.cut_short(begun)
        return data

    def cut_short(self, begun: int) -> AttemptFailed:
        return self.damaged(begun, "the file ends before it")

    def damaged(self, begun: int, reason: object) -> AttemptFailed:
        return AttemptFailed(
            f"{self.path}: what is compressed with {self.kind} from byte {begun} on cannot be "
            f"decompressed, near byte {self.offset}: {reason}",
            where=f"{self.path}, compressed byte {begun}",
            final=True,
        )


def _members(source: _Source, new: Callable[[], Any]) -> Pieces:
    """The members of a file, by a decoder each, to the end of the file."""
    data = source.some()
    while data:
        begun = source.offset - len(data)
        decoder = new()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = source.some()
                if not data:
                    raise source.cut_short(begun)
            yield from _decoded(source, decoder, data, begun)
            data = b""
        # Both gzip and xz may be filled up with zeros, as on tape.
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (data := source.some()):
            data = data.lstrip(b"\0")


def _decoded(source: _Source, decoder: Any, data: bytes, begun: int) -> Iterator[bytes]:
    """One piece, if there is one."""
    try:
        piece = decoder.decompress(data, max_length=_PIECE_BYTES)
    except MemoryError:
        raise
    except Exception as error:  # each library has errors of its own
        raise source.damaged(begun, error) from error
    if piece:
        yield piece


class _Gzip:
    """What the decoders of the other libraries are like, for zlib's."""

    def __init__(self) -> None:
        import zlib

        self._decoder = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


def compressed(pieces: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """The bytes of a file with the pieces in it, the same whenever the pieces are. ``kind`` may be
    ``none``. Raises `AttemptFailed` if the library is not installed."""
    if kind == "none":
        yield from pieces
        return
    try:
        library = import_module(LIBRARIES[kind])
    except ImportError:
        raise AttemptFailed(
            f"{kind} is not installed on this machine: pip install 'pytxmr[{kind}]'", final=True
        ) from None
    new = _COMPRESSORS[kind]
    most = FRAME_BYTES if kind in ("lz4", "zstd") else sys.maxsize
    compressor = new(library)
    size = 0
    for piece in pieces:
        if size >= most:
            yield compressor.flush()
            compressor, size = new(library), 0
        size += len(piece)
        yield compressor.compress(piece)
    yield compressor.flush()


class _Lz4:
    """lz4's compressor, whose header has to be asked for."""

    def __init__(self, library: Any) -> None:
        self._compressor = library.LZ4FrameCompressor(content_checksum=True)
        self._header = self._compressor.begin()

    def compress(self, piece: bytes) -> bytes:
        header, self._header = self._header, b""
        return bytes(header + self._compressor.compress(piece))

    def flush(self) -> bytes:
        return bytes(self._header + self._compressor.flush())


_COMPRESSORS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda zlib: zlib.compressobj(wbits=31),
    "bzip2": lambda bz2: bz2.BZ2Compressor(),
    "xz": lambda lzma: lzma.LZMACompressor(),
    "lz4": _Lz4,
    "zstd": lambda zstandard: zstandard.ZstdCompressor(write_checksum=True).compressobj(),
}


# ---- lz4 and zstd: frames, whose blocks say how long they are


def _frames(source: _Source, library: Any, decode: Any, start: int, end: int) -> Pieces:
    kind = source.kind
    if start:
        # Whoever cut the file knew where its frames begin; if not, that is to be found.
        source.seek(start)
        if not _is_frame(kind, source.up_to(4)):
            starts = frame_starts(source.file, source.path, source.kind)
            start = next((at for at in starts if at >= start), end)
        if start >= end:
            return
        source.seek(start)
    told = False
    while True:
        begun = source.offset
        magic = source.up_to(4)
        if not magic:
            return
        if begun >= end and not told:
            told = True
            yield None
        if not _is_frame(kind, magic):
            raise source.damaged(begun, "no frame begins here")
        if _is_skippable(magic):
            length = int.from_bytes(source.exactly(4, begun), "little")
            while length:
                length -= len(source.exactly(min(length, _READ_BYTES), begun))
        else:
            yield from decode(source, library, magic, begun)


def _is_frame(kind: str, magic: bytes) -> bool:
    return magic == (_LZ4 if kind == "lz4" else _ZSTD) or _is_skippable(magic)


def frame_starts(file: Any, path: str, kind: str) -> Iterator[int]:
    """Where the frames of an lz4 or zstd file begin, found without decompressing anything.

    Reads a few bytes a block. Ends where the file is damaged: whoever reads it will say so.
    """
    source = _Source(file, path, kind, _HEADER_BYTES)
    offset = 0
    while True:
        source.seek(offset)
        magic = source.up_to(4)
        if not _is_frame(kind, magic):
            return
        yield offset
        try:
            if _is_skippable(magic):
                length = int.from_bytes(source.exactly(4, offset), "little")
                source.seek(source.offset + length)
            else:
                blocks = _lz4_blocks if kind == "lz4" else _zstd_blocks
                for _, length in blocks(source, offset):
                    source.seek(source.offset + length)
        except AttemptFailed:
            return
        offset = source.offset


def _lz4_blocks(source: _Source, begun: int) -> Iterator[tuple[bytes, int]]:
    """The frame after its magic: each header, and how many bytes follow it before the next."""
    header = source.exactly(2, begun)
    flags = header[0]
    yield header, 8 * (flags >> 3 & 1) + 4 * (flags & 1) + 1
    while any(size := source.exactly(4, begun)):
        length = int.from_bytes(size, "little") & 0x7FFFFFFF
        yield size, length + 4 * (flags >> 4 & 1)
    yield size, 4 * (flags >> 2 & 1)


def _lz4_frame(source: _Source, library: Any, magic: bytes, begun: int) -> Iterator[bytes]:
    decoder = library.LZ4FrameDecompressor()
    data = magic
    for header, length in _lz4_blocks(source, begun):
        if length > 5 << 20:
            raise source.damaged(begun, f"a block of {length} bytes is more than one may have")
        data += header + source.exactly(length, begun)
        if len(data) >= _READ_BYTES:
            yield from _fed(source, decoder, data, begun)
            data = b""
    yield from _fed(source, decoder, data, begun)
    if not decoder.eof:
        raise source.damaged(begun, "the frame does not end where its blocks do")


def _fed(source: _Source, decoder: Any, data: bytes, begun: int) -> Iterator[bytes]:
    yield from _decoded(source, decoder, data, begun)
    while not decoder.needs_input and not decoder.eof:
        yield from _decoded(source, decoder, b"", begun)


def _zstd_blocks(source: _Source, begun: int) -> Iterator[tuple[bytes, int]]:
    header = source.exactly(1, begun)
    flags = header[0]
    single = flags >> 5 & 1
    yield header, (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    last = 0
    while not last:
        header = source.exactly(3, begun)
        number = int.from_bytes(header, "little")
        last = number & 1
        yield header, 1 if number >> 1 & 3 == 1 else number >> 3
    if flags >> 2 & 1:
        yield b"", 4


def _zstd_frame(source: _Source, library: Any, magic: bytes, begun: int) -> Iterator[bytes]:
    """Block by block: the library's own streams either give as much as comes of what they are fed,
    which block by block is 128 KiB at the most, or take a file that is cut short for whole."""
    decoder = library.ZstdDecompressor().decompressobj()
    data = magic
    pieces: list[bytes] = []
    for header, length in _zstd_blocks(source, begun):
        if length > 1 << 17:
            raise source.damaged(begun, f"a block of {length} bytes is more than one may have")
        data += header + source.exactly(length, begun)
        try:
            pieces.append(decoder.decompress(data))
        except MemoryError:
            raise
        except Exception as error:
            raise source.damaged(begun, error) from error
        data = b""
        if sum(map(len, pieces)) >= _PIECE_BYTES:
            yield b"".join(pieces)
            pieces = []
    if any(pieces):
        yield b"".join(pieces)
    if not decoder.eof:
        raise source.damaged(begun, "the frame does not end where its blocks do")


# ---- bzip2: blocks at any bit


def _bzip2_blocks(source: _Source, new: Callable[[], Any], start: int, end: int) -> Pieces:
    """The blocks that begin in [start, end), each as a stream of its own, whose checksum is the
    block's. That their 48 bits stand in a block by chance is to be expected once in 35 TB; then
    the block's checksum is wrong, and the file taken for damaged."""
    told = False
    for begun, block in _bits_of_blocks(source, start, end):
        if begun >= end and not told:
            told = True
            yield None
        decoder = new()
        data = block
        while not decoder.eof:
            if decoder.needs_input and not data:
                raise source.damaged(begun, "the block does not end where the next begins")
            yield from _decoded(source, decoder, data, begun)
            data = b""


def _bits_of_blocks(source: _Source, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """``(offset, stream)`` of the blocks that begin at ``start`` or after; none if none begins
    before ``end``, but at the beginning of the file, where the first line begins that early."""
    source.seek(start)
    data = b""
    base = start  # the offset of `data`
    seen = 0  # bits of the file in which all marks were found
    begun: int | None = None  # the bit at which the block begins that is not yet at its end
    closed: int | None = None  # the bit after the mark that ended a stream
    while more := source.some():
        data += more
        for bit, mark in _marks(data, max(0, seen - 8 * base)):
            bit += 8 * base
            if begun is not None:
                yield begun // 8, _stream(data, begun - 8 * base, bit - 8 * base)
            elif start and bit // 8 >= end and mark == _BLOCK and closed is None:
                return
            begun, closed = (bit, None) if mark == _BLOCK else (None, bit + 48)
            seen = bit + 48
        seen = max(seen, 8 * (base + len(data) - 6))
        if start and begun is None and base + len(data) - 7 >= end and closed is None:
            return
        kept = max(base, seen // 8) if begun is None else begun // 8
        data, base = data[kept - base :], kept
    if begun is not None:
        raise source.cut_short(begun // 8)
    if closed is not None and 8 * source.offset < closed + 32:
        raise source.cut_short(closed // 8)


def _patterns() -> list[tuple[int, int, bytes]]:
    """``(mark, shift, bytes)``: what the bytes after the first are if a mark begins at a bit of it.

    The mark's first ``8 - shift`` bits, and the last ``shift``, share bytes with others.
    """
    return [
        (mark, shift, (mark << 8 - shift).to_bytes(7)[1:6])
        for mark in (_BLOCK, _END)
        for shift in range(8)
    ]


_PATTERNS = _patterns()


def _marks(data: bytes, first_bit: int) -> list[tuple[int, int]]:
    """``(bit, mark)`` of all marks in ``data`` from a bit on, in order."""
    found = []
    for mark, shift, pattern in _PATTERNS:
        at = data.find(pattern, first_bit // 8 + 1)
        while at >= 0:
            bit = 8 * (at - 1) + shift
            around = int.from_bytes(data[at - 1 : at + 6].ljust(7, b"\0"))
            whole = bit + 48 <= 8 * len(data)
            if whole and bit >= first_bit and around >> 8 - shift & (1 << 48) - 1 == mark:
                found.append((bit, mark))
            at = data.find(pattern, at + 1)
    return sorted(found)


def _stream(data: bytes, start: int, end: int) -> bytes:
    """A bzip2 file with one block: the bits [start, end) of ``data``."""
    bits = end - start
    block = int.from_bytes(data[start // 8 : -(-end // 8)]) >> -end % 8 & (1 << bits) - 1
    checksum = block >> max(0, bits - 80) & 0xFFFFFFFF
    whole = (block << 48 | _END) << 32 | checksum
    padding = -(bits + 80) % 8
    return b"BZh9" + (whole << padding).to_bytes((bits + 80 + padding) // 8)
