"""Partitions of spills as people read them: every key and value as JSON, whatever it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain, islice, repeat, starmap
from typing import Any

from pytxmr.records.spill import Block, PartitionRange, read_blocks

#: Lines of a partition that are made at a time.
_LINES_AT_A_TIME = 1000
#: Python does not write ints of more than 4300 digits in decimal, unless told to.
_MOST_DECIMAL_BITS = 14_000
_WRITABLE = (str, int, float, type(None))


def inspected_lines(fd: int, part: PartitionRange) -> Iterator[bytes]:
    """A partition as a person reads it, a block at a time; closes ``fd`` at the end."""
    keys = pairs = 0
    last: list[Any] = []
    try:
        for block in read_blocks(fd, part.offset, part.length):
            lines = starmap(_line, _pairs(block))
            while some := list(islice(lines, _LINES_AT_A_TIME)):
                text = "\n".join(some) + "\n"
                yield text.encode("utf-8", "surrogateescape" if _escaped(text) else "replace")
            pairs += len(block.values)
            keys += len(block.keys) - (last == block.keys[:1])
            last = block.keys[-1:]
        yield f"# {pairs} pairs, {keys} keys, {part.length} bytes\n".encode()
    finally:
        os.close(fd)


def _pairs(block: Block) -> Iterator[tuple[Any, Any]]:
    if block.counts is None:
        return zip(block.keys, block.values, strict=True)
    repeated = chain.from_iterable(map(repeat, block.keys, block.counts))
    return zip(repeated, block.values, strict=True)


def _line(key: Any, value: Any) -> str:
    try:
        return json.dumps([key, value], ensure_ascii=False, default=_shown)
    except (TypeError, ValueError):
        return json.dumps(_showable([key, value]), ensure_ascii=False, default=_shown)


def _showable(value: Any) -> Any:
    """What JSON has no way to write as something that it has: keys of dicts, very large ints."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else repr(_showable(key)): _showable(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_showable(item) for item in value]
    if isinstance(value, int) and value.bit_length() > _MOST_DECIMAL_BITS:
        return hex(value)
    return value if isinstance(value, _WRITABLE) else _showable(_shown(value))


def _escaped(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> Any:
    """bytes as text, as far as they are; sets as lists; what JSON does not know as Python does."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return str(value)
