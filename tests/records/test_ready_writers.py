"""What ready-made writers make of pairs, and that it can be read again."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile

import pytest
from carried import steady
from hypothesis import given
from hypothesis import strategies as st

from pytxmr import readers, writers
from pytxmr.errors import AttemptFailed
from pytxmr.model import FileRange
from pytxmr.records.columns import columns
from pytxmr.records.formats import decoded
from pytxmr.records.readers import Reading
from pytxmr.records.writers import encoded


def written(writer, *pairs):
    """What is written of pairs, which must not depend on how they come."""
    as_list = b"".join(encoded([list(pairs)], writer))
    as_columns = columns([key for key, _ in pairs], [value for _, value in pairs])
    assert b"".join(encoded([as_columns], writer)) == as_list
    assert b"".join(encoded([[pair] for pair in pairs] + [[]], writer)) == as_list
    return as_list


def read_back(reader, data):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "part-00000")
        with open(path, "wb") as file:
            file.write(data)
        part = FileRange(path, 0, len(data) or 1)
        return [
            pair
            for block in reader.blocks(part, Reading())
            for pair in zip(*decoded(reader, part, block), strict=True)
        ]


def test_values_are_written_without_their_keys():
    pairs = [("a", "x"), ("b", 1), (None, None), (("c",), [1, "é"])]
    assert written(writers.values, *pairs) == 'x\n1\nNone\n[1, "é"]\n'.encode()


def test_json_is_an_array_of_key_and_value_or_the_value_alone():
    pairs = [("a", 1), (None, {"b": [1.5, None]}), ((1, "é"), ("x",)), ("k", {2, 1})]
    assert written(writers.json, *pairs) == (
        '["a", 1]\n{"b": [1.5, null]}\n[[1, "é"], ["x"]]\n["k", [1, 2]]\n'.encode()
    )


def test_json_loses_no_byte_of_text_that_is_not_utf_8():
    data = written(writers.json, (None, "\udcff"), (b"\xfe", b"\xfd\n"))
    assert data == b'"\xff"\n["\xfe", "\xfd\\n"]\n'
    assert [value for _, value in read_back(readers.json, data)] == [
        "\udcff",
        ["\udcfe", "\udcfd\n"],
    ]


def test_csv_is_the_columns_of_the_key_and_those_of_the_value():
    pairs = [
        ("a", 1), (("b", 2), ["x, y", 'say "z"', None]), (None, ("line\nend", True)), (3, None),
        ("d", 0.5), (None, ""),
    ]  # fmt: skip
    assert written(writers.csv, *pairs) == (
        b'a,1\nb,2,"x, y","say ""z""",\n"line\nend",True\n3\nd,0.5\n""\n'
    )
    assert written(writers.tsv, ("a,b", "c\td")) == b'a,b\t"c\td"\n'
    assert written(writers.csv(quote_all=True), ("a", 1)) == b'"a",1\n'


def test_csv_has_its_header_in_every_file_and_dicts_go_by_it():
    writer = writers.csv(header=["word", "n", "of"])
    assert written(writer) == b"word,n,of\n"
    assert written(writer, ("a", {"of": 2, "n": 1}), (None, {"n": 3})) == (
        b"word,n,of\na,1,2\n,3,\n"
    )


def test_a_dict_that_the_header_does_not_fit_is_named():
    writer = writers.csv(header=["word", "n"])
    with pytest.raises(AttemptFailed, match="the header has no name 'm' for it") as caught:
        written(writer, ("a", {"n": 1}), ("b", {"m": 1}))
    assert caught.value.details["where"] == "key 'b'"
    assert caught.value.details["final"] is True


def test_what_json_cannot_say_is_named():
    with pytest.raises(AttemptFailed, match="writers.json cannot write the value") as caught:
        written(writers.json, ("a", 1), ("b", {(1, 2): 3}))
    assert caught.value.details["where"] == "key 'b'"


texts = st.text(st.characters(codec="utf-8"))


@steady(max_examples=150)
@given(st.lists(st.tuples(texts, texts)))
def test_csv_is_read_as_it_was_written(pairs):
    data = written(writers.csv, *pairs)
    rows = [row for _, row in read_back(readers.csv(multiline=True), data)]
    expected = [list(pair) for pair in pairs]
    if expected:
        expected[0][0] = expected[0][0].removeprefix("\ufeff")
    assert rows == expected
    assert [row for row in csv.reader(io.StringIO(data.decode(), newline="")) if row] == [
        list(pair) for pair in pairs
    ]


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts


@steady(max_examples=150)
@given(st.lists(st.tuples(scalars, st.lists(scalars) | st.dictionaries(texts, scalars))))
def test_json_is_read_as_it_was_written(pairs):
    data = written(writers.json, *pairs)
    found = [value for _, value in read_back(readers.json, data)]
    assert found == [value if key is None else [key, value] for key, value in pairs]
    assert [json.loads(line) for line in data.decode().split("\n")[:-1]] == found


def test_what_the_default_writer_writes_is_read_by_pairs():
    data = b"".join(encoded([[("a", "1"), ("b", None), ("", "x\ty")]], None))
    assert read_back(readers.pairs, data) == [("a", "1"), ("b", None), ("", "x\ty")]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: writers.csv(header="word"), "it is a list of names"),
        (lambda: writers.csv(delimiter=""), "delimiter"),
    ],
)
def test_options_that_make_no_sense_are_refused_where_they_are_given(make, text):
    with pytest.raises(ValueError, match=text):
        make()
