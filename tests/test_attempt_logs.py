"""The logs of attempts, as they are read while they grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytxmr import attemptlogs
from pytxmr.attemptlogs import AttemptLogs


@pytest.fixture
def logs(tmp_path: Path) -> AttemptLogs:
    made = AttemptLogs(str(tmp_path))
    made.begin("Job001")
    return made


def write(logs: AttemptLogs, attempt: str, text: bytes) -> None:
    with open(logs.path("Job001", attempt), "ab") as file:
        file.write(text)


def test_what_comes_is_told_once_and_line_by_line(logs: AttemptLogs) -> None:
    write(logs, "Map001.0", b"one\nt")
    write(logs, "Map002.0", b"")
    first = logs.following("Job001", None, {}, False)
    assert first == [("Map001.0", "one\n", 4)]
    seen = {"Map001.0": 4}
    assert logs.following("Job001", None, seen, False) == []
    write(logs, "Map001.0", b"wo\n")
    write(logs, "Map002.0", b"a\n")
    assert logs.following("Job001", None, seen, False) == [
        ("Map001.0", "two\n", 8),
        ("Map002.0", "a\n", 2),
    ]
    assert logs.following("Job001", "Map002", seen, False) == [("Map002.0", "a\n", 2)]


def test_at_the_end_of_the_job_a_line_need_not_be_whole(logs: AttemptLogs) -> None:
    write(logs, "Map001.0", b"one\ntwo")
    assert logs.following("Job001", None, {"Map001.0": 4}, True) == [("Map001.0", "two", 7)]
    assert logs.following("Job001", None, {"Map001.0": 7}, True) == []
    assert logs.following("Job002", None, {}, True) == []


def test_much_comes_in_pieces_of_whole_lines(
    logs: AttemptLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attemptlogs, "_MOST_FOLLOWING_BYTES", 10)
    monkeypatch.setattr(attemptlogs, "_MOST_FOLLOWING_TOGETHER", 20)
    text = "".join(f"line {number}\n" for number in range(5)) + "a line that is longer\n" + "é" * 30
    for attempt in ("Map001.0", "Map002.0", "Map003.0"):
        write(logs, attempt, text.encode())
    seen: dict[str, int] = {}
    told: dict[str, str] = {}
    pieces = []
    for is_over in (False, True):
        while more := logs.following("Job001", None, seen, is_over):
            assert sum(len(piece.encode()) for _, piece, _ in more) <= 30
            for attempt, piece, end in more:
                seen[attempt] = end
                told[attempt] = told.get(attempt, "") + piece
                pieces.append(piece)
    assert set(told.values()) == {text}
    assert len(told) == 3
    assert "line 4\n" in pieces
