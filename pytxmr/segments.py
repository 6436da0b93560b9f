"""The segments of a job that a tracker gathers for the partitions that it will reduce."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from pytxmr.backoff import backoff_seconds
from pytxmr.errors import NotFound, PytxmrError, Refused, SpillDamaged, Stale
from pytxmr.model import AttemptId, Segment, take
from pytxmr.net.fetch import Fetcher
from pytxmr.net.remote import sendable_error
from pytxmr.store import KeyValueStore

#: Tries of one fetch before it is reported as failed; and the pause before each further one, also
#: if it was reported and is asked for again: doubled from the first up to the second.
FETCH_TRIES = 3
FETCH_PAUSES_SECONDS = (0.5, 3.0)
#: Partitions asked for in one request.
_PARTITIONS_PER_FETCH = 1000

#: Of the files that are fetched. Of a job that came back here, in the same directory, a fetch of
#: its life before may be under way still: it must not write into files of this one.
_numbers = count()


class Segments:
    """What has arrived here of one job, by partition and map.

    Outputs of maps that ran on this tracker are read where they lie in the store; all others are
    fetched into ``directory``. ``report`` takes the facts that come of it: ``fetched`` and
    ``fetch-failed``.
    """

    def __init__(
        self,
        reactor: Any,
        job: str,
        key: bytes,
        directory: str,
        store: KeyValueStore,
        fetcher: Fetcher,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self._reactor = reactor
        self._job = job
        self._key = key
        self._directory = directory
        self._store = store
        self._fetcher = fetcher
        self._report = report
        #: Both by the written form of the attempt: what is done for each of a map's partitions
        #: is then work of sets and dicts, since a job has maps times partitions of them.
        self._arrived: dict[str, dict[int, Segment]] = {}
        self._under_way: dict[str, set[int]] = {}
        #: How often an attempt's output was asked for and could not be had.
        self._rounds: dict[str, int] = {}
        self._closed = False

    def gather(self, wanted: list[Any], here: str) -> None:
        """Start to get the partitions of the map outputs named; ``here`` is this tracker's id.

        What is here already is reported at once; what is under way is not asked for again.
        """
        for item in wanted:
            name = take(item, "attempt", str)
            attempt = AttemptId.parse(name)
            partitions = take(item, "partitions", list)
            address = (take(item, "host", str), take(item, "port", int))
            local = take(item, "tracker", str) == here
            if not local:
                self._store.note_elsewhere(self._job, attempt.task.index, address)
            arrived = self._arrived.get(name, {}).keys()
            under_way = self._under_way.setdefault(name, set())
            ready = sorted(arrived & partitions)
            if ready:
                self._report_fetched(attempt, ready)
            new = sorted(set(partitions) - arrived - under_way)
            under_way.update(new)
            for start in range(0, len(new), _PARTITIONS_PER_FETCH):
                part = tuple(new[start : start + _PARTITIONS_PER_FETCH])
                rounds = self._rounds.get(name, 0)
                getting = Deferred.fromCoroutine(
                    self._get(attempt, None if local else address, part, here, rounds)
                )
                getting.addErrback(self._failed, attempt, part, rounds + 1)

    def of_partition(self, partition: int, maps: list[Any]) -> list[Segment]:
        """The segments of these map attempts, in their order; `SpillDamaged` if one is not here."""
        segments = []
        for name in maps:
            segment = self._arrived.get(str(name), {}).get(partition)
            if segment is None:
                wanted = AttemptId.parse(name)
                raise SpillDamaged(f"{wanted} is not here", map_index=wanted.task.index)
            segments.append(segment)
        return segments

    def map_of(self, partition: int, path: object) -> int | None:
        """The index of the map whose segment for ``partition`` lies in the file ``path``."""
        for name, segments in self._arrived.items():
            if partition in segments and segments[partition].path == path:
                return AttemptId.parse(name).task.index
        return None

    def close(self) -> None:
        """The job is over: what still arrives is not reported."""
        self._closed = True

    async def _get(
        self,
        attempt: AttemptId,
        address: tuple[str, int] | None,
        partitions: tuple[int, ...],
        here: str,
        rounds: int,
    ) -> None:
        if rounds:
            await self._pause(attempt, here, rounds * FETCH_TRIES)
        if address is None:
            segments = self._from_store(attempt, partitions)
        else:
            segments = await self._from_tracker(attempt, address, partitions, here, rounds)
        self._under_way[str(attempt)].difference_update(partitions)
        self._arrived.setdefault(str(attempt), {}).update(segments)
        if not self._closed:
            self._report_fetched(attempt, partitions)

    def _report_fetched(self, attempt: AttemptId, partitions: Iterable[int]) -> None:
        self._report(
            {
                "fact": "fetched",
                "job": self._job,
                "attempt": str(attempt),
                "partitions": list(partitions),
            }
        )

    def _from_store(self, attempt: AttemptId, partitions: tuple[int, ...]) -> dict[int, Segment]:
        fd, ranges = self._store.open_attempt(self._job, attempt)
        os.close(fd)
        path = self._store.spill_path(self._job, attempt)
        return {p: Segment(path, ranges[p].offset, ranges[p].length) for p in partitions}

    async def _from_tracker(
        self,
        attempt: AttemptId,
        address: tuple[str, int],
        partitions: tuple[int, ...],
        here: str,
        rounds: int,
    ) -> dict[int, Segment]:
        path = os.path.join(self._directory, f"{attempt}.{partitions[0]}.{next(_numbers)}")
        tries = 0
        while True:
            try:
                return await self._fetcher.fetch(
                    address, self._key, self._job, attempt, partitions, path
                )
            except PytxmrError as error:
                tries += 1
                hopeless = isinstance(error, NotFound | Refused)
                if tries == FETCH_TRIES or hopeless:
                    raise
            await self._pause(attempt, here, rounds * FETCH_TRIES + tries)

    async def _pause(self, attempt: AttemptId, here: str, tries: int) -> None:
        pause = backoff_seconds(FETCH_PAUSES_SECONDS, tries, f"{here} {attempt}")
        await deferLater(self._reactor, pause)
        if self._closed:
            raise Stale(f"{self._job} is over")

    def _failed(
        self, failure: Any, attempt: AttemptId, partitions: tuple[int, ...], rounds: int
    ) -> None:
        name = str(attempt)
        self._under_way[name].difference_update(partitions)
        if self._closed:
            return
        # Its partitions may be asked for in several requests: together they are one round.
        self._rounds[name] = max(rounds, self._rounds.get(name, 0))
        error = sendable_error(failure.value)
        fact = {"fact": "fetch-failed", "job": self._job, "attempt": name, "error": error}
        self._report(fact | {"rounds": rounds})
