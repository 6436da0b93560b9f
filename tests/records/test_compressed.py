"""Compressed files, however they are cut: every line once; damage is told, and nothing is lost."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from itertools import pairwise

import pytest

from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records import compressed, readers
from pytxmr.records.compressed import CUT, LIBRARIES, format_of, frame_starts
from pytxmr.records.readers import KEY_BITS, Reading, line_blocks, open_range, split_lines

SUFFIX = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "lz4": ".lz4", "zstd": ".zst"}
KINDS = list(LIBRARIES)
AWKWARD = (
    b"first\n\n\nends in CRLF\r\nnot UTF-8 \xff\xfe\n" + b"long " * 30 + b"\n\n\x00\x0c\n"
    b"exactly sixteen.\n" * 3 + b"no newline at the end"
)


def member(kind, data):
    if kind == "gzip":
        return gzip.compress(data)
    if kind == "bzip2":
        return bz2.compress(data)
    if kind == "xz":
        return lzma.compress(data)
    if kind == "lz4":
        return pytest.importorskip("lz4.frame").compress(data)
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


def members(kind, data, size):
    """``data`` as many members, of ``size`` bytes each."""
    return b"".join(member(kind, data[at : at + size]) for at in range(0, len(data), size))


@pytest.fixture
def stored(tmp_path):
    def store(kind, content, name="in"):
        path = tmp_path / f"{name}{SUFFIX.get(kind, '')}"
        path.write_bytes(content)
        return str(path)

    return store


def lines(path, start, end, chunk_bytes=0):
    return [
        line
        for offset, data in line_blocks(FileRange(path, start, end), chunk_bytes)
        for line in zip(*split_lines(offset, data), strict=False)
    ]


def in_order(path, cuts, chunk_bytes=0):
    """All lines of a file that is cut at these offsets; asserts that their keys rise."""
    found = [line for start, end in pairwise(cuts) for line in lines(path, start, end, chunk_bytes)]
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys))
    return [line for _, line in found]


def as_bytes(data):
    return [line for _, line in zip(*split_lines(0, data), strict=False)]


# ---- what is read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_file_of_any_number_of_members_is_read_as_what_is_in_it(stored, kind, size):
    content = members(kind, AWKWARD, size)
    path = stored(kind, content)
    expected = list(zip(*split_lines(0, AWKWARD), strict=False))
    assert lines(path, 0, len(content)) == expected
    assert lines(path, 0, len(content), chunk_bytes=3) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_known_by_how_it_begins_whatever_it_is_called(stored, kind):
    content = member(kind, AWKWARD)
    assert in_order(stored(None, content, "data.txt"), [0, len(content)]) == as_bytes(AWKWARD)


def test_a_file_that_is_named_as_compressed_and_is_not_is_an_error(stored):
    for name in ("in.gz", "in.GZ", "in.bz2", "in.xz", "in.lz4", "in.zst", "in.zstd"):
        with pytest.raises(AttemptFailed, match=f"{name}: it is named as .*, and does not") as told:
            lines(stored(None, b"plain text\n", name), 0, 11)
        assert told.value.details["final"]


def test_text_that_begins_with_part_of_a_magic_is_text():
    for head in (b"", b"B", b"BZh9", b"BZh9 is text", b"(\xb5", b"\x1f\x8b", b"\xfd7zXZ"):
        assert format_of("name.txt", head) is None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - CUT))
def test_of_a_file_that_cannot_be_cut_the_first_range_has_all(stored, kind):
    content = members(kind, AWKWARD, 50)
    path = stored(kind, content)
    for cut in range(1, len(content)):
        assert in_order(path, [0, cut, len(content)]) == as_bytes(AWKWARD)


@pytest.mark.parametrize("kind", sorted(CUT))
@pytest.mark.parametrize("size", [2, 17, 40])
def test_however_a_file_of_many_frames_is_cut_every_line_comes_once(stored, kind, size):
    content = members(kind, AWKWARD, size)
    path = stored(kind, content)
    step = max(1, len(content) // 40)
    for width in {1, *range(1, len(content) + step, step)}:
        cuts = [*range(0, len(content), width), len(content)]
        if len(cuts) < 100:
            assert in_order(path, cuts, chunk_bytes=5) == as_bytes(AWKWARD)


@pytest.mark.parametrize("kind", sorted(CUT))
def test_a_line_that_spans_whole_ranges_comes_once(stored, kind):
    data = b"a\n" + b"x" * 500 + b"\nb\n"
    content = members(kind, data, 20)
    path = stored(kind, content)
    for width in (1 << 5, 1 << 6, 1 << 7):
        assert in_order(path, [*range(0, len(content), width), len(content)]) == as_bytes(data)


def many_lines(seed=1, count=30_000):
    drawn = random.Random(seed)
    return b"".join(b"%x\n" % drawn.getrandbits(drawn.choice((8, 40, 90))) for _ in range(count))


def test_bzip2_is_cut_at_blocks_that_begin_at_any_bit(stored, monkeypatch):
    data = many_lines()
    content = bz2.compress(data, 1) + bz2.compress(data[:1000], 1)
    assert len(data) > 300_000  # four blocks of 100 kB
    path = stored("bzip2", content)
    source = compressed._Source(open(path, "rb"), path, "bzip2")
    starts = [at for at, _ in compressed._bits_of_blocks(source, 0, len(content))]
    assert len(starts) == 5
    near = {max(0, at + by) for at in starts for by in (-1, 0, 1)}
    drawn = random.Random(2)
    for read_bytes in (100, 10_000, 1 << 18):
        monkeypatch.setattr(compressed, "_READ_BYTES", read_bytes)
        for _ in range(10):
            some = drawn.choices(range(1, len(content)), k=3)
            cuts = sorted({0, len(content), *some, *drawn.choices(sorted(near), k=3)})
            assert in_order(path, cuts) == as_bytes(data) + as_bytes(data[:1000])


@pytest.mark.parametrize("kind", ["lz4", "zstd"])
def test_frames_are_found_from_their_headers_alone(stored, kind):
    parts = [member(kind, many_lines(n, 20_000)) for n in range(4)]
    skippable = b"\x5a\x2a\x4d\x18" + (1000).to_bytes(4, "little") + parts[0][:1000]
    content = b"".join([parts[0], skippable, *parts[1:]])
    path = stored(kind, content)
    starts = [0, len(parts[0]), len(parts[0]) + len(skippable)]
    for part in parts[1:-1]:
        starts.append(starts[-1] + len(part))
    with open(path, "rb") as file:
        assert list(frame_starts(file, path, kind)) == starts
    expected = [line for n in range(4) for line in as_bytes(many_lines(n, 20_000))]
    assert in_order(path, [*starts, len(content)]) == expected
    assert in_order(path, [*range(0, len(content), 9999), len(content)]) == expected


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_every_header_of_a_zstd_frame_is_understood(stored, checksum, known):
    zstandard = pytest.importorskip("zstandard")
    content = b""
    for size in (0, 1, 255, 256, 65_791, 65_792, 400_000):
        compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=known)
        content += compressor.compress(many_lines(size)[:size])
    path = stored("zstd", content)
    with open(path, "rb") as file:
        assert len(list(frame_starts(file, path, "zstd"))) == 7
    whole = b"".join(many_lines(n)[:n] for n in (0, 1, 255, 256, 65_791, 65_792, 400_000))
    with open_range(FileRange(path, 0, len(content))) as file:
        assert file.read(1 << 30) == whole


@pytest.mark.parametrize("content_checksum", [False, True])
@pytest.mark.parametrize("block_checksum", [False, True])
@pytest.mark.parametrize("store_size", [False, True])
def test_every_header_of_an_lz4_frame_is_understood(
    stored, content_checksum, block_checksum, store_size
):
    lz4 = pytest.importorskip("lz4.frame")
    data = many_lines() + random.Random(3).randbytes(200_000)
    frame = lz4.compress(
        data,
        content_checksum=content_checksum,
        block_checksum=block_checksum,
        store_size=store_size,
    )
    path = stored("lz4", frame * 2)
    with open(path, "rb") as file:
        assert list(frame_starts(file, path, "lz4")) == [0, len(frame)]
    with open_range(FileRange(path, 0, 2 * len(frame))) as file:
        assert file.read(1 << 30) == data * 2


@pytest.mark.parametrize("kind", sorted(CUT))
def test_the_key_of_a_line_in_a_file_that_is_cut_says_where_its_range_begins(stored, kind):
    content = members(kind, b"one\ntwo\n", 4)
    cut = len(member(kind, b"one\n"))
    path = stored(kind, content)
    assert lines(path, 0, cut) == [(0, b"one"), (4, b"two")]
    assert lines(path, cut, len(content)) == []
    content += member(kind, b"three\nfour\n")
    path = stored(kind, content)
    assert lines(path, cut, len(content)) == [
        ((cut << KEY_BITS) + 4, b"three"),
        ((cut << KEY_BITS) + 10, b"four"),
    ]


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_zeros_that_fill_a_file_up_are_passed_over(stored, kind):
    content = member(kind, b"one\n") + b"\0" * 512 + member(kind, b"two\n") + b"\0" * 1024
    assert in_order(stored(kind, content), [0, len(content)]) == [b"one", b"two"]


# ---- what is damaged


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_never_a_shorter_input(stored, kind):
    data = many_lines(count=40)
    one = member(kind, data)
    for length in range(len(one) + 1, 2 * len(one), 3):
        path = stored(kind, (one * 2)[:length])
        with pytest.raises(AttemptFailed) as told:
            lines(path, 0, length)
        assert path in told.value.message
        assert str(len(one)) in told.value.details["where"]
        assert told.value.details["final"]


@pytest.mark.parametrize("kind", sorted(CUT))
def test_a_range_of_a_file_that_is_cut_short_is_never_a_shorter_input(stored, kind):
    data = many_lines(count=40)
    one = member(kind, data)
    for length in range(len(one) + 12, 2 * len(one), 3):
        path = stored(kind, (one * 2)[:length])
        with pytest.raises(AttemptFailed) as told:
            lines(path, 1, length)
        assert path in told.value.message
        assert told.value.details["final"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_that_was_altered_is_told_or_does_no_harm(stored, kind):
    data = many_lines(count=40)
    if kind == "lz4":
        content = pytest.importorskip("lz4.frame").compress(data, content_checksum=True)
    elif kind == "zstd":
        zstandard = pytest.importorskip("zstandard")
        content = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    else:
        content = member(kind, data)
    told = 0
    for at in range(len(content)):
        wrong = bytearray(content)
        wrong[at] ^= 1 << at % 8
        try:
            assert in_order(stored(kind, wrong), [0, len(content)]) == as_bytes(data)
        except AttemptFailed:
            told += 1
    assert told > 0.9 * len(content)


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_the_last_member_and_is_none_is_told(stored, kind):
    content = member(kind, b"one\n") + b"trailing rubbish\n"
    with pytest.raises(AttemptFailed) as told:
        lines(stored(kind, content), 0, len(content))
    assert str(len(member(kind, b"one\n"))) in told.value.details["where"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_read_piece_by_piece(stored, kind):
    content = member(kind, b"\n" * (50 << 20))
    with open_range(FileRange(stored(kind, content), 0, len(content))) as file:
        largest = total = 0
        for piece in file._pieces:
            largest = max(largest, len(piece))
            total += len(piece)
    assert total == 50 << 20
    assert largest <= 1 << 20


def test_a_library_that_is_not_installed_is_named(stored, monkeypatch):
    for kind, module in (("lz4", "lz4.frame"), ("zstd", "zstandard")):
        content = member(kind, b"one\n")
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(AttemptFailed, match=rf"pip install 'pytxmr\[{kind}\]'") as told:
            lines(stored(kind, content), 0, len(content))
        assert told.value.details["final"]


# ---- the file of a range


def test_a_plain_file_can_be_read_anywhere(stored):
    with open_range(FileRange(stored(None, b"0123456789"), 2, 5)) as file:
        assert (file.start, file.end, file.key_base) == (2, 5, 0)
        file.seek(8)
        assert file.read(10) == b"89"
        file.seek(1)
        assert file.read(2) == b"12"


def test_a_compressed_file_can_be_read_again_from_within_what_was_just_read(stored):
    content = gzip.compress(b"0123456789")
    with open_range(FileRange(stored("gzip", content), 0, len(content))) as file:
        assert (file.start, file.end, file.key_base) == (0, sys.maxsize, 0)
        assert file.read(4) == b"0123"
        file.seek(1)
        assert file.read(2) == b"12"
        assert file.read(2) == b"34"
        with pytest.raises(OSError, match="only be read forward"):
            file.seek(0)
        assert file.read(100) == b"56789"
        assert file.read(100) == b""


def test_a_read_ends_where_the_range_turns_out_to_end(stored):
    content = members("bzip2", b"0123456789", 4)
    with open_range(FileRange(stored("bzip2", content), 0, 50)) as file:
        assert file.end == sys.maxsize
        assert file.read(100) == b"01234567"
        assert file.end == 9
        assert file.read(100) == b"8"
        assert file.read(100) == b"9"


def test_what_fails_while_a_file_is_open_names_it(stored):
    path = stored(None, b"text")
    with pytest.raises(AttemptFailed, match="in: Input/output error"):
        with open_range(FileRange(path, 0, 4)):
            raise OSError(5, "Input/output error")


def test_reading_plain_text_asks_the_file_for_nothing_more_than_its_bytes():
    assert readers._Plain.read is readers.FileIO.read


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_how_far_the_reading_is_counts_bytes_as_they_are_stored(stored, kind, monkeypatch):
    monkeypatch.setattr(compressed, "_READ_BYTES", 10_000)
    data = many_lines()
    content = data if kind is None else members(kind, data, 50_000)
    path = stored(kind, content)
    whole = [0, len(content)]
    for cuts in (
        [whole] if kind in ("gzip", "xz") else [whole, [0, len(content) // 2, len(content)]]
    ):
        reading = Reading()
        seen = [0]
        for start, end in pairwise(cuts):
            for _ in line_blocks(FileRange(path, start, end), 10_000, reading):
                seen.append(reading.done)
        assert seen == sorted(seen)
        assert 0.9 * len(content) <= seen[-1] <= len(content)
        assert len(set(seen)) >= 3


# ---- what is written


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back_and_is_the_same_every_time(stored, kind, monkeypatch):
    pytest.importorskip(LIBRARIES[kind])
    monkeypatch.setattr(compressed, "FRAME_BYTES", 100_000)
    data = many_lines()
    pieces = [data[at : at + 3000] for at in range(0, len(data), 3000)]
    content = b"".join(compressed.compressed(pieces, kind))
    assert content == b"".join(compressed.compressed(pieces, kind))
    path = stored(kind, content)
    assert in_order(path, [0, len(content)]) == as_bytes(data)
    if kind in ("lz4", "zstd"):
        with open(path, "rb") as file:
            assert len(list(frame_starts(file, path, kind))) == -(-len(data) // 102_000)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_of_nothing_is_a_file_of_nothing(stored, kind):
    pytest.importorskip(LIBRARIES[kind])
    content = b"".join(compressed.compressed([], kind))
    assert content
    assert in_order(stored(kind, content), [0, len(content)]) == []
