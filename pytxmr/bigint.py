"""Integers of more than 64 bits, which msgpack does not pack: an extension of their bytes."""

from __future__ import annotations

import msgpack


def packed(code: int, value: int) -> msgpack.ExtType:
    """Big-endian two's complement, as an extension with that code."""
    size = value.bit_length() // 8 + 1
    return msgpack.ExtType(code, value.to_bytes(size, "big", signed=True))


def unpacked(data: bytes) -> int:
    """The inverse, of the extension's bytes."""
    return int.from_bytes(data, "big", signed=True)
