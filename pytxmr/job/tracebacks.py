"""Tracebacks as the user's: pytxmr's own frames are left out."""

from __future__ import annotations

import traceback
from itertools import dropwhile
from os import sep
from pathlib import PurePath
from types import TracebackType

_PACKAGE = PurePath(__file__).parent.parent
#: Where Python's own modules are, of which some are directories.
_PYTHON = f"{PurePath(traceback.__file__).parent}{sep}"


def user_traceback(error: BaseException) -> str:
    """The traceback from the user's first frame on: pytxmr's own frames are left out."""
    summary = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = summary
    while link is not None:
        theirs = [frame for frame in link.stack if not is_ours(frame.filename)]
        # What Python's own modules do for us, before it comes to the user's code, if it does.
        first = dropwhile(lambda frame: frame.filename.startswith(_PYTHON), theirs)
        link.stack = traceback.StackSummary.from_list(list(first))
        link = link.__cause__ or link.__context__
    return "".join(summary.format(chain=True))[-16384:]


def user_frames(link: TracebackType | None) -> TracebackType | None:
    """A traceback from the user's first frame on; None if there is none of theirs in it."""
    while link is not None and is_ours(link.tb_frame.f_code.co_filename):
        link = link.tb_next
    return link


def is_ours(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or _PACKAGE in PurePath(filename).parents
