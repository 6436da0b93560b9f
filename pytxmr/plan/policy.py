"""Which tracker gets what."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def choose_tracker(
    free: Mapping[str, int],
    avoid: Collection[str],
    ready: Collection[str],
    last: Collection[str] = (),
) -> str | None:
    """The tracker for a task's next attempt, or None to wait for a better one.

    ``free``: free workers by tracker. ``avoid``: trackers on which the task has failed; they are
    used only if none of the ``ready`` ones is another. Those to use ``last`` get what finds no
    free worker elsewhere. Among equals the most idle one wins, then the lowest id, so that the
    choice is the same in every replay.
    """
    elsewhere = any(tracker not in avoid for tracker in ready)
    candidates = [
        tracker
        for tracker, workers in free.items()
        if workers > 0 and tracker in ready and not (elsewhere and tracker in avoid)
    ]
    return min(
        candidates, key=lambda tracker: (tracker in last, -free[tracker], tracker), default=None
    )


def least_loaded(
    load: Mapping[str, int], workers: Mapping[str, int], avoid: Collection[str] = ()
) -> str | None:
    """The tracker with the fewest partitions per worker; those to ``avoid`` only if all are."""
    candidates = [tracker for tracker in workers if tracker not in avoid] or list(workers)
    return min(
        candidates,
        key=lambda tracker: ((load.get(tracker, 0) + 1) / workers[tracker], tracker),
        default=None,
    )
