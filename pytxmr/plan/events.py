"""What the state machines are told (events) and what they ask for (instructions).

Events are facts; instructions are things to do, which the jobtracker carries out and answers with
further events. What is decided is a fact, too (`JobStarted`, `Launched`, `BackupHome`): a job is
what its events have made of it, so that it can be made again of a log of them. ``tracker`` is
always a tracker's id, which names one incarnation of it: a tracker that comes back has another id.
``job`` is a job's id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pytxmr.errors import PytxmrError
from pytxmr.model import AttemptId, MapOutput

# ---- events about trackers


@dataclass(frozen=True, slots=True)
class TrackerJoined:
    """A tracker registered. ``name`` is what a new incarnation has in common with the old."""

    tracker: str
    name: str
    workers: int
    address: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """``progress``: of what runs there the job, the attempt, and how much is done, 0 to 1."""

    tracker: str
    progress: tuple[tuple[str, AttemptId, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TrackerDisconnected:
    """Its connection ended. It is believed to be alive for a moment only, unless it comes back."""

    tracker: str


@dataclass(frozen=True, slots=True)
class TrackerResumed:
    """The same incarnation has connected again: it owns what it owned, and may have missed what it
    was told last.
    """

    tracker: str


@dataclass(frozen=True, slots=True)
class TrackerLost:
    tracker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


# ---- events about a job


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """``reducers`` None: as many as the cluster has workers when the job starts; 0: each map
    writes a part of the output."""

    job: str
    maps: int
    reducers: int | None
    max_attempts: int = 4
    keep: bool = False
    speculate: bool = True
    skip_bad_records: int = 0


@dataclass(frozen=True, slots=True)
class JobStarted:
    """Its turn has come, on a cluster with so many workers."""

    job: str
    workers: int


@dataclass(frozen=True, slots=True)
class Launched:
    """An attempt was given to a tracker."""

    job: str
    tracker: str
    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class BackupHome:
    """A partition is to be gathered by this tracker, since where it is its reduce is slow, or does
    not even begin."""

    job: str
    tracker: str
    partition: int


@dataclass(frozen=True, slots=True)
class JobInitialised:
    job: str
    tracker: str


@dataclass(frozen=True, slots=True)
class InitFailed:
    job: str
    tracker: str
    error: PytxmrError


@dataclass(frozen=True, slots=True)
class MapSucceeded:
    """``first_bad``: ``where``, ``message`` and ``traceback`` of the first record set aside.
    ``digest``: the same for all attempts of the map that put out the same. ``size_bytes``: of the
    part that it wrote, of a job without reduces, and ``outputs`` what it wrote for outputs by
    name: name, bytes, SHA-256."""

    job: str
    tracker: str
    attempt: AttemptId
    partition_bytes: tuple[int, ...]
    counters: dict[str, int] = field(default_factory=dict)
    first_bad: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    size_bytes: int = 0
    outputs: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ReduceSucceeded:
    """``outputs``: as with maps."""

    job: str
    tracker: str
    attempt: AttemptId
    size_bytes: int
    digest: str
    counters: dict[str, int] = field(default_factory=dict)
    outputs: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptEndedBadly:
    job: str
    tracker: str
    attempt: AttemptId
    error: PytxmrError


@dataclass(frozen=True, slots=True)
class SegmentsFetched:
    """``tracker`` now has the output of map ``attempt`` for these partitions."""

    job: str
    tracker: str
    attempt: AttemptId
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """``tracker`` could not get the output of map ``attempt``, after tries of its own. ``rounds``:
    how often it was told to and could not, this time included."""

    job: str
    tracker: str
    attempt: AttemptId
    error: PytxmrError
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class JobCommitted:
    job: str


@dataclass(frozen=True, slots=True)
class CommitFailed:
    job: str
    error: PytxmrError


@dataclass(frozen=True, slots=True)
class KillJob:
    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobDestroyed:
    job: str


Event = Any

# ---- instructions


@dataclass(frozen=True, slots=True)
class InitJob:
    job: str
    tracker: str


@dataclass(frozen=True, slots=True)
class LaunchMap:
    """``partitions`` 0: the map writes a part of the output. ``careful``: record by record, noting
    each. ``skip``: the numbers of records to set aside without a try, each with the reason.
    ``window``: it is a probe, over the records after the first so many, up to that one."""

    job: str
    tracker: str
    attempt: AttemptId
    partitions: int
    careful: bool = False
    skip: tuple[tuple[int, str], ...] = ()
    window: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Shuffle:
    """``tracker`` shall get, from each output, the partitions named with it.

    It answers each with `SegmentsFetched` or `FetchFailed`, also if asked again for what it has.
    """

    job: str
    tracker: str
    wanted: tuple[tuple[MapOutput, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class LaunchReduce:
    """``maps``: the map attempts whose segments make up the partition, in order of the input."""

    job: str
    tracker: str
    attempt: AttemptId
    maps: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class KillAttempt:
    """The attempt is not wanted any more: what it still reports counts for nothing."""

    job: str
    tracker: str
    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class CommitJob:
    """``winners``: of each part the attempt that counts, its bytes and its SHA-256; ``bad``:
    the map attempts that count and have set records aside; ``outputs``: of each file of an output
    by name the attempt that counts, the name, bytes and SHA-256."""

    job: str
    winners: tuple[tuple[AttemptId, int, str], ...]
    counters: dict[str, int]
    bad: tuple[AttemptId, ...] = ()
    outputs: tuple[tuple[AttemptId, str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DestroyJob:
    """``keep``: what its maps put out stays, for inspection."""

    job: str
    trackers: tuple[str, ...]
    keep: bool


Instruction = Any
