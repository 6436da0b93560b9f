"""The KeyValueStore: which map outputs this tracker holds, who may have them, when they go.

One store serves all jobs of a tracker. A spill belongs to an attempt and is known here only once
the attempt has succeeded; before that its path is the worker's. Under the store's directory::

    Job001/spills/Map001.0          and Map001.0.index
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from zope.interface import implementer

from pytxmr.errors import NotFound
from pytxmr.interfaces import ISpillSource
from pytxmr.model import MAP, AttemptId, TaskId
from pytxmr.records.spill import PartitionRange, index_path, open_spill


@dataclass(slots=True)
class _Job:
    key: bytes = field(repr=False)
    finished: dict[int, AttemptId] = field(default_factory=dict)
    known: set[AttemptId] = field(default_factory=set)
    elsewhere: dict[int, tuple[str, int]] = field(default_factory=dict)


@implementer(ISpillSource)
class KeyValueStore:
    """Spills by job, map and attempt. All methods are synchronous and quick."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._jobs: dict[str, _Job] = {}

    def add_job(self, job: str, key: bytes) -> None:
        """Take spills of this job from now on; ``key`` signs requests for them."""
        if job not in self._jobs:
            self._jobs[job] = _Job(key)
            os.makedirs(os.path.join(self._directory, job, "spills"), exist_ok=True)

    def jobs(self) -> list[str]:
        """The jobs that are known here, those among them that have ended and are kept."""
        return list(self._jobs)

    def drop_job(self, job: str) -> None:
        """Forget the job. Its files go with its directory, which is the tracker's to remove."""
        self._jobs.pop(job, None)

    def spill_path(self, job: str, attempt: AttemptId) -> str:
        """Where the attempt writes its spill, and where it stays."""
        return os.path.join(self._directory, job, "spills", str(attempt))

    def add_spill(self, job: str, attempt: AttemptId) -> None:
        """The attempt has succeeded: serve its spill. The latest attempt is the one inspected."""
        found = self._job(job)
        found.known.add(attempt)
        found.finished[attempt.task.index] = attempt

    def note_elsewhere(self, job: str, map_index: int, address: tuple[str, int]) -> None:
        """Remember which tracker serves a map's output, for whoever looks for it here."""
        self._job(job).elsewhere[map_index] = address

    def shuffle_key(self, job: str) -> bytes:
        return self._job(job).key

    def open_attempt(self, job: str, attempt: AttemptId) -> tuple[int, list[PartitionRange]]:
        if attempt not in self._job(job).known:
            raise NotFound(f"{job} has no output of {attempt} here")
        return open_spill(self.spill_path(job, attempt))

    def open_map(self, job: str, map_index: int) -> tuple[int, list[PartitionRange]]:
        found = self._job(job)
        attempt = found.finished.get(map_index)
        if attempt is None:
            text = f"{job} has no output of {TaskId(MAP, map_index)} here"
            if map_index in found.elsewhere:
                host, port = found.elsewhere[map_index]
                text += f"; telnet {host} {port} and ask there"
            raise NotFound(text)
        return open_spill(self.spill_path(job, attempt))

    def describe(self) -> Iterator[str]:
        if not self._jobs:
            yield "no jobs here"
        for name, job in sorted(self._jobs.items()):
            yield f"{name}  {len(job.finished)} maps"
            for index, attempt in sorted(job.finished.items()):
                what = _describe_spill(self.spill_path(name, attempt))
                yield f"{name}@{TaskId(MAP, index)}  {what}"

    def _job(self, job: str) -> _Job:
        found = self._jobs.get(job)
        if found is None:
            raise NotFound(f"{job} has nothing here; type jobs to see what there is")
        return found


def _describe_spill(path: str) -> str:
    try:
        partitions = (os.path.getsize(index_path(path)) - 16) // 32
        return f"partitions 0 to {partitions - 1}, {os.path.getsize(path)} bytes"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
