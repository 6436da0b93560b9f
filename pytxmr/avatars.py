"""What may be asked of the jobtracker: the verbs for tasktrackers, and those for clients.

An avatar stands for who has logged in. It checks who speaks and what of, and hands on.
"""

from __future__ import annotations

from typing import Any

from twisted.spread import pb

from pytxmr.errors import PeerBroke, from_plain
from pytxmr.jobbook import JobBook
from pytxmr.model import AttemptId, checked_job_id, take
from pytxmr.net.remote import Peer, answering
from pytxmr.plan import events as ev
from pytxmr.records.named import OUTPUT_NAME
from pytxmr.roster import Roster


class TrackerAvatar(pb.Avatar):
    """What a logged-in tasktracker may call."""

    def __init__(self, roster: Roster, book: JobBook, peer: Peer) -> None:
        self._roster = roster
        self._book = book
        self._peer = peer

    @answering
    async def perspective_register(self, card: Any) -> dict[str, Any]:
        await self._roster.admit(self._peer, card)
        over = self._book.over(take(card, "jobs", list))  # before anything is noted of a bad card
        return self._roster.register(self._peer, card) | {"over": over}

    @answering
    def perspective_unregister(self, who: Any) -> None:
        self._roster.unregister(self._roster.check_who(who, self._peer))

    @answering
    def perspective_heartbeat(self, who: Any, progress: Any) -> None:
        tracker = self._roster.check_who(who, self._peer)
        _check_progress(progress)
        self._roster.heartbeat(tracker, progress)
        self._book.progressed(tracker, progress)

    @answering
    def perspective_report(self, who: Any, facts: Any) -> Any:
        tracker = self._roster.check_who(who, self._peer)
        if not isinstance(facts, list):
            raise PeerBroke("a report is no list")
        return self._roster.report([_as_event(tracker, fact) for fact in facts])


def _check_progress(progress: Any) -> None:
    """It says of each attempt that runs its job, its name, how far it is, and what it does, which
    may be anything: users say it."""
    if not isinstance(progress, list) or not all(
        isinstance(row, list | tuple)
        and len(row) == 4
        and isinstance(row[0], str)
        and isinstance(row[1], str)
        and isinstance(row[2], float | int)
        for row in progress
    ):
        raise PeerBroke("a heartbeat does not say what runs")


def _as_event(tracker: str, fact: Any) -> ev.Event:
    """A reported fact as an event. Raises `PeerBroke` or `NotFound` for what is none."""
    job = checked_job_id(take(fact, "job", str))
    attempt = AttemptId.parse(take(fact, "attempt", str))
    match take(fact, "fact", str):
        case "map-succeeded":
            sizes = tuple(take(fact, "partition_bytes", list))
            if not all(type(size) is int for size in sizes):
                raise PeerBroke("partition_bytes are not numbers")
            counters = _counters(fact)
            first_bad = take(fact, "first_bad", (dict, type(None))) or {}
            size = take(fact, "size_bytes", (int, type(None))) or 0
            written = take(fact, "digest", str), size, _outputs(fact)
            return ev.MapSucceeded(job, tracker, attempt, sizes, counters, first_bad, *written)
        case "reduce-succeeded":
            size, digest = take(fact, "size_bytes", int), take(fact, "digest", str)
            counters, outputs = _counters(fact), _outputs(fact)
            return ev.ReduceSucceeded(job, tracker, attempt, size, digest, counters, outputs)
        case "attempt-failed":
            error = from_plain(take(fact, "error", dict))
            return ev.AttemptEndedBadly(job, tracker, attempt, error)
        case "fetched":
            partitions = tuple(take(fact, "partitions", list))
            if not all(type(partition) is int for partition in partitions):
                raise PeerBroke("partitions are not numbers")
            return ev.SegmentsFetched(job, tracker, attempt, partitions)
        case "fetch-failed":
            error = from_plain(take(fact, "error", dict))
            return ev.FetchFailed(job, tracker, attempt, error, take(fact, "rounds", int))
    raise PeerBroke(f"{fact['fact']!r:.80} is no fact")


def _outputs(fact: Any) -> tuple[tuple[str, int, str], ...]:
    """Their names become paths, so they are looked at."""
    found = []
    for output in take(fact, "outputs", (list, tuple, type(None))) or ():
        match output:
            case [str(name), int(size), str(digest)] if OUTPUT_NAME.fullmatch(name) and size >= 0:
                found.append((name, size, digest))
            case _:
                raise PeerBroke("an output is not a name, a number of bytes and a digest")
    return tuple(found)


def _counters(fact: Any) -> dict[str, int]:
    counters: dict[str, int] = take(fact, "counters", dict)
    if not all(type(name) is str and type(count) is int for name, count in counters.items()):
        raise PeerBroke("counters are not names and numbers")
    return counters


class ClientAvatar(pb.Avatar):
    """What a logged-in client may call."""

    def __init__(self, roster: Roster, book: JobBook) -> None:
        self._roster = roster
        self._book = book

    @answering
    def perspective_submit(self, spec: Any, owner: Any, later: Any = ()) -> Any:
        return self._book.submit(spec, owner, later)

    @answering
    def perspective_status(self, job: Any) -> dict[str, Any]:
        return self._book.status(job)

    @answering
    def perspective_wait(self, job: Any, seconds: Any) -> Any:
        if type(seconds) not in (int, float):
            raise PeerBroke(f"{seconds!r:.80} is no number of seconds")
        return self._book.wait(job, seconds)

    @answering
    def perspective_kill(self, job: Any, reason: Any) -> Any:
        return self._book.kill(job, str(reason)[:500])

    @answering
    def perspective_destroy(self, job: Any) -> Any:
        return self._book.destroy(job)

    @answering
    def perspective_logs(self, job: Any, task: Any, failed_only: Any) -> Any:
        return self._book.logs(job, task, bool(failed_only))

    @answering
    def perspective_followLogs(self, job: Any, task: Any, seen: Any, is_over: Any) -> Any:
        if not isinstance(seen, dict):
            raise PeerBroke("it is not said what has been read")
        return self._book.follow_logs(job, task, seen, bool(is_over))

    @answering
    def perspective_jobs(self, every: Any = False) -> list[dict[str, Any]]:
        return [_brief(status) for status in self._book.jobs(bool(every))]

    @answering
    def perspective_trackers(self) -> list[dict[str, Any]]:
        return self._roster.trackers()

    @answering
    def perspective_ping(self) -> str:
        return "pong"


def _brief(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what only a look at the one job needs."""
    return {k: v for k, v in status.items() if k not in ("counters", "error", "doing", "current")}
