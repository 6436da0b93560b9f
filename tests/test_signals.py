"""A signal ends what a command waits for at the moment, and nothing begun for the signal's sake."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pytxmr.cli.reactor import Interrupted, Interrupts


class Turns:
    """A reactor that does what it is told from a signal's handler when a test says so."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def callFromThread(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def turn(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def interrupts(turns: Turns) -> Interrupts:
    return Interrupts(turns)


def begun(interrupts: Interrupts) -> tuple[Deferred[str], list[Any]]:
    """Something that is waited for, and what comes of it."""
    waited: Deferred[str] = Deferred()

    async def wait() -> str:
        return await waited

    outcome: list[Any] = []
    Deferred.fromCoroutine(interrupts.unless(wait())).addBoth(outcome.append)
    return waited, outcome


def test_what_is_waited_for_ends_with_the_signal(interrupts: Interrupts, turns: Turns) -> None:
    _, outcome = begun(interrupts)
    interrupts._received(signal.SIGINT, None)
    assert outcome == []
    turns.turn()
    assert outcome[0].check(Interrupted)
    assert outcome[0].value.status == 130


def test_what_is_begun_because_of_a_signal_does_not_end_with_it(
    interrupts: Interrupts, turns: Turns
) -> None:
    interrupts._received(signal.SIGINT, None)  # while Python runs: nothing is waited for
    _, outcome = begun(interrupts)
    assert outcome[0].check(Interrupted)
    interrupts.begin_anew()
    killing, outcome = begun(interrupts)
    turns.turn()
    assert outcome == []
    killing.callback("killed")
    assert outcome == ["killed"]


def test_the_next_signal_ends_that_too(interrupts: Interrupts, turns: Turns) -> None:
    interrupts._received(signal.SIGINT, None)
    interrupts.begin_anew()
    _, outcome = begun(interrupts)
    turns.turn()
    interrupts._received(signal.SIGTERM, None)
    turns.turn()
    assert outcome[0].check(Interrupted)
    assert outcome[0].value.status == 130, "that of the first"
