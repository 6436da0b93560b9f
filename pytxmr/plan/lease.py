"""How long a tracker is believed to be alive without a word from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """Good until ``expires_at``, in seconds of the caller's clock."""

    expires_at: float

    @classmethod
    def granted(cls, now: float, seconds: float) -> Lease:
        return cls(now + seconds)

    def expired(self, now: float) -> bool:
        return now >= self.expires_at
