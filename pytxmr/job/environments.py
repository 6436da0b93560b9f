"""Packed virtual environments among a job's archives: what is installed in them can be imported."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable

from pytxmr.errors import BadJob

#: What was put on `sys.path` for the job that this process works for.
_in_use: list[str] = []


def use(paths: Iterable[str]) -> None:
    """Let imports find what is installed in those of the directories that are environments, before
    anything that is installed here, and nothing of the environments that were used before.

    Raises `BadJob` for one that is of another version of Python.
    """
    _forget()
    for path in paths:
        found = glob.glob(os.path.join(glob.escape(path), "lib*", "python3*", "site-packages"))
        places = dict.fromkeys(map(os.path.realpath, found))
        own = [place for place in places if place.split(os.sep)[-2] == _VERSION]
        if places and not own:
            other = next(iter(places)).split(os.sep)[-2]
            raise BadJob(
                f"the environment in the archive {os.path.basename(path)} is of {other}, and what "
                f"runs the job is {_VERSION}"
            )
        _in_use.extend(own)
    sys.path[:0] = _in_use


_VERSION = f"python3.{sys.version_info.minor}"


def _forget() -> None:
    """What was imported of them goes as well: the next environment may have another version."""
    if not _in_use:
        return
    for name, module in list(sys.modules.items()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
        if any(str(origin).startswith(place + os.sep) for place in _in_use):
            del sys.modules[name]
    sys.path[:] = [place for place in sys.path if place not in _in_use]
    _in_use.clear()
