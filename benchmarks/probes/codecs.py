"""What compressing and checking a byte costs: codecs.py DIRECTORY TEXT LINES PROSE.

Takes the blocks of spills, of words with the lines that they are in and of lines to sort, and
prints as JSON, for each, the nanoseconds that a byte of them costs: to be packed and unpacked, to
be summed up by XXH3 and by CRC-32, and to be compressed and decompressed by each codec; and the
part that the codec leaves. Of several turns the fastest counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import xxhash

from pytxmr.records.compression import CODECS, STORED, compressor, decompress
from pytxmr.records.sortbuffer import SortBuffer
from pytxmr.records.spill import BLOCK_HEADER, check_header, open_spill, pack_block, read_blocks
from pytxmr.records.spill import unpack_payload as unpack

BYTES = 8_000_000
TURNS = 5


def words(text: str) -> Iterator[tuple[Any, Any]]:
    with open(text, encoding="utf-8") as file:
        for number, line in enumerate(file.readlines(BYTES)):
            for word in set(line.split()):
                yield word, number


def lines(path: str) -> Iterator[tuple[Any, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file.readlines(BYTES):
            yield line, None


def fastest(work: Callable[[Any], Any], things: list[Any]) -> float:
    """Seconds for all of them."""
    best = float("inf")
    for _ in range(TURNS):
        began = time.perf_counter()
        for thing in things:
            work(thing)
        best = min(best, time.perf_counter() - began)
    return best


def measure(pairs: Iterator[tuple[Any, Any]], directory: str) -> dict[str, Any]:
    path = os.path.join(directory, "spill")
    buffer = SortBuffer(path, 1, 1 << 30)
    while buffer.fill(pairs):
        pass
    buffer.finish()
    fd, (whole,) = open_spill(path)
    columns = [(b.keys, b.counts, b.values) for b in read_blocks(fd, whole.offset, whole.length)]
    os.close(fd)
    blocks = [pack_block(*block) for block in columns]
    packed = [
        (block[BLOCK_HEADER.size :], check_header(block[: BLOCK_HEADER.size])) for block in blocks
    ]
    payloads = [payload for payload, _ in packed]
    size = sum(map(len, payloads))
    seconds = {
        "pack": fastest(lambda block: pack_block(*block), columns)
        + fastest(lambda one: unpack(*one), packed),
        "xxh3": fastest(xxhash.xxh3_64_intdigest, payloads),
        "crc32": fastest(zlib.crc32, payloads),
    }
    costs: dict[str, Any] = {name: 1e9 * one / size for name, one in seconds.items()}
    for name in CODECS:
        squeeze = compressor(name)
        if squeeze is None:
            continue
        smaller = [squeeze(payload) for payload in payloads]
        both = fastest(squeeze, payloads)
        both += fastest(lambda one: one[0] == STORED or decompress(*one), smaller)
        left = sum(len(payload) for _, payload in smaller) / size
        costs[name] = {"ns": 1e9 * both / size, "left": left}
    return costs


if __name__ == "__main__":
    directory, text, random_lines, prose = sys.argv[1:]
    found = {
        "words with their lines": measure(words(text), directory),
        "random lines": measure(lines(random_lines), directory),
        "lines of prose": measure(lines(prose), directory),
    }
    print(json.dumps(found))
