"""Codecs of block payloads, for disk and for the wire; a block travels as it was stored.

``none`` is the default. Packing and unpacking a pair costs Python some 10 ns a byte; on top of it
lz4 takes about 2 ns a byte of text and zstd about 4, both ways together, and leave 60 % and 41 % of
it (``make bench ROWS=codec``). So compression pays where a byte moves for more than some 8 ns, as
over a network of 1 Gbit/s or to a disk that is the bottleneck, and loses on one machine or at 10
Gbit/s.

lz4 and zstd come with the extra of that name; a job that asks for one which is not installed is
refused before it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from pytxmr.errors import AttemptFailed, SpillDamaged

STORED = 0
#: Name -> (number in a block's header, the module that does it).
CODECS = {"none": (STORED, ""), "lz4": (1, "lz4.block"), "zstd": (2, "zstandard")}
#: A payload that does not shrink to this part is stored as it is: it costs nothing to read.
_WORTH_IT = 0.9

Compress = Callable[[bytes], tuple[int, bytes]]


def missing(codec: str) -> str | None:
    """What is to be installed before ``codec`` can be used here; None if nothing is."""
    module = CODECS[codec][1]
    try:
        if module:
            import_module(module)
    except ImportError:
        return f"pytxmr[{codec}]"
    return None


def compressor(codec: str) -> Compress | None:
    """The function that makes ``(number, payload)`` of a payload; None for ``none``."""
    number, _ = CODECS[codec]
    if number == STORED:
        return None
    squeeze = _functions(number)[0]

    def compress(payload: bytes) -> tuple[int, bytes]:
        smaller = squeeze(payload)
        worth_it = len(smaller) < _WORTH_IT * len(payload)
        return (number, smaller) if worth_it else (STORED, payload)

    return compress


def decompress(number: int, payload: bytes) -> bytes:
    """The payload that was compressed. Raises `SpillDamaged` for what is no such payload."""
    if not any(number == known for known, _ in CODECS.values()):
        raise SpillDamaged(f"a block has the unknown codec {number}")
    try:
        return _functions(number)[1](payload)
    except AttemptFailed:
        raise
    except Exception as error:  # each library has errors of its own
        raise SpillDamaged(f"a block cannot be decompressed: {error}") from error


@cache
def _functions(number: int) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    name, module = next((name, module) for name, (n, module) in CODECS.items() if n == number)
    try:
        library: Any = import_module(module)
    except ImportError:
        raise AttemptFailed(
            f"{name} is not installed on this machine: pip install 'pytxmr[{name}]'", final=True
        ) from None
    if name == "lz4":
        return library.compress, library.decompress
    return library.ZstdCompressor(level=1).compress, library.ZstdDecompressor().decompress
