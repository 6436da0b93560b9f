"""However files are cut into ranges, a ready-made reader gives every record exactly once."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import random
import tempfile

import pytest
from attempts import functions, run, splits_of
from carried import steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr import readers
from pytxmr.errors import AttemptFailed, BadJob, Undecodable
from pytxmr.model import FileRange, InputSplit
from pytxmr.records import rawreaders, textreaders
from pytxmr.records.attempt import Outcome
from pytxmr.records.formats import decoded
from pytxmr.records.mapping import run_map
from pytxmr.records.quarantine import Quarantine, UserCode
from pytxmr.records.readers import Reading

BOM = b"\xef\xbb\xbf"


def read(reader, path, start, end, counted=True):
    """The records of a range; each must begin in it, unless the reader knows only whole files."""
    part = FileRange(str(path), start, end)
    found = []
    for block in reader.blocks(part, Reading()):
        assert block.size >= 0
        assert len(block.places) == len(block.raw)
        if counted and not reader.whole_files:
            assert all(start <= place < end for place in block.places)
        keys, values = decoded(reader, part, block)
        found += zip(keys, values, strict=True)
    return found


def read_all(reader, path, data, size=0):
    path.write_bytes(data)
    size = size or len(data) or 1
    ranges = range(0, len(data), size)
    return [pair for at in ranges for pair in read(reader, path, at, min(at + size, len(data)))]


def records(reader, data, tmp_path):
    """The records of a file, which must be the same for splits of every size."""
    path = tmp_path / "in"
    found = read_all(reader, path, data)
    for size in range(1, len(data)):
        assert read_all(reader, path, data, size) == found, size
    return found


def values(reader, data, tmp_path):
    return [value for _, value in records(reader, data, tmp_path)]


# What each of them reads


def test_bytes_are_lines_without_their_ends(tmp_path):
    data = b"one\n\xff\r\n\nlast"
    assert records(readers.bytes, data, tmp_path) == [
        (0, b"one"), (4, b"\xff"), (7, b""), (8, b"last")
    ]  # fmt: skip


def test_pairs_are_what_stands_before_and_after_the_first_tab(tmp_path):
    data = "a\t1\nalone\nb\tx\ty\n\té\n\n".encode()
    assert records(readers.pairs, data, tmp_path) == [
        ("a", "1"), ("alone", None), ("b", "x\ty"), ("", "é"), ("", None)
    ]  # fmt: skip


def test_json_is_a_value_a_line_and_blank_lines_are_none(tmp_path):
    data = b'{"a": [1, 2.5]}\n\n  \n "text" \r\n7\nnull\n["\xff", "\\u00e9"]'
    assert records(readers.json, data, tmp_path) == [
        (0, {"a": [1, 2.5]}), (20, "text"), (30, 7), (32, None), (37, ["\udcff", "é"])
    ]  # fmt: skip


@pytest.mark.parametrize(
    "damaged", ["nope", "{", '{"a": 1', "1 2", "1,2", "[1", '"open', "1 // one", "\\x", "[" * 10**5]
)
def test_a_line_that_is_not_json_is_named(tmp_path, damaged):
    data = f'1\n"two"\n{damaged}\n4\n'.encode()
    with pytest.raises(Undecodable, match="readers.json cannot read a record: ") as caught:
        read_all(readers.json, tmp_path / "in", data)
    assert caught.value.details["final"] is True
    where = f"{tmp_path / 'in'}, offset 8, record {damaged!r:.400}"
    assert caught.value.details["where"] == where


def test_two_lines_that_are_json_only_together_are_not_taken_for_it(tmp_path):
    for data in (b"1,2\n[3\n4]\n", b'{"a":\n1}\n'):
        with pytest.raises(Undecodable):
            read_all(readers.json, tmp_path / "in", data)


def test_csv_without_a_header_is_lists(tmp_path):
    data = b'a,b\n1,"x, y"\n\n"said ""no""",\r\nonly\n'
    assert records(readers.csv, data, tmp_path) == [
        (0, ["a", "b"]), (4, ["1", "x, y"]), (14, ['said "no"', ""]), (30, ["only"])
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"a,b\n1,2\n\n3,4\n", BOM + b'\n"a",b\r\n1,2\n\n3,4'])
def test_csv_with_a_header_is_dicts_in_every_range_of_the_file(tmp_path, data):
    with_header = readers.csv(header=True)
    assert values(with_header, data, tmp_path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert values(readers.csv(header=True, lists=True), data, tmp_path) == [["1", "2"], ["3", "4"]]
    over_lines = readers.csv(header=True, multiline=True)
    assert records(over_lines, data, tmp_path) == records(with_header, data, tmp_path)


def test_names_of_columns_may_be_given_for_files_that_have_no_header(tmp_path):
    named = readers.tsv(header=["n", "text"])
    assert values(named, b'1\t"a\tb"\n2\tc\n', tmp_path) == [
        {"n": "1", "text": "a\tb"}, {"n": "2", "text": "c"}
    ]  # fmt: skip


def test_a_tsv_may_have_quotes_that_quote_nothing(tmp_path):
    plain = readers.tsv(quote=None)
    assert values(plain, b'1\t"a\n2\tb"\n', tmp_path) == [["1", '"a'], ["2", 'b"']]


def test_a_quoted_field_goes_over_lines_if_that_is_allowed(tmp_path):
    data = b'a,b\n1,"x\ny\r\n\nz"\n\n"\n",2\n3,end'
    assert records(readers.csv(multiline=True), data, tmp_path) == [
        (0, ["a", "b"]), (4, ["1", "x\ny\r\n\nz"]), (17, ["\n", "2"]), (23, ["3", "end"])
    ]  # fmt: skip
    assert values(readers.csv(multiline=True, header=True), data, tmp_path)[1] == {
        "a": "\n", "b": "2"
    }  # fmt: skip
    with pytest.raises(Undecodable, match="multiline=True") as caught:
        read_all(readers.csv, tmp_path / "in", data)
    assert caught.value.details["where"] == f"{tmp_path / 'in'}, offset 4, record '1,\"x'"


def test_a_quoted_field_that_never_ends_is_named(tmp_path):
    data = b'1,2\n3,"x\ny\n'
    with pytest.raises(Undecodable):
        read_all(readers.csv, tmp_path / "in", data)
    with pytest.raises(AttemptFailed, match="still open where the file ends") as caught:
        read_all(readers.csv(multiline=True), tmp_path / "in", data)
    assert caught.value.details["where"] == f"{tmp_path / 'in'}, offset 4"


@pytest.mark.parametrize("multiline", [False, True])
def test_a_row_that_does_not_fit_the_header_is_named(tmp_path, multiline):
    reader = readers.csv(header=True, multiline=multiline)
    for row in ("1", "1,2,3"):
        with pytest.raises(Undecodable, match=r"a row of \d fields under 2 names") as caught:
            read_all(reader, tmp_path / "in", f"a,b\n1,2\n{row}\n".encode())
        assert f"{tmp_path / 'in'}, offset 8, record" in caught.value.details["where"]


@pytest.mark.parametrize("multiline", [False, True])
def test_a_header_that_names_two_columns_alike_is_refused(tmp_path, multiline):
    reader = readers.csv(header=True, multiline=multiline)
    with pytest.raises(AttemptFailed, match="two columns are called 'a'") as caught:
        read_all(reader, tmp_path / "in", b"a,b,a\n1,2,3\n")
    assert caught.value.details["where"] == f"{tmp_path / 'in'}, offset 0"


def test_a_field_may_be_longer_than_pythons_own_limit(tmp_path):
    assert csv.field_size_limit() <= textreaders._MOST_FIELD_BYTES
    data = b"a," + b"x" * 200_000 + b"\n"
    assert read_all(readers.csv, tmp_path / "in", data) == [(0, ["a", "x" * 200_000])]


def test_fixed_records_are_cut_at_multiples(tmp_path):
    found = records(readers.fixed(3), b"abcdef\n\xff\x00", tmp_path)
    assert found == [(0, b"abc"), (3, b"def"), (6, b"\n\xff\x00")]


def test_a_fixed_record_that_is_cut_short_is_named(tmp_path):
    with pytest.raises(AttemptFailed, match="ends within a record of 4 bytes") as caught:
        read_all(readers.fixed(4), tmp_path / "in", b"aaaabbbbcc")
    assert caught.value.details["where"] == f"{tmp_path / 'in'}, offset 8"


def test_delimited_records_are_bytes_or_str_as_the_delimiter_is(tmp_path):
    data = b"a\0bc\n\0\0\xffd"
    assert records(readers.delimited(b"\0"), data, tmp_path) == [
        (0, b"a"), (2, b"bc\n"), (6, b""), (7, b"\xffd")
    ]  # fmt: skip
    assert values(readers.delimited("\0"), data, tmp_path) == ["a", "bc\n", "", "\udcffd"]
    assert values(readers.delimited(b"ab"), b"1abaabab2ab", tmp_path) == [b"1", b"a", b"", b"2"]


def test_a_delimiter_that_can_overlap_itself_is_found_from_the_beginning(tmp_path):
    paragraphs = readers.delimited("\n\n")
    assert paragraphs.whole_files
    assert not readers.delimited("\r\n").whole_files
    assert values(paragraphs, b"a\nb\n\n\nc\n\n", tmp_path) == ["a\nb", "\nc"]


def test_whole_files_are_never_cut(tmp_path):
    path = str(tmp_path / "in")
    assert records(readers.whole, b"a\n\xff\n", tmp_path) == [(path, "a\n\udcff\n")]
    assert records(readers.whole_bytes, b"a\n\xff\n", tmp_path) == [(path, b"a\n\xff\n")]


# In any cuts


@pytest.fixture
def small_reads(monkeypatch):
    monkeypatch.setattr(textreaders, "TEXT_CHUNK_BYTES", 5)
    monkeypatch.setattr(textreaders, "BLOCK_BYTES", 5)
    monkeypatch.setattr(rawreaders, "TEXT_CHUNK_BYTES", 5)
    monkeypatch.setattr(rawreaders, "_LEAST_READ", 3)
    monkeypatch.setattr(textreaders, "_ROWS", 2)


ANY = {
    "bytes": (readers.bytes, (b"a", b"bc", b"\n", b"\r\n", b"\r", b"\xff", b"\0")),
    "pairs": (readers.pairs, (b"a", b"\t", b"\n", b"\r\n", "é".encode())),
    "json": (readers.json, (b"1\n", b'{"a": 1}\n', b"\n", b" \n", b'"long text"\r\n')),
    "csv": (readers.csv, (b"a", b",", b"\n", b'"b"\n', b"\r\n", b',"c, d"\n')),
    "header": (readers.csv(header=True), (b"a\n", b"\n", b'"b"\n', b"cde\r\n")),
    "names": (readers.csv(header=["n"]), (b"a\n", b"\n", b'"b"\n', b"cde\r\n")),
    "multiline": (
        readers.csv(multiline=True, header=True), (b"a\n", b"\n", b'"b\n\nb"\n', b"cde\r\n")
    ),
    "nul": (readers.delimited(b"\0"), (b"a", b"\0", b"bcdefgh", b"\n")),
    "ab": (readers.delimited("ab"), (b"a", b"b", b"ab", b"cdefghi", b"\n")),
    "abc": (readers.delimited(b"abc"), (b"a", b"b", b"ab", b"abc", b"bc", b"xxxxxxxxxx")),
    "aa": (readers.delimited(b"aa"), (b"a", b"b", b"aa")),
    "fixed": (readers.fixed(3), (b"abc", b"\n\n\n")),
    "one": (readers.fixed(1), (b"a", b"\n")),
    "whole": (readers.whole, (b"a", b"\n", b"\xff")),
}  # fmt: skip


@pytest.mark.usefixtures("small_reads")
@pytest.mark.parametrize("name", ANY)
def test_splits_of_any_size_give_what_one_split_gives(name):
    reader, pieces = ANY[name]

    @steady(max_examples=50)
    @given(st.lists(st.sampled_from(pieces), max_size=15).map(b"".join))
    def check(data):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "in")
            with open(path, "wb") as file:
                file.write(data)
            expected = read(reader, path, 0, len(data)) if data else []
            for size in range(1, len(data) + 1):
                ranges = [(at, min(at + size, len(data))) for at in range(0, len(data), size)]
                assert [pair for cut in ranges for pair in read(reader, path, *cut)] == expected
            with pytest.MonkeyPatch.context() as patch:
                for module in (textreaders, rawreaders):
                    patch.setattr(module, "TEXT_CHUNK_BYTES", 1 << 17)
                patch.setattr(textreaders, "BLOCK_BYTES", 1 << 17)
                assert (read(reader, path, 0, len(data)) if data else []) == expected

    check()


