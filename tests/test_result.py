"""The pairs of a job's output, from its files."""

from __future__ import annotations

import gzip
import json

import pytest

from pytxmr import writers
from pytxmr.errors import AttemptFailed
from pytxmr.records.writers import encoded
from pytxmr.result import Result

PAIRS = [("a", (1, b"x")), (None, {"k": None}), (2, "line\nend")]


@pytest.fixture
def result(tmp_path):
    def written(*parts):
        for name, data in parts:
            (tmp_path / name).write_bytes(data)
        names = [{"name": name, "bytes": len(data)} for name, data in parts]
        (tmp_path / "_SUCCESS").write_text(json.dumps({"parts": names}))
        return Result(str(tmp_path), {}, {}, 0.0)

    return written


def test_pairs_that_were_written_with_their_types_come_back_with_them(result):
    data = b"".join(encoded([PAIRS], writers.msgpack))
    nothing = b"".join(encoded([], writers.msgpack))
    found = result(("part-00000", data), ("part-00001", nothing), ("part-00002", data))
    assert list(found) == PAIRS * 2
    assert list(found) == PAIRS * 2


def test_compressed_parts_are_read_as_what_is_in_them(result):
    data = b"".join(encoded([PAIRS], writers.msgpack))
    assert list(result(("part-00000.gz", gzip.compress(data)))) == PAIRS


def test_a_damaged_part_is_an_error(result):
    data = b"".join(encoded([PAIRS], writers.msgpack))
    with pytest.raises(AttemptFailed, match="cut short"):
        list(result(("part-00000", data[:-1])))


def test_lines_are_pairs_of_text(result):
    found = result(("part-00000", b"a\t1\n"), ("part-00001", b""), ("part-00002", b"alone\n\t2\n"))
    assert list(found) == [("a", "1"), ("alone", None), ("", "2")]
    assert list(found.lines()) == ["a\t1", "alone", "\t2"]
