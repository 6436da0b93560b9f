"""A column costs little more than msgpack alone, which checks nothing and loses tuples."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from ratios import assert_ratio

from pytxmr.records.codec import pack_column, unpack_column

#: As many as a block has.
COUNT = 20_000
CHANCE = random.Random(1)

COLUMNS: dict[str, list[Any]] = {
    "words": [f"word{CHANCE.randrange(50_000)}" for _ in range(COUNT)],
    "numbers": [CHANCE.randrange(1 << 40) for _ in range(COUNT)],
    "bytes": [CHANCE.randbytes(100) for _ in range(COUNT)],
    "pairs": [(f"word{CHANCE.randrange(50_000)}", number) for number in range(COUNT)],
}
PACKING = {"words": 2.8, "numbers": 3.0, "bytes": 1.7, "pairs": 3.6}
UNPACKING = {"words": 1.4, "numbers": 1.4, "bytes": 1.5, "pairs": 1.5}


@pytest.mark.parametrize("name", COLUMNS)
def test_packing_a_column_against_plain_msgpack(benchmark: Any, name: str) -> None:
    column = COLUMNS[name]
    assert_ratio(
        benchmark, lambda: pack_column(column), lambda: msgpack.packb(column), PACKING[name]
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_unpacking_a_column_against_plain_msgpack(benchmark: Any, name: str) -> None:
    ours, plain = pack_column(COLUMNS[name]), msgpack.packb(COLUMNS[name])
    assert unpack_column(ours) == COLUMNS[name]
    assert_ratio(
        benchmark, lambda: unpack_column(ours), lambda: msgpack.unpackb(plain), UNPACKING[name]
    )