@pytest.mark.parametrize("kind", ["bz2", "gz"])
@pytest.mark.parametrize("name", ANY)
def test_compressed_files_are_read_as_what_is_in_them(tmp_path, name, kind):
    reader, pieces = ANY[name]
    data = b"".join(random.Random(name).choices(pieces, k=9000))
    plain, packed = tmp_path / "in", tmp_path / f"in.{kind}"
    plain.write_bytes(data)
    # Streams of bzip2, so that there is something to cut at.
    cuts = range(0, len(data), 3001)
    pack = {"bz2": bz2, "gz": gzip}[kind].compress
    packed.write_bytes(b"".join(pack(data[at : at + 3001]) for at in cuts))
    expected = [value for _, value in read(reader, plain, 0, len(data))]
    length = packed.stat().st_size
    for size in (7, 40, 200, length):
        found = [
            value
            for at in range(0, length, size)
            for _, value in read(reader, packed, at, min(at + size, length), counted=False)
        ]
        assert found == expected, size


@pytest.mark.parametrize("reader", [readers.delimited(b"ab"), readers.fixed(3)])
def test_a_cut_in_a_compressed_file_may_go_through_a_delimiter_or_a_record(tmp_path, reader):
    path = tmp_path / "in.bz2"
    first, second = bz2.compress(b"1a"), bz2.compress(b"b2ab")
    path.write_bytes(first + second)
    plain = tmp_path / "in"
    plain.write_bytes(b"1ab2ab")
    cuts = [(0, len(first)), (len(first), len(first + second))]
    found = [pair for cut in cuts for pair in read(reader, path, *cut, counted=False)]
    assert found == read(reader, plain, 0, 6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ANY)
