"""Of a schedule that makes a run fail, the fewest faults that still do.

Delta debugging (A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
Transactions on Software Engineering 28(2), 2002): ever smaller parts are left out, and each time
that the rest still fails, it goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def fewest(numbers: Sequence[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """A subset of ``numbers``, in their order, that fails; without any one of them it does not.

    ``fails`` has to be true of all of them, and is not asked that.
    """
    left = list(numbers)
    if left and fails([]):
        return []
    parts = 2
    while len(left) >= 2:
        size = -(-len(left) // parts)
        for start in range(0, len(left), size):
            rest = left[:start] + left[start + size :]
            if fails(rest):
                left, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(left), parts * 2)
    return left
