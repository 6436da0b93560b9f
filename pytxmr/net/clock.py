"""A clock that does not jump."""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Let the reactor's timers follow the monotonic clock; call it before anything is scheduled.

    Twisted's follow the time of day, so setting that by an hour would fire, or stall, every one.
    """
    reactor.seconds = time.monotonic
