"""Ours against a reference, both timed in one run, so that the machine's speed cancels out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Rounds take about so long together, and are so many, at least and at most.
SECONDS = 4.0
FEWEST, MOST = 7, 100


def assert_ratio(
    benchmark: Any, ours: Callable[[], Any], reference: Callable[[], Any], at_most: float
) -> None:
    """Time both by turns; fail if the fastest of ours takes more than ``at_most`` times theirs.

    The fastest, because what disturbs a measurement only ever makes it slower.
    """
    began = time.perf_counter()
    reference()
    rounds = int(SECONDS / 2 / (time.perf_counter() - began))
    rounds = min(MOST, max(FEWEST, rounds))
    theirs: list[float] = []

    def by_turns() -> None:
        began = time.perf_counter()
        reference()
        theirs.append(time.perf_counter() - began)

    def without_result() -> None:
        # pytest-benchmark would keep it, and so not count what it costs to drop it.
        ours()

    benchmark.pedantic(without_result, setup=by_turns, rounds=rounds, warmup_rounds=1)
    ratio = benchmark.stats.stats.min / min(theirs)
    benchmark.extra_info.update(reference=min(theirs), ratio=ratio, at_most=at_most)
    assert ratio <= at_most, f"{ratio:.2f} times the reference, and not {at_most:.2f} at most"
