"""Servers that are away for a while, where all is lost that waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytxmr.errors import PytxmrError
from pytxmr.records.remote import reason_of

#: Seconds between one try and the next.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)


def patiently(commit: Callable[[], None], path: str) -> None:
    """Commit to ``path``, again after each of the `PAUSES` as long as that fails otherwise than by
    a `PytxmrError`. Raises `PytxmrError`."""
    pauses = iter(PAUSES)
    while True:
        try:
            return commit()
        except PytxmrError:
            raise
        except Exception as error:
            seconds = next(pauses, None)
            if seconds is None or isinstance(error, PermissionError):
                raise PytxmrError(f"cannot commit to {path}: {reason_of(error)}") from error
            time.sleep(seconds)
