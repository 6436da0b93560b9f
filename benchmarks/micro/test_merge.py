"""Merging spills into groups against `heapq.merge` and `itertools.groupby`."""

from __future__ import annotations

import heapq
import os
import random
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgpack
import pytest
from ratios import assert_ratio

from pytxmr.model import Segment
from pytxmr.records.merge import SegmentMerge
from pytxmr.records.sortbuffer import SortBuffer

RUNS = 8
COUNT = 500_000
CHANCE = random.Random(1)

#: Keys that are in every run, and keys that are in one.
KEYS: dict[str, list[str]] = {
    "shared keys": [f"word{CHANCE.randrange(50_000):06}" for _ in range(COUNT)],
    "distinct keys": [CHANCE.randbytes(20).hex() for _ in range(COUNT)],
}
AT_MOST = {"shared keys": 0.3, "distinct keys": 0.3}


@pytest.mark.parametrize("name", KEYS)
def test_merging_runs_against_a_heap(benchmark: Any, tmp_path: Path, name: str) -> None:
    segments: list[Segment] = []
    plain: list[bytes] = []
    for number in range(RUNS):
        run = [(key, 1) for key in KEYS[name][number::RUNS]]
        buffer = SortBuffer(os.fspath(tmp_path / str(number)), 1, 1 << 30)
        stream = iter(run)
        while buffer.fill(stream):
            pass
        (part,) = buffer.finish()
        segments.append(Segment(os.fspath(tmp_path / str(number)), part.offset, part.length))
        plain.append(msgpack.packb(sorted(run)))

    def merge() -> int:
        merged = SegmentMerge(segments, os.fspath(tmp_path / "scratch"))
        count = sum(sum(values) for groups in merged for _, values in groups)
        merged.close()
        return count

    def by_heap() -> int:
        merged = heapq.merge(*map(msgpack.unpackb, plain))
        return sum(sum(one for _, one in some) for _, some in groupby(merged, itemgetter(0)))

    assert merge() == by_heap() == COUNT
    assert_ratio(benchmark, merge, by_heap, AT_MOST[name])
