"""What a job has become as bytes, to take the place of a log that has grown long.

Everything that a `JobState` is made of is written by the names of its attributes, and made again
without a word to any constructor. Only the classes named here are, so what is read can do no more
than be wrong. A snapshot is for versions of pytxmr that store the same: `eventlog.stored_format`.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import msgpack

from pytxmr import bigint
from pytxmr.errors import PytxmrError, from_plain, to_plain
from pytxmr.model import AttemptId, MapOutput, TaskId
from pytxmr.plan import events as ev
from pytxmr.plan.blame import Blame, Record
from pytxmr.plan.deadly import Search, Step
from pytxmr.plan.jobstate import JobState, Outcome, Phase
from pytxmr.plan.pending import PendingTasks
from pytxmr.plan.shuffleplan import SecondHome, ShufflePlan
from pytxmr.plan.speculation import Gathering, Pace, Run
from pytxmr.plan.tasks import Task, Tasks

MADE_OF: tuple[type, ...] = (
    JobState,
    Tasks,
    Task,
    PendingTasks,
    Pace,
    Run,
    ShufflePlan,
    Blame,
    Record,
    TaskId,
    MapOutput,
    ev.LaunchReduce,
    SecondHome,
    Gathering,
    Search,
)
_PLAIN_ENOUGH: tuple[type, ...] = (tuple, set, frozenset, Counter, Phase, Outcome, Step)
_CODES = {kind: code for code, kind in enumerate(_PLAIN_ENOUGH + MADE_OF)}
_KINDS = {code: kind for kind, code in _CODES.items()}
_ATTEMPT, _ERROR, _INT = 100, 101, 102


def to_snapshot(job: JobState) -> bytes:
    """All that the job is."""
    data = _pack(job)
    _attempt_extension.cache_clear()
    return data


def from_snapshot(data: bytes) -> JobState:
    """The inverse of `to_snapshot`."""
    job = _unpack(data)
    _attempt.cache_clear()
    assert isinstance(job, JobState)
    return job


def _pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(
        value, default=_as_extension, strict_types=True, unicode_errors="surrogatepass"
    )
    return data


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(
        data, ext_hook=_restored, strict_map_key=False, unicode_errors="surrogatepass"
    )


def _as_extension(value: Any) -> msgpack.ExtType:
    kind = type(value)
    if kind is AttemptId:  # by far the most
        return _attempt_extension(value)
    if kind is int:
        return bigint.packed(_INT, value)
    if isinstance(value, PytxmrError):
        return msgpack.ExtType(_ERROR, _pack(to_plain(value)))
    if kind in MADE_OF:
        return msgpack.ExtType(_CODES[kind], _pack(_attributes(value)))
    if kind in (Phase, Outcome, Step):
        return msgpack.ExtType(_CODES[kind], _pack(value.value))
    if kind is Counter:
        return msgpack.ExtType(_CODES[kind], _pack(dict(value)))
    if kind in _PLAIN_ENOUGH:
        return msgpack.ExtType(_CODES[kind], _pack(list(value)))
    raise TypeError(f"{kind.__name__} is not known to snapshots")


# Each map's is there once for each partition; to read or write it anew took most of the time.


@cache
def _attempt_extension(attempt: AttemptId) -> msgpack.ExtType:
    return msgpack.ExtType(_ATTEMPT, str(attempt).encode())


@cache
def _attempt(data: bytes) -> AttemptId:
    return AttemptId.parse(data.decode())


def _attributes(value: Any) -> dict[str, Any]:
    names = getattr(type(value), "__slots__", None) or vars(value)
    return {name: getattr(value, name) for name in names}


def _restored(code: int, data: bytes) -> Any:
    if code == _ATTEMPT:
        return _attempt(data)
    if code == _INT:
        return bigint.unpacked(data)
    plain = _unpack(data)
    if code == _ERROR:
        return from_plain(plain)
    kind = _KINDS[code]
    if kind not in MADE_OF:
        return kind(plain)
    made: Any = object.__new__(kind)
    for name, value in plain.items():
        object.__setattr__(made, name, value)  # also of those that are frozen
    return made
