"""Events as bytes, for the log that outlives the jobtracker.

A record is a msgpack list: the time at which the event was handled, its name, its fields in order.
A snapshot stands for all events before it. What one version of pytxmr has written of jobs under way
another reads only if both have the same `stored_format`.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgpack

from pytxmr import bigint
from pytxmr.errors import PytxmrError, from_plain, to_plain
from pytxmr.model import AttemptId, JobSpec
from pytxmr.plan import events as ev
from pytxmr.plan.jobstate import JobState
from pytxmr.plan.snapshot import MADE_OF, from_snapshot, to_snapshot

_LOGGED = {
    kind.__name__: kind
    for kind in (
        ev.TrackerJoined,
        ev.TrackerResumed,
        ev.TrackerLost,
        ev.JobSubmitted,
        ev.JobStarted,
        ev.Launched,
        ev.BackupHome,
        ev.JobInitialised,
        ev.InitFailed,
        ev.MapSucceeded,
        ev.ReduceSucceeded,
        ev.AttemptEndedBadly,
        ev.SegmentsFetched,
        ev.FetchFailed,
        ev.JobCommitted,
        ev.CommitFailed,
        ev.KillJob,
        ev.JobDestroyed,
    )
}
_SNAPSHOT = "Snapshot"
#: Of `stored_format`: to be put up if something stored comes to mean something else under its name.
REVISION = 1
_ATTEMPT, _ERROR, _INT = 1, 2, 3


def stored_format() -> int:
    """A number, of 31 bits and not 0, that is another one if anything that is stored of jobs has
    other attributes: a snapshot, an event that is logged, what a job was submitted as."""
    kinds = (*_LOGGED.values(), *MADE_OF, JobSpec)
    names = [(kind.__name__, [*getattr(kind, "__dataclass_fields__", ())]) for kind in kinds]
    fresh = to_snapshot(JobState(ev.JobSubmitted("Job000", 1, 1), 0.0))
    return crc32(repr((REVISION, names)).encode(), crc32(fresh)) & 0x7FFFFFFF or 1


def to_record(event: ev.Event, now: float) -> bytes:
    """The event, handled at ``now``, as a record."""
    kind = type(event)
    return pack([now, kind.__name__, *(getattr(event, name) for name in kind.__slots__)])


def snapshot_record(job: JobState, now: float) -> bytes:
    """What the job has become by all that it was told until ``now``, as a record."""
    return pack([now, _SNAPSHOT, to_snapshot(job)])


def from_record(record: bytes) -> tuple[ev.Event | JobState, float]:
    """The inverse of both. Raises `ValueError` for what is no record."""
    now, name, *fields = unpack(record)
    if name == _SNAPSHOT:
        return from_snapshot(fields[0]), now
    if name not in _LOGGED:
        raise ValueError(f"{name!r} is no event that is logged")
    return _LOGGED[name](*fields), now


def pack(value: Any) -> bytes:
    """Plain values, and the ids of attempts and errors among them."""
    data: bytes = msgpack.packb(value, default=_as_extension, unicode_errors="surrogatepass")
    return data


def unpack(data: bytes, use_list: bool = False) -> Any:
    """The inverse of `pack`; what was a list or a tuple is a list, or else a tuple."""
    return msgpack.unpackb(
        data,
        ext_hook=_restored,
        use_list=use_list,
        strict_map_key=False,
        unicode_errors="surrogatepass",
    )


def _as_extension(value: Any) -> msgpack.ExtType:
    if isinstance(value, AttemptId):
        return msgpack.ExtType(_ATTEMPT, str(value).encode())
    if isinstance(value, PytxmrError):
        return msgpack.ExtType(_ERROR, pack(to_plain(value)))
    if isinstance(value, int):  # of more than 64 bits
        return bigint.packed(_INT, value)
    raise TypeError(f"{type(value).__name__} is not plain")


def _restored(code: int, data: bytes) -> Any:
    if code == _ATTEMPT:
        return AttemptId.parse(data.decode())
    if code == _ERROR:
        return from_plain(unpack(data))
    if code == _INT:
        return bigint.unpacked(data)
    raise ValueError(f"unknown extension type {code}")
