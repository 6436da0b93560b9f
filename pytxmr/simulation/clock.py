"""Virtual time: everything that happens in a simulation happens here, one thing after the other.

Calls run in the order of their times; those of one time in the order in which they were made. So a
run depends on nothing but what it is given.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer


class Owner(Protocol):
    """What a call belongs to: ``gone``, none of its calls is made any more; ``stopped``, they are
    kept in ``parked``, in their order, for whoever lets it go on."""

    gone: bool
    stopped: bool
    parked: list[Call]


@implementer(IDelayedCall)
class Call:
    """One call to be made."""

    __slots__ = ("_clock", "args", "at", "done", "function", "kwargs", "owner")

    def __init__(
        self,
        clock: VirtualClock,
        at: float,
        owner: Owner | None,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
    ) -> None:
        self._clock = clock
        self.at = at
        self.owner = owner
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.done = ""

    def active(self) -> bool:
        return not self.done

    def getTime(self) -> float:
        return self.at

    def cancel(self) -> None:
        self._check()
        self.done = "cancelled"
        self.function, self.args = _nothing, ()

    def reset(self, seconds: float) -> None:
        self._check()
        self._clock.move(self, self._clock.now + seconds)

    def delay(self, seconds: float) -> None:
        self._check()
        self._clock.move(self, self.at + seconds)

    def _check(self) -> None:
        if self.done:
            raise (AlreadyCancelled if self.done == "cancelled" else AlreadyCalled)()


def _nothing() -> None:
    """What a cancelled call would do."""


class VirtualClock:
    """``now`` is in seconds from 0 on."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Call]] = []
        self._made = 0

    def call_at(
        self,
        at: float,
        owner: Owner | None,
        function: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Call:
        call = Call(self, max(at, self.now), owner, function, args, kwargs)
        self._push(call)
        return call

    def _push(self, call: Call) -> None:
        self._made += 1
        heapq.heappush(self._heap, (call.at, self._made, call))

    def move(self, call: Call, at: float) -> None:
        earlier = at < call.at
        call.at = at
        if earlier:
            self._push(call)  # what is left of it at its old place is passed over

    def unpark(self, calls: list[Call]) -> None:
        for call in calls:
            call.at = self.now
            self._push(call)

    def step(self) -> bool:
        """Make the next call; False if there is none."""
        while self._heap:
            at, _, call = heapq.heappop(self._heap)
            owner = call.owner
            if call.done or (owner is not None and owner.gone):
                continue
            if at < call.at:
                self._push(call)
                continue
            self.now = max(self.now, at)
            if owner is not None and owner.stopped:
                owner.parked.append(call)
                continue
            call.done = "called"
            call.function(*call.args, **call.kwargs)
            return True
        return False

    def pending(self, owner: Owner | None = None) -> list[Call]:
        """The calls to be made, of one owner or of all, in their order."""
        found = {
            id(call): call
            for _, _, call in sorted(self._heap, key=lambda entry: entry[:2])
            if not call.done and (call.owner is None or not call.owner.gone)
        }
        return [call for call in found.values() if owner is None or call.owner is owner]
