"""What becomes of a job, told to another process (see `runners.blocking`)."""

from __future__ import annotations

import json
import os
from typing import Any

from pytxmr.errors import PytxmrError, to_plain


class Piped:
    """Writes a line of JSON for each thing to tell: ``{"progress": status}``, ``{"succeeded":
    status}`` or ``{"failed": error}``."""

    def __init__(self, fd: int) -> None:
        # Workers have no part in it: the reader would wait for their end, too.
        os.set_inheritable(fd, False)
        self._file = os.fdopen(fd, "w", encoding="ascii", buffering=1)

    def progress(self, status: dict[str, Any]) -> None:
        """Raises `Interrupted` if nobody reads any more: then nobody waits for the job."""
        try:
            self._write(progress=status)
        except BrokenPipeError:
            from pytxmr.cli.reactor import Interrupted

            raise Interrupted(141) from None

    def close(self) -> None:
        """Nothing to do: how the job ended is one more line."""

    def summary(self, status: dict[str, Any]) -> None:
        self._write(succeeded=status)

    def error(self, error: PytxmrError) -> None:
        self._write(failed=to_plain(error))

    def _write(self, **told: Any) -> None:
        self._file.write(json.dumps(told) + "\n")
