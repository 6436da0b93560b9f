"""Output lines, and the bytes that they are written as."""

from __future__ import annotations

import pytest

from pytxmr.errors import AttemptFailed, Uncarryable
from pytxmr.records.columns import columns
from pytxmr.records.writers import encoded


def written(*pairs, writer=None):
    """What is written of pairs, which must not depend on how they come."""
    as_list = b"".join(encoded([list(pairs)], writer))
    as_columns = columns([key for key, _ in pairs], [value for _, value in pairs])
    assert b"".join(encoded([as_columns], writer)) == as_list
    assert b"".join(encoded([[pair] for pair in pairs] + [[]], writer)) == as_list
    return as_list


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        (("word", 3), b"word\t3\n"),
        (("word", "text"), b"word\ttext\n"),
        (("word", None), b"word\n"),
        ((None, "value"), b"value\n"),
        ((None, None), b"\n"),
        (("", ""), b"\t\n"),
        ((1, 2.5), b"1\t2.5\n"),
        ((True, False), b"True\tFalse\n"),
        ((b"\xff", b"bytes"), b"\xff\tbytes\n"),
        (("é", "\U0001f600"), "é\t\U0001f600\n".encode()),
        ((("a", 1), [1, "é", None, True]), '["a", 1]\t[1, "é", null, true]\n'.encode()),
        (("k", {"b": 1, "a": (2,)}), b'k\t{"b": 1, "a": [2]}\n'),
        (("k", {3, 1, 2}), b"k\t[1, 2, 3]\n"),
        (("k", [b"\xff", "\udcff"]), b'k\t["\xff", "\xff"]\n'),
    ],
    ids=ascii,
)
def test_a_pair_is_a_line(pair, line):
    assert written(pair) == line
    assert written(pair, pair) == line + line
    assert written(pair, ("next", 1), pair) == line + b"next\t1\n" + line


class Bare:
    pass


@pytest.mark.parametrize("value", [map(str, [1]), (n for n in [1]), iter([1]), Bare(), object()])
@pytest.mark.parametrize("within", [lambda value: value, lambda value: {"of": [value]}])
def test_what_would_be_written_as_an_address_is_refused(value, within):
    with pytest.raises(
        Uncarryable, match=f"for the key 'k': a {type(value).__name__} object cannot"
    ):
        list(encoded([[("k", within(value))]], None))


def test_what_says_how_it_is_written_is_written_so():
    class Shown(Bare):
        def __repr__(self):
            return "shown"

    assert written(("k", Shown())) == b'k\t"shown"\n'


def test_bytes_that_are_not_utf_8_go_out_as_they_came_in():
    every = bytes(range(128, 256))
    assert written((every.decode("utf-8", "surrogateescape"), 1)) == every + b"\t1\n"


def test_a_surrogate_out_of_nowhere_harms_no_byte_beside_it():
    assert written(("\udcff\ud800", 1), ("\udc80é", 2)) == b"\xff\xed\xa0\x80\t1\n\x80\xc3\xa9\t2\n"
    assert written(("\udc00\udd00", 1)) == b"\xed\xb0\x80\xed\xb4\x80\t1\n"


def test_a_writer_may_yield_str_and_bytes():
    def writer(pairs):
        yield "head\udcff\n"
        for key, value in pairs:
            yield f"{key}={value};".encode("utf-16-le")

    assert written(("a", 1), writer=writer) == b"head\xff\n" + "a=1;".encode("utf-16-le")


@pytest.mark.parametrize("piece", [1, None, ("a", 1), bytearray(b"x")])
def test_a_writer_may_yield_nothing_else(piece):
    with pytest.raises(AttemptFailed, match=f"the writer yielded {type(piece).__name__}") as caught:
        written(writer=lambda pairs: [piece])
    assert caught.value.details["final"] is True