def test_how_far_the_reading_is_goes_to_the_end_of_the_file_as_it_is_stored(tmp_path, name, packed):
    reader, pieces = ANY[name]
    data = b"".join(random.Random(name).choices(pieces, k=9000))
    path = tmp_path / "in"
    path.write_bytes(gzip.compress(data) if packed else data)
    size = path.stat().st_size
    reading = Reading()
    seen = []
    for _ in reader.blocks(FileRange(str(path), 0, size), reading):
        seen.append(reading.done)
    assert seen == sorted(seen)
    assert reading.done == size


@steady(max_examples=200)
@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=1).filter(any)))
def test_csv_that_python_writes_is_read_as_it_was(rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "in")
        with open(path, "wb") as file:
            file.write(text.getvalue().encode())
        size = os.path.getsize(path)
        found = read(readers.csv(multiline=True), path, 0, size) if size else []
    assert [row for _, row in found] == [
        [field.removeprefix("\ufeff") if not (at or n) else field for n, field in enumerate(row)]
        for at, row in enumerate(rows)
    ]


@steady(max_examples=200)
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        )
    )
)
def test_json_that_python_writes_is_read_as_it_was(found):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "in")
        data = "".join(json.dumps(value) + "\n" for value in found).encode()
        with open(path, "wb") as file:
            file.write(data)
        assert [value for _, value in (read(readers.json, path, 0, len(data)) if data else [])] == (
            found
        )


