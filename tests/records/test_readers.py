"""However a file is cut into ranges: every line once, at its own byte offset."""

from __future__ import annotations

import os
import random
import tempfile

import pytest
from carried import steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records import readers
from pytxmr.records.readers import line_blocks, split_lines, split_text

KINDS = (
    b"first\n\n\nan ordinary line\r\n\r\nlone \r in it\nends in two\r\r\n"
    b"\xff\xfe not UTF-8 \x80\nna\xc3\xafve\n" + b"long " * 40 + b"\n\n\x00\x0b\x0c\x1c\xc2\x85\n"
    b"after\r\nno newline at the end"
)
ENDINGS = {
    "without a newline at the end": KINDS,
    "with one": KINDS + b"\n",
    "with CRLF": KINDS + b"\r\n",
    "with a lone CR": KINDS + b"\r",
    "with an empty line": KINDS + b"\n\n",
    "plain": b"one\ntwo\n\nthree\n",
    "one line": b"x" * 50,
    "only newlines": b"\n" * 20,
    "only CRLF": b"\r\n" * 10,
    "empty": b"",
}


def lines_of(data):
    """``(offset, line)`` of all lines, found by looking at one byte after the other."""
    found, start = [], 0
    for at in range(len(data)):
        if data[at : at + 1] == b"\n":
            end = at - 1 if data[start:at].endswith(b"\r") else at
            found.append((start, data[start:end]))
            start = at + 1
    return found + ([(start, data[start:])] if start < len(data) else [])


def read(path, ranges):
    """The lines of ranges, as bytes; asserts that as text they are the same."""
    found = []
    for start, end in ranges:
        for offset, data in line_blocks(FileRange(str(path), start, end)):
            lines = list(zip(*split_lines(offset, data), strict=False))
            as_text = list(zip(*split_text(offset, data), strict=False))
            assert as_text == [(at, line.decode("utf-8", "surrogateescape")) for at, line in lines]
            assert all(start <= at < end for at, _ in lines)
            found += lines
    return found


def every(size, length):
    return [(start, min(start + size, length)) for start in range(0, length, size)]


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64, 1 << 20])
def test_splits_of_any_size_give_every_line_once(tmp_path, monkeypatch, name, chunk_bytes):
    monkeypatch.setattr(readers, "CHUNK_BYTES", chunk_bytes)
    data = ENDINGS[name]
    path = tmp_path / "in"
    path.write_bytes(data)
    expected = lines_of(data)
    for size in range(1, len(data) + 2):
        assert read(path, every(size, len(data))) == expected


@pytest.mark.parametrize("name", ENDINGS)
def test_lines_are_the_ones_that_python_finds(name):
    data = ENDINGS[name]
    assert lines_of(data) == [
        (offset, line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line)
        for offset, line in offsets_and_lines(data)
    ]


def offsets_and_lines(data):
    offset = 0
    for line in data.split(b"\n"):
        whole = data[offset : offset + len(line) + 1]
        if whole:
            yield offset, whole
        offset += len(line) + 1


def test_lines_far_longer_than_what_is_read_at_a_time(tmp_path, monkeypatch):
    lengths = [(1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3, (1 << 17) + 5, 0, 1 << 18, 1]
    data = b"\n".join(bytes([97 + n]) * length for n, length in enumerate(lengths))
    path = tmp_path / "in"
    path.write_bytes(data)
    expected = lines_of(data)
    ends = [offset + len(line) for offset, line in expected]
    cuts = sorted({max(0, end + near) for end in ends for near in (-1, 0, 1, 2)})
    for chunk_bytes in (1, 1000, 1 << 16, 1 << 20):
        monkeypatch.setattr(readers, "CHUNK_BYTES", chunk_bytes)
        assert read(path, zip([0, *cuts], [*cuts, len(data)], strict=True)) == expected
        for size in (10_000, 1 << 16, (1 << 16) + 1, len(data)):
            assert read(path, every(size, len(data))) == expected


@steady(max_examples=150)
@given(
    st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\xff", b"\xc3\xa9", b"\x00"])),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_any_bytes_in_any_cuts(pieces, chunk_bytes, cut_count):
    data = b"".join(pieces)
    drawn = random.Random(cut_count)
    cuts = sorted(drawn.choices(range(len(data) + 1), k=cut_count))
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "CHUNK_BYTES", chunk_bytes)
        path = os.path.join(directory, "in")
        with open(path, "wb") as file:
            file.write(data)
        assert read(path, zip([0, *cuts], [*cuts, len(data)], strict=True)) == lines_of(data)


@steady(max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 10**12))
def test_offsets_count_bytes_from_where_the_data_lies(data, base):
    expected = [(base + offset, line) for offset, line in lines_of(data)]
    assert list(zip(*split_lines(base, data), strict=False)) == expected


def test_decoding_loses_no_byte():
    data = bytes(range(11, 256)) + b"\n"
    _, (line,) = split_text(0, data)
    assert line.encode("utf-8", "surrogateescape") == data[:-1]


def test_a_range_is_read_in_blocks_of_whole_lines(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"ten bytes\n" * 1000)
    blocks = list(line_blocks(FileRange(str(path), 0, 10_000), 100))
    assert [offset for offset, _ in blocks] == list(range(0, 10_000, 100))
    assert {len(data) for _, data in blocks} == {100}


def test_a_file_that_became_shorter_ends_where_it_ends(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"one\ntwo\n")
    assert read(path, [(0, 4), (4, 900), (900, 1000)]) == [(0, b"one"), (4, b"two")]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(AttemptFailed) as caught:
            list(line_blocks(FileRange(str(path), 0, 1)))
        assert str(path) in caught.value.message
        assert caught.value.details["where"] == str(path)
