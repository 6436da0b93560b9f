"""Where jobs run.

A runner takes a job's plan, a `JobSpec` for each of its steps, tells as events how far it is, and
gives what it came to: see `Runner`. `inline` and `spark` are such; `local` and `cluster` are
jobtrackers, which the command line asks for the same things while its reactor runs. To add one is
to write it in a file of its own, and to name it in `PLACES` and in `cli.commands`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pytxmr.model import JobSpec

#: Called with a job's status, a dict as `client.Client.status` gives it.
Told = Callable[[dict[str, Any]], object]


class Runner(Protocol):
    """Runs jobs, and waits for their end."""

    def __call__(self, specs: list[JobSpec], told: Told) -> dict[str, Any]:
        """Run a job, step by step; its last status.

        Raises `BadConfiguration`, `BadJob` or `BadInput` before anything runs; `JobFailed`, with
        what is to be shown in its details; `KeyboardInterrupt` if the user stops it. Then no output
        is left, and no process.
        """


class Place(NamedTuple):
    """In words, and the options of `pytxmr run` that mean nothing there."""

    words: str
    senseless: tuple[str, ...]


PLACES = {
    "inline": Place(
        "in this very process (--runner inline)",
        ("workers", "keep", "jobtracker", "secret_file"),
    ),
    "local": Place("on this machine (--runner local)", ("jobtracker", "secret_file")),
    "cluster": Place("on a cluster, which has workers of its own", ("workers",)),
    "spark": Place("on Spark (--runner spark)", ("workers", "keep", "jobtracker", "secret_file")),
}