# In attempts


def by_name(key, row):
    yield row["name"], int(row["n"])


def test_a_job_over_any_splits_has_the_same_output(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b"name,n\na,1\nb,2\na,3\n")
    job = functions(by_name, reader=readers.csv(header=True))
    for size in (1, 5, 100):
        assert run(job, splits_of([path], size), tmp_path) == [b"a\t4\nb\t2\n"]


def failed(tmp_path, job, data, bad=None):
    path = tmp_path / "in"
    path.write_bytes(data)
    split = InputSplit((FileRange(str(path), 0, len(data)),))
    with pytest.raises(AttemptFailed) as caught:
        run_map(job, split, str(tmp_path / "spill"), 1, 1 << 20, lambda done: None, "none", bad)
    return caught.value


def test_an_error_of_the_mapper_names_the_record_as_it_lies_in_the_file(tmp_path):
    job = functions(by_name, reader=readers.csv(header=True))
    error = failed(tmp_path, job, b"name,n\na,1\nb,two\nc,3\n")
    assert isinstance(error.__cause__, ValueError)
    assert error.details["where"] == f"{tmp_path / 'in'}, offset 11, record 'b,two'"
    job = functions(lambda key, value: [(key, int(value))], reader=readers.pairs)
    error = failed(tmp_path, job, b"a\t1\nb\ttwo\n")
    assert error.details["where"] == f"{tmp_path / 'in'}, offset 4, record 'b\\ttwo'"


