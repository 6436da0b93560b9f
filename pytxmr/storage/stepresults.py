"""What the steps of a job have stored for each other, when nobody needs it any more."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from pytxmr.model import JobSpec
from pytxmr.storage.output import BAD


def remove_results(spec: JobSpec) -> list[str]:
    """Remove what the steps are to leave no longer, but for the bad records of those that have
    succeeded, and the directory that all lie in if nothing else is there. ``spec`` is one of the
    steps. Returns what cannot be removed."""
    left = []
    for directory in spec.leaves:
        if not os.path.isdir(os.path.join(directory, BAD)):
            shutil.rmtree(directory, ignore_errors=True)
            if os.path.lexists(directory):
                left.append(directory)
            continue
        try:
            for name in set(os.listdir(directory)) - {BAD}:
                os.unlink(os.path.join(directory, name))
        except OSError:
            left.append(directory)
    # Where the output is others are, too.
    results = spec.leaves if spec.step == spec.steps else (spec.output,)
    for place in set(map(os.path.dirname, results)):
        with suppress(OSError):
            os.rmdir(place)  # only if it is empty
    return left
