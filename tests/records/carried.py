"""What may travel from a mapper to a reducer, as hypothesis strategies; and how to compare it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytxmr.records import spill
from pytxmr.records.columns import groups_of as group_columns
from pytxmr.records.spill import SpillWriter, open_spill, read_blocks

#: Settings under which a property gives the same verdict on every run.
steady = partial(settings, derandomize=True, deadline=None)

texts = st.text(st.characters(), max_size=6)  # lone surrogates included
numbers = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**80), 2**80),
    st.integers(-3, 3).map(float),
    st.floats(),
)
scalars = st.one_of(st.none(), numbers, texts, st.binary(max_size=6))
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
_hashable = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=4,
)
values = st.recursive(
    st.one_of(scalars, _hashable),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_hashable, inner, max_size=3),
        st.sets(_hashable, max_size=3),
    ),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    """Equal for two values if they are the same, types, NaN, the sign of zero included."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind, tuple(map(shape, value))
    if kind is set or kind is frozenset:
        return kind, frozenset(map(shape, value))
    if kind is dict:
        return kind, tuple((shape(key), shape(item)) for key, item in value.items())
    return kind, hex(value) if kind is int else repr(value)


@contextmanager
def blocks_of(pairs: int) -> Iterator[None]:
    """Spills are written with at most so many pairs a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_MOST_PAIRS", pairs)
        yield


def write_spill(path: Any, partitions: list[list[tuple[Any, list[Any]]]]) -> str:
    """A spill with these groups, which are in order; returns its path."""
    writer = SpillWriter(str(path), len(partitions))
    for number, groups in enumerate(partitions):
        writer.write(number, group_columns([k for k, _ in groups], [v for _, v in groups]))
    writer.close()
    return str(path)


def read_spill(path: Any) -> list[list[tuple[Any, list[Any]]]]:
    """The groups of each partition, as they lie in the blocks."""
    fd, ranges = open_spill(str(path))
    with open(fd, "rb"):
        return [
            [
                group
                for block in read_blocks(fd, part.offset, part.length)
                for group in groups_of(block)
            ]
            for part in ranges
        ]


def groups_of(block: spill.Block) -> list[tuple[Any, list[Any]]]:
    counts = block.counts or [1] * len(block.keys)
    rest = iter(block.values)
    return [
        (key, [next(rest) for _ in range(count)])
        for key, count in zip(block.keys, counts, strict=True)
    ]
