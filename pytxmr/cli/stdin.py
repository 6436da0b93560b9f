"""Standard input as input of a job: ``pytxmr run JOB.py - --output DIR``."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pytxmr.errors import BadInput


@contextmanager
def stdin_in_a_file(inputs: list[str]) -> Iterator[list[str]]:
    """The inputs; with standard input, which workers cannot read, in a file for the time being.

    Raises `BadInput` if it cannot be kept, or is named twice.
    """
    if "-" not in inputs:
        yield inputs
        return
    if inputs.count("-") > 1 or "@-" in inputs:
        raise BadInput("standard input can be read only once")
    directory = tempfile.mkdtemp(prefix="pytxmr-")
    path = os.path.join(directory, "stdin")
    try:
        _spool(path)
        yield [path if name == "-" else name for name in inputs]
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _spool(path: str) -> None:
    # Before the reactor runs, a SIGTERM would leave the file behind.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with open(path, "wb") as file:
            # Not by sys.stdin: until it has as much as it is asked for, it does not heed signals.
            while sys.stdin is not None and (data := os.read(0, 1 << 16)):
                file.write(data)
    except OSError as error:
        raise BadInput(f"cannot keep standard input in {path}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
