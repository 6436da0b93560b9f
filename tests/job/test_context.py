"""What the user's functions may call."""

from __future__ import annotations

import pytest

import pytxmr
from pytxmr.job import context


def test_counters_and_status_are_those_of_the_attempt():
    context.begin_attempt()
    pytxmr.counter("bad lines")
    pytxmr.counter("bad lines", 2)
    pytxmr.status("x" * 1000)
    assert context.counters() == {"bad lines": 3}
    assert context.current_status() == "x" * 200
    context.begin_attempt()
    assert context.counters() == {}
    assert context.current_status() == ""


class Whole:
    """As an integer of numpy."""

    def __index__(self):
        return 2


def test_a_counter_counts_whole_numbers_and_no_others():
    context.begin_attempt()
    pytxmr.counter("rows", Whole())
    pytxmr.counter("rows", True)
    for n in (1.5, "1", None):
        with pytest.raises(TypeError):
            pytxmr.counter("rows", n)
    assert [(type(n), n) for n in context.counters().values()] == [(int, 3)]
    context.begin_attempt()
