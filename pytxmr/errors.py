"""One tree of errors, branching by what whoever catches one should do.

Every class has a ``code``, its name on the wire: Perspective Broker answers, reports of attempts
and worker messages carry ``{"code", "message", "details"}`` (see `to_plain`), never a pickled
exception. ``details`` are plain values (str, int, None, lists and dicts of them) and stand as
attributes of ``error.details``; the message gives the cause and the next step.
"""

from __future__ import annotations

from typing import Any


class PytxmrError(Exception):
    """The root. ``message`` is for people; ``details`` for programs."""

    code = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class BadJob(PytxmrError):
    """The job module, its options or its parameters are wrong: change them and submit again."""

    code = "bad-job"


class BadInput(PytxmrError):
    """The input or the output directory cannot be used as named on the command line."""

    code = "bad-input"


class JobFailed(PytxmrError):
    """The job ran and failed. ``details`` holds ``traceback``, ``where`` and ``log`` if known."""

    code = "job-failed"


class AttemptFailed(PytxmrError):
    """One try of a task failed; another try may succeed unless ``details["final"]`` is true.

    ``details``: ``traceback`` (the user's, str), ``where`` (str: file, offset, record or key),
    ``log`` (str: the end of the attempt's log), ``final`` (bool).
    """

    code = "attempt-failed"


class Uncarryable(AttemptFailed):
    """A key or value that cannot travel from a mapper to a reducer. Trying again cannot help."""

    code = "uncarryable"


class Undecodable(AttemptFailed):
    """A record of the input that a ready-made reader cannot decode. Trying again cannot help."""

    code = "undecodable"


class WorkerDied(AttemptFailed):
    """The worker process ended while it ran the attempt; the message names signal or status."""

    code = "worker-died"


class SpillDamaged(PytxmrError):
    """Map output that is cut short, altered or gone: throw it away and run its map again."""

    code = "spill-damaged"


class DiskFailed(PytxmrError):
    """A disk of this machine has no room, or does not work: have it done on another machine."""

    code = "disk-failed"


class TrackerLost(PytxmrError):
    """The tasktracker is gone or has come back as another incarnation: work goes elsewhere."""

    code = "tracker-lost"


class Stale(PytxmrError):
    """The message speaks for an incarnation, epoch or attempt that no longer counts: drop it."""

    code = "stale"


class Unreachable(PytxmrError):
    """The peer did not answer within its deadline, or the connection is gone: try again later."""

    code = "unreachable"


class Refused(PytxmrError):
    """The peer does not accept our secret, token or signature. Trying again cannot help."""

    code = "refused"


class NotFound(PytxmrError):
    """There is no such job, task, partition or tracker."""

    code = "not-found"


class PeerBroke(PytxmrError):
    """The peer sent something outside the protocol; its connection is not to be trusted."""

    code = "peer-broke"


class TooLarge(PytxmrError):
    """More than may be sent at once; it was not sent."""

    code = "too-large"


class BadConfiguration(PytxmrError):
    """A daemon's or command's option cannot be used: a port in use, a secret others can read."""

    code = "bad-configuration"


class InternalError(PytxmrError):
    """A bug of pytxmr itself. Please report it with the traceback in the daemon's log."""

    code = "internal"


def _tree(root: type[PytxmrError]) -> dict[str, type[PytxmrError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


_BY_CODE = _tree(PytxmrError)


def to_plain(error: BaseException) -> dict[str, Any]:
    """The error as plain values; anything that is not a `PytxmrError` becomes an internal one."""
    if isinstance(error, PytxmrError):
        return {"code": error.code, "message": error.message, "details": dict(error.details)}
    text = f"{type(error).__name__}: {error}"
    return {"code": InternalError.code, "message": text, "details": {}}


def from_plain(plain: dict[str, Any]) -> PytxmrError:
    """The inverse of `to_plain`. An unknown code gives a `PytxmrError` with the same message."""
    kind = _BY_CODE.get(str(plain.get("code")), PytxmrError)
    details = plain.get("details")
    error = kind(str(plain.get("message", "no message")))
    error.details = dict(details) if isinstance(details, dict) else {}
    return error
