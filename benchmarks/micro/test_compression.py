"""What is done to a block's bytes, against packing and unpacking what is in it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ratios import assert_ratio

from pytxmr.records.compression import compressor, decompress
from pytxmr.records.spill import (
    BLOCK_HEADER,
    BlockChecker,
    check_header,
    pack_block,
    unpack_payload,
)

BLOCKS = 20
CHANCE = random.Random(1)
WORDS = [f"word{CHANCE.randrange(5_000)}" for _ in range(100)]
#: Lines of text in order: like prose, they shrink to half or less.
COLUMNS = [
    (sorted({" ".join(CHANCE.choices(WORDS, k=12)) for _ in range(1500)}), None, [None] * 1500)
    for _ in range(BLOCKS)
]
PACKED = [pack_block(*columns) for columns in COLUMNS]
PAYLOADS = [block[BLOCK_HEADER.size :] for block in PACKED]
AT_MOST = {"lz4": 1.2, "zstd": 3.5}


def pack_and_unpack() -> None:
    for columns in COLUMNS:
        block = pack_block(*columns)
        unpack_payload(block[BLOCK_HEADER.size :], check_header(block[: BLOCK_HEADER.size]))


@pytest.mark.parametrize("name", AT_MOST)
def test_compressing_both_ways_against_packing(benchmark: Any, name: str) -> None:
    squeeze = compressor(name)
    assert squeeze is not None

    def both_ways() -> None:
        for payload in PAYLOADS:
            decompress(*squeeze(payload))

    number, smaller = squeeze(PAYLOADS[0])
    assert decompress(number, smaller) == PAYLOADS[0]
    assert len(smaller) < 0.6 * len(PAYLOADS[0])
    assert_ratio(benchmark, both_ways, pack_and_unpack, AT_MOST[name])


def test_checking_blocks_as_they_arrive_against_packing(benchmark: Any) -> None:
    def check() -> None:
        checker = BlockChecker()
        for block in PACKED:
            checker.feed(block)
        checker.finish()

    assert_ratio(benchmark, check, pack_and_unpack, 0.05)
