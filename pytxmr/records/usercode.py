"""Whether an exception is the user's, and what may be done about it."""

from __future__ import annotations

import os

_HERE = os.path.dirname(__file__)
#: The user's functions call these; all others of this directory call the user's functions.
_CALLED_BY_USERS = frozenset({"columns.py", "folds.py"})


def in_user_code(error: BaseException) -> bool:
    """Did the exception arise below a call of ours into the user's code?

    What users call themselves counts as their code, unless it was we who called it.
    """
    link = error.__traceback__
    users = False
    while link is not None:
        directory, name = os.path.split(link.tb_frame.f_code.co_filename)
        if directory != _HERE:
            users = True
        elif name not in _CALLED_BY_USERS:
            users = False
        link = link.tb_next
    return users


def not_there(error: BaseException) -> str:
    """What to do about a file that the user's code names by a relative path: a worker has a
    directory of its own, and may be on another machine."""
    name = getattr(error, "filename", None)
    if not isinstance(error, FileNotFoundError) or not isinstance(name, str) or os.path.isabs(name):
        return ""
    return (
        f"; a worker runs in a directory of its own: send it along by --file {name}, and open "
        f"pytxmr.side_file({os.path.basename(name)!r})"
    )
