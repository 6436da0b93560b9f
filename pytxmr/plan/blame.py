"""Which trackers fail what others do not, so that work is better given to others, for a time.

The same count serves twice. A job counts the tasks of its own that failed on a tracker, and leaves
it alone after `TASKS_TO_BLAME` different ones; one task that fails everywhere is blamed on nobody.
The cluster counts the jobs that came to leave it alone, and after `JOBS_TO_BLAME` no job uses it.
A success makes up for one failure, so that rare ones never add up.

A tracker comes back when its time is over. If it then fails as before, the next time is twice as
long; if the first that it does succeeds, all is forgotten. Whoever asks must see to it that if all
trackers are to be avoided none is.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

TASKS_TO_BLAME = 3
JOBS_TO_BLAME = 2
#: How long a tracker is avoided: doubled from the first up to the second.
AVOID_SECONDS = (60.0, 600.0)


@dataclass(slots=True)
class Record:
    """What is held against one tracker: until when it is avoided, and how often it was."""

    #: What has failed, the oldest first.
    failed: list[Hashable] = field(default_factory=list)
    times: int = 0
    until: float = 0.0


class Blame:
    """``most``: how many different things may fail on a tracker before it is avoided. Times are
    seconds of the caller's clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._records: dict[str, Record] = {}

    def failed(self, tracker: str, what: Hashable, now: float) -> bool:
        """Something failed on a tracker. Is this why it is to be avoided from now on?"""
        record = self._records.setdefault(tracker, Record())
        if now < record.until:
            return False
        if what not in record.failed:
            record.failed.append(what)
        if len(record.failed) < self._most:
            return False
        first, longest = AVOID_SECONDS
        record.until = now + min(longest, first * 2.0 ** min(record.times, 60))
        record.times += 1
        record.failed.clear()
        return True

    def succeeded(self, tracker: str, now: float) -> None:
        record = self._records.get(tracker)
        if record is None or now < record.until:
            return
        if record.failed:
            del record.failed[0]
        else:
            del self._records[tracker]

    def forget(self, tracker: str) -> None:
        self._records.pop(tracker, None)

    def avoided(self, now: float) -> set[str]:
        return {tracker for tracker, record in self._records.items() if now < record.until}

    def best(self, trackers: Mapping[str, int], now: float) -> Mapping[str, int]:
        """The trackers without those to avoid, or all if no other is left."""
        avoided = self.avoided(now)
        if not avoided:
            return trackers
        return {name: n for name, n in trackers.items() if name not in avoided} or trackers
