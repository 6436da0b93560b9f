"""Ids are read in their written form alone, which is also safe as the name of a file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytxmr.errors import NotFound
from pytxmr.model import AttemptId, TaskId, checked_job_id, job_id

BAD = [
    "",
    " ",
    "Job",
    "Map",
    "Reduce",
    "Job1",
    "Map01",
    "job001",
    "MAP001",
    "Job001 ",
    " Job001",
    "Job001\n",
    "Map001\n",
    "Reduce000\r",
    "Job001\x00",
    "Map001\x00",
    "Job-01",
    "Job+001",
    "Job0_1",
    "Job1e3",
    "Job0x1",
    "Job٠٠١",
    "Map٠٠١",
    "Job\uff10\uff10\uff11",
    "\uff2aob001",
    "Map00²",
    "Job0000000001",
    "Map0000000001",
    "Map000",
    "../Job001",
    "Job001/..",
    "Job001/../Job002",
    "Map001.0/../x",
    "Job001@Map001@0",
    "Reduce-01",
    "Map001..0",
    "Map001.",
    ".0",
    "Map001.-1",
    "Map001. 0",
    "Map001.0\n",
    "Map001.0\x00",
    "Map001.٠",
    "Map001.1234567890",
    "Map001.0.0",
    "Ⓙob001",
    b"Job001",
    b"Map001",
    b"Map001.0",
    None,
    1,
    ["Job001"],
    ("Map001",),
]
READERS = [checked_job_id, TaskId.parse, AttemptId.parse]
SAFE = re.compile(r"[A-Za-z0-9.]+")

steady = settings(derandomize=True, deadline=None, max_examples=300)
near_ids = st.one_of(
    st.text(),
    st.text("JobMapReduce0123456789.@/\\\x00\n ٠²", max_size=14),
    st.from_regex(r"\A(Job|Map|Reduce)\d{1,12}(\.\d{0,11})?\n?\Z"),
)


@pytest.mark.parametrize("text", BAD, ids=ascii)
@pytest.mark.parametrize("read", READERS, ids=["job", "task", "attempt"])
def test_what_is_no_id_is_not_found(read, text):
    with pytest.raises(NotFound):
        read(text)


@steady
@given(st.sampled_from(READERS), near_ids)
def test_whatever_is_read_as_an_id_is_plain_ascii_and_reads_the_same_again(read, text):
    try:
        found = read(text)
    except NotFound:
        return
    assert SAFE.fullmatch(text)
    assert SAFE.fullmatch(str(found))
    assert read(str(found)) == found


@steady
@given(st.integers(0, 10**9 - 2), st.integers(0, 10**9 - 1), st.sampled_from(["map", "reduce"]))
def test_what_is_written_can_be_read(index, number, kind):
    attempt = AttemptId(TaskId(kind, index), number)
    assert TaskId.parse(str(attempt.task)) == attempt.task
    assert AttemptId.parse(str(attempt)) == attempt
    assert checked_job_id(job_id(index + 1)) == job_id(index + 1)


def test_the_written_forms_are_the_documented_ones():
    assert job_id(1) == "Job001"
    assert job_id(12345) == "Job12345"
    assert str(TaskId("map", 0)) == "Map001"
    assert str(TaskId("map", 999)) == "Map1000"
    assert str(TaskId("reduce", 0)) == "Reduce000"
    assert str(AttemptId(TaskId("map", 0), 1)) == "Map001.1"


def test_a_very_long_text_is_not_repeated_in_the_message():
    for read in READERS:
        with pytest.raises(NotFound) as caught:
            read("x" * 10**6)
        assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["Job000", "Job0001", "Job01"])
def test_a_job_has_one_written_form(text: str) -> None:
    with pytest.raises(NotFound):
        checked_job_id(text)


@pytest.mark.parametrize("text", ["Map0001", "Map000", "Reduce0000", "Map001.00", "Map001.01"])
def test_a_task_and_an_attempt_have_one_written_form(text: str) -> None:
    with pytest.raises(NotFound):
        AttemptId.parse(text) if "." in text else TaskId.parse(text)
