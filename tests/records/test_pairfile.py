"""Files of pairs: what is written is read, in any cuts, and damage is always noticed."""

from __future__ import annotations

import bz2
import os
import tempfile

import pytest
from carried import keys, shape, steady, values
from hypothesis import given
from hypothesis import strategies as st

from pytxmr import readers, writers
from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records import pairfile
from pytxmr.records.columns import columns
from pytxmr.records.formats import decoded
from pytxmr.records.readers import Reading
from pytxmr.records.writers import encoded


def read(path, start, end):
    part = FileRange(str(path), start, end)
    return [
        pair
        for block in readers.msgpack.blocks(part, Reading())
        for pair in zip(*decoded(readers.msgpack, part, block), strict=True)
    ]


def read_in(path, size):
    length = os.path.getsize(path)
    ranges = range(0, length, size)
    return [pair for at in ranges for pair in read(path, at, min(at + size, length))]


@steady(max_examples=60)
@given(st.lists(st.tuples(keys | values, values), max_size=12), st.integers(1, 5))
def test_pairs_come_back_as_they_were_from_splits_of_any_size(pairs, chunk):
    chunks = [pairs[at : at + chunk] for at in range(0, len(pairs), chunk)]
    data = b"".join(encoded(chunks, writers.msgpack))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "part-00000")
        with open(path, "wb") as file:
            file.write(data)
        for size in (1, 2, 7, 23, 24, 25, 60, len(data)):
            found = read_in(path, size)
            assert [(shape(key), shape(value)) for key, value in found] == [
                (shape(key), shape(value)) for key, value in pairs
            ]


@pytest.fixture
def part(tmp_path, monkeypatch):
    monkeypatch.setattr(pairfile, "_BLOCK_PAIRS", 2)
    path = tmp_path / "part-00000"
    pairs = columns(["a", "b", "c"], [(1, 2), b"x", {"k": {1}}])
    path.write_bytes(b"".join(encoded([pairs], writers.msgpack)))
    return path


def test_blocks_have_a_bounded_number_of_pairs(part):
    blocks = readers.msgpack.blocks(FileRange(str(part), 0, 1 << 20), Reading())
    assert [len(block.raw) for block in blocks] == [2, 1]


def test_a_value_that_looks_like_a_file_of_pairs_is_a_value(part):
    inner = part.read_bytes()
    part.write_bytes(b"".join(encoded([[(n, inner)] for n in range(3)], writers.msgpack)))
    for size in range(1, part.stat().st_size, 5):
        assert read_in(part, size) == [(n, inner) for n in range(3)]


def test_a_compressed_file_is_read_by_the_range_that_begins_at_0(part):
    expected = read_in(part, 1 << 20)
    packed = part.with_suffix(".bz2")
    packed.write_bytes(bz2.compress(part.read_bytes()))
    for size in (10, 1 << 20):
        assert read_in(packed, size) == expected


@pytest.mark.parametrize("size", [9, 40, 1 << 20])
def test_a_file_that_is_cut_short_at_any_byte_is_an_error(part, size):
    data = part.read_bytes()
    for length in range(1, len(data)):
        part.write_bytes(data[:length])
        with pytest.raises(AttemptFailed) as caught:
            read_in(part, size)
        assert caught.value.details["final"] is True
        assert caught.value.details["where"].startswith(f"{part}, offset ")


def test_a_file_with_any_byte_altered_is_an_error(part):
    data = part.read_bytes()
    for at in range(len(data)):
        part.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(AttemptFailed):
            read_in(part, 1 << 20)


def test_what_cannot_be_written_is_named():
    with pytest.raises(AttemptFailed, match="a object cannot be carried") as caught:
        list(encoded([[("a", 1), ("b", object())]], writers.msgpack))
    assert caught.value.details["where"] == "key 'b'"
