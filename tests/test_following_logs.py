"""`pytxmr logs --follow` and a jobtracker that comes and goes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pytxmr.cli.commands import _follow_logs


class Scripted:
    """A jobtracker with an answer for each time that it is asked; None while it is gone."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers

    async def ask(self, verb: str, *args: Any) -> Any:
        return self.answers[verb].pop(0)


class Uninterrupted:
    @staticmethod
    async def unless(doing: Any) -> Any:
        return await doing


def test_the_last_lines_are_not_missed_though_the_jobtracker_is_gone_as_they_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    running, ended = {"outcome": ""}, {"outcome": "succeeded"}
    jobtracker: Any = Scripted(
        wait=[running, None, ended],
        followLogs=[None, [], None, None, [["one.1", "Map001.0", "the last line", 13]], []],
    )
    interrupts: Any = Uninterrupted()
    status: list[int] = []
    Deferred.fromCoroutine(_follow_logs(jobtracker, interrupts, "Job001", None)).addCallback(
        status.append
    )
    assert status == [0]
    assert capsys.readouterr().out == "=== Job001@Map001.0 on one.1\nthe last line\n"
    assert jobtracker.answers == {"wait": [], "followLogs": []}
