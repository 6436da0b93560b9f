"""Spills: what is written is read; damage anywhere shows; blocks stay small."""

from __future__ import annotations

import os
import random
import struct
import tempfile

import msgpack
import pytest
from carried import (
    blocks_of,
    groups_of,
    keys,
    read_spill,
    shape,
    steady,
    texts,
    values,
    write_spill,
)
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest as xxh3

from pytxmr.errors import SpillDamaged, Uncarryable
from pytxmr.records import spill
from pytxmr.records.columns import Groups
from pytxmr.records.spill import (
    BLOCK_HEADER,
    BlockChecker,
    PartitionRange,
    SpillWriter,
    index_path,
    open_spill,
    pack_block,
    read_blocks,
    remove_spill,
)

SMALL = [
    [("a", [1]), ("b", [2]), ("c", [3])],
    [],
    [((1, "x"), [None, "many", b"values"]), ((2, "y"), [[1, (2,)]])],
]


def joined(groups):
    """The groups, with those that go on in the next block made one."""
    found: list = []
    for key, some in groups:
        if found and shape(found[-1][0]) == shape(key):
            found[-1] = (key, found[-1][1] + some)
        else:
            found.append((key, some))
    return found


@steady(max_examples=40)
@given(
    st.lists(
        st.lists(
            st.tuples(st.one_of(texts, keys), st.lists(values, min_size=1, max_size=4)),
            max_size=5,
            unique_by=lambda group: shape(group[0]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([1, 2, 3, 32768]),
)
def test_a_spill_gives_back_what_was_written(partitions, most):
    with tempfile.TemporaryDirectory() as directory, blocks_of(most):
        path = write_spill(f"{directory}/spill", partitions)
        assert shape([joined(part) for part in read_spill(path)]) == shape(partitions)


def test_ranges_say_where_each_partition_lies_and_what_is_in_it(tmp_path):
    path = write_spill(tmp_path / "spill", SMALL)
    fd, ranges = open_spill(path)
    with open(fd, "rb"):
        assert [(part.keys, part.pairs) for part in ranges] == [(3, 3), (0, 0), (2, 4)]
        assert ranges[0].offset == 8
        assert ranges[1] == PartitionRange(0, 0, 0, 0)
        assert ranges[2].offset == ranges[0].offset + ranges[0].length
        assert ranges[2].offset + ranges[2].length == os.path.getsize(path) - 20


def test_an_empty_spill_is_a_spill(tmp_path):
    path = write_spill(tmp_path / "spill", [[], []])
    assert read_spill(path) == [[], []]


def short(data):
    return struct.pack("<I", xxh3(data) & 0xFFFFFFFF)


def header(keys, pairs):
    return spill.BlockHeader(0, 0, keys, pairs, 0)


def test_the_layout_on_disk_is_the_documented_one(tmp_path):
    path = write_spill(tmp_path / "spill", [[("a", [1]), ("b", [2])], [], [("c", [3, 4])]])

    def column(*values):
        return b"\x00" + msgpack.packb(values)

    def block(keys, pairs, packed_keys, counts, packed_values):
        payload = struct.pack("<II", len(packed_keys), len(counts))
        payload += packed_keys + counts + packed_values
        head = struct.pack("<IBBHIIQ", len(payload), 0, 0, 0, keys, pairs, xxh3(payload))
        return head + short(head) + payload

    first = block(2, 2, column("a", "b"), b"", column(1, 2))
    second = block(1, 2, column("c"), struct.pack("<I", 2), column(3, 4))
    footer = b"PXSPEND\x02" + struct.pack("<Q", 8 + len(first + second))
    expected = b"PXSPILL\x02" + first + second + footer + short(footer)
    with open(path, "rb") as file:
        assert file.read() == expected
    index = b"PXINDEX\x02" + struct.pack("<I", 3)
    index += struct.pack("<QQQQ", 8, len(first), 2, 2)
    index += struct.pack("<QQQQ", 0, 0, 0, 0)
    index += struct.pack("<QQQQ", 8 + len(first), len(second), 1, 2)
    with open(index_path(path), "rb") as file:
        assert file.read() == index + short(index)


@pytest.mark.parametrize("part", ["spill", "spill.index"])
def test_any_altered_byte_shows(tmp_path, part):
    with blocks_of(2):
        path = write_spill(tmp_path / "spill", SMALL)
    altered = tmp_path / part
    whole = altered.read_bytes()
    for at in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            altered.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            with pytest.raises(SpillDamaged):
                read_spill(path)
    altered.write_bytes(whole)
    assert sum(map(len, read_spill(path))) == 6


@pytest.mark.parametrize("part", ["spill", "spill.index"])
def test_any_truncation_shows(tmp_path, part):
    path = write_spill(tmp_path / "spill", SMALL)
    cut = tmp_path / part
    whole = cut.read_bytes()
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(SpillDamaged):
            open_spill(path)


@pytest.mark.parametrize("part", ["spill", "spill.index"])
def test_bytes_too_many_and_missing_files_show(tmp_path, part):
    path = write_spill(tmp_path / "spill", SMALL)
    with open(tmp_path / part, "ab") as file:
        file.write(b"\x00")
    with pytest.raises(SpillDamaged):
        open_spill(path)
    (tmp_path / part).unlink()
    with pytest.raises(SpillDamaged, match="No such file"):
        open_spill(path)


def test_the_index_of_another_spill_shows(tmp_path):
    longer = write_spill(tmp_path / "longer", [*SMALL, [("z", ["more" * 100])]])
    path = write_spill(tmp_path / "spill", SMALL)
    os.replace(index_path(longer), index_path(path))
    with pytest.raises(SpillDamaged):
        read_spill(path)


def test_a_damaged_spill_leaves_no_file_open(tmp_path):
    path = write_spill(tmp_path / "spill", SMALL)
    with open(path, "r+b") as file:
        file.truncate(100)
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        with pytest.raises(SpillDamaged):
            open_spill(path)
    assert len(os.listdir("/dev/fd")) == before


def test_a_range_that_ends_inside_a_block_shows(tmp_path):
    path = write_spill(tmp_path / "spill", SMALL)
    fd, ranges = open_spill(path)
    with open(fd, "rb"):
        for length in range(1, ranges[0].length):
            with pytest.raises(SpillDamaged):
                list(read_blocks(fd, ranges[0].offset, length))


def test_a_codec_of_a_later_version_is_refused(tmp_path):
    block = pack_block(["a"], None, [1])
    head = block[:4] + b"\x09" + block[5:24]
    (tmp_path / "block").write_bytes(head + short(head) + block[28:])
    with open(tmp_path / "block", "rb") as file:
        with pytest.raises(SpillDamaged, match="unknown codec 9"):
            list(read_blocks(file.fileno(), 0, len(block)))


@pytest.mark.parametrize(
    ("keys", "pairs"), [(1, 2), (2, 1), (3, 2), (2, 3)], ids=lambda number: str(number)
)
def test_a_block_that_does_not_hold_what_its_header_says_shows(keys, pairs):
    for counts in (None, [1, 1]):
        payload = pack_block(["a", "b"], counts, [1, 2])[BLOCK_HEADER.size :]
        with pytest.raises(SpillDamaged):
            spill.unpack_payload(payload, header(keys, pairs))


def test_counts_that_do_not_fit_the_keys_show():
    for counts in ([2], [1, 1, 1], [3, 1], [0, 2, 0]):
        payload = pack_block(["a", "b"], counts, [1, 2])[BLOCK_HEADER.size :]
        with pytest.raises(SpillDamaged):
            spill.unpack_payload(payload, header(2, 2))


def test_a_block_without_a_key_is_no_block():
    with pytest.raises(SpillDamaged):
        spill.unpack_payload(pack_block([], None, [])[BLOCK_HEADER.size :], header(0, 0))


def test_a_key_with_more_values_than_a_block_goes_on_in_the_next(tmp_path):
    with blocks_of(10):
        path = write_spill(
            tmp_path / "spill", [[("a", [0]), ("b", list(range(95))), ("c", [1, 2])]]
        )
    fd, (part,) = open_spill(path)
    with open(fd, "rb"):
        blocks = list(read_blocks(fd, part.offset, part.length))
    assert max(len(block.values) for block in blocks) <= 10
    with_b = [block for block in blocks if "b" in block.keys]
    assert len(with_b) == 10
    assert all(block.keys[0] == "b" for block in with_b[1:])
    groups = joined(group for block in blocks for group in groups_of(block))
    assert groups == [("a", [0]), ("b", list(range(95))), ("c", [1, 2])]


def test_blocks_keep_to_their_size_whatever_the_size_of_pairs(tmp_path):
    sizes = [1] * 20_000 + [3000] * 400 + [1] * 20_000
    path = write_spill(tmp_path / "spill", [[(n, ["x" * size]) for n, size in enumerate(sizes)]])
    fd, (part,) = open_spill(path)
    with open(fd, "rb"):
        lengths, offset = [], part.offset
        while offset < part.offset + part.length:
            size = spill.check_header(os.pread(fd, BLOCK_HEADER.size, offset)).payload_bytes
            lengths.append(size)
            offset += BLOCK_HEADER.size + size
        assert len(lengths) < 150
        assert sum(size > 2 * spill.BLOCK_BYTES for size in lengths) <= 2


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
@pytest.mark.parametrize(
    "sizes",
    [
        [1] * 9000 + [20_000] * 300 + [1] * 100,
        ([1] * 999 + [600_000]) * 6,
        [1_500_000, 1, 1_500_000],
        [40] * 30_000,
    ],
    ids=["suddenly large", "some large", "larger than a block", "what compresses well"],
)
@pytest.mark.parametrize("one_key", [False, True])
def test_no_block_is_larger_than_it_may_be_but_for_one_value(tmp_path, codec, sizes, one_key):
    written = [f"{n:04}" + "x" * size for n, size in enumerate(sizes)]
    number = len(written)
    keys_and_counts = ([0], [number]) if one_key else (list(range(number)), None)
    writer = SpillWriter(str(tmp_path / "spill"), 1, 1.0, codec)
    writer.write(0, Groups(*keys_and_counts, written))
    (part,) = writer.close()
    assert part.pairs == number
    fd, _ = open_spill(str(tmp_path / "spill"))
    found = []
    with open(fd, "rb"):
        for block in read_blocks(fd, part.offset, part.length):
            size = sum(map(len, block.values))
            assert size <= spill.MOST_BLOCK_BYTES or len(block.values) == 1
            found += block.values
    assert found == written


def test_abort_leaves_nothing(tmp_path):
    writer = SpillWriter(str(tmp_path / "spill"), 2)
    writer.write(0, Groups(["a"], None, [1]))
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Uncarryable):
        pack_block(["a"], None, [object()])


def test_abort_leaves_nothing_where_there_is_no_room_for_what_was_written(tmp_path):
    path = str(tmp_path / "spill")
    os.symlink("/dev/full", path)
    writer = SpillWriter(path, 1)
    writer.write(0, Groups(["a"], None, [1]))
    writer.abort()
    assert os.listdir(tmp_path) == []


def test_removing_twice_is_no_error(tmp_path):
    path = write_spill(tmp_path / "spill", SMALL)
    remove_spill(path)
    remove_spill(path)
    assert list(tmp_path.iterdir()) == []


def blocks_in(tmp_path):
    with blocks_of(2):
        path = write_spill(tmp_path / "spill", SMALL)
    with open(path, "rb") as file:
        return file.read()[8:-20]


def check(chunks):
    checker = BlockChecker()
    for chunk in chunks:
        checker.feed(chunk)
    checker.finish()


def test_blocks_can_be_checked_whole_byte_by_byte_and_in_any_cuts(tmp_path):
    data = blocks_in(tmp_path)
    check([])
    check([data])
    check([memoryview(data)])
    check(data[at : at + 1] for at in range(len(data)))
    for seed in range(50):
        drawn = random.Random(seed)
        cuts = sorted(drawn.choices(range(len(data) + 1), k=drawn.randrange(12)))
        check(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_checking_shows_any_altered_byte(tmp_path, chunk):
    data = blocks_in(tmp_path)
    for at in range(len(data)):
        bad = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        with pytest.raises(SpillDamaged):
            check(bad[start : start + chunk] for start in range(0, len(bad), chunk))


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_checking_shows_any_cut_but_between_blocks(tmp_path, chunk):
    data = blocks_in(tmp_path)
    ends, offset = {0}, 0
    while offset < len(data):
        found = spill.check_header(data[offset : offset + BLOCK_HEADER.size])
        offset += BLOCK_HEADER.size + found.payload_bytes
        ends.add(offset)
    assert len(ends) == 6
    for length in set(range(len(data))) - ends:
        with pytest.raises(SpillDamaged, match="cut short"):
            check(data[start : min(start + chunk, length)] for start in range(0, length, chunk))
    for length in ends:
        check([data[:length]])


def test_the_digest_of_a_spill_is_that_of_its_content(tmp_path):
    def digest(*partitions, codec="none"):
        writer = SpillWriter(str(tmp_path / "spill"), len(partitions), codec=codec)
        for partition, some in enumerate(partitions):
            if some:
                writer.write(partition, Groups(list(some), None, [1] * len(some)))
        writer.close()
        return writer.digest

    assert digest("ab", "c") == digest("ab", "c")
    found = [
        digest("ab", "c"),
        digest("abc", ""),
        digest("ab", "", "c"),
        digest("ab", "d"),
        digest("", ""),
    ]
    assert len(set(found)) == len(found)
    several = [bytes([n % 251]).hex() + str(n) for n in range(20_000)]
    assert digest(several) == digest(several) != digest(several[:-1])
