"""What the services need of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zope.interface import Interface


class ISpillSource(Interface):
    """Where the server of the inspection and shuffle port finds what it serves."""

    def shuffle_key(job: str) -> bytes:
        """The key that signs shuffle requests of a job. Raises `NotFound`."""

    def open_attempt(job: str, attempt: Any) -> tuple[int, Any]:
        """``(fd, ranges)`` of the spill of one map attempt; the caller closes the fd.

        Raises `NotFound` or `SpillDamaged`.
        """

    def open_map(job: str, map_index: int) -> tuple[int, Any]:
        """The same for the latest finished attempt of a map, for inspection."""

    def describe() -> Iterator[str]:
        """A line for each map output held, in order: ``Job001@Map001  3 partitions  ...``.

        The store may change between two lines.
        """


class ITaskTracker(Interface):
    """The verbs that the jobtracker calls on a tracker. Each may be repeated without harm.

    ``who`` is ``{"epoch": int, "tracker": str}``: a call meant for another incarnation, or from
    another life of the jobtracker, is refused with `Stale`. Results of attempts and fetches are
    reported by the jobtracker's verb ``report``, not as answers.
    """

    def remote_initJob(who: dict[str, Any], job: str, setup: dict[str, Any]) -> Any:
        """Take the job's source (checked by digest) and allocate what it needs here."""

    def remote_executeMap(who: dict[str, Any], job: str, tasks: list[dict[str, Any]]) -> Any:
        """Start map attempts."""

    def remote_shuffle(who: dict[str, Any], job: str, wanted: list[Any]) -> Any:
        """Start to fetch the named partitions of the named map outputs."""

    def remote_reduce(who: dict[str, Any], job: str, tasks: list[dict[str, Any]]) -> Any:
        """Start reduce attempts over segments that were fetched before."""

    def remote_killAttempt(who: dict[str, Any], job: str, attempt: str) -> Any:
        """End an attempt's worker and everything it started."""

    def remote_destroyJob(who: dict[str, Any], job: str, keep: bool) -> Any:
        """End what runs of the job, drop its files; with ``keep``, spills stay for inspection."""

    def remote_ping() -> Any:
        """Answer at once."""
