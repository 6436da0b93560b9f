"""Parquet and Arrow files: every row once, in splits of any size, and rows written as they were."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys

import pytest

from pytxmr import readers, writers
from pytxmr.errors import AttemptFailed, BadJob
from pytxmr.model import FileRange
from pytxmr.records import arrowformats
from pytxmr.records.columns import columns
from pytxmr.records.formats import decoded
from pytxmr.records.readers import Reading
from pytxmr.records.writers import encoded

# `make test` installs the extra, so that there nothing is passed over.
if "PYTXMR_TEST_INSTALLED" in os.environ:
    import pyarrow
else:
    pyarrow = pytest.importorskip("pyarrow")

from pyarrow import ipc, parquet  # noqa: E402

ROWS = [{"n": n, "text": f"é{n}" * (n % 7), "list": list(range(n % 3))} for n in range(100)]
TABLE = pyarrow.Table.from_pylist(ROWS)


@pytest.fixture
def parquet_file(tmp_path):
    path = tmp_path / "in.parquet"
    parquet.write_table(TABLE, path, row_group_size=7)
    return path


@pytest.fixture
def arrow_file(tmp_path):
    path = tmp_path / "in.arrow"
    with ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=9)
    return path


FILES = {"parquet": readers.parquet, "arrow": readers.arrow}


@pytest.fixture(params=FILES)
def file(request):
    return FILES[request.param], request.getfixturevalue(f"{request.param}_file")


def read(reader, path, start, end):
    part = FileRange(str(path), start, end)
    found = []
    for block in reader.blocks(part, Reading()):
        assert block.size >= 0
        found += zip(*decoded(reader, part, block), strict=True)
    return found


def read_in(reader, path, size):
    length = os.path.getsize(path)
    return [
        pair for at in range(0, length, size) for pair in read(reader, path, at, at + size)
    ]  # fmt: skip


def test_rows_are_dicts_under_their_numbers_in_splits_of_any_size(file, monkeypatch):
    reader, path = file
    large = (333, 1000, 1 << 20)
    for rows, sizes in ((4096, (1, 10, *large)), (2, large)):
        monkeypatch.setattr(arrowformats, "_ROWS", rows)
        for size in sizes:
            assert read_in(reader, path, size) == list(enumerate(ROWS))


def test_splits_share_the_rows(file):
    reader, path = file
    ranges = range(0, os.path.getsize(path), 1000)
    assert max(len(read(reader, path, at, at + 1000)) for at in ranges) < 80


def test_only_the_columns_that_are_named_are_read_in_their_order(file):
    reader, path = file
    found = read_in(reader(columns=["text", "n"]), path, 1 << 20)
    assert found == [(n, {"text": row["text"], "n": row["n"]}) for n, row in enumerate(ROWS)]


def test_a_column_that_the_file_has_not_is_named(file):
    reader, path = file
    with pytest.raises(AttemptFailed, match="it has no column name, but n, text, list") as caught:
        read_in(reader(columns=["name"]), path, 1 << 20)
    assert caught.value.details["where"] == str(path)


def test_another_kind_of_file_is_named(file):
    reader, path = file
    path.write_bytes(b"item,price\nrope,12\n" * 10)
    with pytest.raises(AttemptFailed, match=f"{reader.name} cannot read {path}") as caught:
        read_in(reader, path, 1 << 20)
    assert caught.value.details["final"] is True


def test_a_compressed_file_is_refused(file, tmp_path):
    reader, path = file
    import gzip

    packed = tmp_path / "in.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(AttemptFailed, match="it is compressed"):
        read_in(reader, packed, 1 << 20)


class Distant:
    """A remote file, as readers have it."""

    def __init__(self, path):
        self._file = open(path, "rb")
        self.size = lambda: os.path.getsize(path)
        self.seek = self._file.seek

    def read(self, size):
        return self._file.read(min(size, 100))


def test_a_remote_file_is_read_as_a_local_one(parquet_file, arrow_file):
    remote = arrowformats._seekable(Distant(parquet_file))
    assert parquet.ParquetFile(remote).read().to_pylist() == ROWS
    remote = pyarrow.PythonFile(arrowformats._seekable(Distant(arrow_file)), "r")
    assert ipc.open_file(remote).read_all().to_pylist() == ROWS


def test_a_file_without_rows_has_none(tmp_path):
    path = tmp_path / "in"
    parquet.write_table(TABLE.slice(0, 0), path)
    assert read_in(readers.parquet, path, 10) == []
    with ipc.new_file(path, TABLE.schema):
        pass
    assert read_in(readers.arrow, path, 10) == []


# Writing


def written(writer, *pairs):
    """The rows that are written of pairs, which must not depend on how they come."""
    as_list = b"".join(encoded([list(pairs)], writer))
    as_columns = columns([key for key, _ in pairs], [value for _, value in pairs])
    assert b"".join(encoded([as_columns], writer)) == as_list
    return parquet.read_table(io.BytesIO(as_list))


def test_a_row_is_a_dict_or_key_and_value():
    table = written(writers.parquet, ("a", 1), ("b", 2))
    assert table.to_pylist() == [{"key": "a", "value": 1}, {"key": "b", "value": 2}]
    assert written(writers.parquet, (None, {"x": 1}), (None, {"x": 2, "y": "z"})).to_pylist() == [
        {"x": 1, "y": None}, {"x": 2, "y": "z"}
    ]  # fmt: skip
    assert written(writers.parquet, ("a", {"x": 1})).to_pylist() == [{"key": "a", "x": 1}]


def test_a_schema_says_order_and_types_also_of_a_file_without_rows():
    writer = writers.parquet(schema={"value": "double", "key": "string"})
    kinds = pyarrow.schema([("value", "double"), ("key", "string")])
    table = written(writer, ("a", 1), ("b", 2.5))
    assert table.schema == kinds
    assert table.to_pylist() == [{"value": 1.0, "key": "a"}, {"value": 2.5, "key": "b"}]
    assert written(writer).schema == kinds
    assert written(writers.parquet(schema=kinds)).schema == kinds
    assert written(writers.parquet).num_rows == 0


def test_values_are_made_what_the_schema_says_only_if_nothing_is_lost():
    writer = writers.parquet(schema={"key": "uint64", "value": "double"})
    assert written(writer, (2**64 - 1, 1), (1, None)).to_pylist() == [
        {"key": 2**64 - 1, "value": 1.0}, {"key": 1, "value": None}
    ]  # fmt: skip


def test_row_groups_are_written_as_they_fill(monkeypatch):
    monkeypatch.setattr(arrowformats, "_ROWS", 10)
    monkeypatch.setattr(arrowformats, "_GROUP_BYTES", 400)
    chunks = [[(None, row) for row in ROWS[at : at + 25]] for at in range(0, 100, 25)]
    pieces = list(encoded(chunks, writers.parquet))
    assert len(pieces) > 3
    file = parquet.ParquetFile(io.BytesIO(b"".join(pieces)))
    assert file.num_row_groups == len(pieces) - 1
    assert file.read().to_pylist() == ROWS


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "part-00000"
    path.write_bytes(b"".join(encoded([[(None, row) for row in ROWS]], writers.parquet)))
    assert read_in(readers.parquet, path, 100) == list(enumerate(ROWS))


@pytest.mark.parametrize(
    ("writer", "value", "text"),
    [
        (writers.parquet, "text", r"writers.parquet\(schema=...\) names the types"),
        (writers.parquet, {"key": 1}, "it has a column 'key' beside its key"),
        (writers.parquet(schema={"value": "int64", "key": "string"}), 2.5, "2.5.* truncated"),
        (writers.parquet(schema={"value": "int64", "key": "string"}), {"m": 1}, "no column 'm'"),
    ],
)
def test_what_does_not_fit_is_named(writer, value, text):
    with pytest.raises(AttemptFailed, match=text) as caught:
        list(encoded([[("a", 1)], [("b", 2), ("c", value), ("d", 3)]], writer))
    assert caught.value.details["where"] == "key 'c'"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: writers.parquet(schema={"n": "integer"}), "'integer' is no type"),
        (lambda: writers.parquet(compression="zip"), "'zip' is unknown"),
        (lambda: readers.parquet(columns="n"), "it is a list of names"),
    ],
)
def test_options_that_make_no_sense_are_refused_where_they_are_given(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_every_type_that_may_be_named_is_one_of_arrows():
    for name in arrowformats._TYPES:
        assert isinstance(pyarrow.type_for_alias(name), pyarrow.DataType)


def test_without_the_library_a_job_is_refused_with_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for found in (readers.parquet, readers.arrow, writers.parquet):
        with pytest.raises(BadJob, match=r"pip install 'pytxmr\[arrow\]'"):
            found.check()


def test_the_library_is_imported_when_it_is_used():
    code = "import sys\nfrom pytxmr import readers, writers\nreaders.parquet.check()\n"
    code += "writers.parquet(schema={'n': 'int64'}).check()\nprint('pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"False\n", done.stderr
