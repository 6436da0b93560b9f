"""Pauses that grow, and differ from one that waits to the next."""

from __future__ import annotations

from pytxmr.backoff import backoff_seconds


def test_pauses_double_up_to_the_longest_and_are_at_least_half_of_that():
    whole = [0.5, 1.0, 2.0, 3.0, 3.0]
    for who in ("a Map001.0", "b Map001.0"):
        pauses = [backoff_seconds((0.5, 3.0), failures, who) for failures in range(1, 6)]
        assert all(most / 2 <= pause <= most for pause, most in zip(pauses, whole, strict=True))
    assert backoff_seconds((0.5, 3.0), 10**6, "a") <= 3.0


def test_those_that_failed_together_come_back_one_by_one():
    pauses = sorted(backoff_seconds((1.0, 1.0), 1, f"Map{number:03d}.0") for number in range(100))
    assert len(set(pauses)) == 100
    assert pauses[25] < 0.7 < 0.8 < pauses[75]


def test_the_pause_of_a_replay_is_the_same():
    assert backoff_seconds((1.0, 5.0), 3, "Job001 Map001.0") == 2.9075096272863448
