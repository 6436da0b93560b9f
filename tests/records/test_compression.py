"""Payloads may be compressed, and come back as they were."""

from __future__ import annotations

import sys

import pytest

from pytxmr.errors import AttemptFailed, SpillDamaged
from pytxmr.records import compression
from pytxmr.records.columns import Groups
from pytxmr.records.compression import CODECS, compressor, decompress
from pytxmr.records.spill import BLOCK_HEADER, SpillWriter, check_header, open_spill, read_blocks

COMPRESSED = [name for name in CODECS if name != "none"]


def spill_of(path, codec, values):
    writer = SpillWriter(str(path), 1, codec=codec)
    writer.write(0, Groups(["key"], [len(values)], values))
    (part,) = writer.close()
    return part


def read_back(path):
    fd, (part,) = open_spill(str(path))
    with open(fd, "rb"):
        return [v for b in read_blocks(fd, part.offset, part.length) for v in b.values]


@pytest.mark.parametrize("codec", CODECS)
def test_a_spill_of_any_codec_gives_back_its_values(tmp_path, codec):
    values = [f"value {number}" for number in range(50_000)]
    spill_of(tmp_path / "spill", codec, values)
    assert read_back(tmp_path / "spill") == values


@pytest.mark.parametrize("codec", COMPRESSED)
def test_what_repeats_itself_takes_less_room(tmp_path, codec):
    values = ["the same again"] * 10_000
    stored = spill_of(tmp_path / "stored", "none", values).length
    assert spill_of(tmp_path / "smaller", codec, values).length < stored / 5


@pytest.mark.parametrize("codec", COMPRESSED)
def test_what_does_not_shrink_is_stored(tmp_path, codec):
    spill_of(tmp_path / "spill", codec, ["x"])
    data = (tmp_path / "spill").read_bytes()
    assert check_header(data[8 : 8 + BLOCK_HEADER.size]).codec == compression.STORED
    assert read_back(tmp_path / "spill") == ["x"]


@pytest.mark.parametrize("codec", COMPRESSED)
def test_what_does_not_decompress_is_damage(codec):
    number, payload = compressor(codec)(b"again and " * 1000)
    assert number == CODECS[codec][0]
    assert decompress(number, payload) == b"again and " * 1000
    for bad in (b"", b"\xff" * 40, payload[:-3]):
        with pytest.raises(SpillDamaged, match="decompress"):
            decompress(number, bad)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_codec_that_is_not_installed_says_what_to_install(monkeypatch, codec):
    number, payload = compressor(codec)(b"again and " * 1000)
    monkeypatch.setitem(sys.modules, CODECS[codec][1], None)
    compression._functions.cache_clear()
    assert compression.missing(codec) == f"pytxmr[{codec}]"
    with pytest.raises(AttemptFailed, match=f"pip install 'pytxmr.{codec}.'"):
        decompress(number, payload)
    with pytest.raises(AttemptFailed, match=f"pip install 'pytxmr.{codec}.'"):
        compressor(codec)
    monkeypatch.undo()
    assert compression.missing(codec) is None
    assert compression.missing("none") is None