def test_what_cannot_be_carried_names_the_record(tmp_path):
    job = functions(lambda key, value: [(key, object())], reader=readers.json)
    error = failed(tmp_path, job, b"1\n")
    assert error.details["where"] == f"{tmp_path / 'in'}, offset 0, record '1'"


@pytest.mark.parametrize("after", [b"", b"3\n"])
def test_a_mapper_that_raises_stop_iteration_does_not_end_the_input(tmp_path, after):
    def mapper(key, value):
        if value == 2:
            raise StopIteration
        return [(key, value)]

    error = failed(tmp_path, functions(mapper, reader=readers.json), b"1\n2\n" + after)
    assert error.message == "the mapper raised StopIteration"
    assert "record '2'" in error.details["where"]


def test_a_file_that_does_not_fit_in_memory_is_no_error_of_the_mapper(tmp_path, monkeypatch):
    def no_memory(*anything):
        raise MemoryError

    monkeypatch.setattr(rawreaders, "open_range", no_memory)
    error = failed(tmp_path, functions(by_name, reader=readers.whole), b"a\n")
    assert error.message == "readers.whole raised MemoryError: "
    assert error.details["where"] == str(tmp_path / "in")


def quarantine(tmp_path, most=10, **options):
    code = UserCode(lambda error: f"traceback of {error}")
    return Quarantine(
        most, str(tmp_path / "bad"), str(tmp_path / "note"), "Map001", code, **options
    )


def map_with(tmp_path, job, data, bad) -> Outcome:
    path = tmp_path / "in"
    path.write_bytes(data)
    split = InputSplit((FileRange(str(path), 0, len(data)),))
    return run_map(job, split, str(tmp_path / "spill"), 1, 1 << 20, lambda done: None, "none", bad)


def test_damaged_records_are_set_aside_as_they_lie_in_the_file(tmp_path):
    job = functions(lambda key, value: [(value["k"], 1)], reader=readers.json)
    bad = quarantine(tmp_path)
    outcome = map_with(tmp_path, job, b'{"k": 1}\nnope\n{"q": 2}\n{"k": 3}\n', bad)
    assert outcome.counters["bad records"] == 2
    assert outcome.counters["map output records"] == 2
    first, second = (json.loads(line) for line in (tmp_path / "bad").read_text().splitlines())
    assert (first["offset"], first["record"]) == (9, "nope")
    assert first["traceback"].startswith("readers.json cannot read a record: Expecting value")
    assert (second["offset"], second["record"]) == (14, '{"q": 2}')
    assert second["traceback"] == "traceback of 'k'"
    assert outcome.first_bad["message"] == first["traceback"]


def test_more_damaged_records_than_may_be_skipped_fail_the_map(tmp_path):
    job = functions(lambda key, value: [], reader=readers.json)
    error = failed(tmp_path, job, b"1\nx\ny\n", quarantine(tmp_path, most=1))
    assert "2 bad records are more than the 1 that may be skipped" in error.message


def test_a_record_that_killed_its_worker_is_left_out(tmp_path):
    seen = []
    job = functions(lambda key, value: seen.append(value) or [], reader=readers.csv(multiline=True))
    bad = quarantine(tmp_path, careful=True, skip=[(2, "killed")])
    map_with(tmp_path, job, b'1\n"2\n"\n3\n', bad)
    assert seen == [["1"], ["3"]]
    (line,) = (json.loads(line) for line in (tmp_path / "bad").read_text().splitlines())
    assert (line["offset"], line["record"]) == (2, "('2\\n',)")


def test_a_file_that_is_gone_is_named(tmp_path):
    path = str(tmp_path / "gone")
    for name, (reader, _) in ANY.items():
        with pytest.raises(AttemptFailed) as caught:
            read(reader, path, 0, 1)
        assert caught.value.details["where"] == path, name


# Options


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: readers.csv(header="name"), "it is True, or a list of names"),
        (lambda: readers.csv(delimiter=";;"), "1-character string"),
        (lambda: readers.fixed(0), "one byte at least"),
        (lambda: readers.delimited(b""), "one byte at least"),
    ],
)
def test_options_that_make_no_sense_are_refused_where_they_are_given(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_readers_without_options_say_so():
    assert readers.json() is readers.json
    with pytest.raises(TypeError, match="readers.json has no options"):
        readers.json(strict=True)


def test_what_lacks_an_option_cannot_be_used():
    for reader in (readers.fixed, readers.delimited):
        with pytest.raises(BadJob, match=reader.name):
            reader.check()
