"""The trackers that are connected to the jobtracker: who they are, and calls to them.

Who is believed to be alive the plan knows; here is whom one can talk to. An id names one
incarnation of a tracker, and is never given twice, also not by another life of the jobtracker.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from pytxmr.errors import BadConfiguration, PeerBroke, Stale, TrackerLost, Unreachable
from pytxmr.loggedplan import LoggedPlan
from pytxmr.model import AttemptId, take
from pytxmr.net.remote import Peer
from pytxmr.plan import events as ev
from pytxmr.plan.cluster import DISCONNECTED_SECONDS
from pytxmr.state import Logs, State

#: What trackers are given to come back to a jobtracker that was started anew, at the least: they
#: try to connect again twice a second.
RETURN_SECONDS = 10.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_HOST = re.compile(r"[!-~]{1,255}")
_log = Logger()


class Roster:
    """``epoch`` is the jobtracker's life; trackers are asked for a heartbeat every so often."""

    def __init__(
        self, reactor: Any, plan: LoggedPlan, state: State, epoch: int, heartbeat_seconds: float
    ) -> None:
        self._reactor = reactor
        self._plan = plan
        self._state = state
        self._epoch = epoch
        self._heartbeat_seconds = heartbeat_seconds
        self._peers: dict[str, Peer] = {}

    # ---- who comes and goes

    def restore(self, logs: Logs) -> None:
        """Believe for a while that the trackers of these logs live. Raises `BadConfiguration`."""
        cluster = self._plan.cluster
        for name, log in logs.items():
            joined = log[0][0]
            if not isinstance(joined, ev.TrackerJoined):
                raise BadConfiguration(f"the state has a log of {name}, but nothing else of it")
            seconds = max(cluster.lease_seconds, RETURN_SECONDS)
            cluster.restore_tracker(joined, self._plan.now(), seconds)

    async def admit(self, peer: Peer, card: dict[str, Any]) -> None:
        """Return once no other process answers to a tracker's name. Raises `BadConfiguration` if
        one does: to let the second replace the first, which would come back and replace the second,
        would keep both from working.

        That the connection to the other is open says little: of a machine that has lost its power
        it stays open for a minute. So it is asked, and waited for no longer than its lease.
        """
        name = take(card, "name", str)
        while self._returning(card, name) is None:
            others = [
                tracker
                for tracker, other in self._peers.items()
                if tracker.rpartition(".")[0] == name and other is not peer
            ]
            if not others:
                break
            await self._ask_to_live(others[0], name)
        if not peer.connected:
            raise Unreachable(f"{name} did not wait to be registered")

    async def _ask_to_live(self, tracker: str, name: str) -> None:
        peer = self._peers[tracker]
        try:
            await peer.call("ping", seconds=self._plan.cluster.lease_seconds)
        except Unreachable:
            self._disconnected(tracker, peer)
            peer.disconnect()
            return
        known = self._plan.cluster.trackers.get(tracker)
        at = f" at {known.address[0]}:{known.address[1]}" if known else ""
        error = BadConfiguration(
            f"the name {name} is taken: {tracker}{at}, which has been connected for "
            f"{peer.connected_seconds:.0f} seconds, answers to it; choose another --name"
        )
        _log.warn("a tasktracker was refused: {error}", error=error)
        raise error

    def register(self, peer: Peer, card: dict[str, Any]) -> dict[str, Any]:
        """Take a tracker in that was admitted: as the incarnation that it was, if its lease has not
        expired, or as a new one; the plan is told once that is answered.
        """
        name = take(card, "name", str)
        workers = take(card, "workers", int)
        if not _NAME.fullmatch(name) or not 1 <= workers <= 4096:
            raise PeerBroke(f"{name!r:.80} with {workers} workers is no tracker")
        address = (take(card, "host", str), take(card, "port", int))
        if not _HOST.fullmatch(address[0]) or not 0 <= address[1] <= 65535:
            raise PeerBroke(f"{name} has no address: {address!r:.80}")
        resumed = self._returning(card, name)
        tracker = resumed or f"{name}.{self._state.next_number('incarnation')}"
        old = self._peers.get(tracker)
        self._peers[tracker] = peer
        if old is not None:
            old.disconnect()
        peer.name = f"tasktracker {tracker}"
        peer.when_lost(lambda: self._disconnected(tracker, peer))
        if resumed is None:
            event: ev.Event = ev.TrackerJoined(tracker, name, workers, address)
        else:
            event = ev.TrackerResumed(tracker)
        self._reactor.callLater(0, self._plan.feed, event)
        how = "joins" if resumed is None else "is back"
        _log.info("{tracker} {how}: {workers} workers", tracker=tracker, how=how, workers=workers)
        return {
            "who": self._who(tracker),
            "resumed": resumed is not None,
            "heartbeat_seconds": self._heartbeat_seconds,
        }

    def _returning(self, card: dict[str, Any], name: str) -> str | None:
        """The incarnation that a tracker says it was, if it is believed to be alive still: by this
        life of the jobtracker, or by the one before, as ids are never given twice."""
        was = take(card, "was", (dict, type(None)))
        known = self._plan.cluster.trackers.get(str(was.get("tracker"))) if was else None
        return known.id if known is not None and known.name == name else None

    def unregister(self, tracker: str) -> None:
        self._plan.feed(ev.TrackerLost(tracker, "it stopped"))

    def _disconnected(self, tracker: str, peer: Peer) -> None:
        if self._peers.get(tracker) is peer:
            del self._peers[tracker]
            self._plan.feed(ev.TrackerDisconnected(tracker))
            self._plan.tick_after(DISCONNECTED_SECONDS)

    def drop(self, tracker: str) -> None:
        """It is lost: whatever it still says comes too late."""
        peer = self._peers.pop(tracker, None)
        if peer is not None:
            peer.disconnect()

    def disconnect(self) -> None:
        for peer in list(self._peers.values()):
            peer.disconnect()

    # ---- what they say

    def check_who(self, who: Any, peer: Peer) -> str:
        """The tracker that speaks. Raises `Stale` if it is not a live incarnation of this epoch, or
        has not registered on this connection."""
        tracker = take(who, "tracker", str)
        if who != self._who(tracker) or self._peers.get(tracker) is not peer:
            raise Stale(f"{tracker!r:.80} is not a tracker of this cluster any more")
        return tracker

    def _who(self, tracker: str) -> dict[str, Any]:
        return {"epoch": self._epoch, "tracker": tracker}

    def heartbeat(self, tracker: str, progress: list[Any]) -> None:
        if tracker in self._plan.cluster.trackers:
            running = tuple(
                (str(job), AttemptId.parse(attempt), float(fraction))
                for job, attempt, fraction, _ in progress
            )
            self._plan.feed(ev.Heartbeat(tracker, running))

    def report(self, facts: list[ev.Event]) -> Deferred[None]:
        """Feed what a tracker reports; fires when it cannot be forgotten. Facts of attempts that do
        not count change nothing."""
        self._plan.feed(*facts)
        return self._plan.when_logged()

    # ---- what they are told

    def call(self, tracker: str, verb: str, *args: Any) -> Deferred[Any]:
        """Call a verb of a tracker as `Peer.call` does; fails with `TrackerLost` if it is gone."""
        peer = self._peers.get(tracker)
        if peer is None:
            return fail(TrackerLost(f"the tasktracker {tracker} is gone"))
        answer = peer.call(verb, self._who(tracker), *args)
        return answer.addErrback(self._call_failed, peer)

    @staticmethod
    def _call_failed(failure: Failure, peer: Peer) -> Failure:
        # The tracker may or may not have heard it: as it connects anew it is told what to do.
        if failure.check(Unreachable):
            peer.disconnect()
        return failure

    # ---- who is there

    @property
    def connected(self) -> list[str]:
        """The ids of those that can be called."""
        return list(self._peers)

    def trackers(self) -> list[dict[str, Any]]:
        """Those that are believed to be alive, as plain values, for clients."""
        cluster = self._plan.cluster
        free = cluster.free_workers()
        avoided = cluster.blame.avoided(self._plan.now())
        return [
            {
                "tracker": tracker.id,
                "workers": tracker.workers,
                "busy": tracker.workers - max(0, free[tracker.id]),
                "avoided": tracker.id in avoided,
                "address": f"{tracker.address[0]}:{tracker.address[1]}",
            }
            for tracker in cluster.trackers.values()
        ]
