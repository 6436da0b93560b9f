"""Strangers: whoever has no business with a cluster, and calls at its ports all the same.

Some do not know the secret, some have it and mean harm. Each does one thing, while jobs run. What
it asks for it must not be given, and nothing of it may stay: a `Visit` has to be over in its time,
which is counted anew when a fault is over that may have held it up.
"""

from __future__ import annotations

from random import Random

from pytxmr.simulation.faults import LAST_BEGINS, Fault

# Each adds its kinds as it is imported, and what a seed draws depends on their order.
# isort: off
from pytxmr.simulation.strangers.visits import KINDS, SLOW_KINDS, Visit
from pytxmr.simulation.strangers import silent  # noqa: F401
from pytxmr.simulation.strangers import garbage  # noqa: F401
from pytxmr.simulation.strangers import asking  # noqa: F401
from pytxmr.simulation.strangers import talking  # noqa: F401

__all__ = ["KINDS", "SLOW_KINDS", "Visit", "drawn"]


def drawn(rng: Random, trackers: int) -> list[Fault]:
    """The strangers of a seed: none, mostly."""
    count = rng.choice((0, 0, 0, 0, 0, 0, 0, 1, 1, 2))
    last = rng.choice(LAST_BEGINS)
    quick = [kind for kind in KINDS if kind not in SLOW_KINDS]
    return [
        Fault(
            kind=rng.choice(quick * 2 + SLOW_KINDS),
            at=round(rng.uniform(0.5, last), 3),
            where=rng.randint(1, trackers),
            other=0,
            seconds=0.0,
            number=rng.randrange(1 << 16),
        )
        for _ in range(count)
    ]
